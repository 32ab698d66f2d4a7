/* SPDX-License-Identifier: MIT */
/* aio_private.h: inside the aio layer: the context, lists that other threads push to,
 * the rule of waking a sleeping loop.
 *
 * Waking: a pusher first pushes, then looks at ctx->sleeping; the loop first sets
 * `sleeping`, then looks at its lists (both with a full barrier between). One of the two
 * always sees the other, so a wake-up is never lost, and as long as the loop runs a
 * push costs no system call.
 */
#ifndef LIVEBLK_AIO_PRIVATE_H
#define LIVEBLK_AIO_PRIVATE_H

#include "base/osdep.h"
#include "aio/barrier.h"
#include "aio/coroutine_switch.h"
#include "aio/host.h"

#if defined(__has_feature)
#define AIO_HAS_FEATURE(x) __has_feature(x)
#else
#define AIO_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || AIO_HAS_FEATURE(address_sanitizer)
#define CO_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || AIO_HAS_FEATURE(thread_sanitizer)
#define CO_TSAN 1
#endif

/* ---- a spin lock, held for a few instructions ---- */

void aio_spin_lock_slow(unsigned *guard);

static inline void aio_spin_lock(unsigned *guard)
{
    if (unlikely(__atomic_exchange_n(guard, 1, __ATOMIC_ACQUIRE))) {
        aio_spin_lock_slow(guard);
    }
}

static inline void aio_spin_unlock(unsigned *guard)
{
    __atomic_store_n(guard, 0, __ATOMIC_RELEASE);
}

/* ---- a list many push to and one takes as a whole, oldest first ---- */

typedef struct AioNode AioNode;
struct AioNode {
    AioNode *next;
};

typedef struct AioStack {
    AioNode *head;          /* atomic; newest first */
} AioStack;

static inline void aio_stack_push(AioStack *s, AioNode *node)
{
    AioNode *old = __atomic_load_n(&s->head, __ATOMIC_RELAXED);

    do {
        node->next = old;
    } while (!__atomic_compare_exchange_n(&s->head, &old, node, true,
                                          __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
}

static inline bool aio_stack_empty(AioStack *s)
{
    return !__atomic_load_n(&s->head, __ATOMIC_SEQ_CST);
}

static inline AioNode *aio_stack_take(AioStack *s)
{
    AioNode *fifo = NULL, *node;

    if (!__atomic_load_n(&s->head, __ATOMIC_RELAXED)) {
        return NULL;
    }
    node = __atomic_exchange_n(&s->head, NULL, __ATOMIC_SEQ_CST);
    while (node) {
        AioNode *next = node->next;

        node->next = fifo;
        fifo = node;
        node = next;
    }
    return fifo;
}

/* ---- the context ---- */

typedef struct HostPool HostPool;

struct AioContext {
    unsigned refcnt;                /* atomic */
    bool is_main;
    bool polling;                   /* aio_poll runs: it must not nest */
    HostLoop *loop;
    HostPool *pool;                 /* of the real back ends; else NULL */
    IOThreadParams params;
    LIST_ENTRY(AioContext) link;    /* of all contexts, for statistics */

    /* Ready coroutines woken by this thread: first in, first out. */
    AioNode *ready_first, **ready_last;
    QEMUTimer **heap;
    unsigned heap_len, heap_alloc;
    uint64_t timer_sequence;
    struct AioFdWait **fd_waits;    /* by descriptor number; NULL: none */
    unsigned fd_waits_len;
    int64_t poll_ns;                /* how long to busy-poll next time */
    HostStats stats;                /* written by the home thread, read by any */

    /* Pushed by any thread; on cache lines of their own. */
    AioStack bh_stack __attribute__((aligned(64)));
    AioStack co_stack;
    AioStack done_stack;            /* requests that a worker has finished */
    unsigned sleeping;              /* atomic: SLEEP_* */
    unsigned notified;              /* atomic: aio_notify() called, no sleep until seen */
    /* Wakes that found the loop asleep: begun as the loop saw, done as the wakers say. */
    unsigned wakes_begun, wakes_done;
};

enum { SLEEP_NO, SLEEP_YES, SLEEP_WAKING };

/* @params: NULL: defaults. */
AioContext *aio_context_new(const IOThreadParams *params, Error **errp);
/* Something was pushed to @ctx: see that it looks. Any thread. */
void aio_kick(AioContext *ctx);
/* @req was executed by a worker: complete it in req->ctx. Any thread. */
void aio_push_done(HostRequest *req);
/* Count in ctx->stats; the home thread. */
#define AIO_COUNT(ctx, what) \
    __atomic_store_n(&(ctx)->stats.what, (ctx)->stats.what + 1, __ATOMIC_RELAXED)
/* The loop does not sleep any more: pushers need not wake it. Back ends call it when their
 * system call returns, before they run what it brought. */
void aio_woken(AioContext *ctx);
void aio_wait_init(void);
void aio_wait_exit(void);
/* Wake those coroutines in aio_wait_while() whose condition is over. Main thread. */
void aio_wait_check(void);
void aio_fd_waits_free(AioContext *ctx);
bool aio_run_bh_stack(AioContext *ctx);

/* ---- coroutines ---- */

struct Coroutine {
    CoSwitch sw;
    Coroutine *caller;          /* who entered it; NULL: suspended */
    CoroutineEntry *entry;
    void *opaque;
    AioContext *ctx;            /* home; NULL before the first enter */
    AioContext *move_to;        /* CO_MOVING */
    unsigned char left;         /* why it gave up the processor: CO_* */
    bool entered;
    unsigned queued;            /* atomic: a wake waits for its turn */
    AioNode node;               /* on ready list, co_stack or in a pool */
    void *stack;                /* lowest usable byte; NULL: a thread's own */
    size_t stack_bytes;
#ifdef CO_ASAN
    void *fake_stack;
#endif
#ifdef CO_TSAN
    void *fiber;
#endif
#ifdef CONFIG_VALGRIND
    unsigned valgrind_id;
#endif
};

enum { CO_YIELDED, CO_ENDED, CO_MOVING };

/* What a thread knows of coroutines. Reach it by co_thread_get() only, and anew after
 * whatever may have suspended: the coroutine may go on in another thread. */
typedef struct CoThread {
    Coroutine *current;         /* NULL: outside any */
    AioContext *ctx;
    AioNode *pool;              /* ended coroutines */
    unsigned pool_len;
    bool cleanup_set;           /* the pool is freed when the thread ends */
#ifdef CO_ASAN
    Coroutine *switched_from;
#endif
    Coroutine leader;           /* the thread's own stack */
} CoThread;

CoThread *co_thread_get(void);

/* From a pool or new, with its stack; the fields of a run are the caller's to set. */
Coroutine *co_pool_get(CoThread *t);
void co_pool_put(CoThread *t, Coroutine *co);
/* Give back what the calling thread has pooled, and (main, at the end) the shared pool. */
void co_pool_free_thread(void);
void co_pool_free_shared(void);
/* First instruction on a new stack; coroutine.c. */
void co_main(void *opaque);

/* Queue @co to go on in its home; never runs it here. Any thread. */
void co_wake_queued(Coroutine *co);
/* Run coroutines woken by this thread; bounded. */
bool co_run_ready(AioContext *ctx);
/* Run coroutines woken by other threads. */
bool co_run_remote(AioContext *ctx);

#endif

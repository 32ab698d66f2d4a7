/* SPDX-License-Identifier: MIT */
/* coroutine.h: stackful coroutines, and the locks they may wait in.
 *
 * A coroutine is a function with its own stack that can suspend itself
 * (qemu_coroutine_yield) and be entered again. It belongs to one AioContext
 * at a time: the one in which it was first entered, or the one it moved itself
 * to with aio_co_reschedule_self(). It runs only in that context's thread;
 * any thread may ask for it to go on with aio_co_wake().
 *
 * Marking:   a function that may suspend is marked coroutine_fn and has `_co_`
 *            in its name; call it from a coroutine only.
 * Rule:      between two suspensions nothing else runs in the same context;
 *            after each, re-check what another could have changed.
 * Stacks:    pooled per thread, with a guard page. ASan, TSan and Valgrind are
 *            told of every switch.
 * Fails:     creation aborts when memory is exhausted; nothing else can fail.
 */
#ifndef LIVEBLK_BLOCK_COROUTINE_H
#define LIVEBLK_BLOCK_COROUTINE_H

#include <stdbool.h>
#include <stdint.h>
#include "block/liveblk-export.h"
#include "block/queue.h"

#ifndef coroutine_fn
#define coroutine_fn
#endif

typedef struct AioContext AioContext;
typedef struct Coroutine Coroutine;
typedef void coroutine_fn CoroutineEntry(void *opaque);

/* Make a coroutine that will run @entry(@opaque). It starts at the first
 * enter and is freed when @entry returns. Any thread. */
LIVEBLK_PUBLIC Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque);

/* Run @co in the calling thread, whose current AioContext becomes its home if
 * it has none yet, until it yields or ends. @co must not be running, and its
 * home must be the current context. A coroutine may enter another. */
LIVEBLK_PUBLIC void qemu_coroutine_enter(Coroutine *co);

/* Suspend the running coroutine; returns when somebody enters it again. */
LIVEBLK_PUBLIC void coroutine_fn qemu_coroutine_yield(void);

/* The running coroutine; NULL outside any. Any thread. */
LIVEBLK_PUBLIC Coroutine *qemu_coroutine_self(void);
LIVEBLK_PUBLIC bool qemu_in_coroutine(void);

/* True from the first enter until its function returned. Home thread. */
LIVEBLK_PUBLIC bool qemu_coroutine_entered(Coroutine *co);

/* The context @co belongs to. */
LIVEBLK_PUBLIC AioContext *qemu_coroutine_get_aio_context(Coroutine *co);

/* Have @co go on in its own context: at once if called there outside a
 * coroutine, else queued (FIFO). Any thread; exactly one wake a yield. */
LIVEBLK_PUBLIC void aio_co_wake(Coroutine *co);

/* Like aio_co_wake, but always queued and in @ctx: for starting a coroutine
 * that has not run yet in a context of one's choice. Any thread. */
LIVEBLK_PUBLIC void aio_co_enter(AioContext *ctx, Coroutine *co);

/* Move the running coroutine to @ctx; on return it runs in that thread. */
LIVEBLK_PUBLIC void coroutine_fn aio_co_reschedule_self(AioContext *ctx);

/* Let everything else that is ready in this context run first. */
LIVEBLK_PUBLIC void coroutine_fn aio_co_yield_fair(void);

/* ---- waiting for time ---- */

/* One sleeper's handle, so that others can wake it early. Zero-initialise. */
typedef struct QemuCoSleep {
    Coroutine *to_wake;   /* set while asleep; atomic */
} QemuCoSleep;

/* Sleep @ns of the virtual (monotonic) clock, or until co_sleep_wake(@w). */
LIVEBLK_PUBLIC void coroutine_fn co_sleep_ns_wakeable(QemuCoSleep *w, int64_t ns);
/* Wake the sleeper of @w now; nothing happens if none sleeps. Any thread. */
LIVEBLK_PUBLIC void co_sleep_wake(QemuCoSleep *w);
LIVEBLK_PUBLIC void coroutine_fn co_sleep_ns(int64_t ns);

/* ---- locks between coroutines, also of different threads ---- */

/* Mutex: fair (FIFO hand-off), a waiter suspends. The owner may yield while
 * holding it. Lock and unlock in the same coroutine. An uncontended pair is two
 * atomic operations. */
typedef struct CoWaitRecord CoWaitRecord;
typedef STAILQ_HEAD(CoWaitList, CoWaitRecord) CoWaitList;

typedef struct CoMutex {
    unsigned locked;        /* atomic: 0 free, 1 held; waiters in `waiters` */
    unsigned guard;         /* spin lock over the list: held a few instructions */
    CoWaitList waiters;
    Coroutine *holder;
} CoMutex;

LIVEBLK_PUBLIC void qemu_co_mutex_init(CoMutex *mutex);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex);
LIVEBLK_PUBLIC bool coroutine_fn qemu_co_mutex_trylock(CoMutex *mutex);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex);
/* Assert that the running coroutine holds @mutex. */
LIVEBLK_PUBLIC void coroutine_fn qemu_co_mutex_assert_locked(CoMutex *mutex);

/* Queue of waiters (a condition variable). With a mutex: it is released while
 * asleep and held again on return. Without (NULL): waiters and wakers must be
 * in one thread. Wakers: any thread that holds the same mutex, coroutine or not
 * where the mutex is a plain lock (see qemu_co_queue_wait_plain). */
typedef struct CoQueue {
    CoWaitList entries;
} CoQueue;

LIVEBLK_PUBLIC void qemu_co_queue_init(CoQueue *queue);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_queue_wait(CoQueue *queue, CoMutex *mutex);
/* The same with a pthread_mutex_t (held for instants only, never over a
 * suspension by the caller); NULL as above. */
LIVEBLK_PUBLIC void coroutine_fn qemu_co_queue_wait_plain(CoQueue *queue, void *pthread_mutex);
/* Wake the first waiter; false if none. The caller holds the queue's mutex. */
LIVEBLK_PUBLIC bool qemu_co_enter_next(CoQueue *queue);
LIVEBLK_PUBLIC void qemu_co_queue_restart_all(CoQueue *queue);
LIVEBLK_PUBLIC bool qemu_co_queue_empty(CoQueue *queue);

/* Readers-writer lock: fair, FIFO. A reader that is alone, with nobody waiting, upgrades at
 * once; else it gives up what it holds and queues as a writer: what it has read may have
 * changed when qemu_co_rwlock_upgrade() returns. */
typedef struct CoRwlock {
    unsigned guard;
    int owners;             /* readers > 0, writer -1 */
    CoWaitList tickets;
} CoRwlock;

LIVEBLK_PUBLIC void qemu_co_rwlock_init(CoRwlock *lock);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_rwlock_upgrade(CoRwlock *lock);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_rwlock_downgrade(CoRwlock *lock);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock);

/* Counting semaphore. post: any thread, also outside coroutines. */
typedef struct CoSemaphore {
    unsigned guard;
    int count;
    CoWaitList waiters;
} CoSemaphore;

LIVEBLK_PUBLIC void qemu_co_sem_init(CoSemaphore *sem, int count);
LIVEBLK_PUBLIC void coroutine_fn qemu_co_sem_wait(CoSemaphore *sem);
LIVEBLK_PUBLIC void qemu_co_sem_post(CoSemaphore *sem);

#endif

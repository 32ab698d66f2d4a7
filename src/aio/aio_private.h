/* SPDX-License-Identifier: MIT */
/* aio_private.h: inside the aio layer. */
#ifndef LIVEBLK_AIO_PRIVATE_H
#define LIVEBLK_AIO_PRIVATE_H

#include "base/osdep.h"
#include "aio/host.h"

/* A spin lock held for a few instructions. */
static inline void co_spin_lock(unsigned *guard)
{
    while (__atomic_exchange_n(guard, 1, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(guard, __ATOMIC_RELAXED)) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
    }
}

static inline void co_spin_unlock(unsigned *guard)
{
    __atomic_store_n(guard, 0, __ATOMIC_RELEASE);
}

typedef struct BHItem BHItem;

struct AioContext {
    int refcnt;                     /* atomic */
    bool is_main;
    bool polling;                   /* aio_poll runs: it must not nest */
    unsigned turns_without_host;
    HostLoop *loop;
    IOThread *iothread;

    /* Pushed by any thread, taken by the home thread: atomic stacks. */
    BHItem *bh_stack;
    Coroutine *co_stack;
    unsigned sleeping;              /* atomic: about to sleep, or asleep, in the host */

    QEMUTimer **heap;               /* home thread */
    unsigned heap_len, heap_alloc;
    uint64_t timer_sequence;
    GHashTable *fd_waits;           /* fd -> FdWait; home thread */
    int64_t poll_max_ns, poll_ns, poll_grow, poll_shrink;
};

AioContext *aio_context_new(Error **errp);
void aio_co_push(AioContext *ctx, Coroutine *co);
Coroutine **coroutine_next_ref(Coroutine *co);      /* the link of co_stack */
void aio_fd_waits_free(AioContext *ctx);

#endif

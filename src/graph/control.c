/* SPDX-License-Identifier: MIT */
/* control.c: the control lock: one change of graph, jobs and exports at a time.
 *
 * The holder is a coroutine, or "outside": the program's own code between two turns
 * of the main loop. Either may lock again while it holds. Others wait in order, and
 * the lock is handed from one to the next, so that nobody starves.
 *
 * Runs on: the main thread.  Suspends: control_co_lock() only (outside coroutines it
 * runs the main loop until its turn has come).
 */
#include "base/osdep.h"
#include "block/block.h"

typedef struct ControlWaiter {
    Coroutine *co;          /* NULL: outside */
    bool granted;
    STAILQ_ENTRY(ControlWaiter) next;
} ControlWaiter;

static struct {
    unsigned depth;         /* 0: free, and nobody waits */
    Coroutine *holder;      /* NULL with depth > 0: outside */
    STAILQ_HEAD(, ControlWaiter) waiters;
} control = { .waiters = STAILQ_HEAD_INITIALIZER(control.waiters) };

bool control_is_locked_by_me(void)
{
    return control.depth && control.holder == qemu_coroutine_self();
}

static bool control_waiter_waits(void *opaque)
{
    return !((ControlWaiter *)opaque)->granted;
}

void coroutine_fn control_co_lock(void)
{
    g_assert(qemu_in_main_thread());
    if (control.depth && !control_is_locked_by_me()) {
        ControlWaiter w = { .co = qemu_coroutine_self() };

        STAILQ_INSERT_TAIL(&control.waiters, &w, next);
        aio_wait_while(control_waiter_waits, &w);   /* the lock is ours then, depth 1 */
        return;
    }
    control.holder = qemu_coroutine_self();
    control.depth++;
}

void coroutine_fn control_co_unlock(void)
{
    ControlWaiter *w;

    g_assert(control_is_locked_by_me());
    if (--control.depth > 0) {
        return;
    }
    control.holder = NULL;
    w = STAILQ_FIRST(&control.waiters);
    if (w) {
        STAILQ_REMOVE_HEAD(&control.waiters, next);
        control.depth = 1;
        control.holder = w->co;
        w->granted = true;
        aio_wait_kick();
    }
}

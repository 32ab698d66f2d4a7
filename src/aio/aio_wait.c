/* SPDX-License-Identifier: MIT */
/* aio_wait.c: wait in the main thread for a condition that other threads change;
 * aio_co_run. See block/aio.h.
 *
 * A waiter first counts itself, then evaluates its condition; a kicker first changes
 * what the condition looks at, then reads the count (full barriers between): one
 * of the two sees the other.
 */
#include "aio/aio_private.h"

typedef struct AioWaiter AioWaiter;
struct AioWaiter {
    Coroutine *co;
    bool (*cond)(void *opaque);
    void *opaque;
    TAILQ_ENTRY(AioWaiter) link;
};

/* Main thread. */
static TAILQ_HEAD(, AioWaiter) waiters = TAILQ_HEAD_INITIALIZER(waiters);
static unsigned num_waiters;        /* atomic: coroutines and loops that wait */
static QEMUBH *kick_bh;

/* The turn of the loop that runs this checks the conditions at its end. */
static void kick_cb(void *opaque)
{
}

void aio_wait_init(void)
{
    kick_bh = aio_bh_new(qemu_get_aio_context(), kick_cb, NULL);
}

void aio_wait_exit(void)
{
    g_assert(TAILQ_EMPTY(&waiters));
    qemu_bh_delete(kick_bh);
    kick_bh = NULL;
}

void aio_wait_kick(void)
{
    aio_mb();
    if (__atomic_load_n(&num_waiters, __ATOMIC_RELAXED)) {
        qemu_bh_schedule(kick_bh);
    }
}

void aio_wait_check(void)
{
    AioWaiter *w, *next;

    TAILQ_FOREACH_SAFE(w, &waiters, link, next) {
        if (!w->cond(w->opaque)) {
            TAILQ_REMOVE(&waiters, w, link);
            co_wake_queued(w->co);
        }
    }
}

void aio_wait_while(bool (*cond)(void *opaque), void *opaque)
{
    g_assert(qemu_in_main_thread());
    __atomic_fetch_add(&num_waiters, 1, __ATOMIC_SEQ_CST);
    aio_mb();
    if (qemu_in_coroutine()) {
        AioWaiter w = { .co = qemu_coroutine_self(), .cond = cond, .opaque = opaque };

        while (cond(opaque)) {
            TAILQ_INSERT_TAIL(&waiters, &w, link);
            qemu_coroutine_yield();
        }
    } else {
        while (cond(opaque)) {
            aio_poll(qemu_get_aio_context(), true);
        }
    }
    __atomic_fetch_sub(&num_waiters, 1, __ATOMIC_SEQ_CST);
}

/* ---- with patience ---- */

typedef struct Patience {
    bool (*cond)(void *opaque);
    uint64_t (*look)(void *opaque);
    void *opaque;
    QEMUTimer timer;
    uint64_t seen;              /* a second ago */
    unsigned quiet_seconds;
} Patience;

static void patience_tick(void *opaque)
{
    Patience *p = opaque;
    uint64_t now = p->look(p->opaque);

    p->quiet_seconds = now == p->seen ? p->quiet_seconds + 1 : 0;
    p->seen = now;
    if (p->quiet_seconds < AIO_PATIENCE_SECONDS) {
        timer_mod_ns(&p->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + NANOSECONDS_PER_SECOND);
    }
    aio_wait_kick();
}

static bool patience_lasts(void *opaque)
{
    Patience *p = opaque;

    return p->quiet_seconds < AIO_PATIENCE_SECONDS && p->cond(p->opaque);
}

bool aio_wait_while_moving(bool (*cond)(void *opaque), uint64_t (*look)(void *opaque), void *opaque)
{
    Patience p = { .cond = cond, .look = look, .opaque = opaque };

    if (!cond(opaque)) {
        return true;
    }
    p.seen = look(opaque);
    timer_init_ns(&p.timer, qemu_get_aio_context(), patience_tick, &p);
    timer_mod_ns(&p.timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + NANOSECONDS_PER_SECOND);
    aio_wait_while(patience_lasts, &p);
    timer_del(&p.timer);
    return !cond(opaque);
}

typedef struct CoRun {
    CoroutineEntry *entry;
    void *opaque;
    bool done;
} CoRun;

static void coroutine_fn co_run_entry(void *opaque)
{
    CoRun *run = opaque;

    run->entry(run->opaque);
    __atomic_store_n(&run->done, true, __ATOMIC_RELEASE);
    aio_wait_kick();
}

static bool co_run_busy(void *opaque)
{
    return !__atomic_load_n(&((CoRun *)opaque)->done, __ATOMIC_ACQUIRE);
}

void aio_co_run(CoroutineEntry *entry, void *opaque)
{
    CoRun run = { entry, opaque, false };

    if (qemu_in_coroutine()) {
        entry(opaque);
        return;
    }
    g_assert(qemu_in_main_thread());
    qemu_coroutine_enter(qemu_coroutine_create(co_run_entry, &run));
    aio_wait_while(co_run_busy, &run);
}

/* SPDX-License-Identifier: MIT */
/* co_sleep.c: coroutines that wait for time; see block/coroutine.h.
 *
 * The timer and whoever wakes early both take `to_wake` with an exchange: exactly one of
 * them wakes the sleeper.
 */
#include "aio/aio_private.h"

void co_sleep_wake(QemuCoSleep *w)
{
    Coroutine *co = __atomic_exchange_n(&w->to_wake, NULL, __ATOMIC_ACQ_REL);

    if (co) {
        aio_co_wake(co);        /* *w may be gone */
    }
}

static void co_sleep_cb(void *opaque)
{
    co_sleep_wake(opaque);
}

void coroutine_fn co_sleep_ns_wakeable(QemuCoSleep *w, int64_t ns)
{
    QEMUTimer timer;

    timer_init_ns(&timer, qemu_get_current_aio_context(), co_sleep_cb, w);
    timer_mod_ns(&timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + MAX(ns, 0));
    g_assert(!__atomic_load_n(&w->to_wake, __ATOMIC_RELAXED));      /* one sleeper a handle */
    __atomic_store_n(&w->to_wake, qemu_coroutine_self(), __ATOMIC_RELEASE);
    qemu_coroutine_yield();
    timer_del(&timer);
}

void coroutine_fn co_sleep_ns(int64_t ns)
{
    QemuCoSleep w = { NULL };

    co_sleep_ns_wakeable(&w, ns);
}

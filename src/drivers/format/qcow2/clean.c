/* SPDX-License-Identifier: MIT */
/* clean.c: tables that were not used for a while leave the memory (cache-clean-interval): a disk that rests costs
 * little. Only where the option asks for it: what a node may keep is bounded anyway.
 *
 * Runs on: the main thread; takes `lock` for as long as it takes to walk over the tables in memory.
 */
#include "drivers/format/qcow2/qcow2.h"

static void clean_fire(void *opaque)
{
    Qcow2State *s = opaque;

    qcow2_lock(s);
    qcow2_cache_age(&s->l2);
    qcow2_cache_age(&s->rb);
    qcow2_unlock(s);
    timer_mod_ns(&s->clean_timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + (int64_t)s->clean_interval_s * 1000000000);
}

void qcow2_clean_stop(Qcow2State *s)
{
    if (s->clean_interval_s) {
        timer_del(&s->clean_timer);
        s->clean_interval_s = 0;
    }
}

void qcow2_clean_start(BlockDriverState *bs, uint64_t interval_s)
{
    Qcow2State *s = bs->opaque;

    qcow2_clean_stop(s);
    if (interval_s) {
        s->clean_interval_s = interval_s;
        timer_init_ns(&s->clean_timer, qemu_get_aio_context(), clean_fire, s);
        timer_mod_ns(&s->clean_timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + (int64_t)interval_s * 1000000000);
    }
}

/* SPDX-License-Identifier: MIT */
/* guest.c: what guests do to their disk; see world.h. Any context. */
#include "world.h"

#define BIG 300

static void coroutine_fn guest_co_write(int64_t at, int64_t n)
{
    g_autofree uint8_t *buf = g_malloc(n * SECTOR);
    uint64_t value = world.model.next_value++;
    bool fua = !world_below(12);
    uint64_t begun = model_write_begin(&world.model, at, n, value);

    model_fill(buf, n, value);
    int ret = blk_co_pwrite(world.guest, at * SECTOR, n * SECTOR, buf, fua ? BDRV_REQ_FUA : 0);

    model_write_end(&world.model, at, n, begun, ret == 0, fua);
    sim_trace("guest write %" PRId64 "+%" PRId64 "%s value %" PRIu64 " = %d", at, n, fua ? " FUA" : "", value, ret);
}

static void coroutine_fn guest_co_zero(int64_t at, int64_t n)
{
    BdrvRequestFlags flags = (world_below(2) ? BDRV_REQ_MAY_UNMAP : 0) | (world_below(8) ? 0 : BDRV_REQ_FUA);
    uint64_t begun = model_write_begin(&world.model, at, n, 0);
    int ret = blk_co_pwrite_zeroes(world.guest, at * SECTOR, n * SECTOR, flags);

    model_write_end(&world.model, at, n, begun, ret == 0, flags & BDRV_REQ_FUA);
    sim_trace("guest zero %" PRId64 "+%" PRId64 " flags %x = %d", at, n, flags, ret);
}

static void coroutine_fn guest_co_discard(int64_t at, int64_t n)
{
    uint64_t begun = model_write_begin(&world.model, at, n, 0);
    int ret = blk_co_pdiscard(world.guest, at * SECTOR, n * SECTOR);

    model_write_end(&world.model, at, n, begun, false, false);
    sim_trace("guest discard %" PRId64 "+%" PRId64 " = %d", at, n, ret);
}

static void coroutine_fn guest_co_read(int64_t at, int64_t n)
{
    g_autofree uint8_t *buf = g_malloc(n * SECTOR);
    uint64_t *seen = model_read_begin(&world.model, at, n);
    int ret = blk_co_pread(world.guest, at * SECTOR, n * SECTOR, buf, 0);

    model_read_end(&world.model, at, n, seen, ret == 0 ? buf : NULL, "guest");
    sim_trace("guest read %" PRId64 "+%" PRId64 " = %d", at, n, ret);
    if (ret < 0 && !sim.faults && !sim.off && !sim.faults_made) {
        sim_fail("a read fails (%d) where no disk does", ret);
    }
}

static void coroutine_fn guest_co_flush(void)
{
    uint64_t begun = model_flush_begin(&world.model);
    int ret = blk_co_flush(world.guest);

    if (ret == 0) {
        model_flush_end(&world.model, begun);
    }
    sim_trace("guest flush = %d", ret);
}

static void coroutine_fn guest_co_op(void)
{
    int64_t at = world_below(world.model.n), n = 1 + world_below(world_below(10) ? 16 : BIG);
    unsigned what = world_below(100);

    n = MIN(n, world.model.n - at);
    world.ops++;
    if (what < 50) {
        guest_co_write(at, n);
    } else if (what < 72) {
        guest_co_read(at, n);
    } else if (what < 84) {
        guest_co_zero(at, n);
    } else if (what < 94) {
        guest_co_discard(at, n);
    } else {
        guest_co_flush();
    }
}

void coroutine_fn guest_worker_co(void *opaque)
{
    unsigned lazy = world_below(4);

    while (!world.stop) {
        if (world.hold) {
            world.held++;
            while (world.hold && !world.stop) {
                co_sleep_ns(MS);
            }
            world.held--;
            continue;
        }
        guest_co_op();
        if (lazy) {
            co_sleep_ns(world_below(lazy * 3 * MS));
        }
    }
    world.workers--;
    aio_wait_kick();
}

uint8_t *coroutine_fn guest_co_read_all(BlockBackend *blk)
{
    uint8_t *buf = g_malloc(world.model.n * SECTOR);

    for (int64_t at = 0; at < world.model.n; at += BIG) {
        int64_t n = MIN(BIG, world.model.n - at);
        int ret = blk_co_pread(blk, at * SECTOR, n * SECTOR, buf + at * SECTOR, 0);

        if (ret < 0) {
            sim_trace("reading all of it fails at %" PRId64 ": %d", at, ret);
            g_free(buf);
            return NULL;
        }
    }
    return buf;
}

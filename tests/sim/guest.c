/* SPDX-License-Identifier: MIT */
/* guest.c: what guests do to their disk; see world.h. Any context. */
#include "world.h"

#define BIG 300
#define HOT 48          /* sectors of the place where much happens */

/* The disk may change there. */
static uint64_t write_begin(Disk *d, int64_t at, int64_t n, uint64_t value)
{
    format_note_write(at, n);
    return model_write_begin(&d->model, at, n, value);
}

static void coroutine_fn guest_co_write(Disk *d, int64_t at, int64_t n)
{
    g_autofree uint8_t *buf = g_malloc(n * SECTOR);
    uint64_t value = d->model.next_value++;
    bool fua = !world_below(12);
    uint64_t begun = write_begin(d, at, n, value);

    model_fill(buf, n, value);
    int ret = blk_co_pwrite(d->guest, at * SECTOR, n * SECTOR, buf, fua ? BDRV_REQ_FUA : 0);

    model_write_end(&d->model, at, n, begun, ret == 0, fua);
    sim_trace("guest write %" PRId64 "+%" PRId64 "%s value %" PRIu64 " = %d", at, n, fua ? " FUA" : "", value, ret);
}

/* Whole clusters, compressed; in an image where that is not possible nothing happens. */
static void coroutine_fn guest_co_compress(Disk *d, int64_t at, int64_t n)
{
    int64_t cluster = MAX(1 << d->layer->cluster_bits, SECTOR) / SECTOR, end;

    at = at / cluster * cluster;
    end = MIN(DIV_ROUND_UP(at + n, cluster) * cluster, d->model.n);
    n = MIN(end - at, 2 * cluster);
    if (n <= 0) {
        return;
    }
    g_autofree uint8_t *buf = g_malloc(n * SECTOR);
    uint64_t value = d->model.next_value++;
    uint64_t begun = write_begin(d, at, n, value);

    model_fill(buf, n, value);
    int ret = blk_co_pwrite_compressed(d->guest, at * SECTOR, n * SECTOR, buf);

    model_write_end(&d->model, at, n, begun, ret == 0, false);
    sim_trace("guest compress %" PRId64 "+%" PRId64 " value %" PRIu64 " = %d", at, n, value, ret);
}

static void coroutine_fn guest_co_zero(Disk *d, int64_t at, int64_t n)
{
    BdrvRequestFlags flags = (world_below(2) ? BDRV_REQ_MAY_UNMAP : 0) | (world_below(8) ? 0 : BDRV_REQ_FUA);
    uint64_t begun = write_begin(d, at, n, 0);
    int ret = blk_co_pwrite_zeroes(d->guest, at * SECTOR, n * SECTOR, flags);

    model_write_end(&d->model, at, n, begun, ret == 0, flags & BDRV_REQ_FUA);
    sim_trace("guest zero %" PRId64 "+%" PRId64 " flags %x = %d", at, n, flags, ret);
}

static void coroutine_fn guest_co_discard(Disk *d, int64_t at, int64_t n)
{
    uint64_t begun = write_begin(d, at, n, 0);
    int ret = blk_co_pdiscard(d->guest, at * SECTOR, n * SECTOR);

    model_write_end(&d->model, at, n, begun, false, false);
    sim_trace("guest discard %" PRId64 "+%" PRId64 " = %d", at, n, ret);
}

static void coroutine_fn guest_co_read(Disk *d, int64_t at, int64_t n)
{
    g_autofree uint8_t *buf = g_malloc(n * SECTOR);
    uint64_t *seen = model_read_begin(&d->model, at, n);
    int ret = blk_co_pread(d->guest, at * SECTOR, n * SECTOR, buf, 0);

    model_read_end(&d->model, at, n, seen, ret == 0 ? buf : NULL, "guest");
    sim_trace("guest read %" PRId64 "+%" PRId64 " = %d", at, n, ret);
    if (ret < 0 && !sim.faults && !sim.off && !sim.faults_made) {
        sim_fail("a read fails (%d) where no disk does", ret);
    }
}

static void coroutine_fn guest_co_flush(Disk *d)
{
    uint64_t begun = model_flush_begin(&d->model);
    int ret = blk_co_flush(d->guest);

    if (ret == 0) {
        model_flush_end(&d->model, begun);
    }
    sim_trace("guest flush = %d", ret);
}

/* Half of what happens, happens at one place. */
static void choose_range(Disk *d, int64_t *at, int64_t *n)
{
    if (world_below(2)) {
        *at = d->hot + world_below(HOT);
        *n = 1 + world_below(world_below(4) ? 16 : HOT);
    } else {
        *at = world_below(d->model.n);
        *n = 1 + world_below(world_below(10) ? 16 : BIG);
    }
    *n = MIN(*n, d->model.n - *at);
}

static void coroutine_fn guest_co_op(Disk *d)
{
    unsigned what = world_below(d->churn ? 140 : 100);
    int64_t at, n;

    choose_range(d, &at, &n);
    world.ops++;
    if (what < 50 && d->packs && !world_below(3)) {
        guest_co_compress(d, at, n);
    } else if (what < 50) {
        guest_co_write(d, at, n);
    } else if (what < 72) {
        guest_co_read(d, at, n);
    } else if (what < 84) {
        guest_co_zero(d, at, n);
    } else if (what < 94 || (what >= 100 && what < 128)) {
        guest_co_discard(d, at, n);
    } else {
        guest_co_flush(d);
    }
}

void coroutine_fn guest_co_look(Disk *d)
{
    guest_co_read(d, world_below(d->model.n), 1);
}

void coroutine_fn guest_worker_co(void *disk)
{
    unsigned lazy = world_below(4);
    Disk *d = disk;

    while (!world.stop) {
        if (d->hold) {
            d->held++;
            while (d->hold && !world.stop) {
                co_sleep_ns(MS);
            }
            d->held--;
            continue;
        }
        uint64_t before = sim.steps;

        guest_co_op(d);
        /* An image that takes nothing any more answers at once. */
        bool idle = world.format && sim.steps == before;

        if (lazy || sim.off || idle) {
            co_sleep_ns(sim.off ? 20 * MS : world_below((lazy + idle) * 3 * MS));
        }
    }
    d->workers--;
    aio_wait_kick();
}

void coroutine_fn guest_co_hold(Disk *d)
{
    d->hold = true;
    while (d->held < d->workers && !sim.off) {
        co_sleep_ns(MS);
    }
}

void guest_release(Disk *d)
{
    d->hold = false;
}

uint8_t *coroutine_fn guest_co_read_all(Disk *d, BlockBackend *blk)
{
    uint8_t *buf = g_malloc(d->model.n * SECTOR);

    for (int64_t at = 0; at < d->model.n; at += BIG) {
        int64_t n = MIN(BIG, d->model.n - at);
        int ret = blk_co_pread(blk, at * SECTOR, n * SECTOR, buf + at * SECTOR, 0);

        if (ret < 0) {
            sim_trace("reading all of it fails at %" PRId64 ": %d", at, ret);
            g_free(buf);
            return NULL;
        }
    }
    return buf;
}

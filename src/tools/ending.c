/* SPDX-License-Identifier: MIT */
/* ending.c: the orderly end of a long-running program, in bounded time.
 *
 * Order: exports first, so that no more requests come; then all images are flushed, at the same time; then jobs;
 * then the nodes are closed. Each step waits for requests that are under way. A request whose storage does not
 * answer any more must not keep the program for ever: when for QUIET_SECONDS_MAX nothing has moved, no request,
 * no export, no node, what still waits is given up: the nodes it is on are named, those that have no part in it
 * are closed as they should be, and the program ends with a status that says so. What had been flushed is on
 * its disk; what was given up is as after a power failure, for which the drivers are made.
 *
 * Runs on: the main thread, outside of coroutines.
 */
#include "ending.h"
#include "base/osdep.h"
#include "block/aio.h"
#include "block/block_int-global-state.h"
#include "block/blockjob.h"
#include "block/export.h"

#define QUIET_SECONDS_MAX       8
#define QUIET_SECONDS_ONCE_MORE 2       /* when it is known that something hangs */

typedef struct Patience {
    QEMUTimer timer;
    uint64_t seen;              /* what things looked like a second ago */
    unsigned quiet_seconds, max_seconds;
    bool ended;
    void (*last_words)(void);   /* NULL: who waits looks at `ended`; else the program ends */
} Patience;

/* Changes with whatever moves. */
static uint64_t look(void)
{
    uint64_t h = 0;

    for (BlockDriverState *bs = bdrv_next_all_states(NULL); bs; bs = bdrv_next_all_states(bs)) {
        h = h * 31 + (uintptr_t)bs + __atomic_load_n(&bs->in_flight, __ATOMIC_RELAXED);
    }
    return h * 31 + blk_exp_count(BLOCK_EXPORT_TYPE__MAX) + nbd_server_connections();
}

static void name_busy_nodes(void)
{
    for (BlockDriverState *bs = bdrv_next_all_states(NULL); bs; bs = bdrv_next_all_states(bs)) {
        if (__atomic_load_n(&bs->in_flight, __ATOMIC_ACQUIRE)) {
            error_report("Requests to '%s' (%s) do not end: not waiting for them any longer", bs->node_name,
                         bs->filename);
        }
    }
}

static void patience_tick(void *opaque)
{
    Patience *p = opaque;
    uint64_t now = look();

    p->quiet_seconds = now == p->seen ? p->quiet_seconds + 1 : 0;
    p->seen = now;
    p->ended = p->quiet_seconds >= p->max_seconds;
    if (!p->ended) {
        timer_mod_ns(&p->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + NANOSECONDS_PER_SECOND);
    } else if (p->last_words) {
        /* In the middle of a step that waits by itself. */
        name_busy_nodes();
        p->last_words();
        _exit(EXIT_FAILURE);
    }
}

static void patience_begin(Patience *p, unsigned max_seconds, void (*last_words)(void))
{
    if (p->max_seconds) {
        timer_del(&p->timer);
    }
    *p = (Patience) { .max_seconds = max_seconds, .last_words = last_words };
    timer_init_ns(&p->timer, qemu_get_aio_context(), patience_tick, p);
    timer_mod_ns(&p->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + NANOSECONDS_PER_SECOND);
}

/* ---- exports ---- */

static bool exports_wait(void *opaque)
{
    return !((Patience *)opaque)->ended &&
           (blk_exp_count(BLOCK_EXPORT_TYPE__MAX) > 0 || nbd_server_connections() > 0);
}

/* ---- flushing all ---- */

typedef struct FlushAll {
    unsigned running;           /* on the heap: a flush that was given up may yet end */
} FlushAll;

typedef struct FlushOne {
    FlushAll *all;
    BlockDriverState *bs;
} FlushOne;

static void coroutine_fn flush_one(void *opaque)
{
    FlushOne *one = opaque;
    int ret = bdrv_co_flush(one->bs);

    if (ret < 0) {
        error_report("Could not flush '%s': %s", one->bs->node_name, strerror(-ret));
    }
    bdrv_unref(one->bs);
    one->all->running--;
    g_free(one);
    aio_wait_kick();
}

typedef struct FlushWait {
    Patience *patience;
    FlushAll *all;
} FlushWait;

static bool flush_waits(void *opaque)
{
    FlushWait *w = opaque;

    return w->all->running > 0 && !w->patience->ended;
}

static void flush_all(Patience *p)
{
    FlushWait w = { p, g_new0(FlushAll, 1) };

    for (BlockDriverState *bs = bdrv_next_monitor_owned(NULL); bs; bs = bdrv_next_monitor_owned(bs)) {
        FlushOne *one = g_new(FlushOne, 1);

        *one = (FlushOne) { w.all, bs };
        bdrv_ref(bs);
        w.all->running++;
        qemu_coroutine_enter(qemu_coroutine_create(flush_one, one));
    }
    aio_wait_while(flush_waits, &w);
    if (!w.all->running) {
        g_free(w.all);
    }
}

/* ---- nodes ---- */

static bool node_is_busy(BlockDriverState *bs)
{
    BdrvChild *c;

    if (__atomic_load_n(&bs->in_flight, __ATOMIC_ACQUIRE)) {
        return true;
    }
    LIST_FOREACH(c, &bs->children, next) {
        if (node_is_busy(c->bs)) {
            return true;
        }
    }
    return false;
}

/* Those that have no part in what hangs. */
static void close_quiet_nodes(void)
{
    BlockDriverState *bs, *next;

    for (bs = bdrv_next_monitor_owned(NULL); bs; bs = next) {
        next = bdrv_next_monitor_owned(bs);
        if (!node_is_busy(bs)) {
            bdrv_release_monitor(bs);
        }
    }
}

/* ---- all of it ---- */

bool ending_run(void (*last_words)(void))
{
    Patience p = { .seen = 0 };

    patience_begin(&p, QUIET_SECONDS_MAX, NULL);
    blk_exp_request_shutdown_all(BLOCK_EXPORT_TYPE__MAX);
    nbd_server_send_clients_away();
    aio_wait_while(exports_wait, &p);
    bool hangs = p.ended;

    if (!hangs) {
        nbd_server_stop(NULL);
    }
    /* Before the jobs: what clients wrote does not depend on whether these can be ended. */
    patience_begin(&p, hangs ? QUIET_SECONDS_ONCE_MORE : QUIET_SECONDS_MAX, NULL);
    flush_all(&p);
    hangs |= p.ended;
    patience_begin(&p, hangs ? QUIET_SECONDS_ONCE_MORE : QUIET_SECONDS_MAX, last_words);
    block_job_cancel_sync_all();
    patience_begin(&p, hangs ? QUIET_SECONDS_ONCE_MORE : QUIET_SECONDS_MAX, last_words);
    if (hangs) {
        name_busy_nodes();
        close_quiet_nodes();
    } else {
        blockdev_close_all_bdrv_states();
    }
    timer_del(&p.timer);
    return !hangs;
}

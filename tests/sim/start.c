/* SPDX-License-Identifier: MIT */
/* start.c: makes targets and starts mirrors to them; see world.h. Main context, under the control lock. */
#include "world.h"

static Layer *choose_target(Disk *d, MirrorSyncMode sync, bool *fill)
{
    LayerKind kind = sync == MIRROR_SYNC_MODE_FULL ? (LayerKind)world_below(LAYER_NULL + 1) : LAYER_QCOW2;
    Layer *l = layer_new(d->layer->bytes, kind, NULL);

    *fill = world_below(2);
    if (kind == LAYER_QCOW2 || kind == LAYER_NULL) {
        *fill = false;
    }
    if (sync == MIRROR_SYNC_MODE_TOP) {
        l->backing = d->layer->backing;
    } else if (sync == MIRROR_SYNC_MODE_NONE) {
        l->backing = d->layer;
    }
    return l;
}

/* On a machine that does its best meanwhile. */
static bool make_target(Disk *d, MirrorSyncMode sync)
{
    bool faults = sim.faults, fill;

    sim.calm = true;
    sim.faults = false;
    d->target_layer = choose_target(d, sync, &fill);
    layer_create(d->target_layer, fill);
    d->target = layer_open(d->target_layer, false);
    sim.faults = faults;
    sim.calm = false;
    return fill;
}

void coroutine_fn start_mirror(Disk *d)
{
    static const uint32_t granularities[] = { 0, 0, 512, 4096, 65536 };
    static const int64_t bufs[] = { 0, 0, 65536, 1 << 20 };
    MirrorSyncMode sync = world_below(2) ? MIRROR_SYNC_MODE_FULL
                        : world_below(2) ? MIRROR_SYNC_MODE_TOP : MIRROR_SYNC_MODE_NONE;
    BlockdevOnError policies[] = { BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_IGNORE, BLOCKDEV_ON_ERROR_STOP,
                                   BLOCKDEV_ON_ERROR_ENOSPC };
    Error *err = NULL;

    g_assert_null(d->target);
    if (sim.off) {
        return;
    }
    bool fill = make_target(d, sync);
    int flags = (world_below(3) ? 0 : BLOCK_JOB_MANUAL_FINALIZE) | (world_below(3) ? 0 : BLOCK_JOB_MANUAL_DISMISS);
    int64_t speed = world_below(4) ? 0 : 1 + world_below(4 << 20);
    uint32_t granularity = granularities[world_below(G_N_ELEMENTS(granularities))];
    int64_t buf = bufs[world_below(G_N_ELEMENTS(bufs))];
    MirrorCopyMode mode = world_below(2) ? MIRROR_COPY_MODE_BACKGROUND : MIRROR_COPY_MODE_WRITE_BLOCKING;
    BlockdevOnError on_source = policies[world_below(4)], on_target = policies[world_below(4)];
    const char *filter = world_below(2) ? NULL : d == world.disks ? "filter0" : "filter1";
    bool zero = fill || world_below(2), unmap = world_below(2);

    d->full_copy = sync == MIRROR_SYNC_MODE_FULL && d->target_layer->kind != LAYER_NULL;
    d->can_pivot = d->target_layer->kind != LAYER_NULL;
    d->status = JOB_STATUS_UNDEFINED;
    d->completed = d->cancelled = false;
    d->partner = NULL;
    d->in_txn = false;
    world.jobs++;
    sim_trace("mirror %s sync %d flags %d speed %" PRId64 " granularity %u buf %" PRId64 " mode %d errors %d %d "
              "zero %d unmap %d", d->id, sync, flags, speed, granularity, buf, mode, on_source, on_target, zero, unmap);
    mirror_start(d->id, d->source, d->target, NULL, flags, speed, granularity, buf, sync,
                 sync == MIRROR_SYNC_MODE_FULL ? MIRROR_LEAVE_BACKING_CHAIN : MIRROR_SOURCE_BACKING_CHAIN,
                 zero, on_source, on_target, unmap, filter, mode, &err);
    if (err) {
        sim_trace("mirror refused: %s", error_get_pretty(err));
        if (!sim.off && !sim.faults_made) {
            sim_fail("mirror refused: %s", error_get_pretty(err));
        }
        error_free(err);
    }
}

/* mirror_start() has no way to say it: the job goes from a transaction of its own to @txn. */
static void join(BlockJob *job, BlockJobTxn *txn)
{
    BlockJobTxn *own = job->txn;

    LIST_REMOVE(job, txn_list);
    job->txn = NULL;
    block_job_txn_unref(own);
    block_job_txn_add_job(txn, job);
}

void coroutine_fn start_two(void)
{
    Disk *a = &world.disks[0], *b = &world.disks[1];
    BlockJobTxn *txn = block_job_txn_new();

    start_mirror(a);
    start_mirror(b);
    BlockJob *job_a = watch_job(a), *job_b = watch_job(b);

    if (job_a && job_b && job_a->co && job_b->co) {
        join(job_a, txn);
        join(job_b, txn);
        a->partner = b;
        b->partner = a;
        a->in_txn = b->in_txn = true;
        sim_trace("in one transaction");
    }
    block_job_txn_unref(txn);
}

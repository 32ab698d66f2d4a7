/* SPDX-License-Identifier: MIT */
/* operator.c: starts mirrors and does to them whatever may be done to jobs; see world.h. A coroutine
 * of the main context; what it does to the graph and to jobs it does under the control lock, as the
 * monitor does.
 */
#include "world.h"

static BlockJob *the_job(void)
{
    return block_job_get("m");
}

/* ---- events ---- */

static bool legal(JobStatus from, JobStatus to)
{
    static const unsigned next[] = {
        [JOB_STATUS_UNDEFINED] = 1 << JOB_STATUS_CREATED,
        [JOB_STATUS_CREATED] = 1 << JOB_STATUS_RUNNING | 1 << JOB_STATUS_ABORTING | 1 << JOB_STATUS_NULL,
        [JOB_STATUS_RUNNING] = 1 << JOB_STATUS_PAUSED | 1 << JOB_STATUS_READY | 1 << JOB_STATUS_WAITING |
                               1 << JOB_STATUS_ABORTING,
        [JOB_STATUS_PAUSED] = 1 << JOB_STATUS_RUNNING,
        [JOB_STATUS_READY] = 1 << JOB_STATUS_STANDBY | 1 << JOB_STATUS_WAITING | 1 << JOB_STATUS_ABORTING,
        [JOB_STATUS_STANDBY] = 1 << JOB_STATUS_READY,
        [JOB_STATUS_WAITING] = 1 << JOB_STATUS_PENDING | 1 << JOB_STATUS_ABORTING,
        [JOB_STATUS_PENDING] = 1 << JOB_STATUS_ABORTING | 1 << JOB_STATUS_CONCLUDED,
        [JOB_STATUS_ABORTING] = 1 << JOB_STATUS_ABORTING | 1 << JOB_STATUS_CONCLUDED,
        [JOB_STATUS_CONCLUDED] = 1 << JOB_STATUS_NULL,
        [JOB_STATUS_NULL] = 0,
    };

    return next[from] >> to & 1;
}

static void event_sink(const char *name, QDict *data)
{
    if (strcmp(name, "JOB_STATUS_CHANGE")) {
        const char *error = qdict_get_try_str(data, "error"), *action = qdict_get_try_str(data, "action");

        sim_trace("event %s %s", name, error ? error : action ? action : "");
        world.completed |= !strcmp(name, "BLOCK_JOB_COMPLETED") && !error;
        world.cancelled |= !strcmp(name, "BLOCK_JOB_CANCELLED");
        return;
    }
    const char *text = qdict_get_try_str(data, "status");

    for (JobStatus to = 0; to <= JOB_STATUS_NULL; to++) {
        if (!strcmp(JobStatus_str(to), text)) {
            sim_trace("job is %s", text);
            if (!legal(world.status, to)) {
                sim_fail("job goes from %s to %s", JobStatus_str(world.status), text);
            }
            world.status = to;
            return;
        }
    }
    sim_fail("unknown job status %s", text);
}

void operator_init(void)
{
    qapi_event_set_sink(event_sink);
}

/* ---- start ---- */

static Layer *choose_target(MirrorSyncMode sync, bool *fill)
{
    LayerKind kind = sync == MIRROR_SYNC_MODE_FULL ? (LayerKind)world_below(LAYER_NULL + 1) : LAYER_QCOW2;
    Layer *l = layer_new(world.disk->bytes, kind, NULL);

    *fill = world_below(2);
    if (kind == LAYER_QCOW2 || kind == LAYER_NULL) {
        *fill = false;
    }
    if (sync == MIRROR_SYNC_MODE_TOP) {
        l->backing = world.disk->backing;
    } else if (sync == MIRROR_SYNC_MODE_NONE) {
        l->backing = world.disk;
    }
    return l;
}

static void coroutine_fn start_mirror(void)
{
    static const uint32_t granularities[] = { 0, 0, 512, 4096, 65536 };
    static const int64_t bufs[] = { 0, 0, 65536, 1 << 20 };
    MirrorSyncMode sync = world_below(3) ? MIRROR_SYNC_MODE_FULL
                        : world_below(2) ? MIRROR_SYNC_MODE_TOP : MIRROR_SYNC_MODE_NONE;
    BlockdevOnError policies[] = { BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_IGNORE, BLOCKDEV_ON_ERROR_STOP,
                                   BLOCKDEV_ON_ERROR_ENOSPC };
    bool fill, unmap = world_below(2);
    Error *err = NULL;

    g_assert_null(world.target);
    bool faults = sim.faults;

    if (sim.off) {
        return;
    }
    sim.calm = true;
    sim.faults = false;
    world.target_layer = choose_target(sync, &fill);
    layer_create(world.target_layer, fill);
    world.target = layer_open(world.target_layer, false);
    sim.faults = faults;
    sim.calm = false;
    int flags = (world_below(3) ? 0 : BLOCK_JOB_MANUAL_FINALIZE) | (world_below(3) ? 0 : BLOCK_JOB_MANUAL_DISMISS);
    int64_t speed = world_below(4) ? 0 : 1 + world_below(4 << 20);
    uint32_t granularity = granularities[world_below(G_N_ELEMENTS(granularities))];
    int64_t buf = bufs[world_below(G_N_ELEMENTS(bufs))];
    MirrorCopyMode mode = world_below(2) ? MIRROR_COPY_MODE_BACKGROUND : MIRROR_COPY_MODE_WRITE_BLOCKING;
    BlockdevOnError on_source = policies[world_below(4)], on_target = policies[world_below(4)];
    const char *filter = world_below(2) ? "filter" : NULL;
    bool zero = fill || world_below(2);

    world.full_copy = sync == MIRROR_SYNC_MODE_FULL && world.target_layer->kind != LAYER_NULL;
    world.can_pivot = world.target_layer->kind != LAYER_NULL;
    world.status = JOB_STATUS_UNDEFINED;
    world.completed = world.cancelled = false;
    world.jobs++;
    sim_trace("mirror sync %d flags %d speed %" PRId64 " granularity %u buf %" PRId64 " mode %d errors %d %d "
              "zero %d unmap %d", sync, flags, speed, granularity, buf, mode, on_source, on_target, zero, unmap);
    mirror_start("m", world.source, world.target, NULL, flags, speed, granularity, buf, sync,
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

/* The job is gone: which disk is the guest's now? */
static void coroutine_fn after_job(void)
{
    BlockDriverState *now = bdrv_skip_implicit_filters(blk_bs(world.guest)), *old = world.target;

    if (now == world.target) {
        sim_trace("pivoted to %s", world.target_layer->name);
        if (!world.completed) {
            sim_fail("pivoted, but not completed");
        }
        old = world.source;
        world.source = world.target;
        world.disk = world.target_layer;
        world.pivots++;
    } else if (now != world.source) {
        sim_fail("the guest's disk is neither source nor target but %s", bdrv_get_node_name(now));
    }
    world.target = NULL;
    world.target_layer = NULL;
    bdrv_unref(old);
}

/* ---- verbs ---- */

static void verb_done(const char *verb, Error *err)
{
    sim_trace("verb %s: %s", verb, err ? error_get_pretty(err) : "done");
    error_free(err);
}

static void coroutine_fn change_mode(BlockJob *job)
{
    BlockJobChangeOptions o = { .id = (char *)"m", .type = JOB_TYPE_MIRROR };
    Error *err = NULL;

    o.u.mirror.copy_mode = world_below(4) ? MIRROR_COPY_MODE_WRITE_BLOCKING : MIRROR_COPY_MODE_BACKGROUND;
    job_change(job, &o, &err);
    verb_done("change", err);
}

static void coroutine_fn random_verb(BlockJob *job)
{
    Error *err = NULL;

    switch (world_below(14)) {
    case 0:
        block_job_user_pause(job, &err);
        verb_done("pause", err);
        break;
    case 1:
    case 2:
        block_job_user_resume(job, &err);
        verb_done("resume", err);
        break;
    case 3:
        block_job_set_speed(job, world_below(3) ? world_below(8 << 20) : 0, &err);
        verb_done("set-speed", err);
        break;
    case 4:
    case 5:
    case 6:
        if (world.can_pivot) {
            block_job_complete(job, &err);
            verb_done("complete", err);
        }
        break;
    case 7:
        block_job_user_cancel(job, world_below(2), &err);
        verb_done("cancel", err);
        break;
    case 8:
        change_mode(job);
        break;
    case 9:
    case 10:
        block_job_finalize(job, &err);
        verb_done("finalize", err);
        break;
    case 11:
    case 12:
        block_job_dismiss(&job, &err);
        verb_done("dismiss", err);
        break;
    case 13:
        if (job->status != JOB_STATUS_CONCLUDED) {
            g_autoptr(BlockJobInfo) info = block_job_query(job, &err);

            g_assert_nonnull(info);
            if (info->offset > info->len) {
                sim_fail("progress %" PRId64 " of %" PRId64, info->offset, info->len);
            }
        }
        break;
    }
}

static void coroutine_fn random_drain(void)
{
    unsigned kind = world_below(3);
    BlockDriverState *bs = kind == 1 ? world.source : kind == 2 && world.target ? world.target : blk_bs(world.guest);

    sim_trace("drain %u", kind);
    if (kind == 0) {
        bdrv_drain_all_begin();
        co_sleep_ns(world_below(20 * MS));
        bdrv_drain_all_end();
    } else {
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
        co_sleep_ns(world_below(20 * MS));
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
    sim_trace("drained");
}

/* ---- ending a job and looking at what it left ---- */

static void coroutine_fn compare_target(void)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    uint64_t *seen = model_read_begin(&world.model, 0, world.model.n);
    Error *err = NULL;

    if (blk_insert_bs(blk, world.target, &err) < 0) {
        sim_fail("cannot look at the target: %s", error_get_pretty(err));
    }
    g_autofree uint8_t *buf = guest_co_read_all(blk);

    model_read_end(&world.model, 0, world.model.n, seen, buf, "target of a mirror that was ended");
    blk_unref(blk);
}

/* Ready, and the guests at rest: a soft cancel leaves a target that equals the source. */
static void coroutine_fn end_softly(BlockJob *job)
{
    Error *err = NULL;

    world.hold = true;
    while (world.held < world.workers && !sim.off) {
        co_sleep_ns(MS);
    }
    job = the_job();
    if (job && !sim.off && job->status == JOB_STATUS_READY && world.full_copy) {
        block_job_user_cancel(job, false, &err);
        verb_done("soft cancel, guests at rest", err);
        for (unsigned i = 0; i < 2000 && (job = the_job()) && job->status != JOB_STATUS_CONCLUDED; i++) {
            if (job->status == JOB_STATUS_PENDING) {
                block_job_finalize(job, NULL);
            }
            control_co_unlock();
            co_sleep_ns(MS);
            control_co_lock();
        }
        if (world.completed && blk_bs(world.guest) == world.source) {
            bool faults = sim.faults;

            sim.faults = false;
            compare_target();
            sim.faults = faults;
        }
    }
    world.hold = false;
}

static void coroutine_fn operator_act(void)
{
    BlockJob *job = the_job();

    if (!job && world.target) {
        after_job();
    } else if (!job) {
        if (world_below(3)) {
            start_mirror();
        }
    } else if (!world_below(8)) {
        end_softly(job);
    } else {
        random_verb(job);
    }
}

static void set_full(void)
{
    SimFile *f = sim_file_find((world.target_layer && world_below(2) ? world.target_layer : world.disk)->name);

    if (f) {
        f->full = sim.faults && !f->full;
        sim_trace("%s is %s", f->name, f->full ? "full" : "not full any more");
    }
}

/* Whatever job there is ends now, one way or the other. */
static void coroutine_fn end_all(void)
{
    BlockJob *job = the_job();
    Error *err = NULL;

    if (job && job->status != JOB_STATUS_CONCLUDED) {
        block_job_ref(job);
        if (job->status == JOB_STATUS_PENDING) {
            block_job_finalize(job, &err);
            verb_done("last finalize", err);
        } else {
            sim_trace("last cancel");
            control_co_unlock();            /* the job's end takes it */
            int ret = block_job_cancel_sync(job);

            control_co_lock();

            sim_trace("cancelled: %d", ret);
        }
        block_job_unref(job);
    }
    job = the_job();
    if (job) {
        err = NULL;
        block_job_dismiss(&job, &err);
        verb_done("last dismiss", err);
    }
    if (the_job()) {
        sim_fail("the job does not end: it is %s", JobStatus_str(the_job()->status));
    }
    if (world.target) {
        after_job();
    }
}

void coroutine_fn operator_co(void *opaque)
{
    unsigned actions = 5 + world_below(50);

    while (actions-- && !sim.off) {
        unsigned what = world_below(20);

        if (what < 12) {
            control_co_lock();
            operator_act();
            control_co_unlock();
        } else if (what < 14) {
            control_co_lock();
            random_drain();
            control_co_unlock();
        } else if (what == 14 && sim.faults) {
            set_full();
        }
        co_sleep_ns(world_below(world_below(3) ? 3 * MS : 120 * MS));
    }
    control_co_lock();
    end_all();
    control_co_unlock();
    world.operating = false;
    aio_wait_kick();
}

/* SPDX-License-Identifier: MIT */
/* watch.c: what must hold of jobs, drains and permissions; see world.h. Main context. */
#include "world.h"

BlockJob *watch_job(Disk *d)
{
    return block_job_get(d->id);
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

static Disk *disk_of(const char *id)
{
    for (unsigned i = 0; i < world.n_disks; i++) {
        if (!g_strcmp0(world.disks[i].id, id)) {
            return &world.disks[i];
        }
    }
    sim_fail("an event of job %s", id ? id : "(none)");
}

static void status_changed(Disk *d, JobStatus to)
{
    BlockJob *job = watch_job(d);

    sim_trace("job %s is %s", d->id, JobStatus_str(to));
    if (!legal(d->status, to)) {
        sim_fail("job goes from %s to %s", JobStatus_str(d->status), JobStatus_str(to));
    }
    d->status = to;
    if (to == JOB_STATUS_PAUSED || to == JOB_STATUS_STANDBY) {
        unsigned copies = container_of(job, MirrorJob, common)->copy.in_flight;

        if (copies) {
            sim_fail("job is %s with %u copies in flight", JobStatus_str(to), copies);
        }
    }
}

static void job_ended(Disk *d, QDict *data, const char *error)
{
    int64_t offset = qdict_get_try_int(data, "offset", -1), len = qdict_get_try_int(data, "len", -1);

    d->completed |= !error;
    if (offset < 0 || offset > len || (!error && offset != len)) {
        sim_fail("job ends at %" PRId64 " of %" PRId64 " (%s)", offset, len, error ? error : "no error");
    }
}

static void event_sink(const char *name, QDict *data)
{
    const char *error = qdict_get_try_str(data, "error"), *action = qdict_get_try_str(data, "action");

    if (!strcmp(name, "JOB_STATUS_CHANGE")) {
        const char *text = qdict_get_try_str(data, "status");
        JobStatus to = 0;

        while (strcmp(JobStatus_str(to), text)) {
            if (to++ == JOB_STATUS_NULL) {
                sim_fail("unknown job status %s", text);
            }
        }
        status_changed(disk_of(qdict_get_try_str(data, "id")), to);
        return;
    }
    if (!g_str_has_prefix(name, "BLOCK_JOB_")) {
        sim_fail("event %s", name);
    }
    Disk *d = disk_of(qdict_get_try_str(data, g_str_equal(name, "BLOCK_JOB_PENDING") ? "id" : "device"));

    sim_trace("event %s %s %s", name, d->id, error ? error : action ? action : "");
    if (!strcmp(name, "BLOCK_JOB_COMPLETED")) {
        job_ended(d, data, error);
    } else if (!strcmp(name, "BLOCK_JOB_CANCELLED")) {
        d->cancelled = true;
    }
}

void watch_init(void)
{
    qapi_event_set_sink(event_sink);
}

/* ---- nodes ---- */

void watch_permissions(void)
{
    for (BlockDriverState *bs = bdrv_next_all_states(NULL); bs; bs = bdrv_next_all_states(bs)) {
        uint64_t perm, shared;

        bdrv_get_cumulative_perm(bs, &perm, &shared);
        if (perm != bs->cumulative_perm || shared != bs->cumulative_shared) {
            sim_fail("node %s was told of permissions %" PRIx64 "/%" PRIx64 ", but %" PRIx64 "/%" PRIx64 " are in use",
                     bdrv_get_node_name(bs), bs->cumulative_perm, bs->cumulative_shared, perm, shared);
        }
    }
}

static void expect_quiet(const SimFile *f, const char *when)
{
    unsigned n = sim_file_requests(f);

    if (n) {
        sim_fail("%u requests to %s %s a drained section", n, f ? f->name : "files", when);
    }
}

void coroutine_fn watch_drain(BlockDriverState *bs, const char *name, int64_t ns)
{
    const SimFile *f = name ? sim_file_find(name) : NULL;

    sim_trace("drain %s", name ? name : "all");
    if (bs) {
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    } else {
        bdrv_drain_all_begin();
    }
    uint64_t requests = sim.requests;

    if (f || !bs) {
        expect_quiet(f, "at the begin of");
    }
    co_sleep_ns(ns);
    if (f || !bs) {
        expect_quiet(f, "at the end of");
    }
    if (!bs && requests != sim.requests) {
        sim_fail("%" PRIu64 " requests were made while all was drained", sim.requests - requests);
    }
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    } else {
        bdrv_drain_all_end();
    }
    sim_trace("drained");
}

/* ---- the end of a job ---- */

static uint8_t *coroutine_fn read_node(Disk *d, BlockDriverState *bs)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    Error *err = NULL;

    if (blk_insert_bs(blk, bs, &err) < 0) {
        sim_fail("cannot look at %s: %s", bdrv_get_node_name(bs), error_get_pretty(err));
    }
    uint8_t *buf = guest_co_read_all(d, blk);

    blk_unref(blk);
    return buf;
}

void coroutine_fn watch_compare(Disk *d)
{
    bool faults = sim.faults;

    sim.faults = false;
    uint64_t *seen = model_read_begin(&d->model, 0, d->model.n);
    g_autofree uint8_t *source = read_node(d, d->source), *target = read_node(d, d->target);

    sim.faults = faults;
    for (int64_t i = 0; source && target && i < d->model.n; i++) {
        if (memcmp(source + i * SECTOR, target + i * SECTOR, SECTOR)) {
            sim_fail("source and target of a mirror that ended differ at sector %" PRId64 ": %" PRIu64 " and %" PRIu64, i,
                     *(uint64_t *)(source + i * SECTOR), *(uint64_t *)(target + i * SECTOR));
        }
    }
    model_read_end(&d->model, 0, d->model.n, seen, target, "target of a mirror that was ended");
}

/* What a pivot needs to have been: the job's success. In a transaction another may have failed after it. */
static void pivoted(Disk *d)
{
    sim_trace("pivoted to %s", d->target_layer->name);
    if (!d->completed && !d->in_txn) {
        sim_fail("pivoted, but not completed");
    }
    world.pivots++;
    if (!sim.cut_at && !sim.cut_flush && !sim.off && !world_below(3)) {
        if (world_below(2)) {
            sim.cut_at = sim.steps + 1 + world_below(60);
        } else {
            sim.cut_flush = 1 + world_below(8);
        }
    }
}

void coroutine_fn watch_job_gone(Disk *d)
{
    BlockDriverState *now = bdrv_skip_implicit_filters(blk_bs(d->guest)), *old = d->target;

    if (now == d->target) {
        pivoted(d);
        old = d->source;
        d->source = d->target;
        d->layer = d->target_layer;
    } else if (now != d->source) {
        sim_fail("the guest's disk is neither source nor target but %s", bdrv_get_node_name(now));
    }
    d->target = NULL;
    d->target_layer = NULL;
    if (d->partner) {           /* they end at one time, though they may be dismissed later */
        if (d->partner->status < JOB_STATUS_CONCLUDED || d->completed != d->partner->completed) {
            sim_fail("of two jobs in a transaction one ended, or succeeded, alone");
        }
        d->partner->partner = NULL;
        d->partner = NULL;
    }
    watch_permissions();
    bdrv_unref(old);
}

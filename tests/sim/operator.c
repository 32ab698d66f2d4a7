/* SPDX-License-Identifier: MIT */
/* operator.c: starts mirrors and does to them whatever may be done to jobs; see world.h. A coroutine
 * of the main context; what it does to the graph and to jobs it does under the control lock, as the
 * monitor does.
 */
#include "world.h"

#define HANG_MS_MAX (120 * 1000)        /* of the virtual clock: the end of a job whose target hangs */

/* ---- verbs ---- */

static void verb_done(const char *verb, Error *err)
{
    sim_trace("verb %s: %s", verb, err ? error_get_pretty(err) : "done");
    error_free(err);
}

static void coroutine_fn change_mode(BlockJob *job)
{
    BlockJobChangeOptions o = { .id = job->id, .type = JOB_TYPE_MIRROR };
    Error *err = NULL;

    o.u.mirror.copy_mode = world_below(4) ? MIRROR_COPY_MODE_WRITE_BLOCKING : MIRROR_COPY_MODE_BACKGROUND;
    job_change(job, &o, &err);
    verb_done("change", err);
}

static void look_at(BlockJob *job)
{
    g_autoptr(BlockJobInfo) info = block_job_query(job, &error_abort);

    if (info->offset > info->len || info->offset < 0) {
        sim_fail("progress %" PRId64 " of %" PRId64, info->offset, info->len);
    }
}

static void coroutine_fn random_verb(Disk *d, BlockJob *job)
{
    Error *err = NULL;

    switch (world_below(15)) {
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
        if (d->can_pivot) {
            block_job_complete(job, &err);
            verb_done("complete", err);
        }
        break;
    case 7:
        block_job_user_cancel(job, world_below(2), &err);
        verb_done("cancel", err);
        break;
    case 8:
    case 9:
        change_mode(job);
        break;
    case 10:
    case 11:
        block_job_finalize(job, &err);
        verb_done("finalize", err);
        break;
    case 12:
    case 13:
        block_job_dismiss(&job, &err);
        verb_done("dismiss", err);
        break;
    case 14:
        look_at(job);
        break;
    }
}

/* ---- other things that happen to nodes ---- */

static void coroutine_fn random_drain(Disk *d)
{
    int64_t ns = world_below(20 * MS);

    switch (world_below(4)) {
    case 0:
        watch_drain(NULL, NULL, ns);
        break;
    case 1:
        watch_drain(d->source, d->layer->name, ns);
        break;
    case 2:
        if (d->target) {
            watch_drain(d->target, d->target_layer->name, ns);
        }
        break;
    case 3:
        watch_drain(blk_bs(d->guest), NULL, ns);
        break;
    }
}

/* The disk, and all that hangs together with it, goes to the iothread, or home. */
static void coroutine_fn move_disk(Disk *d)
{
    AioContext *home = qemu_get_aio_context();
    AioContext *to = world.iothread && bdrv_get_aio_context(d->source) == home
                     ? iothread_get_aio_context(world.iothread) : home;
    Error *err = NULL;
    int ret = bdrv_try_change_aio_context(d->source, to, NULL, &err);

    sim_trace("move to %s: %s", to == home ? "main" : "iothread", err ? error_get_pretty(err) : "done");
    if (!ret != (bdrv_get_aio_context(d->source) == to)) {
        sim_fail("moving the disk says %d, but it is %smoved", ret, ret ? "" : "not ");
    }
    error_free(err);
}

/* Guests and jobs go on above: what they write is copied away from what the snapshot has. */
static void coroutine_fn make_or_delete_snapshot(Disk *d)
{
    g_autofree QEMUSnapshotInfo *list = NULL;
    QEMUSnapshotInfo info = { .name = "s" };
    int n = bdrv_snapshot_list(d->source, &list), ret;
    Error *err = NULL;

    if (n < 0) {
        return;         /* not qcow2 */
    }
    if (!n || (n < 3 && world_below(3))) {
        ret = bdrv_snapshot_create(d->source, &info, &err);
    } else {
        ret = bdrv_snapshot_delete(d->source, list[world_below(n)].id_str, NULL, &err);
    }
    sim_trace("%d snapshots, one %s: %s", n, *info.id_str ? "more" : "less", err ? error_get_pretty(err) : "done");
    /* Refcounts of one bit cannot say two. */
    if (ret < 0 && !sim.off && !strstr(error_get_pretty(err), "too narrow")) {
        sim_fail("snapshots: %s", error_get_pretty(err));
    }
    error_free(err);
}

static void set_full(Disk *d)
{
    const Layer *l = d->target_layer && world_below(2) ? d->target_layer : d->layer;
    SimFile *f = l->data_file && world_below(2) ? layer_data_file(l) : sim_file_find(l->name);

    if (f) {
        f->full = sim.faults && !f->full;
        sim_trace("%s is %s", f->name, f->full ? "full" : "not full any more");
    }
}

/* ---- ends with a promise ---- */

/* Give others the control lock for @ns, or until the power fails. */
static void coroutine_fn let_go(int64_t ns)
{
    int64_t until = sim.now_ns + ns;

    control_co_unlock();
    do {
        co_sleep_ns(CLAMP(until - sim.now_ns, 0, 50 * MS));
    } while (sim.now_ns < until && !sim.off);
    control_co_lock();
}

static bool has_ended(Disk *d)
{
    BlockJob *job = watch_job(d);

    return !job || job->status == JOB_STATUS_CONCLUDED;
}

static void coroutine_fn wait_end(Disk *d, unsigned ms)
{
    for (unsigned i = 0; i < ms && !has_ended(d) && !sim.off; i++) {
        if (watch_job(d)->status == JOB_STATUS_PENDING) {
            block_job_finalize(watch_job(d), NULL);
        }
        let_go(MS);
    }
}

/* Ready, and the guests at rest: a soft cancel leaves a target that equals the source, and so does a pivot. */
static void coroutine_fn end_at_rest(Disk *d)
{
    Error *err = NULL;

    control_co_unlock();        /* a job's end may be what they wait for */
    guest_co_hold(d);
    control_co_lock();
    BlockJob *job = watch_job(d);

    if (job && !sim.off && job->status == JOB_STATUS_READY) {
        bool pivot = d->can_pivot && (!d->full_copy || world_below(2));

        if (pivot) {
            block_job_complete(job, &err);
        } else {
            block_job_user_cancel(job, false, &err);
        }
        verb_done(pivot ? "complete, guests at rest" : "soft cancel, guests at rest", err);
        wait_end(d, 2000);
        if (d->completed && has_ended(d) && (d->full_copy || blk_bs(d->guest) == d->target)) {
            watch_compare(d);
        }
    }
    guest_release(d);
}

/* The target answers nothing any more. A job that is cancelled ends all the same, and its guests go on; one
 * that is to complete does not wait for ever. */
static void coroutine_fn end_of_hung(Disk *d)
{
    SimFile *f = d->target_layer ? sim_file_find(d->target_layer->name) : NULL;
    Error *err = NULL;

    if (!f || !watch_job(d) || d->partner) {
        return;
    }
    sim_file_hang(f, true);
    let_go(world_below(100 * MS));
    if (watch_job(d) && watch_job(d)->status == JOB_STATUS_READY && !world_below(3)) {
        block_job_complete(watch_job(d), &err);
        verb_done("complete, the target hangs", err);
        err = NULL;
        let_go(world_below(40 * 1000) * MS);
    }
    if (watch_job(d) && !has_ended(d) && watch_job(d)->status != JOB_STATUS_PENDING) {
        block_job_user_cancel(watch_job(d), true, &err);
        verb_done("cancel, the target hangs", err);
    }
    wait_end(d, HANG_MS_MAX);
    if (!sim.off && !has_ended(d)) {
        sim_fail("the job does not end where the target hangs: it is %s", JobStatus_str(d->status));
    }
    if (f->hung && !d->completed) {
        guest_co_look(d);
        watch_drain(d->source, d->layer->name, MS);
    }
    sim_file_hang(f, false);
}

static void coroutine_fn operator_act(Disk *d)
{
    BlockJob *job = watch_job(d);
    Disk *other = &world.disks[1 - (d - world.disks)];

    if (!job && d->target) {
        watch_job_gone(d);
    } else if (!job) {
        if (world.n_disks > 1 && !other->target && world_below(2)) {
            start_two();
        } else if (world_below(3)) {
            start_mirror(d);
        }
    } else if (!world_below(8)) {
        end_at_rest(d);
    } else if (!world_below(30)) {
        end_of_hung(d);
    } else {
        random_verb(d, job);
    }
}

/* ---- the last end ---- */

/* Whatever job there is ends now, one way or the other. */
static void coroutine_fn end_job(Disk *d)
{
    BlockJob *job = watch_job(d);
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
}

static void coroutine_fn dismiss_job(Disk *d)
{
    BlockJob *job = watch_job(d);
    Error *err = NULL;

    if (job) {
        block_job_dismiss(&job, &err);
        verb_done("last dismiss", err);
    }
    if (watch_job(d)) {
        sim_fail("the job does not end: it is %s", JobStatus_str(watch_job(d)->status));
    }
    if (d->target) {
        watch_job_gone(d);
    }
}

void coroutine_fn operator_co(void *opaque)
{
    unsigned actions = (5 + world_below(world.format ? 25 : 50)) * world.n_disks;

    while (actions-- && !sim.off) {
        Disk *d = &world.disks[world_below(world.n_disks)];
        unsigned what = world_below(20);

        control_co_lock();
        if (world.format && what < 14) {
            format_co_act(d);
        } else if (what < 12) {
            operator_act(d);
        } else if (what < 14) {
            random_drain(d);
        } else if (what == 14 && sim.faults) {
            set_full(d);
        } else if (what == 15 && world.iothread) {
            move_disk(d);
        } else if (what == 16 && !sim.faults && !world.format) {
            make_or_delete_snapshot(d);
        }
        control_co_unlock();
        co_sleep_ns(world_below(world_below(3) ? 3 * MS : 120 * MS));
    }
    control_co_lock();
    for (unsigned i = 0; i < world.n_disks; i++) {
        end_job(&world.disks[i]);
    }
    for (unsigned i = 0; i < world.n_disks; i++) {
        dismiss_job(&world.disks[i]);
    }
    control_co_unlock();
    world.operating = false;
    aio_wait_kick();
}

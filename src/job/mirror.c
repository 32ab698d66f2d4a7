/* SPDX-License-Identifier: MIT */
/* mirror.c: the mirror job: its loop, its end, its start; see mirror.h. Main thread. */
#include "base/trace.h"
#include "job/mirror.h"

#define CHUNK_ALONE     (1 * MiB)       /* one copy while no guest is busy */
#define CHUNK_SHARED    (64 * KiB)      /* and while one is: what a guest's write may have to wait for */
#define CHUNK_SLOW      (256 * KiB)     /* the same on storage where the way to the data is what costs */
#define SLOW_NS         (2 * 1000 * 1000LL)     /* a copy that takes this long: such storage */
#define DEPTH_ALONE     8
#define BUF_DEFAULT     (16 * MiB)
#define IDLE_DELAY_NS   (50 * 1000 * 1000LL)    /* ready: let writes gather before they are copied */
#define RETRY_NS        (200 * 1000 * 1000LL)   /* after an ignored error */
#define CLOSING_BYTES   (1 * MiB)       /* so little is dirty that guests may wait for a piece of it */
#define GUEST_WINDOW_NS (5 * 1000 * 1000LL)     /* a write this long ago: the guest is busy */

/* ---- the beginning: what is dirty ---- */

/* Does a range of this status have to be looked at? What reads as zero need not where the target
 * does too, nor what both take from the same backing image. */
static bool status_is_dirty(MirrorJob *s, int status)
{
    return s->sync == MIRROR_SYNC_MODE_TOP ? status & BDRV_BLOCK_ALLOCATED : !(status & BDRV_BLOCK_ZERO);
}

static int coroutine_fn mirror_dirty_init(MirrorJob *s)
{
    int64_t at = 0, n;

    if (s->sync == MIRROR_SYNC_MODE_NONE) {
        return 0;
    }
    if (s->sync == MIRROR_SYNC_MODE_FULL && s->zero_target) {
        bdrv_set_dirty_bitmap(s->copy.dirty, 0, s->copy.length);
        return 0;
    }
    while (at < s->copy.length) {
        job_pause_point(&s->common);
        if (job_is_cancelled(&s->common)) {
            return 0;
        }
        bdrv_inc_in_flight(s->top);
        int ret = bdrv_co_block_status_above(s->source, s->copy.base, at, s->copy.length - at, &n, NULL, NULL);

        bdrv_dec_in_flight(s->top);
        if (ret < 0) {
            return ret;
        }
        if (status_is_dirty(s, ret)) {
            bdrv_set_dirty_bitmap(s->copy.dirty, at, n);
        }
        at += n;
        if (at % (1 * GiB) < n) {
            job_sleep_ns(&s->common, 0);        /* a huge disk: others want their turn */
        }
    }
    return 0;
}

/* ---- the loop ---- */

static void mirror_set_through(MirrorJob *s, bool on)
{
    on |= __atomic_load_n(&s->copy_mode, __ATOMIC_RELAXED) == MIRROR_COPY_MODE_WRITE_BLOCKING;
    __atomic_store_n(&s->write_through, on, __ATOMIC_RELEASE);
}

/* Is a guest writing these days? */
static bool guest_is_busy(MirrorJob *s, uint64_t *seen, int64_t *seen_ns)
{
    uint64_t now_writes = __atomic_load_n(&s->guest_writes, __ATOMIC_RELAXED);
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    if (now_writes != *seen) {
        *seen = now_writes;
        *seen_ns = now;
    }
    return *seen_ns && now - *seen_ns < GUEST_WINDOW_NS;
}

/* For how many times as long as a copy took the storage is the busy guest's before the next:
 * twice, so that it keeps half its rate although the copies cost it more than their time; more where
 * each of its writes goes to both sides; and much more where the two agreed once and nobody waits
 * for the end: what is dirty then only has to stay bounded. */
static int guest_share(MirrorJob *s, bool ending)
{
    if (__atomic_load_n(&s->write_through, __ATOMIC_RELAXED)) {
        return 3;
    }
    return job_is_ready(&s->common) && !ending ? 8 : 2;
}

/* A guest's write-through failed on the target: as an error of a copy. */
static void mirror_check_target_error(MirrorJob *s)
{
    int error = __atomic_exchange_n(&s->target_error, 0, __ATOMIC_RELAXED);

    if (error && block_job_error_action(&s->common, s->copy.on_write_error, false, error) ==
        BLOCK_ERROR_ACTION_REPORT) {
        s->copy.ret = -error;
    }
}

static int coroutine_fn mirror_become_ready(MirrorJob *s)
{
    int ret = copy_target_request(&s->copy, COPY_FLUSH, 0, 0, NULL, 0);

    if (ret < 0 && job_is_cancelled(&s->common)) {
        return 0;
    }
    if (ret < 0) {
        BlockErrorAction action = block_job_error_action(&s->common, s->copy.on_write_error, false, -ret);

        if (action == BLOCK_ERROR_ACTION_REPORT) {
            return ret;
        }
        job_sleep_ns(&s->common, action == BLOCK_ERROR_ACTION_IGNORE ? RETRY_NS : 0);
        return 0;
    }
    copy_progress(&s->copy);
    job_transition_to_ready(&s->common);
    return 0;
}

static int coroutine_fn mirror_loop(MirrorJob *s)
{
    BlockJob *job = &s->common;
    uint64_t guest_seen = 0;
    int64_t guest_seen_ns = 0, pass_dirty = INT64_MAX, last_cursor = 0;

    for (;;) {
        job_pause_point(job);
        mirror_check_target_error(s);
        if (s->copy.ret < 0 || job_is_cancelled(job)) {
            return s->copy.ret;
        }
        int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

        if (now < s->copy.pace_until_ns) {  /* the speed limit; set-speed lifts it */
            job_sleep_ns(job, s->copy.pace_until_ns - now);
            continue;
        }
        int64_t dirty = bdrv_get_dirty_count(s->copy.dirty);
        bool ending = s->should_complete || job_cancel_requested(job);

        copy_progress(&s->copy);
        __atomic_store_n(&s->closing, __atomic_load_n(&s->write_through, __ATOMIC_RELAXED) &&
                         dirty <= MAX(CLOSING_BYTES, 4 * s->copy.granularity), __ATOMIC_RELAXED);
        if (dirty == 0 && s->copy.in_flight == 0) {
            if (!job_is_ready(job)) {
                int ret = mirror_become_ready(s);

                if (ret < 0) {
                    return ret;
                }
                if (job_is_ready(job)) {
                    mirror_set_through(s, false);
                }
                continue;
            }
            if (ending) {
                return 0;
            }
            copy_idle(&s->copy, copy_is_clean);
            if (!s->should_complete && !job_cancel_requested(job) &&
                !__atomic_load_n(&s->write_through, __ATOMIC_RELAXED)) {
                job_sleep_ns(job, IDLE_DELAY_NS);
            }
            continue;
        }
        /* One more time round: has it become less? If not, or when the end is wanted, writes go
         * to both sides from now on. */
        if (s->copy.cursor < last_cursor || ending) {
            if (ending || (!job_is_ready(job) && dirty > pass_dirty / 2)) {
                mirror_set_through(s, true);
            }
            pass_dirty = dirty;
        }
        last_cursor = s->copy.cursor;

        bool busy = guest_is_busy(s, &guest_seen, &guest_seen_ns);
        int64_t chunk = !busy ? CHUNK_ALONE : s->copy.last_copy_ns > SLOW_NS ? CHUNK_SLOW : CHUNK_SHARED;
        unsigned depth = busy ? 1 : DEPTH_ALONE;

        chunk = MAX(QEMU_ALIGN_DOWN(MIN(chunk, s->copy.buf_size), s->copy.granularity), s->copy.granularity);
        if (s->copy.in_flight >= depth || (s->copy.in_flight && s->copy.in_flight_bytes + chunk > s->copy.buf_size)) {
            job_yield(job);
            continue;
        }
        int64_t rest_until = s->copy.last_copy_end_ns + s->copy.last_copy_ns * guest_share(s, ending);

        if (busy && now < rest_until) {
            job_sleep_ns(job, rest_until - now);
            continue;
        }
        int before = s->common.iostatus;
        int64_t begun = copy_start(&s->copy, chunk, busy ? 0 : BDRV_REQ_BULK);

        if (!begun) {
            copy_idle(&s->copy, copy_must_wait);
            continue;
        }
        if (before != (int)s->common.iostatus) {
            continue;           /* paused by an error */
        }
        copy_pace(&s->copy, begun);
        if (!s->copy.pace_until_ns) {
            job_sleep_ns(job, 0);
        }
    }
}

static int coroutine_fn mirror_run(BlockJob *job, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);
    int64_t target_length = blk_co_getlength(s->copy.target);
    int ret;

    if (target_length < 0) {
        return target_length;
    }
    if (s->copy.length != target_length) {
        error_setg(errp, "Source and target image have different sizes");
        return -EINVAL;
    }
    ret = mirror_dirty_init(s);
    if (ret == 0 && !job_is_cancelled(job)) {
        ret = mirror_loop(s);
    }
    copy_wait_idle(&s->copy);
    return ret;
}

/* ---- verbs ---- */

static void mirror_free(BlockJob *job)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    copy_destroy(&s->copy);
    g_free(s->replaces);
}

static void mirror_complete(BlockJob *job, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    if (s->replaces && !bdrv_find_node(s->replaces)) {
        error_setg(errp, "Failed to find node with node-name='%s'", s->replaces);
        return;
    }
    if (!mirror_open_backing(s, errp)) {
        return;
    }
    s->should_complete = true;
    if (!job_should_pause(job)) {
        job_enter(job);
    }
}

static void mirror_change(BlockJob *job, BlockJobChangeOptions *opts, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);
    MirrorCopyMode mode = opts->u.mirror.copy_mode;

    if (mode == s->copy_mode) {
        return;
    }
    if (mode != MIRROR_COPY_MODE_WRITE_BLOCKING) {
        error_setg(errp, "Change to copy mode '%s' is not implemented", MirrorCopyMode_str(mode));
        return;
    }
    TRACE(mirror, "%s: guests write through from now on", job->id);
    __atomic_store_n(&s->copy_mode, mode, __ATOMIC_RELAXED);
    mirror_set_through(s, true);
    if (!job_should_pause(job)) {
        job_enter(job);
    }
}

static void mirror_set_speed(BlockJob *job, int64_t speed)
{
    copy_set_speed(&container_of(job, MirrorJob, common)->copy, speed);
}

static void mirror_query(BlockJob *job, BlockJobInfo *info)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    info->u.mirror.actively_synced = s->copy_mode == MIRROR_COPY_MODE_WRITE_BLOCKING && job_is_ready(job);
}

static bool mirror_drained_poll(BlockJob *job)
{
    return container_of(job, MirrorJob, common)->copy.in_flight > 0;
}

static void coroutine_fn mirror_pause(BlockJob *job)
{
    copy_wait_idle(&container_of(job, MirrorJob, common)->copy);
}

static const BlockJobDriver mirror_job_driver = {
    .instance_size = sizeof(MirrorJob),
    .job_type      = JOB_TYPE_MIRROR,
    .run           = mirror_run,
    .prepare       = mirror_prepare,
    .abort         = mirror_abort,
    .cancel        = mirror_cancel,
    .complete      = mirror_complete,
    .change        = mirror_change,
    .set_speed     = mirror_set_speed,
    .query         = mirror_query,
    .pause         = mirror_pause,
    .drained_poll  = mirror_drained_poll,
    .free          = mirror_free,
};

/* ---- the start ---- */

/* Will the target show another image, that it does not have yet, where it holds nothing? */
static bool target_awaits_backing(MirrorJob *s, BlockDriverState *target)
{
    if (!target->drv->supports_backing || target->backing) {
        return false;
    }
    return s->sync != MIRROR_SYNC_MODE_FULL || (s->backing_mode == MIRROR_OPEN_BACKING_CHAIN &&
                                                target->backing_file && *target->backing_file);
}

/* A mirror to an image whose backing is not there yet goes by whole clusters of it: what a cluster
 * is not given it would fill with zeroes. */
static int64_t mirror_granularity(MirrorJob *s, BlockDriverState *target, int64_t asked)
{
    BlockDriverInfo info;
    int64_t cluster = bdrv_get_info(target, &info) >= 0 ? info.cluster_size : 0;
    int64_t granularity = asked ? asked : cluster ? MIN(MAX(cluster, 4 * KiB), 64 * KiB) : 64 * KiB;

    return s->copy.opaque_granules ? MAX(granularity, cluster) : granularity;
}

static void coroutine_fn refresh_length_co(void *opaque)
{
    bdrv_co_refresh_length(opaque);
}

static BlockDriverState *mirror_insert_top(BlockDriverState *bs, const char *name, Error **errp)
{
    /* Discards pass; whether they do anything is the source's affair. */
    BlockDriverState *top = bdrv_new_open_driver(&bdrv_mirror_top, name, BDRV_O_RDWR | BDRV_O_UNMAP, errp);

    if (!top) {
        return NULL;
    }
    top->read_only = bs->read_only;
    if (bdrv_append(top, bs, errp) < 0) {
        bdrv_unref(top);
        return NULL;
    }
    aio_co_run(refresh_length_co, top);
    return top;
}

void mirror_start(const char *job_id, BlockDriverState *bs, BlockDriverState *target, const char *replaces,
                  int creation_flags, int64_t speed, uint32_t granularity, int64_t buf_size,
                  MirrorSyncMode mode, BlockMirrorBackingMode backing_mode, bool zero_target,
                  BlockdevOnError on_source_error, BlockdevOnError on_target_error,
                  bool unmap, const char *filter_node_name, MirrorCopyMode copy_mode, Error **errp)
{
    const uint64_t guests = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED;
    MirrorJob *s = NULL;

    g_assert(qemu_in_main_thread());
    if (bs == target) {
        error_setg(errp, "Can't mirror node into itself");
        return;
    }
    BlockDriverState *top = mirror_insert_top(bs, filter_node_name, errp);

    if (!top) {
        return;
    }
    s = block_job_create(job_id, &mirror_job_driver, NULL, top, BLK_PERM_CONSISTENT_READ, guests, 0,
                         creation_flags, NULL, NULL, errp);
    if (!s) {
        goto fail;
    }
    copy_init(&s->copy);
    s->copy.job = &s->common;
    if (speed) {
        Error *err = NULL;

        block_job_set_speed(&s->common, speed, &err);
        if (err) {
            error_propagate(errp, err);
            goto fail;
        }
    }
    s->copy.target = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE, BLK_PERM_WRITE_UNCHANGED);
    if (blk_insert_bs(s->copy.target, target, errp) < 0 ||
        block_job_add_bdrv(&s->common, "source", bs, 0, guests, errp) < 0 ||
        block_job_add_bdrv(&s->common, "target", target, 0, BLK_PERM_ALL, errp) < 0) {
        goto fail;
    }
    s->sync = mode;
    s->backing_mode = backing_mode;
    s->copy.opaque_granules = target_awaits_backing(s, target);
    s->copy.granularity = mirror_granularity(s, target, granularity);
    s->copy.dirty = bdrv_create_dirty_bitmap(top, s->copy.granularity, NULL, errp);
    if (!s->copy.dirty) {
        goto fail;
    }
    bdrv_disable_dirty_bitmap(s->copy.dirty);        /* the filter marks, since it knows what went through */
    blk_set_disable_request_queuing(s->copy.target, true);
    s->top = top;
    s->source = bs;
    s->copy.read = top->backing;
    s->copy.source = bs;
    s->copy.counted = top;
    s->zero_target = zero_target || s->copy.opaque_granules;    /* what is below it is not zero */
    s->copy.base = mode == MIRROR_SYNC_MODE_TOP ? bdrv_backing_chain_next(bs) : NULL;
    s->replaces = g_strdup(replaces);
    s->copy.on_read_error = on_source_error;
    s->copy.on_write_error = on_target_error;
    s->copy.unmap = unmap;
    s->copy.buf_size = buf_size ? buf_size : BUF_DEFAULT;
    s->copy.length = bdrv_getlength_cached(bs);
    s->copy_mode = copy_mode;
    mirror_set_through(s, false);
    bdrv_drained_begin(top);
    mirror_top_set_job(top, s);
    bdrv_drained_end(top);
    __atomic_store_n(&target->backing_awaited, s->copy.opaque_granules, __ATOMIC_RELAXED);
    block_job_start(&s->common);
    return;

fail:
    if (s) {
        if (s->copy.target) {
            blk_unref(s->copy.target);
        }
        block_job_remove_all_bdrv(&s->common);
        block_job_early_fail(&s->common);
    }
    bdrv_drop_filter(top, &error_abort);
    bdrv_unref(top);
}

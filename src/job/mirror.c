/* SPDX-License-Identifier: MIT */
/* mirror.c: the mirror job: its loop, its end, its start; see mirror.h. Main thread. */
#include "aio/barrier.h"
#include "job/mirror.h"

#define CHUNK_ALONE     (1 * MiB)       /* one copy while no guest is busy */
#define CHUNK_SHARED    (64 * KiB)      /* and while one is: what a guest's write may have to wait for */
#define CHUNK_SLOW      (256 * KiB)     /* the same on storage where the way to the data is what costs */
#define SLOW_NS         (2 * 1000 * 1000LL)     /* a copy that takes this long: such storage */
#define DEPTH_ALONE     8
#define BUF_DEFAULT     (16 * MiB)
#define SLICE_NS        (100 * 1000 * 1000LL)
#define IDLE_DELAY_NS   (50 * 1000 * 1000LL)    /* ready: let writes gather before they are copied */
#define RETRY_NS        (200 * 1000 * 1000LL)   /* after an ignored error */
#define CLOSING_BYTES   (1 * MiB)       /* so little is dirty that guests may wait for a piece of it */
#define GUEST_WINDOW_NS (5 * 1000 * 1000LL)     /* a write this long ago: the guest is busy */

/* ---- the beginning: what is dirty ---- */

static int coroutine_fn mirror_dirty_init(MirrorJob *s)
{
    int64_t at = 0, n;

    if (s->sync == MIRROR_SYNC_MODE_FULL) {
        bdrv_set_dirty_bitmap(s->dirty, 0, s->length);
        return 0;
    }
    while (s->sync == MIRROR_SYNC_MODE_TOP && at < s->length) {
        job_pause_point(&s->common);
        if (job_is_cancelled(&s->common)) {
            return 0;
        }
        bdrv_inc_in_flight(s->top);
        int ret = bdrv_co_is_allocated_above(s->source, s->base, false, at, s->length - at, &n, NULL);

        bdrv_dec_in_flight(s->top);
        if (ret < 0) {
            return ret;
        }
        if (ret) {
            bdrv_set_dirty_bitmap(s->dirty, at, n);
        }
        at += n;
        if (at % (1 * GiB) < n) {
            job_sleep_ns(&s->common, 0);        /* a huge disk: others want their turn */
        }
    }
    return 0;
}

/* ---- the loop ---- */

static void mirror_progress(MirrorJob *s)
{
    job_progress_set_remaining(&s->common, bdrv_get_dirty_count(s->dirty) + s->in_flight_bytes);
}

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
 * share and share alike; more where each of its writes goes to both sides; and much more where the
 * two agreed once and nobody waits for the end: what is dirty then only has to stay bounded. */
static int guest_share(MirrorJob *s, bool ending)
{
    if (__atomic_load_n(&s->write_through, __ATOMIC_RELAXED)) {
        return 3;
    }
    return job_is_ready(&s->common) && !ending ? 8 : 1;
}

/* A guest's write-through failed on the target: as an error of a copy. */
static void mirror_check_target_error(MirrorJob *s)
{
    int error = __atomic_exchange_n(&s->target_error, 0, __ATOMIC_RELAXED);

    if (error && block_job_error_action(&s->common, s->on_target_error, false, error) ==
        BLOCK_ERROR_ACTION_REPORT) {
        s->ret = -error;
    }
}

static void coroutine_fn mirror_wait_idle(MirrorJob *s)
{
    while (s->in_flight) {
        job_wait_enter(&s->common);
    }
}

static int coroutine_fn mirror_become_ready(MirrorJob *s)
{
    int ret = blk_co_flush(s->target);

    if (ret < 0) {
        BlockErrorAction action = block_job_error_action(&s->common, s->on_target_error, false, -ret);

        if (action == BLOCK_ERROR_ACTION_REPORT) {
            return ret;
        }
        job_sleep_ns(&s->common, action == BLOCK_ERROR_ACTION_IGNORE ? RETRY_NS : 0);
        return 0;
    }
    mirror_progress(s);
    job_transition_to_ready(&s->common);
    return 0;
}

/* Nothing to start: wait for a copy's end, a verb, dirt or the end of a guest's operation. Says
 * first that it waits, then looks once more; mirror_wake() does the same the other way round, so
 * that one of the two sees the other. */
static void coroutine_fn mirror_idle(MirrorJob *s, bool (*still)(MirrorJob *))
{
    __atomic_store_n(&s->idle, 1, __ATOMIC_SEQ_CST);
    aio_mb();
    if (still(s)) {
        job_yield(&s->common);
    }
    __atomic_store_n(&s->idle, 0, __ATOMIC_SEQ_CST);
}

static bool mirror_is_clean(MirrorJob *s)
{
    return bdrv_get_dirty_count(s->dirty) == 0;
}

static int coroutine_fn mirror_loop(MirrorJob *s)
{
    BlockJob *job = &s->common;
    uint64_t guest_seen = 0;
    int64_t guest_seen_ns = 0, pass_dirty = INT64_MAX, last_cursor = 0;

    for (;;) {
        job_pause_point(job);
        mirror_check_target_error(s);
        if (s->ret < 0 || job_is_cancelled(job)) {
            return s->ret;
        }
        int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

        if (now < s->pace_until_ns) {       /* the speed limit; set-speed lifts it */
            job_sleep_ns(job, s->pace_until_ns - now);
            continue;
        }
        int64_t dirty = bdrv_get_dirty_count(s->dirty);
        bool ending = s->should_complete || job_cancel_requested(job);

        mirror_progress(s);
        __atomic_store_n(&s->closing, __atomic_load_n(&s->write_through, __ATOMIC_RELAXED) &&
                         dirty <= MAX(CLOSING_BYTES, 4 * s->granularity), __ATOMIC_RELAXED);
        if (dirty == 0 && s->in_flight == 0) {
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
            mirror_idle(s, mirror_is_clean);
            if (!s->should_complete && !job_cancel_requested(job) &&
                !__atomic_load_n(&s->write_through, __ATOMIC_RELAXED)) {
                job_sleep_ns(job, IDLE_DELAY_NS);
            }
            continue;
        }
        /* One more time round: has it become less? If not, or when the end is wanted, writes go
         * to both sides from now on. */
        if (s->cursor < last_cursor || ending) {
            if (ending || (!job_is_ready(job) && dirty > pass_dirty / 2)) {
                mirror_set_through(s, true);
            }
            pass_dirty = dirty;
        }
        last_cursor = s->cursor;

        bool busy = guest_is_busy(s, &guest_seen, &guest_seen_ns);
        int64_t chunk = !busy ? CHUNK_ALONE : s->last_copy_ns > SLOW_NS ? CHUNK_SLOW : CHUNK_SHARED;
        unsigned depth = busy ? 1 : DEPTH_ALONE;

        chunk = MAX(MIN(chunk, s->buf_size), s->granularity);
        if (s->in_flight >= depth || (s->in_flight && s->in_flight_bytes + chunk > s->buf_size)) {
            job_yield(job);
            continue;
        }
        int64_t rest_until = s->last_copy_end_ns + s->last_copy_ns * guest_share(s, ending);

        if (busy && now < rest_until) {
            job_sleep_ns(job, rest_until - now);
            continue;
        }
        int before = s->common.iostatus;
        int64_t begun = mirror_copy_start(s, chunk, busy ? 0 : BDRV_REQ_BULK);

        if (!begun) {
            mirror_idle(s, mirror_copy_must_wait);
            continue;
        }
        if (before != (int)s->common.iostatus) {
            continue;           /* paused by an error */
        }
        int64_t delay = ratelimit_calculate_delay(&s->limit, begun, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));

        if (delay) {
            s->pace_until_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + delay;
        } else {
            job_sleep_ns(job, 0);
        }
    }
}

static int coroutine_fn mirror_run(BlockJob *job, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);
    int64_t target_length = blk_co_getlength(s->target);
    int ret;

    if (target_length < 0) {
        return target_length;
    }
    if (s->length != target_length) {
        error_setg(errp, "Source and target image have different sizes");
        return -EINVAL;
    }
    ret = mirror_dirty_init(s);
    if (ret == 0 && !job_is_cancelled(job)) {
        ret = mirror_loop(s);
    }
    mirror_wait_idle(s);
    return ret;
}

/* ---- the end; control lock held ---- */

static void mirror_release(MirrorJob *s)
{
    mirror_top_set_job(s->top, NULL);
    block_job_remove_all_bdrv(&s->common);
    blk_unref(s->target);
    s->target = NULL;
}

static bool mirror_kick_pending(void *opaque)
{
    return __atomic_load_n(&((MirrorJob *)opaque)->kick_scheduled, __ATOMIC_SEQ_CST);
}

/* Take the filter out. The graph is as before the job then, but for @pivot. */
static int coroutine_fn mirror_exit(MirrorJob *s, bool pivot, Error **errp)
{
    BlockDriverState *target = blk_bs(s->target), *source = s->source, *top = s->top;
    BlockDriverState *replaced = source;
    int ret = 0;

    if (s->filter_gone) {
        return 0;
    }
    s->filter_gone = true;
    bdrv_ref(target);
    bdrv_ref(source);
    bdrv_ref(top);
    bdrv_drained_begin(top);
    bdrv_drained_begin(target);
    aio_wait_while(mirror_kick_pending, s);
    mirror_release(s);
    bdrv_release_dirty_bitmap(s->dirty);
    s->dirty = NULL;
    if (pivot && s->replaces) {
        replaced = bdrv_find_node(s->replaces);
        if (!replaced) {
            error_setg(errp, "Failed to find node with node-name='%s'", s->replaces);
            ret = -ENOENT;
        } else if (!bdrv_recurse_can_replace(source, replaced)) {
            error_setg(errp, "Cannot replace '%s' any more: it no longer shows the data of '%s'",
                       s->replaces, source->node_name);
            ret = -EINVAL;
        }
    }
    if (ret == 0 && pivot && s->backing_mode == MIRROR_SOURCE_BACKING_CHAIN && s->sync != MIRROR_SYNC_MODE_FULL) {
        ret = bdrv_set_backing_hd(target, bdrv_backing_chain_next(source), errp);
    }
    if (ret == 0 && pivot) {
        ret = bdrv_replace_node(replaced == source ? top : replaced, target, errp);
    }
    if (bdrv_drop_filter(top, ret < 0 ? NULL : errp) < 0 && ret == 0) {
        ret = -EPERM;
    }
    bdrv_drained_end(target);
    bdrv_drained_end(top);
    bdrv_unref(top);            /* ours */
    bdrv_unref(top);            /* the job's: it closes */
    bdrv_unref(source);
    bdrv_unref(target);
    return ret;
}

static int coroutine_fn mirror_prepare(BlockJob *job, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);
    int ret;

    /* Guests wait from here on: what became dirty since run() ended is little. */
    bdrv_drained_begin(s->top);
    while ((ret = mirror_copy_now(s)) > 0) {
    }
    if (ret == 0) {
        ret = blk_co_flush(s->target);
    }
    mirror_progress(s);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not bring the target up to date");
        bdrv_drained_end(s->top);
        return ret;
    }
    BlockDriverState *top = s->top;

    bdrv_ref(top);
    ret = mirror_exit(s, s->should_complete && !job_cancel_requested(job), errp);
    bdrv_drained_end(top);
    bdrv_unref(top);
    return ret;
}

static void coroutine_fn mirror_abort(BlockJob *job)
{
    mirror_exit(container_of(job, MirrorJob, common), false, NULL);
}

static void mirror_free(BlockJob *job)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    pthread_mutex_destroy(&s->lock);
    g_free(s->replaces);
}

/* ---- verbs ---- */

static bool mirror_cancel(BlockJob *job, bool force)
{
    return force || !job_is_ready(job);
}

static void mirror_complete(BlockJob *job, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    if (s->replaces && !bdrv_find_node(s->replaces)) {
        error_setg(errp, "Failed to find node with node-name='%s'", s->replaces);
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
    __atomic_store_n(&s->copy_mode, mode, __ATOMIC_RELAXED);
    mirror_set_through(s, true);
    if (!job_should_pause(job)) {
        job_enter(job);
    }
}

static void mirror_set_speed(BlockJob *job, int64_t speed)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    ratelimit_set_speed(&s->limit, speed, SLICE_NS);
    s->pace_until_ns = 0;
}

static void mirror_query(BlockJob *job, BlockJobInfo *info)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    info->u.mirror.actively_synced = s->copy_mode == MIRROR_COPY_MODE_WRITE_BLOCKING && job_is_ready(job);
}

static bool mirror_drained_poll(BlockJob *job)
{
    return container_of(job, MirrorJob, common)->in_flight > 0;
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
    .drained_poll  = mirror_drained_poll,
    .free          = mirror_free,
};

/* ---- the start ---- */

static int64_t default_granularity(BlockDriverState *target)
{
    BlockDriverInfo info;

    if (bdrv_get_info(target, &info) >= 0 && info.cluster_size) {
        return MIN(MAX(info.cluster_size, 4 * KiB), 64 * KiB);
    }
    return 64 * KiB;
}

static void coroutine_fn refresh_length_co(void *opaque)
{
    bdrv_co_refresh_length(opaque);
}

static BlockDriverState *mirror_insert_top(BlockDriverState *bs, const char *name, Error **errp)
{
    BlockDriverState *top = bdrv_new_open_driver(&bdrv_mirror_top, name, BDRV_O_RDWR, errp);

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
    pthread_mutex_init(&s->lock, NULL);
    LIST_INIT(&s->ops);
    qemu_co_queue_init(&s->ops_ended);
    if (speed) {
        Error *err = NULL;

        block_job_set_speed(&s->common, speed, &err);
        if (err) {
            error_propagate(errp, err);
            goto fail;
        }
    }
    s->target = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE, BLK_PERM_WRITE_UNCHANGED);
    if (blk_insert_bs(s->target, target, errp) < 0 ||
        block_job_add_bdrv(&s->common, "source", bs, 0, guests, errp) < 0 ||
        block_job_add_bdrv(&s->common, "target", target, 0, BLK_PERM_ALL, errp) < 0) {
        goto fail;
    }
    s->granularity = granularity ? granularity : default_granularity(target);
    s->dirty = bdrv_create_dirty_bitmap(top, s->granularity, NULL, errp);
    if (!s->dirty) {
        goto fail;
    }
    bdrv_disable_dirty_bitmap(s->dirty);        /* the filter marks, since it knows what went through */
    blk_set_disable_request_queuing(s->target, true);
    s->top = top;
    s->source = bs;
    s->sync = mode;
    s->base = mode == MIRROR_SYNC_MODE_TOP ? bdrv_backing_chain_next(bs) : NULL;
    s->replaces = g_strdup(replaces);
    s->backing_mode = backing_mode;
    s->on_source_error = on_source_error;
    s->on_target_error = on_target_error;
    s->unmap = unmap;
    s->buf_size = buf_size ? buf_size : BUF_DEFAULT;
    s->length = bdrv_getlength_cached(bs);
    s->copy_mode = copy_mode;
    mirror_set_through(s, false);
    bdrv_drained_begin(top);
    mirror_top_set_job(top, s);
    bdrv_drained_end(top);
    block_job_start(&s->common);
    return;

fail:
    if (s) {
        if (s->target) {
            blk_unref(s->target);
        }
        block_job_remove_all_bdrv(&s->common);
        block_job_early_fail(&s->common);
    }
    bdrv_drop_filter(top, &error_abort);
    bdrv_unref(top);
}

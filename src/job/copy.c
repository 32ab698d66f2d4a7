/* SPDX-License-Identifier: MIT */
/* copy.c: the copy engine's pieces, from the bitmap to the target; see copy.h. */
#include "aio/barrier.h"
#include "job/copy.h"
#include "block/iov.h"

#define SLICE_NS        (100 * 1000 * 1000LL)   /* of the speed limit */
#define RETRY_NS        (50 * 1000 * 1000LL)    /* after an ignored error */

typedef struct CopyPiece {
    CopyOp op;
    CopyEngine *e;
    BdrvRequestFlags flags;
    int error;                  /* positive errno */
    bool error_is_read;
} CopyPiece;

/* ---- what to copy ---- */

/* Cut [@start, *@end) off before the first operation in it. False: one is right at the start,
 * and *@end is where that ends. Whole granules. Under the lock. */
static bool piece_clip(CopyEngine *e, int64_t start, int64_t *end)
{
    CopyOp *o;

    LIST_FOREACH(o, &e->ops, link) {
        int64_t first = QEMU_ALIGN_DOWN(o->offset, e->granularity);
        int64_t last = QEMU_ALIGN_UP(o->offset + o->bytes, e->granularity);

        if (first <= start && start < last) {
            *end = last;
            return false;
        }
        if (start < first) {
            *end = MIN(*end, first);
        }
    }
    return true;
}

/* The next dirty piece at or after the cursor, going round once, that no operation works on: found
 * whatever @max is, if there is a granule of that kind. Under the lock. */
static bool piece_find(CopyEngine *e, int64_t max, int64_t *offset, int64_t *bytes)
{
    int64_t from = e->cursor, start, n;
    bool wrapped = from == 0;

    for (;;) {
        if (from >= e->length || !bdrv_dirty_bitmap_next_dirty_area(e->dirty, from, e->length, max, &start, &n)) {
            if (wrapped) {
                return false;
            }
            wrapped = true;
            from = 0;
            continue;
        }
        /* Whole granules; the search may begin inside one. */
        int64_t end = MIN(QEMU_ALIGN_UP(start + n, e->granularity), e->length);

        start = QEMU_ALIGN_DOWN(start, e->granularity);
        if (piece_clip(e, start, &end)) {
            *offset = start;
            *bytes = MIN(end, e->length) - start;
            return true;
        }
        from = end;
    }
}

static bool piece_take(CopyEngine *e, CopyPiece *p, int64_t max)
{
    pthread_mutex_lock(&e->lock);
    bool found = piece_find(e, max, &p->op.offset, &p->op.bytes);

    if (found) {
        int64_t end = p->op.offset + p->op.bytes;

        LIST_INSERT_HEAD(&e->ops, &p->op, link);
        bdrv_reset_dirty_bitmap(e->dirty, p->op.offset, p->op.bytes);
        e->cursor = end >= e->length ? 0 : end;
    }
    pthread_mutex_unlock(&e->lock);
    return found;
}

bool copy_must_wait(CopyEngine *e)
{
    int64_t offset, bytes;

    pthread_mutex_lock(&e->lock);
    bool found = piece_find(e, e->granularity, &offset, &bytes);

    pthread_mutex_unlock(&e->lock);
    return !found;
}

bool copy_is_clean(CopyEngine *e)
{
    return bdrv_get_dirty_count(e->dirty) == 0;
}

/* ---- one piece ---- */

static int coroutine_fn piece_zero(CopyPiece *p, int64_t offset, int64_t bytes)
{
    CopyEngine *e = p->e;

    if (!e->opaque_granules && copy_target_request(e, COPY_IS_ZERO, offset, bytes, NULL, 0) > 0) {
        return 0;
    }
    return copy_target_request(e, COPY_ZERO, offset, bytes, NULL, e->unmap ? BDRV_REQ_MAY_UNMAP : 0);
}

static int coroutine_fn piece_data(CopyPiece *p, int64_t offset, int64_t bytes)
{
    CopyEngine *e = p->e;
    void *buf = qemu_try_blockalign(e->source, bytes);
    int ret = -ENOMEM;

    if (!buf) {
        p->error_is_read = true;
        return ret;
    }
    ret = bdrv_co_pread(e->read, offset, bytes, buf, p->flags);
    if (ret < 0) {
        p->error_is_read = true;
    } else if (!buffer_is_zero(buf, bytes)) {
        return copy_target_request(e, COPY_WRITE, offset, bytes, buf, p->flags);
    } else {
        ret = piece_zero(p, offset, bytes);
    }
    qemu_vfree(buf);
    return ret;
}

/* Copy from @at to @end what is allocated above @base (NULL: all). */
static int coroutine_fn piece_extents(CopyPiece *p, BlockDriverState *base, int64_t at, int64_t end)
{
    CopyEngine *e = p->e;
    int64_t n;

    while (at < end) {
        int ret = bdrv_co_block_status_above(e->source, base, at, end - at, &n, NULL, NULL);

        if (ret < 0) {
            p->error_is_read = true;
            return ret;
        }
        n = MIN(n, end - at);
        g_assert(n > 0);
        if (base && !(ret & BDRV_BLOCK_ALLOCATED)) {
            ret = 0;            /* the target sees the same backing image */
        } else if (ret & BDRV_BLOCK_ZERO) {
            ret = piece_zero(p, at, n);
        } else {
            ret = piece_data(p, at, n);
        }
        if (ret < 0) {
            return ret;
        }
        at += n;
    }
    return 0;
}

static int coroutine_fn piece_copy(CopyPiece *p)
{
    CopyEngine *e = p->e;
    int64_t at = p->op.offset, end = at + p->op.bytes, n;
    int ret = 0;

    if (!e->opaque_granules || !e->base) {
        return piece_extents(p, e->base, at, end);
    }
    for (; at < end && ret >= 0; at += n) {
        int64_t granule_end = MIN(QEMU_ALIGN_DOWN(at, e->granularity) + e->granularity, end);

        ret = bdrv_co_is_allocated_above(e->source, e->base, false, at, granule_end - at, &n, NULL);
        p->error_is_read = ret < 0;
        if (ret > 0 || (ret == 0 && n < granule_end - at)) {
            ret = piece_extents(p, NULL, at, granule_end);
        }
        n = granule_end - at;
    }
    return ret < 0 ? ret : 0;
}

static void coroutine_fn piece_run(CopyPiece *p)
{
    CopyEngine *e = p->e;
    int64_t began = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    bdrv_inc_in_flight(e->counted);
    int ret = piece_copy(p);

    if (ret < 0) {
        p->error = -ret;
        bdrv_set_dirty_bitmap(e->dirty, p->op.offset, p->op.bytes);
    }
    copy_op_end(e, &p->op);
    e->last_copy_end_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    e->last_copy_ns = e->last_copy_end_ns - began;
    bdrv_dec_in_flight(e->counted);
}

static void piece_failed(CopyEngine *e, CopyPiece *p)
{
    if (__atomic_load_n(&e->abandoned, __ATOMIC_RELAXED)) {
        return;                 /* given up, not failed */
    }
    BlockErrorAction action = block_job_error_action(e->job, p->error_is_read ? e->on_read_error
                                                                              : e->on_write_error,
                                                     p->error_is_read, p->error);

    if (action == BLOCK_ERROR_ACTION_REPORT && e->ret == 0) {
        e->ret = -p->error;
    } else if (action == BLOCK_ERROR_ACTION_IGNORE) {
        e->pace_until_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + RETRY_NS;
    }
}

static void coroutine_fn piece_co(void *opaque)
{
    CopyPiece *p = opaque;
    CopyEngine *e = p->e;

    piece_run(p);
    e->in_flight--;
    e->in_flight_bytes -= p->op.bytes;
    if (p->error) {
        piece_failed(e, p);
    } else {
        job_progress_update(e->job, p->op.bytes);
    }
    g_free(p);
    job_enter(e->job);
}

int64_t coroutine_fn copy_start(CopyEngine *e, int64_t max, BdrvRequestFlags flags)
{
    CopyPiece *p = g_new0(CopyPiece, 1);

    p->e = e;
    p->flags = flags;
    if (!piece_take(e, p, max)) {
        g_free(p);
        return 0;
    }
    int64_t bytes = p->op.bytes;

    e->in_flight++;
    e->in_flight_bytes += bytes;
    qemu_coroutine_enter(qemu_coroutine_create(piece_co, p));
    return bytes;
}

int coroutine_fn copy_now(CopyEngine *e)
{
    CopyPiece p = { .e = e };

    if (!piece_take(e, &p, MAX(MIN(1 * MiB, e->buf_size), e->granularity))) {
        return 0;
    }
    piece_run(&p);
    if (!p.error) {
        job_progress_update(e->job, p.op.bytes);
    }
    return p.error ? -p.error : 1;
}

/* ---- waiting, pace, progress ---- */

void coroutine_fn copy_wait_idle(CopyEngine *e)
{
    while (e->in_flight) {
        job_wait_enter(e->job);
    }
}

/* Says first that it waits, then looks once more; copy_wake() does the same the other way round,
 * so that one of the two sees the other. */
void coroutine_fn copy_idle(CopyEngine *e, bool (*still)(CopyEngine *))
{
    __atomic_store_n(&e->idle, 1, __ATOMIC_SEQ_CST);
    aio_mb();
    if (still(e)) {
        job_yield(e->job);
    }
    __atomic_store_n(&e->idle, 0, __ATOMIC_SEQ_CST);
}

void copy_progress(CopyEngine *e)
{
    job_progress_set_remaining(e->job, bdrv_get_dirty_count(e->dirty) + e->in_flight_bytes);
}

void copy_set_speed(CopyEngine *e, int64_t speed)
{
    ratelimit_set_speed(&e->limit, speed, SLICE_NS);
    e->pace_until_ns = 0;
}

void copy_pace(CopyEngine *e, int64_t bytes)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t delay = ratelimit_calculate_delay(&e->limit, bytes, now);

    if (delay) {
        e->pace_until_ns = now + delay;
    } else if (e->pace_until_ns <= now) {
        e->pace_until_ns = 0;
    }
}

/* ---- whoever changes the source ---- */

static void copy_kick_bh(void *opaque)
{
    CopyEngine *e = opaque;
    BlockJob *job = e->job;

    block_job_ref(job);
    __atomic_store_n(&e->kick_scheduled, 0, __ATOMIC_SEQ_CST);
    aio_wait_kick();            /* the job's end waits for this */
    if (job->status != JOB_STATUS_NULL) {
        job_enter(job);
    }
    block_job_unref(job);
}

/* There is something to do for a job that waits for it: dirt, or the end of an operation. */
static void copy_wake(CopyEngine *e)
{
    aio_mb();                   /* what was done, then the look; see copy_idle() */
    if (!__atomic_load_n(&e->idle, __ATOMIC_RELAXED) ||
        !__atomic_exchange_n(&e->idle, 0, __ATOMIC_SEQ_CST)) {
        return;
    }
    if (!__atomic_exchange_n(&e->kick_scheduled, 1, __ATOMIC_SEQ_CST)) {
        /* The caller is counted on a node the job drains before it goes, and then waits for
         * this bottom half: the job is alive. */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), copy_kick_bh, e);
    }
}

bool copy_kick_pending(void *engine)
{
    return __atomic_load_n(&((CopyEngine *)engine)->kick_scheduled, __ATOMIC_SEQ_CST);
}

void copy_mark_dirty(CopyEngine *e, int64_t offset, int64_t bytes)
{
    bdrv_set_dirty_bitmap(e->dirty, offset, bytes);
    copy_wake(e);
}

bool coroutine_fn copy_op_begin(CopyEngine *e, CopyOp *op, const unsigned *wait)
{
    CopyOp *o;

    pthread_mutex_lock(&e->lock);
again:
    LIST_FOREACH(o, &e->ops, link) {
        if (op->offset < o->offset + o->bytes && o->offset < op->offset + op->bytes) {
            if (wait && __atomic_load_n(wait, __ATOMIC_RELAXED)) {
                qemu_co_queue_wait_plain(&e->ops_ended, &e->lock);
                goto again;
            }
            pthread_mutex_unlock(&e->lock);
            return false;
        }
    }
    LIST_INSERT_HEAD(&e->ops, op, link);
    pthread_mutex_unlock(&e->lock);
    return true;
}

void copy_op_end(CopyEngine *e, CopyOp *op)
{
    pthread_mutex_lock(&e->lock);
    LIST_REMOVE(op, link);
    qemu_co_queue_restart_all(&e->ops_ended);
    pthread_mutex_unlock(&e->lock);
    copy_wake(e);
}

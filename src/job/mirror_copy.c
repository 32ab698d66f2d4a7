/* SPDX-License-Identifier: MIT */
/* mirror_copy.c: copy one dirty piece from source to target; see mirror.h. Main context.
 *
 * A piece is taken out of the bitmap and entered in the list of operations in one step, then
 * copied extent by extent: what is known to be zero is not read, and not written where the
 * target reads as zero already; data that turns out to be zero is written as zero. After an error
 * the piece goes back into the bitmap.
 */
#include "job/mirror.h"
#include "block/iov.h"

typedef struct MirrorCopy {
    MirrorOp op;
    MirrorJob *s;
    BdrvRequestFlags flags;
    int error;                  /* positive errno */
    bool error_is_read;
} MirrorCopy;

/* The next dirty piece at or after the cursor, going round once, that no operation works on.
 * Under s->lock. */
static bool copy_find(MirrorJob *s, int64_t max, int64_t *offset, int64_t *bytes)
{
    int64_t from = s->cursor, start, n;
    bool wrapped = from == 0;

    for (;;) {
        MirrorOp *o;

        if (from >= s->length || !bdrv_dirty_bitmap_next_dirty_area(s->dirty, from, s->length, max, &start, &n)) {
            if (wrapped) {
                return false;
            }
            wrapped = true;
            from = 0;
            continue;
        }
        /* Whole granules; the search may begin inside one. */
        int64_t end = MIN(QEMU_ALIGN_UP(start + n, s->granularity), s->length);

        start = QEMU_ALIGN_DOWN(start, s->granularity);
        LIST_FOREACH(o, &s->ops, link) {
            if (start < o->offset + o->bytes && o->offset < end) {
                break;
            }
        }
        if (!o) {
            *offset = start;
            *bytes = end - start;
            return true;
        }
        from = MAX(end, QEMU_ALIGN_UP(o->offset + o->bytes, s->granularity));
    }
}

static bool copy_take(MirrorJob *s, MirrorCopy *c, int64_t max)
{
    pthread_mutex_lock(&s->lock);
    bool found = copy_find(s, max, &c->op.offset, &c->op.bytes);

    if (found) {
        int64_t end = c->op.offset + c->op.bytes;

        LIST_INSERT_HEAD(&s->ops, &c->op, link);
        bdrv_reset_dirty_bitmap(s->dirty, c->op.offset, c->op.bytes);
        s->cursor = end >= s->length ? 0 : end;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

bool mirror_copy_must_wait(MirrorJob *s)
{
    int64_t offset, bytes;

    pthread_mutex_lock(&s->lock);
    bool found = copy_find(s, s->granularity, &offset, &bytes);

    pthread_mutex_unlock(&s->lock);
    return !found;
}

static int coroutine_fn copy_zero(MirrorCopy *c, int64_t offset, int64_t bytes)
{
    MirrorJob *s = c->s;

    if (bdrv_co_is_zero_fast(blk_bs(s->target), offset, bytes) > 0) {
        return 0;
    }
    return blk_co_pwrite_zeroes(s->target, offset, bytes, s->unmap ? BDRV_REQ_MAY_UNMAP : 0);
}

static int coroutine_fn copy_data(MirrorCopy *c, int64_t offset, int64_t bytes)
{
    MirrorJob *s = c->s;
    void *buf = qemu_try_blockalign(s->source, bytes);
    int ret = -ENOMEM;

    if (!buf) {
        c->error_is_read = true;
        return ret;
    }
    ret = bdrv_co_pread(s->top->backing, offset, bytes, buf, c->flags);
    if (ret < 0) {
        c->error_is_read = true;
    } else if (buffer_is_zero(buf, bytes)) {
        ret = copy_zero(c, offset, bytes);
    } else {
        ret = blk_co_pwrite(s->target, offset, bytes, buf, c->flags);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn copy_extents(MirrorCopy *c)
{
    MirrorJob *s = c->s;
    int64_t at = c->op.offset, end = at + c->op.bytes, n;

    while (at < end) {
        int ret = bdrv_co_block_status_above(s->source, s->base, at, end - at, &n, NULL, NULL);

        if (ret < 0) {
            c->error_is_read = true;
            return ret;
        }
        n = MIN(n, end - at);
        g_assert(n > 0);
        if (ret & BDRV_BLOCK_ZERO) {
            ret = s->base && !(ret & BDRV_BLOCK_ALLOCATED) ? 0 : copy_zero(c, at, n);
        } else if (s->base && !(ret & BDRV_BLOCK_ALLOCATED)) {
            ret = 0;            /* the target sees the same backing image */
        } else {
            ret = copy_data(c, at, n);
        }
        if (ret < 0) {
            return ret;
        }
        at += n;
    }
    return 0;
}

static void coroutine_fn copy_run(MirrorCopy *c)
{
    MirrorJob *s = c->s;
    int64_t began = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    bdrv_inc_in_flight(s->top);
    int ret = copy_extents(c);

    if (ret < 0) {
        c->error = -ret;
        bdrv_set_dirty_bitmap(s->dirty, c->op.offset, c->op.bytes);
    }
    mirror_op_end(s, &c->op);
    s->last_copy_end_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    s->last_copy_ns = s->last_copy_end_ns - began;
    bdrv_dec_in_flight(s->top);
}

static void copy_failed(MirrorJob *s, MirrorCopy *c)
{
    BlockErrorAction action = block_job_error_action(&s->common, c->error_is_read ? s->on_source_error
                                                                                  : s->on_target_error,
                                                     c->error_is_read, c->error);

    if (action == BLOCK_ERROR_ACTION_REPORT && s->ret == 0) {
        s->ret = -c->error;
    }
}

static void coroutine_fn copy_co(void *opaque)
{
    MirrorCopy *c = opaque;
    MirrorJob *s = c->s;

    copy_run(c);
    s->in_flight--;
    s->in_flight_bytes -= c->op.bytes;
    if (c->error) {
        copy_failed(s, c);
    } else {
        job_progress_update(&s->common, c->op.bytes);
    }
    g_free(c);
    job_enter(&s->common);
}

int64_t coroutine_fn mirror_copy_start(MirrorJob *s, int64_t max, BdrvRequestFlags flags)
{
    MirrorCopy *c = g_new0(MirrorCopy, 1);

    c->s = s;
    c->flags = flags;
    if (!copy_take(s, c, max)) {
        g_free(c);
        return 0;
    }
    int64_t bytes = c->op.bytes;

    s->in_flight++;
    s->in_flight_bytes += bytes;
    qemu_coroutine_enter(qemu_coroutine_create(copy_co, c));
    return bytes;
}

int coroutine_fn mirror_copy_now(MirrorJob *s)
{
    MirrorCopy c = { .s = s };

    if (!copy_take(s, &c, 1 * MiB)) {
        return 0;
    }
    copy_run(&c);
    if (!c.error) {
        job_progress_update(&s->common, c.op.bytes);
    }
    return c.error ? -c.error : 1;
}

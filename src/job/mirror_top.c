/* SPDX-License-Identifier: MIT */
/* mirror_top.c: the filter above a mirrored source; see mirror.h. Requests: any thread. */
#include "aio/barrier.h"
#include "job/mirror.h"

typedef struct MirrorTop {
    MirrorJob *job;             /* changes on a drained node */
} MirrorTop;

void mirror_top_set_job(BlockDriverState *top, MirrorJob *s)
{
    ((MirrorTop *)top->opaque)->job = s;
}

static void mirror_kick_bh(void *opaque)
{
    MirrorJob *s = opaque;

    __atomic_store_n(&s->kick_scheduled, 0, __ATOMIC_SEQ_CST);
    aio_wait_kick();            /* mirror_exit() waits for this */
    if (s->common.status != JOB_STATUS_NULL) {
        job_enter(&s->common);
    }
    block_job_unref(&s->common);
}

static void mirror_ref_and_kick(void *opaque)
{
    MirrorJob *s = opaque;

    block_job_ref(&s->common);
    mirror_kick_bh(s);
}

/* There is something to do for a job that waits for it: dirt, or the end of an operation. */
static void mirror_wake(MirrorJob *s)
{
    aio_mb();    /* what was done, then the look; see mirror_idle() */
    if (!__atomic_load_n(&s->idle, __ATOMIC_RELAXED) ||
        !__atomic_exchange_n(&s->idle, 0, __ATOMIC_SEQ_CST)) {
        return;
    }
    if (!__atomic_exchange_n(&s->kick_scheduled, 1, __ATOMIC_SEQ_CST)) {
        /* The filter is counted here, so the job that owns it is alive when the bottom half
         * is queued; it is freed only in the main thread, after a drain, by which time this
         * has run (mirror_exit waits for it). */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), mirror_ref_and_kick, s);
    }
}

void mirror_mark_dirty(MirrorJob *s, int64_t offset, int64_t bytes)
{
    bdrv_set_dirty_bitmap(s->dirty, offset, bytes);
    mirror_wake(s);
}

/* Does write-through pay? Not while the whole range waits to be copied. */
static bool range_is_dirty(MirrorJob *s, const MirrorOp *op)
{
    return bdrv_dirty_bitmap_next_zero(s->dirty, op->offset, op->bytes) < 0;
}

/* Enter @op. Where something overlaps: wait for its end while closing, else return false. */
static bool coroutine_fn op_begin(MirrorJob *s, MirrorOp *op)
{
    MirrorOp *o;

    pthread_mutex_lock(&s->lock);
again:
    LIST_FOREACH(o, &s->ops, link) {
        if (op->offset < o->offset + o->bytes && o->offset < op->offset + op->bytes) {
            if (__atomic_load_n(&s->closing, __ATOMIC_RELAXED)) {
                qemu_co_queue_wait_plain(&s->ops_ended, &s->lock);
                goto again;
            }
            pthread_mutex_unlock(&s->lock);
            return false;
        }
    }
    LIST_INSERT_HEAD(&s->ops, op, link);
    pthread_mutex_unlock(&s->lock);
    return true;
}

void mirror_op_end(MirrorJob *s, MirrorOp *op)
{
    pthread_mutex_lock(&s->lock);
    LIST_REMOVE(op, link);
    qemu_co_queue_restart_all(&s->ops_ended);
    pthread_mutex_unlock(&s->lock);
    mirror_wake(s);
}

typedef enum { TOP_WRITE, TOP_ZERO, TOP_DISCARD } TopKind;

static int coroutine_fn source_change(BlockDriverState *bs, TopKind kind, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    switch (kind) {
    case TOP_WRITE:
        return bdrv_co_pwritev_part(bs->backing, offset, bytes, qiov, qiov_offset, flags);
    case TOP_ZERO:
        return bdrv_co_pwrite_zeroes(bs->backing, offset, bytes, flags);
    default:
        return bdrv_co_pdiscard(bs->backing, offset, bytes);
    }
}

static int coroutine_fn target_change(MirrorJob *s, TopKind kind, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    flags &= BDRV_REQ_MAY_UNMAP | BDRV_REQ_FUA;
    if (!s->unmap) {
        flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    if (kind == TOP_ZERO) {
        return blk_co_pwrite_zeroes(s->target, offset, bytes, flags);
    }
    if (qiov_offset == 0 && qiov->size == (size_t)bytes) {
        return blk_co_pwritev(s->target, offset, bytes, qiov, flags);
    }
    QEMUIOVector part;

    qemu_iovec_init(&part, qiov->niov);
    qemu_iovec_concat(&part, qiov, qiov_offset, bytes);
    int ret = blk_co_pwritev(s->target, offset, bytes, &part, flags);

    qemu_iovec_destroy(&part);
    return ret;
}

static int coroutine_fn top_change(BlockDriverState *bs, TopKind kind, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    MirrorJob *s = ((MirrorTop *)bs->opaque)->job;

    if (!s) {
        return source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags);
    }
    __atomic_fetch_add(&s->guest_writes, 1, __ATOMIC_RELAXED);

    bool through = __atomic_load_n(&s->write_through, __ATOMIC_ACQUIRE);
    MirrorOp op = { .offset = offset, .bytes = bytes };

    if (through && !__atomic_load_n(&s->closing, __ATOMIC_RELAXED) && range_is_dirty(s, &op)) {
        through = false;
    }
    if (!through || !op_begin(s, &op)) {
        int ret = source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags);

        mirror_mark_dirty(s, offset, bytes);    /* also after an error: contents may have changed */
        return ret;
    }
    int ret = source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags), tret = ret;
    bool known = true;

    if (ret == 0 && kind == TOP_DISCARD) {
        /* What a discarded range reads as is each side's own affair, but where it is zero. */
        known = bdrv_co_is_zero_fast(s->source, offset, bytes) > 0;
        kind = TOP_ZERO;
        flags = BDRV_REQ_MAY_UNMAP;
    }
    if (ret == 0 && known) {
        tret = target_change(s, kind, offset, bytes, qiov, qiov_offset, flags);
    }
    if (tret < 0 || !known) {
        /* The guest's disk is the source: an error of the target is the job's affair. */
        if (ret == 0 && tret < 0) {
            __atomic_store_n(&s->target_error, -tret, __ATOMIC_RELAXED);
        }
        mirror_mark_dirty(s, offset, bytes);
    }
    mirror_op_end(s, &op);
    return ret;
}

static int coroutine_fn mirror_top_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return top_change(bs, TOP_WRITE, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn mirror_top_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                    BdrvRequestFlags flags)
{
    return top_change(bs, TOP_ZERO, offset, bytes, NULL, 0, flags);
}

static int coroutine_fn mirror_top_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return top_change(bs, TOP_DISCARD, offset, bytes, NULL, 0, 0);
}

static void mirror_top_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role,
                                  BlockReopenQueue *queue, uint64_t perm, uint64_t shared,
                                  uint64_t *nperm, uint64_t *nshared)
{
    /* The source must not change length under the bitmap. */
    *nperm = perm;
    *nshared = shared & ~(uint64_t)BLK_PERM_RESIZE;
}

const BlockDriver bdrv_mirror_top = {
    .format_name        = "mirror_top",
    .kind               = BLOCK_DRIVER_FILTER,
    .instance_size      = sizeof(MirrorTop),
    .schema_driver      = BLOCKDEV_DRIVER__MAX,
    .supported_write_flags = BDRV_REQ_FUA,
    .supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK,
    .child_perm         = mirror_top_child_perm,
    .co_pwritev         = mirror_top_co_pwritev,
    .co_pwrite_zeroes   = mirror_top_co_pwrite_zeroes,
    .co_pdiscard        = mirror_top_co_pdiscard,
};

/* SPDX-License-Identifier: MIT */
/* mirror_top.c: the filter above a mirrored source; see mirror.h. Requests: any thread. */
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

void mirror_mark_dirty(MirrorJob *s, int64_t offset, int64_t bytes)
{
    bdrv_set_dirty_bitmap(s->dirty, offset, bytes);
    if (!__atomic_exchange_n(&s->kick_scheduled, 1, __ATOMIC_SEQ_CST)) {
        /* The filter is counted here, so the job that owns it is alive when the bottom half
         * is queued; it is freed only in the main thread, after a drain, by which time this
         * has run (mirror_exit waits for it). */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), mirror_ref_and_kick, s);
    }
}

/* Enter @op unless something overlapping is under way. */
static bool op_begin(MirrorJob *s, MirrorOp *op)
{
    MirrorOp *o;

    pthread_mutex_lock(&s->lock);
    LIST_FOREACH(o, &s->ops, link) {
        if (op->offset < o->offset + o->bytes && o->offset < op->offset + op->bytes) {
            pthread_mutex_unlock(&s->lock);
            return false;
        }
    }
    LIST_INSERT_HEAD(&s->ops, op, link);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static void op_end(MirrorJob *s, MirrorOp *op)
{
    pthread_mutex_lock(&s->lock);
    LIST_REMOVE(op, link);
    pthread_mutex_unlock(&s->lock);
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

    /* What a discarded range reads as is each side's own affair: it is compared later. */
    bool through = kind != TOP_DISCARD && __atomic_load_n(&s->write_through, __ATOMIC_ACQUIRE);
    MirrorOp op = { .offset = offset, .bytes = bytes };

    if (!through || !op_begin(s, &op)) {
        int ret = source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags);

        mirror_mark_dirty(s, offset, bytes);    /* also after an error: contents may have changed */
        return ret;
    }
    int ret = source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags), tret = ret;

    if (ret == 0) {
        tret = target_change(s, kind, offset, bytes, qiov, qiov_offset, flags);
    }
    if (tret < 0) {
        /* The guest's disk is the source: an error of the target is the job's affair. */
        if (ret == 0) {
            __atomic_store_n(&s->target_error, -tret, __ATOMIC_RELAXED);
        }
        mirror_mark_dirty(s, offset, bytes);
    }
    op_end(s, &op);
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

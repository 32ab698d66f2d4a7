/* SPDX-License-Identifier: MIT */
/* mirror_top.c: the filter above a mirrored source; see mirror.h. Requests: any thread. */
#include "job/mirror.h"
#include "block/iov.h"

typedef struct MirrorTop {
    MirrorJob *job;             /* changes on a drained node */
} MirrorTop;

void mirror_top_set_job(BlockDriverState *top, MirrorJob *s)
{
    ((MirrorTop *)top->opaque)->job = s;
}

/* Does write-through pay? Not while the whole range waits to be copied. */
static bool range_is_dirty(MirrorJob *s, const CopyOp *op)
{
    return bdrv_dirty_bitmap_next_zero(s->copy.dirty, op->offset, op->bytes) < 0;
}

/* Does the guest's write @op go to both sides? If so, until through_end(). */
static bool coroutine_fn through_begin(MirrorJob *s, CopyOp *op)
{
    if (!__atomic_load_n(&s->write_through, __ATOMIC_ACQUIRE)) {
        return false;
    }
    if (s->copy.opaque_granules && !QEMU_IS_ALIGNED(op->offset | op->bytes, s->copy.granularity)) {
        return false;           /* the target needs the whole granule */
    }
    if (!__atomic_load_n(&s->closing, __ATOMIC_RELAXED) && range_is_dirty(s, op)) {
        return false;
    }
    if (!copy_target_begin(&s->copy)) {
        return false;           /* drained: the job will copy it */
    }
    if (!copy_op_begin(&s->copy, op, &s->closing)) {
        copy_target_end(&s->copy);
        return false;
    }
    return true;
}

static void through_end(MirrorJob *s, CopyOp *op)
{
    copy_op_end(&s->copy, op);
    copy_target_end(&s->copy);
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
    if (!s->copy.unmap) {
        flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    if (kind == TOP_ZERO) {
        return copy_target_request(&s->copy, COPY_ZERO, offset, bytes, NULL, flags);
    }
    /* A copy, since the guest gets its buffer back even if the target never answers. */
    void *buf = qemu_try_blockalign(s->source, bytes);

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_to_buf(qiov, qiov_offset, buf, bytes);
    return copy_target_request(&s->copy, COPY_WRITE, offset, bytes, buf, flags);
}

static int coroutine_fn top_change(BlockDriverState *bs, TopKind kind, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    MirrorJob *s = ((MirrorTop *)bs->opaque)->job;

    if (!s) {
        return source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags);
    }
    __atomic_fetch_add(&s->guest_writes, 1, __ATOMIC_RELAXED);

    CopyOp op = { .offset = offset, .bytes = bytes };

    if (!through_begin(s, &op)) {
        int ret = source_change(bs, kind, offset, bytes, qiov, qiov_offset, flags);

        copy_mark_dirty(&s->copy, offset, bytes);    /* also after an error: contents may have changed */
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
        if (ret == 0 && tret < 0 && !__atomic_load_n(&s->copy.abandoned, __ATOMIC_RELAXED)) {
            __atomic_store_n(&s->target_error, -tret, __ATOMIC_RELAXED);
        }
        copy_mark_dirty(&s->copy, offset, bytes);
    }
    through_end(s, &op);
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

/* SPDX-License-Identifier: MIT */
/* copy_on_read.c: reads that keep what they find in lower layers.
 *
 * Whole clusters are copied, under a serialising request, so that no write comes between reading and writing them;
 * after that the read is one like any other. A guest's read does not fail because the copy did.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above.
 */
#include "io/io_private.h"

enum { COPY_BYTES_MAX = 1024 * 1024 };

/* 1: [@offset, +*n) is to be copied, 0: not, or -errno. */
static int coroutine_fn piece_wanted(BlockDriverState *bs, BlockDriverState *bottom, int64_t offset, int64_t bytes,
                                     int64_t *n)
{
    BlockDriverState *below;
    int ret = bdrv_co_is_allocated(bs, offset, bytes, n);

    if (ret) {
        return ret < 0 ? ret : 0;
    }
    below = bdrv_backing_chain_next(bs);
    if (!bottom) {
        return 1;
    }
    return below ? bdrv_co_is_allocated_above(below, bottom, true, offset, *n, n, NULL) : 0;
}

static int coroutine_fn copy_piece(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    uint8_t *buf = qemu_try_blockalign(bs, bytes);
    QEMUIOVector qiov;

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, buf, bytes);
    int ret = driver_preadv(bs, offset, bytes, &qiov, 0, 0);

    if (!ret) {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_COR_WRITE);
        ret = buffer_is_zero(buf, bytes) ? driver_pwrite_zeroes(bs, offset, bytes, BDRV_REQ_WRITE_UNCHANGED)
                                         : driver_pwritev(bs, offset, bytes, &qiov, 0, BDRV_REQ_WRITE_UNCHANGED);
        /* What reads there is the same as before: nobody has to be told but who flushes. */
        __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
    }
    qemu_vfree(buf);
    return ret;
}

/* Pieces of [@offset, @end), which is whole clusters or ends with the node. @copy false: 1 if there is any to copy. */
static int coroutine_fn for_pieces(BlockDriverState *bs, BlockDriverState *bottom, int64_t offset, int64_t end, bool copy)
{
    int64_t n;

    while (offset < end) {
        int ret = piece_wanted(bs, bottom, offset, MIN(end - offset, (int64_t)COPY_BYTES_MAX), &n);

        if (ret < 0 || (ret && !copy)) {
            return ret;
        }
        if (!n) {
            break;
        }
        if (ret) {
            ret = copy_piece(bs, offset, QEMU_ALIGN_UP(n, (int64_t)bs->bl.request_alignment));
        }
        if (ret < 0) {
            return ret;
        }
        offset += n;
    }
    return 0;
}

static int coroutine_fn copy_up(BlockDriverState *bs, BlockDriverState *bottom, int64_t offset, int64_t bytes)
{
    BlockDriverInfo info = { 0 };
    BdrvTrackedRequest req;
    int64_t cluster = bs->bl.request_alignment, length = bdrv_co_getlength(bs);

    if (bdrv_get_info(bs, &info) == 0 && info.cluster_size) {
        cluster = MAX(cluster, info.subcluster_size ? info.subcluster_size : info.cluster_size);
    }
    int64_t start = offset / cluster * cluster, end = MIN(QEMU_ALIGN_UP(offset + bytes, cluster), length);
    int ret = length < 0 ? length : for_pieces(bs, bottom, start, end, false);

    if (ret <= 0 || start >= end) {
        return ret;
    }
    ret = request_begin_serialising(&req, bs, start, end - start, 0);
    if (ret) {
        return ret;
    }
    ret = for_pieces(bs, bottom, start, end, true);
    request_end(&req, bs);
    return ret;
}

int coroutine_fn bdrv_co_preadv_copy(BdrvChild *child, BlockDriverState *bottom, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    int ret = request_check(bs, offset, bytes);

    if (ret || !bytes) {
        return ret;
    }
    g_assert(bdrv_child_perm(child) & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED));
    bdrv_inc_in_flight(bs);
    ret = copy_up(bs, bottom, offset, bytes);
    bdrv_dec_in_flight(bs);
    if (flags & BDRV_REQ_PREFETCH) {
        return ret;
    }
    return bdrv_co_preadv_part(child, offset, bytes, qiov, qiov_offset, flags);
}

/* SPDX-License-Identifier: MIT */
/* copy_range.c: copy between nodes without passing through memory, where both ends can.
 *
 * The source is followed down to the node that stores the bytes: through filters that only pass on,
 * and through formats by their block status, extent by extent. Then the destination goes down, each
 * level counting and marking the write, to a driver that can copy. Anything in between
 * that must see the data (a filter with a read or write of its own, unaligned ends, zeroes to be
 * made) gives -ENOTSUP: the caller copies through memory then.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on both nodes or above.
 */
#include "io/io_private.h"

typedef struct CopySource {
    BlockDriverState *bs;       /* stores the bytes */
    int64_t offset, bytes;      /* at most this much from there */
} CopySource;

static bool aligned_for(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return !((offset | bytes) & (bs->bl.request_alignment - 1));
}

/* Where @bytes at @offset of @bs lie. */
static int coroutine_fn source_find(BlockDriverState *bs, int64_t offset, int64_t bytes, CopySource *src)
{
    while (bs->drv && bs->drv->kind != BLOCK_DRIVER_PROTOCOL) {
        BlockDriverState *file = NULL;
        int64_t n, map = 0;

        if (is_filter(bs->drv)) {
            if (bs->drv->co_preadv) {
                return -ENOTSUP;
            }
            bs = filter_child(bs)->bs;
            continue;
        }
        int ret = bdrv_co_block_status(bs, offset, bytes, &n, &map, &file);

        if (ret < 0) {
            return ret;
        }
        if (!n || !(ret & BDRV_BLOCK_OFFSET_VALID) || !(ret & BDRV_BLOCK_DATA) || file == bs ||
            (ret & (BDRV_BLOCK_COMPRESSED | BDRV_BLOCK_ZERO))) {
            return -ENOTSUP;
        }
        bs = file;
        offset = map;
        bytes = n;
    }
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    *src = (CopySource) { bs, offset, bytes };
    return 0;
}

/* The largest piece that both ends take at once. */
static int64_t piece_max(const BlockDriverState *src, const BlockDriverState *dst)
{
    return MAX(MIN(transfer_max(src), transfer_max(dst)), 1);
}

static int coroutine_fn driver_copy_range(BlockDriverState *src, int64_t src_offset, BdrvChild *child,
                                          int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    BlockDriverState *dst = child->bs;
    int ret = 0;

    if (!dst->drv->co_copy_range) {
        if (!is_filter(dst->drv) || dst->drv->co_pwritev) {
            return -ENOTSUP;
        }
        return bdrv_co_copy_range_to(src, src_offset, filter_child(dst), offset, bytes, flags);
    }
    if (!aligned_for(dst, offset, bytes) || !aligned_for(src, src_offset, bytes)) {
        return -ENOTSUP;
    }
    for (int64_t n; bytes && !ret; src_offset += n, offset += n, bytes -= n) {
        n = MIN(bytes, piece_max(src, dst));
        ret = dst->drv->co_copy_range(src, src_offset, dst, offset, n,
                                      flags & dst->supported_write_flags);
        g_assert(ret <= 0);
    }
    if (!ret && (flags & ~dst->supported_write_flags & BDRV_REQ_FUA)) {
        __atomic_store_n(&dst->unflushed, 1, __ATOMIC_SEQ_CST);
        ret = bdrv_co_flush(dst);
    }
    return ret;
}

int coroutine_fn bdrv_co_copy_range_to(BlockDriverState *src, int64_t src_offset, BdrvChild *dst,
                                       int64_t dst_offset, int64_t bytes, BdrvRequestFlags flags)
{
    BlockDriverState *bs = dst->bs;
    BdrvTrackedRequest req;
    int ret = write_check(dst, dst_offset, bytes, flags);

    if (ret || !bytes) {
        return ret;
    }
    if (!write_within(dst, dst_offset + bytes)) {
        return -EIO;
    }
    if (flags & BDRV_REQ_SERIALISING) {
        ret = request_begin_serialising(&req, bs, dst_offset, bytes, flags);
        if (ret) {
            return ret;
        }
    } else {
        request_begin(&req, bs, dst_offset, bytes);
    }
    ret = driver_copy_range(src, src_offset, dst, dst_offset, bytes,
                            flags & ~(BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT));
    if (ret != -ENOTSUP) {
        write_finish(bs, dst_offset, bytes, flags, ret);
    }
    request_end(&req, bs);
    return ret;
}

/* The part of the source that one look finds in one place; *done: how much that was. */
static int coroutine_fn copy_extent(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset,
                                    int64_t bytes, BdrvRequestFlags write_flags, int64_t *done)
{
    CopySource at;
    int ret = source_find(src->bs, src_offset, bytes, &at);

    if (ret) {
        return ret;
    }
    *done = at.bytes;
    count_begin(at.bs);
    if (at.offset + at.bytes > bdrv_getlength_cached(at.bs)) {
        ret = -ENOTSUP;         /* zeroes behind its end */
    } else {
        ret = bdrv_co_copy_range_to(at.bs, at.offset, dst, dst_offset, at.bytes, write_flags);
    }
    count_end(at.bs);
    return ret;
}

int coroutine_fn bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset,
                                    int64_t bytes, BdrvRequestFlags read_flags, BdrvRequestFlags write_flags)
{
    BlockDriverState *from = src->bs;
    BdrvTrackedRequest req;
    int ret = request_check(from, src_offset, bytes);

    if (ret || !bytes) {
        return ret;
    }
    if (read_flags & BDRV_REQ_SERIALISING) {
        ret = request_begin_serialising(&req, from, src_offset, bytes, read_flags);
        if (ret) {
            return ret;
        }
    } else {
        request_begin(&req, from, src_offset, bytes);
    }
    for (int64_t n = 0; bytes && !ret; src_offset += n, dst_offset += n, bytes -= n) {
        ret = copy_extent(src, src_offset, dst, dst_offset, bytes, write_flags, &n);
    }
    request_end(&req, from);
    return ret;
}

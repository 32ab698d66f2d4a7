/* SPDX-License-Identifier: MIT */
/* compress.c: a filter that has everything written compressed.
 *
 * A stream holds a whole cluster, so the node asks for requests that are aligned to clusters: the
 * request path reads what a smaller write leaves out, one writer a cluster at a time. Reads, discards and
 * what the image says of itself pass on as they are; zeroes take no data and are passed on by whole
 * clusters. The last cluster may reach behind the end of the disk: what is there is not written.
 *
 * Runs on: the request's thread.
 */
#include "base/osdep.h"
#include "block/block.h"
#include "drivers/drivers.h"

/* Does a compressed write get from @bs to a format that can store it? */
static bool can_compress(BlockDriverState *bs)
{
    while (bs->drv->kind == BLOCK_DRIVER_FILTER && !bs->drv->co_pwritev && !bs->drv->co_pwritev_compressed) {
        bs = bdrv_primary_bs(bs);
        if (!bs) {
            return false;
        }
    }
    return bs->drv->co_pwritev_compressed;
}

static int coroutine_fn compress_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    BdrvChild *file = bdrv_co_open_child(bs, opts->u.compress.file, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                                         errp);

    if (!file) {
        return -EINVAL;
    }
    if (!can_compress(file->bs)) {
        error_setg(errp, "Compression is not supported for underlying format: %s", file->bs->drv->format_name);
        return -ENOTSUP;
    }
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA;
    bs->supported_zero_flags = file->bs->supported_zero_flags | BDRV_REQ_WRITE_UNCHANGED;
    return 0;
}

static int coroutine_fn compress_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                            size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t length = bdrv_getlength_cached(bs->file->bs);

    bytes = MIN(bytes, length - offset);
    return bytes <= 0 ? -EIO : bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset,
                                                    flags | BDRV_REQ_WRITE_COMPRESSED);
}

static int coroutine_fn compress_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                  BdrvRequestFlags flags)
{
    int64_t length = bdrv_getlength_cached(bs->file->bs);

    bytes = MIN(bytes, length - offset);
    return bytes <= 0 ? -EIO : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static void compress_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    BlockDriverInfo info;

    if (bdrv_get_info(bs->file->bs, &info) >= 0 && info.cluster_size) {
        bl->request_alignment = MAX(bl->request_alignment, info.cluster_size);
    }
}

const BlockDriver bdrv_compress = {
    .format_name = "compress",
    .kind = BLOCK_DRIVER_FILTER,
    .schema_driver = BLOCKDEV_DRIVER_COMPRESS,
    .co_open = compress_co_open,
    .refresh_limits = compress_refresh_limits,
    .co_pwritev = compress_co_pwritev,
    .co_pwrite_zeroes = compress_co_pwrite_zeroes,
};

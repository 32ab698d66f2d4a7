/* SPDX-License-Identifier: MIT */
/* ops_map.c: the extents of an image. */
#include "ops/ops.h"

static int coroutine_fn extent_at(BlockBackend *blk, int64_t start, int64_t length, OpsExtent *e, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk)), *file = NULL;
    int64_t n, map = 0;
    int ret = 0;

    /* Down the chain, until an image has it. */
    *e = (OpsExtent) { .start = start, .offset = -1 };
    for (;;) {
        file = NULL;
        ret = bdrv_co_block_status(bs, start, length, &n, &map, &file);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read where '%s' has data, at %" PRId64, bs->filename, start);
            return ret;
        }
        length = MIN(length, n);
        BlockDriverState *below = bdrv_backing_chain_next(bs);

        if ((ret & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED)) || !below) {
            break;
        }
        if (start >= bdrv_getlength_cached(below)) {
            ret = BDRV_BLOCK_ZERO;      /* beyond its end */
            break;
        }
        length = MIN(length, bdrv_getlength_cached(below) - start);
        bs = below;
        e->depth++;
    }
    e->length = length;
    e->data = ret & BDRV_BLOCK_DATA;
    e->zero = ret & BDRV_BLOCK_ZERO;
    e->present = ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED);
    e->compressed = ret & BDRV_BLOCK_COMPRESSED;
    if (ret & BDRV_BLOCK_OFFSET_VALID) {
        e->offset = map;
        e->file = file ? file->filename : NULL;
    }
    return 0;
}

static bool extents_join(const OpsExtent *a, const OpsExtent *b)
{
    return a->depth == b->depth && a->present == b->present && a->zero == b->zero && a->data == b->data &&
           a->compressed == b->compressed && a->file == b->file &&
           (a->offset < 0 ? b->offset < 0 : b->offset == a->offset + a->length);
}

int coroutine_fn ops_map_range(BlockBackend *blk, int64_t start, int64_t bytes,
                               int (*fn)(const OpsExtent *e, void *opaque), void *opaque, Error **errp)
{
    int64_t length = blk_co_getlength(blk), at = start;
    OpsExtent run = { .length = 0 }, e;
    int ret = 0;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of the image");
        return length;
    }
    if (start < length) {
        length = start + MIN(bytes, length - start);
    }
    while (at < length && ret == 0) {
        ret = extent_at(blk, at, length - at, &e, errp);
        if (ret < 0) {
            return ret;
        }
        at += e.length;
        if (run.length && extents_join(&run, &e)) {
            run.length += e.length;
            continue;
        }
        if (run.length) {
            ret = fn(&run, opaque);
        }
        run = e;
    }
    return ret == 0 && run.length ? fn(&run, opaque) : ret;
}

int coroutine_fn ops_map(BlockBackend *blk, int (*fn)(const OpsExtent *e, void *opaque), void *opaque, Error **errp)
{
    return ops_map_range(blk, 0, INT64_MAX, fn, opaque, errp);
}

/* SPDX-License-Identifier: MIT */
/* copy_on_read.c: the copy-on-read filter: what is read through it and lies in a backing image is kept in the image
 * it stands on. With `bottom` only what lies above that node, or in it.
 *
 * Runs on: the request's thread. State is constant after open.
 */
#include "drivers/drivers.h"
#include "base/osdep.h"
#include "block/block_int-global-state.h"

typedef struct CopyOnReadState {
    BlockDriverState *bottom;   /* a reference; NULL: none */
} CopyOnReadState;

static int find_bottom(CopyOnReadState *s, const char *name, Error **errp)
{
    BlockDriverState *bottom = bdrv_find_node(name);

    if (!bottom) {
        error_setg(errp, "Bottom node '%s' not found", name);
        return -EINVAL;
    }
    if (bottom->drv->kind == BLOCK_DRIVER_FILTER) {
        error_setg(errp, "Bottom node '%s' is a filter", name);
        return -EINVAL;
    }
    bdrv_ref(bottom);
    s->bottom = bottom;
    return 0;
}

static int coroutine_fn cor_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsCor *o = &opts->u.copy_on_read;

    if (!bdrv_co_open_child(bs, o->file, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        return -EINVAL;
    }
    bs->supported_write_flags = BDRV_REQ_FUA & bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) &
                               bs->file->bs->supported_zero_flags;
    return o->bottom ? find_bottom(bs->opaque, o->bottom, errp) : 0;
}

static void coroutine_fn cor_co_close(BlockDriverState *bs)
{
    CopyOnReadState *s = bs->opaque;

    bdrv_unref(s->bottom);
}

static void cor_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                           uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, c, role, queue, perm, shared, nperm, nshared);
    *nperm |= BLK_PERM_WRITE_UNCHANGED;         /* also of readers: it is what the filter is for */
    *nshared |= BLK_PERM_WRITE_UNCHANGED;
}

static int coroutine_fn cor_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset, BdrvRequestFlags flags)
{
    CopyOnReadState *s = bs->opaque;

    return bdrv_co_preadv_copy(bs->file, s->bottom, offset, bytes, qiov, qiov_offset, flags);
}

const BlockDriver bdrv_copy_on_read = {
    .format_name        = "copy-on-read",
    .kind               = BLOCK_DRIVER_FILTER,
    .schema_driver      = BLOCKDEV_DRIVER_COPY_ON_READ,
    .instance_size      = sizeof(CopyOnReadState),
    .co_open            = cor_co_open,
    .co_close           = cor_co_close,
    .child_perm         = cor_child_perm,
    .co_preadv          = cor_co_preadv,
};

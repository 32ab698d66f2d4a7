/* SPDX-License-Identifier: MIT */
/* vmstate.c: the saved state of a machine, which formats keep beside the disk. Any thread, coroutines. */
#include "io/io_private.h"

static int coroutine_fn vmstate_rw(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov, bool is_write)
{
    int coroutine_fn (*fn)(BlockDriverState *, int64_t, QEMUIOVector *) =
        !bs->drv ? NULL : is_write ? bs->drv->co_save_vmstate : bs->drv->co_load_vmstate;
    BlockDriverState *below = bdrv_primary_bs(bs);
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (pos < 0 || (uint64_t)pos + qiov->size > INT64_MAX) {
        return -EIO;
    }
    if (is_write && bs->read_only) {
        return -EROFS;
    }
    bdrv_inc_in_flight(bs);
    ret = fn ? fn(bs, pos, qiov) : below ? vmstate_rw(below, pos, qiov, is_write) : -ENOTSUP;
    bdrv_dec_in_flight(bs);
    return ret;
}

int coroutine_fn bdrv_co_load_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov)
{
    return vmstate_rw(bs, pos, qiov, false);
}

int coroutine_fn bdrv_co_save_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov)
{
    return vmstate_rw(bs, pos, qiov, true);
}

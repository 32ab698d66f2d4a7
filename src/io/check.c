/* SPDX-License-Identifier: MIT */
/* check.c: what is done to an image as a whole: looking for errors, emptying it. Main thread. */
#include "io/io_private.h"

int coroutine_fn bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix)
{
    BdrvCheckResult clean = { .report = res->report, .opaque = res->opaque };
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!bs->drv->co_check) {
        return -ENOTSUP;
    }
    if (fix && bs->read_only) {
        return -EROFS;
    }
    *res = clean;
    bdrv_drained_begin(bs);
    ret = bs->drv->co_check(bs, res, fix);
    bdrv_drained_end(bs);
    return ret;
}

int coroutine_fn bdrv_co_make_empty(BlockDriverState *bs)
{
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!bs->drv->co_make_empty) {
        return -ENOTSUP;
    }
    if (bs->read_only) {
        return -EROFS;
    }
    bdrv_drained_begin(bs);
    ret = bs->drv->co_make_empty(bs);
    bdrv_drained_end(bs);
    return ret < 0 ? ret : bdrv_co_flush(bs);
}

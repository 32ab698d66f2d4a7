/* SPDX-License-Identifier: MIT */
/* check.c: what is done to an image as a whole: looking for errors, emptying it, changing
 * what it is. Main thread. */
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

int coroutine_fn bdrv_co_amend(BlockDriverState *bs, const BdrvAmendOptions *options, Error **errp)
{
    int64_t old = bdrv_getlength_cached(bs);
    BdrvWriteObserver *obs;
    int ret;

    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    if (!bs->drv->co_amend && !bs->drv->co_amend_keys) {
        error_setg(errp, "Format driver '%s' does not support option amendment", bs->drv->format_name);
        return -ENOTSUP;
    }
    if (bs->read_only) {
        error_setg(errp, "Device '%s' is read only", bdrv_get_device_or_node_name(bs));
        return -EACCES;
    }
    if (options->encrypt) {
        if (!bs->drv->co_amend_keys) {
            error_setg(errp, "Can't amend encryption options - encryption not present");
            return -EINVAL;
        }
        ret = bs->drv->co_amend_keys(bs, options->encrypt, options->force, errp);
        if (ret < 0 || options->only_encrypt) {
            return ret;
        }
    }
    if (!bs->drv->co_amend) {
        return 0;
    }
    bdrv_drained_begin(bs);
    ret = bs->drv->co_amend(bs, options, errp);
    bdrv_co_refresh_length(bs);
    if (bdrv_getlength_cached(bs) != old) {
        LIST_FOREACH(obs, &bs->write_observers, link) {
            if (obs->resized) {
                obs->resized(obs, bdrv_getlength_cached(bs));
            }
        }
        parents_resized(bs);
    }
    bdrv_drained_end(bs);
    return ret;
}

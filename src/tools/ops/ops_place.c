/* SPDX-License-Identifier: MIT */
/* ops_place.c: targets that cannot be made, only used as they are: devices, exports of NBD servers. */
#include "ops/ops.h"
#include "block/block_int-common.h"
#include "graph/filename.h"

/* The options of the protocol node, or NULL. */
static QDict *protocol_options(const char *filename)
{
    return ops_tls_is(filename) ? NULL : graph_options_of_filename(filename, NULL);
}

bool ops_place_is(const char *filename)
{
    g_autoptr(QDict) d = protocol_options(filename);
    const char *driver = d ? qdict_get_try_str(d, "driver") : NULL;

    return ops_tls_is(filename) || !g_strcmp0(driver, "host_device") || !g_strcmp0(driver, "nbd");
}

QDict *ops_place_options(const char *filename, Error **errp)
{
    QDict *whole, *d;

    if (!ops_tls_is(filename)) {
        return graph_options_of_filename(filename, errp);
    }
    whole = qdict_new();
    d = ops_tls_put(filename, whole, errp) < 0 ? NULL : qdict_ref(qdict_get(whole, "file"));
    qdict_unref(whole);
    return d;
}

/* No program shall take it for what it was. */
static int coroutine_fn forget_beginning(BlockBackend *blk)
{
    static const uint8_t zeroes[BDRV_SECTOR_SIZE];
    int64_t bytes = MIN(blk_co_getlength(blk), BDRV_SECTOR_SIZE);

    return bytes <= 0 ? bytes : blk_co_pwrite(blk, 0, bytes, zeroes, 0);
}

int coroutine_fn ops_place_take(const char *filename, int64_t bytes, Error **errp)
{
    ERRP_GUARD();
    QDict *d = ops_place_options(filename, errp);
    g_autofree char *driver = d ? g_strdup(qdict_get_try_str(d, "driver")) : NULL;
    BlockBackend *blk = d ? blk_new_open(NULL, NULL, d, BDRV_O_RDWR | BDRV_O_RESIZE, errp) : NULL;
    int ret;

    if (!blk) {
        if (d) {
            error_prepend(errp, "Protocol driver '%s' does not support image creation, and opening the image failed: ", driver);
        }
        return -EIO;
    }
    ret = blk_co_truncate(blk, bytes, false, PREALLOC_MODE_OFF, 0, errp);
    if (!ret) {
        ret = forget_beginning(blk);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to clear the new image's first sector");
        }
    }
    blk_unref(blk);
    return ret;
}

/* ---- what is new may be of old matter ---- */

static bool uses_place(BlockDriverState *bs)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (!(c->role & BDRV_CHILD_COW) && uses_place(c->bs)) {
            return true;
        }
    }
    return bs->drv->fixed_length;
}

bool coroutine_fn ops_new_is_zero(BlockBackend *target)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(target));
    int64_t length = bdrv_getlength_cached(bs), n;
    BlockDriverInfo info = { 0 };
    int ret = BDRV_BLOCK_ZERO;

    bdrv_get_info(bs, &info);
    if (!info.encrypted && !uses_place(bs)) {
        return true;
    }
    for (int64_t at = 0; at < length && (ret & BDRV_BLOCK_ZERO); at += n) {
        ret = bdrv_co_block_status(bs, at, length - at, &n, NULL, NULL);
        if (ret < 0 || n <= 0) {
            return false;
        }
    }
    return ret & BDRV_BLOCK_ZERO;
}

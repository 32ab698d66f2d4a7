/* SPDX-License-Identifier: MIT */
/* ops_place.c: targets that cannot be made, only used as they are: devices, exports of NBD servers. */
#include "ops/ops.h"
#include "block/block_int-common.h"
#include "graph/filename.h"
#include <sys/stat.h>

static bool is_device(const char *filename)
{
    struct stat st;

    return stat(filename, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
}

bool ops_place_is(const char *filename)
{
    static const char *const protocols[] = { "nbd:", "nbd+tcp:", "nbd+unix:", "host_device:" };

    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++) {
        if (g_str_has_prefix(filename, protocols[i])) {
            return true;
        }
    }
    return ops_tls_is(filename) || is_device(filename);
}

QDict *ops_place_options(const char *filename, Error **errp)
{
    QDict *d;

    if (ops_tls_is(filename)) {
        return ops_tls_node(filename, errp);
    }
    if (!is_device(filename)) {
        return graph_options_of_filename(filename, errp);
    }
    d = qdict_new();
    qdict_put_str(d, "driver", "host_device");
    qdict_put_str(d, "filename", filename);
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
    BlockBackend *blk = d ? blk_new_open(NULL, NULL, d, BDRV_O_RDWR | BDRV_O_RESIZE, errp) : NULL;
    int ret;

    if (!blk) {
        return -ENXIO;
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

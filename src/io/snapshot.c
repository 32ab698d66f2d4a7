/* SPDX-License-Identifier: MIT */
/* snapshot.c: snapshots inside images: finding the node that has them, and telling those above. */
#include "block/snapshot.h"
#include "io/io_private.h"

/* The node at or below @bs whose format keeps snapshots; NULL: none. */
static BlockDriverState *snapshot_node(BlockDriverState *bs)
{
    while (bs && bs->drv && !bs->drv->snapshot_list) {
        bool passes = bs->drv->kind == BLOCK_DRIVER_FILTER || !strcmp(bs->drv->format_name, "raw");
        BlockDriverState *below = passes ? bdrv_primary_bs(bs) : NULL;

        bs = below && bdrv_getlength_cached(below) == bdrv_getlength_cached(bs) ? below : NULL;
    }
    return bs && bs->drv ? bs : NULL;
}

bool bdrv_can_snapshot(BlockDriverState *bs)
{
    bs = snapshot_node(bs);
    return bs && bs->drv->co_snapshot_create && !bs->read_only;
}

int bdrv_snapshot_list(BlockDriverState *bs, QEMUSnapshotInfo **list)
{
    *list = NULL;
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    bs = snapshot_node(bs);
    return bs ? bs->drv->snapshot_list(bs, list) : -ENOTSUP;
}

static bool find(BlockDriverState *bs, const char *id, const char *name, QEMUSnapshotInfo *info, int *ret)
{
    g_autofree QEMUSnapshotInfo *list = NULL;

    *ret = bdrv_snapshot_list(bs, &list);
    for (int i = 0; i < *ret; i++) {
        if ((!id || !strcmp(list[i].id_str, id)) && (!name || !strcmp(list[i].name, name))) {
            *info = list[i];
            return true;
        }
    }
    return false;
}

bool bdrv_snapshot_find(BlockDriverState *bs, QEMUSnapshotInfo *info, const char *name)
{
    int ret;

    return find(bs, NULL, name, info, &ret);
}

bool bdrv_snapshot_find_by_id_and_name(BlockDriverState *bs, const char *id, const char *name,
                                       QEMUSnapshotInfo *info, Error **errp)
{
    int ret;
    bool found = find(bs, id, name, info, &ret);

    g_assert(id || name);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to get a snapshot list");
    }
    return found;
}

/* ---- changing ---- */

/* Ready to be changed? The node, or NULL, -errno in *ret and *errp. */
static BlockDriverState *writable_node(BlockDriverState *bs, const char *unsupported, int *ret, Error **errp)
{
    BlockDriverState *at = snapshot_node(bs);

    if (!bs->drv) {
        error_setg(errp, "Block driver is closed");
        *ret = -ENOMEDIUM;
        return NULL;
    }
    if (!at || !at->drv->co_snapshot_create) {
        error_setg(errp, "%s", unsupported);
        *ret = -ENOTSUP;
        return NULL;
    }
    if (at->read_only) {
        error_setg(errp, "Device '%s' is read only", bdrv_get_device_or_node_name(bs));
        *ret = -EACCES;
        return NULL;
    }
    return at;
}

int coroutine_fn bdrv_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info, Error **errp)
{
    int ret = 0;
    BlockDriverState *at = writable_node(bs, "Operation not supported", &ret, errp);

    if (!at) {
        return ret;
    }
    bdrv_drained_begin(bs);
    ret = at->drv->co_snapshot_create(at, info, errp);
    bdrv_drained_end(bs);
    return ret;
}

/* Everything at @bs may have changed. */
static void everything_changed(BlockDriverState *bs, int64_t old_length)
{
    int64_t length = bdrv_getlength_cached(bs);
    BdrvWriteObserver *obs;

    __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
    LIST_FOREACH(obs, &bs->write_observers, link) {
        if (length != old_length && obs->resized) {
            obs->resized(obs, length);
        }
        if (length) {
            obs->written(obs, 0, length);
        }
    }
    if (length != old_length) {
        parents_resized(bs);
    }
}

int coroutine_fn bdrv_snapshot_goto(BlockDriverState *bs, const char *id_or_name, Error **errp)
{
    int ret = 0;
    BlockDriverState *at = writable_node(bs, "Block driver does not support snapshots", &ret, errp);
    int64_t old;

    if (!at) {
        return ret;
    }
    bdrv_drained_begin(bs);
    old = bdrv_getlength_cached(at);
    ret = at->drv->co_snapshot_goto(at, id_or_name, errp);
    if (!ret) {
        bdrv_co_refresh_length(at);
        for (BlockDriverState *up = bs; up != at; up = bdrv_primary_bs(up)) {
            bdrv_co_refresh_length(up);
        }
        everything_changed(at, old);
    }
    bdrv_drained_end(bs);
    return ret;
}

int coroutine_fn bdrv_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    g_autofree char *unsupported =
        g_strdup_printf("Block format '%s' used by device '%s' does not support internal snapshot deletion",
                        bs->drv ? bs->drv->format_name : "", bdrv_get_device_or_node_name(bs));
    int ret = 0;
    BlockDriverState *at;

    g_assert(id || name);
    at = writable_node(bs, unsupported, &ret, errp);
    if (!at) {
        return ret;
    }
    bdrv_drained_begin(bs);
    ret = at->drv->co_snapshot_delete(at, id, name, errp);
    bdrv_drained_end(bs);
    return ret;
}

/* ---- looking at one ---- */

int coroutine_fn bdrv_snapshot_load_tmp(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    int ret;

    if (!bs->drv) {
        error_setg(errp, "Block driver is closed");
        return -ENOMEDIUM;
    }
    if (!bs->read_only) {
        error_setg(errp, "Device is not readonly");
        return -EINVAL;
    }
    if (!bs->drv->co_snapshot_load) {
        error_setg(errp, "Block format '%s' used by device '%s' does not support temporarily loading internal "
                   "snapshots", bs->drv->format_name, bdrv_get_device_name(bs));
        return -ENOTSUP;
    }
    bdrv_drained_begin(bs);
    ret = bs->drv->co_snapshot_load(bs, id, name, errp);
    if (!ret) {
        int64_t old = bdrv_getlength_cached(bs);

        bdrv_co_refresh_length(bs);
        everything_changed(bs, old);
    }
    bdrv_drained_end(bs);
    return ret;
}

int coroutine_fn bdrv_snapshot_load_tmp_by_id_or_name(BlockDriverState *bs, const char *id_or_name, Error **errp)
{
    QEMUSnapshotInfo info;
    int ret;

    if (find(bs, id_or_name, NULL, &info, &ret)) {
        return bdrv_snapshot_load_tmp(bs, id_or_name, NULL, errp);
    }
    return bdrv_snapshot_load_tmp(bs, NULL, id_or_name, errp);
}

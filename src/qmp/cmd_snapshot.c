/* SPDX-License-Identifier: MIT */
/* cmd_snapshot.c: snapshots inside images. Each command runs in a coroutine that holds the control lock. */
#include "base/osdep.h"
#include "block/block_int-global-state.h"
#include "block/snapshot.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

SnapshotInfo *qmp_snapshot_info(const QEMUSnapshotInfo *sn)
{
    SnapshotInfo *info = g_new0(SnapshotInfo, 1);

    info->id = g_strdup(sn->id_str);
    info->name = g_strdup(sn->name);
    info->vm_state_size = sn->vm_state_size;
    info->date_sec = sn->date_sec;
    info->date_nsec = sn->date_nsec;
    info->vm_clock_sec = sn->vm_clock_nsec / 1000000000;
    info->vm_clock_nsec = sn->vm_clock_nsec % 1000000000;
    info->has_icount = sn->icount != UINT64_MAX;
    info->icount = info->has_icount ? sn->icount : 0;
    return info;
}

SnapshotInfoList *qmp_snapshot_infos(BlockDriverState *bs)
{
    g_autofree QEMUSnapshotInfo *list = NULL;
    int n = bs->drv->snapshot_list ? bdrv_snapshot_list(bs, &list) : 0;
    SnapshotInfoList *out = NULL;

    for (int i = n; i-- > 0;) {
        SnapshotInfoList *e = g_new0(SnapshotInfoList, 1);

        e->value = qmp_snapshot_info(&list[i]);
        e->next = out;
        out = e;
    }
    return out;
}

/* The node that @device names, which is not in use by a job; NULL and *errp. */
static BlockDriverState *node_of(const char *device, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(device, device, errp);

    return bs && !qmp_node_is_busy(bs, true, errp) ? bs : NULL;
}

void qmp_blockdev_snapshot_internal_sync(const char *device, const char *name, Error **errp)
{
    BlockDriverState *bs = node_of(device, errp);
    QEMUSnapshotInfo sn = { .icount = UINT64_MAX }, old;
    int64_t now_us = g_get_real_time();
    Error *err = NULL;

    if (!bs) {
        return;
    }
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Device '%s' is read only", device);
        return;
    }
    if (!bdrv_can_snapshot(bs)) {
        error_setg(errp, "Block format '%s' used by device '%s' does not support internal snapshots",
                   bs->drv->format_name, device);
        return;
    }
    if (!*name) {
        error_setg(errp, "Name is empty");
        return;
    }
    if (bdrv_snapshot_find_by_id_and_name(bs, NULL, name, &old, &err)) {
        error_setg(errp, "Snapshot with name '%s' already exists on device '%s'", name, device);
        return;
    }
    if (err) {
        error_propagate(errp, err);
        return;
    }
    g_strlcpy(sn.name, name, sizeof(sn.name));
    sn.date_sec = now_us / 1000000;
    sn.date_nsec = now_us % 1000000 * 1000;
    sn.vm_clock_nsec = now_us * 1000;
    if (bdrv_snapshot_create(bs, &sn, &err) < 0) {
        error_prepend(&err, "Failed to create snapshot '%s' on device '%s': ", name, device);
        error_propagate(errp, err);
    }
}

SnapshotInfo *qmp_blockdev_snapshot_delete_internal_sync(const char *device, const char *id, const char *name,
                                                         Error **errp)
{
    BlockDriverState *bs = node_of(device, errp);
    QEMUSnapshotInfo sn;
    Error *err = NULL;

    if (!bs) {
        return NULL;
    }
    if (!id && !name) {
        error_setg(errp, "Name or id must be provided");
        return NULL;
    }
    if (!bdrv_snapshot_find_by_id_and_name(bs, id, name, &sn, &err)) {
        if (err) {
            error_propagate(errp, err);
        } else {
            error_setg(errp, "Snapshot with id '%s' and name '%s' does not exist on device '%s'", id ? id : "null",
                       name ? name : "null", device);
        }
        return NULL;
    }
    if (bdrv_snapshot_delete(bs, id, name, errp) < 0) {
        return NULL;
    }
    return qmp_snapshot_info(&sn);
}

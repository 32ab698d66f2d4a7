/* SPDX-License-Identifier: MIT */
/* cmd_export.c: commands on exports, the NBD server and objects. */
#include "base/osdep.h"
#include "base/str.h"
#include "block/export.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

int nbd_server_start_options(NbdServerOptions *arg, Error **errp)
{
    return nbd_server_start(arg, errp);
}

void qmp_nbd_server_start(NbdServerOptionsLegacy *arg, Error **errp)
{
    SocketAddress flat = { .type = arg->addr->type };
    NbdServerOptions options = {
        .addr = &flat, .handshake_max_seconds = arg->handshake_max_seconds,
        .max_connections = arg->max_connections, .tls_creds = arg->tls_creds, .tls_authz = arg->tls_authz,
    };

    switch (flat.type) {
    case SOCKET_ADDRESS_TYPE_UNIX:
        flat.u.q_unix = *arg->addr->u.q_unix.data;
        break;
    case SOCKET_ADDRESS_TYPE_INET:
        flat.u.inet = *arg->addr->u.inet.data;
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        flat.u.vsock = *arg->addr->u.vsock.data;
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        flat.u.fd = *arg->addr->u.fd.data;
        break;
    default:
        g_assert_not_reached();
    }
    nbd_server_start_options(&options, errp);
}

void qmp_nbd_server_stop(Error **errp)
{
    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running");
        return;
    }
    nbd_server_stop(errp);
}

void qmp_block_export_add(BlockExportOptions *arg, Error **errp)
{
    blk_exp_add(arg, errp);
}

void qmp_nbd_server_add(NbdServerAddOptions *arg, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(arg->device, arg->device, errp);
    const char *name = arg->name ? arg->name : arg->device;

    if (!bs) {
        return;
    }
    if (blk_exp_find(name)) {
        error_setg(errp, "Block export id '%s' is already in use", name);
        return;
    }
    if (nbd_export_find(name)) {
        error_setg(errp, "NBD server already has export named '%s'", name);
        return;
    }
    BlockDirtyBitmapOrStr bitmap = { .type = QTYPE_QSTRING, .u.local = arg->bitmap };
    BlockDirtyBitmapOrStrList bitmaps = { .value = &bitmap };
    BlockExportOptions opts = {
        .type = BLOCK_EXPORT_TYPE_NBD, .id = (char *)name, .node_name = bs->node_name, .has_writable = true,
        .writable = arg->writable && !bdrv_is_read_only(bs),
        .u.nbd = { .name = (char *)name, .description = arg->description,
                   .bitmaps = arg->bitmap ? &bitmaps : NULL },
    };

    blk_exp_add(&opts, errp);
}

static void export_del(const char *id, BlockExport *exp, BlockExportRemoveMode mode, Error **errp)
{
    if (!exp) {
        error_setg(errp, "Export '%s' is not found", id);
        return;
    }
    if (mode == BLOCK_EXPORT_REMOVE_MODE_SAFE && exp->drv->users(exp) > 0) {
        error_setg(errp, "export '%s' still in use", exp->id);
        error_append_hint(errp, "Use mode='hard' to force client disconnect\n");
        return;
    }
    blk_exp_request_shutdown(exp);
}

void qmp_block_export_del(const char *id, bool has_mode, BlockExportRemoveMode mode, Error **errp)
{
    export_del(id, blk_exp_find(id), has_mode ? mode : BLOCK_EXPORT_REMOVE_MODE_SAFE, errp);
}

void qmp_nbd_server_remove(const char *name, bool has_mode, BlockExportRemoveMode mode, Error **errp)
{
    BlockExport *exp = blk_exp_find(name);

    export_del(name, exp ? exp : nbd_export_find(name), has_mode ? mode : BLOCK_EXPORT_REMOVE_MODE_SAFE, errp);
}

BlockExportInfoList *qmp_query_block_exports(Error **errp)
{
    BlockExportInfoList *list = NULL, **tail = &list;

    for (BlockExport *exp = blk_exp_next(NULL); exp; exp = blk_exp_next(exp)) {
        BlockExportInfo *info = g_new0(BlockExportInfo, 1);

        info->id = g_strdup(exp->id);
        info->type = exp->drv->type;
        info->node_name = g_strdup(blk_bs(exp->blk)->node_name);
        info->shutting_down = exp->shutting_down;
        *tail = g_new0(BlockExportInfoList, 1);
        (*tail)->value = info;
        tail = &(*tail)->next;
    }
    return list;
}

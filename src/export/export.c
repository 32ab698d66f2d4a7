/* SPDX-License-Identifier: MIT */
/* export.c: the list of exports; see block/export.h. */
#include "base/osdep.h"
#include "base/str.h"
#include "block/export.h"
#include "export/nbd_server.h"
#include "qapi-events.h"

static LIST_HEAD(, BlockExport) exports = LIST_HEAD_INITIALIZER(exports);

static const BlockExportDriver *const export_drivers[] = { &blk_exp_nbd };

BlockExport *blk_exp_find(const char *id)
{
    BlockExport *exp;

    LIST_FOREACH(exp, &exports, link) {
        if (exp->user_owned && !strcmp(exp->id, id)) {
            return exp;
        }
    }
    return NULL;
}

BlockExport *blk_exp_next(BlockExport *exp)
{
    exp = exp ? LIST_NEXT(exp, link) : LIST_FIRST(&exports);
    while (exp && !exp->user_owned) {
        exp = LIST_NEXT(exp, link);
    }
    return exp;
}

static bool id_taken(const char *id)
{
    BlockExport *exp;

    LIST_FOREACH(exp, &exports, link) {
        if (!strcmp(exp->id, id)) {
            return true;
        }
    }
    return false;
}

static int choose_context(BlockExportOptions *opts, BlockDriverState *bs, IOThread **iothread, Error **errp)
{
    *iothread = NULL;
    if (!opts->iothread) {
        if (opts->has_fixed_iothread && opts->fixed_iothread) {
            error_setg(errp, "Parameter 'iothread' is missing");
            return -EINVAL;
        }
        return 0;
    }
    *iothread = iothread_by_id(opts->iothread);
    if (!*iothread) {
        error_setg(errp, "iothread \"%s\" not found", opts->iothread);
        return -ENOENT;
    }
    return bdrv_try_change_aio_context(bs, iothread_get_aio_context(*iothread), NULL,
                                       opts->has_fixed_iothread && opts->fixed_iothread ? errp : NULL) < 0 &&
           opts->has_fixed_iothread && opts->fixed_iothread ? -EPERM : 0;
}

BlockExport *blk_exp_add(BlockExportOptions *opts, Error **errp)
{
    const BlockExportDriver *drv = export_drivers[0];
    bool writable = opts->has_writable && opts->writable;
    uint64_t perm = BLK_PERM_CONSISTENT_READ | (writable ? BLK_PERM_WRITE : 0);
    BlockDriverState *bs;
    IOThread *iothread;

    g_assert(drv->type == opts->type);
    if (!id_wellformed(opts->id)) {
        error_setg(errp, "Invalid block export id");
        return NULL;
    }
    if (id_taken(opts->id)) {
        error_setg(errp, "Block export id '%s' is already in use", opts->id);
        return NULL;
    }
    bs = bdrv_lookup_bs(NULL, opts->node_name, errp);
    /* Attaching the export waits for the node's requests: not for ever. */
    if (!bs || bdrv_try_drain(bs, errp) < 0 || choose_context(opts, bs, &iothread, errp) < 0) {
        return NULL;
    }
    if (writable && bdrv_is_read_only(bs) && !(bs->open_flags & BDRV_O_AUTO_RDONLY)) {
        error_setg(errp, "Cannot export read-only node as writable");
        return NULL;
    }
    bs = bdrv_guest_node(bs);
    BlockBackend *blk = blk_new(bdrv_get_aio_context(bs), perm, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);

    if (blk_insert_bs(blk, bs, errp) < 0) {
        blk_unref(blk);
        return NULL;
    }
    blk_set_allow_aio_context_change(blk, !(opts->has_fixed_iothread && opts->fixed_iothread));

    BlockExport *exp = g_malloc0(drv->instance_size);

    exp->drv = drv;
    exp->id = g_strdup(opts->id);
    exp->refcnt = 1;
    exp->blk = blk;
    exp->iothread = iothread;
    exp->ctx = iothread ? iothread_get_aio_context(iothread) : qemu_get_aio_context();
    if (iothread) {
        iothread_ref(iothread);
    }
    if (drv->create(exp, opts, errp) < 0) {
        if (iothread) {
            iothread_unref(iothread);
        }
        blk_unref(blk);
        g_free(exp->id);
        g_free(exp);
        return NULL;
    }
    exp->user_owned = true;
    LIST_INSERT_HEAD(&exports, exp, link);
    return exp;
}

void blk_exp_ref(BlockExport *exp)
{
    g_assert(qemu_in_main_thread());
    exp->refcnt++;
}

void blk_exp_unref(BlockExport *exp)
{
    g_assert(qemu_in_main_thread() && exp->refcnt > 0);
    if (--exp->refcnt) {
        return;
    }
    LIST_REMOVE(exp, link);
    exp->drv->free(exp);
    blk_unref(exp->blk);
    if (exp->iothread) {
        iothread_unref(exp->iothread);
    }
    qapi_event_send_block_export_deleted(exp->id);
    g_free(exp->id);
    g_free(exp);
    aio_wait_kick();
}

void blk_exp_request_shutdown(BlockExport *exp)
{
    if (exp->shutting_down) {
        return;
    }
    blk_exp_ref(exp);
    exp->shutting_down = true;
    exp->drv->request_shutdown(exp);
    exp->user_owned = false;
    blk_exp_unref(exp);         /* the list's */
    blk_exp_unref(exp);
}

unsigned blk_exp_count(BlockExportType type)
{
    BlockExport *exp;
    unsigned n = 0;

    LIST_FOREACH(exp, &exports, link) {
        n += type == BLOCK_EXPORT_TYPE__MAX || exp->drv->type == type;
    }
    return n;
}

void blk_exp_request_shutdown_all(BlockExportType type)
{
    BlockExport *exp, *next;

    LIST_FOREACH_SAFE(exp, &exports, link, next) {
        if (type == BLOCK_EXPORT_TYPE__MAX || exp->drv->type == type) {
            blk_exp_request_shutdown(exp);
        }
    }
}

static bool any_of_type(void *opaque)
{
    return blk_exp_count(*(BlockExportType *)opaque) > 0;
}

/* Changes when an export ends, or a request of one. */
static uint64_t look_at_type(void *opaque)
{
    BlockExport *exp;
    uint64_t h = 0;

    LIST_FOREACH(exp, &exports, link) {
        if (exp->drv->type == *(BlockExportType *)opaque) {
            h = h * 31 + 1 + blk_in_flight(exp->blk);
        }
    }
    return h;
}

int blk_exp_close_all_type(BlockExportType type, Error **errp)
{
    BlockExport *exp;

    blk_exp_request_shutdown_all(type);
    if (aio_wait_while_moving(any_of_type, look_at_type, &type)) {
        return 0;
    }
    LIST_FOREACH(exp, &exports, link) {
        if (exp->drv->type == type) {
            error_setg(errp, "Export '%s' waits for requests to node '%s' that do not end", exp->id,
                       blk_bs(exp->blk)->node_name);
            break;
        }
    }
    return -ETIMEDOUT;
}

/* SPDX-License-Identifier: MIT */
/* child.c: edges: attach, detach, replace, and what is made of these.
 *
 * Every function here is one edit (graph_private.h): it drains both ends of what it
 * changes, and takes effect as a whole or not at all.
 *
 * Runs on: the main thread.  Suspends: all functions that change something.
 */
#include "base/osdep.h"
#include "graph/graph_private.h"

/* ---- a node as parent ---- */

static char *bds_parent_desc(BdrvChild *c)
{
    return g_strdup_printf("node '%s'", bdrv_get_node_name(c->opaque));
}

static void bds_drained_begin(BdrvChild *c)
{
    bdrv_drained_begin_no_poll(c->opaque);
}

static bool bds_drained_poll(BdrvChild *c)
{
    return bdrv_drain_poll(c->opaque);
}

static void bds_drained_end(BdrvChild *c)
{
    bdrv_drained_end(c->opaque);
}

/* The overlay's header names its backing file. */
static int coroutine_fn bds_co_update_filename(BdrvChild *c, BlockDriverState *new_child,
                                               const char *filename, Error **errp)
{
    if (!(c->role & BDRV_CHILD_COW)) {
        return 0;
    }
    return bdrv_change_backing_file(c->opaque, filename,
                                    new_child->drv ? new_child->drv->format_name : NULL, errp);
}

static void bds_resize(BdrvChild *c)
{
    BlockDriverState *parent = c->opaque;
    BdrvChild *up;

    /* What shows the child's data as it is has grown with it, unless it says itself how long it is. */
    if (!(c->role & BDRV_CHILD_FILTERED) || !parent->drv || parent->drv->co_getlength) {
        return;
    }
    __atomic_store_n(&parent->total_bytes, __atomic_load_n(&c->bs->total_bytes, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    LIST_FOREACH(up, &parent->parents, next_parent) {
        if (up->klass->resize) {
            up->klass->resize(up);
        }
    }
}

const BdrvChildClass child_of_bds = {
    .parent_is_bds      = true,
    .get_parent_desc    = bds_parent_desc,
    .drained_begin      = bds_drained_begin,
    .drained_poll       = bds_drained_poll,
    .drained_end        = bds_drained_end,
    .co_update_filename = bds_co_update_filename,
    .resize             = bds_resize,
};

/* ---- attach and detach ---- */

int graph_check_no_cycle(BlockDriverState *parent, BlockDriverState *child_bs, const char *name,
                         Error **errp)
{
    if (graph_node_reaches(child_bs, parent)) {
        error_setg(errp, "Making '%s' a %s child of '%s' would create a cycle",
                   bdrv_get_node_name(child_bs), name, bdrv_get_node_name(parent));
        return -EINVAL;
    }
    return 0;
}

BdrvChild *graph_edit_attach_node(GraphEdit *e, BlockDriverState *parent, BlockDriverState *child_bs,
                                  const char *name, BdrvChildRole role, Error **errp)
{
    if (graph_check_no_cycle(parent, child_bs, name, errp) < 0) {
        return NULL;
    }
    return graph_edit_attach(e, child_bs, name, &child_of_bds, role, 0, BLK_PERM_ALL, parent);
}

BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child_bs,
                             const char *name, BdrvChildRole role, Error **errp)
{
    GraphEdit e;
    BdrvChild *c;

    if (LIST_EMPTY(&parent->parents)) {
        graph_context_follow(parent, child_bs);     /* new, with nobody at home yet */
    } else {
        graph_context_follow(child_bs, parent);
    }
    graph_edit_begin(&e);
    graph_edit_wait_two(&e, parent, child_bs);
    c = graph_edit_attach_node(&e, parent, child_bs, name, role, errp);
    if (graph_edit_end(&e, c ? 0 : -EINVAL, errp) < 0) {
        c = NULL;
    }
    bdrv_unref(child_bs);   /* the edge holds its own */
    return c;
}

void bdrv_unref_child(BlockDriverState *parent, BdrvChild *child)
{
    GraphEdit e;

    g_assert(bdrv_child_parent_bs(child) == parent);
    graph_edit_begin(&e);
    graph_edit_drain(&e, parent);
    graph_edit_wait_edge(&e, child);
    graph_edit_detach(&e, child);
    graph_edit_end_loosen(&e);
}

BdrvChild *bdrv_root_attach_child(BlockDriverState *child_bs, const char *child_name,
                                  const BdrvChildClass *child_class, BdrvChildRole child_role,
                                  uint64_t perm, uint64_t shared_perm, void *opaque, Error **errp)
{
    GraphEdit e;
    BdrvChild *c;

    g_assert(!child_class->parent_is_bds);
    graph_edit_begin(&e);
    graph_edit_drain(&e, child_bs);
    graph_edit_wait(&e);
    c = graph_edit_attach(&e, child_bs, child_name, child_class, child_role,
                          perm, shared_perm, opaque);
    if (graph_edit_end(&e, 0, errp) < 0) {
        c = NULL;
    }
    bdrv_unref(child_bs);
    return c;
}

void bdrv_root_unref_child(BdrvChild *child)
{
    GraphEdit e;

    g_assert(!child->klass->parent_is_bds);
    graph_edit_begin(&e);
    graph_edit_wait_edge(&e, child);
    graph_edit_detach(&e, child);
    graph_edit_end_loosen(&e);
}

/* ---- replace ---- */

int bdrv_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp)
{
    GraphEdit e;

    graph_context_follow(to, from);
    graph_edit_begin(&e);
    graph_edit_wait_two(&e, from, to);
    graph_edit_replace_parents(&e, from, to);
    return graph_edit_end(&e, 0, errp);
}

int bdrv_append(BlockDriverState *bs_new, BlockDriverState *bs_top, Error **errp)
{
    BdrvChildRole role = bs_new->drv->kind == BLOCK_DRIVER_FILTER ?
                         BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY : BDRV_CHILD_COW;
    GraphEdit e;
    int ret = 0;

    g_assert(!bs_new->backing);
    graph_context_follow(bs_new, bs_top);
    graph_edit_begin(&e);
    graph_edit_wait_two(&e, bs_top, bs_new);
    if (graph_edit_attach_node(&e, bs_new, bs_top, "backing", role, errp)) {
        graph_edit_replace_parents(&e, bs_top, bs_new);
    } else {
        ret = -EINVAL;
    }
    ret = graph_edit_finalize(&e, ret, errp);
    /* A filter is as long as what it shows, and must be so before requests come; an overlay has
     * a length of its own. */
    if (!ret && (role & BDRV_CHILD_FILTERED) && !bs_new->drv->co_getlength) {
        __atomic_store_n(&bs_new->total_bytes, __atomic_load_n(&bs_top->total_bytes, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    }
    if (!ret) {
        bdrv_refresh_filename(bs_new);
    }
    graph_edit_let_go(&e);
    return ret;
}

int bdrv_drop_filter(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *below = bdrv_filter_bs(bs);
    GraphEdit e;
    BdrvChild *c;

    g_assert(below);
    graph_edit_begin(&e);
    graph_edit_wait_two(&e, bs, below);
    graph_edit_replace_parents(&e, bs, below);
    LIST_FOREACH(c, &bs->children, next) {
        if (c->bs == below && (c->role & BDRV_CHILD_FILTERED)) {
            graph_edit_detach(&e, c);
            break;
        }
    }
    return graph_edit_end(&e, 0, errp);
}

int bdrv_replace_child_bs(BdrvChild *child, BlockDriverState *new_bs, Error **errp)
{
    BlockDriverState *parent = bdrv_child_parent_bs(child);
    GraphEdit e;
    int ret = 0;

    graph_context_follow(new_bs, child->bs);
    graph_edit_begin(&e);
    graph_edit_drain(&e, parent);
    graph_edit_drain(&e, new_bs);
    graph_edit_wait_edge(&e, child);
    if (parent) {
        ret = graph_check_no_cycle(parent, new_bs, child->name, errp);
    }
    if (!ret) {
        graph_edit_replace(&e, child, new_bs);
    }
    return graph_edit_end(&e, ret, errp);
}

/* ---- backing ---- */

int graph_edit_set_backing(GraphEdit *e, BlockDriverState *bs, BlockDriverState *backing, Error **errp)
{
    BdrvChildRole role = bs->drv->kind == BLOCK_DRIVER_FILTER ?
                         BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY : BDRV_CHILD_COW;

    if (!bs->drv->supports_backing && bs->drv->kind != BLOCK_DRIVER_FILTER) {
        error_setg(errp, "Driver '%s' of node '%s' does not support backing files",
                   bs->drv->format_name, bdrv_get_node_name(bs));
        return -EINVAL;
    }
    if (backing && graph_check_no_cycle(bs, backing, "backing", errp) < 0) {
        return -EINVAL;
    }
    if (bs->backing && backing) {
        graph_edit_replace(e, bs->backing, backing);
    } else if (bs->backing) {
        graph_edit_detach(e, bs->backing);
    } else if (backing) {
        graph_edit_attach(e, backing, "backing", &child_of_bds, role, 0, BLK_PERM_ALL, bs);
    }
    return 0;
}

int bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing, Error **errp)
{
    GraphEdit e;
    int ret;

    if (backing) {
        graph_context_follow(backing, bs);
    }
    graph_edit_begin(&e);
    graph_edit_drain(&e, backing);
    graph_edit_drain(&e, bs);
    graph_edit_wait(&e);
    while (bs->backing && !graph_edit_has_drained(&e, bs->backing->bs)) {
        graph_edit_wait_edge(&e, bs->backing);
    }
    ret = graph_edit_set_backing(&e, bs, backing, errp);
    ret = graph_edit_end(&e, ret, errp);
    if (!ret) {
        bdrv_refresh_filename(bs);
    }
    return ret;
}

typedef struct ChangeBackingCall {
    BlockDriverState *bs;
    const char *file, *fmt;
    Error **errp;
    int ret;
} ChangeBackingCall;

static void coroutine_fn change_backing_co(void *opaque)
{
    ChangeBackingCall *call = opaque;

    call->ret = call->bs->drv->co_change_backing_file(call->bs, call->file, call->fmt, call->errp);
}

int bdrv_change_backing_file(BlockDriverState *bs, const char *backing_file,
                             const char *backing_fmt, Error **errp)
{
    ChangeBackingCall call = { bs, backing_file, backing_fmt, errp, 0 };

    if (!bs->drv || !bs->drv->co_change_backing_file) {
        error_setg(errp, "Driver '%s' does not support backing files",
                   bs->drv ? bs->drv->format_name : "none");
        return -ENOTSUP;
    }
    aio_co_run(change_backing_co, &call);
    if (call.ret < 0) {
        return call.ret;
    }
    bdrv_set_backing_hint(bs, backing_file, backing_fmt);
    graph_set_auto_backing_file(bs);
    /* What was asked for at open no longer tells which node is the backing. */
    qdict_del(bs->options, "backing");
    bdrv_refresh_filename(bs);
    return 0;
}

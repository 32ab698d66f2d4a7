/* SPDX-License-Identifier: MIT */
/* child.c: edges: attach, detach, replace. Every public function drains both ends, makes its
 * change in one transaction with the permissions that follow from it, and lets go.
 */
#include "graph/graph_private.h"

/* ---- linking: the list of parents, and quietness that comes or goes with it ---- */

static void child_link(BdrvChild *c, BlockDriverState *bs)
{
    c->bs = bs;
    LIST_INSERT_HEAD(&bs->parents, c, next_parent);
    if (bs->quiesce_counter > 0 && !c->quiesced_parent) {
        drain_parent_begin(c);
    }
}

static void child_unlink(BdrvChild *c)
{
    LIST_REMOVE(c, next_parent);
}

/* After it sits where it shall: is its parent still to be quiet for it? */
static void child_settle(BdrvChild *c)
{
    if (c->quiesced_parent && c->bs->quiesce_counter == 0) {
        drain_parent_end(c);
    }
}

static void child_free(BdrvChild *c)
{
    g_free(c->name);
    g_free(c);
}

static void attach_undo(BdrvChild *c)
{
    if (c->klass->detach) {
        c->klass->detach(c);
    }
    child_unlink(c);
    if (c->quiesced_parent) {
        drain_parent_end(c);
    }
    child_free(c);
}

static void attach_abort(void *opaque)
{
    attach_undo(opaque);
}

static const TransactionActionDrv attach_drv = { .abort = attach_abort };

BdrvChild *child_attach_tran(BlockDriverState *child_bs, const char *name, const BdrvChildClass *klass,
                             BdrvChildRole role, void *opaque, Transaction *tran)
{
    BdrvChild *c = g_new0(BdrvChild, 1);

    assert_bdrv_graph_writable(child_bs);
    c->name = g_strdup(name);
    c->klass = klass;
    c->role = role;
    c->opaque = opaque;
    c->shared_perm = BLK_PERM_ALL;
    if (klass->attach) {
        klass->attach(c);
    }
    child_link(c, child_bs);
    tran_add(tran, &attach_drv, c);
    return c;
}

static void detach_abort(void *opaque)
{
    BdrvChild *c = opaque;

    if (c->klass->attach) {
        c->klass->attach(c);
    }
    LIST_INSERT_HEAD(&c->bs->parents, c, next_parent);
}

static void detach_commit(void *opaque)
{
    BdrvChild *c = opaque;

    if (c->quiesced_parent) {
        drain_parent_end(c);
    }
    child_free(c);
}

static const TransactionActionDrv detach_drv = { .abort = detach_abort, .commit = detach_commit };

void child_detach_tran(BdrvChild *c, Transaction *tran)
{
    assert_bdrv_graph_writable(c->bs);
    if (c->klass->detach) {
        c->klass->detach(c);
    }
    child_unlink(c);
    tran_add(tran, &detach_drv, c);
}

typedef struct ReplaceStep {
    BdrvChild *c;
    BlockDriverState *old;
} ReplaceStep;

static void replace_abort(void *opaque)
{
    ReplaceStep *s = opaque;

    child_unlink(s->c);
    child_link(s->c, s->old);
}

static void replace_clean(void *opaque)
{
    ReplaceStep *s = opaque;

    child_settle(s->c);
    g_free(s);
}

static const TransactionActionDrv replace_drv = { .abort = replace_abort, .clean = replace_clean };

static void child_replace_tran(BdrvChild *c, BlockDriverState *new_bs, Transaction *tran)
{
    ReplaceStep *s = g_new0(ReplaceStep, 1);

    assert_bdrv_graph_writable(c->bs);
    assert_bdrv_graph_writable(new_bs);
    *s = (ReplaceStep) { c, c->bs };
    child_unlink(c);
    child_link(c, new_bs);
    tran_add(tran, &replace_drv, s);
}

/* ---- public ---- */

/* Attach, set what a root asks for, and bring permissions into line. Takes over the
 * caller's reference to @child_bs. */
static BdrvChild *attach_common(BlockDriverState *child_bs, const char *name, const BdrvChildClass *klass,
                                BdrvChildRole role, uint64_t perm, uint64_t shared, void *opaque, Error **errp)
{
    BlockDriverState *parent = klass->parent_is_bds ? opaque : NULL;
    BlockDriverState *changed = parent ? parent : child_bs;
    Transaction *tran;
    BdrvChild *c;
    int ret;

    g_assert(qemu_in_main_thread());
    if (parent) {
        bdrv_drained_begin(parent);
    }
    bdrv_drained_begin(child_bs);
    tran = tran_new();
    c = child_attach_tran(child_bs, name, klass, role, opaque, tran);
    if (!parent) {
        perm_set_tran(c, perm, shared, tran);
    }
    ret = perm_refresh_tran(&changed, 1, tran, errp);
    tran_finalize(tran, ret);
    bdrv_drained_end(child_bs);
    if (parent) {
        bdrv_drained_end(parent);
    }
    if (ret < 0) {
        bdrv_unref(child_bs);
        return NULL;
    }
    return c;
}

BdrvChild *bdrv_root_attach_child(BlockDriverState *child_bs, const char *child_name,
                                  const BdrvChildClass *child_class, BdrvChildRole child_role,
                                  uint64_t perm, uint64_t shared_perm, void *opaque, Error **errp)
{
    return attach_common(child_bs, child_name, child_class, child_role, perm, shared_perm, opaque, errp);
}

static bool is_below(BlockDriverState *bs, BlockDriverState *what)
{
    BdrvChild *c;

    if (bs == what) {
        return true;
    }
    LIST_FOREACH(c, &bs->children, next) {
        if (is_below(c->bs, what)) {
            return true;
        }
    }
    return false;
}

BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child_bs,
                             const char *name, BdrvChildRole role, Error **errp)
{
    if (is_below(child_bs, parent)) {
        error_setg(errp, "Making '%s' a %s child of '%s' would create a cycle",
                   child_bs->node_name, name, parent->node_name);
        bdrv_unref(child_bs);
        return NULL;
    }
    return attach_common(child_bs, name, &child_of_bds, role, 0, BLK_PERM_ALL, parent, errp);
}

static void detach_common(BdrvChild *c)
{
    BlockDriverState *parent = bdrv_child_parent_bs(c), *bs = c->bs;
    BlockDriverState *changed[2] = { bs, parent };
    Transaction *tran;

    g_assert(qemu_in_main_thread());
    if (parent) {
        bdrv_drained_begin(parent);
    }
    bdrv_drained_begin(bs);
    tran = tran_new();
    child_detach_tran(c, tran);
    /* Less is asked of the child: that cannot be refused, but for a driver whose loosening
     * of locks fails; then it keeps more than it needs. */
    perm_refresh_tran(changed, 1, tran, NULL);
    tran_commit(tran);
    bdrv_drained_end(bs);
    if (parent) {
        bdrv_drained_end(parent);
    }
    bdrv_unref(bs);
}

void bdrv_root_unref_child(BdrvChild *child)
{
    detach_common(child);
}

void bdrv_unref_child(BlockDriverState *parent, BdrvChild *child)
{
    if (child) {
        g_assert(child->opaque == parent);
        detach_common(child);
    }
}

/* Move the parents of @from, but those that stay and those that are @to itself or below
 * nothing else, to @to. */
static int replace_node_tran(BlockDriverState *from, BlockDriverState *to, GPtrArray *unref,
                             Transaction *tran, Error **errp)
{
    BdrvChild *c, *next;

    LIST_FOREACH_SAFE(c, &from->parents, next_parent, next) {
        BlockDriverState *parent = bdrv_child_parent_bs(c);

        if (c->klass->stay_at_node || parent == to) {
            continue;
        }
        if (parent && is_below(to, parent)) {
            if (is_below(to, from)) {
                continue;       /* @to stands above @from: its own way down stays */
            }
            error_setg(errp, "Replacing node '%s' by '%s' would create a cycle",
                       from->node_name, to->node_name);
            return -EINVAL;
        }
        child_replace_tran(c, to, tran);
        bdrv_ref(to);
        g_ptr_array_add(unref, from);
    }
    return 0;
}

static void drop_refs(GPtrArray *unref, BlockDriverState *instead)
{
    for (guint i = 0; i < unref->len; i++) {
        bdrv_unref(instead ? instead : g_ptr_array_index(unref, i));
    }
}

int bdrv_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp)
{
    g_autoptr(GPtrArray) unref = g_ptr_array_new();
    BlockDriverState *changed[2] = { from, to };
    Transaction *tran;
    int ret;

    bdrv_ref(from);
    bdrv_ref(to);
    bdrv_drained_begin(from);
    bdrv_drained_begin(to);
    tran = tran_new();
    ret = replace_node_tran(from, to, unref, tran, errp);
    if (ret == 0) {
        ret = perm_refresh_tran(changed, 2, tran, errp);
    }
    tran_finalize(tran, ret);
    bdrv_drained_end(to);
    bdrv_drained_end(from);
    drop_refs(unref, ret < 0 ? to : NULL);
    bdrv_unref(to);
    bdrv_unref(from);
    return ret;
}

int bdrv_append(BlockDriverState *bs_new, BlockDriverState *bs_top, Error **errp)
{
    g_autoptr(GPtrArray) unref = g_ptr_array_new();
    BdrvChildRole role = bs_new->drv->kind == BLOCK_DRIVER_FILTER ? BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY
                                                                  : BDRV_CHILD_COW;
    BlockDriverState *changed[2] = { bs_new, bs_top };
    Transaction *tran;
    int ret;

    g_assert(!bs_new->backing);
    bdrv_ref(bs_top);           /* the new edge's */
    bdrv_drained_begin(bs_new);
    bdrv_drained_begin(bs_top);
    tran = tran_new();
    child_attach_tran(bs_top, "backing", &child_of_bds, role, bs_new, tran);
    ret = replace_node_tran(bs_top, bs_new, unref, tran, errp);
    if (ret == 0) {
        ret = perm_refresh_tran(changed, 2, tran, errp);
    }
    tran_finalize(tran, ret);
    bdrv_drained_end(bs_top);
    bdrv_drained_end(bs_new);
    drop_refs(unref, ret < 0 ? bs_new : NULL);
    if (ret < 0) {
        bdrv_unref(bs_top);
        return ret;
    }
    bdrv_refresh_limits(bs_new);
    bdrv_refresh_filename(bs_new);
    return 0;
}

int bdrv_drop_filter(BlockDriverState *bs, Error **errp)
{
    g_autoptr(GPtrArray) unref = g_ptr_array_new();
    BdrvChild *down = bs->backing ? bs->backing : bs->file;
    BlockDriverState *child_bs = down->bs;
    BlockDriverState *changed[2] = { bs, child_bs };
    Transaction *tran;
    int ret;

    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    bdrv_drained_begin(child_bs);
    tran = tran_new();
    ret = replace_node_tran(bs, child_bs, unref, tran, errp);
    if (ret == 0) {
        child_detach_tran(down, tran);
        ret = perm_refresh_tran(changed, 2, tran, errp);
    }
    tran_finalize(tran, ret);
    bdrv_drained_end(child_bs);
    bdrv_drained_end(bs);
    drop_refs(unref, ret < 0 ? child_bs : NULL);
    if (ret == 0) {
        bdrv_unref(child_bs);   /* the filter's edge */
    }
    bdrv_unref(bs);
    return ret;
}

int bdrv_replace_child_bs(BdrvChild *child, BlockDriverState *new_bs, Error **errp)
{
    BlockDriverState *old = child->bs, *changed[2] = { old, new_bs };
    Transaction *tran;
    int ret;

    bdrv_ref(old);
    bdrv_ref(new_bs);
    bdrv_drained_begin(old);
    bdrv_drained_begin(new_bs);
    tran = tran_new();
    child_replace_tran(child, new_bs, tran);
    ret = perm_refresh_tran(changed, 2, tran, errp);
    tran_finalize(tran, ret);
    bdrv_drained_end(new_bs);
    bdrv_drained_end(old);
    bdrv_unref(ret < 0 ? new_bs : old);
    bdrv_unref(old);
    return ret;
}

int bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing, Error **errp)
{
    BdrvChildRole role = bs->drv->kind == BLOCK_DRIVER_FILTER ? BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY
                                                              : BDRV_CHILD_COW;
    int ret = 0;

    bdrv_drained_begin(bs);
    if (bs->backing && backing) {
        ret = bdrv_replace_child_bs(bs->backing, backing, errp);
    } else if (bs->backing) {
        bdrv_unref_child(bs, bs->backing);
    } else if (backing) {
        bdrv_ref(backing);
        ret = bdrv_attach_child(bs, backing, "backing", role, errp) ? 0 : -EPERM;
    }
    bdrv_drained_end(bs);
    if (ret == 0) {
        bdrv_refresh_limits(bs);
    }
    return ret;
}

int bdrv_change_backing_file(BlockDriverState *bs, const char *backing_file,
                             const char *backing_fmt, Error **errp)
{
    int ret;

    if (!bs->drv->co_change_backing_file) {
        error_setg(errp, "Driver '%s' does not support backing files", bs->drv->format_name);
        return -ENOTSUP;
    }
    ret = bs->drv->co_change_backing_file(bs, backing_file, backing_fmt, errp);
    if (ret == 0) {
        bdrv_set_backing_hint(bs, backing_file, backing_fmt);
    }
    return ret;
}

bool bdrv_recurse_can_replace(BlockDriverState *bs, BlockDriverState *to_replace)
{
    if (!bs || !bs->drv) {
        return false;
    }
    if (bs == to_replace) {
        return true;
    }
    if (bs->drv->recurse_can_replace) {
        return bs->drv->recurse_can_replace(bs, to_replace);
    }
    return bdrv_filter_bs(bs) ? bdrv_recurse_can_replace(bdrv_filter_bs(bs), to_replace) : false;
}

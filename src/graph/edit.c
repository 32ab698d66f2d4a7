/* SPDX-License-Identifier: MIT */
/* edit.c: one change of the graph from beginning to end: see graph_private.h. */
#include "base/osdep.h"
#include "graph/graph_private.h"

void graph_edit_begin(GraphEdit *e)
{
    g_assert(qemu_in_main_thread());
    *e = (GraphEdit) {
        .tran = tran_new(),
        .drained = g_ptr_array_new(),
        .touched = g_ptr_array_new(),
        .released = g_ptr_array_new(),
    };
}

bool graph_edit_has_drained(GraphEdit *e, BlockDriverState *bs)
{
    return g_ptr_array_find(e->drained, bs, NULL);
}

void graph_edit_drain(GraphEdit *e, BlockDriverState *bs)
{
    if (bs && !graph_edit_has_drained(e, bs)) {
        bdrv_ref(bs);
        g_ptr_array_add(e->drained, bs);
        bdrv_drained_begin_no_poll(bs);
    }
}

static bool edit_is_busy(void *opaque)
{
    return graph_drain_poll_many(((GraphEdit *)opaque)->drained);
}

void graph_edit_wait(GraphEdit *e)
{
    aio_wait_while(edit_is_busy, e);
}

void graph_edit_wait_two(GraphEdit *e, BlockDriverState *from, BlockDriverState *to)
{
    graph_edit_drain(e, from);
    graph_edit_drain(e, to);
    graph_edit_wait(e);
}

void graph_edit_wait_edge(GraphEdit *e, BdrvChild *child)
{
    /* While we wait another edit may lead the edge elsewhere. */
    do {
        graph_edit_drain(e, child->bs);
        graph_edit_wait(e);
    } while (!graph_edit_has_drained(e, child->bs));
}

void graph_edit_touch(GraphEdit *e, BlockDriverState *bs)
{
    if (bs && !g_ptr_array_find(e->touched, bs, NULL)) {
        g_ptr_array_add(e->touched, bs);
    }
}

/* ---- edges ---- */

/* Lead @c from where it leads to @bs; either may be NULL. Parent, old and new node are
 * drained, so the parent notices nothing but the change itself. */
static void edge_set_bs(BdrvChild *c, BlockDriverState *bs)
{
    BlockDriverState *parent = bdrv_child_parent_bs(c);

    if (parent) {
        assert_bdrv_graph_writable(parent);
    }
    if (c->bs) {
        assert_bdrv_graph_writable(c->bs);
        if (c->klass->detach) {
            c->klass->detach(c);
        }
        LIST_REMOVE(c, next_parent);
    }
    c->bs = bs;
    if (bs) {
        assert_bdrv_graph_writable(bs);
        LIST_INSERT_HEAD(&bs->parents, c, next_parent);
        if (c->klass->attach) {
            c->klass->attach(c);
        }
    }
    graph_drain_edge_sync(c);
}

/* The parent node's list of children, and its shortcuts. */
static void edge_link_parent(BdrvChild *c)
{
    BlockDriverState *parent = bdrv_child_parent_bs(c);

    if (!parent) {
        return;
    }
    LIST_INSERT_HEAD(&parent->children, c, next);
    if (!strcmp(c->name, "file")) {
        parent->file = c;
    } else if (!strcmp(c->name, "backing")) {
        parent->backing = c;
    } else if (!parent->file && (c->role & BDRV_CHILD_PRIMARY)) {
        parent->file = c;       /* some call it otherwise: "image", "test" */
    }
}

static void edge_unlink_parent(BdrvChild *c)
{
    BlockDriverState *parent = bdrv_child_parent_bs(c);

    if (!parent) {
        return;
    }
    LIST_REMOVE(c, next);
    if (parent->file == c) {
        parent->file = NULL;
    }
    if (parent->backing == c) {
        parent->backing = NULL;
    }
}

static void edge_free(BdrvChild *c)
{
    g_assert(!c->bs && !c->quiesced_parent);
    g_free(c->name);
    g_free(c);
}

/* What a step needs to be undone: the edge, the node it led to, and the edit. */
typedef struct EdgeStep {
    GraphEdit *e;
    BdrvChild *c;
    BlockDriverState *old_bs;   /* the edge's reference to it belongs to the step */
} EdgeStep;

static void edge_step_add(GraphEdit *e, const TransactionActionDrv *drv, BdrvChild *c,
                          BlockDriverState *old_bs)
{
    EdgeStep *step = g_new(EdgeStep, 1);

    *step = (EdgeStep) { e, c, old_bs };
    tran_add(e->tran, drv, step);
}

static void edge_attach_abort(void *opaque)
{
    EdgeStep *step = opaque;
    BdrvChild *c = step->c;

    g_ptr_array_add(step->e->released, c->bs);
    edge_set_bs(c, NULL);
    edge_unlink_parent(c);
    edge_free(c);
}

static const TransactionActionDrv edge_attach_drv = {
    .abort = edge_attach_abort, .clean = g_free,
};

BdrvChild *graph_edit_attach(GraphEdit *e, BlockDriverState *child_bs, const char *name,
                             const BdrvChildClass *klass, BdrvChildRole role,
                             uint64_t perm, uint64_t shared_perm, void *opaque)
{
    BdrvChild *c = g_new0(BdrvChild, 1);

    c->name = g_strdup(name);
    c->klass = klass;
    c->role = role;
    c->opaque = opaque;
    c->perm = perm;
    c->shared_perm = shared_perm;
    bdrv_ref(child_bs);
    edge_link_parent(c);
    edge_set_bs(c, child_bs);
    edge_step_add(e, &edge_attach_drv, c, NULL);
    graph_edit_touch(e, bdrv_child_parent_bs(c));
    graph_edit_touch(e, child_bs);
    return c;
}

static void edge_detach_abort(void *opaque)
{
    EdgeStep *step = opaque;

    edge_link_parent(step->c);
    edge_set_bs(step->c, step->old_bs);
}

static void edge_detach_commit(void *opaque)
{
    EdgeStep *step = opaque;

    g_ptr_array_add(step->e->released, step->old_bs);
    edge_free(step->c);
}

static const TransactionActionDrv edge_detach_drv = {
    .abort = edge_detach_abort, .commit = edge_detach_commit, .clean = g_free,
};

void graph_edit_detach(GraphEdit *e, BdrvChild *child)
{
    edge_step_add(e, &edge_detach_drv, child, child->bs);
    graph_edit_touch(e, bdrv_child_parent_bs(child));
    graph_edit_touch(e, child->bs);
    edge_set_bs(child, NULL);
    edge_unlink_parent(child);
}

static void edge_replace_abort(void *opaque)
{
    EdgeStep *step = opaque;

    g_ptr_array_add(step->e->released, step->c->bs);
    edge_set_bs(step->c, step->old_bs);
}

static void edge_replace_commit(void *opaque)
{
    EdgeStep *step = opaque;

    g_ptr_array_add(step->e->released, step->old_bs);
}

static const TransactionActionDrv edge_replace_drv = {
    .abort = edge_replace_abort, .commit = edge_replace_commit, .clean = g_free,
};

void graph_edit_replace(GraphEdit *e, BdrvChild *child, BlockDriverState *new_bs)
{
    edge_step_add(e, &edge_replace_drv, child, child->bs);
    graph_edit_touch(e, bdrv_child_parent_bs(child));
    graph_edit_touch(e, child->bs);
    graph_edit_touch(e, new_bs);
    bdrv_ref(new_bs);
    edge_set_bs(child, new_bs);
}

/* @top and all below it. */
static void nodes_below(BlockDriverState *top, GHashTable *seen)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    g_ptr_array_add(todo, top);
    while (todo->len) {
        BlockDriverState *bs = g_ptr_array_steal_index_fast(todo, todo->len - 1);
        BdrvChild *c;

        if (g_hash_table_add(seen, bs)) {
            LIST_FOREACH(c, &bs->children, next) {
                g_ptr_array_add(todo, c->bs);
            }
        }
    }
}

bool graph_node_reaches(BlockDriverState *top, BlockDriverState *bs)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    nodes_below(top, seen);
    return g_hash_table_contains(seen, bs);
}

void graph_edit_replace_parents(GraphEdit *e, BlockDriverState *from, BlockDriverState *to)
{
    g_autoptr(GHashTable) below = g_hash_table_new(NULL, NULL);
    BdrvChild *c, *next;

    nodes_below(to, below);
    LIST_FOREACH_SAFE(c, &from->parents, next_parent, next) {
        BlockDriverState *parent = bdrv_child_parent_bs(c);

        /* A parent at or below @to would come to stand above itself: it is how @to
         * shows the data of @from, and stays. */
        if (!c->klass->stay_at_node && !(parent && g_hash_table_contains(below, parent))) {
            graph_edit_replace(e, c, to);
        }
    }
}

/* ---- the end ---- */

void graph_edit_let_go(GraphEdit *e)
{
    for (guint i = e->drained->len; i-- > 0;) {
        bdrv_drained_end(g_ptr_array_index(e->drained, i));
    }
    /* From here on nodes may close, which may suspend; *e is on our stack. */
    for (guint i = 0; i < e->released->len; i++) {
        bdrv_unref(g_ptr_array_index(e->released, i));
    }
    for (guint i = 0; i < e->drained->len; i++) {
        bdrv_unref(g_ptr_array_index(e->drained, i));
    }
    g_ptr_array_free(e->released, TRUE);
    g_ptr_array_free(e->drained, TRUE);
    g_ptr_array_free(e->touched, TRUE);
}

int graph_edit_finalize(GraphEdit *e, int ret, Error **errp)
{
    if (!ret) {
        ret = graph_perm_update(e->touched, e->reopen, e->tran, errp);
    }
    tran_finalize(e->tran, ret);
    if (!ret) {
        graph_refresh_up(e->drained);
    }
    return ret;
}

int graph_edit_end(GraphEdit *e, int ret, Error **errp)
{
    ret = graph_edit_finalize(e, ret, errp);
    graph_edit_let_go(e);
    return ret;
}

void graph_edit_end_loosen(GraphEdit *e)
{
    Transaction *perms = tran_new();
    /* A driver that cannot take less (a lock it fails to give up) keeps what it has. */
    int ret = graph_perm_update(e->touched, NULL, perms, NULL);

    tran_finalize(perms, ret);
    tran_commit(e->tran);
    graph_refresh_up(e->drained);
    graph_edit_let_go(e);
}

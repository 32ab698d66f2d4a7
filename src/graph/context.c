/* SPDX-License-Identifier: MIT */
/* context.c: the home context of nodes.
 *
 * Requests may come from any context; the home context is where a driver keeps what is
 * bound to one thread (timers, sockets), and what users follow who want to run where the
 * node does. All that is connected has one home and moves together, or not at all.
 *
 * How a move goes: collect the connected nodes, asking each parent that is no node
 * (it registers with a transaction what to do); drain them all; if waiting has let the
 * graph change, collect again; then leave the old context, commit, enter the new one.
 *
 * Runs on: the main thread.  Suspends: bdrv_try_change_aio_context().
 */
#include "base/osdep.h"
#include "graph/graph_private.h"

struct BdrvAioNotifier {
    void (*attached)(AioContext *ctx, void *opaque);
    void (*detach)(void *opaque);
    void *opaque;
    bool removed;               /* while they are called: freed when all have been */
    LIST_ENTRY(BdrvAioNotifier) link;
};

AioContext *bdrv_get_aio_context(BlockDriverState *bs)
{
    return bs->aio_context;
}

/* ---- notifiers ---- */

/* Notifiers are being called: one of them may remove itself or any other. Main thread. */
static bool notifying;

static void notifiers_sweep(BlockDriverState *bs)
{
    BdrvAioNotifier *n, *next;

    LIST_FOREACH_SAFE(n, &bs->aio_notifiers, link, next) {
        if (n->removed) {
            LIST_REMOVE(n, link);
            g_free(n);
        }
    }
}

/* @ctx: entered; NULL: about to be left. */
static void notifiers_call(BlockDriverState *bs, AioContext *ctx)
{
    BdrvAioNotifier *n;

    g_assert(!notifying);
    notifying = true;
    LIST_FOREACH(n, &bs->aio_notifiers, link) {
        if (!n->removed && ctx) {
            n->attached(ctx, n->opaque);
        } else if (!n->removed) {
            n->detach(n->opaque);
        }
    }
    notifying = false;
    notifiers_sweep(bs);
}

void bdrv_add_aio_context_notifier(BlockDriverState *bs,
        void (*attached_aio_context)(AioContext *new_context, void *opaque),
        void (*detach_aio_context)(void *opaque), void *opaque)
{
    BdrvAioNotifier *n = g_new(BdrvAioNotifier, 1);

    g_assert(qemu_in_main_thread());
    *n = (BdrvAioNotifier) { attached_aio_context, detach_aio_context, opaque, false };
    LIST_INSERT_HEAD(&bs->aio_notifiers, n, link);
}

void bdrv_remove_aio_context_notifier(BlockDriverState *bs,
        void (*aio_context_attached)(AioContext *, void *),
        void (*aio_context_detached)(void *), void *opaque)
{
    BdrvAioNotifier *n;

    g_assert(qemu_in_main_thread());
    LIST_FOREACH(n, &bs->aio_notifiers, link) {
        if (n->attached == aio_context_attached && n->detach == aio_context_detached &&
            n->opaque == opaque && !n->removed) {
            n->removed = true;
            if (!notifying) {
                notifiers_sweep(bs);
            }
            return;
        }
    }
    g_assert_not_reached();     /* not the pointers that were added */
}

/* ---- leaving and entering ---- */

static void node_leave_context(BlockDriverState *bs)
{
    assert_bdrv_graph_writable(bs);
    notifiers_call(bs, NULL);
    if (bs->drv && bs->drv->detach_aio_context) {
        bs->drv->detach_aio_context(bs);
    }
}

static void node_enter_context(BlockDriverState *bs, AioContext *ctx)
{
    bs->aio_context = ctx;
    if (bs->drv && bs->drv->attach_aio_context) {
        bs->drv->attach_aio_context(bs, ctx);
    }
    notifiers_call(bs, ctx);
}

/* ---- collecting ---- */

/* The set grows through callbacks of parents, who come back with one of their other
 * edges; they know the visited edges only, so the nodes are kept here. Main thread,
 * and collecting never suspends: there is one at a time. */
static GPtrArray *collected;

static bool collect_node(BlockDriverState *bs, AioContext *ctx, GHashTable *visited,
                         Transaction *tran, Error **errp);

static bool collect_parent(BdrvChild *c, AioContext *ctx, GHashTable *visited,
                           Transaction *tran, Error **errp)
{
    if (!g_hash_table_add(visited, c)) {
        return true;
    }
    if (bdrv_child_parent_bs(c)) {
        return collect_node(c->opaque, ctx, visited, tran, errp);
    }
    if (!c->klass->change_aio_ctx) {
        g_autofree char *user = graph_parent_desc(c);

        error_setg(errp, "Changing iothreads is not supported by %s", user);
        return false;
    }
    return c->klass->change_aio_ctx(c, ctx, visited, tran, errp);
}

static bool collect_node(BlockDriverState *bs, AioContext *ctx, GHashTable *visited,
                         Transaction *tran, Error **errp)
{
    BdrvChild *c;

    if (bs->aio_context == ctx || g_ptr_array_find(collected, bs, NULL)) {
        return true;
    }
    g_ptr_array_add(collected, bs);
    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (!collect_parent(c, ctx, visited, tran, errp)) {
            return false;
        }
    }
    LIST_FOREACH(c, &bs->children, next) {
        if (g_hash_table_add(visited, c) && !collect_node(c->bs, ctx, visited, tran, errp)) {
            return false;
        }
    }
    return true;
}

bool bdrv_child_change_aio_context(BdrvChild *c, AioContext *ctx, GHashTable *visited,
                                   Transaction *tran, Error **errp)
{
    g_assert(collected);
    return !g_hash_table_add(visited, c) || collect_node(c->bs, ctx, visited, tran, errp);
}

/* Fresh transaction and set for the graph as it is now; NULL if somebody refuses. */
static Transaction *collect(BlockDriverState *bs, AioContext *ctx, BdrvChild *ignore,
                            GPtrArray *nodes, Error **errp)
{
    g_autoptr(GHashTable) visited = g_hash_table_new(NULL, NULL);
    Transaction *tran = tran_new();
    bool ok;

    if (ignore) {
        g_hash_table_add(visited, ignore);
    }
    g_ptr_array_set_size(nodes, 0);
    collected = nodes;
    ok = collect_node(bs, ctx, visited, tran, errp);
    collected = NULL;
    if (!ok) {
        tran_abort(tran);
        return NULL;
    }
    return tran;
}

/* ---- moving ---- */

/* Keep all @nodes drained by @e; true if they were already. */
static bool all_drained(GraphEdit *e, GPtrArray *nodes)
{
    guint before = e->drained->len;

    for (guint i = 0; i < nodes->len; i++) {
        graph_edit_drain(e, g_ptr_array_index(nodes, i));
    }
    return e->drained->len == before;
}

int bdrv_try_change_aio_context(BlockDriverState *bs, AioContext *ctx,
                                BdrvChild *ignore_child, Error **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    Transaction *tran;
    GraphEdit e;

    g_assert(qemu_in_main_thread());
    graph_edit_begin(&e);
    while ((tran = collect(bs, ctx, ignore_child, nodes, errp)) && !all_drained(&e, nodes)) {
        tran_abort(tran);
        graph_edit_wait(&e);
    }
    if (!tran) {
        return graph_edit_end(&e, -EPERM, errp);
    }
    for (guint i = 0; i < nodes->len; i++) {
        node_leave_context(g_ptr_array_index(nodes, i));
    }
    tran_commit(tran);
    for (guint i = 0; i < nodes->len; i++) {
        node_enter_context(g_ptr_array_index(nodes, i), ctx);
    }
    return graph_edit_end(&e, 0, errp);
}

void graph_context_follow(BlockDriverState *bs, BlockDriverState *other)
{
    if (bs->aio_context != other->aio_context) {
        bdrv_try_change_aio_context(bs, other->aio_context, NULL, NULL);
    }
}

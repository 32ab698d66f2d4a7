/* SPDX-License-Identifier: MIT */
/* context.c: the home context of nodes. All that is connected moves together, or not at all.
 */
#include "graph/graph_private.h"

struct BdrvAioNotifier {
    void (*attached)(AioContext *ctx, void *opaque);
    void (*detach)(void *opaque);
    void *opaque;
    LIST_ENTRY(BdrvAioNotifier) link;
};

AioContext *bdrv_get_aio_context(BlockDriverState *bs)
{
    return bs->aio_context;
}

void bdrv_add_aio_context_notifier(BlockDriverState *bs,
        void (*attached_aio_context)(AioContext *new_context, void *opaque),
        void (*detach_aio_context)(void *opaque), void *opaque)
{
    BdrvAioNotifier *n = g_new0(BdrvAioNotifier, 1);

    n->attached = attached_aio_context;
    n->detach = detach_aio_context;
    n->opaque = opaque;
    LIST_INSERT_HEAD(&bs->aio_notifiers, n, link);
}

void bdrv_remove_aio_context_notifier(BlockDriverState *bs,
        void (*aio_context_attached)(AioContext *, void *),
        void (*aio_context_detached)(void *), void *opaque)
{
    BdrvAioNotifier *n;

    LIST_FOREACH(n, &bs->aio_notifiers, link) {
        if (n->attached == aio_context_attached && n->detach == aio_context_detached && n->opaque == opaque) {
            LIST_REMOVE(n, link);
            g_free(n);
            return;
        }
    }
    g_assert_not_reached();
}

/* Everything connected to @bs, up and down; false if a parent refuses. */
static bool context_collect(BlockDriverState *bs, AioContext *ctx, BdrvChild *ignore, GHashTable *visited,
                            GPtrArray *nodes, Transaction *tran, Error **errp)
{
    BdrvChild *c;

    if (!g_hash_table_add(visited, bs) || bs->aio_context == ctx) {
        return true;
    }
    g_ptr_array_add(nodes, bs);
    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (c == ignore || (!c->klass->parent_is_bds && !g_hash_table_add(visited, c))) {
            continue;
        }
        if (c->klass->parent_is_bds) {
            if (!context_collect(c->opaque, ctx, ignore, visited, nodes, tran, errp)) {
                return false;
            }
        } else if (!c->klass->change_aio_ctx) {
            g_autofree char *user = c->klass->get_parent_desc(c);

            error_setg(errp, "Changing iothreads is not supported by %s", user);
            return false;
        } else if (!c->klass->change_aio_ctx(c, ctx, visited, tran, errp)) {
            return false;
        }
    }
    LIST_FOREACH(c, &bs->children, next) {
        if (c != ignore && !context_collect(c->bs, ctx, ignore, visited, nodes, tran, errp)) {
            return false;
        }
    }
    return true;
}

static void context_switch(BlockDriverState *bs, AioContext *ctx)
{
    BdrvAioNotifier *n, *next;

    LIST_FOREACH_SAFE(n, &bs->aio_notifiers, link, next) {
        n->detach(n->opaque);
    }
    if (bs->drv && bs->drv->detach_aio_context) {
        bs->drv->detach_aio_context(bs);
    }
    bs->aio_context = ctx;
    if (bs->drv && bs->drv->attach_aio_context) {
        bs->drv->attach_aio_context(bs, ctx);
    }
    LIST_FOREACH_SAFE(n, &bs->aio_notifiers, link, next) {
        n->attached(ctx, n->opaque);
    }
}

int bdrv_try_change_aio_context(BlockDriverState *bs, AioContext *ctx, BdrvChild *ignore_child, Error **errp)
{
    g_autoptr(GHashTable) visited = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    Transaction *tran = tran_new();

    g_assert(qemu_in_main_thread());
    if (!context_collect(bs, ctx, ignore_child, visited, nodes, tran, errp)) {
        tran_abort(tran);
        return -EPERM;
    }
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_drained_begin(g_ptr_array_index(nodes, i));
    }
    for (guint i = 0; i < nodes->len; i++) {
        context_switch(g_ptr_array_index(nodes, i), ctx);
    }
    tran_commit(tran);
    for (guint i = nodes->len; i > 0; i--) {
        bdrv_drained_end(g_ptr_array_index(nodes, i - 1));
    }
    return 0;
}

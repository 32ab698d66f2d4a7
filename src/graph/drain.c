/* SPDX-License-Identifier: MIT */
/* drain.c: make part of the graph quiet.
 *
 * While a node is drained no request enters it from above and none is in flight below it.
 *
 * Invariant, at all times, for every node:
 *   quiesce_counter = sections begun on it (drain_all counts as one for each node)
 *                   + number of its child edges whose child has quiesce_counter > 0
 * and c->quiesced_parent is true just for those edges. So draining a node quiets
 * everything above it. Edges that come to or leave a quiet node keep it: see child.c.
 */
#include "graph/graph_private.h"

static unsigned all_count;

unsigned drain_all_count(void)
{
    return all_count;
}

static void quiesce(BlockDriverState *bs);
static void unquiesce(BlockDriverState *bs);

void drain_parent_begin(BdrvChild *c)
{
    g_assert(!c->quiesced_parent);
    c->quiesced_parent = true;
    if (c->klass->drained_begin) {
        c->klass->drained_begin(c);
    }
}

void drain_parent_end(BdrvChild *c)
{
    g_assert(c->quiesced_parent);
    c->quiesced_parent = false;
    if (c->klass->drained_end) {
        c->klass->drained_end(c);
    }
}

static void quiesce(BlockDriverState *bs)
{
    BdrvChild *c;

    /* Sequentially consistent: see the head of block_int-common.h. */
    if (__atomic_fetch_add(&bs->quiesce_counter, 1, __ATOMIC_SEQ_CST) == 0) {
        LIST_FOREACH(c, &bs->parents, next_parent) {
            drain_parent_begin(c);
        }
        if (bs->drv && bs->drv->drain_begin) {
            bs->drv->drain_begin(bs);
        }
    }
}

static void unquiesce(BlockDriverState *bs)
{
    BdrvChild *c, *next;

    g_assert(bs->quiesce_counter > 0);
    if (__atomic_sub_fetch(&bs->quiesce_counter, 1, __ATOMIC_SEQ_CST) == 0) {
        if (bs->drv && bs->drv->drain_end) {
            bs->drv->drain_end(bs);
        }
        LIST_FOREACH_SAFE(c, &bs->parents, next_parent, next) {
            drain_parent_end(c);
        }
    }
}

bool drain_poll_parents(BlockDriverState *bs)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->drained_poll && c->klass->drained_poll(c)) {
            return true;
        }
    }
    return false;
}

bool bdrv_drain_poll(BlockDriverState *bs)
{
    return __atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST) > 0 || drain_poll_parents(bs);
}

static bool drain_busy(void *opaque)
{
    return bdrv_drain_poll(opaque);
}

void bdrv_drained_begin_no_poll(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread());
    quiesce(bs);
}

void bdrv_drained_begin(BlockDriverState *bs)
{
    bdrv_drained_begin_no_poll(bs);
    aio_wait_while(drain_busy, bs);
}

void bdrv_drained_end(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread());
    unquiesce(bs);
}

void bdrv_drain(BlockDriverState *bs)
{
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

static bool drain_all_busy(void *opaque)
{
    BlockDriverState *bs;

    TAILQ_FOREACH(bs, &graph_all_nodes, all_list) {
        if (bdrv_drain_poll(bs)) {
            return true;
        }
    }
    return false;
}

void bdrv_drain_all_begin(void)
{
    BlockDriverState *bs;

    g_assert(qemu_in_main_thread());
    all_count++;                /* nodes made from now on are born quiet */
    TAILQ_FOREACH(bs, &graph_all_nodes, all_list) {
        quiesce(bs);
    }
    aio_wait_while(drain_all_busy, NULL);
}

void bdrv_drain_all_end(void)
{
    BlockDriverState *bs;

    g_assert(qemu_in_main_thread() && all_count > 0);
    TAILQ_FOREACH(bs, &graph_all_nodes, all_list) {
        unquiesce(bs);
    }
    all_count--;
}

void bdrv_drain_all_end_quiesce(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread());
    g_assert(bs->quiesce_counter >= (int)all_count);
    for (unsigned i = 0; i < all_count; i++) {
        unquiesce(bs);
    }
}

void bdrv_drain_all(void)
{
    bdrv_drain_all_begin();
    bdrv_drain_all_end();
}

void bdrv_dec_in_flight(BlockDriverState *bs)
{
    /* `bs` may be freed by the main thread as soon as the count is down. */
    __atomic_sub_fetch(&bs->in_flight, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

/* ---- a node as a parent ---- */

static char *bds_parent_desc(BdrvChild *c)
{
    BlockDriverState *bs = c->opaque;

    return g_strdup_printf("node '%s'", bs->node_name);
}

static void bds_drained_begin(BdrvChild *c)
{
    quiesce(c->opaque);
}

static bool bds_drained_poll(BdrvChild *c)
{
    return bdrv_drain_poll(c->opaque);
}

static void bds_drained_end(BdrvChild *c)
{
    unquiesce(c->opaque);
}

static void bds_attach(BdrvChild *c)
{
    BlockDriverState *bs = c->opaque;

    LIST_INSERT_HEAD(&bs->children, c, next);
    if (!strcmp(c->name, "backing")) {
        bs->backing = c;
    } else if (!strcmp(c->name, "file")) {
        bs->file = c;
    }
}

static void bds_detach(BdrvChild *c)
{
    BlockDriverState *bs = c->opaque;

    LIST_REMOVE(c, next);
    if (bs->backing == c) {
        bs->backing = NULL;
    }
    if (bs->file == c) {
        bs->file = NULL;
    }
}

const BdrvChildClass child_of_bds = {
    .parent_is_bds   = true,
    .get_parent_desc = bds_parent_desc,
    .attach          = bds_attach,
    .detach          = bds_detach,
    .drained_begin   = bds_drained_begin,
    .drained_poll    = bds_drained_poll,
    .drained_end     = bds_drained_end,
};

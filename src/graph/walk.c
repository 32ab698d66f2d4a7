/* SPDX-License-Identifier: MIT */
/* walk.c: ways through the graph, and what nodes take over from the nodes below.
 *
 * Runs on: the main thread; in other threads where the caller is counted on the node it
 * starts from. Suspends: never.
 */
#include "base/osdep.h"
#include "graph/graph_private.h"

/* ---- down the chain ---- */

static BlockDriverState *child_by_role(BlockDriverState *bs, BdrvChildRole role)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (c->role & role) {
            return c->bs;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_filter_bs(BlockDriverState *bs)
{
    if (!bs || !bs->drv || bs->drv->kind != BLOCK_DRIVER_FILTER) {
        return NULL;
    }
    return child_by_role(bs, BDRV_CHILD_FILTERED);
}

BlockDriverState *bdrv_cow_bs(BlockDriverState *bs)
{
    return bs && bs->backing && (bs->backing->role & BDRV_CHILD_COW) ? bs->backing->bs : NULL;
}

BlockDriverState *bdrv_filter_or_cow_bs(BlockDriverState *bs)
{
    BlockDriverState *filtered = bdrv_filter_bs(bs);

    return filtered ? filtered : bdrv_cow_bs(bs);
}

BlockDriverState *bdrv_primary_bs(BlockDriverState *bs)
{
    return child_by_role(bs, BDRV_CHILD_PRIMARY);
}

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    BlockDriverState *below;

    while ((below = bdrv_filter_bs(bs))) {
        bs = below;
    }
    return bs;
}

BlockDriverState *bdrv_skip_implicit_filters(BlockDriverState *bs)
{
    BlockDriverState *below;

    while (bs && bs->implicit && (below = bdrv_filter_bs(bs))) {
        bs = below;
    }
    return bs;
}

BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs)
{
    return bdrv_skip_filters(bdrv_cow_bs(bdrv_skip_filters(bs)));
}

bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base)
{
    while (top && top != base) {
        top = bdrv_filter_or_cow_bs(top);
    }
    return top != NULL;
}

static BlockDriverState *job_filter_on(BlockDriverState *bs)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->parents, next_parent) {
        BlockDriverState *parent = bdrv_child_parent_bs(c);

        if (parent && (c->role & BDRV_CHILD_FILTERED) && parent->drv &&
            parent->drv->schema_driver == BLOCKDEV_DRIVER__MAX) {
            return parent;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_guest_node(BlockDriverState *bs)
{
    BlockDriverState *filter;

    while ((filter = job_filter_on(bs))) {
        bs = filter;
    }
    return bs;
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
    return bdrv_recurse_can_replace(bdrv_filter_bs(bs), to_replace);
}

/* ---- facts ---- */

bool bdrv_is_read_only(const BlockDriverState *bs)
{
    return bs->read_only;
}

bool bdrv_is_inserted(BlockDriverState *bs)
{
    return bs && bs->drv;
}

int bdrv_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    BlockDriverState *filtered;

    memset(info, 0, sizeof(*info));
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (bs->drv->get_info) {
        return bs->drv->get_info(bs, info);
    }
    filtered = bdrv_filter_bs(bs);
    return filtered ? bdrv_get_info(filtered, info) : -ENOTSUP;
}

/* ---- limits ---- */

static uint32_t min_nonzero(uint32_t a, uint32_t b)
{
    return !a || (b && b < a) ? b : a;
}

/* Requests of @bs reach this child in the same buffers, perhaps in other pieces. */
static void limits_merge(BlockLimits *bl, const BlockLimits *child)
{
    bl->min_mem_alignment = MAX(bl->min_mem_alignment, child->min_mem_alignment);
    bl->opt_mem_alignment = MAX(bl->opt_mem_alignment, child->opt_mem_alignment);
    bl->opt_transfer = MAX(bl->opt_transfer, child->opt_transfer);
    bl->max_transfer = min_nonzero(bl->max_transfer, child->max_transfer);
    bl->max_iov = bl->max_iov && child->max_iov ? MIN(bl->max_iov, child->max_iov)
                                                : MAX(bl->max_iov, child->max_iov);
}

static BlockLimits limits_compute(BlockDriverState *bs)
{
    BlockLimits bl = { .request_alignment = 1, .min_mem_alignment = 1, .opt_mem_alignment = 512 };
    BlockDriverState *filtered = bdrv_filter_bs(bs);
    BdrvChild *c;

    if (filtered) {
        bl = filtered->bl;
    }
    LIST_FOREACH(c, &bs->children, next) {
        if (c->role & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED | BDRV_CHILD_COW)) {
            limits_merge(&bl, &c->bs->bl);
        }
    }
    if (bs->drv->refresh_limits) {
        bs->drv->refresh_limits(bs, &bl);
    }
    g_assert(is_power_of_2(bl.request_alignment));
    return bl;
}

/* Member by member: what lies between them is undefined. */
static bool limits_equal(const BlockLimits *a, const BlockLimits *b)
{
    return a->request_alignment == b->request_alignment && a->max_pdiscard == b->max_pdiscard &&
           a->max_pwrite_zeroes == b->max_pwrite_zeroes && a->pdiscard_alignment == b->pdiscard_alignment &&
           a->pwrite_zeroes_alignment == b->pwrite_zeroes_alignment && a->max_transfer == b->max_transfer &&
           a->opt_transfer == b->opt_transfer && a->min_mem_alignment == b->min_mem_alignment &&
           a->opt_mem_alignment == b->opt_mem_alignment && a->max_iov == b->max_iov;
}

static bool refresh_limits(BlockDriverState *bs)
{
    BlockLimits bl = limits_compute(bs);
    bool changed = !limits_equal(&bl, &bs->bl);

    bs->bl = bl;
    return changed;
}

void graph_refresh_up(GPtrArray *nodes)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    for (guint i = 0; i < nodes->len; i++) {
        g_ptr_array_add(todo, g_ptr_array_index(nodes, i));
    }
    while (todo->len) {
        BlockDriverState *bs = g_ptr_array_steal_index_fast(todo, todo->len - 1);
        BdrvChild *c;

        if (!bs->opened) {
            continue;       /* it does this itself when it is done */
        }
        bool limits_changed = refresh_limits(bs);

        if (!graph_filename_refresh(bs) && !limits_changed) {
            continue;
        }
        LIST_FOREACH(c, &bs->parents, next_parent) {
            if (bdrv_child_parent_bs(c)) {
                g_ptr_array_add(todo, c->opaque);
            }
        }
    }
}

void graph_refresh_parents(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) parents = g_ptr_array_new();
    BdrvChild *c;

    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (bdrv_child_parent_bs(c)) {
            g_ptr_array_add(parents, c->opaque);
        }
    }
    graph_refresh_up(parents);
}

void bdrv_refresh_limits(BlockDriverState *bs)
{
    if (bs->drv && refresh_limits(bs)) {
        graph_refresh_parents(bs);
    }
}

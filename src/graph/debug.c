/* SPDX-License-Identifier: MIT */
/* debug.c: events of the engine for blkdebug nodes, and breakpoints at them.
 *
 * An event says what is about to happen at a node. It is raised all over the request path, so
 * that raising it costs one test of bdrv_debug_nodes while there is no blkdebug node.
 *
 * Runs on: events: any thread, in a coroutine; the rest: the main thread.
 */
#include "base/osdep.h"
#include "block/block.h"

unsigned bdrv_debug_nodes;

void bdrv_debug_nodes_add(int n)
{
    __atomic_fetch_add(&bdrv_debug_nodes, n, __ATOMIC_SEQ_CST);
}

void coroutine_fn bdrv_co_debug_event_slow(BlockDriverState *bs, BlkdebugEvent event)
{
    if (bs->drv && bs->drv->co_debug_event) {
        bs->drv->co_debug_event(bs, event);
    }
}

/* The node that knows breakpoints, at or below @bs. */
static BlockDriverState *debug_node(BlockDriverState *bs)
{
    while (bs && bs->drv && !bs->drv->debug_breakpoint) {
        bs = bdrv_primary_bs(bs);
    }
    return bs && bs->drv ? bs : NULL;
}

int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag)
{
    bs = debug_node(bs);
    return bs ? bs->drv->debug_breakpoint(bs, event, tag) : -ENOTSUP;
}

int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    bs = debug_node(bs);
    return bs ? bs->drv->debug_remove_breakpoint(bs, tag) : -ENOTSUP;
}

int bdrv_debug_resume(BlockDriverState *bs, const char *tag)
{
    bs = debug_node(bs);
    return bs ? bs->drv->debug_resume(bs, tag) : -ENOTSUP;
}

bool bdrv_debug_is_suspended(BlockDriverState *bs, const char *tag)
{
    bs = debug_node(bs);
    return bs && bs->drv->debug_is_suspended(bs, tag);
}

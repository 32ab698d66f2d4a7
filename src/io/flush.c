/* SPDX-License-Identifier: MIT */
/* flush.c: make written data durable, from a node down.
 *
 * A format writes its caches to its children, then these are flushed. A protocol makes its
 * storage durable, unless nothing changed since the last flush began (bs->unflushed), or
 * cache.no-flush says not to. One flush at a time at each node: those that come meanwhile wait, and
 * then one of them flushes for all that wait: it began after all of them had been asked for.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above.
 */
#include "io/io_private.h"

/* Something is kept here that is to reach the children: all but what only reads. */
static bool child_has_writes(const BdrvChild *c)
{
    return bdrv_child_perm(c) & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED);
}

static int coroutine_fn flush_children(BlockDriverState *bs)
{
    BdrvChild *c;
    int ret = 0;

    LIST_FOREACH(c, &bs->children, next) {
        if (child_has_writes(c)) {
            int one = bdrv_co_flush(c->bs);

            ret = ret ? ret : one;
        }
    }
    return ret;
}

static int coroutine_fn flush_storage(BlockDriverState *bs)
{
    int ret = 0;

    if (!__atomic_exchange_n(&bs->unflushed, 0, __ATOMIC_SEQ_CST)) {
        return 0;
    }
    if (bs->drv->co_flush && !(bs->open_flags & BDRV_O_NO_FLUSH)) {
        ret = bs->drv->co_flush(bs);
        g_assert(ret <= 0);
    }
    if (ret) {
        __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
    }
    return ret;
}

/* A rule of the node below may be about just this. */
static void coroutine_fn event_below(BlockDriverState *bs, BlkdebugEvent event)
{
    BlockDriverState *below = bdrv_debug_nodes_exist() ? bdrv_primary_bs(bs) : NULL;

    if (unlikely(below)) {
        bdrv_co_debug_event(below, event);
    }
}

static int coroutine_fn flush_node(BlockDriverState *bs)
{
    int ret = 0;

    event_below(bs, BLKDEBUG_EVENT_FLUSH_TO_OS);

    if (bs->drv->kind == BLOCK_DRIVER_PROTOCOL) {
        ret = flush_storage(bs);
    } else if (bs->drv->co_flush) {
        ret = bs->drv->co_flush(bs);
        g_assert(ret <= 0);
    }
    if (!ret) {
        event_below(bs, BLKDEBUG_EVENT_FLUSH_TO_DISK);
    }
    return ret || bs->drv->flushes_children ? ret : flush_children(bs);
}

/* Take turns. A flush that began after ours was asked for, and succeeded, has done our work. */
static int coroutine_fn flush_in_turn(BlockDriverState *bs)
{
    bool storage = bs->drv->kind == BLOCK_DRIVER_PROTOCOL;
    int ret = 0;

    pthread_mutex_lock(&bs->flush_lock);
    uint64_t ticket = bs->flushes_begun, own;

    while (bs->flush_in_progress) {
        qemu_co_queue_wait_plain(&bs->flush_queue, &bs->flush_lock);
    }
    if (bs->flush_succeeded > ticket ||
        (storage && !__atomic_load_n(&bs->unflushed, __ATOMIC_SEQ_CST))) {
        qemu_co_enter_next(&bs->flush_queue);
        pthread_mutex_unlock(&bs->flush_lock);
        return 0;
    }
    bs->flush_in_progress = true;
    own = ++bs->flushes_begun;
    pthread_mutex_unlock(&bs->flush_lock);

    ret = flush_node(bs);

    pthread_mutex_lock(&bs->flush_lock);
    bs->flush_in_progress = false;
    if (!ret) {
        bs->flush_succeeded = own;
    }
    qemu_co_enter_next(&bs->flush_queue);
    pthread_mutex_unlock(&bs->flush_lock);
    return ret;
}

int coroutine_fn bdrv_co_flush(BlockDriverState *bs)
{
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    count_begin(bs);
    if (is_filter(bs->drv) && !bs->drv->co_flush) {
        ret = flush_children(bs);       /* nothing of its own to merge */
    } else {
        ret = flush_in_turn(bs);
    }
    count_end(bs);
    return ret;
}

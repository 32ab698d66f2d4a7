/* SPDX-License-Identifier: MIT */
/* request.c: which requests are in flight at a node, and which must wait for which.
 *
 * A serialising request (read-modify-write, BDRV_REQ_SERIALISING, a growing truncate) runs
 * while no other overlaps it. To know the others it would need a record of each; but almost
 * all requests are at nodes where nothing ever serialises, and should not pay for it. So:
 *
 *   bs->tracking == 0   requests make no record. They are counted, in the high half of
 *                       bs->in_flight.
 *   bs->tracking == 1   requests put a record into the node's tree, under reqs_lock.
 *
 * A serialising request sets tracking, then waits until those without a record are gone
 * (whatever they overlap: they are few, already running, and no new ones come), then for those
 * of the tree that do overlap. Order: a request raises the counter, then looks at tracking;
 * the serialising one sets tracking, then looks at the counter. One of them sees the other.
 * The node goes back to tracking == 0 after RECORDS_QUIET_MAX requests without a serialising one.
 *
 * A record waits only for older ones (bs->reqs_sequence): no two wait for each other, and nobody is
 * overtaken for ever. Waiters may be in any thread.
 */
#include "io/io_private.h"

#define RECORDS_QUIET_MAX 1024

static uint64_t unrecorded(uint64_t in_flight)
{
    return in_flight / IN_FLIGHT_UNRECORDED;
}

/* ---- records; reqs_lock held ---- */

static void record_insert(BdrvTrackedRequest *req, BlockDriverState *bs, int64_t offset,
                          int64_t bytes, bool serialising)
{
    *req = (BdrvTrackedRequest) {
        .range = { .start = offset, .end = offset + bytes },
        .recorded = true,
        .serialising = serialising,
        .sequence = bs->reqs_sequence++,
        .co = qemu_coroutine_self(),
    };
    qemu_co_queue_init(&req->waiters);
    interval_tree_insert(bs->reqs, &req->range);
    if (serialising) {
        bs->serialising_in_flight++;
        bs->reqs_quiet = 0;
    } else if (!bs->serialising_in_flight && ++bs->reqs_quiet > RECORDS_QUIET_MAX) {
        __atomic_store_n(&bs->tracking, 0, __ATOMIC_SEQ_CST);
    }
}

static void record_remove(BdrvTrackedRequest *req, BlockDriverState *bs)
{
    interval_tree_remove(bs->reqs, &req->range);
    bs->serialising_in_flight -= req->serialising;
    qemu_co_queue_restart_all(&req->waiters);
}

/* An older record that @req must not overlap. */
static BdrvTrackedRequest *record_find_conflict(BdrvTrackedRequest *req, BlockDriverState *bs)
{
    int64_t start = req->range.start, end = req->range.end;

    for (IntervalNode *n = interval_tree_first_overlap(bs->reqs, start, end); n;
         n = interval_tree_next_overlap(n, start, end)) {
        BdrvTrackedRequest *other = container_of(n, BdrvTrackedRequest, range);

        if (other->sequence < req->sequence && (other->serialising || req->serialising)) {
            return other;
        }
    }
    return NULL;
}

static void coroutine_fn record_wait(BdrvTrackedRequest *req, BlockDriverState *bs)
{
    BdrvTrackedRequest *other;

    if (!bs->serialising_in_flight) {
        return;
    }
    while ((other = record_find_conflict(req, bs))) {
        g_assert(other->co != req->co);     /* it would wait for itself */
        qemu_co_queue_wait_plain(&other->waiters, &bs->reqs_lock);
    }
}

/* ---- requests ---- */

/* The slow half of request_begin(): counted, but tracking is on. */
void coroutine_fn request_begin_recorded(BdrvTrackedRequest *req, BlockDriverState *bs,
                                         int64_t offset, int64_t bytes)
{
    pthread_mutex_lock(&bs->reqs_lock);
    record_insert(req, bs, offset, bytes, false);
    if (!unrecorded(__atomic_sub_fetch(&bs->in_flight, IN_FLIGHT_UNRECORDED, __ATOMIC_SEQ_CST))) {
        qemu_co_queue_restart_all(&bs->unrecorded_queue);
    }
    record_wait(req, bs);
    pthread_mutex_unlock(&bs->reqs_lock);
}

int coroutine_fn request_begin_serialising(BdrvTrackedRequest *req, BlockDriverState *bs,
                                           int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    int64_t align = bs->bl.request_alignment;
    int64_t start = QEMU_ALIGN_DOWN(offset, align), end = QEMU_ALIGN_UP(offset + bytes, align);
    int ret = 0;

    count_begin(bs);
    pthread_mutex_lock(&bs->reqs_lock);
    __atomic_store_n(&bs->tracking, 1, __ATOMIC_SEQ_CST);
    record_insert(req, bs, start, end - start, true);
    if (flags & BDRV_REQ_NO_WAIT) {
        if (unrecorded(__atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST)) ||
            record_find_conflict(req, bs)) {
            record_remove(req, bs);
            ret = -EBUSY;
        }
    } else {
        while (unrecorded(__atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST))) {
            qemu_co_queue_wait_plain(&bs->unrecorded_queue, &bs->reqs_lock);
        }
        record_wait(req, bs);
    }
    pthread_mutex_unlock(&bs->reqs_lock);
    if (ret) {
        count_end(bs);
    }
    return ret;
}

void request_end_recorded(BdrvTrackedRequest *req, BlockDriverState *bs)
{
    pthread_mutex_lock(&bs->reqs_lock);
    record_remove(req, bs);
    pthread_mutex_unlock(&bs->reqs_lock);
    count_end(bs);
}

/* The slow half of request_end(): somebody may wait for the counter, now @in_flight. */
void request_end_watched(BlockDriverState *bs, uint64_t in_flight)
{
    if (!unrecorded(in_flight)) {
        pthread_mutex_lock(&bs->reqs_lock);
        qemu_co_queue_restart_all(&bs->unrecorded_queue);
        pthread_mutex_unlock(&bs->reqs_lock);
    }
    if (__atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST)) {
        aio_wait_kick();
    }
}

/* ---- the node's part ---- */

void bdrv_io_init(BlockDriverState *bs)
{
    pthread_mutex_init(&bs->reqs_lock, NULL);
    pthread_mutex_init(&bs->flush_lock, NULL);
    qemu_co_queue_init(&bs->unrecorded_queue);
    qemu_co_queue_init(&bs->flush_queue);
    bs->reqs = g_new0(IntervalTree, 1);
    LIST_INIT(&bs->write_observers);
    LIST_INIT(&bs->dirty_bitmaps);
    bs->bl.request_alignment = 1;
}

void bdrv_io_destroy(BlockDriverState *bs)
{
    g_assert(interval_tree_empty(bs->reqs) && !bs->in_flight && !bs->flush_in_progress);
    g_assert(LIST_EMPTY(&bs->write_observers) && LIST_EMPTY(&bs->dirty_bitmaps));
    pthread_mutex_destroy(&bs->reqs_lock);
    pthread_mutex_destroy(&bs->flush_lock);
    g_clear_pointer(&bs->reqs, g_free);
}

void bdrv_add_write_observer(BlockDriverState *bs, BdrvWriteObserver *obs)
{
    bdrv_drained_begin(bs);
    LIST_INSERT_HEAD(&bs->write_observers, obs, link);
    bdrv_drained_end(bs);
}

void bdrv_remove_write_observer(BlockDriverState *bs, BdrvWriteObserver *obs)
{
    bdrv_drained_begin(bs);
    LIST_REMOVE(obs, link);
    bdrv_drained_end(bs);
}

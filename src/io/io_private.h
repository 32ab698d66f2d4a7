/* SPDX-License-Identifier: MIT */
/* io_private.h: inside the request path: records of requests, padding, and the calls
 * of drivers.
 *
 * Every request at a node is counted in bs->in_flight from request_begin() to
 * request_end(). One that does not serialise costs nothing more as long as no
 * serialising request has been seen at the node lately; see request.c.
 */
#ifndef LIVEBLK_IO_PRIVATE_H
#define LIVEBLK_IO_PRIVATE_H

#include "base/osdep.h"
#include "base/interval_tree.h"
#include "block/block.h"

/* One request without a record, in bs->in_flight. */
#define IN_FLIGHT_UNRECORDED (1ULL << 32)

/* Lives on the stack of the request's coroutine. Without a record only `recorded` is valid. */
typedef struct BdrvTrackedRequest {
    IntervalNode range;             /* what it must not share with a serialising one */
    bool recorded;
    bool serialising;
    uint64_t sequence;              /* waits only for older ones: no deadlock */
    Coroutine *co;
    CoQueue waiters;
} BdrvTrackedRequest;

/* ---- request.c ---- */
void coroutine_fn request_begin_recorded(BdrvTrackedRequest *req, BlockDriverState *bs,
                                         int64_t offset, int64_t bytes);
void request_end_recorded(BdrvTrackedRequest *req, BlockDriverState *bs);
void request_end_watched(BlockDriverState *bs, uint64_t in_flight);
/* Begin a request that no other may overlap, [@offset, +@bytes) widened to the node's
 * alignment. 0, or with NO_WAIT in @flags -EBUSY, and then it has not begun. */
int coroutine_fn request_begin_serialising(BdrvTrackedRequest *req, BlockDriverState *bs,
                                           int64_t offset, int64_t bytes, BdrvRequestFlags flags);

static inline void coroutine_fn request_begin(BdrvTrackedRequest *req, BlockDriverState *bs,
                                              int64_t offset, int64_t bytes)
{
    __atomic_fetch_add(&bs->in_flight, IN_FLIGHT_UNRECORDED + 1, __ATOMIC_SEQ_CST);
    req->recorded = false;
    if (unlikely(__atomic_load_n(&bs->tracking, __ATOMIC_SEQ_CST))) {
        request_begin_recorded(req, bs, offset, bytes);
    }
}

/* The caller is counted somewhere above, so @bs stays a moment longer. */
static inline void request_end(BdrvTrackedRequest *req, BlockDriverState *bs)
{
    if (unlikely(req->recorded)) {
        request_end_recorded(req, bs);
        return;
    }
    uint64_t left = __atomic_sub_fetch(&bs->in_flight, IN_FLIGHT_UNRECORDED + 1, __ATOMIC_SEQ_CST);

    if (unlikely(__atomic_load_n(&bs->tracking, __ATOMIC_SEQ_CST) |
                 (unsigned)__atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST))) {
        request_end_watched(bs, left);
    }
}

/* Counted only: flush, status, length. */
static inline void count_begin(BlockDriverState *bs)
{
    __atomic_fetch_add(&bs->in_flight, 1, __ATOMIC_SEQ_CST);
}

static inline void count_end(BlockDriverState *bs)
{
    __atomic_fetch_sub(&bs->in_flight, 1, __ATOMIC_SEQ_CST);
    if (unlikely(__atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST))) {
        aio_wait_kick();
    }
}

/* ---- what nodes are ---- */

/* The child that filter @bs shows; NULL for a filter that has none (yet). */
static inline BdrvChild *filter_child(BlockDriverState *bs)
{
    BdrvChild *c = bs->file;

    if (!c || !(c->role & BDRV_CHILD_FILTERED)) {
        c = bs->backing;
    }
    return c;
}

static inline bool is_filter(const BlockDriver *drv)
{
    return drv->kind == BLOCK_DRIVER_FILTER;
}

/* Does the length of @bs follow something else's? */
static inline bool has_variable_length(const BlockDriver *drv)
{
    return drv->has_variable_length || (is_filter(drv) && !drv->co_getlength);
}

static inline int64_t min_non_zero(int64_t a, int64_t b)
{
    return a && a < b ? a : b;
}

/* Most bytes that one read or write of the driver may have. */
static inline int64_t transfer_max(const BlockDriverState *bs)
{
    return min_non_zero(QEMU_ALIGN_DOWN(bs->bl.max_transfer, bs->bl.request_alignment),
                        QEMU_ALIGN_DOWN(BDRV_REQUEST_MAX_BYTES, bs->bl.request_alignment));
}

/* ---- rw.c, write.c: on aligned ranges, the caller having begun a request ---- */
int coroutine_fn driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn driver_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
/* Check what a caller asked for. 0 or -errno. */
static inline int request_check(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    if (unlikely(!bs->drv)) {
        return -ENOMEDIUM;
    }
    if (unlikely(offset < 0 || bytes < 0 || offset > BDRV_MAX_LENGTH ||
                 bytes > BDRV_MAX_LENGTH - offset)) {
        return -EIO;
    }
    return 0;
}

/* May @child's parent write with @flags here? 0 or -errno. */
static inline int write_check(BdrvChild *child, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    int ret = request_check(child->bs, offset, bytes);

    if (unlikely(ret)) {
        return ret;
    }
    if (unlikely(child->bs->read_only)) {
        return -EPERM;
    }
    g_assert(bdrv_child_perm(child) & (flags & BDRV_REQ_WRITE_UNCHANGED ? BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED
                                                                       : BLK_PERM_WRITE));
    return 0;
}

/* A write may end beyond the node only where the parent may resize it. */
bool write_within_slow(BdrvChild *child, int64_t end);

static inline bool write_within(BdrvChild *child, int64_t end)
{
    return likely(end <= __atomic_load_n(&child->bs->total_bytes, __ATOMIC_RELAXED)) ||
           write_within_slow(child, end);
}

/* The contents of [@offset, +@bytes) changed, or may have: tell whoever keeps account. To be
 * called before the request is acknowledged, also when it failed. @durable: needs no flush. */
static inline void contents_changed(BlockDriverState *bs, int64_t offset, int64_t bytes, bool durable)
{
    BdrvWriteObserver *obs;

    if (!durable && !__atomic_load_n(&bs->unflushed, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
    }
    LIST_FOREACH(obs, &bs->write_observers, link) {
        obs->written(obs, offset, bytes);
    }
}

/* The same at the end of a write with result @ret, which may also have made the node longer. */
void coroutine_fn write_reached(BlockDriverState *bs, uint64_t end);

static inline void coroutine_fn write_finish(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags, int ret)
{
    uint64_t end = offset + bytes;

    if (!ret && (unlikely(end > (uint64_t)__atomic_load_n(&bs->total_bytes, __ATOMIC_RELAXED)) ||
                 __atomic_load_n(&bs->wr_highest_offset, __ATOMIC_RELAXED) < end)) {
        write_reached(bs, end);
    }
    contents_changed(bs, offset, bytes, !ret && (flags & BDRV_REQ_FUA));
}

/* Parents hear that the length is another. */
void parents_resized(BlockDriverState *bs);

/* ---- pad.c ---- */
enum { PAD_IOV_LOCAL = 12 };

/* An unaligned request widened to the alignment: scratch memory at either end. */
typedef struct IoPad {
    uint8_t *buf;               /* one or two blocks: the first and, if another, the last */
    size_t buf_len;
    uint8_t *tail_buf;          /* the block of the tail, in buf */
    size_t head, tail;          /* bytes added */
    bool merged;                /* buf is the whole of the widened range */
    QEMUIOVector qiov;          /* head, the caller's part, tail */
    struct iovec local[PAD_IOV_LOCAL];
} IoPad;

/* Widen *offset, *bytes; false if they are aligned and nothing is to be done. */
bool pad_init(IoPad *pad, BlockDriverState *bs, int64_t *offset, int64_t *bytes);
/* Build pad->qiov around the caller's part. */
void pad_wrap(IoPad *pad, QEMUIOVector *qiov, size_t qiov_offset, size_t bytes);
/* Fill the blocks at the ends with what the node holds at @offset (widened), +@bytes. */
int coroutine_fn pad_fill(IoPad *pad, BlockDriverState *bs, int64_t offset, int64_t bytes);
void pad_destroy(IoPad *pad);

/* ---- zero.c ---- */
int coroutine_fn driver_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags);

#endif

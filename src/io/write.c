/* SPDX-License-Identifier: MIT */
/* write.c: writes: checks, serialising, read-modify-write, zero detection, and the account that is
 * kept of changed contents.
 *
 * An unaligned write serialises over the blocks it touches: it reads the first and the last, and
 * writes all back, and nobody may write to them in between.
 * Whatever a write did, and also when it failed half way, observers (dirty bitmaps, jobs) hear of
 * it before it is acknowledged.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above.
 */
#include "io/io_private.h"
#include "qapi-events.h"

/* ---- account ---- */

static void parents_resized_now(BlockDriverState *bs)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->resize) {
            c->klass->resize(c);
        }
    }
}

static void parents_resized_bh(void *opaque)
{
    BlockDriverState *bs = opaque;

    parents_resized_now(bs);
    bdrv_dec_in_flight(bs);
}

/* In the main thread, at once or soon; the node is held meanwhile. */
void parents_resized(BlockDriverState *bs)
{
    BdrvChild *c;

    if (qemu_in_main_thread()) {
        parents_resized_now(bs);
        return;
    }
    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->resize) {
            bdrv_inc_in_flight(bs);
            aio_bh_schedule_oneshot(qemu_get_aio_context(), parents_resized_bh, bs);
            break;
        }
    }
}

static void length_grown(BlockDriverState *bs, int64_t length)
{
    BdrvWriteObserver *obs;

    LIST_FOREACH(obs, &bs->write_observers, link) {
        if (obs->resized) {
            obs->resized(obs, length);
        }
    }
    parents_resized(bs);
}

/* A write went beyond the end that we know of. */
static void coroutine_fn length_grow(BlockDriverState *bs, int64_t end)
{
    int64_t length = __atomic_load_n(&bs->total_bytes, __ATOMIC_RELAXED);

    if (has_variable_length(bs->drv)) {
        int64_t now = bdrv_co_getlength(bs);

        if (now > length) {
            length_grown(bs, now);
        }
        return;
    }
    end = QEMU_ALIGN_UP(end, BDRV_SECTOR_SIZE);
    do {
        if (length >= end) {
            return;
        }
    } while (!__atomic_compare_exchange_n(&bs->total_bytes, &length, end, true,
                                          __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    length_grown(bs, end);
}

static void highest_raise(uint64_t *highest, uint64_t end)
{
    uint64_t old = __atomic_load_n(highest, __ATOMIC_RELAXED);

    while (old < end && !__atomic_compare_exchange_n(highest, &old, end, true,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* The slow part of write_finish(): something grew. */
void coroutine_fn write_reached(BlockDriverState *bs, uint64_t end)
{
    highest_raise(&bs->wr_highest_offset, end);
    if (end > (uint64_t)__atomic_load_n(&bs->total_bytes, __ATOMIC_RELAXED)) {
        length_grow(bs, end);
    }
}

/* ---- write threshold ---- */

void bdrv_write_threshold_set(BlockDriverState *bs, uint64_t offset)
{
    __atomic_store_n(&bs->write_threshold_offset, offset, __ATOMIC_SEQ_CST);
}

/* Once: passing it switches it off. */
static void threshold_check(BlockDriverState *bs, uint64_t end)
{
    uint64_t threshold = __atomic_load_n(&bs->write_threshold_offset, __ATOMIC_SEQ_CST);

    if (threshold && end > threshold &&
        __atomic_compare_exchange_n(&bs->write_threshold_offset, &threshold, 0, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        qapi_event_send_block_write_threshold(bs->node_name, end - threshold, threshold);
    }
}

/* ---- the aligned write ---- */

/* Could this data be written as zeroes? Sets what to write it with. */
static bool detect_zeroes(BlockDriverState *bs, QEMUIOVector *qiov, size_t qiov_offset, int64_t bytes,
                          BdrvRequestFlags *flags)
{
    if ((*flags & (BDRV_REQ_ZERO_WRITE | BDRV_REQ_WRITE_COMPRESSED)) ||
        (!bs->drv->co_pwrite_zeroes && !is_filter(bs->drv)) ||
        !qemu_iovec_is_zero(qiov, qiov_offset, bytes)) {
        return false;
    }
    *flags |= BDRV_REQ_ZERO_WRITE;
    if (bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP) {
        *flags |= BDRV_REQ_MAY_UNMAP;
    }
    return true;
}

static inline int coroutine_fn aligned_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    int ret;

    if (unlikely(bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) && qiov) {
        detect_zeroes(bs, qiov, qiov_offset, bytes, &flags);
    }
    if (unlikely(flags & BDRV_REQ_ZERO_WRITE)) {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_ZERO);
        ret = driver_pwrite_zeroes(bs, offset, bytes, flags);
    } else {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV);
        ret = driver_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_DONE);
    return ret;
}

/* ---- unaligned ---- */

static int coroutine_fn padded_pwritev(BdrvChild *child, IoPad *pad, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset, size_t user_bytes,
                                       BdrvRequestFlags flags)
{
    int ret = pad_fill(pad, child->bs, offset, bytes);

    if (ret) {
        return ret;
    }
    pad_wrap(pad, qiov, qiov_offset, user_bytes);
    return aligned_pwritev(child, offset, bytes, &pad->qiov, 0, flags & ~BDRV_REQ_REGISTERED_BUF);
}

static int coroutine_fn zero_block(BdrvChild *child, uint8_t *block, int64_t offset, BdrvRequestFlags flags)
{
    size_t align = child->bs->bl.request_alignment;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, block, align);
    return aligned_pwritev(child, offset, align, &qiov, 0,
                           flags & ~(BDRV_REQ_ZERO_WRITE | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK));
}

/* Zeroes with unaligned ends: the blocks there are read, changed and written; the middle is zeroed. */
static int coroutine_fn padded_zeroes(BdrvChild *child, IoPad *pad, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags)
{
    size_t align = child->bs->bl.request_alignment;
    int ret = pad_fill(pad, child->bs, offset, bytes);

    if (ret) {
        return ret;
    }
    if (pad->merged && pad->buf_len == align) {
        memset(pad->buf + pad->head, 0, align - pad->head - pad->tail);
        return zero_block(child, pad->buf, offset, flags);
    }
    if (pad->head) {
        memset(pad->buf + pad->head, 0, align - pad->head);
        ret = zero_block(child, pad->buf, offset, flags);
        offset += align;
        bytes -= align;
    }
    if (!ret && pad->tail) {
        memset(pad->tail_buf, 0, align - pad->tail);
        bytes -= align;
        ret = zero_block(child, pad->tail_buf, offset + bytes, flags);
    }
    return ret || !bytes ? ret : aligned_pwritev(child, offset, bytes, NULL, 0, flags);
}

static int coroutine_fn unaligned_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                          QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t user_bytes = bytes;
    IoPad pad;
    int ret;

    if (!pad_init(&pad, child->bs, &offset, &bytes)) {
        return aligned_pwritev(child, offset, bytes, qiov, qiov_offset, flags);
    }
    if (flags & BDRV_REQ_ZERO_WRITE) {
        ret = padded_zeroes(child, &pad, offset, bytes, flags);
    } else {
        ret = padded_pwritev(child, &pad, offset, bytes, qiov, qiov_offset, user_bytes, flags);
    }
    pad_destroy(&pad);
    return ret;
}

/* Does the operation exist here, or does the request pass on to the filter's child as it is? */
static inline bool write_passes_on(const BlockDriver *drv, BdrvRequestFlags flags)
{
    if (likely(!is_filter(drv))) {
        return false;
    }
    return flags & BDRV_REQ_ZERO_WRITE ? !drv->co_pwrite_zeroes
           : flags & BDRV_REQ_WRITE_COMPRESSED ? !drv->co_pwritev_compressed && !drv->co_pwritev : !drv->co_pwritev;
}

bool write_within_slow(BdrvChild *child, int64_t end)
{
    int64_t align = MAX(child->bs->bl.request_alignment, BDRV_SECTOR_SIZE);

    return (bdrv_child_perm(child) & BLK_PERM_RESIZE) || end <= QEMU_ALIGN_UP(bdrv_getlength_cached(child->bs), align);
}

int coroutine_fn bdrv_co_pwritev_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    bool unaligned;
    int ret = write_check(child, offset, bytes, flags);

    if (unlikely(ret || !bytes)) {
        return ret;
    }
    g_assert(qiov || (flags & BDRV_REQ_ZERO_WRITE));
    if (unlikely(!write_within(child, offset + bytes))) {
        return -EIO;        /* it was made shorter while this was on its way */
    }
    unaligned = ((offset | bytes) & (bs->bl.request_alignment - 1)) && !write_passes_on(bs->drv, flags);
    if (unlikely(unaligned || (flags & BDRV_REQ_SERIALISING))) {
        ret = request_begin_serialising(&req, bs, offset, bytes, flags);
        if (ret) {
            return ret;
        }
    } else {
        request_begin(&req, bs, offset, bytes);
    }
    if (unlikely(__atomic_load_n(&bs->write_threshold_offset, __ATOMIC_RELAXED))) {
        threshold_check(bs, offset + bytes);
    }
    if (likely(!unaligned)) {
        ret = aligned_pwritev(child, offset, bytes, qiov, qiov_offset, flags);
    } else {
        ret = unaligned_pwritev(child, offset, bytes, qiov, qiov_offset, flags);
    }
    write_finish(bs, offset, bytes, flags, ret);
    request_end(&req, bs);
    return ret;
}

int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(child, offset, bytes, qiov, 0, flags);
}

int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf,
                                BdrvRequestFlags flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return bdrv_co_pwritev_part(child, offset, bytes, &qiov, 0, flags);
}

int coroutine_fn bdrv_co_pwrite_sync(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf,
                                     BdrvRequestFlags flags)
{
    int ret = bdrv_co_pwrite(child, offset, bytes, buf, flags);

    return ret ? ret : bdrv_co_flush(child->bs);
}

/* SPDX-License-Identifier: MIT */
/* rw.c: reads, and the calls of drivers that move data.
 *
 * A request goes: checks; counted (and recorded, if need be); widened to the node's
 * alignment; cut to what the driver can take; the driver. A read that reaches beyond the end of the
 * node gives zeroes there. On a filter without the operation the request goes on to its child
 * as it is. The usual request, aligned and within the limits, takes the straight way through.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above.
 */
#include "io/io_private.h"

/* What any driver may see of the flags of a read. */
#define READ_FLAGS_DRIVER (BDRV_REQ_REGISTERED_BUF | BDRV_REQ_PREFETCH | BDRV_REQ_COPY_ON_READ | BDRV_REQ_BULK)
/* ... and of a write, besides those the node says it supports. */
#define WRITE_FLAGS_DRIVER (BDRV_REQ_REGISTERED_BUF | BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_BULK)

typedef int coroutine_fn DriverRw(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags);

static inline bool fits_driver(const BlockDriverState *bs, int64_t bytes, const QEMUIOVector *qiov)
{
    return (!bs->bl.max_transfer || bytes <= bs->bl.max_transfer) &&
           (!bs->bl.max_iov || qiov->niov <= bs->bl.max_iov);
}

/* How much of [@qiov_offset, +@bytes) lies in at most @max_iov buffers. */
static size_t iov_prefix(QEMUIOVector *qiov, size_t qiov_offset, size_t bytes, int max_iov)
{
    size_t head, tail, n = 0;
    int niov;
    struct iovec *v = qemu_iovec_slice(qiov, qiov_offset, bytes, &head, &tail, &niov);

    if (niov <= max_iov) {
        return bytes;
    }
    for (int i = 0; i < max_iov; i++) {
        n += v[i].iov_len;
    }
    return n - head;
}

/* Pass [@offset, +@bytes) through one buffer: it comes in too many small pieces. */
static int coroutine_fn bounce_rw(BlockDriverState *bs, DriverRw *op, bool is_write, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset,
                                  BdrvRequestFlags flags)
{
    void *buf = qemu_blockalign(bs, bytes);
    QEMUIOVector local;

    qemu_iovec_init_buf(&local, buf, bytes);
    if (is_write) {
        qemu_iovec_to_buf(qiov, qiov_offset, buf, bytes);
    }
    int ret = op(bs, offset, bytes, &local, 0, flags & ~BDRV_REQ_REGISTERED_BUF);

    if (!is_write && !ret) {
        qemu_iovec_from_buf(qiov, qiov_offset, buf, bytes);
    }
    qemu_vfree(buf);
    return ret;
}

enum { BOUNCE_BYTES_MAX = 64 * 1024 };

/* Cut a request to the driver's limits, at aligned places. */
static int coroutine_fn split_rw(BlockDriverState *bs, DriverRw *op, bool is_write, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset,
                                 BdrvRequestFlags flags)
{
    int64_t align = bs->bl.request_alignment, max = transfer_max(bs), bounce = MAX(align, BOUNCE_BYTES_MAX);
    int max_iov = bs->bl.max_iov ? bs->bl.max_iov : INT_MAX;
    int ret = 0;

    while (bytes && !ret) {
        int64_t n = MIN(bytes, max);
        int64_t direct = QEMU_ALIGN_DOWN((int64_t)iov_prefix(qiov, qiov_offset, n, max_iov), align);

        if (direct) {
            n = direct;
            ret = op(bs, offset, n, qiov, qiov_offset, flags);
        } else {
            n = MIN(n, bounce);
            ret = bounce_rw(bs, op, is_write, offset, n, qiov, qiov_offset, flags);
        }
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return ret;
}

/* ---- reads ---- */

static inline void assert_driver_range(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset)
{
    g_assert(!((offset | bytes) & (bs->bl.request_alignment - 1)));
    g_assert(!qiov || qiov_offset + bytes <= qiov->size);
}

/* A read that reaches beyond the end, or is too much at once. */
static int coroutine_fn driver_preadv_slow(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset,
                                           BdrvRequestFlags flags)
{
    int64_t length = bdrv_co_getlength(bs);
    int ret = 0;

    if (length < 0) {
        return length;
    }
    int64_t there = QEMU_ALIGN_UP(length, (int64_t)bs->bl.request_alignment) - offset;

    there = MAX(MIN(there, bytes), 0);
    if (there && !qiov) {
        ret = bs->drv->co_preadv(bs, offset, there, NULL, 0, flags);
    } else if (there) {
        ret = split_rw(bs, bs->drv->co_preadv, false, offset, there, qiov, qiov_offset, flags);
    }
    if (!ret && there < bytes && qiov) {
        qemu_iovec_memset(qiov, qiov_offset + there, 0, bytes - there);
    }
    return ret;
}

/* Read from the driver itself; on a filter without the operation from its child. */
int coroutine_fn driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    const BlockDriver *drv = bs->drv;
    int ret;

    if (is_filter(drv)) {
        if (!drv->co_preadv) {
            return bdrv_co_preadv_part(filter_child(bs), offset, bytes, qiov, qiov_offset,
                                       flags & ~(BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT));
        }
    } else if (unlikely(flags & BDRV_REQ_PREFETCH)) {
        return 0;
    } else if (unlikely(!drv->co_preadv)) {
        return -ENOTSUP;
    }
    assert_driver_range(bs, offset, bytes, qiov, qiov_offset);
    flags &= READ_FLAGS_DRIVER;
    if (likely(offset + bytes <= __atomic_load_n(&bs->total_bytes, __ATOMIC_RELAXED) && qiov &&
               fits_driver(bs, bytes, qiov))) {
        ret = drv->co_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    } else {
        ret = driver_preadv_slow(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    g_assert(ret <= 0);
    return ret;
}

static int coroutine_fn unaligned_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t user_bytes = bytes;
    IoPad pad;

    if (!pad_init(&pad, bs, &offset, &bytes)) {
        return driver_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    if (qiov) {
        pad_wrap(&pad, qiov, qiov_offset, user_bytes);
    }
    int ret = driver_preadv(bs, offset, bytes, qiov ? &pad.qiov : NULL, 0,
                            flags & ~BDRV_REQ_REGISTERED_BUF);

    pad_destroy(&pad);
    return ret;
}

/* A filter without co_preadv takes a request of any alignment to its child. */
static inline bool needs_padding(const BlockDriverState *bs, bool passes_on, int64_t offset, int64_t bytes)
{
    return ((offset | bytes) & (bs->bl.request_alignment - 1)) && !passes_on;
}

int coroutine_fn bdrv_co_preadv_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret = request_check(bs, offset, bytes);

    if (unlikely(ret || !bytes)) {
        return ret;
    }
    g_assert(qiov || (flags & BDRV_REQ_PREFETCH));
    if (unlikely(flags & BDRV_REQ_SERIALISING)) {
        ret = request_begin_serialising(&req, bs, offset, bytes, flags);
        if (ret) {
            return ret;
        }
    } else {
        request_begin(&req, bs, offset, bytes);
    }
    if (likely(!needs_padding(bs, is_filter(bs->drv) && !bs->drv->co_preadv, offset, bytes))) {
        ret = driver_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    } else {
        ret = unaligned_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    request_end(&req, bs);
    return ret;
}

int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(child, offset, bytes, qiov, 0, flags);
}

int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
                               BdrvRequestFlags flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return bdrv_co_preadv_part(child, offset, bytes, &qiov, 0, flags);
}

/* ---- the driver's write ---- */

static int coroutine_fn driver_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return bs->drv->co_pwritev_compressed(bs, offset, bytes, qiov, qiov_offset);
}

int coroutine_fn driver_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    const BlockDriver *drv = bs->drv;
    bool compressed = flags & BDRV_REQ_WRITE_COMPRESSED;
    DriverRw *op = compressed ? (drv->co_pwritev_compressed ? driver_compressed : NULL) : drv->co_pwritev;
    int ret;

    if (!op) {
        /* A filter that looks at writes is not to be passed by. */
        return is_filter(drv) && !drv->co_pwritev ? bdrv_co_pwritev_part(filter_child(bs), offset, bytes, qiov, qiov_offset,
                                                     flags & ~(BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT))
                              : -ENOTSUP;
    }
    assert_driver_range(bs, offset, bytes, qiov, qiov_offset);
    BdrvRequestFlags pass = flags & (bs->supported_write_flags | WRITE_FLAGS_DRIVER) & ~BDRV_REQ_ZERO_WRITE;

    if (likely(fits_driver(bs, bytes, qiov))) {
        ret = op(bs, offset, bytes, qiov, qiov_offset, pass);
    } else {
        ret = split_rw(bs, op, true, offset, bytes, qiov, qiov_offset, pass);
    }
    g_assert(ret <= 0);
    if (!ret && (flags & ~pass & BDRV_REQ_FUA)) {
        /* The driver cannot make one write durable: make them all. The flush must not be left out
         * because a flush took our mark: set it again first. */
        __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
        ret = bdrv_co_flush(bs);
    }
    return ret;
}

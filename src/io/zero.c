/* SPDX-License-Identifier: MIT */
/* zero.c: write zeroes.
 *
 * The driver's own operation where it has one, cut at its alignment and its limit: an unaligned piece
 * at either end goes separately, so that its refusal (-ENOTSUP) does not spoil the middle.
 * What the driver refuses is written from a shared page of zeroes, unless NO_FALLBACK forbids.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above.
 */
#include "io/io_private.h"

enum { ZERO_BUFFER_BYTES = 64 * 1024, ZERO_IOV_MAX = 16 };

/* Never written to. Its alignment does for any driver that does not ask for more than a page. */
static uint8_t zero_buffer[ZERO_BUFFER_BYTES] __attribute__((aligned(4096)));

/* Write @bytes of zeroes as data, at most ZERO_IOV_MAX buffers at once. */
static int coroutine_fn zeroes_as_data(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags)
{
    size_t mem_align = MAX(bs->bl.min_mem_alignment, bs->bl.opt_mem_alignment);
    size_t unit = MIN(MAX(ZERO_BUFFER_BYTES, bs->bl.request_alignment), bytes);
    void *own = mem_align > 4096 || unit > ZERO_BUFFER_BYTES ? qemu_blockalign(bs, unit) : NULL;
    int64_t max = MIN(transfer_max(bs), (int64_t)unit * ZERO_IOV_MAX);
    struct iovec iov[ZERO_IOV_MAX];
    int ret = 0;

    if (own) {
        memset(own, 0, unit);
    }
    while (bytes && !ret) {
        int64_t n = MIN(bytes, max);
        QEMUIOVector qiov;
        int niov = 0;

        for (int64_t done = 0; done < n; done += iov[niov++].iov_len) {
            iov[niov] = (struct iovec) { own ? own : zero_buffer, MIN((int64_t)unit, n - done) };
        }
        qemu_iovec_init_external(&qiov, iov, niov);
        ret = driver_pwritev(bs, offset, n, &qiov, 0, flags);
        offset += n;
        bytes -= n;
    }
    qemu_vfree(own);
    return ret;
}

/* How much of the next @bytes goes into one call: up to the driver's alignment where @offset
 * is not at it, else without the tail that is not. */
static int64_t zeroes_piece(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = MAX(bs->bl.pwrite_zeroes_alignment, bs->bl.request_alignment);
    int64_t head = offset % align, tail = (offset + bytes) % align;
    int64_t max = min_non_zero(QEMU_ALIGN_DOWN(bs->bl.max_pwrite_zeroes, align), BDRV_MAX_LENGTH);

    if (head) {
        bytes = MIN(bytes, align - head);
    } else if (tail && bytes > align) {
        bytes -= tail;
    }
    return MIN(bytes, max);
}

int coroutine_fn driver_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags)
{
    const BlockDriver *drv = bs->drv;
    BdrvRequestFlags data_flags = flags & ~(BDRV_REQ_ZERO_WRITE | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK);
    BdrvRequestFlags pass;
    bool flush_after = false;
    int ret = 0;

    if (!(bs->open_flags & BDRV_O_UNMAP)) {
        flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    if (is_filter(drv) && !drv->co_pwrite_zeroes) {
        return bdrv_co_pwrite_zeroes(filter_child(bs), offset, bytes,
                                     flags & ~(BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT | BDRV_REQ_ZERO_WRITE));
    }
    if ((flags & ~bs->supported_zero_flags) & BDRV_REQ_NO_FALLBACK) {
        return -ENOTSUP;
    }
    pass = flags & (bs->supported_zero_flags | BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_BULK);
    while (bytes && !ret) {
        int64_t n = zeroes_piece(bs, offset, bytes);

        ret = -ENOTSUP;
        if (drv->co_pwrite_zeroes) {
            g_assert(!((offset | n) & (bs->bl.request_alignment - 1)));
            ret = drv->co_pwrite_zeroes(bs, offset, n, pass);
            g_assert(ret <= 0);
            flush_after |= !ret && (flags & ~pass & BDRV_REQ_FUA);
        }
        if (ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)) {
            ret = zeroes_as_data(bs, offset, n, data_flags);
        }
        offset += n;
        bytes -= n;
    }
    if (!ret && flush_after) {
        __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
        ret = bdrv_co_flush(bs);
    }
    return ret;
}

int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(child, offset, bytes, NULL, 0, flags | BDRV_REQ_ZERO_WRITE);
}

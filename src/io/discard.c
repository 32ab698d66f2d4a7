/* SPDX-License-Identifier: MIT */
/* discard.c: tell the storage that a range is not needed any more.
 *
 * Advice only: without discard=unmap on the node, or in a driver that cannot, nothing happens
 * and that is a success. Pieces at the ends that are not aligned to what the driver discards in
 * are offered to it and may be refused.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above.
 */
#include "io/io_private.h"

/* One call: up to an aligned place where @offset is at none, else without an unaligned tail. */
static int64_t discard_piece(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = MAX(bs->bl.pdiscard_alignment, bs->bl.request_alignment);
    int64_t small = bs->bl.request_alignment;
    int64_t max = min_non_zero(QEMU_ALIGN_DOWN(bs->bl.max_pdiscard, align), BDRV_MAX_LENGTH);
    int64_t head = offset % align, tail = (offset + bytes) % align;

    if (head) {
        /* First to the smallest unit, then to the driver's. */
        bytes = MIN(bytes, offset % small ? small - offset % small : align - head);
        if (bytes > small && bytes % small && offset % small == 0) {
            bytes -= bytes % small;
        }
    } else if (tail && bytes > align) {
        bytes -= tail;
    } else if (tail && bytes > small) {
        bytes -= bytes % small;
    }
    return MIN(bytes, max);
}

static int coroutine_fn driver_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = MAX(bs->bl.pdiscard_alignment, bs->bl.request_alignment);
    int ret = 0;

    while (bytes && !ret) {
        int64_t n = discard_piece(bs, offset, bytes);

        if (!((offset | n) & (bs->bl.request_alignment - 1))) {
            ret = bs->drv->co_pdiscard(bs, offset, n);
            g_assert(ret <= 0);
        }
        if (ret == -ENOTSUP || (ret == -EINVAL && (offset % align || n % align))) {
            ret = 0;
        }
        offset += n;
        bytes -= n;
    }
    return ret;
}

int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret = write_check(child, offset, bytes, 0);

    if (ret || !bytes || !(bs->open_flags & BDRV_O_UNMAP)) {
        return ret;
    }
    if (!bs->drv->co_pdiscard && !is_filter(bs->drv)) {
        return 0;
    }
    request_begin(&req, bs, offset, bytes);
    if (bs->drv->co_pdiscard) {
        ret = driver_pdiscard(bs, offset, bytes);
    } else {
        ret = bdrv_co_pdiscard(filter_child(bs), offset, bytes);
    }
    contents_changed(bs, offset, bytes, false);
    request_end(&req, bs);
    return ret;
}

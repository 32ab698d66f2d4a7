/* SPDX-License-Identifier: MIT */
/* status.c: where the data of a range is: here, in a layer below, nowhere (zero).
 *
 * One layer answers for itself (node_status); the chain is walked from the top while layers say
 * nothing, each time over the part that the layers above have in common. A layer that is shorter
 * than those above it reads as zeroes behind its end. Filters without an operation of their
 * own are stepped over and count as no layer.
 *
 * Runs on: any thread, in a coroutine whose caller is counted on the node or above: that holds
 * the whole chain, since nothing below can be drained meanwhile.
 */
#include "io/io_private.h"

/* The answer about an extent: bits, its length, where it lies. */
typedef struct Extent {
    int bits;
    int64_t bytes;              /* 0: at or behind the end of the node */
    int64_t map;
    BlockDriverState *file;
} Extent;

static int coroutine_fn node_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                    int64_t bytes, Extent *x);

static BlockDriverState *skip_silent_filters(BlockDriverState *bs)
{
    while (is_filter(bs->drv) && !bs->drv->co_block_status) {
        bs = filter_child(bs)->bs;
    }
    return bs;
}

/* Ask the driver, on an aligned range within the node; the answer is for [@offset, +@bytes). */
static int coroutine_fn driver_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, Extent *x)
{
    int64_t align = bs->bl.request_alignment;
    int64_t head = offset % align, wide = QEMU_ALIGN_UP(head + bytes, align);
    int64_t start = offset - head;

    if (!bs->drv->co_block_status) {
        bool storage = bs->drv->kind == BLOCK_DRIVER_PROTOCOL;

        *x = (Extent) { BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | (storage ? BDRV_BLOCK_OFFSET_VALID : 0),
                        bytes, offset, storage ? bs : NULL };
        return 0;
    }
    x->bits = bs->drv->co_block_status(bs, want_zero, start, wide, &x->bytes, &x->map, &x->file);
    if (x->bits < 0) {
        return x->bits;
    }
    g_assert(x->bytes > 0 && x->bytes <= wide);
    g_assert(x->bytes == wide || QEMU_IS_ALIGNED(x->bytes, align));
    g_assert(!(x->bits & BDRV_BLOCK_OFFSET_VALID) || x->file);
    x->bytes = MIN(x->bytes - head, bytes);
    x->map += head;
    return 0;
}

/* The storage below knows more: refine, or take its word for all. */
static int coroutine_fn ask_below(Extent *x, bool want_zero)
{
    Extent below;
    bool all = !(x->bits & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO));

    if (!want_zero || (x->bits & BDRV_BLOCK_ZERO)) {
        return 0;
    }
    int ret = node_status(x->file, want_zero, x->map, x->bytes, &below);

    if (ret < 0) {
        return all ? ret : 0;       /* refinement is a bonus */
    }
    if (!below.bytes) {
        x->bits |= BDRV_BLOCK_ZERO; /* behind the end of the storage */
        return 0;
    }
    if (all) {
        x->bits |= below.bits & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO);
        if (below.bits & BDRV_BLOCK_OFFSET_VALID) {
            x->map = below.map;
            x->file = below.file;
        }
    } else {
        x->bits |= below.bits & BDRV_BLOCK_ZERO;
    }
    /* A zero extent at the end of the storage goes on behind it. */
    if (!((below.bits & BDRV_BLOCK_EOF) && (below.bits & BDRV_BLOCK_ZERO) && !all)) {
        x->bytes = MIN(x->bytes, below.bytes);
    }
    return 0;
}

/* Nothing here: what reads then is zero if there is no backing file, or it ends before. */
static int coroutine_fn zero_for_want_of_backing(BlockDriverState *bs, int64_t offset, Extent *x)
{
    BlockDriverState *cow;
    int64_t length;

    if (!bs->drv->supports_backing) {
        return 0;
    }
    cow = bdrv_cow_bs(bs);
    length = cow ? bdrv_co_getlength(cow) : 0;
    if (length < 0) {
        return length;
    }
    if (offset >= length) {
        x->bits |= BDRV_BLOCK_ZERO;
    } else {
        x->bytes = MIN(x->bytes, length - offset);
    }
    return 0;
}

/* What @bs itself has at @offset. */
static int coroutine_fn node_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                    int64_t bytes, Extent *x)
{
    BlockDriverState *top = bs;
    int64_t length;
    int ret = 0;

    *x = (Extent) { 0 };
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    count_begin(top);
    bs = skip_silent_filters(bs);
    length = bdrv_co_getlength(bs);
    if (length < 0) {
        ret = length;
        goto out;
    }
    if (offset >= length) {
        x->bits = BDRV_BLOCK_EOF;
        goto out;
    }
    bytes = MIN(bytes, length - offset);
    if (!bytes) {
        goto out;
    }
    ret = driver_status(bs, want_zero, offset, bytes, x);
    if (ret < 0) {
        goto out;
    }
    if (x->bits & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) {
        x->bits |= BDRV_BLOCK_ALLOCATED;
    }
    if ((x->bits & BDRV_BLOCK_RECURSE) && (x->bits & BDRV_BLOCK_OFFSET_VALID) && x->file != bs) {
        ret = ask_below(x, want_zero);
    } else if (!(x->bits & BDRV_BLOCK_ALLOCATED) && want_zero) {
        ret = zero_for_want_of_backing(bs, offset, x);
    }
    x->bits &= ~BDRV_BLOCK_RECURSE;
    if (offset + x->bytes == length) {
        x->bits |= BDRV_BLOCK_EOF;
    }
out:
    count_end(top);
    return ret;
}

/* Through the chain down to @base: excluded, or with @include_base the last one asked. *depth: the
 * layer that decided, the top one being 1; 0: none did. */
static int coroutine_fn chain_status(BlockDriverState *bs, BlockDriverState *base, bool include_base,
                                     bool want_zero, int64_t offset, int64_t bytes, Extent *x, int *depth)
{
    int64_t eof = 0;
    bool first = true;

    *x = (Extent) { .bytes = bytes };
    *depth = 0;
    for (BlockDriverState *p = bs; p && (include_base || p != base); p = bdrv_filter_or_cow_bs(p)) {
        int64_t left = x->bytes;
        int ret;

        if (is_filter(p->drv)) {
            /* No layer, but one that may refuse to answer. */
            ret = p->drv->co_block_status ? node_status(p, want_zero, offset, left, &(Extent) { 0 }) : 0;
            if (ret < 0) {
                return ret;
            }
            if (p == base) {
                break;
            }
            continue;
        }
        ret = node_status(p, want_zero, offset, left, x);
        ++*depth;
        if (ret < 0) {
            return ret;
        }
        if (first) {
            eof = x->bits & BDRV_BLOCK_EOF ? offset + x->bytes : 0;
            first = false;
            if (!x->bytes) {
                return 0;           /* behind the end of the top layer */
            }
        } else if (!x->bytes) {
            /* This layer is too short: its zeroes count as its own. */
            *x = (Extent) { BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED, left, 0, p };
        }
        if ((x->bits & BDRV_BLOCK_ALLOCATED) || p == base) {
            break;
        }
    }
    if (!(x->bits & BDRV_BLOCK_ALLOCATED)) {
        *depth = 0;
    }
    x->bits &= ~BDRV_BLOCK_EOF;
    if (eof && offset + x->bytes == eof) {
        x->bits |= BDRV_BLOCK_EOF;
    }
    return 0;
}

static int coroutine_fn status_above(BlockDriverState *bs, BlockDriverState *base, bool include_base,
                                     bool want_zero, int64_t offset, int64_t bytes, Extent *x, int *depth)
{
    int ret = request_check(bs, offset, bytes);

    if (ret) {
        return ret;
    }
    count_begin(bs);
    ret = chain_status(bs, base, include_base, want_zero, offset, bytes, x, depth);
    count_end(bs);
    return ret;
}

int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum,
                                            int64_t *map, BlockDriverState **file)
{
    Extent x = { 0 };
    int depth = 0, ret = status_above(bs, base, false, true, offset, bytes, &x, &depth);

    *pnum = x.bytes;
    if (map) {
        *map = x.map;
    }
    if (file) {
        *file = x.file;
    }
    return ret < 0 ? ret : x.bits;
}

int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    return bdrv_co_block_status_above(bs, bdrv_filter_or_cow_bs(bdrv_skip_filters(bs)), offset, bytes,
                                      pnum, map, file);
}

int coroutine_fn bdrv_co_is_allocated_above(BlockDriverState *top, BlockDriverState *base,
                                            bool include_base, int64_t offset, int64_t bytes,
                                            int64_t *pnum, int *depth)
{
    Extent x = { 0 };
    int layers = 0, ret = status_above(top, base, include_base, false, offset, bytes, &x, &layers);

    *pnum = x.bytes;
    if (depth) {
        *depth = layers;
    }
    return ret < 0 ? ret : !!(x.bits & BDRV_BLOCK_ALLOCATED);
}

int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    return bdrv_co_is_allocated_above(bs, bdrv_filter_or_cow_bs(bdrv_skip_filters(bs)), false, offset,
                                      bytes, pnum, NULL);
}

int coroutine_fn bdrv_co_is_zero_fast(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    while (bytes > 0) {
        Extent x = { 0 };
        int depth = 0, ret = status_above(bs, NULL, false, true, offset, bytes, &x, &depth);

        if (ret < 0) {
            return ret;
        }
        if (!x.bytes) {
            return 1;           /* behind the end */
        }
        if (!(x.bits & BDRV_BLOCK_ZERO)) {
            return 0;
        }
        offset += x.bytes;
        bytes -= x.bytes;
    }
    return 1;
}

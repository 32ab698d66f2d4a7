/* SPDX-License-Identifier: MIT */
/* length.c: how long a node is, and making it longer or shorter.
 *
 * Lengths are whole sectors (512 bytes), rounded up: what lies between the end of a file and the end
 * of its last sector reads as zeroes. A filter is as long as its child.
 *
 * A truncate that grows serialises over the new area until it is zero: where a backing file has
 * data behind the old end, that must not come into sight.
 */
#include "io/io_private.h"

/* ---- asking ---- */

int coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs)
{
    const BlockDriver *drv = bs->drv;
    int64_t length;

    if (!drv) {
        return -ENOMEDIUM;
    }
    if (drv->co_getlength) {
        length = drv->co_getlength(bs);
    } else if (is_filter(drv) && filter_child(bs)) {
        length = bdrv_co_getlength(filter_child(bs)->bs);
    } else {
        return -ENOTSUP;
    }
    if (length < 0) {
        return length;
    }
    if (length > BDRV_MAX_LENGTH) {
        return -EFBIG;
    }
    length = QEMU_ALIGN_UP(length, BDRV_SECTOR_SIZE);
    if (length != __atomic_load_n(&bs->total_bytes, __ATOMIC_RELAXED)) {
        __atomic_store_n(&bs->total_bytes, length, __ATOMIC_SEQ_CST);
    }
    return 0;
}

int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs)
{
    int ret = 0;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (has_variable_length(bs->drv)) {
        count_begin(bs);
        ret = bdrv_co_refresh_length(bs);
        count_end(bs);
    }
    return ret < 0 ? ret : __atomic_load_n(&bs->total_bytes, __ATOMIC_SEQ_CST);
}

int64_t bdrv_getlength_cached(BlockDriverState *bs)
{
    while (bs->drv && is_filter(bs->drv) && !bs->drv->co_getlength && filter_child(bs)) {
        bs = filter_child(bs)->bs;
    }
    return __atomic_load_n(&bs->total_bytes, __ATOMIC_SEQ_CST);
}

static int64_t coroutine_fn storage_allocated(BlockDriverState *bs)
{
    int64_t sum = 0;
    bool any = false;
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (c->role & (BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_FILTERED)) {
            int64_t one = bdrv_co_get_allocated_file_size(c->bs);

            if (one < 0) {
                return one;
            }
            sum += one;
            any = true;
        }
    }
    return any ? sum : -ENOTSUP;
}

int64_t coroutine_fn bdrv_co_get_allocated_file_size(BlockDriverState *bs)
{
    int64_t ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    count_begin(bs);
    if (bs->drv->co_get_allocated_file_size) {
        ret = bs->drv->co_get_allocated_file_size(bs);
    } else {
        ret = storage_allocated(bs);
    }
    count_end(bs);
    return ret;
}

/* ---- changing ---- */

/* Ask the driver, or the filter's child. */
static int coroutine_fn driver_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    const BlockDriver *drv = bs->drv;
    int ret;

    if (drv->co_truncate) {
        ret = drv->co_truncate(bs, length, exact, prealloc, flags, errp);
        g_assert(ret <= 0);
        return ret;
    }
    if (is_filter(drv)) {
        return bdrv_co_truncate(filter_child(bs), length, exact, prealloc, flags, errp);
    }
    error_setg(errp, "Image format driver does not support resize");
    return -ENOTSUP;
}

/* How far [@old, @length) must be zeroed: all of it where asked for, else as far as the
 * backing file reaches. Returns the end, @old if nothing is to be done. */
static int64_t coroutine_fn exposed_end(BlockDriverState *bs, int64_t old, int64_t length,
                                        BdrvRequestFlags flags)
{
    BlockDriverState *cow = bdrv_cow_bs(bs);

    if (length <= old) {
        return old;
    }
    if ((flags & BDRV_REQ_ZERO_WRITE) && !is_filter(bs->drv)) {
        return length;
    }
    if (!cow) {
        return old;
    }
    int64_t cow_length = bdrv_co_getlength(cow);

    return cow_length < 0 ? cow_length : MAX(old, MIN(length, cow_length));
}

static int coroutine_fn zero_new_area(BlockDriverState *bs, int64_t start, int64_t end)
{
    int64_t align = bs->bl.request_alignment;

    start = QEMU_ALIGN_UP(start, align);
    end = QEMU_ALIGN_UP(end, align);
    return start < end ? driver_pwrite_zeroes(bs, start, end - start, 0) : 0;
}

static int coroutine_fn truncate_held(BlockDriverState *bs, int64_t old, int64_t length, bool exact,
                                      PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    int64_t zero_end = exposed_end(bs, old, length, flags);
    int ret;

    if (zero_end < 0) {
        error_setg_errno(errp, -zero_end, "Could not get backing file size");
        return zero_end;
    }
    ret = driver_truncate(bs, length, exact, prealloc, flags, errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_refresh_length(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not refresh total sector count");
        return ret;
    }
    ret = zero_new_area(bs, old, zero_end);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not zero the new area");
        /* As it was, where the driver can shrink: else the old backing data would show. */
        driver_truncate(bs, old, false, PREALLOC_MODE_OFF, 0, NULL);
        bdrv_co_refresh_length(bs);
    }
    return ret;
}

static void truncate_tell(BlockDriverState *bs, int64_t old)
{
    int64_t length = bdrv_getlength_cached(bs);
    BdrvWriteObserver *obs;

    __atomic_store_n(&bs->unflushed, 1, __ATOMIC_SEQ_CST);
    LIST_FOREACH(obs, &bs->write_observers, link) {
        if (obs->resized) {
            obs->resized(obs, length);
        }
    }
    if (length != old) {
        parents_resized(bs);
    }
}

static int truncate_check(BdrvChild *child, int64_t length, Error **errp)
{
    BlockDriverState *bs = child->bs;

    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    if (length < 0) {
        error_setg(errp, "Image size cannot be negative");
        return -EINVAL;
    }
    if (length > BDRV_MAX_LENGTH) {
        error_setg(errp, "offset(%" PRId64 ") exceeds maximum(%" PRId64 ")", length,
                   (int64_t)BDRV_MAX_LENGTH);
        return -EFBIG;
    }
    if (bs->read_only) {
        error_setg(errp, "Image is read-only");
        return -EACCES;
    }
    g_assert(bdrv_child_perm(child) & BLK_PERM_RESIZE);
    return 0;
}

int coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t offset, bool exact, PreallocMode prealloc,
                                  BdrvRequestFlags flags, Error **errp)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret = truncate_check(child, offset, errp);

    if (ret) {
        return ret;
    }
    int64_t old = bdrv_co_getlength(bs);

    if (old < 0) {
        error_setg_errno(errp, -old, "Failed to get old image size");
        return old;
    }
    if (offset > old) {
        request_begin_serialising(&req, bs, old, offset - old, 0);
    } else {
        request_begin(&req, bs, offset, MAX(old - offset, 1));     /* no record is empty */
    }
    ret = truncate_held(bs, old, offset, exact, prealloc, flags, errp);
    if (bdrv_getlength_cached(bs) != old || !ret) {
        truncate_tell(bs, old);
    }
    old = MIN(old, bdrv_getlength_cached(bs));
    if (ret < 0 && offset < old) {
        contents_changed(bs, offset, old - offset, false);      /* what should have been cut off may be gone */
    }
    request_end(&req, bs);
    return ret;
}

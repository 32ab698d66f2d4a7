/* SPDX-License-Identifier: MIT */
/* ops_bitmaps.c: making bitmaps that are stored, and taking those of an image along when it is copied. */
#include "ops/ops.h"
#include "block/dirty-bitmap.h"

int coroutine_fn ops_bitmap_can_add(BlockDriverState *bs, const char *name, uint64_t *granularity, Error **errp)
{
    BlockDriverInfo info = { 0 };

    if (!*granularity) {
        bdrv_get_info(bs, &info);
        *granularity = info.cluster_size ? CLAMP(info.cluster_size, 4 * KiB, 64 * KiB) : 64 * KiB;
    }
    if (*granularity < 512 || *granularity > 1u << 31 || !is_power_of_2(*granularity)) {
        error_setg(errp, "Granularity must be power of 2 and at least 512");
        return -EINVAL;
    }
    if (bdrv_find_dirty_bitmap(bs, name)) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return -EEXIST;
    }
    return bdrv_can_store_new_dirty_bitmap(bs, name, *granularity, errp) ? 0 : -EINVAL;
}

BdrvDirtyBitmap *coroutine_fn ops_bitmap_add(BlockDriverState *bs, const char *name, uint64_t granularity, Error **errp)
{
    BdrvDirtyBitmap *b = NULL;

    if (ops_bitmap_can_add(bs, name, &granularity, errp) == 0) {
        b = bdrv_create_dirty_bitmap(bs, granularity, name, errp);
    }
    if (b) {
        bdrv_dirty_bitmap_set_persistence(b, true);
    }
    return b;
}

void ops_bitmap_mark(BdrvDirtyBitmap *to, BdrvDirtyBitmap *from, int64_t length)
{
    int64_t start, bytes;

    for (int64_t at = 0; at < length && bdrv_dirty_bitmap_next_dirty_area(from, at, length, INT64_MAX, &start, &bytes);
         at = start + bytes) {
        bdrv_set_dirty_bitmap(to, start, bytes);
    }
}

/* Those that are copied: named ones of the image itself. */
static bool is_copied(const BdrvDirtyBitmap *b)
{
    return bdrv_dirty_bitmap_name(b) && bdrv_dirty_bitmap_get_persistence(b);
}

int ops_bitmaps_check(BlockDriverState *source, bool skip_broken, Error **errp)
{
    if (!ops_stores_bitmaps(source)) {
        error_setg(errp, "Source lacks bitmap support");
        return -ENOTSUP;
    }
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(source); b; b = bdrv_dirty_bitmap_next(b)) {
        if (is_copied(b) && bdrv_dirty_bitmap_inconsistent(b) && !skip_broken) {
            error_setg(errp, "Cannot copy inconsistent bitmap '%s'", bdrv_dirty_bitmap_name(b));
            error_append_hint(errp, "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it\n");
            return -EINVAL;
        }
    }
    return 0;
}

static int copy_one(BdrvDirtyBitmap *from, BlockDriverState *target, Error **errp)
{
    const char *name = bdrv_dirty_bitmap_name(from);
    ERRP_GUARD();
    BdrvDirtyBitmap *to = ops_bitmap_add(target, name, bdrv_dirty_bitmap_granularity(from), errp);

    if (!to) {
        error_prepend(errp, "Failed to create bitmap %s: ", name);
        return -EINVAL;
    }
    ops_bitmap_mark(to, from, bdrv_getlength_cached(target));
    if (!bdrv_dirty_bitmap_enabled(from)) {
        bdrv_disable_dirty_bitmap(to);
    }
    return 0;
}

int ops_bitmaps_copy(BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    int ret = 0;

    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(source); b && !ret; b = bdrv_dirty_bitmap_next(b)) {
        if (!is_copied(b)) {
            continue;
        }
        if (bdrv_dirty_bitmap_inconsistent(b)) {
            warn_report("Skipping inconsistent bitmap '%s'", bdrv_dirty_bitmap_name(b));
        } else {
            ret = copy_one(b, target, errp);
        }
    }
    return ret;
}

int ops_bitmaps_store(BlockBackend *blk, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));

    if (bs->read_only || !ops_stores_bitmaps(bs)) {
        return 0;
    }
    int ret = blk_set_perm(blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, errp);

    return ret < 0 ? ret : bdrv_reopen_set_read_only(bs, true, errp);
}

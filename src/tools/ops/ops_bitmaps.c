/* SPDX-License-Identifier: MIT */
/* ops_bitmaps.c: taking the bitmaps of an image along when it is copied. */
#include "ops/ops.h"
#include "block/dirty-bitmap.h"

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
    uint32_t granularity = bdrv_dirty_bitmap_granularity(from);
    int64_t length = bdrv_getlength_cached(target), start, bytes;
    ERRP_GUARD();
    BdrvDirtyBitmap *to = NULL;

    if (bdrv_find_dirty_bitmap(target, name)) {
        error_setg(errp, "Bitmap already exists: %s", name);
    } else if (bdrv_can_store_new_dirty_bitmap(target, name, granularity, errp)) {
        to = bdrv_create_dirty_bitmap(target, granularity, name, errp);
    }
    if (!to) {
        error_prepend(errp, "Failed to create bitmap %s: ", name);
        return -EINVAL;
    }
    bdrv_dirty_bitmap_set_persistence(to, true);
    for (int64_t at = 0; at < length && bdrv_dirty_bitmap_next_dirty_area(from, at, length, INT64_MAX, &start, &bytes);
         at = start + bytes) {
        bdrv_set_dirty_bitmap(to, start, bytes);
    }
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

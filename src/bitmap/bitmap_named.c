/* SPDX-License-Identifier: MIT */
/* bitmap_named.c: dirty bitmaps as the control protocol names them: find, merge, remove; see
 * block/block_int-global-state.h.
 *
 * A merge first gathers all sources, each under its own lock, in a bitmap of its own; only when
 * nothing can fail any more it goes to the target, under the target's lock: writes that guests make
 * meanwhile are in neither's way and in the result.
 */
#include "base/osdep.h"
#include "bitmap/bitmap_private.h"
#include "block/block_int-global-state.h"

BdrvDirtyBitmap *block_dirty_bitmap_lookup(const char *node, const char *name, BlockDriverState **pbs,
                                           Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(node, node, NULL);
    BdrvDirtyBitmap *b;

    g_assert(qemu_in_main_thread());
    if (!bs) {
        error_setg(errp, "Node '%s' not found", node);
        return NULL;
    }
    b = bdrv_find_dirty_bitmap(bs, name);
    if (!b) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
        return NULL;
    }
    if (pbs) {
        *pbs = bs;
    }
    return b;
}

static BdrvDirtyBitmap *source_lookup(const char *node, const BlockDirtyBitmapMergeSource *source, Error **errp)
{
    BdrvDirtyBitmap *b = source->type == QTYPE_QSTRING ?
        block_dirty_bitmap_lookup(node, source->u.local, NULL, errp) :
        block_dirty_bitmap_lookup(source->u.external->node, source->u.external->name, NULL, errp);

    return b && bdrv_dirty_bitmap_check(b, false, errp) == 0 ? b : NULL;
}

/* @sum |= @b, or its size is another one. */
static int sum_add(HBitmap *sum, BdrvDirtyBitmap *b, Error **errp)
{
    bool done;
    int64_t size;

    pthread_mutex_lock(&b->lock);
    size = hbitmap_size(b->hb);
    done = hbitmap_merge(sum, b->hb);
    pthread_mutex_unlock(&b->lock);
    if (!done) {
        error_setg(errp, "Bitmaps are of different sizes (destination size is %" PRId64 ", source size is %"
                   PRId64 ") and can't be merged", hbitmap_size(sum), size);
        return -EINVAL;
    }
    return 0;
}

static HBitmap *sum_of(const char *node, BdrvDirtyBitmap *target, BlockDirtyBitmapMergeSourceList *bms, Error **errp)
{
    HBitmap *sum;

    pthread_mutex_lock(&target->lock);
    sum = hbitmap_alloc(hbitmap_size(target->hb), hbitmap_granularity(target->hb));
    pthread_mutex_unlock(&target->lock);
    for (; bms; bms = bms->next) {
        BdrvDirtyBitmap *b = source_lookup(node, bms->value, errp);

        if (!b || sum_add(sum, b, errp) < 0) {
            hbitmap_free(sum);
            return NULL;
        }
    }
    return sum;
}

BdrvDirtyBitmap *block_dirty_bitmap_merge(const char *node, const char *target,
                                          BlockDirtyBitmapMergeSourceList *bms, HBitmap **backup, Error **errp)
{
    BdrvDirtyBitmap *b = block_dirty_bitmap_lookup(node, target, NULL, errp);
    HBitmap *sum;

    if (!b || bdrv_dirty_bitmap_check(b, false, errp) < 0) {
        return NULL;
    }
    sum = sum_of(node, b, bms, errp);
    if (!sum) {
        return NULL;
    }
    pthread_mutex_lock(&b->lock);
    if (backup) {
        *backup = hbitmap_copy(b->hb);
    }
    /* Should the node have grown or shrunk since: what is marked is marked. */
    hbitmap_truncate(sum, hbitmap_size(b->hb));
    hbitmap_merge(b->hb, sum);
    bdrv_dirty_bitmap_set_modified(b, true);
    pthread_mutex_unlock(&b->lock);
    hbitmap_free(sum);
    return b;
}

void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup)
{
    HBitmap *old;

    g_assert(qemu_in_main_thread());
    pthread_mutex_lock(&bitmap->lock);
    old = bitmap->hb;
    hbitmap_truncate(backup, hbitmap_size(old));
    bitmap->hb = backup;
    bdrv_dirty_bitmap_set_modified(bitmap, true);
    pthread_mutex_unlock(&bitmap->lock);
    hbitmap_free(old);
}

BdrvDirtyBitmap *block_dirty_bitmap_remove(const char *node, const char *name, bool release,
                                           BlockDriverState **bitmap_bs, Error **errp)
{
    BlockDriverState *bs;
    BdrvDirtyBitmap *b = block_dirty_bitmap_lookup(node, name, &bs, errp);

    if (!b || bdrv_dirty_bitmap_check(b, true, errp) < 0) {
        return NULL;
    }
    if (b->persistent && bdrv_remove_persistent_dirty_bitmap(bs, name, errp) < 0) {
        return NULL;
    }
    if (bitmap_bs) {
        *bitmap_bs = bs;
    }
    if (release) {
        bdrv_release_dirty_bitmap(b);
        return NULL;
    }
    return b;
}

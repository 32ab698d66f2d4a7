/* SPDX-License-Identifier: MIT */
/* dirty-bitmap.c: see block/dirty-bitmap.h.
 *
 * A bitmap is an observer of its node's writes (the request path calls it before it
 * acknowledges). On that path: if the bit is set already nothing is written, but the lock is
 * taken, held for a few instructions: the reset of a job that copies must not slip between the
 * look and the end of the write.
 */
#include "base/osdep.h"
#include "bitmap/bitmap_private.h"

static inline void bitmap_touch(BdrvDirtyBitmap *b)
{
    if (unlikely(!__atomic_load_n(&b->modified, __ATOMIC_RELAXED))) {
        __atomic_store_n(&b->modified, true, __ATOMIC_RELAXED);
    }
}

/* Cover the node as long as it is now. Always asked anew, under the lock: threads that make the
 * node longer at the same time may tell of it in the wrong order. Lock held. */
static void bitmap_fit(BdrvDirtyBitmap *b)
{
    int64_t length = bdrv_getlength_cached(b->bs);

    if (length != hbitmap_size(b->hb)) {
        hbitmap_truncate(b->hb, length);
    }
}

static void bitmap_written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    BdrvDirtyBitmap *b = container_of(obs, BdrvDirtyBitmap, observer);

    if (!__atomic_load_n(&b->enabled, __ATOMIC_ACQUIRE)) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    if (unlikely(offset + bytes > hbitmap_size(b->hb))) {
        bitmap_fit(b);          /* somebody else saw it grow, and has not told us yet */
    }
    hbitmap_set(b->hb, offset, bytes);
    bitmap_touch(b);
    pthread_mutex_unlock(&b->lock);
}

static void bitmap_resized(BdrvWriteObserver *obs, int64_t length_bytes)
{
    BdrvDirtyBitmap *b = container_of(obs, BdrvDirtyBitmap, observer);

    pthread_mutex_lock(&b->lock);
    bitmap_fit(b);
    pthread_mutex_unlock(&b->lock);
}

BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name)
{
    BdrvDirtyBitmap *b;

    LIST_FOREACH(b, &bs->dirty_bitmaps, list) {
        if (b->name && !strcmp(b->name, name)) {
            return b;
        }
    }
    return NULL;
}

BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity,
                                          const char *name, Error **errp)
{
    g_assert(qemu_in_main_thread());
    if (granularity < 512 || !is_power_of_2(granularity)) {
        error_setg(errp, "Granularity must be power of 2 and at least 512");
        return NULL;
    }
    if (name && bdrv_find_dirty_bitmap(bs, name)) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return NULL;
    }
    BdrvDirtyBitmap *b = g_new0(BdrvDirtyBitmap, 1);

    b->bs = bs;
    b->name = g_strdup(name);
    b->hb = hbitmap_alloc(bdrv_getlength_cached(bs), __builtin_ctz(granularity));
    b->enabled = true;
    b->observer.written = bitmap_written;
    b->observer.resized = bitmap_resized;
    pthread_mutex_init(&b->lock, NULL);
    LIST_INSERT_HEAD(&bs->dirty_bitmaps, b, list);
    bdrv_add_write_observer(bs, &b->observer);
    return b;
}

void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *b)
{
    g_assert(qemu_in_main_thread());
    bdrv_remove_write_observer(b->bs, &b->observer);
    LIST_REMOVE(b, list);
    hbitmap_free(b->hb);
    pthread_mutex_destroy(&b->lock);
    g_free(b->name);
    g_free(b);
}

void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *b)
{
    __atomic_store_n(&b->enabled, true, __ATOMIC_RELEASE);
    bitmap_touch(b);
}

void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *b)
{
    __atomic_store_n(&b->enabled, false, __ATOMIC_RELEASE);
    bitmap_touch(b);
}

bool bdrv_dirty_bitmap_enabled(BdrvDirtyBitmap *b)
{
    return __atomic_load_n(&b->enabled, __ATOMIC_ACQUIRE);
}

void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *b, bool busy)
{
    b->busy = busy;
}

uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *b)
{
    return hbitmap_granularity_bytes(b->hb);
}

int64_t bdrv_get_dirty_count(BdrvDirtyBitmap *b)
{
    pthread_mutex_lock(&b->lock);
    int64_t n = hbitmap_count(b->hb);
    pthread_mutex_unlock(&b->lock);

    return n;
}

bool bdrv_dirty_bitmap_get(BdrvDirtyBitmap *b, int64_t offset)
{
    pthread_mutex_lock(&b->lock);
    bool v = hbitmap_get(b->hb, offset);
    pthread_mutex_unlock(&b->lock);

    return v;
}

void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *b, int64_t offset, int64_t bytes)
{
    pthread_mutex_lock(&b->lock);
    hbitmap_set(b->hb, offset, bytes);
    bitmap_touch(b);
    pthread_mutex_unlock(&b->lock);
}

void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *b, int64_t offset, int64_t bytes)
{
    pthread_mutex_lock(&b->lock);
    hbitmap_reset(b->hb, offset, bytes);
    bitmap_touch(b);
    pthread_mutex_unlock(&b->lock);
}

bool bdrv_dirty_bitmap_next_dirty_area(BdrvDirtyBitmap *b, int64_t start, int64_t end, int64_t max,
                                       int64_t *dirty_start, int64_t *dirty_bytes)
{
    pthread_mutex_lock(&b->lock);
    bool found = hbitmap_next_dirty_area(b->hb, start, end, max, dirty_start, dirty_bytes);
    pthread_mutex_unlock(&b->lock);

    return found;
}

bool bdrv_dirty_bitmap_status(BdrvDirtyBitmap *b, int64_t offset, int64_t bytes, int64_t *pnum)
{
    bool dirty = false;

    pthread_mutex_lock(&b->lock);
    if (offset < hbitmap_size(b->hb)) {
        dirty = hbitmap_status(b->hb, offset, bytes, pnum);
    } else {
        *pnum = bytes;
    }
    pthread_mutex_unlock(&b->lock);
    return dirty;
}

int64_t bdrv_dirty_bitmap_next_zero(BdrvDirtyBitmap *b, int64_t offset, int64_t bytes)
{
    pthread_mutex_lock(&b->lock);
    int64_t at = hbitmap_next_zero(b->hb, offset, bytes);
    pthread_mutex_unlock(&b->lock);

    return at;
}

BlockDirtyInfoList *bdrv_query_dirty_bitmaps(BlockDriverState *bs)
{
    BlockDirtyInfoList *list = NULL, **tail = &list;
    BdrvDirtyBitmap *b;

    LIST_FOREACH(b, &bs->dirty_bitmaps, list) {
        BlockDirtyInfo *info = g_new0(BlockDirtyInfo, 1);

        info->name = g_strdup(b->name);
        info->count = bdrv_get_dirty_count(b);
        info->granularity = bdrv_dirty_bitmap_granularity(b);
        info->recording = bdrv_dirty_bitmap_enabled(b);
        info->busy = b->busy;
        info->persistent = b->persistent;
        info->has_inconsistent = info->inconsistent = b->inconsistent;
        *tail = g_new0(BlockDirtyInfoList, 1);
        (*tail)->value = info;
        tail = &(*tail)->next;
    }
    return list;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_first(BlockDriverState *bs)
{
    return LIST_FIRST(&bs->dirty_bitmaps);
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_next(BdrvDirtyBitmap *b)
{
    return LIST_NEXT(b, list);
}

const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *b)
{
    return b->name;
}

void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *b)
{
    pthread_mutex_lock(&b->lock);
    hbitmap_reset_all(b->hb);
    bitmap_touch(b);
    pthread_mutex_unlock(&b->lock);
}

/* SPDX-License-Identifier: MIT */
/* bitmap_stored.c: bitmaps that images store: what the bitmap knows of it, and the way to the image's
 * driver; see block/dirty-bitmap.h. Main thread, but for what says otherwise.
 */
#include "base/osdep.h"
#include "bitmap/bitmap_private.h"

void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *b, bool persistent)
{
    b->persistent = persistent;
}

bool bdrv_dirty_bitmap_get_persistence(const BdrvDirtyBitmap *b)
{
    return b->persistent;
}

void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *b)
{
    b->inconsistent = true;
}

bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *b)
{
    return b->inconsistent;
}

void bdrv_dirty_bitmap_set_modified(BdrvDirtyBitmap *b, bool modified)
{
    __atomic_store_n(&b->modified, modified, __ATOMIC_RELAXED);
}

bool bdrv_dirty_bitmap_modified(const BdrvDirtyBitmap *b)
{
    return __atomic_load_n(&b->modified, __ATOMIC_RELAXED);
}

int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *b, bool inconsistent_too, Error **errp)
{
    if (b->busy) {
        error_setg(errp, "Bitmap '%s' is currently in use by another operation and cannot be used", b->name);
        return -EBUSY;
    }
    if (b->inconsistent && !inconsistent_too) {
        error_setg(errp, "Bitmap '%s' is inconsistent and cannot be used", b->name);
        error_append_hint(errp, "Try block-dirty-bitmap-remove to delete this bitmap from disk\n");
        return -EINVAL;
    }
    return 0;
}

void bdrv_dirty_bitmap_serialize_part(BdrvDirtyBitmap *b, uint8_t *buf, int64_t offset, int64_t bytes)
{
    pthread_mutex_lock(&b->lock);
    hbitmap_serialize_part(b->hb, buf, offset, bytes);
    pthread_mutex_unlock(&b->lock);
}

void bdrv_dirty_bitmap_deserialize_part(BdrvDirtyBitmap *b, const uint8_t *buf, int64_t offset, int64_t bytes)
{
    pthread_mutex_lock(&b->lock);
    hbitmap_deserialize_part(b->hb, buf, offset, bytes);
    pthread_mutex_unlock(&b->lock);
}

/* ---- the image's driver ---- */

typedef struct StoredCall {
    BlockDriverState *bs;
    const char *name;
    uint32_t granularity;
    bool can;
    Error **errp;
    int ret;
} StoredCall;

static void coroutine_fn can_store_co(void *opaque)
{
    StoredCall *c = opaque;

    c->can = c->bs->drv->co_can_store_new_dirty_bitmap(c->bs, c->name, c->granularity, c->errp);
}

bool bdrv_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp)
{
    StoredCall c = { .bs = bs, .name = name, .granularity = granularity, .errp = errp };

    g_assert(qemu_in_main_thread());
    if (!bs->drv) {
        error_setg_errno(errp, ENOMEDIUM, "Can't store persistent bitmaps to %s", bdrv_get_device_or_node_name(bs));
        return false;
    }
    if (!bs->drv->co_can_store_new_dirty_bitmap) {
        error_setg_errno(errp, ENOTSUP, "Can't store persistent bitmaps to %s", bdrv_get_device_or_node_name(bs));
        return false;
    }
    aio_co_run(can_store_co, &c);
    return c.can;
}

static void coroutine_fn remove_stored_co(void *opaque)
{
    StoredCall *c = opaque;

    bdrv_drained_begin(c->bs);
    c->ret = c->bs->drv->co_remove_persistent_dirty_bitmap(c->bs, c->name, c->errp);
    bdrv_drained_end(c->bs);
}

int bdrv_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp)
{
    StoredCall c = { .bs = bs, .name = name, .errp = errp };

    g_assert(qemu_in_main_thread());
    if (bs->drv && bs->drv->co_remove_persistent_dirty_bitmap) {
        aio_co_run(remove_stored_co, &c);
    }
    return c.ret;
}

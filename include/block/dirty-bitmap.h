/* SPDX-License-Identifier: MIT */
/* dirty-bitmap.h: what changed on a node.
 *
 * A bitmap records every write of its node before the write is acknowledged to anybody. It
 * is made, released, enabled and disabled by the main thread on a drained node; bits are set by
 * any thread that writes. bdrv_dirty_bitmap_* functions lock by themselves; any thread.
 */
#ifndef LIVEBLK_BLOCK_DIRTY_BITMAP_H
#define LIVEBLK_BLOCK_DIRTY_BITMAP_H

#include "block/block.h"

/* @granularity: bytes, power of two, 512..2 GiB. @name NULL: anonymous, not found by name.
 * Enabled. NULL and *errp on failure. GS, may suspend */
LIVEBLK_PUBLIC BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity,
                                                         const char *name, Error **errp);
LIVEBLK_PUBLIC void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap);     /* GS, may suspend */
LIVEBLK_PUBLIC BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name);   /* GS */
/* Recording or not; GS, the node drained. */
LIVEBLK_PUBLIC void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
LIVEBLK_PUBLIC void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_enabled(BdrvDirtyBitmap *bitmap);
/* In use by a job or an export: others may not change it; GS. */
LIVEBLK_PUBLIC void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy);
LIVEBLK_PUBLIC uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap);
LIVEBLK_PUBLIC int64_t bdrv_get_dirty_count(BdrvDirtyBitmap *bitmap);       /* bytes */
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_get(BdrvDirtyBitmap *bitmap, int64_t offset);
LIVEBLK_PUBLIC void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
/* @offset and @bytes aligned to the granularity, or up to the end. */
LIVEBLK_PUBLIC void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_next_dirty_area(BdrvDirtyBitmap *bitmap, int64_t start, int64_t end,
                                                      int64_t max, int64_t *dirty_start, int64_t *dirty_bytes);
/* Whether @offset is dirty; *@pnum: for how many bytes the same holds, at most @bytes (> 0). Behind the end
 * of the bitmap all is clean. */
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_status(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, int64_t *pnum);
/* First clean byte in [@offset, +@bytes), or -1. */
LIVEBLK_PUBLIC int64_t bdrv_dirty_bitmap_next_zero(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
/* All bitmaps of a node, anonymous ones too, the newest first; NULL: no more. GS */
LIVEBLK_PUBLIC BdrvDirtyBitmap *bdrv_dirty_bitmap_first(BlockDriverState *bs);
LIVEBLK_PUBLIC BdrvDirtyBitmap *bdrv_dirty_bitmap_next(BdrvDirtyBitmap *bitmap);
LIVEBLK_PUBLIC const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap);   /* lent; NULL: anonymous */
LIVEBLK_PUBLIC void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap);       /* all of it */

/* ---- bitmaps stored in images; GS ---- */
/* It is to be stored when the image is closed. Ask bdrv_can_store_new_dirty_bitmap() first. */
LIVEBLK_PUBLIC void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool persistent);
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_get_persistence(const BdrvDirtyBitmap *bitmap);
/* What it should hold is not known (the image was not closed): all one can do is to remove it. */
LIVEBLK_PUBLIC void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap);
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap);
/* Was anything of it changed since this was last set to false? Any thread. */
LIVEBLK_PUBLIC void bdrv_dirty_bitmap_set_modified(BdrvDirtyBitmap *bitmap, bool modified);
LIVEBLK_PUBLIC bool bdrv_dirty_bitmap_modified(const BdrvDirtyBitmap *bitmap);
/* May it be used? -EBUSY: by a job or an export; -EINVAL: it is inconsistent (unless @inconsistent_too). */
LIVEBLK_PUBLIC int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, bool inconsistent_too, Error **errp);
/* Could the image of @bs store one more, by this name? Suspends. */
LIVEBLK_PUBLIC bool bdrv_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity,
                                                    Error **errp);
/* Remove it from the image, durably; the one in memory stays. Nothing to do: 0. Suspends. */
LIVEBLK_PUBLIC int bdrv_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp);
/* As a stream of bits, the lowest of a byte first; see base/hbitmap.h for where parts may begin. Any thread */
void bdrv_dirty_bitmap_serialize_part(BdrvDirtyBitmap *bitmap, uint8_t *buf, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_deserialize_part(BdrvDirtyBitmap *bitmap, const uint8_t *buf, int64_t offset, int64_t bytes);

/* For query-named-block-nodes; NULL: none. GS */
LIVEBLK_PUBLIC BlockDirtyInfoList *bdrv_query_dirty_bitmaps(BlockDriverState *bs);

#endif

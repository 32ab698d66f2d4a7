/* SPDX-License-Identifier: MIT */
/* hbitmap.h: the bitmap that block_dirty_bitmap_merge() hands out as a backup; give it
 * back to bdrv_restore_dirty_bitmap(), or free it. */
#ifndef LIVEBLK_BLOCK_HBITMAP_H
#define LIVEBLK_BLOCK_HBITMAP_H

#include "block/liveblk-export.h"

typedef struct HBitmap HBitmap;

/* Free @hb; NULL: nothing. */
LIVEBLK_PUBLIC void hbitmap_free(HBitmap *hb);

#endif

/* SPDX-License-Identifier: MIT */
/* bitmap_private.h: inside the bitmap layer. */
#ifndef LIVEBLK_BITMAP_PRIVATE_H
#define LIVEBLK_BITMAP_PRIVATE_H

#include "base/hbitmap.h"
#include "block/dirty-bitmap.h"

struct BdrvDirtyBitmap {
    BdrvWriteObserver observer;
    BlockDriverState *bs;
    char *name;
    HBitmap *hb;
    pthread_mutex_t lock;       /* over hb */
    bool enabled;               /* atomic; changes on a drained node */
    bool modified;              /* atomic */
    bool busy, persistent, inconsistent;        /* GS */
    LIST_ENTRY(BdrvDirtyBitmap) list;
};

#endif

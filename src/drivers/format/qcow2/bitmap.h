/* SPDX-License-Identifier: MIT */
/* bitmap.h: dirty bitmaps stored in an image, for bitmap*.c and the few who call them.
 *
 *   bitmap.c        the directory: reading, checking, writing, marks
 *   bitmap_data.c   the bits: from the file into bitmaps of the node, and back
 *
 * WHAT IS TRUE WHEN. On disk a bitmap is either right, or marked as in use: then its bits mean nothing.
 * At opening those that are right become bitmaps of the node (bs->dirty_bitmaps), which are what counts
 * from then on. They are marked as in use on disk, durably, before the first change of the image, and not
 * before: an image that was only opened keeps its bitmaps whatever happens. At closing (or when the image
 * becomes read-only) all are written anew: bits, tables, directory; then, when that is durable, the header
 * names the new directory; then the old one is given back. A crash at any point leaves the old state or the
 * new one, and perhaps leaked clusters.
 *
 * The bitmaps that were found in use stay in the directory as they are, until somebody removes them.
 *
 * If another program that knows nothing of bitmaps has written to the image (bit 0 of the autoclear features is
 * gone), all of them are void and the directory is forgotten.
 *
 * Locks: `entries` and what they hold: main thread, on a node without requests; but marking, which the
 * first request does, holds l1_lock. Format: the public qcow2 document, "Bitmaps extension".
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_BITMAP_H
#define LIVEBLK_DRIVERS_QCOW2_BITMAP_H

#include "drivers/format/qcow2/qcow2.h"
#include "block/dirty-bitmap.h"

#define QCOW2_BITMAPS_MAX       65535
#define QCOW2_BITMAP_NAME_MAX   1023
#define QCOW2_BITMAP_DIR_MAX    (QCOW2_BITMAPS_MAX * 1024ULL)
#define QCOW2_BITMAP_TABLE_MAX  0x8000000u      /* bytes */

#define QCOW2_BITMAP_IN_USE     (1u << 0)
#define QCOW2_BITMAP_AUTO       (1u << 1)
#define QCOW2_BITMAP_KNOWN      (QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO)
#define QCOW2_BITMAP_TRACKING   1

/* An entry of the directory, as it is on disk. */
typedef struct Qcow2BitmapEntry {
    char *name;
    uint64_t table_offset;
    uint32_t table_entries, flags;
    uint8_t granularity_bits;
    bool lost;                          /* was in use when the image was opened */
} Qcow2BitmapEntry;

struct Qcow2Bitmaps {
    GPtrArray *entries;                 /* Qcow2BitmapEntry, owned */
    uint64_t dir_offset, dir_bytes;     /* 0: there is none */
    bool loaded;                        /* the bits are in bitmaps of the node */
    bool marked;                        /* those are marked as in use on disk, by us */
    char *broken;                       /* opened for a check: what is wrong with the directory; or NULL */
};

Qcow2BitmapEntry *qcow2_bitmap_entry_new(const char *name, size_t name_bytes);
void qcow2_bitmap_entry_free(void *entry);
Qcow2BitmapEntry *qcow2_bitmap_find(Qcow2State *s, const char *name);
/* Entries that the table of a bitmap needs for a disk of @bytes; UINT64_MAX: it cannot be so large. */
uint64_t qcow2_bitmap_table_needed(Qcow2State *s, uint64_t bytes, unsigned granularity_bits);
/* Bytes of the disk that one cluster of bits stands for. */
uint64_t qcow2_bitmap_cluster_covers(Qcow2State *s, unsigned granularity_bits);

/* bitmap_data.c; main thread */
/* Can the table of @e be read, and may its entries be? *clusters: as for loading. */
bool coroutine_fn qcow2_co_bitmap_is_sound(BlockDriverState *bs, const Qcow2BitmapEntry *e, uint64_t *clusters);
/* Make what @e has a bitmap of the node, which is new. *clusters: how many the bitmaps not loaded yet can have,
 * since none belongs to two: what a file of this length can make us read and keep is bounded. */
int coroutine_fn qcow2_co_bitmap_load(BlockDriverState *bs, const Qcow2BitmapEntry *e, uint64_t *clusters,
                                      BdrvDirtyBitmap *b, Error **errp);
/* Write @b to clusters of its own, and let @e say where. On failure nothing is taken. */
int coroutine_fn qcow2_co_bitmap_save(BlockDriverState *bs, BdrvDirtyBitmap *b, Qcow2BitmapEntry *e, Error **errp);
/* Give back the table of @e and the clusters that it names. */
int coroutine_fn qcow2_co_bitmap_give_back(BlockDriverState *bs, const Qcow2BitmapEntry *e);

#endif

/* SPDX-License-Identifier: MIT */
/* hbitmap.h: a hierarchical bitmap over a range of bytes, sparse in memory.
 *
 * One bit (a granule) stands for 2^granularity bytes. What is all clear or all set costs
 * no memory, at any scale: memory follows the number of places where clean and dirty
 * meet, about 0.6 KiB for each 4096 granules that are mixed. Searches skip what is
 * uniform, 64 parts at a step, on each of the (few) levels.
 *
 * Use:      hb = hbitmap_alloc(size, 16); hbitmap_set(hb, offset, bytes); ...
 *           for (at = 0; hbitmap_next_dirty_area(hb, at, size, max, &start, &bytes);
 *                at = start + bytes) ...
 * Units:    bytes, 64 bit. Set rounds outward to whole granules and stops at the size;
 *           reset wants whole granules (the last one may end at the size), since it
 *           must never clean what it was not told of.
 * Runs on:  any thread. No lock inside: writers exclude everybody; readers (const) may
 *           run side by side. Never suspends.
 * Fails:    never (memory aborts).
 */
#ifndef LIVEBLK_BASE_HBITMAP_H
#define LIVEBLK_BASE_HBITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "block/hbitmap.h"

#define HBITMAP_GRANULARITY_MAX 56

/* ---- life ---- */

/* All clean. @granularity: log2 of the bytes for a bit, at most HBITMAP_GRANULARITY_MAX.
 * hbitmap_free() is in block/hbitmap.h. */
HBitmap *hbitmap_alloc(int64_t size_bytes, unsigned granularity);
HBitmap *hbitmap_copy(const HBitmap *hb);
/* Change the range covered; what comes in is clean. */
void hbitmap_truncate(HBitmap *hb, int64_t size_bytes);

int64_t hbitmap_size(const HBitmap *hb);
unsigned hbitmap_granularity(const HBitmap *hb);
int64_t hbitmap_granularity_bytes(const HBitmap *hb);
/* All memory that it takes, bytes. */
size_t hbitmap_memory(const HBitmap *hb);

/* ---- changing ---- */

void hbitmap_set(HBitmap *hb, int64_t offset, int64_t bytes);
void hbitmap_reset(HBitmap *hb, int64_t offset, int64_t bytes);
void hbitmap_reset_all(HBitmap *hb);
/* @dst |= @src; granularities may differ; false, and nothing done, if the sizes do. */
bool hbitmap_merge(HBitmap *dst, const HBitmap *src);

/* ---- asking ---- */

/* Whether the granule with @offset (inside the size) is dirty. */
bool hbitmap_get(const HBitmap *hb, int64_t offset);
bool hbitmap_empty(const HBitmap *hb);
/* Dirty bytes: dirty granules times their size, the last one cut at the bitmap's size. */
int64_t hbitmap_count(const HBitmap *hb);
/* Dirty granules. */
uint64_t hbitmap_count_granules(const HBitmap *hb);

/* First dirty (clean) byte in [@start, +@bytes), or -1. */
int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t bytes);
int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t bytes);
/* First dirty run in [@start, @end), cut to @max bytes (> 0): true, and where. */
bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max,
                             int64_t *dirty_start, int64_t *dirty_bytes);
/* Whether @start (inside the size) is dirty; *@pnum: for how many bytes the same holds,
 * at most @bytes (> 0) and not beyond the size. */
bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t bytes, int64_t *pnum);

/* Dirty granules in ascending order. The bitmap may change meanwhile: what lies ahead is
 * seen as it is when the iterator gets there. */
typedef struct HBitmapIter {
    const HBitmap *hb;
    int64_t next;           /* where to look on; bytes */
} HBitmapIter;

/* Begin with the granule that holds @first (0 .. size). */
void hbitmap_iter_init(HBitmapIter *iter, const HBitmap *hb, int64_t first);
/* The offset of the next dirty granule, or -1. */
int64_t hbitmap_iter_next(HBitmapIter *iter);

/* ---- storing: a stream of bits, the lowest bit of a byte first ---- */

/* Parts must begin at multiples of this; bytes of the bitmap's range, not of the stream. */
int64_t hbitmap_serialization_align(const HBitmap *hb);
/* The length of the stream for [@start, +@bytes). */
size_t hbitmap_serialization_bytes(const HBitmap *hb, int64_t start, int64_t bytes);
/* Store a part in @buf, of hbitmap_serialization_bytes(); bits left over are 0. */
void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf, int64_t start, int64_t bytes);
/* Make a part what @buf says; bits left over are ignored. */
void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf, int64_t start, int64_t bytes);

#endif

/* SPDX-License-Identifier: MIT */
/* hbitmap.h: a hierarchical bitmap over a range of bytes, sparse in memory.
 *
 * One bit stands for `granularity` bytes (a power of two). Bits live in leaves of 4 KiB
 * (32768 bits); a leaf that is all clear or all set needs no memory, and two summary levels
 * (leaf state, and one bit for each 64 leaves) let searches skip what is clear.
 *
 * Locking: none inside; the caller's. Offsets and lengths: bytes, any value: set rounds
 * outward to whole bits, reset asks for ranges aligned to the granularity (or the end).
 * Fails: never (memory aborts).
 */
#ifndef LIVEBLK_BASE_HBITMAP_H
#define LIVEBLK_BASE_HBITMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef struct HBitmap HBitmap;

HBitmap *hbitmap_alloc(int64_t size_bytes, unsigned granularity_bits);
void hbitmap_free(HBitmap *hb);
int64_t hbitmap_size(const HBitmap *hb);
int64_t hbitmap_granularity_bytes(const HBitmap *hb);
/* Change the range covered; what comes in is clear. */
void hbitmap_truncate(HBitmap *hb, int64_t size_bytes);

bool hbitmap_get(const HBitmap *hb, int64_t offset);
void hbitmap_set(HBitmap *hb, int64_t offset, int64_t bytes);
void hbitmap_reset(HBitmap *hb, int64_t offset, int64_t bytes);
void hbitmap_reset_all(HBitmap *hb);
bool hbitmap_empty(const HBitmap *hb);
/* Dirty bytes: bits set times granularity, the last one cut at the size. */
int64_t hbitmap_count(const HBitmap *hb);

/* First dirty (clean) byte in [@start, @start + @bytes), or -1. */
int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t bytes);
int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t bytes);
/* First dirty run in [@start, @end), at most @max bytes long: true and where. */
bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max,
                             int64_t *dirty_start, int64_t *dirty_bytes);
/* @dst |= @src; granularities may differ; false if the sizes do. */
bool hbitmap_merge(HBitmap *dst, const HBitmap *src);
HBitmap *hbitmap_copy(const HBitmap *hb);
/* Memory that the leaves take, bytes. */
size_t hbitmap_memory(const HBitmap *hb);

#endif

/* SPDX-License-Identifier: MIT */
/* overlap.h: no write may land on what the image keeps of itself.
 *
 * In a damaged image an entry may name a cluster that holds a table, or a refcount of zero may stand for
 * one. What is looked at before anything is written there: a word of bits for each cluster near one that
 * holds metadata, which says what that is. One load for a write, under `lock`, which is held anyway.
 *
 * Bits are set when something becomes metadata, and cleared when its cluster is freed. They may be out of
 * date in the safe direction (an L2 table that was copied away from): so a bit that is found is looked into
 * before it counts, and cleared if nothing is there any more. Memory is bounded: what lies in more places than
 * even tables of very large images do is not watched.
 *
 * `lock` held, unless said otherwise.
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_OVERLAP_H
#define LIVEBLK_DRIVERS_QCOW2_OVERLAP_H

#include "drivers/format/qcow2/qcow2.h"

enum {
    OVERLAP_HEADER = 1 << 0,
    OVERLAP_ACTIVE_L1 = 1 << 1,
    OVERLAP_ACTIVE_L2 = 1 << 2,
    OVERLAP_REFBLOCK = 1 << 3,
    OVERLAP_REFTABLE = 1 << 4,
    OVERLAP_SNAPSHOTS = 1 << 5,
    OVERLAP_INACTIVE_L1 = 1 << 6,
    OVERLAP_INACTIVE_L2 = 1 << 7,
    OVERLAP_BITMAPS = 1 << 8,

    OVERLAP_CONSTANT = OVERLAP_HEADER | OVERLAP_ACTIVE_L1 | OVERLAP_REFTABLE | OVERLAP_SNAPSHOTS | OVERLAP_BITMAPS,
    OVERLAP_CACHED = OVERLAP_CONSTANT | OVERLAP_ACTIVE_L2 | OVERLAP_REFBLOCK | OVERLAP_INACTIVE_L1,
    OVERLAP_ALL = OVERLAP_CACHED | OVERLAP_INACTIVE_L2,
};

/* What the options ask for. Any context. */
unsigned qcow2_overlap_parse(const BlockdevOptionsQcow2 *o);
/* Find all that is to be looked at, anew; main thread, no request in flight, without `lock`. What cannot be read
 * is left out. */
void coroutine_fn qcow2_co_overlap_build(BlockDriverState *bs);
void qcow2_overlap_free(Qcow2State *s);
/* [cluster, +n) holds this now. */
void qcow2_overlap_add(Qcow2State *s, unsigned what, uint64_t cluster, uint64_t n);
/* They are free. */
void qcow2_overlap_clear(Qcow2State *s, uint64_t cluster, uint64_t n);
/* Is [host, +bytes), which is about to be written as @what ("metadata" for all that is no table), something else
 * than @except? True: the image was marked corrupt. */
bool qcow2_overlap_slow(BlockDriverState *bs, const char *what, unsigned except, uint64_t host, uint64_t bytes);

static inline bool qcow2_overlap_hit(const Qcow2State *s, uint64_t cluster, unsigned except)
{
    uint64_t page = cluster >> QCOW2_OVERLAP_PAGE_BITS;
    const uint16_t *p = page < s->overlap_n_pages ? s->overlap_pages[page] : NULL;

    return unlikely(p && (p[cluster & ((1u << QCOW2_OVERLAP_PAGE_BITS) - 1)] & ~except));
}

/* Before guest data is written to [host, +bytes). True: not to be. */
static inline bool qcow2_overlap_data(BlockDriverState *bs, uint64_t host, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;

    if (s->external) {
        return false;
    }
    for (uint64_t k = host >> s->cluster_bits; k <= (host + bytes - 1) >> s->cluster_bits; k++) {
        if (qcow2_overlap_hit(s, k, 0)) {
            return qcow2_overlap_slow(bs, "metadata", 0, host, bytes);
        }
    }
    return false;
}

/* Before the table at @place, which is @self, is written. */
static inline bool qcow2_overlap_table(BlockDriverState *bs, uint64_t place, const char *what, unsigned self)
{
    Qcow2State *s = bs->opaque;

    return qcow2_overlap_hit(s, place >> s->cluster_bits, self) &&
           qcow2_overlap_slow(bs, what, self, place, s->cluster_size);
}

#endif

/* SPDX-License-Identifier: MIT */
/* check.h: finding and mending what is wrong in an image, for check*.c and repair.c only
 * (and the counters for snapshot_refs.c, which counts in the same way).
 *
 *   check_counts.c  how often each cluster is referred to
 *   check.c         walks all that refers to clusters, counting
 *   check_refs.c    compares with the refcounts on disk, and looks at COPIED flags
 *   repair.c        writes the refcounts that were counted
 *
 * COST. Each table is read once, in large pieces, in the order of the L1 table; one that
 * several L1 tables share (snapshots) is looked at once and counts as often. Memory: little
 * more than a byte for each cluster near one that is referred to. So the time and the
 * memory that a hostile image can take are bounded by what its file really holds.
 *
 * REPAIR, safe against a crash at any point: first refcounts go up, then (after a flush) flags
 * are set right, then (after another) refcounts go down. Where blocks are missing or damaged, a
 * whole new structure is written behind everything, made durable, and only then does the header
 * point to it. Until the end an image is at worst as bad as it was.
 *
 * Context: main thread, a coroutine, the node drained and its own changes written.
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_CHECK_H
#define LIVEBLK_DRIVERS_QCOW2_CHECK_H

#include "drivers/format/qcow2/qcow2.h"

#define CHECK_PAGE_BITS 12
#define CHECK_PAGE      (1u << CHECK_PAGE_BITS)

/* Counters of CHECK_PAGE neighbouring clusters. */
typedef struct CheckPage {
    unsigned order;                     /* log2 of a counter's bytes: 0, 1 or 2 */
    void *count;
    uint8_t copied[CHECK_PAGE / 8];     /* an active entry names it with the COPIED flag */
    uint8_t plain[CHECK_PAGE / 8];      /* one does without */
} CheckPage;

typedef struct CheckCounts {
    CheckPage **pages;
    uint64_t n_pages;
    uint64_t n_made;                    /* pages that are there */
} CheckCounts;

/* False: no memory; free all the same. */
bool check_counts_init(CheckCounts *c, uint64_t clusters);
/* For so many clusters, if there were less. False: no memory, and nothing has changed. */
bool check_counts_grow(CheckCounts *c, uint64_t clusters);
void check_counts_free(CheckCounts *c);
/* Up to UINT32_MAX, where it stays. @cluster is within what init was told. */
void check_counts_add(CheckCounts *c, uint64_t cluster, uint32_t n);
void check_counts_sub(CheckCounts *c, uint64_t cluster, uint32_t n);
uint32_t check_counts_get(const CheckCounts *c, uint64_t cluster);
/* The page of @cluster, made if need be. */
CheckPage *check_counts_page(CheckCounts *c, uint64_t cluster);
uint32_t check_page_get(const CheckPage *p, unsigned i);

typedef struct Qcow2Check {
    BlockDriverState *bs;
    Qcow2State *s;
    BdrvCheckResult *res;
    BdrvCheckMode fix;
    int64_t file_bytes;
    uint64_t clusters;                  /* of the file */
    uint64_t pages_max;                 /* of counters: what the file's allocated blocks could need */
    bool scattered;                     /* references go to more places */
    CheckCounts refs;                   /* references to each cluster */
    CheckCounts tables;                 /* of these, those from L1 tables; copied: from the active one */
    unsigned snapshot_errors;           /* corruptions of their table that writing it anew mends */
    uint64_t snapshot_bytes;            /* of their table, as counted */
    unsigned structure_errors;          /* corruptions of the refcount structure itself */
    bool fix_flags;                     /* COPIED flags are to be mended */
    bool suspect_flags;                 /* COPIED flags have to be looked at one by one */
    bool rebuild;                       /* refcounts cannot be mended where they are */
    bool partial;                       /* some tables could not be read: nothing may be taken for free */
    bool downs;                         /* there are refcounts to be lowered */
} Qcow2Check;

/* How many pages of counters the references of @bs may need, so that memory follows what the file holds. */
uint64_t coroutine_fn check_co_pages_max(BlockDriverState *bs);
/* Tell of something. */
void check_say(Qcow2Check *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* [offset, +bytes) is referred to @n times. False, and told, if the file does not reach there. */
bool check_region(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t n);
/* Read the clusters that begin at @offsets, several at a time, and call @fn with each in this order. A
 * table that cannot be read is counted as an error and left out. */
int coroutine_fn check_co_tables(Qcow2Check *c, const uint64_t *offsets, size_t n,
                                 int coroutine_fn (*fn)(Qcow2Check *c, size_t i, void *table, void *opaque), void *opaque);
/* Is the refcount block of entry @r one that can be read? Tells why not, if @tell. */
bool check_refblock_valid(Qcow2Check *c, uint64_t r, bool tell);
/* Count all that the refcount table and its blocks take, and look at them; or take that back. */
void check_refcount_structure(Qcow2Check *c, bool add);
/* Compare refcounts; mends those in reach. */
int coroutine_fn check_co_refcounts(Qcow2Check *c);
/* Lower refcounts that are too large. */
int coroutine_fn check_co_lower(Qcow2Check *c);
int coroutine_fn check_co_copied_flags(Qcow2Check *c);
/* Write a new refcount structure. */
int coroutine_fn check_co_rebuild(Qcow2Check *c);

#endif

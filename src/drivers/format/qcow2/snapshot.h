/* SPDX-License-Identifier: MIT */
/* snapshot.h: snapshots inside an image, for snapshot*.c, open.c and what tells of them.
 *
 *   snapshot_table.c  the table of snapshots: reading, writing, finding
 *   snapshot_refs.c   the references of a whole L1 table, added to the refcounts or taken away
 *   snapshot.c        create, goto, delete, load
 *
 * A snapshot is an L1 table of its own. It shares L2 tables and clusters with the active one; what is
 * shared has no COPIED flag, so that whoever writes copies first (map.c, write.c). Each way from an
 * L1 table to a cluster counts: two L1 tables that share an L2 table count twice for all that it names.
 *
 * All is done on a drained node whose own changes are written (qcow2_co_settle), on whole tables read
 * and written in large pieces. Memory: a byte for each cluster, as a check takes.
 *
 * CRASH. The header, one sector, is the switch between old and new; before it only counts go up and flags
 * go away, after it only counts go down and flags come back:
 *   create  L1 copy, new table of snapshots, counts up | flush | COPIED flags away | flush | header
 *   goto    L1 copy, counts up, flags away | flush | header | flush | counts of the old tree down
 *   delete  new table of snapshots | flush | header | flush | counts down | flush | COPIED flags back
 * So a refcount is never too small, and a COPIED flag is never seen on what two refer to. A crash
 * leaves refcounts that are too large, and flags that do not agree with them: the dirty bit is set
 * meanwhile (version 3), so that whoever writes next puts that in order first.
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_SNAPSHOT_H
#define LIVEBLK_DRIVERS_QCOW2_SNAPSHOT_H

#include "block/snapshot.h"
#include "drivers/format/qcow2/check.h"

#define QCOW2_SNAPSHOT_HEAD_BYTES 40
#define QCOW2_SNAPSHOT_TABLE_MAX  (64 * MiB)
#define QCOW2_SNAPSHOT_EXTRA_MIN  16              /* that version 3 wants */
#define QCOW2_SNAPSHOT_EXTRA_MAX  1024

typedef struct Qcow2Snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;                   /* entries */
    char *id, *name;
    uint64_t disk_bytes, vm_state_bytes, vm_clock_ns, icount;
    uint32_t date_s, date_ns;
    uint8_t *unknown;                   /* extra data behind what we know; kept */
    uint32_t unknown_bytes;
} Qcow2Snapshot;

/* ---- snapshot_table.c ---- */
/* Read the table that the header names into s->snapshots. co */
int coroutine_fn qcow2_co_read_snapshots(BlockDriverState *bs, Error **errp);
/* The entries of a damaged table that can be read. co */
GPtrArray *coroutine_fn qcow2_co_salvage_snapshots(BlockDriverState *bs);
void qcow2_snapshot_free(gpointer snapshot);
/* The bytes of a table of @list (Qcow2Snapshot); the caller unrefs. */
GByteArray *qcow2_snapshot_table_build(const GPtrArray *list);
/* Index of the first with this id and name (NULL: any), or -1. */
int qcow2_snapshot_find(Qcow2State *s, const char *id, const char *name);
/* An id first, then a name. */
int qcow2_snapshot_find_by_id_or_name(Qcow2State *s, const char *id_or_name);
int qcow2_snapshot_list(BlockDriverState *bs, QEMUSnapshotInfo **list);
/* The L1 table of @sn, in host order, with room for @size entries at least; NULL and *errp. co */
uint64_t *coroutine_fn qcow2_co_snapshot_l1(BlockDriverState *bs, const Qcow2Snapshot *sn, uint32_t size, Error **errp);

/* ---- snapshot_refs.c; co ---- */
/* A table to be looked at: where, and what it is. */
typedef struct Qcow2Place {
    uint64_t offset, index;
} Qcow2Place;

/* @table is in the byte order of the file. Sets *changed: it is written back. Non-zero ends the walk. */
typedef int coroutine_fn Qcow2WalkFn(void *opaque, uint64_t index, void *table, bool *changed);
/* Call @fn for each of @places (Qcow2Place; they are sorted by this), one at a time unless it suspends; with one of
 * @workers, in the order of the file. */
int coroutine_fn qcow2_co_walk_tables(BlockDriverState *bs, GArray *places, unsigned workers, Qcow2WalkFn *fn,
                                      void *opaque);

/* References of one or more trees of tables. */
typedef struct Qcow2Refs {
    CheckCounts counts;                 /* of each cluster; copied: its refcount became one */
    uint64_t clusters;                  /* that the refcount table can count */
    bool flags_seen;                    /* some entry has the COPIED flag */
    GArray *freed;                      /* Qcow2Run: refcount became zero */
} Qcow2Refs;

typedef enum Qcow2RefsStep {
    REFS_CAN_ADD,       /* would all refcounts be large enough for so many more? */
    REFS_ADD,
    REFS_CAN_SUB,       /* are they at least so large? */
    REFS_SUB,
} Qcow2RefsStep;

/* False: no memory; free all the same. Counting a tree says so by itself. */
bool qcow2_refs_init(Qcow2State *s, Qcow2Refs *r);
void qcow2_refs_free(Qcow2Refs *r);
/* Count all that L1 table @l1 refers to, once more. */
int coroutine_fn qcow2_co_refs_count_tree(BlockDriverState *bs, Qcow2Refs *r, const uint64_t *l1, uint32_t l1_size,
                                          Error **errp);
/* Count the clusters of [offset, +bytes), which is @what. -EIO: no file has this place. */
int qcow2_refs_count_range(Qcow2State *s, Qcow2Refs *r, uint64_t offset, uint64_t bytes, const char *what,
                           Error **errp);
/* What was counted against the refcounts on disk, or added to them, or taken away. Asking first makes
 * sure that the doing cannot fail but for I/O errors. */
int coroutine_fn qcow2_co_refs_step(BlockDriverState *bs, Qcow2Refs *r, Qcow2RefsStep step, Error **errp);
/* COPIED flags away from the L2 tables of @l1, and from @l1 itself. */
int coroutine_fn qcow2_co_flags_clear(BlockDriverState *bs, uint64_t *l1, uint32_t l1_size);
/* COPIED flags for what became the only reference in r; *changed: @l1 has to be written. */
int coroutine_fn qcow2_co_flags_set(BlockDriverState *bs, const Qcow2Refs *r, uint64_t *l1, uint32_t l1_size,
                                    bool *changed);

/* ---- snapshot.c; see block/snapshot.h ---- */
int coroutine_fn qcow2_co_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info, Error **errp);
int coroutine_fn qcow2_co_snapshot_goto(BlockDriverState *bs, const char *id_or_name, Error **errp);
int coroutine_fn qcow2_co_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp);
/* Write the table anew, for check: what could be read of it, in whole entries. The old one took @old_bytes, which are
 * counted (0: nothing that is). */
int coroutine_fn qcow2_co_snapshots_rewrite(BlockDriverState *bs, uint64_t old_bytes);
int coroutine_fn qcow2_co_snapshot_load(BlockDriverState *bs, const char *id, const char *name, Error **errp);

#endif

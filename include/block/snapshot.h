/* SPDX-License-Identifier: MIT */
/* snapshot.h: snapshots that live inside an image.
 *
 * A snapshot is what the disk showed at one instant. It is found by its name, which the user gives and
 * which need not be the only one of its kind, or by its id, which the image gives.
 * Where @bs is a filter, or plain bytes above an image, the node below is meant that has snapshots.
 *
 * Runs on: the main thread, in a coroutine that holds the control lock; all but list and find drain the
 * node meanwhile. Errors: -errno, and *errp set once. -ENOTSUP: the format has no snapshots.
 * Crash: what was there before, or what was asked for; never a part of it.
 */
#ifndef LIVEBLK_BLOCK_SNAPSHOT_H
#define LIVEBLK_BLOCK_SNAPSHOT_H

#include "block/block-common.h"
#include "block/error.h"

typedef struct QEMUSnapshotInfo {
    char id_str[128];
    char name[256];
    uint64_t vm_state_size;             /* bytes */
    uint32_t date_sec, date_nsec;       /* when it was made, since 1970 */
    uint64_t vm_clock_nsec;             /* running time of the machine */
    uint64_t icount;                    /* instructions run; UINT64_MAX: not counted */
} QEMUSnapshotInfo;

/* Can snapshots be made in @bs, which is open for writing? */
LIVEBLK_PUBLIC bool bdrv_can_snapshot(BlockDriverState *bs);
/* All of them, oldest first: how many, *list (the caller frees with g_free) may be NULL for none. */
LIVEBLK_PUBLIC int bdrv_snapshot_list(BlockDriverState *bs, QEMUSnapshotInfo **list);
/* The first by the name of @name. */
LIVEBLK_PUBLIC bool bdrv_snapshot_find(BlockDriverState *bs, QEMUSnapshotInfo *info, const char *name);
/* The first that has this id and this name; NULL: any. One is given. */
LIVEBLK_PUBLIC bool bdrv_snapshot_find_by_id_and_name(BlockDriverState *bs, const char *id, const char *name,
                                                      QEMUSnapshotInfo *info, Error **errp);
/* Make one. info->id_str "": an id is found and put there. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info, Error **errp);
/* Let the disk be again what it was. @id_or_name: an id first. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_snapshot_goto(BlockDriverState *bs, const char *id_or_name, Error **errp);
/* NULL: any; one is given. -ENOENT: there is none. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_snapshot_delete(BlockDriverState *bs, const char *id, const char *name,
                                                     Error **errp);
/* From now on @bs, which is read-only, shows the snapshot, until it is closed. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_snapshot_load_tmp(BlockDriverState *bs, const char *id, const char *name,
                                                       Error **errp);
/* The same; an id first. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_snapshot_load_tmp_by_id_or_name(BlockDriverState *bs, const char *id_or_name,
                                                                     Error **errp);

#endif

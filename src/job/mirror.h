/* SPDX-License-Identifier: MIT */
/* mirror.h: between the files of the mirror job.
 *
 *   guest -> mirror_top (filter, mirror_top.c) -> source
 *                 |  write-through
 *                 v
 *   job (mirror.c) copies what is dirty (copy.h) -> target
 *
 * Two ways for a guest's write:
 *   background     to the source; then the range is marked dirty, before the guest is answered.
 *   write-through  to the source and to the target; nothing becomes dirty. Where the range is all
 *                  dirty anyway, or a copy of it is in flight, or another such write, it goes the
 *                  background way: whoever ends last, the range is copied again.
 * write-blocking mode is write-through all the time. Background mode uses it when the end is wanted
 * or the dirty amount does not shrink: from then on dirt hardly grows, and once little is left
 * (`closing`) guests' writes take none of these short cuts: they wait for what overlaps, at most one
 * small piece, and dirt only gets less. So the job always converges, whatever the guest does.
 *
 * The rules of what is dirty and what may overlap are the copy engine's: see copy.h.
 *
 * Threads: the job and its copies run in the main context; guests' writes in theirs. Shared: the
 * engine, as it says, and the atomic fields.
 *
 * A target that hangs delays neither the end of a job that is cancelled for good nor, from then on,
 * its guests: requests to it are abandoned after GRACE_NS. It stays open until they end.
 */
#ifndef LIVEBLK_JOB_MIRROR_H
#define LIVEBLK_JOB_MIRROR_H

#include "block/block_int-global-state.h"
#include "job/copy.h"

typedef struct MirrorJob {
    BlockJob common;
    CopyEngine copy;                    /* counted on `top`, reads below it */
    BlockDriverState *top, *source;     /* the filter; the node below it */
    BdrvChild *lost_target;             /* the job's edge to a target that hangs */
    char *replaces;
    MirrorSyncMode sync;
    BlockMirrorBackingMode backing_mode;
    bool zero_target;                   /* the target may hold anything now; false: it reads as zero */

    unsigned copy_mode;                 /* atomic: MirrorCopyMode */
    unsigned write_through;             /* atomic: guests' writes go to both sides */
    unsigned closing;                   /* atomic: write-through, and little is dirty */
    uint64_t guest_writes;              /* atomic: begun; tells whether the guest is busy */
    int target_error;                   /* atomic: of a guest's write-through, positive errno */

    /* main context */
    bool should_complete;
    bool filter_gone;
} MirrorJob;

/* mirror_top.c */
extern const BlockDriver bdrv_mirror_top;
void mirror_top_set_job(BlockDriverState *top, MirrorJob *s);      /* NULL: only pass on; drained */

/* mirror_end.c: the callbacks of the end. */
int coroutine_fn mirror_prepare(BlockJob *job, Error **errp);
void coroutine_fn mirror_abort(BlockJob *job);
bool mirror_cancel(BlockJob *job, bool force);
/* Open the target's own backing chain if that is to be done. False and *errp: it cannot be. */
bool mirror_open_backing(MirrorJob *s, Error **errp);

#endif

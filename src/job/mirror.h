/* SPDX-License-Identifier: MIT */
/* mirror.h: between the files of the mirror job.
 *
 *   guest -> mirror_top (filter, mirror_top.c) -> source
 *                 |  write-through
 *                 v
 *   job (mirror.c) copies what is dirty -> target (mirror_copy.c)
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
 * Invariant, whenever `lock` is free: for every granule either its bit is set, or an operation
 * on it is in the list, or source and target agree.
 *
 * Threads: the job and its copies run in the main context; guests' writes in theirs. Shared:
 * `ops` (under `lock`), the bitmap (locks itself), and the atomic fields.
 */
#ifndef LIVEBLK_JOB_MIRROR_H
#define LIVEBLK_JOB_MIRROR_H

#include "base/osdep.h"
#include "base/ratelimit.h"
#include "block/block_int-global-state.h"
#include "block/blockjob_int.h"
#include "block/dirty-bitmap.h"

typedef struct MirrorOp {
    int64_t offset, bytes;
    LIST_ENTRY(MirrorOp) link;
} MirrorOp;

typedef struct MirrorJob {
    BlockJob common;
    BlockBackend *target;
    BlockDriverState *top, *source;     /* the filter; the node below it */
    BlockDriverState *base;             /* sync=top: what lies below is not copied; else NULL */
    char *replaces;
    MirrorSyncMode sync;
    BlockMirrorBackingMode backing_mode;
    BlockdevOnError on_source_error, on_target_error;
    bool unmap;
    int64_t granularity, buf_size, length;
    BdrvDirtyBitmap *dirty;

    pthread_mutex_t lock;               /* over ops and ops_ended; held for instants */
    LIST_HEAD(, MirrorOp) ops;
    CoQueue ops_ended;                  /* of what a write waits for while closing */
    unsigned copy_mode;                 /* atomic: MirrorCopyMode */
    unsigned write_through;             /* atomic: guests' writes go to both sides */
    unsigned closing;                   /* atomic: write-through, and little is dirty */
    uint64_t guest_writes;              /* atomic: begun; tells whether the guest is busy */
    int target_error;                   /* atomic: of a guest's write-through, positive errno */
    unsigned idle;                      /* atomic: the job waits for dirt or for an operation's end */
    unsigned kick_scheduled;            /* atomic */

    /* main context */
    unsigned in_flight;
    int64_t in_flight_bytes;
    int64_t cursor;
    int64_t last_copy_ns, last_copy_end_ns;     /* how long the last copy took; when it ended */
    bool should_complete;
    bool filter_gone;
    int ret;
    RateLimit limit;
    int64_t pace_until_ns;              /* begin nothing before: the speed limit */
} MirrorJob;

/* mirror_top.c */
extern const BlockDriver bdrv_mirror_top;
void mirror_top_set_job(BlockDriverState *top, MirrorJob *s);      /* NULL: only pass on; drained */

/* mirror_copy.c; main context */
/* Start copying the next dirty piece, at most @max bytes. Bytes begun; 0: nothing to start.
 * @flags: BDRV_REQ_BULK, or 0 for a small piece while a guest is busy: it is then done as a guest's
 * own request would be, in this thread where the page cache answers, which costs the guest less
 * than another thread's taking a processor from it. */
int64_t coroutine_fn mirror_copy_start(MirrorJob *s, int64_t max, BdrvRequestFlags flags);
/* Nothing is dirty, or operations work on all that is. */
bool mirror_copy_must_wait(MirrorJob *s);
/* Copy one dirty piece and wait. 1 copied, 0 nothing dirty, -errno. */
int coroutine_fn mirror_copy_now(MirrorJob *s);

/* mirror_top.c */
void mirror_mark_dirty(MirrorJob *s, int64_t offset, int64_t bytes);
/* Take @op out of the list; whoever waits for it goes on. */
void mirror_op_end(MirrorJob *s, MirrorOp *op);

#endif

/* SPDX-License-Identifier: MIT */
/* blockjob.h: long-running operations on block devices, seen by whoever starts,
 * watches and ends them.
 *
 * A job goes through the states of JobStatus; verbs are legal in some states only
 * (docs/architecture.md has both tables). All functions: main thread (GS). Those named
 * _sync wait for the end: they suspend in a coroutine and run the main loop outside one.
 *
 * Ownership: creating a job returns a pointer that is valid until the job is dismissed;
 * take a reference (block_job_ref) to keep it longer.
 */
#ifndef LIVEBLK_BLOCK_BLOCKJOB_H
#define LIVEBLK_BLOCK_BLOCKJOB_H

#include "block/block.h"

typedef struct BlockJob BlockJob;
typedef struct BlockJobDriver BlockJobDriver;
typedef struct BlockJobTxn BlockJobTxn;
typedef BlockJobTxn JobTxn;             /* both names are in use in the field */
typedef JobStatus BlockJobStatus;

typedef enum BlockJobCreateFlags {
    BLOCK_JOB_DEFAULT = 0x00,
    BLOCK_JOB_INTERNAL = 0x01,          /* no id, not listed, no events */
    BLOCK_JOB_MANUAL_FINALIZE = 0x02,   /* stops in `pending` until finalized */
    BLOCK_JOB_MANUAL_DISMISS = 0x04,    /* stays listed in `concluded` until dismissed */
} BlockJobCreateFlags;

/* ---- find ---- */
/* The job after @job in order of creation, newest first; NULL: the first one. */
LIVEBLK_PUBLIC BlockJob *block_job_next(BlockJob *job);
/* The job named @id (not NULL), or NULL. */
LIVEBLK_PUBLIC BlockJob *block_job_get(const char *id);
LIVEBLK_PUBLIC bool block_job_is_internal(BlockJob *job);
/* What query-block-jobs tells; freed with qapi_free_BlockJobInfo. NULL and *errp for an
 * internal job. */
LIVEBLK_PUBLIC BlockJobInfo *block_job_query(BlockJob *job, Error **errp);

/* ---- nodes it works on ---- */
/* Hold @bs with these permissions while the job exists. 0 or -errno. */
LIVEBLK_PUBLIC int block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs,
                                      uint64_t perm, uint64_t shared_perm, Error **errp);
LIVEBLK_PUBLIC void block_job_remove_all_bdrv(BlockJob *job);

/* ---- run ---- */
/* Start a job that was created; takes over one reference. */
LIVEBLK_PUBLIC void block_job_start(BlockJob *job);
/* Bytes a second, 0 unlimited; takes effect at once. Negative: error. */
LIVEBLK_PUBLIC void block_job_set_speed(BlockJob *job, int64_t speed, Error **errp);
/* Pause and resume as the user asked; one level. */
LIVEBLK_PUBLIC void block_job_user_pause(BlockJob *job, Error **errp);
LIVEBLK_PUBLIC bool block_job_user_paused(BlockJob *job);
LIVEBLK_PUBLIC void block_job_user_resume(BlockJob *job, Error **errp);
/* Clear the I/O status. */
LIVEBLK_PUBLIC void block_job_iostatus_reset(BlockJob *job);

/* ---- end ---- */
/* Ask the job to stop; returns at once. Without @force a ready mirror ends cleanly,
 * without pivoting. */
LIVEBLK_PUBLIC void block_job_cancel(BlockJob *job, bool force);
/* The same as a verb: refused where the state does not allow it. */
LIVEBLK_PUBLIC void block_job_user_cancel(BlockJob *job, bool force, Error **errp);
/* A ready job finishes (mirror: pivots); returns at once. */
LIVEBLK_PUBLIC void block_job_complete(BlockJob *job, Error **errp);
/* A pending job makes its changes; with it its whole transaction. All graph changes
 * are done when this returns. */
LIVEBLK_PUBLIC void block_job_finalize(BlockJob *job, Error **errp);
/* Remove a concluded job from the list; *job becomes NULL. */
LIVEBLK_PUBLIC void block_job_dismiss(BlockJob **job, Error **errp);
/* Cancel (forced) and wait. The job's result, -ECANCELED if it was cancelled. */
LIVEBLK_PUBLIC int block_job_cancel_sync(BlockJob *job);
LIVEBLK_PUBLIC void block_job_cancel_sync_all(void);
/* Complete and wait. The job's result; *errp when completing was refused. */
LIVEBLK_PUBLIC int block_job_complete_sync(BlockJob *job, Error **errp);

/* ---- references ---- */
LIVEBLK_PUBLIC void block_job_ref(BlockJob *job);
LIVEBLK_PUBLIC void block_job_unref(BlockJob *job);

/* ---- transactions: all jobs succeed, or all fail ---- */
LIVEBLK_PUBLIC BlockJobTxn *block_job_txn_new(void);
LIVEBLK_PUBLIC void block_job_txn_unref(BlockJobTxn *txn);
/* @txn may be NULL. @job must not be in one yet; it holds a reference to @txn. */
LIVEBLK_PUBLIC void block_job_txn_add_job(BlockJobTxn *txn, BlockJob *job);

#endif

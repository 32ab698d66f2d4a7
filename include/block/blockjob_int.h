/* SPDX-License-Identifier: MIT */
/* blockjob_int.h: for those who write a kind of job.
 *
 * A job is a coroutine in the main context plus what happens at its end:
 *
 *   created -> run() ... returns 0 or -errno
 *     success: waiting (for its transaction) -> pending -> prepare() -> commit() -> clean()
 *     failure: aborting -> abort() -> clean()
 *   then cb(), the event, concluded, dismissed.
 *
 * run() and everything else here is called in the main thread; prepare, commit, abort and
 * clean in a coroutine that holds the control lock, so they may drain and edit the graph.
 * The data of a job may move in other threads; its state never does.
 *
 * Pausing: run() calls job_pause_point() often, with none of its I/O in flight; sleeps with
 * job_sleep_ns(), and waits with job_yield(), which are pause points too. `busy` is true
 * between them. A drain of one of the job's nodes pauses it; the drain waits while
 * `busy` and for drained_poll().
 */
#ifndef LIVEBLK_BLOCK_BLOCKJOB_INT_H
#define LIVEBLK_BLOCK_BLOCKJOB_INT_H

#include "block/blockjob.h"
#include "block/block-backend.h"

struct BlockJobDriver {
    size_t instance_size;       /* >= sizeof(BlockJob), which comes first */
    JobType job_type;
    /* The work. 0 or -errno, with *errp or strerror as the message. */
    int coroutine_fn (*run)(BlockJob *job, Error **errp);
    /* End of the job, control lock held; see above. prepare may fail: the whole
     * transaction aborts then. NULL: nothing. */
    int coroutine_fn (*prepare)(BlockJob *job, Error **errp);
    void coroutine_fn (*commit)(BlockJob *job);
    void coroutine_fn (*abort)(BlockJob *job);
    void coroutine_fn (*clean)(BlockJob *job);
    /* Verbs. cancel: stop what keeps the job busy; returns whether this is a real
     * cancellation (-ECANCELED) rather than a clean early end. NULL: true. */
    bool (*cancel)(BlockJob *job, bool force);
    void (*complete)(BlockJob *job, Error **errp);      /* NULL: cannot be completed */
    void (*change)(BlockJob *job, BlockJobChangeOptions *opts, Error **errp);
    void (*set_speed)(BlockJob *job, int64_t speed);    /* told after it changed */
    void (*user_resume)(BlockJob *job);
    /* Wait for the end of the job's own I/O: it is about to park. NULL: there is none. */
    void coroutine_fn (*pause)(BlockJob *job);
    /* Add what is special to query-block-jobs. */
    void (*query)(BlockJob *job, BlockJobInfo *info);
    /* Is I/O of the job's own in flight while it is not `busy`? NULL: no. */
    bool (*drained_poll)(BlockJob *job);
    void (*free)(BlockJob *job);
};

struct BlockJob {
    const BlockJobDriver *driver;
    BlockBackend *blk;              /* the device it operates on; NULL: none (create) */
    char *id;                       /* NULL: internal */
    Coroutine *co;                  /* NULL before start and after run() returned */
    int refcnt;
    JobStatus status;

    bool cancelled;                 /* asked to stop, one way or the other */
    bool force;                     /* without waiting for anything; result -ECANCELED */
    bool busy;                      /* the coroutine runs or has I/O in flight */
    bool paused;                    /* parked at a pause point */
    bool user_paused;
    bool kicked;                    /* job_enter() came while it was not waiting */
    bool waiting;                   /* asleep in job_yield() or job_sleep_ns() */
    bool deferred_to_main_loop;     /* run() returned */
    bool completed;                 /* its end has been processed by the transaction */
    bool finalizing;                /* its end is being applied at this moment */
    bool auto_finalize, auto_dismiss;
    bool ready;                     /* as the last status was ready or standby */
    int pause_count;                /* all reasons: start, user, errors, drains */
    int drain_pauses;               /* those of drains: even a cancelled job parks for them */
    QEMUTimer sleep_timer;          /* of job_sleep_ns() */
    bool has_started;

    int ret;
    Error *err;
    BlockDeviceIoStatus iostatus;
    int64_t offset, len;            /* bytes done and to do */
    int64_t speed;                  /* bytes a second; 0 unlimited */

    BlockCompletionFunc *cb;
    void *opaque;
    GSList *nodes;                  /* BdrvChild of each node it works on */
    BlockJobTxn *txn;
    LIST_ENTRY(BlockJob) job_list;
    LIST_ENTRY(BlockJob) txn_list;
};

/* Make a job, in state created. @bs (may be NULL) becomes its main node, held with @perm
 * and @shared_perm. NULL and *errp on failure. */
LIVEBLK_PUBLIC void *block_job_create(const char *job_id, const BlockJobDriver *driver, JobTxn *txn,
                                      BlockDriverState *bs, uint64_t perm, uint64_t shared_perm,
                                      int64_t speed, int flags, BlockCompletionFunc *cb, void *opaque,
                                      Error **errp);
/* Undo block_job_create() of a job that was not started: state null, freed. */
LIVEBLK_PUBLIC void block_job_early_fail(BlockJob *job);

/* ---- for run() ---- */
LIVEBLK_PUBLIC void coroutine_fn job_pause_point(BlockJob *job);
/* Sleep @ns, or until job_enter(); not at all when cancelled. A pause point. */
LIVEBLK_PUBLIC void coroutine_fn job_sleep_ns(BlockJob *job, int64_t ns);
/* Wait for job_enter(). A pause point. */
LIVEBLK_PUBLIC void coroutine_fn job_yield(BlockJob *job);
/* Wait for job_enter(), also when cancelled or paused; no pause point. For what must end first. */
LIVEBLK_PUBLIC void coroutine_fn job_wait_enter(BlockJob *job);
/* Wake the job from either, and run it now. Main thread; not while the graph is being
 * edited (drains wake it by a bottom half). */
LIVEBLK_PUBLIC void job_enter(BlockJob *job);
/* Asked to stop at once (forced or not ready). */
LIVEBLK_PUBLIC bool job_is_cancelled(const BlockJob *job);
/* Asked to stop in any way. */
LIVEBLK_PUBLIC bool job_cancel_requested(const BlockJob *job);
LIVEBLK_PUBLIC bool job_is_ready(const BlockJob *job);
LIVEBLK_PUBLIC bool job_is_completed(const BlockJob *job);
LIVEBLK_PUBLIC bool job_should_pause(const BlockJob *job);
LIVEBLK_PUBLIC void job_transition_to_ready(BlockJob *job);
LIVEBLK_PUBLIC void job_progress_update(BlockJob *job, int64_t done_bytes);
LIVEBLK_PUBLIC void job_progress_set_remaining(BlockJob *job, int64_t remaining_bytes);
LIVEBLK_PUBLIC void job_progress_increase_remaining(BlockJob *job, int64_t delta_bytes);
/* What to do about an I/O error, by policy; sends BLOCK_JOB_ERROR, and pauses the job and
 * sets its I/O status for `stop`. @error: positive errno. */
LIVEBLK_PUBLIC BlockErrorAction block_job_error_action(BlockJob *job, BlockdevOnError on_err,
                                                       bool is_read, int error);

/* ---- pauses, counted: the job parks at its next pause point ---- */
LIVEBLK_PUBLIC void job_pause(BlockJob *job);
LIVEBLK_PUBLIC void job_resume(BlockJob *job);

/* Does it work on a block device (all but create and amend)? Others have no BLOCK_JOB_* events
 * and are not in query-block-jobs. */
LIVEBLK_PUBLIC bool block_job_is_block(const BlockJob *job);

/* ---- verbs as the control protocol has them: refused by state, with the peer's text ---- */
LIVEBLK_PUBLIC int job_apply_verb(BlockJob *job, JobVerb verb, Error **errp);
LIVEBLK_PUBLIC void job_change(BlockJob *job, BlockJobChangeOptions *opts, Error **errp);
LIVEBLK_PUBLIC JobInfo *job_query(BlockJob *job);
/* Wait for the end of @job after @verb (may be NULL) was called. */
LIVEBLK_PUBLIC int job_finish_sync(BlockJob *job, void (*verb)(BlockJob *, Error **errp), Error **errp);

#endif

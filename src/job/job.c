/* SPDX-License-Identifier: MIT */
/* job.c: the life of a job: states, verbs, pausing, progress, the list.
 *
 * What may follow what is in two tables below, and nowhere else. The end of a job
 * (transactions, finalize, dismiss) is in job_end.c, nodes and policies in blockjob.c.
 */
#include "base/osdep.h"
#include "base/trace.h"
#include "base/str.h"
#include "job/job_private.h"
#include "qapi-events.h"

JobList job_list = LIST_HEAD_INITIALIZER(job_list);

#define B(state) (1u << JOB_STATUS_##state)

/* job_follows[a] has bit b when a job may go from state a to state b. */
static const unsigned job_follows[JOB_STATUS__MAX] = {
    [JOB_STATUS_UNDEFINED] = B(CREATED),
    [JOB_STATUS_CREATED]   = B(RUNNING) | B(ABORTING) | B(NULL),
    [JOB_STATUS_RUNNING]   = B(PAUSED) | B(READY) | B(WAITING) | B(ABORTING),
    [JOB_STATUS_PAUSED]    = B(RUNNING),
    [JOB_STATUS_READY]     = B(STANDBY) | B(WAITING) | B(ABORTING),
    [JOB_STATUS_STANDBY]   = B(READY),
    [JOB_STATUS_WAITING]   = B(PENDING) | B(ABORTING),
    [JOB_STATUS_PENDING]   = B(ABORTING) | B(CONCLUDED),
    [JOB_STATUS_ABORTING]  = B(ABORTING) | B(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = B(NULL),
    [JOB_STATUS_NULL]      = 0,
};

#define ALIVE (B(CREATED) | B(RUNNING) | B(PAUSED) | B(READY) | B(STANDBY))

/* job_accepts[v] has bit s when verb v is legal in state s. */
static const unsigned job_accepts[JOB_VERB__MAX] = {
    [JOB_VERB_CANCEL]    = ALIVE | B(WAITING) | B(PENDING),
    [JOB_VERB_PAUSE]     = ALIVE,
    [JOB_VERB_RESUME]    = ALIVE,
    [JOB_VERB_SET_SPEED] = ALIVE,
    [JOB_VERB_COMPLETE]  = B(READY) | B(STANDBY),      /* takes effect after the resume */
    [JOB_VERB_FINALIZE]  = B(PENDING),
    [JOB_VERB_DISMISS]   = B(CONCLUDED),
    [JOB_VERB_CHANGE]    = ALIVE,
};

bool job_may_follow(JobStatus from, JobStatus to)
{
    return job_follows[from] & (1u << to);
}

void job_set_status(BlockJob *job, JobStatus to)
{
    g_assert(qemu_in_main_thread());
    g_assert(job_may_follow(job->status, to));
    TRACE(job, "%s: %s -> %s", job->id ? job->id : "(internal)", JobStatus_str(job->status), JobStatus_str(to));
    job->status = to;
    job->ready = to == JOB_STATUS_READY || to == JOB_STATUS_STANDBY;
    if (!block_job_is_internal(job)) {
        qapi_event_send_job_status_change(job->id, to);
    }
}

int job_apply_verb(BlockJob *job, JobVerb verb, Error **errp)
{
    if (job_accepts[verb] & (1u << job->status)) {
        return 0;
    }
    error_setg(errp, "Job '%s' in state '%s' cannot accept command verb '%s'",
               job->id, JobStatus_str(job->status), JobVerb_str(verb));
    return -EPERM;
}

/* ---- list ---- */

BlockJob *block_job_next(BlockJob *job)
{
    return job ? LIST_NEXT(job, job_list) : LIST_FIRST(&job_list);
}

BlockJob *block_job_get(const char *id)
{
    BlockJob *job;

    LIST_FOREACH(job, &job_list, job_list) {
        if (job->id && !strcmp(job->id, id)) {
            return job;
        }
    }
    return NULL;
}

bool block_job_is_internal(BlockJob *job)
{
    return job->id == NULL;
}

bool block_job_is_block(const BlockJob *job)
{
    return job->driver->job_type != JOB_TYPE_CREATE && job->driver->job_type != JOB_TYPE_AMEND;
}

/* ---- creation and references ---- */

static bool job_id_check(const char *id, int flags, Error **errp)
{
    if (flags & BLOCK_JOB_INTERNAL) {
        if (id) {
            error_setg(errp, "Cannot specify job ID for internal job");
            return false;
        }
        return true;
    }
    if (!id || !id_wellformed(id)) {
        error_setg(errp, "Invalid job ID '%s'", id ? id : "");
        return false;
    }
    if (block_job_get(id)) {
        error_setg(errp, "Job ID '%s' already in use", id);
        return false;
    }
    return true;
}

static void job_sleep_cb(void *opaque);

BlockJob *job_new(const char *id, const BlockJobDriver *driver, JobTxn *txn, int flags,
                  BlockCompletionFunc *cb, void *opaque, Error **errp)
{
    BlockJob *job;

    if (!job_id_check(id, flags, errp)) {
        return NULL;
    }
    g_assert(driver->instance_size >= sizeof(BlockJob));
    job = g_malloc0(driver->instance_size);
    job->driver = driver;
    job->id = g_strdup(id);
    job->refcnt = 1;
    job->pause_count = 1;       /* until block_job_start() */
    job->auto_finalize = !(flags & BLOCK_JOB_MANUAL_FINALIZE);
    job->auto_dismiss = !(flags & BLOCK_JOB_MANUAL_DISMISS);
    job->cb = cb;
    job->opaque = opaque;
    timer_init_ns(&job->sleep_timer, qemu_get_aio_context(), job_sleep_cb, job);
    LIST_INSERT_HEAD(&job_list, job, job_list);
    job_set_status(job, JOB_STATUS_CREATED);

    /* A job is always in a transaction, of its own if nobody gave one. */
    if (txn) {
        block_job_txn_add_job(txn, job);
    } else {
        txn = block_job_txn_new();
        block_job_txn_add_job(txn, job);
        block_job_txn_unref(txn);
    }
    return job;
}

void block_job_ref(BlockJob *job)
{
    job->refcnt++;
}

void block_job_unref(BlockJob *job)
{
    g_assert(job->refcnt > 0);
    if (--job->refcnt) {
        return;
    }
    g_assert(job->status == JOB_STATUS_NULL);
    g_assert(!job->txn && !job->co);
    if (job->driver->free) {
        job->driver->free(job);
    }
    block_job_remove_all_bdrv(job);
    if (job->blk) {
        blk_unref(job->blk);
    }
    error_free(job->err);
    g_free(job->id);
    g_free(job);
}

void block_job_early_fail(BlockJob *job)
{
    g_assert(job->status == JOB_STATUS_CREATED && !job->co);
    job_dismiss_now(job);
}

/* ---- cancelled or not ---- */

bool job_is_cancelled(const BlockJob *job)
{
    return job->cancelled && job->force;
}

bool job_cancel_requested(const BlockJob *job)
{
    return job->cancelled;
}

bool job_is_ready(const BlockJob *job)
{
    return job->ready;
}

bool job_is_completed(const BlockJob *job)
{
    switch (job->status) {
    case JOB_STATUS_WAITING:
    case JOB_STATUS_PENDING:
    case JOB_STATUS_ABORTING:
    case JOB_STATUS_CONCLUDED:
    case JOB_STATUS_NULL:
        return true;
    default:
        return false;
    }
}

/* ---- running, sleeping, pausing ---- */

bool job_should_pause(const BlockJob *job)
{
    return job->pause_count > 0;
}

/* A job that was cancelled for good does not park: it is on its way out. Only a drain
 * stops it, since nothing may be sent while one lasts. */
static bool job_should_park(const BlockJob *job)
{
    return job->pause_count > 0 && (!job_is_cancelled(job) || job->drain_pauses > 0);
}

/* Suspend run() until job_enter(), at most @ns (-1: for ever). */
static void coroutine_fn job_wait(BlockJob *job, int64_t ns)
{
    if (ns >= 0) {
        timer_mod_ns(&job->sleep_timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + ns);
    }
    job->waiting = true;
    job->busy = false;
    aio_wait_kick();            /* a drain may wait for us to be idle */
    qemu_coroutine_yield();
    job->busy = true;
}

void job_enter(BlockJob *job)
{
    g_assert(qemu_in_main_thread());
    if (!job->co || job->deferred_to_main_loop) {
        return;
    }
    job->kicked = true;
    if (job->waiting) {
        timer_del(&job->sleep_timer);
        job->waiting = false;
        qemu_coroutine_enter(job->co);
    }
}

static void job_sleep_cb(void *opaque)
{
    job_enter(opaque);
}

void coroutine_fn job_pause_point(BlockJob *job)
{
    g_assert(job->co == qemu_coroutine_self());
    if (!job_should_park(job)) {
        return;
    }
    if (job->driver->pause) {
        job->driver->pause(job);
        if (!job_should_park(job)) {
            return;
        }
    }
    JobStatus was = job->status;

    job_set_status(job, was == JOB_STATUS_READY ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
    job->paused = true;
    while (job_should_park(job)) {
        job_wait(job, -1);
    }
    job->paused = false;
    job_set_status(job, was);
}

/* Wait for a kick unless one came already, or there is reason not to wait. */
static void coroutine_fn job_wait_point(BlockJob *job, int64_t ns)
{
    if (!job->kicked && !job_is_cancelled(job) && !job_should_pause(job)) {
        job_wait(job, ns);
    }
    job->kicked = false;
    job_pause_point(job);
}

void coroutine_fn job_wait_enter(BlockJob *job)
{
    if (!job->kicked) {
        job_wait(job, -1);
    }
    job->kicked = false;
}

void coroutine_fn job_yield(BlockJob *job)
{
    job_wait_point(job, -1);
}

void coroutine_fn job_sleep_ns(BlockJob *job, int64_t ns)
{
    job_wait_point(job, MAX(ns, 0));
}

void job_pause(BlockJob *job)
{
    job->pause_count++;
    if (!job->paused) {
        job_enter(job);         /* so that it reaches a pause point at once */
    }
}

void job_resume(BlockJob *job)
{
    g_assert(job->pause_count > 0);
    if (--job->pause_count == 0) {
        job_enter(job);
    }
}

/* A drain begins at one of the job's nodes. An idle job needs no waking: whatever wakes
 * it leads to a pause point first. */
void job_drained_begin(BlockJob *job)
{
    job->pause_count++;
    job->drain_pauses++;
}

bool job_drained_poll(BlockJob *job)
{
    if (job->driver->drained_poll && job->driver->drained_poll(job)) {
        return true;
    }
    return job->co && job->busy;
}

static void job_drained_end_bh(void *opaque)
{
    BlockJob *job = opaque;

    if (job->pause_count == 0 || job_is_cancelled(job)) {
        job_enter(job);
    }
    block_job_unref(job);
}

/* The graph may still be in the hands of whoever drained it: go on a little later. */
void job_drained_end(BlockJob *job)
{
    g_assert(job->drain_pauses > 0 && job->pause_count > 0);
    job->drain_pauses--;
    job->pause_count--;
    if (job->drain_pauses == 0 && job->co) {
        block_job_ref(job);
        aio_bh_schedule_oneshot(qemu_get_aio_context(), job_drained_end_bh, job);
    }
}

static void coroutine_fn job_co_entry(void *opaque)
{
    BlockJob *job = opaque;

    job->busy = true;
    job_pause_point(job);
    job->ret = job->driver->run(job, &job->err);
    job->deferred_to_main_loop = true;
    job->busy = false;
    job->co = NULL;
    aio_wait_kick();
    job_schedule_end(job);
}

void block_job_start(BlockJob *job)
{
    g_assert(qemu_in_main_thread());
    g_assert(!job->has_started && job->pause_count > 0 && job->driver->run);
    job->has_started = true;
    job->pause_count--;
    job->co = qemu_coroutine_create(job_co_entry, job);
    job_set_status(job, JOB_STATUS_RUNNING);
    qemu_coroutine_enter(job->co);
}

void job_transition_to_ready(BlockJob *job)
{
    job_set_status(job, JOB_STATUS_READY);
    blockjob_event_ready(job);
}

/* ---- progress ---- */

void job_progress_update(BlockJob *job, int64_t done_bytes)
{
    job->offset += done_bytes;
}

void job_progress_set_remaining(BlockJob *job, int64_t remaining_bytes)
{
    job->len = job->offset + remaining_bytes;
}

void job_progress_increase_remaining(BlockJob *job, int64_t delta_bytes)
{
    job->len += delta_bytes;
}

/* ---- verbs ---- */

void block_job_user_pause(BlockJob *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_PAUSE, errp)) {
        return;
    }
    if (job->user_paused) {
        error_setg(errp, "Job is already paused");
        return;
    }
    job->user_paused = true;
    job_pause(job);
}

bool block_job_user_paused(BlockJob *job)
{
    return job->user_paused;
}

void block_job_user_resume(BlockJob *job, Error **errp)
{
    if (!job->user_paused || job->pause_count <= 0) {
        error_setg(errp, "Can't resume a job that was not paused");
        return;
    }
    if (job_apply_verb(job, JOB_VERB_RESUME, errp)) {
        return;
    }
    if (job->driver->user_resume) {
        job->driver->user_resume(job);
    }
    block_job_iostatus_reset(job);
    job->user_paused = false;
    job_resume(job);
}

void block_job_set_speed(BlockJob *job, int64_t speed, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_SET_SPEED, errp)) {
        return;
    }
    if (speed < 0) {
        error_setg(errp, "Parameter 'speed' expects a non-negative value");
        return;
    }
    job->speed = speed;
    if (job->driver->set_speed) {
        job->driver->set_speed(job, speed);
    }
    job_enter(job);             /* one that sleeps on the old limit looks again */
}

void job_change(BlockJob *job, BlockJobChangeOptions *opts, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_CHANGE, errp)) {
        return;
    }
    if (!job->driver->change) {
        error_setg(errp, "Job type does not support change");
        return;
    }
    job->driver->change(job, opts, errp);
}

void block_job_complete(BlockJob *job, Error **errp)
{
    g_assert(job->id);          /* internal jobs are completed by their owner's own means */
    if (job_apply_verb(job, JOB_VERB_COMPLETE, errp)) {
        return;
    }
    if (job_cancel_requested(job) || !job->driver->complete) {
        error_setg(errp, "The active block job '%s' cannot be completed", job->id);
        return;
    }
    job->driver->complete(job, errp);
}

JobInfo *job_query(BlockJob *job)
{
    JobInfo *info = g_new0(JobInfo, 1);

    info->id = g_strdup(job->id);
    info->type = job->driver->job_type;
    info->status = job->status;
    info->current_progress = job->offset;
    info->total_progress = job->len;
    info->error = job->err ? g_strdup(error_get_pretty(job->err)) : NULL;
    return info;
}

/* SPDX-License-Identifier: MIT */
/* job_end.c: how jobs end: together (transactions), on command (finalize, dismiss),
 * early (cancel), and waited for (the _sync forms).
 *
 * run() returns -> a bottom half starts a coroutine that takes the control lock and
 * calls job_completed(). From there:
 *
 *   success   waiting; when all jobs of the transaction got there: each pending; when
 *             all may (auto_finalize or the command): each prepare(); one that fails
 *             fails all; else each commit(), clean(), concluded.
 *   failure   aborting; the others of the transaction are cancelled and their run()
 *             waited for; then each abort(), clean(), concluded.
 *
 * Everything that edits the graph happens under the control lock, so two ends never mix.
 */
#include "base/osdep.h"
#include "job/job_private.h"

/* ---- transactions ---- */

BlockJobTxn *block_job_txn_new(void)
{
    BlockJobTxn *txn = g_new0(BlockJobTxn, 1);

    txn->refcnt = 1;
    LIST_INIT(&txn->jobs);
    return txn;
}

void block_job_txn_unref(BlockJobTxn *txn)
{
    if (txn && --txn->refcnt == 0) {
        g_assert(LIST_EMPTY(&txn->jobs));
        g_free(txn);
    }
}

void block_job_txn_add_job(BlockJobTxn *txn, BlockJob *job)
{
    if (!txn) {
        return;
    }
    g_assert(!job->txn);
    job->txn = txn;
    txn->refcnt++;
    LIST_INSERT_HEAD(&txn->jobs, job, txn_list);
}

static void job_txn_del_job(BlockJob *job)
{
    if (job->txn) {
        BlockJobTxn *txn = job->txn;

        LIST_REMOVE(job, txn_list);
        job->txn = NULL;
        block_job_txn_unref(txn);
    }
}

/* The jobs of @txn, each referenced: what is done to one may remove another. */
static GPtrArray *job_txn_snapshot(BlockJobTxn *txn)
{
    GPtrArray *jobs = g_ptr_array_new_with_free_func((GDestroyNotify)block_job_unref);
    BlockJob *job;

    LIST_FOREACH(job, &txn->jobs, txn_list) {
        block_job_ref(job);
        g_ptr_array_add(jobs, job);
    }
    return jobs;
}

/* ---- concluding one job ---- */

void job_dismiss_now(BlockJob *job)
{
    job->busy = false;
    job->paused = false;
    job->deferred_to_main_loop = true;
    job_txn_del_job(job);
    job_set_status(job, JOB_STATUS_NULL);
    LIST_REMOVE(job, job_list);     /* its id is free, whoever may still hold a reference */
    block_job_unref(job);
}

/* Give a failed job its error text and state. */
static void job_update_rc(BlockJob *job)
{
    if (!job->ret && job_is_cancelled(job)) {
        job->ret = -ECANCELED;
    }
    if (job->ret) {
        if (!job->err) {
            error_setg(&job->err, "%s", strerror(-job->ret));
        }
        job_set_status(job, JOB_STATUS_ABORTING);
    }
}

static void coroutine_fn job_finalize_single(BlockJob *job)
{
    const BlockJobDriver *drv = job->driver;

    g_assert(job_is_completed(job));
    job->finalizing = true;
    if (job->ret == 0 && drv->commit) {
        drv->commit(job);
    } else if (job->ret && drv->abort) {
        drv->abort(job);
    }
    if (drv->clean) {
        drv->clean(job);
    }
    block_job_remove_all_bdrv(job);
    if (job->cb) {
        job->cb(job->opaque, job->ret);
    }
    if (job->has_started) {
        if (job_is_cancelled(job)) {
            blockjob_event_cancelled(job);
        } else {
            blockjob_event_completed(job);
        }
    }
    job_txn_del_job(job);
    job->finalizing = false;
    job_set_status(job, JOB_STATUS_CONCLUDED);
    aio_wait_kick();
    if (job->auto_dismiss || !job->has_started) {
        job_dismiss_now(job);
    }
}

/* ---- failure: all go down ---- */

static void job_cancel_async(BlockJob *job, bool force);

static bool job_runs(void *opaque)
{
    BlockJob *job = opaque;

    return job->co != NULL;
}

static void coroutine_fn job_completed_txn_abort(BlockJob *job)
{
    BlockJobTxn *txn = job->txn;
    guint i;

    if (txn->aborting) {
        return;                 /* somebody else is at it, and will come to this one */
    }
    txn->aborting = true;
    txn->refcnt++;

    g_autoptr(GPtrArray) jobs = job_txn_snapshot(txn);

    for (i = 0; i < jobs->len; i++) {
        BlockJob *other = g_ptr_array_index(jobs, i);

        if (other != job) {
            /* It did not fail by itself: a cancellation, even where it got ready. */
            job_cancel_async(other, true);
            job_enter(other);
        }
    }
    for (i = 0; i < jobs->len; i++) {
        BlockJob *other = g_ptr_array_index(jobs, i);

        if (other == job) {
            continue;
        }
        aio_wait_while(job_runs, other);
        if (other->status != JOB_STATUS_ABORTING) {
            job_update_rc(other);
            other->completed = true;
        }
    }
    for (i = 0; i < jobs->len; i++) {
        job_finalize_single(g_ptr_array_index(jobs, i));
    }
    block_job_txn_unref(txn);
}

/* ---- success: wait for the others, then for permission, then apply ---- */

static void coroutine_fn job_do_finalize(BlockJob *job)
{
    BlockJobTxn *txn = job->txn;
    guint i;

    txn->refcnt++;
    g_autoptr(GPtrArray) jobs = job_txn_snapshot(txn);

    for (i = 0; i < jobs->len; i++) {
        BlockJob *j = g_ptr_array_index(jobs, i);

        if (j->ret == 0 && j->driver->prepare) {
            j->finalizing = true;
            j->ret = j->driver->prepare(j, &j->err);
            j->finalizing = false;
        }
        job_update_rc(j);
        if (j->ret) {
            job_completed_txn_abort(j);
            block_job_txn_unref(txn);
            return;
        }
    }
    for (i = 0; i < jobs->len; i++) {
        job_finalize_single(g_ptr_array_index(jobs, i));
    }
    block_job_txn_unref(txn);
}

static void coroutine_fn job_completed_txn_success(BlockJob *job)
{
    BlockJobTxn *txn = job->txn;
    bool wait_for_user = false;
    BlockJob *j;

    job_set_status(job, JOB_STATUS_WAITING);
    LIST_FOREACH(j, &txn->jobs, txn_list) {
        if (!job_is_completed(j)) {
            return;
        }
    }
    LIST_FOREACH(j, &txn->jobs, txn_list) {
        job_set_status(j, JOB_STATUS_PENDING);
        if (!j->auto_finalize) {
            wait_for_user = true;
            blockjob_event_pending(j);
        }
    }
    if (!wait_for_user) {
        job_do_finalize(job);
    }
}

static void coroutine_fn job_completed(BlockJob *job)
{
    if (job->completed || !job->txn) {
        return;                 /* ended with its transaction meanwhile */
    }
    job->completed = true;
    job_update_rc(job);
    if (job->ret) {
        job_completed_txn_abort(job);
    } else {
        job_completed_txn_success(job);
    }
}

static void coroutine_fn job_end_co(void *opaque)
{
    BlockJob *job = opaque;

    control_co_lock();
    job_completed(job);
    control_co_unlock();
    aio_wait_kick();
    block_job_unref(job);
}

static void job_end_bh(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_create(job_end_co, opaque));
}

void job_schedule_end(BlockJob *job)
{
    block_job_ref(job);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), job_end_bh, job);
}

/* ---- cancel ---- */

static void job_cancel_async(BlockJob *job, bool force)
{
    if (job->driver->cancel) {
        force = job->driver->cancel(job, force) || force;
    } else {
        force = true;
    }
    if (job->user_paused) {
        /* Nobody will resume it: it must get to its end. */
        if (job->driver->user_resume) {
            job->driver->user_resume(job);
        }
        job->user_paused = false;
        job->pause_count--;
    }
    /* A job whose run() has returned can only be cancelled for real. */
    job->force |= force || job->deferred_to_main_loop;
    job->cancelled = true;
}

/* A job that waits or is pending ends now, with its transaction. */
static void coroutine_fn job_cancel_ended_co(void *opaque)
{
    BlockJob *job = opaque;

    control_co_lock();
    if (job->txn && !job->txn->aborting && job->status != JOB_STATUS_CONCLUDED) {
        job_update_rc(job);
        if (job->ret) {
            job_completed_txn_abort(job);
        }
    }
    control_co_unlock();
    aio_wait_kick();
    block_job_unref(job);
}

static void job_cancel_ended_bh(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_create(job_cancel_ended_co, opaque));
}

void block_job_cancel(BlockJob *job, bool force)
{
    g_assert(qemu_in_main_thread());
    if (job->status == JOB_STATUS_CONCLUDED) {
        job_dismiss_now(job);
        return;
    }
    if (job->status == JOB_STATUS_ABORTING || job->status == JOB_STATUS_NULL) {
        return;
    }
    job_cancel_async(job, force);
    if (!job->has_started) {
        job->deferred_to_main_loop = true;
        job_schedule_end(job);
    } else if (job->deferred_to_main_loop) {
        if (job->completed) {
            block_job_ref(job);
            aio_bh_schedule_oneshot(qemu_get_aio_context(), job_cancel_ended_bh, job);
        }
        /* else its end is on the way and will see the cancellation */
    } else {
        job_enter(job);
    }
}

void block_job_user_cancel(BlockJob *job, bool force, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_CANCEL, errp)) {
        return;
    }
    block_job_cancel(job, force);
}

/* ---- finalize, dismiss ---- */

typedef struct JobFinalizeCall {
    BlockJob *job;
    bool done;
} JobFinalizeCall;

static void coroutine_fn job_finalize_co(void *opaque)
{
    JobFinalizeCall *call = opaque;

    control_co_lock();
    if (call->job->status == JOB_STATUS_PENDING) {
        job_do_finalize(call->job);
    }
    control_co_unlock();
    call->done = true;
    aio_wait_kick();
}

static bool job_finalize_running(void *opaque)
{
    return !((JobFinalizeCall *)opaque)->done;
}

void block_job_finalize(BlockJob *job, Error **errp)
{
    JobFinalizeCall call = { .job = job };

    if (job_apply_verb(job, JOB_VERB_FINALIZE, errp)) {
        return;
    }
    block_job_ref(job);
    if (qemu_in_coroutine()) {
        job_finalize_co(&call);
    } else {
        qemu_coroutine_enter(qemu_coroutine_create(job_finalize_co, &call));
        aio_wait_while(job_finalize_running, &call);
    }
    block_job_unref(job);
}

void block_job_dismiss(BlockJob **jobptr, Error **errp)
{
    BlockJob *job = *jobptr;

    if (job_apply_verb(job, JOB_VERB_DISMISS, errp)) {
        return;
    }
    job_dismiss_now(job);
    *jobptr = NULL;
}

/* ---- waiting for the end ---- */

static bool job_not_ended(void *opaque)
{
    BlockJob *job = opaque;

    return job->status != JOB_STATUS_CONCLUDED && job->status != JOB_STATUS_NULL;
}

int job_finish_sync(BlockJob *job, void (*verb)(BlockJob *, Error **), Error **errp)
{
    Error *local_err = NULL;
    int ret;

    block_job_ref(job);
    if (verb) {
        verb(job, &local_err);
    }
    if (local_err) {
        error_propagate(errp, local_err);
        block_job_unref(job);
        return -EBUSY;
    }
    aio_wait_while(job_not_ended, job);
    ret = job->ret;
    if (!ret && job_is_cancelled(job)) {
        ret = -ECANCELED;
    }
    block_job_unref(job);
    return ret;
}

static void job_cancel_force(BlockJob *job, Error **errp)
{
    block_job_cancel(job, true);
}

int block_job_cancel_sync(BlockJob *job)
{
    return job_finish_sync(job, job_cancel_force, NULL);
}

void block_job_cancel_sync_all(void)
{
    BlockJob *job;

    while ((job = block_job_next(NULL))) {
        block_job_ref(job);
        block_job_cancel_sync(job);
        if (job->status == JOB_STATUS_CONCLUDED) {
            job_dismiss_now(job);
        }
        block_job_unref(job);
    }
}

int block_job_complete_sync(BlockJob *job, Error **errp)
{
    return job_finish_sync(job, block_job_complete, errp);
}

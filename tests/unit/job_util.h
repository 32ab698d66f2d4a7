/* SPDX-License-Identifier: MIT */
/* job_util.h: for the tests of jobs: a job that does what the test says, the events as text, and
 * waiting with an end. Main thread.
 *
 * The test job works in rounds: each is a pause point and a wait. It returns when told to finish,
 * or cancelled. What its callbacks saw is counted.
 */
#ifndef TESTS_JOB_UTIL_H
#define TESTS_JOB_UTIL_H

#include "base/osdep.h"
#include "job/job_private.h"
#include "memdrv.h"

typedef struct TestJob {
    BlockJob common;
    struct TestJob **self;      /* of its own cb; see test_job_new() */
    /* told by the test */
    bool finish, ready_first, clean_cancel, sleeps_long, ignores_cancel;
    int result, prepare_result;
    /* seen */
    unsigned rounds, prepared, committed, aborted, cleaned, freed_before, changed, speeds, resumed, completed;
    int cb_result;
    bool cb_called;
    bool *freed;
} TestJob;

static int coroutine_fn test_job_run(BlockJob *job, Error **errp)
{
    TestJob *t = container_of(job, TestJob, common);

    if (t->ready_first) {
        job_transition_to_ready(job);
    }
    while (!t->finish) {
        t->rounds++;
        if (t->sleeps_long) {
            job_sleep_ns(job, 3600 * 1000000000LL);
        } else {
            job_yield(job);
        }
        if (job_is_cancelled(job) && !t->ignores_cancel) {
            return 0;
        }
        if (job_is_ready(job) && (t->completed || job_cancel_requested(job))) {
            return t->result;
        }
    }
    if (t->result < 0 && t->result != -EIO) {
        error_setg(errp, "It failed");
    }
    return t->result;
}

static int coroutine_fn test_job_prepare(BlockJob *job, Error **errp)
{
    container_of(job, TestJob, common)->prepared++;
    return container_of(job, TestJob, common)->prepare_result;
}

static void coroutine_fn test_job_commit(BlockJob *job)
{
    container_of(job, TestJob, common)->committed++;
}

static void coroutine_fn test_job_abort(BlockJob *job)
{
    container_of(job, TestJob, common)->aborted++;
}

static void coroutine_fn test_job_clean(BlockJob *job)
{
    container_of(job, TestJob, common)->cleaned++;
}

static bool test_job_cancel(BlockJob *job, bool force)
{
    return force || !container_of(job, TestJob, common)->clean_cancel || !job_is_ready(job);
}

static void test_job_complete(BlockJob *job, Error **errp)
{
    container_of(job, TestJob, common)->completed++;
    job_enter(job);
}

static void test_job_change(BlockJob *job, BlockJobChangeOptions *opts, Error **errp)
{
    container_of(job, TestJob, common)->changed++;
}

static void test_job_set_speed(BlockJob *job, int64_t speed)
{
    container_of(job, TestJob, common)->speeds++;
}

static void test_job_user_resume(BlockJob *job)
{
    container_of(job, TestJob, common)->resumed++;
}

static void test_job_free(BlockJob *job)
{
    TestJob *t = container_of(job, TestJob, common);

    if (t->freed) {
        *t->freed = true;
    }
    g_free(t->self);
}

static G_GNUC_UNUSED const BlockJobDriver test_job_driver = {
    .instance_size = sizeof(TestJob),
    .job_type = JOB_TYPE_BACKUP,
    .run = test_job_run,
    .prepare = test_job_prepare,
    .commit = test_job_commit,
    .abort = test_job_abort,
    .clean = test_job_clean,
    .cancel = test_job_cancel,
    .complete = test_job_complete,
    .change = test_job_change,
    .set_speed = test_job_set_speed,
    .user_resume = test_job_user_resume,
    .free = test_job_free,
};

static void test_job_cb(void *opaque, int ret)
{
    TestJob **t = opaque;

    (*t)->cb_called = true;
    (*t)->cb_result = ret;
}

/* Created, not started; ends are kept until dismissed unless @flags say otherwise. */
static G_GNUC_UNUSED TestJob *test_job_new(const char *id, JobTxn *txn, BlockDriverState *bs, int flags)
{
    TestJob **self = g_new0(TestJob *, 1);      /* what cb gets; freed with the job */

    *self = block_job_create(id, &test_job_driver, txn, bs, 0, BLK_PERM_ALL, 0, flags, test_job_cb, self,
                             &error_abort);
    (*self)->self = self;
    return *self;
}

/* ---- waiting ---- */

static void test_timeout_cb(void *opaque)
{
    *(bool *)opaque = true;
}

/* Run the loop while @cond; false after @ms. */
static G_GNUC_UNUSED bool test_wait(bool (*cond)(void *), void *opaque, int64_t ms)
{
    bool late = false;
    QEMUTimer t;

    timer_init_ns(&t, qemu_get_aio_context(), test_timeout_cb, &late);
    timer_mod_ns(&t, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + ms * 1000000);
    while (cond(opaque) && !late) {
        aio_poll(qemu_get_aio_context(), true);
    }
    timer_del(&t);
    return !late;
}

static bool test_always(void *opaque)
{
    return true;
}

/* Let everything that can happen happen. */
static G_GNUC_UNUSED void test_settle(int64_t ms)
{
    test_wait(test_always, NULL, ms);
}

typedef struct TestStatus {
    BlockJob *job;
    JobStatus status;
} TestStatus;

static bool test_status_differs(void *opaque)
{
    TestStatus *w = opaque;

    return w->job->status != w->status;
}

static G_GNUC_UNUSED void test_wait_status(BlockJob *job, JobStatus status)
{
    TestStatus w = { job, status };

    if (!test_wait(test_status_differs, &w, 20000)) {
        g_error("job '%s' is %s, not %s", job->id ? job->id : "", JobStatus_str(job->status), JobStatus_str(status));
    }
}

/* ---- events ---- */

static GString *test_events;

static void test_event_sink(const char *name, QDict *data)
{
    if (!strcmp(name, "JOB_STATUS_CHANGE")) {
        g_string_append_printf(test_events, "%s:%s ", qdict_get_try_str(data, "id"),
                               qdict_get_try_str(data, "status"));
    } else {
        const char *id = qdict_get_try_str(data, "device"), *action = qdict_get_try_str(data, "action");

        g_string_append_printf(test_events, "%s:%s", id ? id : qdict_get_try_str(data, "id"), name);
        if (action) {
            g_string_append_printf(test_events, "(%s,%s)", qdict_get_try_str(data, "operation"), action);
        }
        if (qdict_get_try_str(data, "error")) {
            g_string_append_printf(test_events, "(%s)", qdict_get_try_str(data, "error"));
        }
        g_string_append_c(test_events, ' ');
    }
}

static G_GNUC_UNUSED void test_events_begin(void)
{
    if (!test_events) {
        test_events = g_string_new("");
        qapi_event_set_sink(test_event_sink);
    }
    g_string_truncate(test_events, 0);
}

/* All events since the beginning or the last call, in order. */
static G_GNUC_UNUSED void test_expect_events(const char *expected)
{
    g_strchomp(test_events->str);
    g_assert_cmpstr(test_events->str, ==, expected);
    g_string_truncate(test_events, 0);
}

static G_GNUC_UNUSED void test_expect_error(Error *err, const char *text)
{
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static G_GNUC_UNUSED void test_no_jobs(void)
{
    test_settle(1);
    g_assert_null(block_job_next(NULL));
}

#endif

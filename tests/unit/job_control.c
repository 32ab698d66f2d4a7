/* SPDX-License-Identifier: MIT */
/* job_control.c: what can be done to one job: find it, pause it, hurry it, end it.
 *
 * Goal: every call of blockjob.h on a single job, with its events. Method: a job that only waits.
 */
#include "job_util.h"

static void finish(TestJob *t)
{
    t->finish = true;
    job_enter(&t->common);
}

static void test_find(void)
{
    TestJob *a = test_job_new("a", NULL, NULL, BLOCK_JOB_DEFAULT);
    TestJob *internal = block_job_create(NULL, &test_job_driver, NULL, NULL, 0, BLK_PERM_ALL, 0,
                                         BLOCK_JOB_INTERNAL, NULL, NULL, &error_abort);
    TestJob *b = test_job_new("b", NULL, NULL, BLOCK_JOB_DEFAULT);

    g_assert_true(block_job_next(NULL) == &b->common);
    g_assert_true(block_job_next(&b->common) == &internal->common);
    g_assert_true(block_job_next(&internal->common) == &a->common);
    g_assert_null(block_job_next(&a->common));
    g_assert_true(block_job_get("a") == &a->common);
    g_assert_true(block_job_get("b") == &b->common);
    g_assert_null(block_job_get("c"));
    g_assert_true(block_job_is_internal(&internal->common));
    g_assert_false(block_job_is_internal(&a->common));
    block_job_early_fail(&a->common);
    block_job_early_fail(&b->common);
    g_assert_null(block_job_get("a"));
    block_job_early_fail(&internal->common);
    test_no_jobs();
}

static void test_ids(void)
{
    static const struct { const char *id; int flags; const char *text; } bad[] = {
        { "a", 0, "Job ID 'a' already in use" },
        { "1a", 0, "Invalid job ID '1a'" },
        { "a b", 0, "Invalid job ID 'a b'" },
        { NULL, 0, "Invalid job ID ''" },
        { "c", BLOCK_JOB_INTERNAL, "Cannot specify job ID for internal job" },
    };
    TestJob *a = test_job_new("a", NULL, NULL, BLOCK_JOB_DEFAULT);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        Error *err = NULL;

        g_assert_null(block_job_create(bad[i].id, &test_job_driver, NULL, NULL, 0, BLK_PERM_ALL, 0, bad[i].flags,
                                       NULL, NULL, &err));
        test_expect_error(err, bad[i].text);
    }
    block_job_early_fail(&a->common);
    test_no_jobs();
}

static void test_life(void)
{
    bool freed = false;

    test_events_begin();
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);

    t->freed = &freed;
    test_expect_events("j:created");
    block_job_start(&t->common);
    test_expect_events("j:running");
    block_job_ref(&t->common);
    finish(t);
    test_wait_status(&t->common, JOB_STATUS_NULL);
    test_expect_events("j:waiting j:pending j:BLOCK_JOB_COMPLETED j:concluded j:null");
    g_assert_null(block_job_get("j"));
    g_assert_true(t->cb_called && t->cb_result == 0);
    g_assert_cmpuint(t->prepared, ==, 1);
    g_assert_cmpuint(t->committed, ==, 1);
    g_assert_cmpuint(t->aborted, ==, 0);
    g_assert_cmpuint(t->cleaned, ==, 1);
    /* The name is free although we hold the job. */
    block_job_early_fail(&test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT)->common);
    g_assert_false(freed);
    block_job_unref(&t->common);
    g_assert_true(freed);
    test_no_jobs();
}

static void test_internal_is_silent(void)
{
    test_events_begin();
    TestJob *t = block_job_create(NULL, &test_job_driver, NULL, NULL, 0, BLK_PERM_ALL, 0, BLOCK_JOB_INTERNAL, NULL,
                                  NULL, &error_abort);
    Error *err = NULL;

    t->ready_first = true;
    block_job_start(&t->common);
    g_assert_null(block_job_query(&t->common, &err));
    test_expect_error(err, "Cannot query QEMU internal jobs");
    g_assert_cmpint(block_job_error_action(&t->common, BLOCKDEV_ON_ERROR_IGNORE, true, EIO), ==,
                    BLOCK_ERROR_ACTION_IGNORE);
    block_job_cancel_sync(&t->common);
    test_no_jobs();
    test_expect_events("");
}

static void test_failure(void)
{
    test_events_begin();
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_MANUAL_DISMISS);
    BlockJob *job = &t->common;

    t->result = -EIO;
    block_job_start(job);
    finish(t);
    test_wait_status(job, JOB_STATUS_CONCLUDED);
    test_expect_events("j:created j:running j:aborting j:BLOCK_JOB_COMPLETED(Input/output error) j:concluded");
    g_assert_cmpint(t->cb_result, ==, -EIO);
    g_assert_cmpuint(t->aborted, ==, 1);
    g_assert_cmpuint(t->cleaned, ==, 1);
    g_assert_cmpuint(t->prepared + t->committed, ==, 0);

    BlockJobInfo *info = block_job_query(job, &error_abort);

    g_assert_cmpstr(info->error, ==, "Input/output error");
    g_assert_cmpint(info->status, ==, JOB_STATUS_CONCLUDED);
    qapi_free_BlockJobInfo(info);
    block_job_dismiss(&job, &error_abort);
    test_expect_events("j:null");

    t = test_job_new("j", NULL, NULL, BLOCK_JOB_MANUAL_DISMISS);
    job = &t->common;
    t->result = -EINVAL;
    block_job_start(job);
    finish(t);
    test_wait_status(job, JOB_STATUS_CONCLUDED);
    g_assert_cmpstr(error_get_pretty(job->err), ==, "It failed");
    block_job_dismiss(&job, &error_abort);
    test_no_jobs();
}

/* ---- pause ---- */

static void test_user_pause(void)
{
    test_events_begin();
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;
    Error *err = NULL;

    block_job_start(job);
    test_events_begin();
    block_job_user_resume(job, &err);
    test_expect_error(err, "Can't resume a job that was not paused");
    err = NULL;
    block_job_user_pause(job, &error_abort);
    g_assert_true(block_job_user_paused(job));
    g_assert_true(job->paused);
    block_job_user_pause(job, &err);
    test_expect_error(err, "Job is already paused");
    err = NULL;

    /* The engine's own pauses are counted beside the user's, and end without it. */
    unsigned rounds = t->rounds;

    job_pause(job);
    job_pause(job);
    job_resume(job);
    job_resume(job);
    test_settle(5);
    g_assert_true(job->paused && t->rounds == rounds);
    block_job_user_resume(job, &error_abort);
    g_assert_cmpuint(t->resumed, ==, 1);
    g_assert_false(block_job_user_paused(job));
    test_settle(1);
    g_assert_false(job->paused);
    test_expect_events("j:paused j:running");

    job_pause(job);
    g_assert_true(job->paused);
    g_assert_false(block_job_user_paused(job));
    block_job_user_resume(job, &err);
    test_expect_error(err, "Can't resume a job that was not paused");
    job_resume(job);
    test_settle(1);
    test_expect_events("j:paused j:running");
    finish(t);
    test_no_jobs();
}

static void test_pause_before_start(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);

    block_job_user_pause(&t->common, &error_abort);
    block_job_start(&t->common);
    g_assert_cmpint(t->common.status, ==, JOB_STATUS_PAUSED);
    g_assert_cmpuint(t->rounds, ==, 0);
    block_job_user_resume(&t->common, &error_abort);
    test_settle(1);
    g_assert_cmpuint(t->rounds, >, 0);
    finish(t);
    test_no_jobs();
}

static void test_pause_ready(void)
{
    test_events_begin();
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);

    t->ready_first = true;
    block_job_start(&t->common);
    block_job_user_pause(&t->common, &error_abort);
    g_assert_true(t->common.ready);
    block_job_complete(&t->common, &error_abort);      /* in standby: taken, done after the resume */
    test_settle(5);
    g_assert_cmpint(t->common.status, ==, JOB_STATUS_STANDBY);
    block_job_user_resume(&t->common, &error_abort);
    test_no_jobs();
    test_expect_events("j:created j:running j:ready j:BLOCK_JOB_READY j:standby j:ready j:waiting j:pending "
                       "j:BLOCK_JOB_COMPLETED j:concluded j:null");
}

/* ---- drain ---- */

static void test_drain(void)
{
    BlockDriverState *bs = mem_node_new("n", &(MemConfig) { .size = 4096 });
    BlockDriverState *second = mem_node_new("n2", &(MemConfig) { .size = 4096 });
    TestJob *t = test_job_new("j", NULL, bs, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;

    g_assert_cmpint(block_job_add_bdrv(job, "other", second, 0, BLK_PERM_ALL, &error_abort), ==, 0);
    t->sleeps_long = true;
    block_job_start(job);
    bdrv_drained_begin(bs);             /* a sleeping job is quiet already */
    bdrv_drained_begin(second);
    unsigned rounds = t->rounds;

    job_enter(job);                     /* whatever wakes it, it parks */
    g_assert_true(job->paused);
    bdrv_drained_end(bs);
    test_settle(5);
    g_assert_true(job->paused);         /* the other node still is drained */
    bdrv_drained_end(second);
    test_settle(5);
    g_assert_false(job->paused);
    g_assert_cmpuint(t->rounds, >, rounds);

    /* Paused by the user and drained: stays paused after the drain. Cancelled under a drain: ends
     * after it. */
    block_job_user_pause(job, &error_abort);
    bdrv_drained_begin(bs);
    bdrv_drained_end(bs);
    test_settle(5);
    g_assert_true(job->paused);
    bdrv_drained_begin(bs);
    block_job_ref(job);
    block_job_cancel(job, true);
    test_settle(5);
    g_assert_true(job->paused && job->co);
    bdrv_drained_end(bs);
    test_wait_status(job, JOB_STATUS_NULL);
    block_job_unref(job);
    bdrv_unref(bs);
    bdrv_unref(second);
    test_no_jobs();
}

/* ---- nodes ---- */

static void test_nodes(void)
{
    BlockDriverState *bs = mem_node_new("n", &(MemConfig) { .size = 4096 });
    BlockBackend *blk = mem_backend_new(bs);
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;
    uint64_t perm, shared;
    Error *err = NULL;

    /* The backend writes: who does not share that is refused, and named. */
    g_assert_cmpint(block_job_add_bdrv(job, "x", bs, 0, BLK_PERM_CONSISTENT_READ, &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "backup job 'j'"));
    error_free(err);
    err = NULL;
    g_assert_null(job->nodes);

    g_assert_cmpint(block_job_add_bdrv(job, "x", bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~BLK_PERM_RESIZE,
                                       &err), <, 0);
    error_free(err);
    err = NULL;
    blk_set_perm(blk, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(block_job_add_bdrv(job, "x", bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~BLK_PERM_RESIZE,
                                       &error_abort), ==, 0);
    bdrv_get_cumulative_perm(bs, &perm, &shared);
    g_assert_false(shared & BLK_PERM_RESIZE);
    g_assert_cmpint(blk_set_perm(blk, BLK_PERM_RESIZE, BLK_PERM_ALL, &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "job 'j'"));
    error_free(err);
    block_job_remove_all_bdrv(job);
    g_assert_null(job->nodes);
    g_assert_cmpint(blk_set_perm(blk, BLK_PERM_RESIZE, BLK_PERM_ALL, &error_abort), ==, 0);
    block_job_early_fail(job);
    blk_unref(blk);
    bdrv_unref(bs);
    test_no_jobs();
}

/* ---- speed, change, progress, query ---- */

static void test_speed(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;
    Error *err = NULL;

    t->sleeps_long = true;
    block_job_start(job);
    test_settle(5);
    g_assert_cmpuint(t->rounds, ==, 1);
    block_job_set_speed(job, -1, &err);
    test_expect_error(err, "Parameter 'speed' expects a non-negative value");
    g_assert_cmpuint(t->speeds, ==, 0);
    g_assert_cmpint(job->speed, ==, 0);
    block_job_set_speed(job, 12345, &error_abort);
    g_assert_cmpuint(t->speeds, ==, 1);
    g_assert_cmpuint(t->rounds, ==, 2);         /* its sleep of an hour is over */
    g_assert_cmpint(job->speed, ==, 12345);
    block_job_user_pause(job, &error_abort);
    block_job_set_speed(job, INT64_MAX, &error_abort);
    g_assert_true(job->paused);
    block_job_user_resume(job, &error_abort);

    BlockJobInfo *info = block_job_query(job, &error_abort);

    g_assert_cmpint(info->speed, ==, INT64_MAX);
    g_assert_cmpstr(info->device, ==, "j");
    g_assert_cmpint(info->type, ==, JOB_TYPE_BACKUP);
    g_assert_true(info->auto_finalize && info->auto_dismiss && !info->ready && !info->paused);
    qapi_free_BlockJobInfo(info);
    finish(t);
    test_no_jobs();

    err = NULL;
    g_assert_null(block_job_create("j", &test_job_driver, NULL, NULL, 0, BLK_PERM_ALL, -5, 0, NULL, NULL, &err));
    test_expect_error(err, "Parameter 'speed' expects a non-negative value");
    test_no_jobs();
}

static void test_progress(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;

    job_progress_set_remaining(job, 100);
    job_progress_update(job, 30);
    g_assert_cmpint(job->offset, ==, 30);
    g_assert_cmpint(job->len, ==, 100);
    job_progress_increase_remaining(job, 50);
    g_assert_cmpint(job->len, ==, 150);
    job_progress_set_remaining(job, 10);
    g_assert_cmpint(job->len, ==, 40);

    JobInfo *info = job_query(job);

    g_assert_cmpint(info->current_progress, ==, 30);
    g_assert_cmpint(info->total_progress, ==, 40);
    g_assert_cmpstr(info->id, ==, "j");
    g_assert_null(info->error);
    qapi_free_JobInfo(info);
    block_job_early_fail(job);
    test_no_jobs();
}

static void test_change(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJobDriver fixed = test_job_driver;
    Error *err = NULL;

    job_change(&t->common, NULL, &error_abort);
    g_assert_cmpuint(t->changed, ==, 1);
    fixed.change = NULL;
    t->common.driver = &fixed;
    job_change(&t->common, NULL, &err);
    test_expect_error(err, "Job type does not support change");
    t->common.driver = &test_job_driver;
    block_job_early_fail(&t->common);
    test_no_jobs();
}

/* ---- cancel ---- */

/* In each state where that is possible: the end is -ECANCELED and nothing was applied. */
static void test_cancel_everywhere(void)
{
    static const JobStatus states[] = {
        JOB_STATUS_CREATED, JOB_STATUS_RUNNING, JOB_STATUS_PAUSED, JOB_STATUS_READY, JOB_STATUS_STANDBY,
        JOB_STATUS_PENDING,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(states); i++) {
        TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_MANUAL_FINALIZE);
        BlockJob *job = &t->common;
        JobStatus want = states[i];

        test_events_begin();
        t->ready_first = want == JOB_STATUS_READY || want == JOB_STATUS_STANDBY;
        if (want != JOB_STATUS_CREATED) {
            block_job_start(job);
        }
        if (want == JOB_STATUS_PAUSED || want == JOB_STATUS_STANDBY) {
            block_job_user_pause(job, &error_abort);
        }
        if (want == JOB_STATUS_PENDING) {
            finish(t);
        }
        test_wait_status(job, want);
        block_job_ref(job);
        block_job_user_cancel(job, true, &error_abort);
        test_wait_status(job, JOB_STATUS_NULL);
        g_assert_cmpint(t->cb_result, ==, -ECANCELED);
        g_assert_cmpuint(t->aborted, ==, 1);
        g_assert_cmpuint(t->cleaned, ==, 1);
        g_assert_cmpuint(t->prepared + t->committed, ==, 0);
        g_assert_false(block_job_user_paused(job));
        if (want != JOB_STATUS_CREATED) {
            g_assert_nonnull(strstr(test_events->str, "j:aborting j:BLOCK_JOB_CANCELLED j:concluded j:null"));
        }
        block_job_unref(job);
        test_no_jobs();
    }
}

static void test_cancel_soft(void)
{
    for (int force = 0; force < 2; force++) {
        TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);

        test_events_begin();
        t->ready_first = t->clean_cancel = true;
        block_job_start(&t->common);
        test_events_begin();
        block_job_ref(&t->common);
        block_job_user_cancel(&t->common, force, &error_abort);
        test_wait_status(&t->common, JOB_STATUS_NULL);
        g_assert_cmpint(t->cb_result, ==, force ? -ECANCELED : 0);
        g_assert_cmpuint(t->committed, ==, !force);
        test_expect_events(force ? "j:aborting j:BLOCK_JOB_CANCELLED j:concluded j:null"
                                 : "j:waiting j:pending j:BLOCK_JOB_COMPLETED j:concluded j:null");
        block_job_unref(&t->common);
        test_no_jobs();
    }
}

/* Neither a second cancel nor completing goes through to a job that is on its way out. */
static void test_cancel_twice(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    Error *err = NULL;

    t->ready_first = true;
    block_job_start(&t->common);
    job_pause(&t->common);
    t->clean_cancel = true;
    block_job_cancel(&t->common, false);
    block_job_complete(&t->common, &err);
    test_expect_error(err, "The active block job 'j' cannot be completed");
    block_job_cancel(&t->common, true);
    job_resume(&t->common);
    test_no_jobs();
}

/* ---- finalize, dismiss, sync ---- */

static void test_finalize_dismiss(void)
{
    test_events_begin();
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_MANUAL_FINALIZE | BLOCK_JOB_MANUAL_DISMISS);
    BlockJob *job = &t->common;

    block_job_start(job);
    finish(t);
    test_wait_status(job, JOB_STATUS_PENDING);
    test_settle(5);
    test_expect_events("j:created j:running j:waiting j:pending j:BLOCK_JOB_PENDING");
    g_assert_cmpuint(t->prepared, ==, 0);
    block_job_finalize(job, &error_abort);
    g_assert_cmpuint(t->prepared, ==, 1);
    g_assert_cmpuint(t->committed, ==, 1);
    g_assert_cmpint(job->status, ==, JOB_STATUS_CONCLUDED);
    test_expect_events("j:BLOCK_JOB_COMPLETED j:concluded");
    test_settle(5);
    g_assert_true(block_job_get("j") == job);
    block_job_dismiss(&job, &error_abort);
    test_expect_events("j:null");
    test_no_jobs();
}

static void test_prepare_fails(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_MANUAL_DISMISS);
    BlockJob *job = &t->common;

    t->prepare_result = -ENOSPC;
    block_job_start(job);
    finish(t);
    test_wait_status(job, JOB_STATUS_CONCLUDED);
    g_assert_cmpint(job->ret, ==, -ENOSPC);
    g_assert_cmpuint(t->aborted, ==, 1);
    g_assert_cmpuint(t->committed, ==, 0);
    block_job_dismiss(&job, &error_abort);
    test_no_jobs();
}

static void test_sync(void)
{
    Error *err = NULL;
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);

    block_job_start(&t->common);
    g_assert_cmpint(block_job_complete_sync(&t->common, &err), ==, -EBUSY);
    test_expect_error(err, "Job 'j' in state 'running' cannot accept command verb 'complete'");
    g_assert_cmpint(block_job_cancel_sync(&t->common), ==, -ECANCELED);

    t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    t->ready_first = true;
    block_job_start(&t->common);
    g_assert_cmpint(block_job_complete_sync(&t->common, &error_abort), ==, 0);

    t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    t->ready_first = true;
    t->result = -EIO;
    block_job_start(&t->common);
    g_assert_cmpint(block_job_complete_sync(&t->common, &error_abort), ==, -EIO);

    /* One that fails by itself keeps its own result. */
    t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    t->result = -EIO;
    t->ignores_cancel = true;
    block_job_start(&t->common);
    t->finish = true;
    g_assert_cmpint(block_job_cancel_sync(&t->common), ==, -EIO);
    test_no_jobs();
}

static void test_cancel_all(void)
{
    TestJob *t[4];

    for (int i = 0; i < 4; i++) {
        char id[] = { 'a' + i, 0 };

        t[i] = test_job_new(id, NULL, NULL, i & 1 ? BLOCK_JOB_MANUAL_DISMISS | BLOCK_JOB_MANUAL_FINALIZE : 0);
        t[i]->ready_first = i == 2;
        block_job_ref(&t[i]->common);
        if (i) {
            block_job_start(&t[i]->common);
        }
    }
    finish(t[3]);
    test_wait_status(&t[3]->common, JOB_STATUS_PENDING);
    block_job_user_pause(&t[1]->common, &error_abort);
    block_job_cancel_sync_all();
    g_assert_null(block_job_next(NULL));
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(t[i]->cb_result, ==, -ECANCELED);
        block_job_unref(&t[i]->common);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/job/control/find", test_find);
    g_test_add_func("/job/control/ids", test_ids);
    g_test_add_func("/job/control/life", test_life);
    g_test_add_func("/job/control/internal", test_internal_is_silent);
    g_test_add_func("/job/control/failure", test_failure);
    g_test_add_func("/job/control/user-pause", test_user_pause);
    g_test_add_func("/job/control/pause-before-start", test_pause_before_start);
    g_test_add_func("/job/control/pause-ready", test_pause_ready);
    g_test_add_func("/job/control/drain", test_drain);
    g_test_add_func("/job/control/nodes", test_nodes);
    g_test_add_func("/job/control/speed", test_speed);
    g_test_add_func("/job/control/progress", test_progress);
    g_test_add_func("/job/control/change", test_change);
    g_test_add_func("/job/control/cancel-everywhere", test_cancel_everywhere);
    g_test_add_func("/job/control/cancel-soft", test_cancel_soft);
    g_test_add_func("/job/control/cancel-twice", test_cancel_twice);
    g_test_add_func("/job/control/finalize-dismiss", test_finalize_dismiss);
    g_test_add_func("/job/control/prepare-fails", test_prepare_fails);
    g_test_add_func("/job/control/sync", test_sync);
    g_test_add_func("/job/control/cancel-all", test_cancel_all);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

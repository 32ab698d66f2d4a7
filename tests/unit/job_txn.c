/* SPDX-License-Identifier: MIT */
/* job_txn.c: jobs in one transaction all succeed or all fail.
 *
 * Goal: whatever job ends first and however, the others see it. Method: three jobs that wait, ended
 * in every order.
 */
#include "job_util.h"

enum { JOBS = 3 };

typedef struct Txn {
    TestJob *job[JOBS];
} Txn;

static Txn txn_new(int flags)
{
    BlockJobTxn *txn = block_job_txn_new();
    Txn t;

    for (int i = 0; i < JOBS; i++) {
        char id[] = { 'a' + i, 0 };

        t.job[i] = test_job_new(id, txn, NULL, flags | BLOCK_JOB_MANUAL_DISMISS);
        g_assert_true(t.job[i]->common.txn == txn);
    }
    block_job_txn_unref(txn);           /* the jobs keep it */
    for (int i = 0; i < JOBS; i++) {
        block_job_start(&t.job[i]->common);
    }
    return t;
}

static void finish(TestJob *t, int result)
{
    t->result = result;
    t->finish = true;
    job_enter(&t->common);
}

static void expect_all(Txn *t, int committed, const int results[JOBS])
{
    for (int i = 0; i < JOBS; i++) {
        BlockJob *job = &t->job[i]->common;

        test_wait_status(job, JOB_STATUS_CONCLUDED);
        g_assert_cmpint(t->job[i]->cb_result, ==, results[i]);
        g_assert_cmpuint(t->job[i]->committed, ==, committed);
        g_assert_cmpuint(t->job[i]->aborted, ==, !committed);
        g_assert_cmpuint(t->job[i]->cleaned, ==, 1);
        g_assert_null(job->txn);
        block_job_dismiss(&job, &error_abort);
    }
    test_no_jobs();
}

static void test_success(void)
{
    for (int first = 0; first < JOBS; first++) {
        Txn t = txn_new(0);

        finish(t.job[first], 0);
        test_wait_status(&t.job[first]->common, JOB_STATUS_WAITING);
        finish(t.job[(first + 1) % JOBS], 0);
        test_settle(5);
        for (int i = 0; i < JOBS; i++) {
            g_assert_cmpuint(t.job[i]->prepared, ==, 0);
        }
        finish(t.job[(first + 2) % JOBS], 0);
        expect_all(&t, 1, (int[JOBS]) { 0, 0, 0 });
    }
}

static void test_failure(void)
{
    for (int bad = 0; bad < JOBS; bad++) {
        Txn t = txn_new(0);
        int results[JOBS] = { -ECANCELED, -ECANCELED, -ECANCELED };

        /* One waits already, one runs. */
        finish(t.job[(bad + 1) % JOBS], 0);
        test_wait_status(&t.job[(bad + 1) % JOBS]->common, JOB_STATUS_WAITING);
        results[bad] = -EIO;
        finish(t.job[bad], -EIO);
        expect_all(&t, 0, results);
    }
}

/* One that gets ready, or was ready, is cancelled all the same. */
static void test_failure_of_ready(void)
{
    BlockJobTxn *txn = block_job_txn_new();
    TestJob *a = test_job_new("a", txn, NULL, 0), *b = test_job_new("b", txn, NULL, 0);

    block_job_txn_unref(txn);
    a->ready_first = a->clean_cancel = true;
    block_job_ref(&a->common);
    block_job_start(&a->common);
    block_job_start(&b->common);
    finish(b, -EIO);
    test_wait_status(&a->common, JOB_STATUS_NULL);
    g_assert_cmpint(a->cb_result, ==, -ECANCELED);
    block_job_unref(&a->common);
    test_no_jobs();
}

static void test_cancel(void)
{
    for (int n = 0; n < JOBS; n++) {
        Txn t = txn_new(0);

        finish(t.job[(n + 1) % JOBS], 0);
        test_wait_status(&t.job[(n + 1) % JOBS]->common, JOB_STATUS_WAITING);
        /* The one that runs in the first round, the one that waits in the second. */
        block_job_user_cancel(&t.job[n & 1 ? (n + 1) % JOBS : n]->common, true, &error_abort);
        expect_all(&t, 0, (int[JOBS]) { -ECANCELED, -ECANCELED, -ECANCELED });
    }
}

static void test_cancel_paused_others(void)
{
    Txn t = txn_new(0);

    block_job_user_pause(&t.job[0]->common, &error_abort);
    block_job_user_cancel(&t.job[1]->common, true, &error_abort);
    expect_all(&t, 0, (int[JOBS]) { -ECANCELED, -ECANCELED, -ECANCELED });
}

static void test_prepare_fails(void)
{
    for (int bad = 0; bad < JOBS; bad++) {
        Txn t = txn_new(0);
        int results[JOBS] = { -ECANCELED, -ECANCELED, -ECANCELED };

        results[bad] = -ENOSPC;
        t.job[bad]->prepare_result = -ENOSPC;
        for (int i = 0; i < JOBS; i++) {
            finish(t.job[i], 0);
        }
        expect_all(&t, 0, results);
    }
}

/* With one job to be finalized by hand all wait; any of them may be named. */
static void test_finalize(void)
{
    test_events_begin();
    BlockJobTxn *txn = block_job_txn_new();
    TestJob *a = test_job_new("a", txn, NULL, BLOCK_JOB_MANUAL_FINALIZE), *b = test_job_new("b", txn, NULL, 0);

    block_job_txn_unref(txn);
    block_job_start(&a->common);
    block_job_start(&b->common);
    test_events_begin();
    finish(b, 0);
    test_wait_status(&b->common, JOB_STATUS_WAITING);
    finish(a, 0);
    test_wait_status(&b->common, JOB_STATUS_PENDING);
    test_settle(5);
    test_expect_events("b:waiting a:waiting b:pending a:pending a:BLOCK_JOB_PENDING");
    g_assert_cmpuint(a->prepared + b->prepared, ==, 0);
    block_job_ref(&a->common);
    block_job_finalize(&b->common, &error_abort);
    g_assert_cmpuint(a->committed, ==, 1);
    test_expect_events("b:BLOCK_JOB_COMPLETED b:concluded b:null a:BLOCK_JOB_COMPLETED a:concluded a:null");
    block_job_unref(&a->common);
    test_no_jobs();
}

static void test_cancel_pending(void)
{
    Txn t = txn_new(BLOCK_JOB_MANUAL_FINALIZE);

    for (int i = 0; i < JOBS; i++) {
        finish(t.job[i], 0);
    }
    for (int i = 0; i < JOBS; i++) {
        test_wait_status(&t.job[i]->common, JOB_STATUS_PENDING);
    }
    block_job_user_cancel(&t.job[1]->common, false, &error_abort);
    expect_all(&t, 0, (int[JOBS]) { -ECANCELED, -ECANCELED, -ECANCELED });
}

/* A job that could not be started leaves the transaction to the others. */
static void test_early_fail(void)
{
    BlockJobTxn *txn = block_job_txn_new();
    TestJob *a = test_job_new("a", txn, NULL, 0), *b = test_job_new("b", txn, NULL, 0);

    block_job_txn_add_job(NULL, &a->common);    /* no transaction: nothing happens */
    g_assert_true(a->common.txn == txn);
    block_job_txn_unref(txn);
    block_job_early_fail(&b->common);
    block_job_ref(&a->common);
    block_job_start(&a->common);
    finish(a, 0);
    test_wait_status(&a->common, JOB_STATUS_NULL);
    g_assert_cmpuint(a->committed, ==, 1);
    block_job_unref(&a->common);
    test_no_jobs();
}

static void test_unused(void)
{
    block_job_txn_unref(block_job_txn_new());
    block_job_txn_unref(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/job/txn/success", test_success);
    g_test_add_func("/job/txn/failure", test_failure);
    g_test_add_func("/job/txn/failure-of-ready", test_failure_of_ready);
    g_test_add_func("/job/txn/cancel", test_cancel);
    g_test_add_func("/job/txn/cancel-paused-others", test_cancel_paused_others);
    g_test_add_func("/job/txn/prepare-fails", test_prepare_fails);
    g_test_add_func("/job/txn/finalize", test_finalize);
    g_test_add_func("/job/txn/cancel-pending", test_cancel_pending);
    g_test_add_func("/job/txn/early-fail", test_early_fail);
    g_test_add_func("/job/txn/unused", test_unused);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

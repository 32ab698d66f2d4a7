/* SPDX-License-Identifier: MIT */
/* job_errors.c: what a job does about an I/O error, policy by policy.
 *
 * Goal: action, event, pause and I/O status for each policy, operation and errno; a resume clears.
 */
#include "job_util.h"

typedef struct Case {
    BlockdevOnError policy;
    int error;
    BlockErrorAction action;
    BlockDeviceIoStatus status;
} Case;

#define OK      BLOCK_DEVICE_IO_STATUS_OK
#define FAILED  BLOCK_DEVICE_IO_STATUS_FAILED
#define NOSPACE BLOCK_DEVICE_IO_STATUS_NOSPACE

static const Case cases[] = {
    { BLOCKDEV_ON_ERROR_REPORT, EIO, BLOCK_ERROR_ACTION_REPORT, OK },
    { BLOCKDEV_ON_ERROR_REPORT, ENOSPC, BLOCK_ERROR_ACTION_REPORT, OK },
    { BLOCKDEV_ON_ERROR_IGNORE, EIO, BLOCK_ERROR_ACTION_IGNORE, OK },
    { BLOCKDEV_ON_ERROR_IGNORE, ENOSPC, BLOCK_ERROR_ACTION_IGNORE, OK },
    { BLOCKDEV_ON_ERROR_STOP, EIO, BLOCK_ERROR_ACTION_STOP, FAILED },
    { BLOCKDEV_ON_ERROR_STOP, ENOSPC, BLOCK_ERROR_ACTION_STOP, NOSPACE },
    { BLOCKDEV_ON_ERROR_ENOSPC, EIO, BLOCK_ERROR_ACTION_REPORT, OK },
    { BLOCKDEV_ON_ERROR_ENOSPC, ENOSPC, BLOCK_ERROR_ACTION_STOP, NOSPACE },
    { BLOCKDEV_ON_ERROR_AUTO, EIO, BLOCK_ERROR_ACTION_REPORT, OK },
    { BLOCKDEV_ON_ERROR_AUTO, ENOSPC, BLOCK_ERROR_ACTION_STOP, NOSPACE },
};

static void test_policies(void)
{
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        const Case *c = &cases[i / 2];
        bool is_read = i % 2, stops = c->action == BLOCK_ERROR_ACTION_STOP;
        TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
        BlockJob *job = &t->common;

        block_job_start(job);
        test_events_begin();
        g_assert_cmpint(block_job_error_action(job, c->policy, is_read, c->error), ==, c->action);
        g_autofree char *event = g_strdup_printf("j:BLOCK_JOB_ERROR(%s,%s)", is_read ? "read" : "write",
                                                 BlockErrorAction_str(c->action));

        test_expect_events(event);
        g_assert_cmpint(job->iostatus, ==, c->status);
        g_assert_cmpint(block_job_user_paused(job), ==, stops);
        job_enter(job);
        g_assert_cmpint(job->paused, ==, stops);
        if (stops) {
            BlockJobInfo *info = block_job_query(job, &error_abort);

            g_assert_cmpint(info->io_status, ==, c->status);
            g_assert_true(info->paused);
            qapi_free_BlockJobInfo(info);
            block_job_user_resume(job, &error_abort);
            g_assert_cmpint(job->iostatus, ==, OK);
            test_settle(1);
            g_assert_false(job->paused);
        }
        block_job_cancel_sync(job);
    }
    test_no_jobs();
}

/* Errors that come together pause once, and the first says why. */
static void test_many_at_once(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;

    block_job_start(job);
    block_job_error_action(job, BLOCKDEV_ON_ERROR_STOP, false, ENOSPC);
    block_job_error_action(job, BLOCKDEV_ON_ERROR_STOP, true, EIO);
    g_assert_cmpint(job->iostatus, ==, NOSPACE);
    g_assert_cmpint(job->pause_count, ==, 1);
    block_job_iostatus_reset(job);
    g_assert_cmpint(job->iostatus, ==, OK);
    g_assert_true(block_job_user_paused(job));          /* only the status */
    block_job_user_resume(job, &error_abort);
    g_assert_cmpint(job->pause_count, ==, 0);
    block_job_cancel_sync(job);
    test_no_jobs();
}

/* Stopped by an error while the user had paused it: one resume goes on. */
static void test_user_paused_already(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;

    block_job_start(job);
    block_job_user_pause(job, &error_abort);
    block_job_error_action(job, BLOCKDEV_ON_ERROR_STOP, true, EIO);
    block_job_user_resume(job, &error_abort);
    test_settle(1);
    g_assert_false(job->paused);
    /* A stopped job can be cancelled. */
    block_job_error_action(job, BLOCKDEV_ON_ERROR_STOP, true, EIO);
    g_assert_cmpint(block_job_cancel_sync(job), ==, -ECANCELED);
    test_no_jobs();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/job/errors/policies", test_policies);
    g_test_add_func("/job/errors/many-at-once", test_many_at_once);
    g_test_add_func("/job/errors/user-paused-already", test_user_paused_already);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

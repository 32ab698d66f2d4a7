/* SPDX-License-Identifier: MIT */
/* job_states.c: the two tables of a job's life: which state may follow which, which verb is
 * accepted where. Method: every combination against the tables as documented, written down here
 * once more by name. */
#include "job_util.h"

static const struct { JobStatus from; const char *to; } follows[] = {
    { JOB_STATUS_UNDEFINED, "created" },
    { JOB_STATUS_CREATED, "running aborting null" },
    { JOB_STATUS_RUNNING, "paused ready waiting aborting" },
    { JOB_STATUS_PAUSED, "running" },
    { JOB_STATUS_READY, "standby waiting aborting" },
    { JOB_STATUS_STANDBY, "ready" },
    { JOB_STATUS_WAITING, "pending aborting" },
    { JOB_STATUS_PENDING, "aborting concluded" },
    { JOB_STATUS_ABORTING, "aborting concluded" },
    { JOB_STATUS_CONCLUDED, "null" },
    { JOB_STATUS_NULL, "" },
};

static const struct { JobVerb verb; const char *in; } accepts[] = {
    { JOB_VERB_CANCEL, "created running paused ready standby waiting pending" },
    { JOB_VERB_PAUSE, "created running paused ready standby" },
    { JOB_VERB_RESUME, "created running paused ready standby" },
    { JOB_VERB_SET_SPEED, "created running paused ready standby" },
    { JOB_VERB_CHANGE, "created running paused ready standby" },
    { JOB_VERB_COMPLETE, "ready standby" },
    { JOB_VERB_FINALIZE, "pending" },
    { JOB_VERB_DISMISS, "concluded" },
};

static bool has_word(const char *words, const char *word)
{
    g_auto(GStrv) list = g_strsplit(words, " ", 0);

    return g_strv_contains((const char *const *)list, word);
}

static void test_transitions(void)
{
    g_assert_cmpint(G_N_ELEMENTS(follows), ==, JOB_STATUS__MAX);
    for (int i = 0; i < JOB_STATUS__MAX; i++) {
        for (int to = 0; to < JOB_STATUS__MAX; to++) {
            g_assert_cmpint(job_may_follow(follows[i].from, to), ==, has_word(follows[i].to, JobStatus_str(to)));
        }
    }
}

/* An illegal step is a fault of the program, and ends it. */
static void test_illegal_step(void)
{
    if (g_test_subprocess()) {
        TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);

        job_set_status(&t->common, JOB_STATUS_CONCLUDED);
        return;
    }
    g_test_trap_subprocess(NULL, 10 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_failed();
}

static void test_verbs(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_DEFAULT);
    BlockJob *job = &t->common;

    g_assert_cmpint(G_N_ELEMENTS(accepts), ==, JOB_VERB__MAX);
    for (int i = 0; i < JOB_VERB__MAX; i++) {
        for (int status = 0; status < JOB_STATUS__MAX; status++) {
            Error *err = NULL;
            bool ok;

            job->status = status;
            ok = job_apply_verb(job, accepts[i].verb, &err) == 0;
            g_assert_cmpint(ok, ==, has_word(accepts[i].in, JobStatus_str(status)));
            g_assert_cmpint(ok, ==, err == NULL);
            if (err) {
                g_autofree char *text = g_strdup_printf("Job 'j' in state '%s' cannot accept command verb '%s'",
                                                        JobStatus_str(status), JobVerb_str(accepts[i].verb));

                test_expect_error(err, text);
            }
        }
    }
    job->status = JOB_STATUS_CREATED;
    block_job_early_fail(job);
    test_no_jobs();
}

/* The calls behind the verbs ask the table too. */
static void test_calls_ask(void)
{
    TestJob *t = test_job_new("j", NULL, NULL, BLOCK_JOB_MANUAL_DISMISS);
    BlockJob *job = &t->common;
    Error *err = NULL;

    block_job_dismiss(&job, &err);
    test_expect_error(err, "Job 'j' in state 'created' cannot accept command verb 'dismiss'");
    err = NULL;
    block_job_finalize(job, &err);
    test_expect_error(err, "Job 'j' in state 'created' cannot accept command verb 'finalize'");
    err = NULL;
    block_job_complete(job, &err);
    test_expect_error(err, "Job 'j' in state 'created' cannot accept command verb 'complete'");
    err = NULL;
    t->finish = true;
    block_job_start(job);
    test_wait_status(job, JOB_STATUS_CONCLUDED);
    block_job_user_pause(job, &err);
    test_expect_error(err, "Job 'j' in state 'concluded' cannot accept command verb 'pause'");
    err = NULL;
    block_job_user_cancel(job, true, &err);
    test_expect_error(err, "Job 'j' in state 'concluded' cannot accept command verb 'cancel'");
    err = NULL;
    block_job_set_speed(job, 1, &err);
    test_expect_error(err, "Job 'j' in state 'concluded' cannot accept command verb 'set-speed'");
    err = NULL;
    job_change(job, NULL, &err);
    test_expect_error(err, "Job 'j' in state 'concluded' cannot accept command verb 'change'");
    err = NULL;
    block_job_user_resume(job, &err);
    test_expect_error(err, "Can't resume a job that was not paused");
    block_job_dismiss(&job, &error_abort);
    g_assert_null(job);
    test_no_jobs();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/job/states/transitions", test_transitions);
    g_test_add_func("/job/states/illegal-step", test_illegal_step);
    g_test_add_func("/job/states/verbs", test_verbs);
    g_test_add_func("/job/states/calls-ask-the-table", test_calls_ask);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

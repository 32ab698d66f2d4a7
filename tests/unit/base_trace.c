/* SPDX-License-Identifier: MIT */
/* base_trace: which trace points speak under which patterns, and what they say. */
#include "base/osdep.h"
#include "base/trace.h"

static GString *said;

static void keep_line(const char *line, void *opaque)
{
    g_string_append_printf(opaque, "%s|", line);
}

static int evaluated(int value)
{
    g_string_append(said, "!");
    return value;
}

/* The same points every time, so that what they remember must follow the changes. */
static void pass_the_points(void)
{
    TRACE(file, "open %d", evaluated(1));
    TRACE(file_posix, "pread");
    TRACE(job, "%s", "running");
}

static void check(const char *patterns, const char *expected)
{
    trace_enable(patterns);
    for (int i = 0; i < 2; i++) {
        g_string_truncate(said, 0);
        pass_the_points();
        g_assert_cmpstr(said->str, ==, expected);
    }
}

static void test_patterns(void)
{
    said = g_string_new(NULL);
    trace_set_output(keep_line, said);
    check(NULL, "");
    check("file", "!file: open 1|");
    check("file*,job", "!file: open 1|file_posix: pread|job: running|");
    check("jo", "");
    check(" job , nothing", "job: running|");
    check("*,-file*", "job: running|");
    check("*,-file*,file_posix", "file_posix: pread|job: running|");
    check("?ob", "job: running|");
    check(",", "");
    check("", "");
    trace_set_output(NULL, NULL);
    g_string_free(said, TRUE);
}

static void test_is_enabled(void)
{
    g_assert_false(trace_is_enabled("job"));
    trace_enable("j*");
    g_assert_true(trace_is_enabled("job"));
    g_assert_false(trace_is_enabled("file"));
    trace_enable(NULL);
    g_assert_false(trace_is_enabled("job"));
}

static int64_t fixed_clock(void)
{
    return 12 * NANOSECONDS_PER_SECOND + 34567890;
}

static void test_standard_error_with_time(void)
{
    if (g_test_subprocess()) {
        trace_enable("job");
        TRACE(job, "before");
        trace_set_clock(fixed_clock);
        errno = EXDEV;
        TRACE(job, "%d%%", 50);
        g_assert_cmpint(errno, ==, EXDEV);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("job: before\n12.034567 job: 50%\n");
}

/* Threads pass a point while another switches it: for the thread checker, and every line
 * that comes is whole. */
static void count_line(const char *line, void *opaque)
{
    g_assert_cmpstr(line, ==, "busy: whole");
    (*(int *)opaque)++;
}

static void *pass_often(void *opaque)
{
    for (int i = 0; i < 2000; i++) {
        TRACE(busy, "whole");
    }
    return NULL;
}

static void test_threads(void)
{
    GThread *threads[3];
    int lines = 0;

    trace_set_output(count_line, &lines);
    for (int i = 0; i < 3; i++) {
        threads[i] = g_thread_new("trace", pass_often, NULL);
    }
    for (int i = 0; i < 300; i++) {
        trace_enable(i % 2 ? "busy" : "other");
    }
    for (int i = 0; i < 3; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpint(lines, <=, 6000);
    lines = 0;
    trace_enable("busy");
    pass_often(NULL);
    g_assert_cmpint(lines, ==, 2000);
    trace_enable(NULL);
    pass_often(NULL);
    g_assert_cmpint(lines, ==, 2000);
    trace_set_output(NULL, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace/patterns", test_patterns);
    g_test_add_func("/trace/is-enabled", test_is_enabled);
    g_test_add_func("/trace/standard-error-with-time", test_standard_error_with_time);
    g_test_add_func("/trace/threads", test_threads);
    return g_test_run();
}

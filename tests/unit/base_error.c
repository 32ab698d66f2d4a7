/* SPDX-License-Identifier: MIT */
/* base_error: what becomes of an error on each kind of destination. Cases that end
 * the process run in a child of their own. */
#include "base/osdep.h"
#include "block/error.h"

static void test_set_and_read(void)
{
    g_autoptr(Error) err = NULL;

    errno = EXDEV;
    error_setg(&err, "Node '%s' is busy", "n0");
    g_assert_cmpint(errno, ==, EXDEV);
    g_assert_cmpstr(error_get_pretty(err), ==, "Node 'n0' is busy");
    g_assert_null(error_get_hint(err));
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_GENERIC_ERROR);
}

static void test_errno_text(void)
{
    g_autoptr(Error) err = NULL, plain = NULL;

    error_setg_errno(&err, ENOENT, "Could not open '%s'", "100%s");
    g_assert_cmpstr(error_get_pretty(err), ==, "Could not open '100%s': No such file or directory");
    error_setg_errno(&plain, 0, "no reason");
    g_assert_cmpstr(error_get_pretty(plain), ==, "no reason");
}

static void test_class(void)
{
    g_autoptr(Error) err = NULL;

    error_set(&err, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", "d");
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_DEVICE_NOT_FOUND);
    g_assert_cmpstr(ErrorClass_str(ERROR_CLASS_DEVICE_NOT_FOUND), ==, "DeviceNotFound");
    g_assert_cmpstr(ErrorClass_str(ERROR_CLASS_KVM_MISSING_CAP), ==, "KVMMissingCap");
}

static void test_ignored(void)
{
    Error *none = NULL;

    errno = EXDEV;
    error_setg(NULL, "nobody listens");
    error_prepend(NULL, "x: ");
    error_append_hint(NULL, "x\n");
    g_assert_cmpint(errno, ==, EXDEV);
    error_prepend(&none, "x: ");
    error_append_hint(&none, "x\n");
    g_assert_null(none);
    error_free(NULL);
}

static void test_context_and_hint(void)
{
    g_autoptr(Error) err = NULL;

    error_setg(&err, "inner 100%%");
    error_prepend(&err, "%s: ", "outer %d");
    error_append_hint(&err, "Try %s.\n", "this");
    error_append_hint(&err, "Or that.\n");
    g_assert_cmpstr(error_get_pretty(err), ==, "outer %d: inner 100%");
    g_assert_cmpstr(error_get_hint(err), ==, "Try this.\nOr that.\n");
}

static void test_propagate(void)
{
    Error *first = NULL, *second = NULL, *third = NULL, *dst = NULL;

    error_propagate(&dst, NULL);
    g_assert_null(dst);
    error_setg(&first, "first");
    error_setg(&second, "second");
    error_setg(&third, "third");
    error_propagate(&dst, first);
    g_assert_true(dst == first);
    error_propagate(&dst, second);      /* the first one stays */
    g_assert_true(dst == first);
    error_propagate(NULL, third);
    error_free_or_abort(&dst);
    g_assert_null(dst);
}

static void test_copy_is_independent(void)
{
    Error *err = NULL, *copy;

    error_set(&err, ERROR_CLASS_COMMAND_NOT_FOUND, "m");
    error_append_hint(&err, "h\n");
    copy = error_copy(err);
    error_prepend(&err, "changed ");
    error_append_hint(&err, "changed\n");
    error_free(err);
    g_assert_cmpstr(error_get_pretty(copy), ==, "m");
    g_assert_cmpstr(error_get_hint(copy), ==, "h\n");
    g_assert_cmpint(error_get_class(copy), ==, ERROR_CLASS_COMMAND_NOT_FOUND);
    error_free(copy);
}

static void guarded(bool fail, Error **errp)
{
    ERRP_GUARD();

    g_assert_nonnull(errp);
    if (fail) {
        error_setg(errp, "inner");
    }
    if (*errp) {
        error_prepend(errp, "guarded: ");
        error_append_hint(errp, "Hint.\n");
    }
}

static void test_guard(void)
{
    Error *err = NULL;

    guarded(true, NULL);
    guarded(false, &err);
    g_assert_null(err);
    guarded(true, &err);
    g_assert_cmpstr(error_get_pretty(err), ==, "guarded: inner");
    error_free_or_abort(&err);
}

/* ---- ends of the process ---- */

static void test_set_twice_aborts(void)
{
    if (g_test_subprocess()) {
        Error *err = NULL;

        error_setg(&err, "one");
        error_setg(&err, "two");
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*'two' over 'one'*");
}

static void test_abort_destination(void)
{
    if (g_test_subprocess()) {
        guarded(true, &error_abort);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*in guarded() at *base_error.c:*inner*");
}

static void test_abort_on_propagate(void)
{
    if (g_test_subprocess()) {
        Error *err = NULL;

        error_setg(&err, "handed on");
        error_propagate(&error_abort, err);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*handed on*");
}

/* The guard makes the context part of what error_fatal prints. */
static void test_fatal_destination(void)
{
    if (g_test_subprocess()) {
        g_set_prgname("prog");
        guarded(true, &error_fatal);
        _exit(0);
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("prog: guarded: inner\nHint.\n");
}

static void test_free_or_abort_without_error(void)
{
    if (g_test_subprocess()) {
        Error *err = NULL;

        error_free_or_abort(&err);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*none is set*");
}

static void test_reports(void)
{
    if (g_test_subprocess()) {
        Error *err = NULL;

        g_set_prgname("prog");
        error_report("a %d", 1);
        warn_report("b");
        info_report("c");
        error_setg(&err, "d");
        error_append_hint(&err, "no newline");
        error_reportf_err(err, "%s: ", "ctx");
        err = NULL;
        error_setg(&err, "e");
        warn_reportf_err(err, "w: ");
        err = NULL;
        error_setg(&err, "f");
        warn_report_err(err);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("prog: a 1\nprog: warning: b\nprog: info: c\n"
                              "prog: ctx: d\nno newline\n"
                              "prog: warning: w: e\nprog: warning: f\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/set-and-read", test_set_and_read);
    g_test_add_func("/error/errno-text", test_errno_text);
    g_test_add_func("/error/class", test_class);
    g_test_add_func("/error/ignored", test_ignored);
    g_test_add_func("/error/context-and-hint", test_context_and_hint);
    g_test_add_func("/error/propagate", test_propagate);
    g_test_add_func("/error/copy-is-independent", test_copy_is_independent);
    g_test_add_func("/error/guard", test_guard);
    g_test_add_func("/error/set-twice-aborts", test_set_twice_aborts);
    g_test_add_func("/error/abort-destination", test_abort_destination);
    g_test_add_func("/error/abort-on-propagate", test_abort_on_propagate);
    g_test_add_func("/error/fatal-destination", test_fatal_destination);
    g_test_add_func("/error/free-or-abort-without-error", test_free_or_abort_without_error);
    g_test_add_func("/error/reports", test_reports);
    return g_test_run();
}

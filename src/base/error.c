/* SPDX-License-Identifier: MIT */
/* error.c: the error object and reports to people. See block/error.h. */
#include "base/osdep.h"
#include "block/error.h"

struct Error {
    char *message;
    GString *hint;          /* NULL: none */
    ErrorClass error_class;
    const char *file;       /* where it was set, static strings */
    const char *func;
    int line;
};

/* Never changed: only their addresses mean something. */
Error *error_abort;
Error *error_fatal;

/* ---- reports ---- */

/* One report: program, @severity (with its colon and space, or ""), message, and
 * the hint if there is one. One call of stdio, so that threads do not mix lines. */
static void report(const char *severity, const char *message, const char *hint)
{
    const char *program = g_get_prgname();
    const char *hint_end = hint && !g_str_has_suffix(hint, "\n") ? "\n" : "";

    fprintf(stderr, "%s: %s%s\n%s%s", program ? program : "liveblk", severity, message,
            hint ? hint : "", hint_end);
}

static void LIVEBLK_PRINTF(2, 0) vreport(const char *severity, const char *fmt, va_list ap)
{
    g_autofree char *message = g_strdup_vprintf(fmt, ap);
    report(severity, message, NULL);
}

void error_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vreport("", fmt, ap);
    va_end(ap);
}

void warn_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vreport("warning: ", fmt, ap);
    va_end(ap);
}

void info_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vreport("info: ", fmt, ap);
    va_end(ap);
}

void error_report_err(Error *err)
{
    report("", error_get_pretty(err), error_get_hint(err));
    error_free(err);
}

void warn_report_err(Error *err)
{
    report("warning: ", error_get_pretty(err), error_get_hint(err));
    error_free(err);
}

void error_reportf_err(Error *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&err, fmt, ap);
    va_end(ap);
    error_report_err(err);
}

void warn_reportf_err(Error *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&err, fmt, ap);
    va_end(ap);
    warn_report_err(err);
}

/* ---- special destinations ---- */

/* End the process if @dst is one of the special destinations. */
static void handle_special(Error **dst, Error *err)
{
    if (dst == &error_abort) {
        fprintf(stderr, "Unexpected error in %s() at %s:%d:\n", err->func, err->file, err->line);
        error_report("%s", err->message);
        abort();
    }
    if (dst == &error_fatal) {
        error_report_err(err);
        exit(1);
    }
}

/* ---- setting ---- */

void error_vset_at(Error **errp, const char *file, int line, const char *func,
                   ErrorClass error_class, int os_errno, const char *fmt, va_list ap)
{
    int saved_errno = errno;
    g_autofree char *text = NULL;
    Error *err;

    if (!errp) {
        return;
    }
    text = g_strdup_vprintf(fmt, ap);
    if (*errp) {
        fprintf(stderr, "%s() at %s:%d sets the error '%s' over '%s', set in %s() at %s:%d\n",
                func, file, line, text,
                (*errp)->message, (*errp)->func, (*errp)->file, (*errp)->line);
        abort();
    }

    err = g_new0(Error, 1);
    err->message = os_errno ? g_strdup_printf("%s: %s", text, g_strerror(os_errno))
                            : g_steal_pointer(&text);
    err->error_class = error_class;
    err->file = file;
    err->line = line;
    err->func = func;
    handle_special(errp, err);
    *errp = err;
    errno = saved_errno;
}

void error_set_at(Error **errp, const char *file, int line, const char *func,
                  ErrorClass error_class, int os_errno, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vset_at(errp, file, line, func, error_class, os_errno, fmt, ap);
    va_end(ap);
}

void error_vprepend(Error **errp, const char *fmt, va_list ap)
{
    if (!errp || !*errp) {
        return;
    }
    g_autofree char *prefix = g_strdup_vprintf(fmt, ap);
    g_autofree char *old = (*errp)->message;
    (*errp)->message = g_strconcat(prefix, old, NULL);
}

void error_prepend(Error **errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(errp, fmt, ap);
    va_end(ap);
}

void error_append_hint(Error **errp, const char *fmt, ...)
{
    va_list ap;

    if (!errp || !*errp) {
        return;
    }
    if (!(*errp)->hint) {
        (*errp)->hint = g_string_new(NULL);
    }
    va_start(ap, fmt);
    g_string_append_vprintf((*errp)->hint, fmt, ap);
    va_end(ap);
}

void error_propagate(Error **dst, Error *src)
{
    if (!src) {
        return;
    }
    handle_special(dst, src);
    if (dst && !*dst) {
        *dst = src;
    } else {
        error_free(src);
    }
}

/* ---- reading and owning ---- */

const char *error_get_pretty(const Error *err)
{
    return err->message;
}

const char *error_get_hint(const Error *err)
{
    return err->hint ? err->hint->str : NULL;
}

ErrorClass error_get_class(const Error *err)
{
    return err->error_class;
}

const char *ErrorClass_str(ErrorClass error_class)
{
    static const char *const names[] = {
        [ERROR_CLASS_GENERIC_ERROR] = "GenericError",
        [ERROR_CLASS_COMMAND_NOT_FOUND] = "CommandNotFound",
        [ERROR_CLASS_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
        [ERROR_CLASS_DEVICE_NOT_FOUND] = "DeviceNotFound",
        [ERROR_CLASS_KVM_MISSING_CAP] = "KVMMissingCap",
    };

    assert((unsigned)error_class < G_N_ELEMENTS(names));
    return names[error_class];
}

Error *error_copy(const Error *err)
{
    Error *copy = g_new(Error, 1);

    *copy = *err;
    copy->message = g_strdup(err->message);
    copy->hint = err->hint ? g_string_new(err->hint->str) : NULL;
    return copy;
}

void error_free(Error *err)
{
    if (err) {
        g_free(err->message);
        if (err->hint) {
            g_string_free(err->hint, TRUE);
        }
        g_free(err);
    }
}

void error_free_or_abort(Error **errp)
{
    if (!errp || !*errp) {
        fputs("an error was expected, but none is set\n", stderr);
        abort();
    }
    error_free(*errp);
    *errp = NULL;
}

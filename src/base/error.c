/* SPDX-License-Identifier: MIT */
/* error.c: error objects; see block/error.h. */
#include "base/osdep.h"
#include "block/error.h"

struct Error {
    ErrorClass klass;
    char *msg;
    char *hint;
};

Error *error_abort, *error_fatal;

const char *ErrorClass_str(ErrorClass klass)
{
    static const char *const names[] = {
        "GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap",
    };
    return names[klass];
}

static void error_deliver(Error **errp, Error *err)
{
    if (errp == &error_abort) {
        fprintf(stderr, "unexpected error: %s\n", err->msg);
        abort();
    }
    if (errp == &error_fatal) {
        error_report_err(err);
        exit(1);
    }
    if (!errp) {
        error_free(err);
        return;
    }
    g_assert(!*errp);
    *errp = err;
}

static Error *error_newv(ErrorClass klass, int os_errno, const char *fmt, va_list ap)
{
    Error *err = g_new0(Error, 1);

    err->klass = klass;
    err->msg = g_strdup_vprintf(fmt, ap);
    if (os_errno) {
        char *msg = g_strdup_printf("%s: %s", err->msg, strerror(os_errno));

        g_free(err->msg);
        err->msg = msg;
    }
    return err;
}

#define ERROR_SET(errp, klass, os_errno, fmt) do {              \
        int saved_errno = errno;                                \
        va_list ap;                                             \
        va_start(ap, fmt);                                      \
        error_deliver(errp, error_newv(klass, os_errno, fmt, ap)); \
        va_end(ap);                                             \
        errno = saved_errno;                                    \
    } while (0)

void error_set(Error **errp, ErrorClass klass, const char *fmt, ...)
{
    ERROR_SET(errp, klass, 0, fmt);
}

void error_setg(Error **errp, const char *fmt, ...)
{
    ERROR_SET(errp, ERROR_CLASS_GENERIC_ERROR, 0, fmt);
}

void error_setg_errno(Error **errp, int os_errno, const char *fmt, ...)
{
    ERROR_SET(errp, ERROR_CLASS_GENERIC_ERROR, os_errno, fmt);
}

void error_prepend(Error **errp, const char *fmt, ...)
{
    va_list ap;

    if (!errp || !*errp) {
        return;
    }
    va_start(ap, fmt);
    char *prefix = g_strdup_vprintf(fmt, ap);
    char *msg = g_strconcat(prefix, (*errp)->msg, NULL);
    va_end(ap);
    g_free(prefix);
    g_free((*errp)->msg);
    (*errp)->msg = msg;
}

void error_append_hint(Error **errp, const char *fmt, ...)
{
    va_list ap;

    if (!errp || !*errp) {
        return;
    }
    va_start(ap, fmt);
    char *more = g_strdup_vprintf(fmt, ap);
    char *hint = g_strconcat((*errp)->hint ? (*errp)->hint : "", more, NULL);
    va_end(ap);
    g_free(more);
    g_free((*errp)->hint);
    (*errp)->hint = hint;
}

void error_propagate(Error **dst_errp, Error *local)
{
    if (!local) {
        return;
    }
    if (dst_errp && dst_errp != &error_abort && dst_errp != &error_fatal && *dst_errp) {
        error_free(local);      /* the first error is the one that counts */
        return;
    }
    error_deliver(dst_errp, local);
}

Error *error_copy(const Error *err)
{
    Error *copy = g_new0(Error, 1);

    copy->klass = err->klass;
    copy->msg = g_strdup(err->msg);
    copy->hint = g_strdup(err->hint);
    return copy;
}

void error_free(Error *err)
{
    if (err) {
        g_free(err->msg);
        g_free(err->hint);
        g_free(err);
    }
}

const char *error_get_pretty(const Error *err)
{
    return err->msg;
}

const char *error_get_hint(const Error *err)
{
    return err->hint;
}

ErrorClass error_get_class(const Error *err)
{
    return err->klass;
}

static void report(const char *kind, const char *fmt, va_list ap)
{
    char *msg = g_strdup_vprintf(fmt, ap);
    const char *prog = g_get_prgname();

    fprintf(stderr, "%s: %s%s\n", prog ? prog : "liveblk", kind, msg);
    g_free(msg);
}

void error_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    report("", fmt, ap);
    va_end(ap);
}

void warn_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    report("warning: ", fmt, ap);
    va_end(ap);
}

void error_report_err(Error *err)
{
    error_report("%s", err->msg);
    if (err->hint) {
        fprintf(stderr, "%s%s", err->hint, g_str_has_suffix(err->hint, "\n") ? "" : "\n");
    }
    error_free(err);
}

/* SPDX-License-Identifier: MIT */
/* error.h: the error object: class, message, hint.
 *
 * A function that can fail for reasons worth telling takes a last parameter
 * `Error **errp` and sets it once, where the fault is seen. Callers may put
 * context in front of the message or add to the hint, nothing else.
 *
 * Use:      Error *err = NULL;
 *           if (frob(x, &err) < 0) { error_report_err(err); return 1; }
 *   or pass the caller's errp on; or NULL, to hear nothing; or &error_abort
 *   where failing would be a bug of ours; or &error_fatal in a program's main.
 * Message:  one line, no full stop, no newline; names what it is about.
 * Hint:     what to do about it: whole lines, each with its newline. Shown to
 *           people, never sent in the control protocol.
 * Owner:    who gets the object frees it; error_report_err() and
 *           error_propagate() take it over.
 * Runs on:  any thread; one object belongs to one thread at a time. Never suspends.
 * Fails:    setting an error where one is already set is a bug and aborts.
 *           Neither errno nor *errp of an ignored (NULL) destination changes.
 */
#ifndef LIVEBLK_BLOCK_ERROR_H
#define LIVEBLK_BLOCK_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <glib.h>
#include "block/liveblk-export.h"

typedef struct Error Error;

/* The classes of the control protocol. */
typedef enum ErrorClass {
    ERROR_CLASS_GENERIC_ERROR,
    ERROR_CLASS_COMMAND_NOT_FOUND,
    ERROR_CLASS_DEVICE_NOT_ACTIVE,
    ERROR_CLASS_DEVICE_NOT_FOUND,
    ERROR_CLASS_KVM_MISSING_CAP,
} ErrorClass;

/* Special destinations, passed as &error_abort and &error_fatal: setting an
 * error there prints it, with the place it was set for the former, and ends the
 * process with abort() or exit(1). */
extern LIVEBLK_PUBLIC Error *error_abort;
extern LIVEBLK_PUBLIC Error *error_fatal;

/* ---- setting ---- */

/* Set *@errp to a new generic error; the arguments are printf's. */
#define error_setg(errp, ...) \
    error_set_at((errp), __FILE__, __LINE__, __func__, \
                 ERROR_CLASS_GENERIC_ERROR, 0, __VA_ARGS__)
/* The same, with ": " and the text of @os_errno (positive) after the message;
 * without them if @os_errno is 0. */
#define error_setg_errno(errp, os_errno, ...) \
    error_set_at((errp), __FILE__, __LINE__, __func__, \
                 ERROR_CLASS_GENERIC_ERROR, (os_errno), __VA_ARGS__)
/* The same as error_setg() with an ErrorClass. */
#define error_set(errp, error_class, ...) \
    error_set_at((errp), __FILE__, __LINE__, __func__, (error_class), 0, __VA_ARGS__)

/* What the macros above call. */
LIVEBLK_PUBLIC void error_set_at(Error **errp, const char *file, int line, const char *func,
                                 ErrorClass error_class, int os_errno, const char *fmt, ...)
    LIVEBLK_PRINTF(7, 8);
LIVEBLK_PUBLIC void error_vset_at(Error **errp, const char *file, int line, const char *func,
                                  ErrorClass error_class, int os_errno,
                                  const char *fmt, va_list ap)
    LIVEBLK_PRINTF(7, 0);

/* Put context before the message of *@errp; nothing happens where there is no
 * error. In a function that got @errp from its caller, write ERRP_GUARD() first. */
LIVEBLK_PUBLIC void error_prepend(Error **errp, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
LIVEBLK_PUBLIC void error_vprepend(Error **errp, const char *fmt, va_list ap)
    LIVEBLK_PRINTF(2, 0);
/* Add to the hint of *@errp. As error_prepend(). */
LIVEBLK_PUBLIC void error_append_hint(Error **errp, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);

/* Hand @src over to @dst, which may be NULL or special. Nothing happens if @src is
 * NULL. If *@dst has an error already, that one stays and @src is freed. */
LIVEBLK_PUBLIC void error_propagate(Error **dst, Error *src);

/* ---- reading ---- */

/* The message; valid as long as @err is and nothing is prepended. */
LIVEBLK_PUBLIC const char *error_get_pretty(const Error *err);
/* The hint, or NULL. */
LIVEBLK_PUBLIC const char *error_get_hint(const Error *err);
LIVEBLK_PUBLIC ErrorClass error_get_class(const Error *err);
/* The protocol's name of @error_class: "GenericError" ... */
LIVEBLK_PUBLIC const char *ErrorClass_str(ErrorClass error_class);

/* ---- owning ---- */

LIVEBLK_PUBLIC Error *error_copy(const Error *err);
LIVEBLK_PUBLIC void error_free(Error *err);           /* NULL: nothing */
/* Free *@errp and set it to NULL; abort if there is none. For tests. */
LIVEBLK_PUBLIC void error_free_or_abort(Error **errp);

/* ---- telling people: "PROGRAM: message" on standard error, with g_get_prgname() ---- */

LIVEBLK_PUBLIC void error_report(const char *fmt, ...) LIVEBLK_PRINTF(1, 2);
LIVEBLK_PUBLIC void warn_report(const char *fmt, ...) LIVEBLK_PRINTF(1, 2);
LIVEBLK_PUBLIC void info_report(const char *fmt, ...) LIVEBLK_PRINTF(1, 2);
/* Report @err, then its hint (given a newline if it lacks one), and free it. */
LIVEBLK_PUBLIC void error_report_err(Error *err);
LIVEBLK_PUBLIC void warn_report_err(Error *err);
/* The same with context in front. */
LIVEBLK_PUBLIC void error_reportf_err(Error *err, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
LIVEBLK_PUBLIC void warn_reportf_err(Error *err, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);

/* ---- convenience ---- */

/* At the top of a function with a parameter `Error **errp`: from here on errp is
 * never NULL nor &error_fatal, so that *errp may be read, and context added
 * before the error reaches the caller's destination, at the end of the scope. */
#define ERRP_GUARD() \
    __attribute__((cleanup(error_guard_leave))) ErrorGuard errp_guard_ = { errp, NULL }; \
    errp = error_guard_enter(&errp_guard_)

typedef struct ErrorGuard {
    Error **caller;
    Error *local;
} ErrorGuard;

static inline Error **error_guard_enter(ErrorGuard *guard)
{
    /* &error_abort stays: the abort shall happen where the error is set. */
    return !guard->caller || guard->caller == &error_fatal ? &guard->local : guard->caller;
}

static inline void error_guard_leave(ErrorGuard *guard)
{
    error_propagate(guard->caller, guard->local);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Error, error_free)

#endif

/* SPDX-License-Identifier: MIT */
/* error.h: error objects: a class of the control protocol, a message, a hint.
 *
 * A function that can fail takes `Error **errp` last. On failure it sets *errp once,
 * where the fault is seen, and returns an error value. errp may be NULL (not wanted),
 * &error_abort (a bug if it fails) or &error_fatal (print and exit(1); programs only).
 * Callers may only prefix context. Any thread; an Error belongs to one at a time.
 */
#ifndef LIVEBLK_BLOCK_ERROR_H
#define LIVEBLK_BLOCK_ERROR_H

#include <stdbool.h>
#include <glib.h>
#include "block/liveblk-export.h"

typedef struct Error Error;

typedef enum ErrorClass {
    ERROR_CLASS_GENERIC_ERROR,
    ERROR_CLASS_COMMAND_NOT_FOUND,
    ERROR_CLASS_DEVICE_NOT_ACTIVE,
    ERROR_CLASS_DEVICE_NOT_FOUND,
    ERROR_CLASS_KVM_MISSING_CAP,
} ErrorClass;

LIVEBLK_PUBLIC extern Error *error_abort, *error_fatal;

/* "GenericError" ... as the control protocol names the class. */
LIVEBLK_PUBLIC const char *ErrorClass_str(ErrorClass klass);
LIVEBLK_PUBLIC void error_set(Error **errp, ErrorClass klass, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
LIVEBLK_PUBLIC void error_setg(Error **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* "<message>: <strerror(os_errno)>"; os_errno positive, 0: no suffix. */
LIVEBLK_PUBLIC void error_setg_errno(Error **errp, int os_errno, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
LIVEBLK_PUBLIC void error_prepend(Error **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
LIVEBLK_PUBLIC void error_append_hint(Error **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Hand @local on to @dst_errp, or free it where nobody wants it. */
LIVEBLK_PUBLIC void error_propagate(Error **dst_errp, Error *local);
LIVEBLK_PUBLIC Error *error_copy(const Error *err);
LIVEBLK_PUBLIC void error_free(Error *err);
LIVEBLK_PUBLIC const char *error_get_pretty(const Error *err);
LIVEBLK_PUBLIC const char *error_get_hint(const Error *err);    /* NULL: none */
LIVEBLK_PUBLIC ErrorClass error_get_class(const Error *err);

/* To standard error, "program: message". */
LIVEBLK_PUBLIC void error_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
LIVEBLK_PUBLIC void warn_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
LIVEBLK_PUBLIC void error_report_err(Error *err);       /* with its hint; frees it */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Error, error_free)
#endif

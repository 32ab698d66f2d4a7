/* SPDX-License-Identifier: MIT */
/* library.h: libraries that are loaded when something asks for what they do, and may be missing until then.
 *
 * Runs on: main thread.
 */
#ifndef LIVEBLK_BASE_LIBRARY_H
#define LIVEBLK_BASE_LIBRARY_H

#include "base/osdep.h"
#include "block/error.h"

typedef struct LibraryFunction {
    const char *name;           /* as the library exports it */
    size_t at;                  /* where its address goes in the table, bytes */
} LibraryFunction;

/* Load @file_name, which names the version of its interface, and put the addresses of all @n @functions into @table: all of
 * them, or, on failure, none. It is never unloaded. @who: what cannot be had without it, "NBD needs libnbd". -ENOENT: it is
 * not there; -ENOTSUP: it lacks one of them. */
int library_load(const char *file_name, const char *who, const LibraryFunction *functions, size_t n, void *table,
                 Error **errp);

#endif

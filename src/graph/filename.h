/* SPDX-License-Identifier: MIT */
/* filename.h: names of images. Any thread. */
#ifndef LIVEBLK_GRAPH_FILENAME_H
#define LIVEBLK_GRAPH_FILENAME_H

#include <stdbool.h>
#include "block/qdict.h"

/* "nbd:...", "json:{...}": something before the first slash ends in a colon. */
bool path_has_protocol(const char *path);
/* Options of the protocol node that @filename names: a plain path, "nbd:...". A new reference, or NULL
 * and *errp. */
QDict *graph_options_of_filename(const char *filename, Error **errp);
/* @filename as seen from the directory of @base_path; the caller frees. */
char *path_combine(const char *base_path, const char *filename);

#endif

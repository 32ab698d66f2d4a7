/* SPDX-License-Identifier: MIT */
/* filename.h: names of images. Any thread. */
#ifndef LIVEBLK_GRAPH_FILENAME_H
#define LIVEBLK_GRAPH_FILENAME_H

#include <stdbool.h>

/* "nbd:...", "json:{...}": something before the first slash ends in a colon. */
bool path_has_protocol(const char *path);
/* @filename as seen from the directory of @base_path; the caller frees. */
char *path_combine(const char *base_path, const char *filename);

#endif

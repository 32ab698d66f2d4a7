/* SPDX-License-Identifier: MIT */
/* str.h: small string helpers; sizes for people. Any thread. */
#ifndef LIVEBLK_BASE_STR_H
#define LIVEBLK_BASE_STR_H

#include <stdbool.h>
#include <stdint.h>

/* A letter, then letters, digits, '-', '.', '_'. */
bool id_wellformed(const char *id);
/* The word of the NULL-terminated @list that is nearest to @word, or NULL if none is near. */
const char *str_closest(const char *word, const char *const *list);
/* "64k", "1.5G", "0x1000": bytes; suffixes b k K M G T P E. @default_unit: 1, or what a plain
 * number counts in. 0, -EINVAL or -ERANGE. */
int size_parse(const char *text, uint64_t default_unit, uint64_t *bytes);
/* "1 GiB", "1.5 MiB", "512 B"; the caller frees. */
char *size_to_str(uint64_t bytes);

#endif

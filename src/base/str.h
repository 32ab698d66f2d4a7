/* SPDX-License-Identifier: MIT */
/* str.h: small string helpers. Any thread. Sizes and durations: size.h. */
#ifndef LIVEBLK_BASE_STR_H
#define LIVEBLK_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include "base/size.h"

/* Whether @id may name an object: a letter, then letters, digits, '-', '.', '_' (ASCII). */
bool id_wellformed(const char *id);

/* The word of the NULL-terminated @list that @word is most likely a misspelling of, the
 * first among equals; NULL if none is near (about one slip for three letters). A
 * slip is a letter too many, missing, or wrong, or two exchanged; case does not count. */
const char *str_closest(const char *word, const char *const *list);

/* Whether @str begins with @prefix; if so and @rest is not NULL, *@rest is what follows. */
bool strstart(const char *str, const char *prefix, const char **rest);

/* Fill the field @buf with @str, cut where it is too long, and with @pad behind; no
 * terminator. For fixed fields of on-disk and wire formats. */
void strpadcpy(char *buf, size_t buf_size, const char *str, char pad);

#endif

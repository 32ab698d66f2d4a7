/* SPDX-License-Identifier: MIT */
/* size.h: sizes and durations as people write and read them. Any thread. */
#ifndef LIVEBLK_BASE_SIZE_H
#define LIVEBLK_BASE_SIZE_H

#include <stdint.h>

/* Read a size: decimal, with a fraction if it has a unit ("64k", "1.5G", "512", "10B"), or
 * hexadecimal without one ("0x1000"). Units: b k M G T P E, in either case, powers of 1024;
 * without one it counts in @default_unit bytes (1, 512, MiB ...). Rounded to the nearest byte.
 * Leading white space and '+' are allowed, nothing may follow. Sets *@bytes only on
 * success. Returns 0; -EINVAL: not a size; -ERANGE: beyond 2^64 - 1, or a
 * negative whole number. */
int size_parse(const char *text, uint64_t default_unit, uint64_t *bytes);

/* "1 GiB", "1.5 MiB", "512 B": three digits, in the unit that leaves less than 1000. The
 * caller frees. */
char *size_to_str(uint64_t bytes);

/* "15 us", "350 ms", "1.2 s", "42 s", "3 min 05 s", "2 h 07 min", "4 d 03 h"; cut, not
 * rounded, so that it never shows time that has not passed. Negative counts as 0. The
 * caller frees. */
char *duration_to_str(int64_t ns);

#endif

/* SPDX-License-Identifier: MIT */
/* liveblk-export.h: marks what the shared library exports.
 *
 * Everything is compiled with hidden visibility; a declaration that begins with
 * LIVEBLK_PUBLIC is part of the library's interface, and nothing else is.
 */
#ifndef LIVEBLK_BLOCK_EXPORT_H
#define LIVEBLK_BLOCK_EXPORT_H

#if defined(__GNUC__)
#define LIVEBLK_PUBLIC __attribute__((visibility("default")))
#define LIVEBLK_PRINTF(fmt_arg, first_arg) \
    __attribute__((format(printf, fmt_arg, first_arg)))
#else
#define LIVEBLK_PUBLIC
#define LIVEBLK_PRINTF(fmt_arg, first_arg)
#endif

#endif

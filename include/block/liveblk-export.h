/* SPDX-License-Identifier: MIT */
/* liveblk-export.h: marks what the shared library shows to the outside. */
#ifndef LIVEBLK_BLOCK_LIVEBLK_EXPORT_H
#define LIVEBLK_BLOCK_LIVEBLK_EXPORT_H
#define LIVEBLK_PUBLIC __attribute__((visibility("default")))
#endif

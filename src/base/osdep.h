/* SPDX-License-Identifier: MIT */
/* osdep.h: what every source includes first: the C library, GLib, and a few
 * macros that have no better home.
 */
#ifndef LIVEBLK_BASE_OSDEP_H
#define LIVEBLK_BASE_OSDEP_H

#include "config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <glib.h>

#define KiB (1024LL)
#define MiB (1024LL * KiB)
#define GiB (1024LL * MiB)
#define TiB (1024LL * GiB)

#define NANOSECONDS_PER_SECOND 1000000000LL

#define DIV_ROUND_UP(n, d)     (((n) + (d) - 1) / (d))
#define QEMU_ALIGN_DOWN(n, m)  ((n) / (m) * (m))
#define QEMU_ALIGN_UP(n, m)    QEMU_ALIGN_DOWN((n) + (m) - 1, (m))
#define QEMU_IS_ALIGNED(n, m)  (((n) % (m)) == 0)
#define ROUND_UP(n, d)         QEMU_ALIGN_UP(n, d)

#define container_of(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))

/* A function that may suspend; call it from a coroutine only. */
#ifndef coroutine_fn
#define coroutine_fn
#endif

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline bool is_power_of_2(uint64_t v)
{
    return v && !(v & (v - 1));
}

#endif

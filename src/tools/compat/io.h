/* SPDX-License-Identifier: MIT */
/* io.h: inside qemu-io: opening what its commands work on. Main thread. */
#ifndef LIVEBLK_TOOLS_COMPAT_IO_H
#define LIVEBLK_TOOLS_COMPAT_IO_H

#include "compat/compat.h"
#include "ioshell/ioshell.h"

typedef struct IoOpen {
    const char *name;           /* NULL: options say it all */
    bool image_opts;            /* name is options */
    const char *format;         /* NULL: probed */
    bool read_only, snapshot, copy_on_read, force_share;
    const char *cache, *aio, *discard;          /* cache and aio NULL: not said */
    QDict *options;             /* of the driver, nested strings; NULL: none */
} IoOpen;

void io_open_clear(IoOpen *o);
bool io_cache_mode_valid(const char *mode);
bool io_discard_mode_valid(const char *mode);
/* The words of the command "open". 0, or -EINVAL after saying what is wrong; o->options is the caller's. */
int io_open_parse(IoShell *s, const IoCommand *cmd, IoOpen *o, int argc, char **argv);
/* Open it for @s. 0 or -errno after saying why. */
int coroutine_fn io_co_open(IoShell *s, const IoOpen *o);

#endif

/* SPDX-License-Identifier: MIT */
/* ioshell_private.h: inside the shell. */
#ifndef LIVEBLK_IOSHELL_PRIVATE_H
#define LIVEBLK_IOSHELL_PRIVATE_H

#include "block/block_int-global-state.h"
#include "ioshell/ioshell.h"

struct IoShell {
    IoShellConfig config;
    BlockBackend *blk;
    bool writethrough, misalign;
    bool given_up;
    QemuCoSleep sleep;          /* of the command of that name */
    unsigned in_flight;         /* requests of aio_read and aio_write */
};

/* The largest request of one command. */
#define IO_DUMP_BYTES_MAX       ((int64_t)(1 * MiB))
#define IO_BYTES_MAX    ((int64_t)BDRV_REQUEST_MAX_BYTES)

/* ---- words and numbers; what is wrong is said, and false or negative returned ---- */

/* A size in bytes, or -EINVAL, -ERANGE. */
int64_t io_number(const char *text);
void io_number_error(IoShell *s, int64_t ret, const char *text);
/* Both at once; false: it was wrong. */
bool io_parse_number(IoShell *s, const char *text, int64_t *value);
/* 0..255, or -1. */
int io_pattern(IoShell *s, const char *text);

/* ---- telling ---- */

/* "64 KiB", "1.500 GiB", "0 bytes". */
char *io_size_text(double bytes);
/* What a request did: @verb "read", "wrote". @terse: for machines. */
void io_report(IoShell *s, const char *verb, int64_t start_ns, int64_t offset, int64_t asked, int64_t done, int ops,
               bool terse);
/* In a daemon, where the answer is one string, the first IO_DUMP_BYTES_MAX. */
void io_dump(IoShell *s, const uint8_t *buf, int64_t offset, int64_t bytes);

/* ---- buffers ---- */

/* NULL: no memory, which is said. */
void *io_alloc(IoShell *s, int64_t bytes, uint8_t pattern);
void io_free(IoShell *s, void *buf);
/* One buffer in as many pieces as words say; NULL: they are wrong, which is said. */
void *io_alloc_vector(IoShell *s, QEMUIOVector *qiov, char **words, int n, uint8_t pattern);

/* ---- tables of commands; each ends with name NULL ---- */
extern const IoCommand io_rw_commands[], io_aio_commands[], io_image_commands[], io_break_commands[],
                       io_reopen_commands[];

#endif

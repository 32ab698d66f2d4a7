/* SPDX-License-Identifier: MIT */
/* ioshell.h: the commands of qemu-io: read, write and look at one image by hand.
 *
 * A shell holds what the commands work on (a BlockBackend, or nothing) and writes what they say to
 * a sink: the streams of a program, or the answer of a control command. Commands are one line of
 * words, split at blanks.
 *
 * Runs on:  the main thread, commands in a coroutine. Reads and writes of a backend in another
 *           context are fine.
 * Suspends: what has _co_ in its name.
 * Fails:    a command that fails has said why to the sink.
 * Tests:    tests/interop/compat/io.lines, tests/unit/ioshell_commands.c
 */
#ifndef LIVEBLK_IOSHELL_H
#define LIVEBLK_IOSHELL_H

#include "base/osdep.h"
#include "block/block-backend.h"

typedef struct IoShell IoShell;
typedef struct IoCommand IoCommand;

/* Told what is printed; @error: to the stream for errors. Main thread. */
typedef void IoShellPrint(void *opaque, bool error, const char *text);

typedef struct IoShellConfig {
    IoShellPrint *print;
    void *opaque;               /* of print; ioshell_opaque() */
    const char *program;        /* in front of errors, "qemu-io: "; NULL: none */
    const IoCommand *more;      /* commands besides those of ioshell.c; ends with name NULL; NULL: none */
    bool in_daemon;             /* no command may end or stop the process */
} IoShellConfig;

IoShell *ioshell_new(const IoShellConfig *config);
/* Waits for requests in flight, and forgets the backend. */
void coroutine_fn ioshell_co_free(IoShell *s);
void *ioshell_opaque(IoShell *s);

/* What commands work on; NULL: nothing. The shell takes over a reference, and drops the one it has
 * (for which it waits for requests in flight). */
void coroutine_fn ioshell_co_set_backend(IoShell *s, BlockBackend *blk);
BlockBackend *ioshell_backend(IoShell *s);
/* Each write is durable when it is done. */
void ioshell_set_writethrough(IoShell *s, bool on);
/* Buffers lie off their alignment: for hosts that want it. */
void ioshell_set_misalign(IoShell *s, bool on);

/* Requests of aio_read and aio_write that are not done yet, and waiting for them. */
unsigned ioshell_in_flight(IoShell *s);
void coroutine_fn ioshell_co_wait_idle(IoShell *s);
/* Commands that wait, for a time or a breakpoint, give up, and requests that stand at one go on: now and in
 * future. For the end of a program. */
void ioshell_give_up(IoShell *s);
/* Run one line. 0, also for an empty one, or -errno. */
int coroutine_fn ioshell_co_run(IoShell *s, const char *line);

/* ---- for those who add commands ---- */

struct IoCommand {
    const char *name, *alias;           /* alias NULL: none */
    int coroutine_fn (*run)(IoShell *s, const IoCommand *cmd, int argc, char **argv);
    int args_min, args_max;             /* words behind the name, options counted; max -1: any number */
    bool no_file;                       /* works without one open */
    uint64_t perm;                      /* what it needs of the image, BLK_PERM_* */
    const char *args, *oneline;         /* args NULL: none */
    const char *help;                   /* NULL: the line says it all */
};

void ioshell_print(IoShell *s, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
void ioshell_eprint(IoShell *s, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
/* "PROGRAM: message" to the stream for errors. */
void ioshell_error(IoShell *s, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
/* The same with its hint; frees @err. @context in front; NULL: none. */
void ioshell_error_err(IoShell *s, const char *context, Error *err);
/* The command's one line, as after wrong usage; returns -EINVAL. */
int ioshell_usage(IoShell *s, const IoCommand *cmd);

/* Options as getopt(3) has them, anywhere among the words. Operands follow each other from
 * argv[at] on when ioshell_next_option() has returned -1. */
typedef struct IoOptions {
    int at;                     /* first operand; 0 before the first call */
    const char *word;           /* rest of the word in hand */
    const char *arg;            /* of the option returned */
    GPtrArray *operands;
} IoOptions;
/* The letter; -1: no more; '?': a wrong one, which is said. @letters: "abP:". */
int ioshell_next_option(IoShell *s, IoOptions *o, int argc, char **argv, const char *letters);

#endif

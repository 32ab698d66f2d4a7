/* SPDX-License-Identifier: MIT */
/* watch.h: what commands that work on images have in common while they work: progress, and control-C. */
#ifndef LIVEBLK_CLI_WATCH_H
#define LIVEBLK_CLI_WATCH_H

#include "cli/cli.h"
#include "ops/ops.h"

/* Progress beside an operation: in the main thread, between cli_engine_start() and _stop(). */
typedef struct CliWatch {
    CliProgress *shown;
    OpsProgress progress;       /* for the operation to fill */
    QemuCoSleep sleep;
    bool stop, stopped;
} CliWatch;

void cli_watch_begin(CliWatch *w, CliArgs *a, const char *what);
void cli_watch_end(CliWatch *w);

/* From here on signals that end the program remove what is half made. */
void cli_clean_when_interrupted(void);

/* What making @c would do, for --dry-run; refused where the deed would be, as far as that shows without
 * doing it. Returns an exit code. */
int cli_say_plan(CliArgs *a, const OpsCreate *c, bool convert);

/* Argument @i as an image to be opened, with --format, --image-opts and --force-share. */
OpsSource cli_source(CliArgs *a, int i);

#endif

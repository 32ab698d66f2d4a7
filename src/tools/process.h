/* SPDX-License-Identifier: MIT */
/* process.h: what long-running programs on the engine share: signals, going to the background,
 * the file with the process number, the main loop and an orderly end. Main thread.
 *
 * Order of calls: process_daemonize (before any thread), process_start, ... the program's own
 * setting up ..., process_run.
 */
#ifndef LIVEBLK_TOOLS_PROCESS_H
#define LIVEBLK_TOOLS_PROCESS_H

#include "block/error.h"

/* Go on in a child; the parent waits until process_run() in the child, and tells its result.
 * Ends the program where that cannot be done. */
void process_daemonize(void);
/* The engine and its signals: SIGTERM, SIGINT and SIGHUP end process_run(). */
void process_start(void);
/* Write @pid_file (NULL: none; removed at the end), let the parent of process_daemonize() go, serve
 * until told to quit, then process_end(). The exit code. */
int process_run(const char *pid_file);
/* What process_end() is to do first, while everything still runs: @fn may run the loop. */
void process_before_end(void (*fn)(void));
/* End exports, jobs and nodes, in this order, and tell control clients; in bounded time: if storage does not answer any
 * more the program ends here, with a failure. process_run() does it; itself for a program that cannot start. */
void process_end(void);

#endif

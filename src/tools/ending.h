/* SPDX-License-Identifier: MIT */
/* ending.h: ending exports, jobs and nodes in bounded time. */
#ifndef LIVEBLK_TOOLS_ENDING_H
#define LIVEBLK_TOOLS_ENDING_H

#include "base/osdep.h"

/* End all exports, jobs and nodes, in this order. False: some requests do not end, and were given up; their nodes
 * are still there, and the program should go without touching them. Where not even that is possible the
 * program ends in here, with a failure, after last_words(). Main thread, outside of coroutines. */
bool ending_run(void (*last_words)(void));

#endif

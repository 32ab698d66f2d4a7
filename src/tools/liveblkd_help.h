/* SPDX-License-Identifier: MIT */
/* liveblkd_help.h: the options of liveblkd, described once: for --help and for its manual page.
 * To standard output; any thread. */
#ifndef LIVEBLK_LIVEBLKD_HELP_H
#define LIVEBLK_LIVEBLKD_HELP_H

void liveblkd_help(const char *prog);
/* troff */
void liveblkd_manual(void);

#endif

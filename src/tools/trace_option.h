/* SPDX-License-Identifier: MIT */
/* trace_option.h: the option --trace of all programs. Main thread, before the engine starts. */
#ifndef LIVEBLK_TOOLS_TRACE_OPTION_H
#define LIVEBLK_TOOLS_TRACE_OPTION_H

#include "block/error.h"

#define TRACE_OPTION_FORM "[[enable=]<pattern>][,events=<file>][,file=<file>]"

/* Do what @arg says: enable modules by pattern, or those that a file lists, a pattern a line; write to a file
 * instead of standard error. "help" lists the modules and ends the program. 0 or -errno. */
int trace_option(const char *arg, Error **errp);

#endif

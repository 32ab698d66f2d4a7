/* SPDX-License-Identifier: MIT */
/* lines.h: lines of standard input, while requests in flight go on. Main thread, outside coroutines. */
#ifndef LIVEBLK_TOOLS_LINES_H
#define LIVEBLK_TOOLS_LINES_H

#include "base/osdep.h"

typedef struct InputLines InputLines;

InputLines *input_lines_new(void);
void input_lines_free(InputLines *in);
/* The next line without its end, for the caller to free; waits for it. NULL: there is none any more. */
char *input_lines_next(InputLines *in);

#endif

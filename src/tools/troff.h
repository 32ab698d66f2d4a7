/* SPDX-License-Identifier: MIT */
/* troff.h: print the source of manual pages. To standard output; any thread. */
#ifndef LIVEBLK_TOOLS_TROFF_H
#define LIVEBLK_TOOLS_TROFF_H

/* Title and the section NAME. */
void troff_begin(const char *page, const char *summary);
/* A paragraph's text, in lines of reasonable length. */
void troff_text(const char *text);
/* Lines to be kept as they are, bold: what a .TP before explains. */
void troff_heading(const char *lines);
/* Lines between .nf and .fi. */
void troff_verbatim(const char *lines);

#endif

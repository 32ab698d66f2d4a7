/* SPDX-License-Identifier: MIT */
/* specific.h: what an image says about itself beyond what all do, as lines for people. Any thread. */
#ifndef LIVEBLK_IOSHELL_SPECIFIC_H
#define LIVEBLK_IOSHELL_SPECIFIC_H

#include "block/block.h"

/* "Format specific information:" and its lines, @indent blanks before each; "" if there is nothing. The
 * caller frees. */
char *image_specific_text(const ImageInfoSpecific *info, int indent);

#endif

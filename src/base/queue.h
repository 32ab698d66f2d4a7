/* SPDX-License-Identifier: MIT */
/* queue.h: intrusive lists for the engine's own sources: see block/queue.h. */
#ifndef LIVEBLK_BASE_QUEUE_H
#define LIVEBLK_BASE_QUEUE_H

#include "block/queue.h"

#endif

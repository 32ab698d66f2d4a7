/* SPDX-License-Identifier: MIT */
/* probe.h: guess the format of an image from its first bytes. */
#ifndef LIVEBLK_GRAPH_PROBE_H
#define LIVEBLK_GRAPH_PROBE_H

#include "block/block.h"

/* The surest driver for these bytes; raw when nobody else is sure. Any thread. */
const BlockDriver *graph_probe_buffer(const uint8_t *buf, size_t len, const char *filename);
/* The same for an open node. NULL and *errp when it cannot be read. Main thread. */
const BlockDriver *coroutine_fn graph_co_probe(BlockDriverState *bs, Error **errp);

#endif

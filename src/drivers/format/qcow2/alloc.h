/* SPDX-License-Identifier: MIT */
/* alloc.h: between alloc.c (free clusters) and refcount.c (what counts them). */
#ifndef LIVEBLK_DRIVERS_QCOW2_ALLOC_H
#define LIVEBLK_DRIVERS_QCOW2_ALLOC_H

#include "drivers/format/qcow2/qcow2.h"

/* All but the last with `lock` held. */

/* Set the refcounts [i, +n) of the pinned block @rb. */
void refcount_set_run(Qcow2State *s, Qcow2Table *rb, uint64_t i, uint64_t n, uint64_t value);
/* Enter a block into the table. */
void reftable_set(Qcow2State *s, uint64_t r, uint64_t place);
/* A new, empty block @r at @cluster, pinned, entered. Who counts @cluster is the caller's. */
Qcow2Table *refcount_block_new(BlockDriverState *bs, uint64_t r, uint64_t cluster);
/* alloc_lock held: move the refcount table to a larger place. */
int coroutine_fn reftable_co_grow(BlockDriverState *bs);

#endif

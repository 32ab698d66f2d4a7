/* SPDX-License-Identifier: MIT */
/* amend.h: changing what an image is, for amend*.c only.
 *
 *   amend.c         which options there are, and in which order they are done
 *   amend_refs.c    another width of refcounts: a whole new structure, then one write of the header
 *   amend_version.c version 2 <-> 3
 *
 * CRASH. Each change ends with one write of the header's first sector, before which the image is as it was,
 * but for leaks and for entries that say the same in another way; what was for the old state only is given
 * back after it. Several changes in one call come one after the other, each complete.
 *
 * Context: main thread, a coroutine, the node drained.
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_AMEND_H
#define LIVEBLK_DRIVERS_QCOW2_AMEND_H

#include "drivers/format/qcow2/snapshot.h"

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, const BdrvAmendOptions *o, Error **errp);
/* Refcounts of 1 << @order bits. */
int coroutine_fn qcow2_co_amend_refcounts(BlockDriverState *bs, unsigned order, Error **errp);
int coroutine_fn qcow2_co_upgrade(BlockDriverState *bs, Error **errp);
int coroutine_fn qcow2_co_downgrade(BlockDriverState *bs, Error **errp);
/* Write the header from the state, durably; on failure no more is written to the image. */
int coroutine_fn qcow2_co_amend_header(BlockDriverState *bs, Error **errp);

#endif

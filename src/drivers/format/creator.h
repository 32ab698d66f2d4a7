/* SPDX-License-Identifier: MIT */
/* creator.h: what the creation of images has in common: the node that is written to, and a parent for it.
 * Main thread; both suspend. */
#ifndef LIVEBLK_DRIVERS_FORMAT_CREATOR_H
#define LIVEBLK_DRIVERS_FORMAT_CREATOR_H

#include "block/block_int-common.h"

/* The node that @ref means, for writing: a new reference, or NULL and *errp. */
BlockDriverState *coroutine_fn creator_co_open(const BlockdevRef *ref, Error **errp);
/* Take the permissions that writing an image needs. Takes over the reference to @bs, also if it fails (NULL and
 * *errp); bdrv_root_unref_child() gives it back. */
BdrvChild *creator_attach(BlockDriverState *bs, Error **errp);

#endif

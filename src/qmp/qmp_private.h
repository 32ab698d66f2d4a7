/* SPDX-License-Identifier: MIT */
/* qmp_private.h: between the files of the control protocol. */
#ifndef LIVEBLK_QMP_PRIVATE_H
#define LIVEBLK_QMP_PRIVATE_H

#include "block/block.h"

/* A job works on @bs (@targets: or writes to it): set *errp, true. */
bool qmp_node_is_busy(BlockDriverState *bs, bool targets, Error **errp);

/* What @bs is, and unless @flat what lies below it; the caller frees. Control lock held. */
ImageInfo *coroutine_fn qmp_image_info(BlockDriverState *bs, bool flat);

/* Of one snapshot, and of all that the format of @bs itself keeps (NULL: none); the caller frees. */
SnapshotInfo *qmp_snapshot_info(const QEMUSnapshotInfo *sn);
SnapshotInfoList *qmp_snapshot_infos(BlockDriverState *bs);

/* Start the NBD server as the options say. 0 or -errno. */
int nbd_server_start_options(NbdServerOptions *arg, Error **errp);

#endif

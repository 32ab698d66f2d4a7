/* SPDX-License-Identifier: MIT */
/* drivers.h: the tables of all drivers, for the one list in drivers.c. */
#ifndef LIVEBLK_DRIVERS_DRIVERS_H
#define LIVEBLK_DRIVERS_DRIVERS_H

#include "block/block_int-common.h"

extern const BlockDriver bdrv_file, bdrv_host_device, bdrv_null_co, bdrv_null_aio, bdrv_nbd;
extern const BlockDriver bdrv_raw, bdrv_qcow2, bdrv_luks;
extern const BlockDriver bdrv_blkdebug, bdrv_blkverify, bdrv_compress, bdrv_copy_on_read, bdrv_preallocate, bdrv_quorum, bdrv_throttle;

/* Told when a request is suspended at a breakpoint, and when it is resumed: @what "Suspended" or "Resuming".
 * Any thread; NULL, as it is at first: nobody. GS, before requests run. */
typedef void BlkdebugReport(const char *what, const char *tag);
void blkdebug_set_report(BlkdebugReport *fn);

/* Internal: of jobs. */
extern const BlockDriver bdrv_commit_top;

#endif

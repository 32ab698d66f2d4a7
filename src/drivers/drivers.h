/* SPDX-License-Identifier: MIT */
/* drivers.h: the tables of all drivers, for the one list in drivers.c. */
#ifndef LIVEBLK_DRIVERS_DRIVERS_H
#define LIVEBLK_DRIVERS_DRIVERS_H

#include "block/block_int-common.h"

extern const BlockDriver bdrv_file, bdrv_host_device, bdrv_null_co, bdrv_null_aio, bdrv_nbd;
extern const BlockDriver bdrv_raw, bdrv_qcow2;
/* Internal: of jobs. */
extern const BlockDriver bdrv_commit_top;

#endif

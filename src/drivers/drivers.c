/* SPDX-License-Identifier: MIT */
/* drivers.c: the one list of drivers. The order is the order of bdrv_next_driver();
 * probing asks every driver and does not depend on it. */
#include "base/osdep.h"
#include "block/block.h"
#include "drivers/drivers.h"

static const BlockDriver *const drivers[] = {
    &bdrv_file, &bdrv_host_device, &bdrv_null_co, &bdrv_null_aio, &bdrv_nbd,
    &bdrv_blkdebug, &bdrv_blkverify, &bdrv_compress, &bdrv_copy_on_read, &bdrv_preallocate, &bdrv_quorum, &bdrv_throttle, &bdrv_raw, &bdrv_qcow2, &bdrv_luks,
};

void bdrv_init(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        bdrv_register(drivers[i]);
    }
}

/* SPDX-License-Identifier: MIT */
/* driver.c: the register of drivers. Filled by bdrv_init(), then constant. */
#include "base/osdep.h"
#include "block/block.h"

#define DRIVERS_MAX 64

static const BlockDriver *drivers[DRIVERS_MAX + 1];

void bdrv_register(const BlockDriver *drv)
{
    int i = 0;

    while (drivers[i]) {
        if (drivers[i++] == drv) {
            return;
        }
    }
    g_assert(i < DRIVERS_MAX);
    drivers[i] = drv;
}

const BlockDriver *bdrv_find_format(const char *format_name)
{
    for (int i = 0; drivers[i]; i++) {
        if (!strcmp(drivers[i]->format_name, format_name)) {
            return drivers[i];
        }
    }
    return NULL;
}

const BlockDriver *bdrv_next_driver(const BlockDriver *drv)
{
    int i = 0;

    while (drv && drivers[i] && drivers[i] != drv) {
        i++;
    }
    g_assert(!drv || drivers[i]);
    return drv ? drivers[i + 1] : drivers[0];
}

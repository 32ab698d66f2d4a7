/* SPDX-License-Identifier: MIT */
/* nbd_device.h: a disk of the kernel (/dev/nbdN) that shows an NBD export on a unix socket.
 *
 * By the ioctls of <linux/nbd.h>, not by netlink: what they set up lives as long as the program that did it, so a
 * killed server leaves no disk behind whose requests wait for ever, and no other library is needed.
 *
 * THREADS. `serve` meets the server (which may be the program's own, so the loop has to run meanwhile), gives the
 * socket to the kernel and stays in NBD_DO_IT until the disk is disconnected. `watch` waits until the disk is there, has
 * its partitions looked for, and tells the main thread. `part` disconnects.
 *
 * All functions: main thread, outside coroutines, unless said otherwise.
 */
#ifndef LIVEBLK_TOOLS_NBD_DEVICE_H
#define LIVEBLK_TOOLS_NBD_DEVICE_H

#include "block/error.h"

typedef struct NbdDevice NbdDevice;

/* Have @device show the export @name of the server on the unix socket @path. Runs the loop until the disk and its
 * partitions are there. When it is disconnected later, by whomever, @ended(@opaque) is called in the main thread.
 * NULL and *errp on failure. */
NbdDevice *nbd_device_connect(const char *device, const char *path, const char *name, void (*ended)(void *), void *opaque,
                              Error **errp);
/* Write what the kernel has cached and disconnect, if it has not been; @ended is not called any more. Runs the loop, for a
 * bounded time. */
void nbd_device_disconnect(NbdDevice *d);
/* Let the device go: until then nbd_device_detach() in another process waits. NULL is fine. */
void nbd_device_free(NbdDevice *d);

/* Write what the kernel has cached of @device, disconnect it, whoever serves it, and wait (for a bounded time) until its
 * server has let it go. 0, or -errno and *errp. Blocks, in any thread. */
int nbd_device_detach(const char *device, Error **errp);

#endif

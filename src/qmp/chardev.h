/* SPDX-License-Identifier: MIT */
/* chardev.h: where control clients come from: standard input and output, unix and TCP
 * sockets. Main thread. */
#ifndef LIVEBLK_QMP_CHARDEV_H
#define LIVEBLK_QMP_CHARDEV_H

#include "block/error.h"

/* "socket,id=ID,path=PATH,server=on,wait=off", "socket,id=ID,host=H,port=P,...",
 * "stdio,id=ID", "socket,id=ID,fd=N,server=on". */
int chardev_add(const char *options, Error **errp);
/* Serve the control protocol on chardev @id: from now on. */
int chardev_start_monitor(const char *id, bool pretty, Error **errp);
/* Send what is left, close everything. */
void chardev_cleanup(void);

#endif

/* SPDX-License-Identifier: MIT */
/* nbd.h: inside qemu-nbd. */
#ifndef LIVEBLK_TOOLS_COMPAT_NBD_H
#define LIVEBLK_TOOLS_COMPAT_NBD_H

#include "compat/compat.h"

typedef struct NbdWhere {
    const char *socket;         /* path; NULL: TCP */
    const char *host, *port;
} NbdWhere;

/* Print what a server exports. The exit code. */
int nbd_list(const NbdWhere *where);

#endif

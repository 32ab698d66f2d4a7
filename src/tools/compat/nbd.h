/* SPDX-License-Identifier: MIT */
/* nbd.h: inside qemu-nbd. */
#ifndef LIVEBLK_TOOLS_COMPAT_NBD_H
#define LIVEBLK_TOOLS_COMPAT_NBD_H

#include "compat/compat.h"

typedef struct NbdWhere {
    const char *socket;         /* path; NULL: TCP */
    const char *host, *port;
} NbdWhere;

/* Print what a server exports. @tls_creds: id of the credentials, or NULL; @tls_hostname: NULL: the host. The exit code. */
int nbd_list(const NbdWhere *where, const char *tls_creds, const char *tls_hostname);

#endif

/* SPDX-License-Identifier: MIT */
/* nbd_listen.h: the sockets a server listens on. Main thread. */
#ifndef LIVEBLK_EXPORT_NBD_LISTEN_H
#define LIVEBLK_EXPORT_NBD_LISTEN_H

#include "qapi-types.h"

#define NBD_LISTEN_MAX 8        /* addresses of one host name */

typedef struct NbdListener {
    int fds[NBD_LISTEN_MAX], nfds;      /* listening, non-blocking */
    char *unlink_path;                  /* of a unix socket; NULL: none */
    bool keep_alive;                    /* probe idle clients */
} NbdListener;

/* Listen at @addr. 0, or -errno: nothing is open then. */
int nbd_listener_open(NbdListener *l, const SocketAddress *addr, Error **errp);
/* Close the sockets, and remove a unix socket's file. */
void nbd_listener_close(NbdListener *l);

#endif

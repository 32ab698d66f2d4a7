/* SPDX-License-Identifier: MIT */
/* nbd_server.h: how command lines say the server of an NBD node. */
#ifndef LIVEBLK_TOOLS_COMPAT_NBD_SERVER_H
#define LIVEBLK_TOOLS_COMPAT_NBD_SERVER_H

#include "block/qdict.h"

/* Put the server of @d, the options of an NBD node, as the schema has it: "path", or "host" and "port", which came before
 * "server", become one, and scalars in "server" may be strings. Numbers of seconds have no units. 0, or -EINVAL and *errp.
 * Main thread */
int compat_nbd_server(QDict *d, Error **errp);

#endif

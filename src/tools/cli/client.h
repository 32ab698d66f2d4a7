/* SPDX-License-Identifier: MIT */
/* client.h: a client of the control protocol, for commands that speak to a running server.
 *
 * Blocking; one thread; no engine needed. Events that arrive while a reply is waited for are
 * kept, in order, for client_event().
 */
#ifndef LIVEBLK_CLI_CLIENT_H
#define LIVEBLK_CLI_CLIENT_H

#include "cli/cli.h"

typedef struct Client Client;

/* Where servers of this user put their sockets: $XDG_RUNTIME_DIR/liveblk or /tmp/liveblk-UID; made
 * if @make. NULL and *errp: it belongs to somebody else, or cannot be made. The caller frees. */
char *client_runtime_dir(bool make, Error **errp);
/* The server that --control names, or the only one that runs. NULL and *errp. */
Client *client_open(const CliArgs *a, Error **errp);
/* "/path" or "tcp:HOST:PORT"; greeted and ready for commands. */
Client *client_connect(const char *address, Error **errp);
void client_close(Client *c);

/* Send; @args taken over, NULL: none. The reply's "return", or NULL and *errp. */
QDict *client_call(Client *c, const char *command, QDict *args, Error **errp);
/* The same where nothing is returned: 0 or -1. */
int client_do(Client *c, const char *command, QDict *args, Error **errp);
/* The next event, waiting at most @timeout_ms (-1: for ever; 0: what is there); NULL: none, or the
 * connection ended (*errp). */
QDict *client_event(Client *c, int timeout_ms, Error **errp);
/* For poll(): readable when something arrived. */
int client_fd(const Client *c);

#endif

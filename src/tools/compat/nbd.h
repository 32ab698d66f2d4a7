/* SPDX-License-Identifier: MIT */
/* nbd.h: inside qemu-nbd.
 *
 *   nbd.c            serving an image; NBD devices of the kernel
 *   nbd_options.c    the command line
 *   nbd_list.c       --list
 */
#ifndef LIVEBLK_TOOLS_COMPAT_NBD_H
#define LIVEBLK_TOOLS_COMPAT_NBD_H

#include "compat/compat.h"

typedef struct NbdWhere {
    const char *socket;         /* path; NULL: TCP */
    const char *host, *port;
} NbdWhere;

/* What the command line asks for. Strings are lent. */
typedef struct NbdCall {
    CompatOpen open;
    CompatSnapshot loaded;
    NbdWhere where;
    bool list, disconnect, fork, verbose, persistent, host_given, port_given, read_only, snapshot, cache_given, writethrough, depth, image_option;
    uint64_t offset;
    uint32_t shared, handshake_s;
    unsigned passed_fds;                /* listening sockets that a service manager hands over */
    const char *device, *selinux_label;
    const char *export_name, *description, *pid_file, *tls_creds, *tls_authz, *tls_hostname;
    GPtrArray *bitmaps, *objects;       /* objects: made when the process is what it will be */
} NbdCall;

/* Take the command line. False: the program ends, with *status. */
bool nbd_parse(NbdCall *call, int argc, char **argv, int *status);

/* Print what a server exports. @tls_creds: id of the credentials, or NULL; @tls_hostname: NULL: the host. The exit code. */
int nbd_list(const NbdWhere *where, const char *tls_creds, const char *tls_hostname);

#endif

/* SPDX-License-Identifier: MIT */
/* nbd.h: the NBD client, for the files of this folder only.
 *
 *   nbd.c       the driver table: options, requests, limits
 *   link.c      the link to the server: who reads, who waits, losing and restoring it
 *   connect.c   making a connection: the socket, the handshake
 *   tunnel.c    TLS between libnbd and the server
 *   name.c      file names and URIs
 *   library.c   libnbd, loaded when the first node wants it
 *
 * libnbd speaks the protocol. Its handle is a state machine that says what it waits for; we
 * wait for that in the event loop and tell it. Nothing here blocks a loop, but for the time
 * of a send or a receive that the socket can take at once.
 *
 * THE LINK is up or down. A coroutine in the node's home context keeps it (link_co): while
 * up it waits for input and hands it to libnbd; when the connection is lost it makes a new
 * one. Requests may come from any thread: they give their command to libnbd, which
 * sends it at once if the socket has room, and suspend until the reply was read. While the
 * link is down they wait for it: for reconnect-delay seconds from when it was lost, and later
 * each for one attempt to connect. A request that was in flight when the connection was lost
 * is sent again on the next one (all NBD commands can be repeated); nobody sees
 * a half-done one.
 *
 * LOCKS. `lock`, a plain mutex, is over everything in NbdLink from `up` on and held around
 * every call into libnbd on the handle of the link. Completion callbacks come within such calls:
 * they only note the result; the requests are woken when the lock has been released.
 *
 * Hostile servers: libnbd checks what it reads. The size, the flags and the block sizes are
 * checked here, and may not change with a new connection. A handshake has HANDSHAKE_NS.
 */
#ifndef LIVEBLK_DRIVERS_NBD_H
#define LIVEBLK_DRIVERS_NBD_H

#include <pthread.h>
#include "base/osdep.h"
#include "block/block.h"
#include "drivers/protocol/nbd/library.h"
#include "secure/tls.h"

#define NBD_PORT_DEFAULT "10809"
#define NBD_NAME_MAX     4096

/* What a server said about the export. */
typedef struct NbdExportInfo {
    int64_t size_bytes;
    int64_t block_min_bytes, block_max_bytes, block_preferred_bytes;   /* 0: not said */
    bool read_only, can_fua, can_flush, can_trim, can_zero, can_fast_zero, can_status;
} NbdExportInfo;

/* What libnbd has of one connection. */
typedef struct NbdTunnel NbdTunnel;

typedef struct NbdRequest NbdRequest;
struct NbdRequest {
    enum { NBD_READ, NBD_WRITE, NBD_ZERO, NBD_TRIM, NBD_FLUSH, NBD_STATUS } op;
    int64_t offset, bytes;
    void *buf;
    uint32_t flags;             /* LIBNBD_CMD_FLAG_* */
    uint32_t status[2];         /* NBD_STATUS: length and flags of the first extent; 0: none came */
    int ret;
    /* link.c's: */
    struct NbdLink *link;
    Coroutine *co;
    bool given;                 /* to libnbd, and not ended */
    LIST_ENTRY(NbdRequest) link_given;
    STAILQ_ENTRY(NbdRequest) next;
};

typedef struct NbdLink {
    /* Constant after open. */
    const SocketAddress *server;
    const char *export, *context;       /* context: of block status */
    TlsCreds *creds;                    /* NULL: plain text; the node holds them */
    const char *tls_hostname;           /* NULL: the host of `server` */
    int64_t reconnect_delay_ns;
    NbdExportInfo info;

    AioContext *ctx;                    /* where link_co runs; main thread, at rest */
    bool running;                       /* atomic: link_co has not ended */
    bool stop;                          /* atomic: link_co shall end */
    bool closing;                       /* atomic: a connection that is being made is given up */
    unsigned kicks;                     /* atomic; bottom halves on their way */
    QemuCoSleep sleep;                  /* between two attempts; home context */
    int connect_fd;                     /* being connected; -1; home context */

    pthread_mutex_t lock;
    bool up;
    struct nbd_handle *nbd;             /* NULL while down */
    NbdTunnel *tunnel;                  /* with TLS; NULL while down */
    int fd;                             /* its socket; -1 */
    bool writing;                       /* a coroutine waits until the socket has room */
    bool connecting;                    /* an attempt is under way */
    int64_t lost_ns;                    /* when it went down */
    uint64_t attempts;                  /* finished ones */
    CoQueue waiters;                    /* requests that wait for an attempt's end */
    LIST_HEAD(, NbdRequest) given;      /* in flight on `nbd` */
    STAILQ_HEAD(, NbdRequest) done;     /* ended, to be woken */
} NbdLink;

/* ---- link.c ---- */

/* Open the link; @link->server, export, context and reconnect_delay_ns are set. Tries for
 * @open_timeout_ns, or once with 0. Main thread, coroutine. 0 or -errno. */
int coroutine_fn nbd_link_co_open(NbdLink *link, int64_t open_timeout_ns, Error **errp);
/* Say good-bye and free. No request is in flight. Main thread, coroutine. */
void coroutine_fn nbd_link_co_close(NbdLink *link);
/* Leave the home context, enter @ctx; no request is in flight. Main thread. */
void nbd_link_leave(NbdLink *link);
void nbd_link_enter(NbdLink *link, AioContext *ctx);
/* Have @r done; over as many connections as needed. Coroutine, any thread. 0 or -errno. */
int coroutine_fn nbd_link_co_request(NbdLink *link, NbdRequest *r);

/* ---- connect.c ---- */

/* A connection to @link's server, negotiated, by @deadline_ns. Suspends; while it does,
 * link->connect_fd can be cancelled. The current context. NULL and @errp, *retp -errno. */
struct nbd_handle *coroutine_fn nbd_co_connect(NbdLink *link, int64_t deadline_ns, NbdExportInfo *info,
                                               NbdTunnel **tunnelp, int *retp, Error **errp);
/* Close @nbd and what is below it. NULL for either: there is none. Any thread. */
void nbd_connection_close(struct nbd_handle *nbd, NbdTunnel *tunnel);
/* "path", "host:port"; the caller frees. */
char *nbd_address_text(const SocketAddress *a);

/* ---- tunnel.c: any thread, by one at a time; nothing waits ---- */

/* Begin TLS on @fd, a connected socket that does not block and that is the tunnel's from now on, closed on failure, too.
 * @hostname: see tls.h. NULL and *errp on failure. */
NbdTunnel *nbd_tunnel_new(int fd, TlsCreds *creds, const char *hostname, Error **errp);
/* Go on with it. 0: it stands; -EAGAIN: wait for the socket, for writing if *@for_write; other -errno and *errp: no TLS. */
int nbd_tunnel_step(NbdTunnel *t, bool *for_write, Error **errp);
/* It stands: the socket on which libnbd meets the server's greeting, to be closed by who calls. -errno and *errp on failure. */
int nbd_tunnel_start(NbdTunnel *t, Error **errp);
/* libnbd has closed its socket, or never had one: end. NULL: nothing. If the server gave a reason for having ended the
 * connection, it is returned, and lives as long as the program. */
const char *nbd_tunnel_free(NbdTunnel *t);
/* The host that certificates of @server are for, or NULL. */
const char *nbd_tls_hostname(const SocketAddress *server, const char *tls_hostname);

/* ---- name.c ---- */

/* Options of "nbd:...", "nbd://...", "nbd+unix://..." into @options. Any thread. */
int nbd_parse_filename(const char *filename, QDict *options, Error **errp);
/* The name that opens the same export, or "" if there is none; the caller frees. */
char *nbd_make_filename(const SocketAddress *server, const char *export);

#endif

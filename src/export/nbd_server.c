/* SPDX-License-Identifier: MIT */
/* nbd_server.c: listening, connections, exports; see nbd_server.h. Main thread. */
#include "base/osdep.h"
#include "export/nbd_server.h"
#include <glib-unix.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LISTEN_MAX 8

static struct {
    bool running;
    int fds[LISTEN_MAX], nfds;
    char *unlink_path;
    uint32_t max_connections, handshake_max_s;
    unsigned connections;
    LIST_HEAD(, NbdConnection) conns;
} server;

static LIST_HEAD(, NbdExport) nbd_exports = LIST_HEAD_INITIALIZER(nbd_exports);

NbdExport *nbd_exports_first(void)
{
    return LIST_FIRST(&nbd_exports);
}

NbdExport *nbd_exports_find(const char *name)
{
    NbdExport *exp;

    LIST_FOREACH(exp, &nbd_exports, link) {
        if (!strcmp(exp->name, name)) {
            return exp;
        }
    }
    return NULL;
}

BlockExport *nbd_export_find(const char *name)
{
    NbdExport *exp = nbd_exports_find(name);

    return exp ? &exp->common : NULL;
}

/* ---- connections ---- */

static void accept_update(void);

static void coroutine_fn connection_co(void *opaque)
{
    NbdConnection *c = opaque;
    int ret = nbd_co_negotiate(c);

    timer_del(&c->handshake_timer);
    if (ret > 0 && !__atomic_load_n(&c->closing, __ATOMIC_ACQUIRE)) {
        AioContext *ctx = c->exp->common.ctx;

        if (ctx != qemu_get_aio_context()) {
            aio_co_fd_cancel(c->fd);
            aio_co_reschedule_self(ctx);
        }
        nbd_co_transmit(c);
        aio_co_fd_cancel(c->fd);
        aio_co_reschedule_self(qemu_get_aio_context());
    } else {
        aio_co_fd_cancel(c->fd);
    }
    LIST_REMOVE(c, link);
    close(c->fd);
    server.connections--;
    accept_update();
    if (c->exp) {
        c->exp->connections--;
        blk_exp_unref(&c->exp->common);
    }
    g_free(c->contexts_name);
    g_free(c->rbuf);
    g_free(c);
    aio_wait_kick();
}

static void handshake_timeout(void *opaque)
{
    NbdConnection *c = opaque;

    shutdown(c->fd, SHUT_RDWR);
}

static void connection_new(int fd)
{
    NbdConnection *c = g_new0(NbdConnection, 1);
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));   /* refused by unix sockets: fine */
    c->fd = fd;
    STAILQ_INIT(&c->out);
    STAILQ_INIT(&c->free_small);
    STAILQ_INIT(&c->free_large);
    timer_init_ns(&c->handshake_timer, qemu_get_aio_context(), handshake_timeout, c);
    if (server.handshake_max_s) {
        timer_mod_ns(&c->handshake_timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                     server.handshake_max_s * NANOSECONDS_PER_SECOND);
    }
    LIST_INSERT_HEAD(&server.conns, c, link);
    server.connections++;
    c->reader = qemu_coroutine_create(connection_co, c);
    qemu_coroutine_enter(c->reader);
}

static void server_accept(void *opaque)
{
    int fd = accept4(GPOINTER_TO_INT(opaque), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        connection_new(fd);
        accept_update();
    }
}

/* Listen while more clients may come. */
static void accept_update(void)
{
    bool more = server.running && (!server.max_connections || server.connections < server.max_connections);

    for (int i = 0; i < server.nfds; i++) {
        aio_set_fd_handler(qemu_get_aio_context(), server.fds[i], more ? server_accept : NULL, NULL,
                           GINT_TO_POINTER(server.fds[i]));
    }
}

/* ---- listening ---- */

static int listen_unix(const char *path, Error **errp)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(un.sun_path)) {
        error_setg(errp, "UNIX socket path '%s' is too long", path);
        error_append_hint(errp, "Path must be less than %zu bytes\n", sizeof(un.sun_path));
        return -EINVAL;
    }
    g_strlcpy(un.sun_path, path, sizeof(un.sun_path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(path);               /* a socket left over by one that was killed */
    if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        int err = errno;

        error_setg_errno(errp, err, "Failed to bind socket to %s", path);
        close(fd);
        return -err;
    }
    server.unlink_path = g_strdup(path);
    server.fds[server.nfds++] = fd;
    return 0;
}

static int listen_inet(const InetSocketAddress *a, Error **errp)
{
    struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *list;
    int ret, err = EADDRNOTAVAIL, one = 1;

    if (a->has_ipv4 || a->has_ipv6) {
        bool v4 = a->has_ipv4 ? a->ipv4 : !(a->has_ipv6 && a->ipv6), v6 = a->has_ipv6 ? a->ipv6 : !v4;

        hints.ai_family = v4 && v6 ? AF_UNSPEC : v4 ? AF_INET : AF_INET6;
    }
    ret = getaddrinfo(*a->host ? a->host : NULL, a->port, &hints, &list);
    if (ret) {
        error_setg(errp, "address resolution failed for %s:%s: %s", a->host, a->port, gai_strerror(ret));
        return -EINVAL;
    }
    for (struct addrinfo *ai = list; ai && server.nfds < LISTEN_MAX; ai = ai->ai_next) {
        int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0) {
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (ai->ai_family == AF_INET6) {
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
        }
        if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
            err = errno;
            close(fd);
            continue;
        }
        server.fds[server.nfds++] = fd;
    }
    freeaddrinfo(list);
    if (!server.nfds) {
        error_setg_errno(errp, err, "Failed to find an available port");
        return -err;
    }
    return 0;
}

static int listen_fd(const char *str, Error **errp)
{
    char *end;
    long fd = strtol(str, &end, 10);
    int is_listening;
    socklen_t len = sizeof(is_listening);

    if (*end || fd < 3 || fd > INT_MAX ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) < 0 || !is_listening) {
        error_setg(errp, "File descriptor '%s' is not a listening socket", str);
        return -EINVAL;
    }
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    server.fds[server.nfds++] = fd;
    return 0;
}

bool nbd_server_is_running(void)
{
    return server.running;
}

static void listeners_close(void)
{
    for (int i = 0; i < server.nfds; i++) {
        aio_set_fd_handler(qemu_get_aio_context(), server.fds[i], NULL, NULL, NULL);
        close(server.fds[i]);
    }
    server.nfds = 0;
    if (server.unlink_path) {
        unlink(server.unlink_path);
        g_free(server.unlink_path);
        server.unlink_path = NULL;
    }
}

int nbd_server_start(SocketAddress *addr, uint32_t handshake_max_s, uint32_t max_connections, Error **errp)
{
    int ret = -EINVAL;

    if (server.running) {
        error_setg(errp, "NBD server already running");
        return -EBUSY;
    }
    server.max_connections = max_connections;
    server.handshake_max_s = handshake_max_s;
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_UNIX:
        ret = listen_unix(addr->u.q_unix.path, errp);
        break;
    case SOCKET_ADDRESS_TYPE_INET:
        ret = listen_inet(&addr->u.inet, errp);
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        ret = listen_fd(addr->u.fd.str, errp);
        break;
    default:
        break;
    }
    for (int i = 0; ret == 0 && i < server.nfds; i++) {
        if (listen(server.fds[i], 128) < 0) {
            ret = -errno;
            error_setg_errno(errp, -ret, "Failed to listen on socket");
        }
    }
    if (ret < 0) {
        listeners_close();
        return ret;
    }
    server.running = true;
    accept_update();
    return 0;
}

static bool any_connection(void *opaque)
{
    return server.connections > 0;
}

void nbd_server_stop(void)
{
    NbdConnection *c;

    if (!server.running) {
        return;
    }
    server.running = false;
    accept_update();
    blk_exp_close_all_type(BLOCK_EXPORT_TYPE_NBD);
    LIST_FOREACH(c, &server.conns, link) {
        shutdown(c->fd, SHUT_RDWR);     /* those still shaking hands */
    }
    aio_wait_while(any_connection, NULL);
    listeners_close();
}

/* ---- the export driver ---- */

static int nbd_exp_create(BlockExport *common, BlockExportOptions *opts, Error **errp)
{
    NbdExport *exp = container_of(common, NbdExport, common);
    const BlockExportOptionsNbd *o = &opts->u.nbd;
    const char *name = o->name ? o->name : opts->node_name;

    if (!server.running) {
        error_setg(errp, "NBD server not running");
        return -EINVAL;
    }
    if (strlen(name) > NBD_MAX_STRING) {
        error_setg(errp, "export name '%s' too long", name);
        return -EINVAL;
    }
    if (o->description && strlen(o->description) > NBD_MAX_STRING) {
        error_setg(errp, "description '%s' too long", o->description);
        return -EINVAL;
    }
    if (o->bitmaps) {
        BlockDirtyBitmapOrStr *b = o->bitmaps->value;

        error_setg(errp, "Bitmap '%s' is not found", b->type == QTYPE_QSTRING ? b->u.local : b->u.external->name);
        return -ENOENT;
    }
    if (nbd_exports_find(name)) {
        error_setg(errp, "NBD server already has export named '%s'", name);
        return -EEXIST;
    }
    exp->name = g_strdup(name);
    exp->description = g_strdup(o->description);
    exp->writable = opts->has_writable && opts->writable;
    exp->writethrough = opts->has_writethrough && opts->writethrough;
    exp->allocation_depth = o->has_allocation_depth && o->allocation_depth;
    LIST_INSERT_HEAD(&nbd_exports, exp, link);
    return 0;
}

static void nbd_exp_request_shutdown(BlockExport *common)
{
    NbdExport *exp = container_of(common, NbdExport, common);
    NbdConnection *c;

    LIST_REMOVE(exp, link);     /* no new clients */
    LIST_FOREACH(c, &server.conns, link) {
        if (c->exp == exp) {
            __atomic_store_n(&c->closing, true, __ATOMIC_RELEASE);
            shutdown(c->fd, SHUT_RDWR);
        }
    }
}

static void nbd_exp_free(BlockExport *common)
{
    NbdExport *exp = container_of(common, NbdExport, common);

    g_free(exp->name);
    g_free(exp->description);
}

static unsigned nbd_exp_users(BlockExport *common)
{
    return container_of(common, NbdExport, common)->connections;
}

const BlockExportDriver blk_exp_nbd = {
    .type = BLOCK_EXPORT_TYPE_NBD,
    .instance_size = sizeof(NbdExport),
    .create = nbd_exp_create,
    .request_shutdown = nbd_exp_request_shutdown,
    .free = nbd_exp_free,
    .users = nbd_exp_users,
};

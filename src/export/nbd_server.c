/* SPDX-License-Identifier: MIT */
/* nbd_server.c: listening, connections, exports; see nbd_server.h. Main thread. */
#include "base/osdep.h"
#include "base/trace.h"
#include "export/nbd_server.h"
#include "export/nbd_listen.h"
#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static struct {
    bool running;
    NbdListener listener;
    uint32_t max_connections, handshake_max_s;
    unsigned connections;
    TlsCreds *tls_creds;                /* NULL: plain text; held */
    SecureObject *tls_authz;            /* NULL: any client; held */
    LIST_HEAD(, NbdConnection) conns;
} server;

static void (*client_gone)(unsigned left);

void nbd_server_on_client_gone(void (*fn)(unsigned left))
{
    client_gone = fn;
}

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

/* How long a client that has hung up may take to go. */
#define LEAVE_TRIES     100
#define LEAVE_NS        (2 * 1000 * 1000)

/* ---- TLS ---- */

bool nbd_server_wants_tls(void)
{
    return server.tls_creds != NULL;
}

int coroutine_fn nbd_co_start_tls(NbdConnection *c)
{
    Error *err = NULL;
    bool for_write = false;
    int ret;

    if (c->rstart != c->rend) {
        /* What came in plain text before the handshake could be anyone's. */
        error_report("nbd: a client is refused: it sent data in plain text behind the request for TLS");
        return -EPROTO;
    }
    c->socket_drained = false;
    c->tls = tls_session_new(server.tls_creds, c->fd, NULL, &err);
    ret = c->tls ? 0 : -EIO;
    while (c->tls && (ret = tls_session_handshake(c->tls, &for_write, &err)) == -EAGAIN) {
        ret = aio_co_wait_fd(c->fd, for_write);
        if (ret < 0) {
            return ret;
        }
    }
    if (ret == 0) {
        ret = tls_session_check(c->tls, server.tls_authz, &err);
    }
    if (ret < 0) {
        error_reportf_err(err, "nbd: a client is refused: ");
    }
    return ret;
}

/* ---- connections ---- */

static void accept_update(void);

static void coroutine_fn connection_co(void *opaque)
{
    NbdConnection *c = opaque;
    int ret = nbd_co_negotiate(c);

    timer_del(&c->handshake_timer);
    TRACE(export, "nbd: client %d %s '%s'", c->fd, ret > 0 ? "uses export" : "is turned away",
          c->exp ? c->exp->common.id : "");
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
    TRACE(export, "nbd: client %d leaves export '%s'", c->fd, c->exp ? c->exp->common.id : "");
    LIST_REMOVE(c, link);
    tls_session_free(c->tls);
    close(c->fd);
    __atomic_fetch_sub(&server.connections, 1, __ATOMIC_RELAXED);
    accept_update();
    if (c->exp && client_gone) {
        client_gone(server.connections);
    }
    if (c->exp) {
        c->exp->connections--;
        blk_exp_unref(&c->exp->common);
    }
    g_free(c->choice.ids);
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
    if (server.listener.keep_alive) {
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
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
    __atomic_fetch_add(&server.connections, 1, __ATOMIC_RELAXED);
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

    for (int i = 0; i < server.listener.nfds; i++) {
        int fd = server.listener.fds[i];

        aio_set_fd_handler(qemu_get_aio_context(), fd, more ? server_accept : NULL, NULL, GINT_TO_POINTER(fd));
    }
}

/* ---- start and stop ---- */

bool nbd_server_takes_several(void)
{
    return server.max_connections != 1;
}

bool nbd_server_is_running(void)
{
    return server.running;
}

static void listener_close(void)
{
    for (int i = 0; i < server.listener.nfds; i++) {
        aio_set_fd_handler(qemu_get_aio_context(), server.listener.fds[i], NULL, NULL, NULL);
    }
    nbd_listener_close(&server.listener);
}

static int take_tls(const NbdServerOptions *options, Error **errp)
{
    TlsCreds *creds = NULL;
    SecureObject *authz = NULL;

    if (options->tls_authz && !options->tls_creds) {
        error_setg(errp, "TLS authorization is only valid with TLS credentials");
        return -EINVAL;
    }
    if (options->tls_creds && !(creds = tls_creds_find(options->tls_creds, true, errp))) {
        return -EINVAL;
    }
    if (options->tls_authz && !(authz = authz_find(options->tls_authz, errp))) {
        return -EINVAL;
    }
    server.tls_creds = creds;
    server.tls_authz = authz;
    return 0;
}

int nbd_server_start(const NbdServerOptions *options, Error **errp)
{
    if (server.running) {
        error_setg(errp, "NBD server already running");
        return -EBUSY;
    }
    int ret = take_tls(options, errp);

    ret = ret < 0 ? ret : nbd_listener_open(&server.listener, options->addr, errp);
    if (ret < 0) {
        server.tls_creds = NULL;
        server.tls_authz = NULL;
        return ret;
    }
    if (server.tls_creds) {
        secure_object_ref(&server.tls_creds->common);
    }
    if (server.tls_authz) {
        secure_object_ref(server.tls_authz);
    }
    server.max_connections = options->max_connections;
    server.handshake_max_s = options->handshake_max_seconds;
    server.running = true;
    accept_update();
    return 0;
}

static bool any_connection(void *opaque)
{
    return server.connections > 0;
}

void nbd_server_unlink(void)
{
    listener_close();
}

unsigned nbd_server_connections(void)
{
    return __atomic_load_n(&server.connections, __ATOMIC_RELAXED);
}

void nbd_server_send_clients_away(void)
{
    NbdConnection *c;

    server.running = false;
    accept_update();
    LIST_FOREACH(c, &server.conns, link) {
        if (!c->exp) {
            shutdown(c->fd, SHUT_RDWR);
        }
    }
}

int nbd_server_stop(Error **errp)
{
    server.running = false;
    accept_update();
    listener_close();

    int ret = blk_exp_close_all_type(BLOCK_EXPORT_TYPE_NBD, errp);

    nbd_server_send_clients_away();
    if (ret == 0) {
        aio_wait_while(any_connection, NULL);
    } else {
        error_prepend(errp, "The NBD server has stopped, but: ");
    }
    /* Connections that do not end keep what they were encrypted with. */
    if (ret == 0) {
        secure_object_unref(server.tls_creds ? &server.tls_creds->common : NULL);
        secure_object_unref(server.tls_authz);
    }
    server.tls_creds = NULL;
    server.tls_authz = NULL;
    return ret;
}

/* ---- the export driver ---- */

static int nbd_exp_create(BlockExport *common, BlockExportOptions *opts, Error **errp)
{
    NbdExport *exp = container_of(common, NbdExport, common);
    const BlockExportOptionsNbd *o = &opts->u.nbd;
    const char *name = o->name ? o->name : opts->node_name;
    static uint64_t serial;

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
    if (nbd_exports_find(name)) {
        error_setg(errp, "NBD server already has export named '%s'", name);
        return -EEXIST;
    }
    exp->writable = opts->has_writable && opts->writable;
    int ret = nbd_offer_init(&exp->offer, blk_bs(common->blk), exp->writable, o->has_allocation_depth && o->allocation_depth,
                             o->bitmaps, errp);

    if (ret < 0) {
        return ret;
    }
    exp->serial = ++serial;
    exp->name = g_strdup(name);
    exp->description = g_strdup(o->description);
    exp->writethrough = opts->has_writethrough && opts->writethrough;
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

    nbd_offer_clear(&exp->offer);
    g_free(exp->name);
    g_free(exp->description);
}

/* Has a client of @exp hung up, of which its connection has not heard yet? */
static bool client_leaves(NbdExport *exp)
{
    NbdConnection *c;

    LIST_FOREACH(c, &server.conns, link) {
        struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

        if (c->exp == exp && poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP))) {
            return true;
        }
    }
    return false;
}

/* Who has hung up before the question is no user any more: its connection gets the time to end. */
static unsigned nbd_exp_users(BlockExport *common)
{
    NbdExport *exp = container_of(common, NbdExport, common);
    unsigned users;

    blk_exp_ref(common);
    for (int n = 0; n < LEAVE_TRIES && qemu_in_coroutine() && client_leaves(exp); n++) {
        co_sleep_ns(LEAVE_NS);
    }
    users = exp->connections;
    blk_exp_unref(common);
    return users;
}

const BlockExportDriver blk_exp_nbd = {
    .type = BLOCK_EXPORT_TYPE_NBD,
    .instance_size = sizeof(NbdExport),
    .create = nbd_exp_create,
    .request_shutdown = nbd_exp_request_shutdown,
    .free = nbd_exp_free,
    .users = nbd_exp_users,
};

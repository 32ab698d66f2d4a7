/* SPDX-License-Identifier: MIT */
/* connect.c: a connection to an NBD server: name, socket, handshake; see nbd.h.
 *
 * Runs in the current context, as a coroutine that waits in the event loop. Looking up a
 * host's name may take long and is done by a worker thread.
 */
#include "drivers/protocol/nbd/nbd.h"
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

/* How long to wait before asking a unix server again whose queue is full. */
#define BUSY_NS (10 * 1000 * 1000)

char *nbd_address_text(const SocketAddress *a)
{
    switch (a->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return g_strdup_printf("%s:%s", a->u.inet.host, a->u.inet.port);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return g_strdup(a->u.q_unix.path);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return g_strdup_printf("%s:%s", a->u.vsock.cid, a->u.vsock.port);
    default:
        return g_strdup_printf("fd:%s", a->u.fd.str);
    }
}

/* ---- waiting, with an end ---- */

typedef struct Deadline {
    QEMUTimer timer;
    NbdLink *link;
    bool passed;
} Deadline;

static void deadline_cb(void *opaque)
{
    Deadline *d = opaque;

    d->passed = true;
    if (d->link->connect_fd >= 0) {
        aio_co_fd_cancel(d->link->connect_fd);
    }
}

static int coroutine_fn co_wait(Deadline *d, int fd, bool for_write)
{
    NbdLink *link = d->link;

    for (;;) {
        if (d->passed) {
            return -ETIMEDOUT;
        }
        if (__atomic_load_n(&link->closing, __ATOMIC_SEQ_CST)) {
            return -ECANCELED;
        }
        link->connect_fd = fd;
        int ret = aio_co_wait_fd(fd, for_write);

        link->connect_fd = -1;
        if (ret != -ECANCELED) {
            return ret;
        }
    }
}

/* ---- sockets ---- */

/* Connect @fd; it is closed on failure. */
static int coroutine_fn co_connect_fd(Deadline *d, int fd, const void *addr, socklen_t len)
{
    int ret;

    if (fd < 0) {
        return -errno;
    }
    while ((ret = connect(fd, addr, len) < 0 ? -errno : 0) == -EAGAIN) {
        co_sleep_ns_wakeable(&d->link->sleep, BUSY_NS);
        if (d->passed || __atomic_load_n(&d->link->closing, __ATOMIC_SEQ_CST)) {
            break;
        }
    }
    if (ret == -EINPROGRESS) {
        socklen_t l = sizeof(ret);

        ret = co_wait(d, fd, true);
        if (ret == 0) {
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &ret, &l);
            ret = -ret;
        }
    }
    if (ret < 0) {
        aio_co_fd_cancel(fd);
        close(fd);
        return ret;
    }
    return fd;
}

static int coroutine_fn co_connect_unix(Deadline *d, const UnixSocketAddress *a, Error **errp)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t len = strlen(a->path), room = sizeof(un.sun_path) - a->abstract;

    if (len > room) {
        error_setg(errp, "UNIX socket path '%s' is too long", a->path);
        error_append_hint(errp, "Path must be less than %zu bytes\n", sizeof(un.sun_path));
        return -ENAMETOOLONG;
    }
    memcpy(un.sun_path + a->abstract, a->path, len);
    socklen_t bytes = !a->abstract ? sizeof(un) : a->tight ? offsetof(struct sockaddr_un, sun_path) + 1 + len
                                                           : sizeof(un);

    return co_connect_fd(d, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), &un, bytes);
}

typedef struct Lookup {
    const InetSocketAddress *a;
    struct addrinfo *list;
} Lookup;

/* Worker. */
static int lookup(void *opaque)
{
    Lookup *l = opaque;
    bool v4 = l->a->has_ipv4 && l->a->ipv4, v6 = l->a->has_ipv6 && l->a->ipv6;
    bool not4 = l->a->has_ipv4 && !l->a->ipv4, not6 = l->a->has_ipv6 && !l->a->ipv6;
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_family = (v4 && !v6) || not6 ? AF_INET : (v6 && !v4) || not4 ? AF_INET6 : AF_UNSPEC,
        .ai_flags = l->a->has_numeric && l->a->numeric ? AI_NUMERICHOST | AI_NUMERICSERV : 0,
    };

    /* A host with addresses of the other kind only is met through IPv6 all the same. */
    hints.ai_flags |= hints.ai_family == AF_INET6 ? AI_V4MAPPED : 0;
    return getaddrinfo(l->a->host, l->a->port, &hints, &l->list);
}

static int coroutine_fn co_connect_inet(Deadline *d, const InetSocketAddress *a, Error **errp)
{
    Lookup l = { .a = a };
    int ret = thread_pool_submit_co(lookup, &l), fd = -ENOENT, one = 1;

    if (ret) {
        error_setg(errp, "address resolution failed for %s:%s: %s", a->host, a->port, gai_strerror(ret));
        return -EINVAL;
    }
    for (struct addrinfo *ai = l.list; ai && fd < 0; ai = ai->ai_next) {
        int proto = ai->ai_protocol;

#ifdef IPPROTO_MPTCP
        proto = a->has_mptcp && a->mptcp ? IPPROTO_MPTCP : proto;
#endif
        fd = co_connect_fd(d, socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, proto),
                           ai->ai_addr, ai->ai_addrlen);
        if (fd == -ETIMEDOUT && d->passed) {
            break;
        }
    }
    freeaddrinfo(l.list);
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (a->has_keep_alive && a->keep_alive) {
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        }
    }
    return fd;
}

static bool parse_u32(const char *what, const char *text, unsigned *value, Error **errp)
{
    guint64 n;

    if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX, &n, NULL)) {
        error_setg(errp, "Failed to parse %s '%s'", what, text);
        return false;
    }
    *value = n;
    return true;
}

static int coroutine_fn co_connect_vsock(Deadline *d, const VsockSocketAddress *a, Error **errp)
{
    struct sockaddr_vm vm = { .svm_family = AF_VSOCK };

    if (!parse_u32("cid", a->cid, &vm.svm_cid, errp) || !parse_u32("port", a->port, &vm.svm_port, errp)) {
        return -EINVAL;
    }
    return co_connect_fd(d, socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), &vm, sizeof(vm));
}

static int inherited_fd(const char *str, Error **errp)
{
    char *end;
    long n = strtol(str, &end, 10);
    int type, fd;
    socklen_t len = sizeof(type);

    if (*end || !*str) {
        error_setg(errp, "Unable to parse FD number %s", str);
        return -EINVAL;
    }
    if (n < 0 || n > INT_MAX || getsockopt(n, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        error_setg(errp, "File descriptor '%s' is not a socket", str);
        return -EINVAL;
    }
    fd = fcntl(n, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        return -errno;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A connected socket or -errno. */
static int coroutine_fn co_connect_socket(Deadline *d, Error **errp)
{
    const SocketAddress *a = d->link->server;
    int fd;
    ERRP_GUARD();

    switch (a->type) {
    case SOCKET_ADDRESS_TYPE_UNIX:
        fd = co_connect_unix(d, &a->u.q_unix, errp);
        break;
    case SOCKET_ADDRESS_TYPE_INET:
        fd = co_connect_inet(d, &a->u.inet, errp);
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        fd = co_connect_vsock(d, &a->u.vsock, errp);
        break;
    default:
        fd = inherited_fd(a->u.fd.str, errp);
        break;
    }
    if (fd < 0 && !*errp) {
        g_autofree char *text = nbd_address_text(a);

        error_setg_errno(errp, -fd, "Failed to connect to '%s'", text);
    }
    return fd;
}

/* ---- the handshake ---- */

/* What libnbd last complained of. */
static int handshake_error(NbdLink *link, Error **errp)
{
    g_autofree char *text = nbd_address_text(link->server);
    const char *why = libnbd.get_error();
    int err = libnbd.get_errno();

    if (err == ENOENT) {
        error_setg(errp, "Requested export not available");
        error_append_hint(errp, "The server at '%s' has no export named '%s'; `nbdinfo --list` shows "
                          "what it has.\n", text, link->export ?: "");
        return -EINVAL;
    }
    if (!link->creds && why && strstr(why, "requires TLS")) {
        error_setg(errp, "TLS negotiation required by the NBD server at '%s'", text);
        error_append_hint(errp, "Did you forget a valid tls-creds?\n");
        return -EACCES;
    }
    if (err == EPIPE || err == ECONNRESET) {
        why = "server disconnected unexpectedly";   /* whether reading or writing finds it out is a matter of luck */
    }
    error_setg(errp, "Failed to negotiate with the NBD server at '%s': %s", text, why ?: "connection closed");
    if (link->creds) {
        error_append_hint(errp, "A server that ends the connection right after TLS has begun may not know this client: see its log.\n");
    }
    return err ? -err : -EINVAL;
}

static int coroutine_fn co_handshake(Deadline *d, struct nbd_handle *nbd, Error **errp)
{
    while (libnbd.aio_is_connecting(nbd) > 0) {
        unsigned direction = libnbd.aio_get_direction(nbd);
        bool for_write = direction & LIBNBD_AIO_DIRECTION_WRITE;
        int ret = co_wait(d, libnbd.aio_get_fd(nbd), for_write);

        if (ret < 0) {
            g_autofree char *text = nbd_address_text(d->link->server);

            error_setg_errno(errp, -ret, "Failed to negotiate with the NBD server at '%s'", text);
            return ret;
        }
        if ((for_write ? libnbd.aio_notify_write(nbd) : libnbd.aio_notify_read(nbd)) < 0) {
            return handshake_error(d->link, errp);
        }
    }
    return libnbd.aio_is_ready(nbd) > 0 ? 0 : handshake_error(d->link, errp);
}

static bool is_power_of_2_in(int64_t n, int64_t min, int64_t max)
{
    return n >= min && n <= max && !(n & (n - 1));
}

/* Ask @nbd for what the server said, and see that it makes sense. */
static int read_info(NbdLink *link, struct nbd_handle *nbd, NbdExportInfo *info, Error **errp)
{
    *info = (NbdExportInfo) {
        .size_bytes = libnbd.get_size(nbd),
        .block_min_bytes = MAX(libnbd.get_block_size(nbd, LIBNBD_SIZE_MINIMUM), 0),
        .block_preferred_bytes = MAX(libnbd.get_block_size(nbd, LIBNBD_SIZE_PREFERRED), 0),
        .block_max_bytes = MAX(libnbd.get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 0),
        .read_only = libnbd.is_read_only(nbd) > 0,
        .can_fua = libnbd.can_fua(nbd) > 0,
        .can_flush = libnbd.can_flush(nbd) > 0,
        .can_trim = libnbd.can_trim(nbd) > 0,
        .can_zero = libnbd.can_zero(nbd) > 0,
        .can_fast_zero = libnbd.can_fast_zero(nbd) > 0,
        .can_status = libnbd.can_meta_context(nbd, link->context) > 0,
    };
    if (info->size_bytes < 0 || info->size_bytes > BDRV_MAX_LENGTH) {
        error_setg(errp, "The NBD server announces a size that no image can have");
        return -EFBIG;
    }
    if (info->block_min_bytes &&
        (!is_power_of_2_in(info->block_min_bytes, 1, 64 * KiB) || info->block_max_bytes < info->block_min_bytes)) {
        error_setg(errp, "The NBD server announces block sizes that make no sense");
        return -EINVAL;
    }
    if (strcmp(link->context, LIBNBD_CONTEXT_BASE_ALLOCATION) && !info->can_status) {
        error_setg(errp, "The NBD export has no context '%s'", link->context);
        error_append_hint(errp, "x-dirty-bitmap names a context in full, as in 'qemu:dirty-bitmap:NAME'.\n");
        return -EINVAL;
    }
    return 0;
}

static struct nbd_handle *new_handle(NbdLink *link, int fd, Error **errp)
{
    struct nbd_handle *nbd = libnbd.create();

    if (nbd && libnbd.set_export_name(nbd, link->export ?: "") == 0 &&
        libnbd.add_meta_context(nbd, link->context) == 0 && libnbd.aio_connect_socket(nbd, fd) == 0) {
        return nbd;
    }
    handshake_error(link, errp);
    close(fd);
    libnbd.close(nbd);
    return NULL;
}

void nbd_connection_close(struct nbd_handle *nbd, NbdTunnel *tunnel)
{
    libnbd.close(nbd);
    nbd_tunnel_free(tunnel);
}

/* Have TLS on @fd, which becomes the tunnel's. The socket for libnbd, or -errno. */
static int coroutine_fn co_start_tls(Deadline *d, int fd, NbdTunnel **tunnelp, Error **errp)
{
    NbdLink *link = d->link;
    NbdTunnel *t = nbd_tunnel_new(fd, link->creds, nbd_tls_hostname(link->server, link->tls_hostname), errp);
    bool for_write = false;
    int ret = t ? 0 : -EINVAL;

    while (t && (ret = nbd_tunnel_step(t, &for_write, errp)) == -EAGAIN) {
        ret = co_wait(d, fd, for_write);
        if (ret < 0) {
            g_autofree char *text = nbd_address_text(link->server);

            error_setg_errno(errp, -ret, "Failed to negotiate TLS with the NBD server at '%s'", text);
            break;
        }
    }
    if (t) {
        aio_co_fd_cancel(fd);           /* the loop forgets it: from here on it is a thread's */
    }
    if (ret == 0) {
        ret = nbd_tunnel_start(t, errp);
    }
    if (ret < 0) {
        nbd_tunnel_free(t);
        return ret;
    }
    *tunnelp = t;
    return ret;
}

struct nbd_handle *coroutine_fn nbd_co_connect(NbdLink *link, int64_t deadline_ns, NbdExportInfo *info,
                                               NbdTunnel **tunnelp, int *retp, Error **errp)
{
    ERRP_GUARD();
    Deadline d = { .link = link };
    struct nbd_handle *nbd = NULL;
    NbdTunnel *tunnel = NULL;
    int fd, ret;

    timer_init_ns(&d.timer, qemu_get_current_aio_context(), deadline_cb, &d);
    timer_mod_ns(&d.timer, deadline_ns);
    fd = ret = co_connect_socket(&d, errp);
    if (fd >= 0 && link->creds) {
        fd = ret = co_start_tls(&d, fd, &tunnel, errp);
    }
    if (fd >= 0) {
        nbd = new_handle(link, fd, errp);
        ret = nbd ? co_handshake(&d, nbd, errp) : -EINVAL;
        ret = ret < 0 ? ret : read_info(link, nbd, info, errp);
    }
    timer_del(&d.timer);
    if (ret < 0 && nbd) {
        aio_co_fd_cancel(fd);
        libnbd.close(nbd);
    }
    if (ret < 0) {
        const char *why = nbd_tunnel_free(tunnel);

        if (why) {
            /* It refuses a client after the handshake: libnbd saw an end only. */
            error_free(*errp);
            *errp = NULL;
            error_setg(errp, "The NBD server has ended the TLS session: %s", why);
        }
    }
    *tunnelp = ret < 0 ? NULL : tunnel;
    *retp = ret < 0 ? ret : 0;
    return ret < 0 ? NULL : nbd;
}

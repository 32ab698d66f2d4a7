/* SPDX-License-Identifier: MIT */
/* nbd_listen.c: the sockets that a server listens on, from an address as the user gives it.
 *
 * Runs on: the main thread. Suspends: never; looking up a host name may take long.
 * Fails:   -errno and an error that names the address; no socket and no file is left then.
 */
#include "base/osdep.h"
#include "export/nbd_listen.h"
#include <glib-unix.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define BACKLOG 128

static int listener_add(NbdListener *l, int fd, const struct sockaddr *sa, socklen_t len)
{
    if (bind(fd, sa, len) < 0 || listen(fd, BACKLOG) < 0) {
        int err = errno;

        close(fd);
        return -err;
    }
    l->fds[l->nfds++] = fd;
    return 0;
}

/* ---- unix ---- */

/* A socket left over by one that was killed goes; what is no socket is somebody's file. */
static void unlink_socket(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        unlink(path);
    }
}

static int listen_unix(NbdListener *l, const UnixSocketAddress *a, Error **errp)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t n = strlen(a->path), max = sizeof(un.sun_path) - a->abstract;
    socklen_t len = sizeof(un);

    if (!n) {
        error_setg(errp, "The path of a UNIX socket must not be empty");
        return -EINVAL;
    }
    if (n > max) {
        error_setg(errp, "UNIX socket path '%s' is too long", a->path);
        error_append_hint(errp, "Path must be less than %zu bytes\n", max);
        return -EINVAL;
    }
    memcpy(un.sun_path + a->abstract, a->path, n);
    if (a->abstract && a->tight) {
        len = offsetof(struct sockaddr_un, sun_path) + 1 + n;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Failed to create Unix socket");
        return -EMFILE;
    }
    if (!a->abstract) {
        unlink_socket(a->path);
    }
    int ret = listener_add(l, fd, (struct sockaddr *)&un, len);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to bind socket to %s", a->path);
    } else if (!a->abstract) {
        l->unlink_path = g_strdup(a->path);
    }
    return ret;
}

/* ---- TCP ---- */

static int inet_family(const InetSocketAddress *a, int *family, Error **errp)
{
    bool v4 = a->has_ipv4 ? a->ipv4 : !(a->has_ipv6 && a->ipv6);
    bool v6 = a->has_ipv6 ? a->ipv6 : !(a->has_ipv4 && a->ipv4);

    if (!v4 && !v6) {
        error_setg(errp, "Cannot disable IPv4 and IPv6 at same time");
        return -EINVAL;
    }
    *family = v4 && v6 ? AF_UNSPEC : v4 ? AF_INET : AF_INET6;
    return 0;
}

static in_port_t *sockaddr_port(struct sockaddr *sa)
{
    return sa->sa_family == AF_INET6 ? &((struct sockaddr_in6 *)sa)->sin6_port
                                     : &((struct sockaddr_in *)sa)->sin_port;
}

/* Listen at one of the addresses of a host, at the first free port from the one it has up to @to. */
static int listen_inet_one(NbdListener *l, const InetSocketAddress *a, const struct addrinfo *ai, unsigned to)
{
    in_port_t *port = sockaddr_port(ai->ai_addr);
    int ret = -EADDRINUSE, one = 1;

    for (unsigned p = ntohs(*port); p <= to && ret == -EADDRINUSE; p++) {
        int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                        a->has_mptcp && a->mptcp ? IPPROTO_MPTCP : 0);

        if (fd < 0) {
            return -errno;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (ai->ai_family == AF_INET6) {
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
        }
        *port = htons(p);
        ret = listener_add(l, fd, ai->ai_addr, ai->ai_addrlen);
    }
    return ret;
}

static int listen_inet(NbdListener *l, const InetSocketAddress *a, Error **errp)
{
    const bool numeric = a->has_numeric && a->numeric;
    struct addrinfo hints = {
        .ai_flags = AI_PASSIVE | (numeric ? AI_NUMERICHOST | AI_NUMERICSERV : 0), .ai_socktype = SOCK_STREAM,
    }, *list;
    int ret = inet_family(a, &hints.ai_family, errp), last = -EADDRNOTAVAIL;

    if (ret < 0) {
        return ret;
    }
    ret = getaddrinfo(*a->host ? a->host : NULL, a->port, &hints, &list);
    if (ret) {
        error_setg(errp, "address resolution failed for %s:%s: %s", a->host, a->port, gai_strerror(ret));
        return -EINVAL;
    }
    unsigned first = ntohs(*sockaddr_port(list->ai_addr)), to = a->has_to && first ? a->to : first;

    if (to < first) {
        freeaddrinfo(list);
        error_setg(errp, "There is no port from %u to %u", first, to);
        return -EINVAL;
    }
    for (struct addrinfo *ai = list; ai && l->nfds < NBD_LISTEN_MAX; ai = ai->ai_next) {
        ret = listen_inet_one(l, a, ai, to);
        last = ret < 0 ? ret : last;
    }
    freeaddrinfo(list);
    if (!l->nfds) {
        error_setg_errno(errp, -last, last == -EADDRINUSE ? "Failed to find an available port"
                                                          : "Failed to bind socket");
        return last;
    }
    l->keep_alive = a->has_keep_alive && a->keep_alive;
    return 0;
}

/* ---- vsock, and what was inherited ---- */

static int listen_vsock(NbdListener *l, const VsockSocketAddress *a, Error **errp)
{
    guint64 cid, port;

    if (!g_ascii_string_to_unsigned(a->cid, 10, 0, UINT32_MAX, &cid, NULL)) {
        error_setg(errp, "Failed to parse cid '%s'", a->cid);
        return -EINVAL;
    }
    if (!g_ascii_string_to_unsigned(a->port, 10, 0, UINT32_MAX, &port, NULL)) {
        error_setg(errp, "Failed to parse port '%s'", a->port);
        return -EINVAL;
    }
    struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        int err = errno;

        error_setg_errno(errp, err, "Failed to create socket");
        return -err;
    }
    int ret = listener_add(l, fd, (struct sockaddr *)&vm, sizeof(vm));

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to bind socket");
    }
    return ret;
}

static int listen_fd(NbdListener *l, const char *str, Error **errp)
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
    l->fds[l->nfds++] = fd;
    return 0;
}

int nbd_listener_open(NbdListener *l, const SocketAddress *addr, Error **errp)
{
    memset(l, 0, sizeof(*l));
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_UNIX:
        return listen_unix(l, &addr->u.q_unix, errp);
    case SOCKET_ADDRESS_TYPE_INET:
        return listen_inet(l, &addr->u.inet, errp);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return listen_vsock(l, &addr->u.vsock, errp);
    case SOCKET_ADDRESS_TYPE_FD:
        return listen_fd(l, addr->u.fd.str, errp);
    default:
        g_assert_not_reached();
    }
}

void nbd_listener_close(NbdListener *l)
{
    for (int i = 0; i < l->nfds; i++) {
        close(l->fds[i]);
    }
    if (l->unlink_path) {
        unlink(l->unlink_path);
        g_free(l->unlink_path);
    }
    memset(l, 0, sizeof(*l));
}

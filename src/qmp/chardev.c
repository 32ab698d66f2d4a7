/* SPDX-License-Identifier: MIT */
/* chardev.c: see chardev.h.
 *
 * A client's output is kept while it does not read, up to OUTPUT_MAX; beyond, it is sent
 * away: it cannot make the daemon grow. Its commands are read only as fast as they run.
 */
#include "base/osdep.h"
#include "base/str.h"
#include "block/block.h"
#include "block/qdict.h"
#include "qmp/chardev.h"
#include "qmp/monitor.h"
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define OUTPUT_MAX (64 * MiB)

typedef struct Chardev {
    char *id, *path, *host, *port;
    bool is_stdio, server, wait;
    int fd;                     /* listening, or inherited; -1 */
    bool pretty, used;
    LIST_ENTRY(Chardev) link;
} Chardev;

typedef struct Client {
    Chardev *chr;
    int in, out;
    Monitor *mon;
    GString *pending;           /* output the client has not taken */
    bool reading;
    LIST_ENTRY(Client) link;
} Client;

static LIST_HEAD(, Chardev) chardevs = LIST_HEAD_INITIALIZER(chardevs);
static LIST_HEAD(, Client) clients = LIST_HEAD_INITIALIZER(clients);

static void client_update(Client *cl);

/* ---- clients ---- */

static void client_close(Client *cl)
{
    AioContext *ctx = qemu_get_aio_context();

    aio_set_fd_handler(ctx, cl->in, NULL, NULL, NULL);
    if (cl->out != cl->in) {
        aio_set_fd_handler(ctx, cl->out, NULL, NULL, NULL);
    }
    LIST_REMOVE(cl, link);
    monitor_free(cl->mon);
    if (!cl->chr->is_stdio) {
        close(cl->in);
    }
    g_string_free(cl->pending, TRUE);
    g_free(cl);
}

static void client_close_bh(void *opaque)
{
    Client *cl, *next;

    LIST_FOREACH_SAFE(cl, &clients, link, next) {
        if (cl == opaque) {
            client_close(cl);
            return;
        }
    }
}

/* Send what the client takes. */
static void client_flush(Client *cl)
{
    while (cl->pending->len) {
        ssize_t n = cl->chr->is_stdio ? write(cl->out, cl->pending->str, cl->pending->len)
                                      : send(cl->out, cl->pending->str, cl->pending->len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                g_string_truncate(cl->pending, 0);
                aio_bh_schedule_oneshot(qemu_get_aio_context(), client_close_bh, cl);
            }
            break;
        }
        g_string_erase(cl->pending, 0, n);
    }
}

static void client_writable(void *opaque)
{
    Client *cl = opaque;

    client_flush(cl);
    client_update(cl);
}

static void client_output(void *opaque, const char *text, size_t len)
{
    Client *cl = opaque;

    if (cl->pending->len + len > OUTPUT_MAX) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), client_close_bh, cl);
        return;
    }
    bool idle = cl->pending->len == 0;

    g_string_append_len(cl->pending, text, len);
    if (idle) {
        client_flush(cl);
        if (cl->pending->len) {
            client_update(cl);
        }
    }
}

static void client_readable(void *opaque)
{
    Client *cl = opaque;
    char buf[4096];
    ssize_t n = read(cl->in, buf, sizeof(buf));

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        if (cl->chr->is_stdio) {
            cl->reading = false;        /* end of input: commands still run, events still come */
            client_update(cl);
            return;
        }
        client_close(cl);
        return;
    }
    if (n > 0) {
        monitor_feed(cl->mon, buf, n);
        if (monitor_is_full(cl->mon)) {
            client_update(cl);
        }
    }
}

static void client_ready(void *opaque)
{
    client_update(opaque);
}

/* Read while commands may come, write while output waits. */
static void client_update(Client *cl)
{
    AioContext *ctx = qemu_get_aio_context();
    IOHandler *rd = cl->reading && !(cl->mon && monitor_is_full(cl->mon)) ? client_readable : NULL;
    IOHandler *wr = cl->pending->len ? client_writable : NULL;

    if (cl->in == cl->out) {
        aio_set_fd_handler(ctx, cl->in, rd, wr, cl);
    } else {
        aio_set_fd_handler(ctx, cl->in, rd, NULL, cl);
        aio_set_fd_handler(ctx, cl->out, NULL, wr, cl);
    }
}

static void client_new(Chardev *chr, int in, int out)
{
    Client *cl = g_new0(Client, 1);

    cl->chr = chr;
    cl->in = in;
    cl->out = out;
    cl->reading = true;
    cl->pending = g_string_new("");
    LIST_INSERT_HEAD(&clients, cl, link);
    cl->mon = monitor_new(chr->pretty, client_output, cl);
    monitor_set_ready_cb(cl->mon, client_ready);
    client_update(cl);
}

/* ---- options ---- */

static const char *take(QDict *d, const char *key)
{
    return qdict_get_try_str(d, key);
}

static bool take_bool(QDict *d, const char *key, bool def, Error **errp)
{
    const char *s = take(d, key);

    if (!s) {
        return def;
    }
    if (!strcmp(s, "on") || !strcmp(s, "yes") || !strcmp(s, "true")) {
        return true;
    }
    if (strcmp(s, "off") && strcmp(s, "no") && strcmp(s, "false") && errp && !*errp) {
        error_setg(errp, "Parameter '%s' expects 'on' or 'off'", key);
    }
    return false;
}

/* The short forms "server", "nowait" that people still type. */
static char *expand_words(const char *options)
{
    g_auto(GStrv) parts = g_strsplit(options, ",", -1);
    GString *out = g_string_new("");

    for (int i = 0; parts[i]; i++) {
        const char *p = parts[i];

        if (i) {
            g_string_append_c(out, ',');
        }
        if (i && !strcmp(p, "server")) {
            p = "server=on";
        } else if (i && !strcmp(p, "nowait")) {
            p = "wait=off";
        }
        g_string_append(out, p);
    }
    return g_string_free(out, FALSE);
}

static bool check_keys(QDict *d, Error **errp)
{
    static const char *const known[] = {
        "backend", "id", "path", "host", "port", "server", "wait", "fd", "signal", NULL,
    };

    json_object_object_foreach(d, key, value) {
        (void)value;
        if (!g_strv_contains(known, key)) {
            error_setg(errp, "Invalid parameter '%s'", key);
            return false;
        }
    }
    return true;
}

static Chardev *chardev_find(const char *id)
{
    Chardev *chr;

    LIST_FOREACH(chr, &chardevs, link) {
        if (!strcmp(chr->id, id)) {
            return chr;
        }
    }
    return NULL;
}

static void chardev_free(Chardev *chr)
{
    g_free(chr->id);
    g_free(chr->path);
    g_free(chr->host);
    g_free(chr->port);
    g_free(chr);
}

static int chardev_listen(Chardev *chr, Error **errp)
{
    int one = 1;

    if (chr->fd >= 0) {
        return 0;
    }
    if (chr->path) {
        struct sockaddr_un un = { .sun_family = AF_UNIX };

        if (strlen(chr->path) >= sizeof(un.sun_path)) {
            error_setg(errp, "UNIX socket path '%s' is too long", chr->path);
            return -EINVAL;
        }
        g_strlcpy(un.sun_path, chr->path, sizeof(un.sun_path));
        chr->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (chr->server) {
            unlink(chr->path);
        }
        if ((chr->server ? bind(chr->fd, (struct sockaddr *)&un, sizeof(un))
                         : connect(chr->fd, (struct sockaddr *)&un, sizeof(un))) < 0) {
            error_setg_errno(errp, errno, chr->server ? "Failed to bind socket to %s" : "Failed to connect to '%s'",
                             chr->path);
            return -errno;
        }
    } else {
        struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *ai;
        int ret = getaddrinfo(*chr->host ? chr->host : NULL, chr->port, &hints, &ai);

        if (ret) {
            error_setg(errp, "address resolution failed for %s:%s: %s", chr->host, chr->port, gai_strerror(ret));
            return -EINVAL;
        }
        chr->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(chr->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        ret = chr->server ? bind(chr->fd, ai->ai_addr, ai->ai_addrlen) : connect(chr->fd, ai->ai_addr, ai->ai_addrlen);
        freeaddrinfo(ai);
        if (ret < 0) {
            error_setg_errno(errp, errno, chr->server ? "Failed to bind socket" : "Failed to connect to '%s:%s'",
                             chr->host, chr->port);
            return -errno;
        }
        fcntl(chr->fd, F_SETFL, O_NONBLOCK);
    }
    if (chr->server && listen(chr->fd, 16) < 0) {
        error_setg_errno(errp, errno, "Failed to listen on socket");
        return -errno;
    }
    return 0;
}

int chardev_add(const char *options, Error **errp)
{
    g_autofree char *text = expand_words(options);
    bool keyval;
    g_autoptr(QDict) d = qdict_from_options(text, "backend", &keyval, errp);
    Error *err = NULL;

    if (!d) {
        return -EINVAL;
    }
    const char *backend = take(d, "backend"), *id = take(d, "id"), *fd = take(d, "fd");

    if (!id) {
        error_setg(errp, "chardev: no id specified");
        return -EINVAL;
    }
    if (!id_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        error_append_hint(errp, "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n");
        return -EINVAL;
    }
    if (chardev_find(id)) {
        error_setg(errp, "Duplicate ID '%s' for chardev", id);
        return -EEXIST;
    }
    if (strcmp(backend, "stdio") && strcmp(backend, "socket")) {
        error_setg(errp, "'%s' is not a valid char driver name", backend);
        return -EINVAL;
    }
    if (!check_keys(d, errp)) {
        return -EINVAL;
    }
    Chardev *chr = g_new0(Chardev, 1);

    chr->id = g_strdup(id);
    chr->fd = fd ? atoi(fd) : -1;
    chr->is_stdio = !strcmp(backend, "stdio");
    chr->path = g_strdup(take(d, "path"));
    chr->host = g_strdup(take(d, "host") ? take(d, "host") : "");
    chr->port = g_strdup(take(d, "port"));
    chr->server = take_bool(d, "server", false, &err);
    chr->wait = take_bool(d, "wait", true, &err);
    if (!err && !chr->is_stdio && !chr->path && !chr->port && !fd) {
        error_setg(&err, "chardev: socket: no path, port or fd given");
    }
    if (!err && !chr->is_stdio) {
        chardev_listen(chr, &err);
    }
    if (err) {
        error_propagate(errp, err);
        if (chr->fd >= 0) {
            close(chr->fd);
        }
        chardev_free(chr);
        return -EINVAL;
    }
    LIST_INSERT_HEAD(&chardevs, chr, link);
    return 0;
}

static void chardev_accept(void *opaque)
{
    Chardev *chr = opaque;
    int fd = accept4(chr->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        client_new(chr, fd, fd);
    }
}

int chardev_start_monitor(const char *id, bool pretty, Error **errp)
{
    Chardev *chr = chardev_find(id);

    if (!chr) {
        error_setg(errp, "chardev \"%s\" not found", id);
        return -ENOENT;
    }
    if (chr->used) {
        error_setg(errp, "Device '%s' is in use", id);
        return -EBUSY;
    }
    chr->used = true;
    chr->pretty = pretty;
    if (chr->is_stdio) {
        fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
        client_new(chr, 0, 1);
    } else if (!chr->server) {
        client_new(chr, chr->fd, chr->fd);
    } else {
        aio_set_fd_handler(qemu_get_aio_context(), chr->fd, chardev_accept, NULL, chr);
        if (chr->wait) {
            while (LIST_EMPTY(&clients) && !monitor_quit_requested()) {
                aio_poll(qemu_get_aio_context(), true);
            }
        }
    }
    return 0;
}

void chardev_cleanup(void)
{
    Client *cl;
    Chardev *chr;

    while ((cl = LIST_FIRST(&clients))) {
        client_flush(cl);
        client_close(cl);
    }
    while ((chr = LIST_FIRST(&chardevs))) {
        LIST_REMOVE(chr, link);
        if (!chr->is_stdio && chr->server && chr->fd >= 0) {
            if (chr->used) {
                aio_set_fd_handler(qemu_get_aio_context(), chr->fd, NULL, NULL, NULL);
            }
            close(chr->fd);
            if (chr->path) {
                unlink(chr->path);
            }
        }
        chardev_free(chr);
    }
}

/* SPDX-License-Identifier: MIT */
/* client.c: see client.h. */
#include "cli/client.h"
#include "base/json.h"
#include <dirent.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct Client {
    int fd;
    JsonParser parser;
    GQueue *replies, *events;   /* QDict * */
    Error *err;                 /* of the parser */
    char *address;
};

char *client_runtime_dir(bool make, Error **errp)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    g_autofree char *dir = base && *base ? g_build_filename(base, "liveblk", NULL)
                                         : g_strdup_printf("/tmp/liveblk-%u", (unsigned)getuid());
    struct stat st;

    if (make && mkdir(dir, 0700) < 0 && errno != EEXIST) {
        error_setg_errno(errp, errno, "Could not make the runtime folder '%s'", dir);
        return NULL;
    }
    if (lstat(dir, &st) < 0) {
        error_setg_errno(errp, errno, "No runtime folder '%s'", dir);
        return NULL;
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 0022)) {
        error_setg(errp, "The runtime folder '%s' is not yours alone", dir);
        error_append_hint(errp, "Remove it, or name sockets with --control and --socket.\n");
        return NULL;
    }
    return g_steal_pointer(&dir);
}

/* ---- the connection ---- */

static void on_value(void *opaque, QDict *value, Error *err)
{
    Client *c = opaque;

    if (err) {
        error_propagate(&c->err, err);
    } else if (qdict_type(value) == QTYPE_QDICT && qdict_haskey(value, "event")) {
        g_queue_push_tail(c->events, value);
    } else {
        g_queue_push_tail(c->replies, value);
    }
}

static int connect_unix(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(sa.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(sa.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        int e = errno;

        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static int connect_tcp(const char *host_port, Error **errp)
{
    const char *colon = strrchr(host_port, ':');
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    int fd = -1;

    if (!colon) {
        error_setg(errp, "'tcp:%s' is not tcp:HOST:PORT", host_port);
        return -1;
    }
    g_autofree char *host = g_strndup(host_port, colon - host_port);
    int ret = getaddrinfo(host, colon + 1, &hints, &list);

    if (ret) {
        error_setg(errp, "Could not find '%s': %s", host_port, gai_strerror(ret));
        return -1;
    }
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
            error_free(*errp);
            *errp = NULL;
            error_setg_errno(errp, errno, "Could not connect to '%s'", host_port);
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd >= 0) {
        error_free(*errp);
        *errp = NULL;
    }
    return fd;
}

/* Read what is there, at most one portion; false: the end, or an error. */
static bool client_read(Client *c, Error **errp)
{
    char buf[16384];
    ssize_t n;

    do {
        n = read(c->fd, buf, sizeof(buf));
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        if (n == 0) {
            error_setg(errp, "The server at '%s' closed the connection", c->address);
        } else {
            error_setg_errno(errp, errno, "Lost the server at '%s'", c->address);
        }
        return false;
    }
    json_parser_feed(&c->parser, buf, n);
    if (c->err) {
        error_propagate(errp, c->err);
        c->err = NULL;
        return false;
    }
    return true;
}

static QDict *client_reply(Client *c, Error **errp)
{
    while (g_queue_is_empty(c->replies)) {
        if (!client_read(c, errp)) {
            return NULL;
        }
    }
    return g_queue_pop_head(c->replies);
}

Client *client_connect(const char *address, Error **errp)
{
    bool tcp = g_str_has_prefix(address, "tcp:");
    Error *err = NULL;
    int fd = tcp ? connect_tcp(address + 4, &err) : connect_unix(address);

    if (fd < 0) {
        if (!err) {
            error_setg_errno(&err, errno, "Could not connect to the control socket '%s'", address);
            error_append_hint(&err, "Is the server running? `liveblk serve` and `liveblkd --monitor` open one.\n");
        }
        error_propagate(errp, err);
        return NULL;
    }
    Client *c = g_new0(Client, 1);

    c->fd = fd;
    c->address = g_strdup(address);
    c->replies = g_queue_new();
    c->events = g_queue_new();
    json_parser_init(&c->parser, on_value, c);
    g_autoptr(QDict) greeting = client_reply(c, errp);

    if (!greeting) {
        client_close(c);
        return NULL;
    }
    if (qdict_type(greeting) != QTYPE_QDICT || !qdict_haskey(greeting, "QMP")) {
        error_setg(errp, "What answers at '%s' is not a control socket", address);
        client_close(c);
        return NULL;
    }
    if (client_do(c, "qmp_capabilities", NULL, errp) < 0) {
        client_close(c);
        return NULL;
    }
    return c;
}

static void free_value(gpointer v)
{
    qdict_unref(v);
}

void client_close(Client *c)
{
    if (c) {
        close(c->fd);
        json_parser_destroy(&c->parser);
        g_queue_free_full(c->replies, free_value);
        g_queue_free_full(c->events, free_value);
        g_free(c->address);
        g_free(c);
    }
}

int client_fd(const Client *c)
{
    return c->fd;
}

/* ---- finding the server ---- */

/* All control sockets of the runtime folder that answer. */
static GPtrArray *running_servers(const char *dir)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        if (g_str_has_suffix(e->d_name, ".qmp")) {
            g_autofree char *path = g_build_filename(dir, e->d_name, NULL);
            int fd = connect_unix(path);

            if (fd >= 0) {
                close(fd);
                g_ptr_array_add(found, g_steal_pointer(&path));
            }
        }
    }
    if (d) {
        closedir(d);
    }
    return found;
}

Client *client_open(const CliArgs *a, Error **errp)
{
    const char *address = cli_get(a, "control");

    if (address) {
        return client_connect(address, errp);
    }
    Error *err = NULL;
    g_autofree char *dir = client_runtime_dir(false, &err);
    g_autoptr(GPtrArray) found = dir ? running_servers(dir) : g_ptr_array_new();

    if (found->len == 1) {
        error_free(err);
        return client_connect(g_ptr_array_index(found, 0), errp);
    }
    error_free(err);
    if (found->len == 0) {
        error_setg(errp, "No server of yours runs");
        error_append_hint(errp, "Start one with `liveblk serve IMAGE`, or name another's socket with --control.\n");
    } else {
        error_setg(errp, "%u servers of yours run", found->len);
        error_append_hint(errp, "Choose one with --control:\n");
        for (guint i = 0; i < found->len; i++) {
            error_append_hint(errp, "  %s\n", (char *)g_ptr_array_index(found, i));
        }
    }
    return NULL;
}

/* ---- commands ---- */

static int send_all(Client *c, const char *text, size_t len, Error **errp)
{
    while (len) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            error_setg_errno(errp, errno, "Lost the server at '%s'", c->address);
            return -1;
        }
        text += n;
        len -= n;
    }
    return 0;
}

QDict *client_call(Client *c, const char *command, QDict *args, Error **errp)
{
    g_autoptr(QDict) request = qdict_new();

    qdict_put_str(request, "execute", command);
    if (args) {
        qdict_put_obj(request, "arguments", args);
    }
    g_autofree char *text = json_to_str(request, false), *line = g_strconcat(text, "\n", NULL);

    if (send_all(c, line, strlen(line), errp) < 0) {
        return NULL;
    }
    g_autoptr(QDict) reply = client_reply(c, errp);

    if (!reply) {
        return NULL;
    }
    QDict *error = qdict_get_qdict(reply, "error");

    if (error) {
        const char *desc = qdict_get_try_str(error, "desc");

        error_setg(errp, "%s", desc ? desc : "The server refused without a reason");
        return NULL;
    }
    QDict *value = qdict_get(reply, "return");

    return value ? qdict_ref(value) : qdict_new();
}

int client_do(Client *c, const char *command, QDict *args, Error **errp)
{
    QDict *value = client_call(c, command, args, errp);

    qdict_unref(value);
    return value ? 0 : -1;
}

QDict *client_event(Client *c, int timeout_ms, Error **errp)
{
    while (g_queue_is_empty(c->events)) {
        struct pollfd p = { .fd = c->fd, .events = POLLIN };
        int n = poll(&p, 1, timeout_ms);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0 || !client_read(c, errp)) {
            return NULL;
        }
    }
    return g_queue_pop_head(c->events);
}

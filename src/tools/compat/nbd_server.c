/* SPDX-License-Identifier: MIT */
/* nbd_server.c: see nbd_server.h. */
#include "compat/compat.h"
#include "compat/nbd_server.h"

#define NBD_DEFAULT_PORT "10809"

/* A string for a scalar, as key=value options have it; else the value itself. A new reference. */
static QDict *as_text(QDict *value)
{
    bool on;
    int64_t n;

    if (qbool_get(value, &on)) {
        return qstring_new(on ? "on" : "off");
    }
    if (qint_get(value, &n)) {
        g_autofree char *text = g_strdup_printf("%" PRId64, n);

        return qstring_new(text);
    }
    return qdict_ref(value);
}

static void put_as_text(const char *key, QDict *value, void *opaque)
{
    qdict_put_obj(opaque, key, as_text(value));
}

static QDict *members_as_text(QDict *d)
{
    QDict *out = qdict_new();

    qdict_foreach(d, put_as_text, out);
    return out;
}

/* Take scalar @key out of @d as text; NULL: it is not there. The caller frees. */
static char *take_text(QDict *d, const char *key)
{
    g_autoptr(QDict) text = qdict_haskey(d, key) ? as_text(qdict_get(d, key)) : NULL;

    if (!text || !qstring_get(text)) {
        return NULL;
    }
    qdict_del(d, key);
    return g_strdup(qstring_get(text));
}

static int server_of_path_or_host(QDict *d, Error **errp)
{
    g_autofree char *path = take_text(d, "path"), *host = take_text(d, "host"), *port = take_text(d, "port");
    QDict *server;

    if (path && host) {
        error_setg(errp, "path and host may not be used at the same time");
        return -EINVAL;
    }
    if (port && !host) {
        error_setg(errp, path ? "port may not be used without host" : "NBD server address missing");
        return -EINVAL;
    }
    if (!path && !host) {
        error_setg(errp, "NBD server address missing");
        return -EINVAL;
    }
    server = qdict_new();
    qdict_put_str(server, "type", path ? "unix" : "inet");
    if (path) {
        qdict_put_str(server, "path", path);
    } else {
        qdict_put_str(server, "host", host);
        qdict_put_str(server, "port", port ? port : NBD_DEFAULT_PORT);
    }
    qdict_put_obj(d, "server", server);
    return 0;
}

static int put_server(QDict *d, Error **errp)
{
    g_autoptr(QDict) text = members_as_text(qdict_get(d, "server"));
    SocketAddress *address = qapi_from_json(&qapi_type_SocketAddress, text, true, errp);

    if (!address) {
        return -EINVAL;
    }
    qdict_put_obj(d, "server", qapi_to_json(&qapi_type_SocketAddress, address));
    qapi_free(&qapi_type_SocketAddress, address);
    return 0;
}

static int put_seconds(QDict *d, const char *key, Error **errp)
{
    const char *text = qdict_get_try_str(d, key);
    unsigned long long n;
    char *end;

    if (!text) {
        return 0;
    }
    errno = 0;
    n = strtoull(text, &end, 0);
    if (end == text || *end) {
        error_setg(errp, "Parameter '%s' expects a number", key);
        return -EINVAL;
    }
    if (errno == ERANGE) {
        error_setg(errp, "Value '%s' is too large for parameter '%s'", text, key);
        return -EINVAL;
    }
    if (strchr(text, '-') || n > INT64_MAX) {
        error_setg(errp, "Value '%s' is out of range for parameter '%s'", text, key);
        return -EINVAL;
    }
    qdict_put_int(d, key, n);
    return 0;
}

int compat_nbd_server(QDict *d, Error **errp)
{
    QDict *server = qdict_get(d, "server");
    bool has_server = server && qdict_type(server) == QTYPE_QDICT;
    int ret;

    if (has_server && (qdict_haskey(d, "path") || qdict_haskey(d, "host") || qdict_haskey(d, "port"))) {
        error_setg(errp, "Cannot use 'server' and path/host/port at the same time");
        return -EINVAL;
    }
    ret = has_server ? 0 : server_of_path_or_host(d, errp);
    ret = ret ? ret : put_server(d, errp);
    ret = ret ? ret : put_seconds(d, "reconnect-delay", errp);
    return ret ? ret : put_seconds(d, "open-timeout", errp);
}

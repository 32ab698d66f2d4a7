/* SPDX-License-Identifier: MIT */
/* name.c: names of NBD exports: the URIs of the NBD project's uri.md
 *
 *   nbd://HOST[:PORT]/EXPORT   nbd+tcp://...   nbd+unix:///EXPORT?socket=PATH
 *
 * and the older form of the peer's
 *
 *   nbd:HOST:PORT[:exportname=EXPORT]   nbd:unix:PATH[:exportname=EXPORT]
 *
 * Context: any.
 */
#include "drivers/protocol/nbd/nbd.h"

static void put_unix(QDict *options, const char *path)
{
    QDict *server = qdict_new();

    qdict_put_str(server, "type", "unix");
    qdict_put_str(server, "path", path);
    qdict_put_obj(options, "server", server);
}

static void put_inet(QDict *options, const char *host, const char *port)
{
    QDict *server = qdict_new();

    qdict_put_str(server, "type", "inet");
    qdict_put_str(server, "host", host);
    qdict_put_str(server, "port", port);
    qdict_put_obj(options, "server", server);
}

static int parse_uri(const char *filename, QDict *options, Error **errp)
{
    g_autoptr(GUri) uri = g_uri_parse(filename, G_URI_FLAGS_NONE, NULL);
    g_autoptr(GHashTable) query = NULL;
    const char *host, *path, *socket = NULL;
    unsigned params = 0;

    if (!uri) {
        error_setg(errp, "No valid URL specified");
        return -EINVAL;
    }
    host = g_uri_get_host(uri);
    path = g_uri_get_path(uri);
    if (g_uri_get_query(uri)) {
        query = g_uri_parse_params(g_uri_get_query(uri), -1, "&", G_URI_PARAMS_NONE, NULL);
        params = query ? g_hash_table_size(query) : 2;
        socket = query ? g_hash_table_lookup(query, "socket") : NULL;
    }
    path += *path == '/';
    if (!strcmp(g_uri_get_scheme(uri), "nbd+unix")) {
        if ((host && *host) || g_uri_get_port(uri) > 0 || params != 1 || !socket) {
            error_setg(errp, "No valid URL specified");
            return -EINVAL;
        }
        put_unix(options, socket);
    } else {
        g_autofree char *port = g_uri_get_port(uri) > 0 ? g_strdup_printf("%d", g_uri_get_port(uri))
                                                        : g_strdup(NBD_PORT_DEFAULT);

        if (!host || !*host || params) {
            error_setg(errp, "No valid URL specified");
            return -EINVAL;
        }
        put_inet(options, host, port);
    }
    if (*path) {
        qdict_put_str(options, "export", path);
    }
    return 0;
}

static int parse_address(const char *address, QDict *options, Error **errp)
{
    const char *colon = strrchr(address, ':');
    g_autofree char *host = NULL;

    if (g_str_has_prefix(address, "unix:")) {
        put_unix(options, address + strlen("unix:"));
        return 0;
    }
    if (!colon || !colon[1]) {
        error_setg(errp, "error parsing address '%s'", address);
        return -EINVAL;
    }
    if (*address == '[' && !strchr(address, ']')) {
        error_setg(errp, "error parsing IPv6 address '%s'", address);
        return -EINVAL;
    }
    host = *address == '[' && colon > address && colon[-1] == ']'
        ? g_strndup(address + 1, colon - address - 2) : g_strndup(address, colon - address);
    put_inet(options, host, colon + 1);
    return 0;
}

int nbd_parse_filename(const char *filename, QDict *options, Error **errp)
{
    static const char mark[] = ":exportname=";
    const char *rest = strchr(filename, ':') + 1, *name;
    g_autofree char *address = NULL;

    if (g_str_has_prefix(rest, "//")) {
        return parse_uri(filename, options, errp);
    }
    if (!g_str_has_prefix(filename, "nbd:")) {
        error_setg(errp, "File name string for NBD must start with 'nbd:'");
        return -EINVAL;
    }
    if (!*rest) {
        error_setg(errp, "NBD server address missing");
        return -EINVAL;
    }
    name = strstr(rest, mark);
    address = name ? g_strndup(rest, name - rest) : g_strdup(rest);
    if (name && name[sizeof(mark) - 1]) {
        qdict_put_str(options, "export", name + sizeof(mark) - 1);
    }
    return parse_address(address, options, errp);
}

char *nbd_make_filename(const SocketAddress *server, const char *export)
{
    if (server->type == SOCKET_ADDRESS_TYPE_UNIX && !server->u.q_unix.abstract) {
        const char *path = server->u.q_unix.path;

        return export ? g_strdup_printf("nbd+unix:///%s?socket=%s", export, path)
                      : g_strdup_printf("nbd+unix://?socket=%s", path);
    }
    if (server->type == SOCKET_ADDRESS_TYPE_INET) {
        const InetSocketAddress *a = &server->u.inet;
        bool v6 = strchr(a->host, ':') != NULL;
        g_autofree char *at = g_strdup_printf(v6 ? "[%s]:%s" : "%s:%s", a->host, a->port);

        return export ? g_strdup_printf("nbd://%s/%s", at, export) : g_strdup_printf("nbd://%s", at);
    }
    return g_strdup("");
}

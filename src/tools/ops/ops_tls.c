/* SPDX-License-Identifier: MIT */
/* ops_tls.c: names of NBD servers that are met in TLS, as the NBD project's uri.md has them:
 *
 *   nbds://[USER@]HOST[:PORT]/EXPORT[?PARAMETERS]      nbds+unix://[USER@]/EXPORT?socket=PATH[&PARAMETERS]
 *
 * PARAMETERS: tls-certificates=FOLDER (ca-cert.pem; client-cert.pem and client-key.pem where the server asks for them), or
 * tls-psk-file=FOLDER/keys.psk and tls-username=USER; tls-hostname=NAME, the name that the server's certificate has to have
 * (the host); tls-verify-peer=false; tls-priority=TEXT.
 *
 * They become credentials, one object for each kind, and options of the driver nbd. A password of a key is no part of a name.
 */
#include "ops/ops.h"
#include "block/qapi-visit.h"
#include "secure/objects.h"

#define KEYS "keys.psk"

/* For names that do not say it; lent. */
static struct {
    const char *folder, *user, *hostname;
} given;

void ops_tls_set(const char *folder, const char *user, const char *hostname)
{
    given.folder = folder;
    given.user = user;
    given.hostname = hostname;
}

bool ops_tls_is(const char *name)
{
    return g_str_has_prefix(name, "nbds://") || g_str_has_prefix(name, "nbds+unix:");
}

/* ---- credentials ---- */

typedef struct TlsName {
    const char *certificates;
    const char *keys;           /* NULL: certificates, not keys */
    const char *user, *hostname, *priority;
    bool verify;
    char *folder;               /* with either */
    char *only_user;            /* whom the file has, if `user` is not said */
} TlsName;

/* Where the keys are, and whose is taken. */
static int find_key(TlsName *n, Error **errp)
{
    g_autofree char *path = g_build_filename(n->folder, KEYS, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) gerr = NULL;
    unsigned users = 0;

    if (n->user) {
        return 0;
    }
    if (!g_file_get_contents(path, &text, NULL, &gerr)) {
        error_setg(errp, "%s", gerr->message);
        return -ENOENT;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        char *colon = strchr(*l, ':');

        if (colon && **l != '#') {
            users++;
            g_free(n->only_user);
            n->only_user = g_strndup(*l, colon - *l);
        }
        explicit_bzero(*l, strlen(*l));
    }
    explicit_bzero(text, strlen(text));
    if (users != 1) {
        error_setg(errp, "'%s' has the keys of %u users", path, users);
        error_append_hint(errp, "Say whose is to be used: nbds://USER@..., or --tls-user USER.\n");
        return -EINVAL;
    }
    n->user = n->only_user;
    return 0;
}

/* As object-add takes them. */
static QDict *credentials(const TlsName *n)
{
    bool psk = n->keys != NULL;
    g_autofree char *folder = g_canonicalize_filename(n->folder, NULL);     /* another program may look for it */
    g_autofree char *said = g_strdup_printf("%d\n%s\n%s\n%s\n%d", psk, folder, psk ? n->user : "", n->priority ?: "", n->verify);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, said, -1);
    g_autofree char *id = g_strdup_printf("tls-%.24s", sum);
    QDict *d = qdict_new();

    qdict_put_str(d, "qom-type", psk ? "tls-creds-psk" : "tls-creds-x509");
    qdict_put_str(d, "id", id);
    qdict_put_str(d, "endpoint", "client");
    qdict_put_str(d, "dir", folder);
    qdict_put_bool(d, "verify-peer", n->verify);
    if (psk) {
        qdict_put_str(d, "username", n->user);
    }
    if (n->priority) {
        qdict_put_str(d, "priority", n->priority);
    }
    return d;
}

static int make_credentials(QDict *d, Error **errp)
{
    ObjectOptions *o = secure_object_by_id(qdict_get_try_str(d, "id")) ? NULL : qapi_from_json(&qapi_type_ObjectOptions, d, false, errp);
    int ret = 0;

    if (o) {
        ret = secure_object_add(o, errp);
        qapi_free(&qapi_type_ObjectOptions, o);
    }
    return ret;
}

/* ---- names ---- */

static int take_parameters(GHashTable *query, TlsName *n, Error **errp)
{
    GHashTableIter it;
    gpointer key, value;

    g_hash_table_iter_init(&it, query);
    while (g_hash_table_iter_next(&it, &key, &value)) {
        if (!strcmp(key, "tls-certificates")) {
            n->certificates = value;
        } else if (!strcmp(key, "tls-psk-file")) {
            n->keys = value;
        } else if (!strcmp(key, "tls-username")) {
            n->user = value;
        } else if (!strcmp(key, "tls-hostname")) {
            n->hostname = value;
        } else if (!strcmp(key, "tls-priority")) {
            n->priority = value;
        } else if (!strcmp(key, "tls-verify-peer")) {
            n->verify = strcmp(value, "false") && strcmp(value, "0");
        } else if (strcmp(key, "socket")) {
            error_setg(errp, "Unknown parameter '%s' in the name of an NBD server", (char *)key);
            error_append_hint(errp, "There are tls-certificates, tls-psk-file, tls-username, tls-hostname, tls-verify-peer, "
                              "tls-priority, and socket.\n");
            return -EINVAL;
        }
    }
    return 0;
}

/* Where certificates or keys lie. */
static int choose_folder(TlsName *n, Error **errp)
{
    g_autofree char *keys = given.folder ? g_build_filename(given.folder, KEYS, NULL) : NULL;
    g_autofree char *base = n->keys ? g_path_get_basename(n->keys) : NULL;

    if (n->certificates && n->keys) {
        error_setg(errp, "Certificates and keys exclude each other");
        return -EINVAL;
    }
    if (base && strcmp(base, KEYS)) {
        error_setg(errp, "A file with keys has to be called " KEYS ", not '%s'", base);
        return -EINVAL;
    }
    if (n->keys) {
        n->folder = g_path_get_dirname(n->keys);
    } else if (n->certificates) {
        n->folder = g_strdup(n->certificates);
    } else if (given.folder) {
        n->folder = g_strdup(given.folder);
        n->keys = g_file_test(keys, G_FILE_TEST_EXISTS) ? n->folder : NULL;
    } else {
        error_setg(errp, "It is not known by which certificates or keys to meet the server");
        error_append_hint(errp, "Give their folder: --tls FOLDER, or ?tls-certificates=FOLDER or ?tls-psk-file=FOLDER/" KEYS
                          " in the name.\n");
        return -EINVAL;
    }
    return n->keys ? find_key(n, errp) : 0;
}

static QDict *server_address(GUri *uri, bool local, const char *socket)
{
    QDict *server = qdict_new();

    qdict_put_str(server, "type", local ? "unix" : "inet");
    if (local) {
        qdict_put_str(server, "path", socket);
    } else {
        g_autofree char *port = g_strdup_printf("%d", g_uri_get_port(uri) > 0 ? g_uri_get_port(uri) : 10809);

        qdict_put_str(server, "host", g_uri_get_host(uri));
        qdict_put_str(server, "port", port);
    }
    return server;
}

/* What @uri says, once its parameters are known. */
static QDict *node_of(GUri *uri, GHashTable *query, TlsName *n, QDict **creds, Error **errp)
{
    bool local = g_str_has_prefix(g_uri_get_scheme(uri), "nbds+unix");
    const char *host = g_uri_get_host(uri), *path = g_uri_get_path(uri), *socket = g_hash_table_lookup(query, "socket");

    if (local ? (host && *host) || !socket : !host || !*host || socket) {
        error_setg(errp, local ? "It has to be nbds+unix:///EXPORT?socket=PATH" : "It has to be nbds://HOST[:PORT]/EXPORT");
        return NULL;
    }
    n->user = n->user ?: g_uri_get_userinfo(uri) ?: given.user;
    n->hostname = n->hostname ?: given.hostname;
    if (choose_folder(n, errp) < 0) {
        return NULL;
    }
    if (local && !n->keys && !n->hostname && n->verify) {
        error_setg(errp, "A socket has no name that the server's certificate could have");
        error_append_hint(errp, "Say which it is to have: --tls-hostname NAME, or &tls-hostname=NAME.\n");
        return NULL;
    }
    QDict *node = qdict_new();

    *creds = credentials(n);
    qdict_put_str(node, "driver", "nbd");
    qdict_put_obj(node, "server", server_address(uri, local, socket));
    path += *path == '/';
    if (*path) {
        qdict_put_str(node, "export", path);
    }
    qdict_put_str(node, "tls-creds", qdict_get_try_str(*creds, "id"));
    if (n->hostname && !n->keys) {
        qdict_put_str(node, "tls-hostname", n->hostname);
    }
    return node;
}

QDict *ops_tls_describe(const char *name, QDict **creds, Error **errp)
{
    g_autoptr(GUri) uri = g_uri_parse(name, G_URI_FLAGS_NONE, NULL);
    g_autoptr(GHashTable) query = NULL;
    TlsName n = { .verify = true };
    QDict *node = NULL;

    *creds = NULL;
    if (uri) {
        query = g_uri_parse_params(g_uri_get_query(uri) ?: "", -1, "&", G_URI_PARAMS_NONE, NULL);
    }
    if (!query) {
        error_setg(errp, "No valid URL specified");
        return NULL;
    }
    if (take_parameters(query, &n, errp) == 0) {
        node = node_of(uri, query, &n, creds, errp);
    }
    g_free(n.folder);
    g_free(n.only_user);
    return node;
}

QDict *ops_tls_node(const char *name, Error **errp)
{
    QDict *creds, *node = ops_tls_describe(name, &creds, errp);

    if (node && make_credentials(creds, errp) < 0) {
        g_clear_pointer(&node, qdict_unref);
    }
    qdict_unref(creds);
    return node;
}

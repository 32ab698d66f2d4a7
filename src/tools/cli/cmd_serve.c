/* SPDX-License-Identifier: MIT */
/* cmd_serve.c: serve images over NBD, with a control socket, in one line. */
#include "cli/cli.h"
#include "cli/client.h"
#include "ops/ops.h"
#include "nbd_device.h"
#include "process.h"
#include "base/str.h"
#include "block/block_int-global-state.h"
#include "block/export.h"
#include "qapi-commands.h"
#include "qmp/chardev.h"
#include "qmp/qmp_private.h"
#include "secure/objects.h"

#define TLS_ID      "serve-tls"
#define AUTHZ_ID    "serve-tls-allow"

typedef struct Serve {
    CliArgs *args;
    char *nbd_path;             /* unix; NULL: TCP */
    char *host, *port;
    char *control;
    GPtrArray *names;
} Serve;

/* A valid, unused node name from a file's name. */
static char *name_for(Serve *s, const char *image)
{
    g_autofree char *base = g_path_get_basename(image);
    char *dot = strrchr(base, '.');

    if (dot && dot != base) {
        *dot = '\0';
    }
    for (char *p = base; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("-._", *p)) {
            *p = '-';
        }
    }
    g_autofree char *name = g_ascii_isalpha(*base) ? g_strndup(base, 24) : g_strdup_printf("disk-%.18s", base);
    g_autofree char *tried = g_strdup(name);

    for (int i = 2; g_ptr_array_find_with_equal_func(s->names, tried, g_str_equal, NULL); i++) {
        g_free(tried);
        tried = g_strdup_printf("%s-%d", name, i);
    }
    return g_steal_pointer(&tried);
}

static int coroutine_fn serve_image(Serve *s, const char *image, const char *name, Error **errp)
{
    CliArgs *a = s->args;
    bool ro = cli_has(a, "read-only"), keyval;
    bool opts = cli_has(a, "image-opts");
    QDict *options = opts ? qdict_from_options(image, "driver", &keyval, errp) : qdict_new();

    if (!options) {
        return -EINVAL;
    }
    qdict_put_str(options, "node-name", name);
    if (cli_get(a, "format")) {
        qdict_put_str(options, "driver", cli_get(a, "format"));
    }
    if (!opts && ops_tls_is(image)) {
        QDict *node = ops_tls_node(image, errp);

        if (!node) {
            qdict_unref(options);
            return -EINVAL;
        }
        qdict_put_obj(options, "file", node);
    }
    const char *filename = opts || ops_tls_is(image) ? NULL : image;

    if (!opts) {
        ops_secret_put(filename, options);
    }
    BlockDriverState *bs = bdrv_open(filename, NULL, options, ro ? 0 : BDRV_O_RDWR | BDRV_O_UNMAP, errp);

    if (!bs) {
        ops_secret_hint(errp);
        return -EIO;
    }
    bdrv_set_monitor_owned(bs);
    BlockExportOptions export = { .type = BLOCK_EXPORT_TYPE_NBD, .id = (char *)name, .node_name = (char *)name,
                                  .has_writable = true, .writable = !ro };
    g_autofree char *thread = NULL;
    uint64_t threads = cli_get_size(a, "iothreads", 0);

    if (threads) {
        thread = g_strdup_printf("iothread%u", (unsigned)((s->names->len - 1) % threads));
        export.iothread = thread;
    }
    export.u.nbd.name = (char *)name;
    Error *err = NULL;

    qmp_block_export_add(&export, &err);
    if (err) {
        error_propagate(errp, err);
        return -EIO;
    }
    return 0;
}

/* Make an object with one setting. */
static int add_object(const char *type, const char *id, const char *key, const char *value, Error **errp)
{
    QDict *d = qdict_new();

    qdict_put_str(d, "qom-type", type);
    qdict_put_str(d, "id", id);
    qdict_put_str(d, key, value);
    if (g_str_has_prefix(type, "tls-creds-")) {
        qdict_put_str(d, "endpoint", "server");
    }
    ObjectOptions *o = qapi_from_json(&qapi_type_ObjectOptions, d, false, errp);
    int ret = -EINVAL;

    qdict_unref(d);
    if (o) {
        ret = secure_object_add(o, errp);
        qapi_free(&qapi_type_ObjectOptions, o);
    }
    return ret;
}

/* --tls and --tls-allow as objects: certificates if the folder has those of a server, else keys. */
static int tls_objects(Serve *s, Error **errp)
{
    const char *dir = cli_get(s->args, "tls"), *who = cli_get(s->args, "tls-allow");
    g_autofree char *keys = dir ? g_build_filename(dir, "keys.psk", NULL) : NULL;
    int ret = 0;

    if (dir) {
        ret = add_object(g_file_test(keys, G_FILE_TEST_EXISTS) ? "tls-creds-psk" : "tls-creds-x509", TLS_ID, "dir", dir, errp);
    }
    if (ret == 0 && who) {
        ret = add_object("authz-simple", AUTHZ_ID, "identity", who, errp);
    }
    return ret;
}

static int coroutine_fn nbd_start(Serve *s, Error **errp)
{
    if (tls_objects(s, errp) < 0) {
        return -EINVAL;
    }
    g_autoptr(QDict) addr = qdict_new();

    if (s->nbd_path) {
        qdict_put_str(addr, "type", "unix");
        qdict_put_str(addr, "path", s->nbd_path);
    } else {
        qdict_put_str(addr, "type", "inet");
        qdict_put_str(addr, "host", s->host);
        qdict_put_str(addr, "port", s->port);
    }
    QDict *d = qdict_new();

    qdict_put_obj(d, "addr", g_steal_pointer(&addr));
    if (cli_get(s->args, "tls")) {
        qdict_put_str(d, "tls-creds", TLS_ID);
    }
    if (cli_get(s->args, "tls-allow")) {
        qdict_put_str(d, "tls-authz", AUTHZ_ID);
    }
    NbdServerOptions *o = qapi_from_json(&qapi_type_NbdServerOptions, d, false, errp);
    int ret = -EINVAL;

    qdict_unref(d);
    if (o) {
        ret = nbd_server_start_options(o, errp);
        qapi_free(&qapi_type_NbdServerOptions, o);
    }
    return ret;
}

static int coroutine_fn serve_op(void *opaque, Error **errp)
{
    Serve *s = opaque;
    int ret;

    for (uint64_t i = 0; i < cli_get_size(s->args, "iothreads", 0); i++) {
        g_autofree char *id = g_strdup_printf("iothread%u", (unsigned)i);

        if (!iothread_create(id, NULL, errp)) {
            return -EIO;
        }
    }
    ret = nbd_start(s, errp);
    for (guint i = 0; ret == 0 && i < s->args->args->len; i++) {
        const char *image = cli_arg(s->args, i), *name = cli_get(s->args, "name");

        g_ptr_array_add(s->names, name ? g_strdup(name) : name_for(s, image));
        ret = serve_image(s, image, g_ptr_array_index(s->names, i), errp);
    }
    return ret;
}

/* ---- a disk of the kernel ---- */

static NbdDevice *kernel_device;

static void device_ended(void *opaque)
{
    const Serve *s = opaque;

    error_report("%s has been disconnected; the image is served further", cli_get(s->args, "device"));
    nbd_device_free(kernel_device);
    kernel_device = NULL;
}

static void device_part(void)
{
    if (kernel_device) {
        nbd_device_disconnect(kernel_device);
    }
}

static int device_start(Serve *s, Error **errp)
{
    const char *device = cli_get(s->args, "device");

    if (!device) {
        return 0;
    }
    kernel_device = nbd_device_connect(device, s->nbd_path, g_ptr_array_index(s->names, 0), device_ended, s, errp);
    process_before_end(device_part);
    return kernel_device ? 0 : -EIO;
}

/* ---- sockets ---- */

static bool in_use(const char *path)
{
    Error *err = NULL;
    Client *c = client_connect(path, &err);

    error_free(err);
    client_close(c);
    return c != NULL;
}

static int choose_sockets(Serve *s, Error **errp)
{
    const char *listen = cli_get(s->args, "listen"), *first = cli_get(s->args, "name");
    g_autofree char *name = first ? g_strdup(first) : name_for(s, cli_arg(s->args, 0));
    g_autofree char *dir = NULL;

    const char *control = cli_get(s->args, "control"), *socket = listen ? NULL : cli_get(s->args, "socket");

    /* Absolute: the addresses are told to others. */
    s->control = control ? g_canonicalize_filename(control, NULL) : NULL;
    s->nbd_path = socket ? g_canonicalize_filename(socket, NULL) : NULL;
    if (listen) {
        const char *colon = strrchr(listen, ':');

        /* [::1]:10809 */
        bool bracket = *listen == '[' && colon > listen + 1 && colon[-1] == ']';

        s->host = bracket ? g_strndup(listen + 1, colon - listen - 2) : g_strndup(listen, colon - listen);
        s->port = g_strdup(colon + 1);
    }
    if (!s->control || (!listen && !s->nbd_path)) {
        dir = client_runtime_dir(true, errp);
        if (!dir) {
            return -EIO;
        }
    }
    if (!s->control) {
        s->control = g_strdup_printf("%s/%s.qmp", dir, name);
    }
    if (!listen && !s->nbd_path) {
        s->nbd_path = g_strdup_printf("%s/%s.nbd", dir, name);
    }
    if (in_use(s->control)) {
        error_setg(errp, "A server with the control socket '%s' runs already", s->control);
        error_append_hint(errp, "Give this one another --name, or end that one: liveblk qmp --control %s quit\n",
                          s->control);
        return -EADDRINUSE;
    }
    return 0;
}

static int control_start(Serve *s, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(s->control, ",", -1);
    g_autofree char *path = g_strjoinv(",,", parts);
    g_autofree char *chr = g_strdup_printf("socket,id=control,path=%s,server=on,wait=off", path);

    if (chardev_add(chr, errp) < 0) {
        return -EIO;
    }
    return chardev_start_monitor("control", false, errp);
}

static char *uri_of(Serve *s, const char *name)
{
    g_autofree char *path = s->nbd_path ? g_uri_escape_string(s->nbd_path, "/", false) : NULL;

    const char *scheme = cli_get(s->args, "tls") ? "nbds" : "nbd";

    return path ? g_strdup_printf("%s+unix:///%s?socket=%s", scheme, name, path)
                : g_strdup_printf(strchr(s->host, ':') ? "%s://[%s]:%s/%s" : "%s://%s:%s/%s", scheme, s->host, s->port, name);
}

static void say(Serve *s)
{
    if (s->args->json) {
        QDict *d = qdict_new(), *list = qlist_new();

        for (guint i = 0; i < s->names->len; i++) {
            const char *name = g_ptr_array_index(s->names, i);
            g_autofree char *uri = uri_of(s, name);
            QDict *e = qdict_new();

            qdict_put_str(e, "name", name);
            qdict_put_str(e, "image", cli_arg(s->args, i));
            qdict_put_str(e, "uri", uri);
            if (cli_get(s->args, "device")) {
                qdict_put_str(e, "device", cli_get(s->args, "device"));
            }
            qlist_append(list, e);
        }
        qdict_put_obj(d, "exports", list);
        qdict_put_str(d, "control", s->control);
        qdict_put_int(d, "pid", getpid());
        cli_print_json(d);
    } else if (!s->args->quiet) {
        for (guint i = 0; i < s->names->len; i++) {
            g_autofree char *uri = uri_of(s, g_ptr_array_index(s->names, i));

            printf("%-10s %s\n", (char *)g_ptr_array_index(s->names, i), uri);
        }
        if (cli_get(s->args, "device")) {
            printf("%-10s %s\n", "device", cli_get(s->args, "device"));
        }
        printf("%-10s %s\n", "control", s->control);
    }
    fflush(stdout);
}

static void serve_free(Serve *s)
{
    g_ptr_array_free(s->names, true);
    g_free(s->nbd_path);
    g_free(s->host);
    g_free(s->port);
    g_free(s->control);
}

int cli_serve(CliArgs *a)
{
    Serve s = { .args = a, .names = g_ptr_array_new_with_free_func(g_free) };
    Error *err = NULL;

    if (cli_get(a, "name") && a->args->len > 1) {
        return cli_usage("--name is for one image");
    }
    if (cli_get(a, "name") && !id_wellformed(cli_get(a, "name"))) {
        return cli_usage("--name: '%s' is not a name: a letter, then letters, digits, - . _", cli_get(a, "name"));
    }
    if (cli_get(a, "device") && a->args->len > 1) {
        return cli_usage("--device is for one image");
    }
    if (cli_get(a, "device") && (cli_get(a, "listen") || cli_get(a, "tls"))) {
        return cli_usage("--device needs a unix socket without TLS: leave out --%s", cli_get(a, "listen") ? "listen" : "tls");
    }
    if (cli_get(a, "tls-allow") && !cli_get(a, "tls")) {
        return cli_usage("--tls-allow is of use with --tls only");
    }
    if (cli_get(a, "listen") && cli_get(a, "socket")) {
        return cli_usage("--listen and --socket are two ways of one thing");
    }
    const char *colon = cli_get(a, "listen") ? strrchr(cli_get(a, "listen"), ':') : ":1";

    if (!colon || !g_ascii_isdigit(colon[1]) || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        g_ascii_strtoull(colon + 1, NULL, 10) - 1 > 65534) {
        return cli_usage("--listen: '%s' is not HOST:PORT", cli_get(a, "listen"));
    }
    if (choose_sockets(&s, &err) < 0) {
        serve_free(&s);
        return cli_fail(err);
    }
    if (cli_has(a, "detach")) {
        process_daemonize();
    }
    process_start();
    if (ops_run(serve_op, &s, &err) < 0 || control_start(&s, &err) < 0 || device_start(&s, &err) < 0) {
        process_end();
        serve_free(&s);
        return cli_fail(err);
    }
    say(&s);
    int ret = process_run(cli_get(a, "pidfile"));

    nbd_device_free(kernel_device);
    serve_free(&s);
    return ret;
}

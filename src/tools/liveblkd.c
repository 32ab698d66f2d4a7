/* SPDX-License-Identifier: MIT */
/* liveblkd.c: the daemon: block nodes, jobs and exports, controlled over QMP. Its command line
 * is that of qemu-storage-daemon.
 */
#include "base/osdep.h"
#include "liveblkd_help.h"
#include "process.h"
#include "trace_option.h"
#include "block/block_int-global-state.h"
#include "block/qdict.h"
#include "qapi-commands.h"
#include "qmp/chardev.h"
#include "qmp/qmp_private.h"
#include <getopt.h>

enum { OPT_BLOCKDEV = 256, OPT_CHARDEV, OPT_DAEMONIZE, OPT_EXPORT, OPT_MONITOR, OPT_NBD_SERVER, OPT_OBJECT,
       OPT_PIDFILE };

static const struct option long_options[] = {
    { "blockdev", required_argument, NULL, OPT_BLOCKDEV },
    { "chardev", required_argument, NULL, OPT_CHARDEV },
    { "daemonize", no_argument, NULL, OPT_DAEMONIZE },
    { "export", required_argument, NULL, OPT_EXPORT },
    { "help", no_argument, NULL, 'h' },
    { "monitor", required_argument, NULL, OPT_MONITOR },
    { "nbd-server", required_argument, NULL, OPT_NBD_SERVER },
    { "object", required_argument, NULL, OPT_OBJECT },
    { "pidfile", required_argument, NULL, OPT_PIDFILE },
    { "trace", required_argument, NULL, 'T' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

/* ---- options, in the order given ---- */

static void fail(const char *option, const char *arg, Error *err)
{
    error_prepend(&err, "--%s %s: ", option, arg);
    error_report_err(err);
    exit(EXIT_FAILURE);
}

/* Parse @arg into @type; ends the program on error. */
static void *parse(const char *option, const char *arg, const char *implied, const QapiType *type)
{
    Error *err = NULL;
    bool keyval;
    QDict *d = qdict_from_options(arg, implied, &keyval, &err);
    void *v = d ? qapi_from_json(type, d, keyval, &err) : NULL;

    qdict_unref(d);
    if (!v) {
        fail(option, arg, err);
    }
    return v;
}

typedef struct OptionCall {
    int opt;
    void *value;
    Error *err;
} OptionCall;

static void coroutine_fn option_co(void *opaque)
{
    OptionCall *call = opaque;

    control_co_lock();
    switch (call->opt) {
    case OPT_BLOCKDEV:
        qmp_blockdev_add(call->value, &call->err);
        break;
    case OPT_EXPORT:
        qmp_block_export_add(call->value, &call->err);
        break;
    case OPT_OBJECT:
        qmp_object_add(call->value, &call->err);
        break;
    case OPT_NBD_SERVER:
        nbd_server_start_options(call->value, &call->err);
        break;
    }
    control_co_unlock();
}

static void apply(int opt, const char *name, const char *arg, const char *implied, const QapiType *type)
{
    OptionCall call = { opt, parse(name, arg, implied, type), NULL };

    aio_co_run(option_co, &call);
    qapi_free(type, call.value);
    if (call.err) {
        fail(name, arg, call.err);
    }
}

static void add_monitor(const char *arg)
{
    Error *err = NULL;
    bool keyval, pretty = false;
    g_autoptr(QDict) d = qdict_from_options(g_str_has_suffix(arg, ",pretty") ? g_strdup_printf("%s=on", arg) : arg,
                                            "chardev", &keyval, &err);

    if (!d) {
        fail("monitor", arg, err);
    }
    json_object_object_foreach(d, key, value) {
        const char *s = json_object_get_string(value);

        if (!strcmp(key, "pretty")) {
            bool is_bool = json_object_is_type(value, json_type_boolean);

            if (!is_bool && strcmp(s, "on") && strcmp(s, "off")) {
                error_setg(&err, "Parameter 'pretty' expects 'on' or 'off'");
                fail("monitor", arg, err);
            }
            pretty = is_bool ? json_object_get_boolean(value) : !strcmp(s, "on");
        } else if (!strcmp(key, "mode")) {
            if (strcmp(s, "control")) {
                error_setg(&err, "Parameter 'mode' does not accept value '%s'", s);
                fail("monitor", arg, err);
            }
        } else if (strcmp(key, "chardev") && strcmp(key, "id")) {
            error_setg(&err, "Parameter '%s' is unexpected", key);
            fail("monitor", arg, err);
        }
    }
    const char *id = qdict_get_try_str(d, "chardev");

    if (!id) {
        error_setg(&err, "Parameter 'chardev' is missing");
    } else {
        chardev_start_monitor(id, pretty, &err);
    }
    if (err) {
        fail("monitor", arg, err);
    }
}

static char *pid_file;
static bool daemonize_wanted;

static void process_options(int argc, char **argv, bool early)
{
    Error *err = NULL;
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "-hT:V", long_options, NULL)) != -1) {
        if (early) {
            switch (c) {
            case '?':
                exit(EXIT_FAILURE);
            case 'h':
                liveblkd_help(argv[0]);
                exit(EXIT_SUCCESS);
            case 'V':
                printf("%s version " LIVEBLK_VERSION " (liveblk)\nCopyright (c) 2026 The liveblk authors\n",
                       g_get_prgname());
                exit(EXIT_SUCCESS);
            case 'T':
                if (trace_option(optarg, &err) < 0) {
                    fail("trace", optarg, err);
                }
                break;
            case OPT_DAEMONIZE:
                daemonize_wanted = true;
                break;
            case OPT_PIDFILE:
                pid_file = optarg;
                break;
            case 1:
                error_report("%s: Unexpected argument", optarg);
                exit(EXIT_FAILURE);
            }
            continue;
        }
        switch (c) {
        case OPT_BLOCKDEV:
            apply(c, "blockdev", optarg, "driver", &qapi_type_BlockdevOptions);
            break;
        case OPT_EXPORT:
            apply(c, "export", optarg, "type", &qapi_type_BlockExportOptions);
            break;
        case OPT_OBJECT:
            apply(c, "object", optarg, "qom-type", &qapi_type_ObjectOptions);
            break;
        case OPT_NBD_SERVER:
            apply(c, "nbd-server", optarg, NULL, &qapi_type_NbdServerOptions);
            break;
        case OPT_CHARDEV:
            if (chardev_add(optarg, &err) < 0) {
                fail("chardev", optarg, err);
            }
            break;
        case OPT_MONITOR:
            add_monitor(optarg);
            break;
        }
    }
}

int main(int argc, char **argv)
{
    g_autofree char *base = g_path_get_basename(argv[0]);

    g_set_prgname(base);
    process_options(argc, argv, true);
    if (daemonize_wanted) {
        process_daemonize();
    }
    process_start();
    process_options(argc, argv, false);
    return process_run(pid_file);
}

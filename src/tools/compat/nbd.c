/* SPDX-License-Identifier: MIT */
/* nbd.c: qemu-nbd: one image as an NBD export, until the last client leaves. */
#include "compat/nbd.h"
#include "block/export.h"
#include "process.h"
#include "trace_option.h"
#include "qmp/monitor.h"
#include "qmp/qmp_private.h"
#include "qapi-commands.h"
#include <getopt.h>

enum { OPT_AIO = 256, OPT_CACHE, OPT_DETECT_ZEROES, OPT_DISCARD, OPT_FORK, OPT_HANDSHAKE, OPT_IMAGE_OPTS, OPT_OBJECT,
       OPT_PID_FILE, OPT_SELINUX, OPT_TLS_AUTHZ, OPT_TLS_CREDS, OPT_TLS_HOSTNAME };

#define SHARED_MAX      100000
#define FIRST_PASSED_FD 3       /* of a service manager: sd_listen_fds(3) */

static const CompatOption nbd_options[] = {
    { 'b', "bind", "HOST", "address to listen on, or to connect to (0.0.0.0)" },
    { 'p', "port", "PORT", "TCP port (10809)" },
    { 'k', "socket", "PATH", "unix socket in place of TCP" },
    { 'e', "shared", "N", "clients at once (1); 0: any number" },
    { 't', "persistent", NULL, "go on when the last client has left" },
    { 'v', "verbose", NULL, "stay on the terminal and tell what happens" },
    { 'x', "export-name", "NAME", "name of the export (none)" },
    { 'D', "description", "TEXT", "description of the export, for people" },
    { OPT_HANDSHAKE, "handshake-limit", "SECONDS", "time that a client has to negotiate (10); 0: any" },
    { 'o', "offset", "N", "leave out so many bytes at the start" },
    { 'A', "allocation-depth", NULL, "tell clients which image of the chain data is in" },
    { 'B', "bitmap", "NAME", "tell clients what a bitmap of the image marks" },
    { 'L', "list", NULL, "tell what a server exports, and end" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { OPT_TLS_CREDS, "tls-creds", "ID", "encrypt, with the credentials of an object" },
    { OPT_TLS_AUTHZ, "tls-authz", "ID", "let in only those whom an object knows" },
    { OPT_TLS_HOSTNAME, "tls-hostname", "NAME", "name that the server's certificate has to have, with --list" },
    { 'T', "trace", "PATTERN", "tell what happens, on standard error" },
    { OPT_FORK, "fork", NULL, "go to the background when it serves" },
    { OPT_PID_FILE, "pid-file", "PATH", "write the process number there" },
    { OPT_SELINUX, "selinux-label", "LABEL", "not in this build" },
    { 'c', "connect", "DEVICE", "not in this build: `nbd-client -unix SOCKET DEVICE` does it" },
    { 'd', "disconnect", "DEVICE", "not in this build: `nbd-client -d DEVICE` does it" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILE is options, not a name" },
    { 'r', "read-only", NULL, "clients cannot write" },
    { 's', "snapshot", NULL, "what is written goes to a temporary file, and is lost at the end" },
    { 'l', "load-snapshot", "SNAPSHOT", "serve what a snapshot inside the image holds, for reading" },
    { 'n', "nocache", NULL, "the same as --cache=none" },
    { OPT_CACHE, "cache", "MODE", "how the host caches (writeback)" },
    { OPT_AIO, "aio", "MODE", "threads, native or io_uring" },
    { OPT_DISCARD, "discard", "MODE", "ignore or unmap (ignore)" },
    { OPT_DETECT_ZEROES, "detect-zeroes", "MODE", "off, on or unmap" },
    { 0 },
};

static const CompatCommand nbd_program = {
    "", "Serve an image over NBD.", "[OPTIONS] FILE", nbd_options, NULL,
};

typedef struct NbdCall {
    CompatOpen open;
    CompatSnapshot loaded;
    NbdWhere where;
    bool list, fork, persistent, read_only, snapshot, cache_given, writethrough, depth, image_option;
    uint64_t offset;
    uint32_t shared, handshake_s;
    const char *export_name, *description, *pid_file, *tls_creds, *tls_authz, *tls_hostname;
    GPtrArray *bitmaps, *objects;       /* objects: made when the process is what it will be */
} NbdCall;

/* ---- serving ---- */

static BlockBackend *coroutine_fn open_image(NbdCall *call, Error **errp)
{
    ERRP_GUARD();
    BlockBackend *blk;

    call->open.writable = !call->read_only && !call->snapshot && !call->loaded.given;
    blk = compat_co_open(&call->open, errp);
    if (!blk) {
        error_prepend(errp, "Failed to blk_new_open '%s': ", call->open.name);
        return NULL;
    }
    if (call->loaded.given && compat_co_snapshot_load(&call->loaded, blk, errp) < 0) {
        blk_unref(blk);
        return NULL;
    }
    if (call->snapshot) {
        blk = compat_co_temporary_overlay(blk, errp);
    }
    if (blk && call->offset) {
        QDict *options = qdict_new();

        qdict_put_str(options, "driver", "raw");
        qdict_put_int(options, "offset", call->offset);
        blk = compat_co_open_above(blk, options, "file", errp);
    }
    return blk;
}

static void socket_address(const NbdCall *call, SocketAddress *addr)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

    if (pid && n && atol(pid) == getpid() && atol(n) == 1) {
        addr->type = SOCKET_ADDRESS_TYPE_FD;
        addr->u.fd.str = g_strdup_printf("%d", FIRST_PASSED_FD);
    } else if (call->where.socket) {
        addr->type = SOCKET_ADDRESS_TYPE_UNIX;
        addr->u.q_unix.path = (char *)call->where.socket;
    } else {
        addr->type = SOCKET_ADDRESS_TYPE_INET;
        addr->u.inet.host = (char *)call->where.host;
        addr->u.inet.port = (char *)call->where.port;
    }
}

static int add_export(const NbdCall *call, BlockDriverState *bs, Error **errp)
{
    BlockDirtyBitmapOrStrList *bitmaps = NULL;
    BlockDirtyBitmapOrStr *names = g_new0(BlockDirtyBitmapOrStr, call->bitmaps->len + 1);
    BlockDirtyBitmapOrStrList *cells = g_new0(BlockDirtyBitmapOrStrList, call->bitmaps->len + 1);

    for (guint i = call->bitmaps->len; i > 0; i--) {
        names[i - 1] = (BlockDirtyBitmapOrStr) { .type = QTYPE_QSTRING, .u.local = g_ptr_array_index(call->bitmaps, i - 1) };
        cells[i - 1] = (BlockDirtyBitmapOrStrList) { .next = bitmaps, .value = &names[i - 1] };
        bitmaps = &cells[i - 1];
    }
    BlockExportOptions opts = {
        .type = BLOCK_EXPORT_TYPE_NBD, .id = (char *)"export", .node_name = (char *)bdrv_get_node_name(bs),
        .has_writable = true, .writable = !call->read_only, .has_writethrough = true, .writethrough = call->writethrough,
        .u.nbd = { .name = (char *)call->export_name, .description = (char *)call->description, .bitmaps = bitmaps,
                   .has_allocation_depth = true, .allocation_depth = call->depth },
    };
    bool done = blk_exp_add(&opts, errp) != NULL;

    g_free(names);
    g_free(cells);
    return done ? 0 : -EINVAL;
}

static int coroutine_fn serve_op(void *opaque, Error **errp)
{
    NbdCall *call = opaque;
    BlockBackend *blk = open_image(call, errp);
    SocketAddress addr = { 0 };
    NbdServerOptions server = {
        .addr = &addr, .handshake_max_seconds = call->handshake_s, .max_connections = call->shared,
        .tls_creds = (char *)call->tls_creds, .tls_authz = (char *)call->tls_authz,
    };
    BlockDriverState *bs;
    int ret;

    if (!blk) {
        return -EIO;
    }
    /* The export is to be the only writer. */
    bs = blk_bs(blk);
    bdrv_ref(bs);
    blk_unref(blk);
    socket_address(call, &addr);
    ret = nbd_server_start_options(&server, errp);
    if (ret == 0) {
        ret = add_export(call, bs, errp);
        if (ret < 0) {
            nbd_server_stop(NULL);
        }
    }
    if (addr.type == SOCKET_ADDRESS_TYPE_FD) {
        g_free(addr.u.fd.str);
    }
    bdrv_unref(bs);
    return ret;
}

static void last_client_gone(unsigned left)
{
    if (!left) {
        monitor_request_quit();
    }
}

static int serve(NbdCall *call)
{
    Error *err = NULL;

    if (call->fork) {
        process_daemonize();
    }
    process_start();
    compat_engine_is_started();
    for (guint i = 0; i < call->objects->len; i++) {
        if (!compat_object_add(g_ptr_array_index(call->objects, i))) {
            return EXIT_FAILURE;
        }
    }
    if (ops_run(serve_op, call, &err) < 0) {
        error_report_err(err);
        process_end();
        return EXIT_FAILURE;
    }
    if (!call->persistent) {
        nbd_server_on_client_gone(last_client_gone);
    }
    return process_run(call->pid_file);
}

static int list(const NbdCall *call)
{
    for (guint i = 0; i < call->objects->len; i++) {
        if (!compat_object_add(g_ptr_array_index(call->objects, i))) {
            return EXIT_FAILURE;
        }
    }
    return nbd_list(&call->where, call->tls_creds, call->tls_hostname);
}

/* ---- options ---- */

static bool number(const char *text, uint64_t max, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = g_ascii_strtoull(text, &end, 0);
    return g_ascii_isdigit(*text) && !*end && !errno && *value <= max;
}

static bool take_cache(NbdCall *call, const char *mode)
{
    if (call->cache_given) {
        compat_fail("-n and --cache can only be specified once");
        return false;
    }
    call->cache_given = true;
    if (!compat_cache_mode(mode, &call->open.cache_flags, &call->writethrough)) {
        compat_fail("Invalid cache mode `%s'", mode);
        return false;
    }
    return true;
}

static bool take_image_option(NbdCall *call, int c)
{
    bool unmap = !g_strcmp0(optarg, "unmap") || !g_strcmp0(optarg, "on");

    call->image_option |= c != 'r';
    switch (c) {
    case 'f': call->open.format = optarg; break;
    case OPT_IMAGE_OPTS: call->open.image_opts = true; break;
    case 'r': call->read_only = true; break;
    case 's': call->snapshot = true; break;
    case 'l':
        call->read_only = true;
        return compat_snapshot_parse(optarg, &call->loaded);
    case 'n': return take_cache(call, "none");
    case OPT_CACHE: return take_cache(call, optarg);
    case OPT_AIO:
        if (!compat_aio_mode(optarg)) {
            compat_fail("Invalid aio mode '%s'", optarg);
            return false;
        }
        call->open.aio = optarg;
        break;
    case OPT_DISCARD:
        if (!unmap && strcmp(optarg, "ignore") && strcmp(optarg, "off")) {
            compat_fail("Invalid discard mode `%s'", optarg);
            return false;
        }
        call->open.unmap = unmap;
        break;
    case OPT_DETECT_ZEROES:
        if (qapi_enum_parse(&qapi_type_BlockdevDetectZeroesOptions, optarg) < 0) {
            compat_fail("Failed to parse detect_zeroes mode: invalid parameter value: %s", optarg);
            return false;
        }
        call->open.detect_zeroes = optarg;
        break;
    case 'o':
        if (!number(optarg, INT64_MAX, &call->offset)) {
            compat_fail("Invalid offset '%s'", optarg);
            return false;
        }
        break;
    }
    return true;
}

static bool take_server_option(NbdCall *call, int c)
{
    uint64_t n;

    switch (c) {
    case 'b': call->where.host = optarg; break;
    case 'p': call->where.port = optarg; break;
    case 'k':
        if (*optarg != '/') {
            compat_fail("socket path must be absolute");
            return false;
        }
        call->where.socket = optarg;
        break;
    case 'e':
        if (!number(optarg, SHARED_MAX, &n)) {
            compat_fail("Invalid shared device number '%s'", optarg);
            return false;
        }
        call->shared = n;
        break;
    case OPT_HANDSHAKE:
        if (!number(optarg, UINT32_MAX, &n)) {
            compat_fail("Invalid handshake limit '%s'", optarg);
            return false;
        }
        call->handshake_s = n;
        break;
    case 't': call->persistent = true; break;
    case 'x': call->export_name = optarg; call->image_option = true; break;
    case 'D': call->description = optarg; call->image_option = true; break;
    case 'A': call->depth = true; break;
    case 'B': g_ptr_array_add(call->bitmaps, optarg); break;
    case OPT_FORK: call->fork = true; break;
    case OPT_PID_FILE: call->pid_file = optarg; break;
    case OPT_TLS_CREDS: call->tls_creds = optarg; break;
    case OPT_TLS_AUTHZ: call->tls_authz = optarg; break;
    case OPT_TLS_HOSTNAME: call->tls_hostname = optarg; break;
    case OPT_OBJECT: g_ptr_array_add(call->objects, optarg); break;
    }
    return true;
}

static bool take_option(NbdCall *call, int c)
{
    Error *err = NULL;

    switch (c) {
    case 'L': call->list = true; return true;
    case 'c':
    case 'd':
        compat_fail("%s: connecting the kernel's devices is not built in; nbd-client does that", optarg);
        return false;
    case OPT_SELINUX:
        compat_fail("--selinux-label is not built in");
        return false;
    case 'v':
    case 'T':
        if (trace_option(c == 'v' ? "export" : optarg, &err) < 0) {
            error_report_err(err);
            return false;
        }
        return true;
    case 'f': case 'l': case 'r': case 's': case 'n': case 'o': case OPT_IMAGE_OPTS: case OPT_CACHE: case OPT_AIO: case OPT_DISCARD:
    case OPT_DETECT_ZEROES:
        return take_image_option(call, c);
    default:
        return take_server_option(call, c);
    }
}

/* Options that do not go together: 1 after reporting, else 0. */
static int check_options(const NbdCall *call, int n_files)
{
    if (call->list && n_files) {
        return compat_fail("List mode is incompatible with a file name");
    }
    if (call->list && (call->image_option || call->depth || call->bitmaps->len)) {
        return compat_fail("List mode is incompatible with per-device settings");
    }
    if (call->list && call->fork) {
        return compat_fail("List mode is incompatible with forking");
    }
    if (!call->list && n_files != 1) {
        compat_fail("Invalid number of arguments");
        fprintf(stderr, "Try `%s --help' for more information.\n", compat_program);
        return EXIT_FAILURE;
    }
    if (call->open.image_opts && call->open.format) {
        return compat_fail("--image-opts and -f are mutually exclusive");
    }
    if (call->tls_authz && !call->tls_creds) {
        return compat_fail("--tls-authz is not permitted without --tls-creds");
    }
    if (call->tls_authz && call->list) {
        return compat_fail("TLS authorization is incompatible with export list");
    }
    if (call->tls_hostname && !call->tls_creds) {
        return compat_fail("--tls-hostname is not permitted without --tls-creds");
    }
    if (call->tls_hostname && !call->list) {
        return compat_fail("TLS hostname is only supported with export list");
    }
    if (call->open.detect_zeroes && !strcmp(call->open.detect_zeroes, "unmap") && !call->open.unmap) {
        return compat_fail("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
    }
    return 0;
}

static bool parse(NbdCall *call, int argc, char **argv, int *status)
{
    struct option longs[G_N_ELEMENTS(nbd_options) + 3] = { { "help", no_argument, NULL, 'h' },
                                                           { "version", no_argument, NULL, 'V' } };
    int c, n = 2;

    for (const CompatOption *o = nbd_options; o->c; o++) {
        longs[n++] = (struct option) { o->name, o->arg ? required_argument : no_argument, NULL, o->c };
    }
    *status = EXIT_SUCCESS;
    while ((c = getopt_long(argc, argv, "hVb:p:k:e:tvx:D:o:AB:LT:c:d:f:l:rsn", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            compat_print_help(&nbd_program, g_get_prgname());
            return false;
        case 'V':
            printf("%s " LIVEBLK_VERSION " (liveblk)\nCopyright (c) 2026 The liveblk authors\n", g_get_prgname());
            return false;
        case '?':
            compat_fail("Try `%s --help' for more information.", compat_program);
            *status = EXIT_FAILURE;
            return false;
        }
        if (!take_option(call, c)) {
            *status = EXIT_FAILURE;
            return false;
        }
    }
    *status = check_options(call, argc - optind);
    return !*status;
}

int nbd_main(int argc, char **argv)
{
    NbdCall call = { .where = { .host = "0.0.0.0", .port = "10809" }, .shared = 1, .handshake_s = 10, .export_name = "",
                     .bitmaps = g_ptr_array_new(), .objects = g_ptr_array_new() };
    int status;

    if (parse(&call, argc, argv, &status)) {
        call.open.name = argv[optind];
        status = call.list ? list(&call) : serve(&call);
    }
    compat_snapshot_clear(&call.loaded);
    g_ptr_array_free(call.bitmaps, true);
    g_ptr_array_free(call.objects, true);
    return status;
}

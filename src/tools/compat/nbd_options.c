/* SPDX-License-Identifier: MIT */
/* nbd_options.c: the command line of qemu-nbd. */
#include "compat/nbd.h"
#include "trace_option.h"
#include "qapi-commands.h"
#include <getopt.h>

enum { OPT_AIO = 256, OPT_CACHE, OPT_DETECT_ZEROES, OPT_DISCARD, OPT_FORK, OPT_HANDSHAKE, OPT_IMAGE_OPTS, OPT_OBJECT,
       OPT_PID_FILE, OPT_SELINUX, OPT_TLS_AUTHZ, OPT_TLS_CREDS, OPT_TLS_HOSTNAME };

#define SHARED_MAX      100000

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
    { OPT_SELINUX, "selinux-label", "LABEL", "the unix socket gets this security context" },
    { 'c', "connect", "DEVICE", "have the kernel show the image as a disk, such as /dev/nbd0 (modprobe nbd), in the background" },
    { 'd', "disconnect", NULL, "FILE is such a device: disconnect it" },
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
    case 'b': call->where.host = optarg; call->host_given = true; break;
    case 'p': call->where.port = optarg; call->port_given = true; break;
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
    case 'c': call->device = optarg; return true;
    case 'd': call->disconnect = true; return true;
    case OPT_SELINUX: call->selinux_label = optarg; return true;
    case 'v':
        call->verbose = true;
        /* fall through */
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

/* What a service manager that hands over its socket has decided already. 1 after reporting, else 0. */
static int check_activation(const NbdCall *call)
{
    const struct { bool given; const char *what; } taken[] = {
        { call->device, "NBD device" }, { call->where.socket, "Unix socket" }, { call->host_given, "The interface" },
        { call->port_given, "TCP port number" }, { call->selinux_label, "SELinux label" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(taken); i++) {
        if (taken[i].given) {
            return compat_fail("%s can't be set when using socket activation", taken[i].what);
        }
    }
    return call->list ? compat_fail("List mode is incompatible with socket activation") : 0;
}

static int check_tls(const NbdCall *call)
{
    if (call->tls_creds && call->device) {
        return compat_fail("TLS is not supported with a host device");
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
    return 0;
}

static int check_list(const NbdCall *call, int n_files)
{
    if (n_files) {
        return compat_fail("List mode is incompatible with a file name");
    }
    if (call->image_option || call->depth || call->bitmaps->len || call->device || call->disconnect) {
        return compat_fail("List mode is incompatible with per-device settings");
    }
    return call->fork ? compat_fail("List mode is incompatible with forking") : 0;
}

/* Options that do not go together: 1 after reporting, else 0. */
static int check_options(const NbdCall *call, int n_files)
{
    if (call->list && check_list(call, n_files)) {
        return EXIT_FAILURE;
    }
    if (!call->list && n_files != 1) {
        compat_fail("Invalid number of arguments");
        fprintf(stderr, "Try `%s --help' for more information.\n", compat_program);
        return EXIT_FAILURE;
    }
    if ((call->passed_fds && check_activation(call)) || check_tls(call)) {
        return EXIT_FAILURE;
    }
    if (call->selinux_label && !call->where.socket && !call->device) {
        return compat_fail("--selinux-label is not permitted without --socket");
    }
    if (call->passed_fds > 1) {
        return compat_fail("qemu-nbd does not support socket activation with LISTEN_FDS > 1");
    }
    if (call->open.image_opts && call->open.format) {
        return compat_fail("--image-opts and -f are mutually exclusive");
    }
    if (call->open.detect_zeroes && !strcmp(call->open.detect_zeroes, "unmap") && !call->open.unmap) {
        return compat_fail("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
    }
    return 0;
}

bool nbd_parse(NbdCall *call, int argc, char **argv, int *status)
{
    struct option longs[G_N_ELEMENTS(nbd_options) + 3] = { { "help", no_argument, NULL, 'h' },
                                                           { "version", no_argument, NULL, 'V' } };
    int c, n = 2;

    for (const CompatOption *o = nbd_options; o->c; o++) {
        longs[n++] = (struct option) { o->name, o->arg ? required_argument : no_argument, NULL, o->c };
    }
    *status = EXIT_SUCCESS;
    while ((c = getopt_long(argc, argv, "hVb:p:k:e:tvx:D:o:AB:LT:c:df:l:rsn", longs, NULL)) != -1) {
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


/* SPDX-License-Identifier: MIT */
/* nbd.c: qemu-nbd: one image as an NBD export, until the last client leaves. */
#include "compat/nbd.h"
#include "block/export.h"
#include "nbd_device.h"
#include "process.h"
#include "qmp/monitor.h"
#include "qmp/qmp_private.h"
#include "qapi-commands.h"
#include <fcntl.h>

#define FIRST_PASSED_FD 3       /* of a service manager: sd_listen_fds(3) */
#define DEVICE_SOCKET   "/var/lock/qemu-nbd-%s"

static NbdDevice *kernel_device;        /* --connect */

/* ---- what the host decides ---- */

/* How many sockets a service manager hands over. The variables are for this process only, which ends here if the sockets
 * are not there. */
static unsigned passed_fds(void)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
    char *end_pid = NULL, *end_n = NULL;
    uint64_t fds = 0;

    if (pid && n && g_ascii_isdigit(*pid) && g_ascii_isdigit(*n) && g_ascii_strtoull(pid, &end_pid, 10) == getpid() && !*end_pid) {
        fds = g_ascii_strtoull(n, &end_n, 10);
        fds = *end_n ? 0 : MIN(fds, UINT32_MAX);
        for (uint64_t fd = FIRST_PASSED_FD; fd < FIRST_PASSED_FD + fds; fd++) {
            if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
                compat_fail("Socket activation failed: invalid file descriptor fd = %" PRIu64 ": %s", fd, strerror(errno));
                exit(EXIT_FAILURE);
            }
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return fds;
}

/* The security context of the sockets that this thread makes from now on; NULL: the usual one. As in proc(5). 0 or
 * -errno. */
static int socket_label(const char *label)
{
    int fd = open("/proc/thread-self/attr/sockcreate", O_RDWR | O_CLOEXEC), ret = fd < 0 ? -errno : 0;

    if (fd >= 0 && write(fd, label, label ? strlen(label) + 1 : 0) < 0) {
        ret = -errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}

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
    if (call->passed_fds) {
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
    if (call->selinux_label) {
        socket_label(NULL);
    }
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

/* ---- the kernel's devices ---- */

static void device_ended(void *opaque)
{
    monitor_request_quit();
}

static void device_part(void)
{
    if (kernel_device) {
        nbd_device_disconnect(kernel_device);
    }
}

static int connect_device(const NbdCall *call, Error **errp)
{
    kernel_device = nbd_device_connect(call->device, call->where.socket, call->export_name, device_ended, NULL, errp);
    if (!kernel_device) {
        return -EIO;
    }
    process_before_end(device_part);
    if (call->verbose) {
        fprintf(stderr, "NBD device %s is now connected to %s\n", call->device, call->open.name);
    }
    return 0;
}

static int disconnect(const char *device)
{
    Error *err = NULL;

    if (nbd_device_detach(device, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    printf("%s disconnected\n", device);
    return EXIT_SUCCESS;
}

/* ---- the program ---- */

static int fail(Error *err)
{
    error_report_err(err);
    process_end();
    return EXIT_FAILURE;
}

static int serve(NbdCall *call)
{
    g_autofree char *base = call->device ? g_path_get_basename(call->device) : NULL;
    g_autofree char *path = call->device && !call->where.socket ? g_strdup_printf(DEVICE_SOCKET, base) : NULL;
    Error *err = NULL;

    if (path) {
        call->where.socket = path;
    }
    /* A device's server is where people look for their prompt to come back. */
    if (call->fork || (call->device && !call->verbose)) {
        process_daemonize();
    }
    process_start();
    compat_engine_is_started();
    for (guint i = 0; i < call->objects->len; i++) {
        if (!compat_object_add(g_ptr_array_index(call->objects, i))) {
            return EXIT_FAILURE;
        }
    }
    int ret = call->selinux_label ? socket_label(call->selinux_label) : 0;

    if (ret < 0) {
        compat_fail("Cannot set SELinux socket create context to %s: %s", call->selinux_label, strerror(-ret));
        process_end();
        return EXIT_FAILURE;
    }
    if (ops_run(serve_op, call, &err) < 0) {
        return fail(err);
    }
    if (!call->persistent && !call->device) {
        nbd_server_on_client_gone(last_client_gone);
    }
    if (call->device && connect_device(call, &err) < 0) {
        return fail(err);
    }
    ret = process_run(call->pid_file);
    nbd_device_free(kernel_device);
    return ret;
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

int nbd_main(int argc, char **argv)
{
    NbdCall call = { .passed_fds = passed_fds(), .where = { .host = "0.0.0.0", .port = "10809" }, .shared = 1, .handshake_s = 10, .export_name = "",
                     .bitmaps = g_ptr_array_new(), .objects = g_ptr_array_new() };
    int status;

    if (nbd_parse(&call, argc, argv, &status)) {
        call.open.name = argv[optind];
        status = call.disconnect ? disconnect(call.open.name) : call.list ? list(&call) : serve(&call);
    }
    compat_snapshot_clear(&call.loaded);
    g_ptr_array_free(call.bitmaps, true);
    g_ptr_array_free(call.objects, true);
    return status;
}

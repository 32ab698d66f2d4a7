/* SPDX-License-Identifier: MIT */
/* io_image.c: commands on the image as a whole, and on the process. */
#include "ioshell/ioshell_private.h"
#include "ioshell/specific.h"
#include <signal.h>

static int coroutine_fn flush_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    return blk_co_flush(s->blk);
}

static int coroutine_fn truncate_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    PreallocMode prealloc = PREALLOC_MODE_OFF;
    IoOptions o = { 0 };
    Error *err = NULL;
    int64_t offset;
    int c;

    while ((c = ioshell_next_option(s, &o, argc, argv, "m:")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        int mode = qapi_enum_parse(&qapi_type_PreallocMode, o.arg);

        if (mode < 0) {
            ioshell_error(s, "Invalid preallocation mode '%s'", o.arg);
            g_ptr_array_free(o.operands, true);
            return -EINVAL;
        }
        prealloc = mode;
    }
    if (o.at >= argc) {
        return ioshell_usage(s, cmd);
    }
    if (!io_parse_number(s, argv[o.at], &offset)) {
        return -EINVAL;
    }
    int ret = blk_co_truncate(s->blk, offset, false, prealloc, 0, &err);

    if (ret < 0) {
        ioshell_error_err(s, NULL, err);
    }
    return ret;
}

static int coroutine_fn length_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    int64_t bytes = blk_co_getlength(s->blk);

    if (bytes < 0) {
        ioshell_print(s, "getlength: %s\n", g_strerror(-bytes));
        return bytes;
    }
    g_autofree char *text = io_size_text(bytes);

    ioshell_print(s, "%s\n", text);
    return 0;
}

static int coroutine_fn info_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    BlockDriverInfo info = { 0 };
    Error *err = NULL;

    if (bs->drv) {
        ioshell_print(s, "format name: %s\n", bs->drv->format_name);
        if (bs->drv->protocol_name) {
            ioshell_print(s, "format name: %s\n", bs->drv->protocol_name);
        }
    }
    int ret = bdrv_get_info(bs, &info);

    if (ret < 0) {
        return ret;
    }
    g_autofree char *cluster = io_size_text(info.cluster_size), *vmstate = io_size_text(info.vm_state_offset);

    ioshell_print(s, "cluster size: %s\nvm state offset: %s\n", cluster, vmstate);
    ImageInfoSpecific *specific = bs->drv->get_specific_info ? bs->drv->get_specific_info(bs, &err) : NULL;

    if (err) {
        ioshell_error_err(s, NULL, err);
        return -EIO;
    }
    if (specific) {
        g_autofree char *text = image_specific_text(specific, 0);

        ioshell_print(s, "%s", text);
        qapi_free(&qapi_type_ImageInfoSpecific, specific);
    }
    return 0;
}

static int coroutine_fn discard_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    bool terse = false, quiet = false;
    int64_t offset, bytes;
    IoOptions o = { 0 };
    int c;

    while ((c = ioshell_next_option(s, &o, argc, argv, "Cq")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        *(c == 'C' ? &terse : &quiet) = true;
    }
    if (o.at != argc - 2) {
        return ioshell_usage(s, cmd);
    }
    if (!io_parse_number(s, argv[o.at], &offset) || !io_parse_number(s, argv[o.at + 1], &bytes)) {
        return -EINVAL;
    }
    if (bytes > IO_BYTES_MAX) {
        ioshell_print(s, "length cannot exceed %" PRId64 ", given %s\n", IO_BYTES_MAX, argv[o.at + 1]);
        return -EINVAL;
    }
    int64_t start_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int ret = blk_co_pdiscard(s->blk, offset, bytes);

    if (ret < 0) {
        ioshell_print(s, "discard failed: %s\n", g_strerror(-ret));
    } else if (!quiet) {
        io_report(s, "discard", start_ns, offset, bytes, bytes, 1, terse);
    }
    return ret;
}

/* ---- what is allocated in the image itself ---- */

/* A node that is not drained meanwhile. */
static int coroutine_fn allocated(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *n)
{
    bdrv_inc_in_flight(bs);
    int ret = bdrv_co_is_allocated(bs, offset, bytes, n);

    bdrv_dec_in_flight(bs);
    return ret;
}

static int coroutine_fn alloc_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int64_t start, bytes = BDRV_SECTOR_SIZE, length, n = 0, sum = 0;

    if (!io_parse_number(s, argv[1], &start) || (argc == 3 && !io_parse_number(s, argv[2], &bytes))) {
        return -EINVAL;
    }
    length = blk_co_getlength(s->blk);
    if (length < 0) {
        ioshell_print(s, "getlength: %s\n", g_strerror(-length));
        return length;
    }
    bytes = MIN(bytes, MAX(length - start, 0));
    for (int64_t at = 0; at < bytes; at += n) {
        int ret = allocated(bs, start + at, bytes - at, &n);

        if (ret < 0) {
            ioshell_print(s, "is_allocated failed: %s\n", g_strerror(-ret));
            return ret;
        }
        sum += ret ? n : 0;
        if (n == 0) {
            break;
        }
    }
    g_autofree char *text = io_size_text(start);

    ioshell_print(s, "%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", sum, bytes, text);
    return 0;
}

static int coroutine_fn map_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int64_t length = blk_co_getlength(s->blk), n;

    if (length < 0) {
        ioshell_error(s, "Failed to query image length: %s", g_strerror(-length));
        return length;
    }
    for (int64_t at = 0; at < length;) {
        int64_t run = 0;
        int kind = -1;

        while (at + run < length) {
            int ret = allocated(bs, at + run, length - at - run, &n);

            if (ret < 0) {
                ioshell_error(s, "Failed to get allocation status: %s", g_strerror(-ret));
                return ret;
            }
            if (n == 0) {
                ioshell_error(s, "Unexpected end of image");
                return -EIO;
            }
            if (kind >= 0 && ret != kind) {
                break;
            }
            kind = ret;
            run += n;
        }
        g_autofree char *size = io_size_text(run), *where = io_size_text(at);

        ioshell_print(s, "%s (0x%" PRIx64 ") bytes %s allocated at offset %s (0x%" PRIx64 ")\n", size, run,
                      kind ? "   " : "not", where, at);
        at += run;
    }
    return 0;
}

/* ---- time and signals ---- */

static int coroutine_fn sleep_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    char *end;

    errno = 0;
    long ms = strtol(argv[1], &end, 0);

    if (errno || end == argv[1] || *end) {
        ioshell_print(s, "%s is not a valid number\n", argv[1]);
        return errno ? -errno : -EINVAL;
    }
    if (!s->given_up) {
        co_sleep_ns_wakeable(&s->sleep, MAX(MIN(ms, INT64_MAX / 1000000), 0) * 1000000LL);
    }
    return s->given_up ? -ECANCELED : 0;
}

static bool refuse_in_daemon(IoShell *s, const IoCommand *cmd)
{
    if (s->config.in_daemon) {
        ioshell_error(s, "'%s' would end this process; use the signals of the host", cmd->name);
    }
    return s->config.in_daemon;
}

static int coroutine_fn sigraise_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    int64_t number;

    if (refuse_in_daemon(s, cmd)) {
        return -EPERM;
    }
    if (!io_parse_number(s, argv[1], &number)) {
        return -EINVAL;
    }
    if (number > NSIG) {
        ioshell_print(s, "signal argument '%s' is too large to be a valid signal\n", argv[1]);
        return -EINVAL;
    }
    fflush(stdout);
    raise(number);
    return 0;
}

static int coroutine_fn abort_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    if (refuse_in_daemon(s, cmd)) {
        return -EPERM;
    }
    abort();
}

const IoCommand io_image_commands[] = {
    { .name = "flush", .alias = "f", .run = flush_run, .oneline = "flush all in-core file state to disk" },
    { .name = "truncate", .alias = "t", .run = truncate_run, .args_min = 1, .args_max = 3,
      .perm = BLK_PERM_WRITE | BLK_PERM_RESIZE, .args = "[-m prealloc_mode] off",
      .oneline = "truncates the current file at the given offset" },
    { .name = "length", .alias = "l", .run = length_run, .oneline = "gets the length of the current file" },
    { .name = "info", .alias = "i", .run = info_run, .oneline = "prints information about the current file" },
    { .name = "discard", .alias = "d", .run = discard_run, .args_min = 2, .args_max = -1, .perm = BLK_PERM_WRITE,
      .args = "[-Cq] off len", .oneline = "discards a number of bytes at a specified offset",
      .help = "\n -C  the report for programs\n -q  no report\n Example: discard 512 1k\n\n" },
    { .name = "alloc", .alias = "a", .run = alloc_run, .args_min = 1, .args_max = 2, .args = "offset [count]",
      .oneline = "checks if offset is allocated in the file" },
    { .name = "map", .run = map_run, .args = "", .oneline = "prints the allocated areas of a file" },
    { .name = "sleep", .run = sleep_run, .args_min = 1, .args_max = 1, .no_file = true,
      .oneline = "waits for the given value in milliseconds" },
    { .name = "sigraise", .run = sigraise_run, .args_min = 1, .args_max = 1, .no_file = true, .args = "signal",
      .oneline = "raises a signal", .help = "\n By its number. Example: sigraise 15\n\n" },
    { .name = "abort", .run = abort_run, .no_file = true, .oneline = "simulate a program crash using abort(3)" },
    { 0 },
};

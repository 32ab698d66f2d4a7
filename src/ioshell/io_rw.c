/* SPDX-License-Identifier: MIT */
/* io_rw.c: read, readv, write, writev. */
#include "ioshell/ioshell_private.h"

/* ---- read ---- */

typedef struct ReadOptions {
    bool terse, quiet, dump, vmstate, check;
    uint8_t pattern;
    BdrvRequestFlags flags;
    bool has_start, has_length;
    int64_t check_start, check_length;
} ReadOptions;

static bool read_option(IoShell *s, ReadOptions *r, int c, const char *arg)
{
    int byte;

    switch (c) {
    case 'b': r->vmstate = true; break;
    case 'C': r->terse = true; break;
    case 'l': r->has_length = true; return io_parse_number(s, arg, &r->check_length);
    case 's': r->has_start = true; return io_parse_number(s, arg, &r->check_start);
    case 'p': break;            /* once chose a call; there is one only */
    case 'P':
        byte = io_pattern(s, arg);
        r->check = true;
        r->pattern = byte;
        return byte >= 0;
    case 'q': r->quiet = true; break;
    case 'r': r->flags |= BDRV_REQ_REGISTERED_BUF; break;
    case 'v': r->dump = true; break;
    }
    return true;
}

/* Does [@start, +@bytes) of @buf, which was read at @offset, hold the pattern? */
static int check_pattern(IoShell *s, const uint8_t *buf, int64_t offset, int64_t start, int64_t bytes, uint8_t pattern)
{
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[start + i] != pattern) {
            ioshell_print(s, "Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n", offset + start,
                          bytes);
            return -EINVAL;
        }
    }
    return 0;
}

static bool sector_aligned(IoShell *s, int64_t offset, int64_t bytes)
{
    const char *what = !QEMU_IS_ALIGNED(offset, BDRV_SECTOR_SIZE) ? "offset" :
                       !QEMU_IS_ALIGNED(bytes, BDRV_SECTOR_SIZE) ? "count" : NULL;

    if (what) {
        ioshell_print(s, "%" PRId64 " is not a sector-aligned value for '%s'\n", *what == 'o' ? offset : bytes, what);
    }
    return !what;
}

static bool length_fits(IoShell *s, int64_t bytes, const char *text, const char *unless)
{
    if (bytes > IO_BYTES_MAX) {
        ioshell_print(s, "length cannot exceed %" PRId64 "%s, given %s\n", IO_BYTES_MAX, unless, text);
        return false;
    }
    return true;
}

/* What of the buffer is checked is settled: both words or one may be given. */
static bool check_range(IoShell *s, ReadOptions *r, int64_t bytes)
{
    if (!r->has_length) {
        r->check_length = bytes - r->check_start;
    }
    if (r->check_start > bytes || r->check_length < 0 || r->check_length > bytes - r->check_start) {
        ioshell_print(s, "pattern verification range exceeds end of read data\n");
        return false;
    }
    return true;
}

static int coroutine_fn read_now(IoShell *s, const ReadOptions *r, const char *name, QEMUIOVector *qiov, uint8_t *buf,
                                 int64_t offset)
{
    int64_t start_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), bytes = qiov->size;
    int ret = r->vmstate ? blk_co_load_vmstate(s->blk, offset, qiov)
                         : blk_co_preadv(s->blk, offset, bytes, qiov, r->flags);

    if (ret < 0) {
        ioshell_print(s, "%s failed: %s\n", name, g_strerror(-ret));
        return ret;
    }
    if (r->check) {
        ret = check_pattern(s, buf, offset, r->check_start, r->check_length, r->pattern);
    }
    if (!r->quiet) {
        if (r->dump) {
            io_dump(s, buf, offset, bytes);
        }
        io_report(s, "read", start_ns, offset, bytes, bytes, 1, r->terse);
    }
    return ret;
}

static int coroutine_fn read_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    ReadOptions r = { 0 };
    IoOptions o = { 0 };
    QEMUIOVector qiov;
    int64_t offset, bytes;
    int c;

    while ((c = ioshell_next_option(s, &o, argc, argv, "bCl:pP:qrs:v")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        if (!read_option(s, &r, c, o.arg)) {
            g_ptr_array_free(o.operands, true);
            return -EINVAL;
        }
    }
    if (o.at != argc - 2) {
        return ioshell_usage(s, cmd);
    }
    if (!io_parse_number(s, argv[o.at], &offset) || !io_parse_number(s, argv[o.at + 1], &bytes) ||
        !length_fits(s, bytes, argv[o.at + 1], "")) {
        return -EINVAL;
    }
    if (!r.check && (r.has_start || r.has_length)) {
        return ioshell_usage(s, cmd);
    }
    if (!check_range(s, &r, bytes) || (r.vmstate && !sector_aligned(s, offset, bytes))) {
        return -EINVAL;
    }
    uint8_t *buf = io_alloc(s, bytes, 0xab);

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, buf, bytes);
    int ret = read_now(s, &r, "read", &qiov, buf, offset);

    io_free(s, buf);
    return ret;
}

static int coroutine_fn readv_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    ReadOptions r = { 0 };
    IoOptions o = { 0 };
    QEMUIOVector qiov;
    int64_t offset;
    int c;

    while ((c = ioshell_next_option(s, &o, argc, argv, "CP:qrv")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        if (!read_option(s, &r, c, o.arg)) {
            g_ptr_array_free(o.operands, true);
            return -EINVAL;
        }
    }
    if (o.at > argc - 2) {
        return ioshell_usage(s, cmd);
    }
    if (!io_parse_number(s, argv[o.at], &offset)) {
        return -EINVAL;
    }
    uint8_t *buf = io_alloc_vector(s, &qiov, argv + o.at + 1, argc - o.at - 1, 0xab);

    if (!buf) {
        return -EINVAL;
    }
    r.check_length = qiov.size;
    int ret = read_now(s, &r, "readv", &qiov, buf, offset);

    qemu_iovec_destroy(&qiov);
    io_free(s, buf);
    return ret;
}

/* ---- write ---- */

typedef struct WriteOptions {
    bool terse, quiet, vmstate, compressed, zero, has_pattern;
    uint8_t pattern;
    const char *file;
    BdrvRequestFlags flags;
} WriteOptions;

static bool write_option(IoShell *s, WriteOptions *w, int c, const char *arg)
{
    int byte;

    switch (c) {
    case 'b': w->vmstate = true; break;
    case 'c': w->compressed = true; break;
    case 'C': w->terse = true; break;
    case 'f': w->flags |= BDRV_REQ_FUA; break;
    case 'n': w->flags |= BDRV_REQ_NO_FALLBACK; break;
    case 'p': break;            /* as with read */
    case 'P':
        byte = io_pattern(s, arg);
        w->has_pattern = true;
        w->pattern = byte;
        return byte >= 0;
    case 'q': w->quiet = true; break;
    case 'r': w->flags |= BDRV_REQ_REGISTERED_BUF; break;
    case 's': w->file = arg; break;
    case 'u': w->flags |= BDRV_REQ_MAY_UNMAP; break;
    case 'z': w->zero = true; break;
    }
    return true;
}

static bool write_options_agree(IoShell *s, const WriteOptions *w)
{
    const char *wrong = NULL;

    if (w->vmstate && w->zero) {
        wrong = "-b and -z cannot be specified at the same time";
    } else if ((w->flags & BDRV_REQ_FUA) && (w->vmstate || w->compressed)) {
        wrong = "-f and -b or -c cannot be specified at the same time";
    } else if ((w->flags & BDRV_REQ_NO_FALLBACK) && !w->zero) {
        wrong = "-n requires -z to be specified";
    } else if ((w->flags & BDRV_REQ_MAY_UNMAP) && !w->zero) {
        wrong = "-u requires -z to be specified";
    } else if (w->zero + w->has_pattern + (w->file != NULL) > 1) {
        wrong = "Only one of -z, -P, and -s can be specified at the same time";
    }
    if (wrong) {
        ioshell_print(s, "%s\n", wrong);
    }
    return !wrong;
}

/* Fill @buf with what @name holds, over and over. */
static bool fill_from_file(IoShell *s, const char *name, uint8_t *buf, int64_t bytes)
{
    FILE *f = fopen(name, "rb");

    if (!f) {
        ioshell_eprint(s, "%s: %s\n", name, g_strerror(errno));
        return false;
    }
    int64_t n = fread(buf, 1, bytes, f);
    bool failed = ferror(f);

    fclose(f);
    if (failed) {
        ioshell_print(s, "%s: %s\n", name, g_strerror(EIO));
        return false;
    }
    if (n == 0 && bytes) {
        ioshell_eprint(s, "%s: file is empty\n", name);
        return false;
    }
    for (int64_t at = n; at < bytes; at += n) {
        memcpy(buf + at, buf, MIN(n, bytes - at));
    }
    return true;
}

static int coroutine_fn write_now(IoShell *s, const WriteOptions *w, const char *name, QEMUIOVector *qiov,
                                  int64_t offset, int64_t bytes)
{
    BdrvRequestFlags flags = w->flags | (s->writethrough ? BDRV_REQ_FUA : 0);
    int64_t start_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int ret;

    if (w->vmstate) {
        ret = blk_co_save_vmstate(s->blk, offset, qiov);
    } else if (w->zero) {
        ret = blk_co_pwrite_zeroes(s->blk, offset, bytes, flags & ~BDRV_REQ_REGISTERED_BUF);
    } else if (w->compressed) {
        ret = blk_co_pwritev(s->blk, offset, bytes, qiov, BDRV_REQ_WRITE_COMPRESSED);
    } else {
        ret = blk_co_pwritev(s->blk, offset, bytes, qiov, flags);
    }
    if (ret < 0) {
        ioshell_print(s, "%s failed: %s\n", name, g_strerror(-ret));
        return ret;
    }
    if (!w->quiet) {
        io_report(s, "wrote", start_ns, offset, bytes, bytes, 1, w->terse);
    }
    return 0;
}

static int coroutine_fn write_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    WriteOptions w = { .pattern = 0xcd };
    IoOptions o = { 0 };
    QEMUIOVector qiov;
    int64_t offset, bytes;
    uint8_t *buf = NULL;
    int c, ret = 0;

    while ((c = ioshell_next_option(s, &o, argc, argv, "bcCfnpP:qrs:uz")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        if (!write_option(s, &w, c, o.arg)) {
            g_ptr_array_free(o.operands, true);
            return -EINVAL;
        }
    }
    if (o.at != argc - 2) {
        return ioshell_usage(s, cmd);
    }
    if (!write_options_agree(s, &w) || !io_parse_number(s, argv[o.at], &offset) ||
        !io_parse_number(s, argv[o.at + 1], &bytes) ||
        (!(w.flags & BDRV_REQ_NO_FALLBACK) && !length_fits(s, bytes, argv[o.at + 1], " without -n")) ||
        ((w.vmstate || w.compressed) && !sector_aligned(s, offset, bytes))) {
        return -EINVAL;
    }
    if (!w.zero) {
        buf = io_alloc(s, bytes, w.pattern);
        ret = !buf ? -ENOMEM : w.file && !fill_from_file(s, w.file, buf, bytes) ? -EINVAL : 0;
        qemu_iovec_init_buf(&qiov, buf, bytes);
    }
    if (ret == 0) {
        ret = write_now(s, &w, "write", &qiov, offset, bytes);
    }
    io_free(s, buf);
    return ret;
}

static int coroutine_fn writev_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    WriteOptions w = { .pattern = 0xcd };
    IoOptions o = { 0 };
    QEMUIOVector qiov;
    int64_t offset;
    int c;

    while ((c = ioshell_next_option(s, &o, argc, argv, "CfP:qr")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        if (!write_option(s, &w, c, o.arg)) {
            g_ptr_array_free(o.operands, true);
            return -EINVAL;
        }
    }
    if (o.at > argc - 2) {
        return ioshell_usage(s, cmd);
    }
    if (!io_parse_number(s, argv[o.at], &offset)) {
        return -EINVAL;
    }
    uint8_t *buf = io_alloc_vector(s, &qiov, argv + o.at + 1, argc - o.at - 1, w.pattern);

    if (!buf) {
        return -EINVAL;
    }
    int ret = write_now(s, &w, "writev", &qiov, offset, qiov.size);

    qemu_iovec_destroy(&qiov);
    io_free(s, buf);
    return ret;
}

const IoCommand io_rw_commands[] = {
    { .name = "read", .alias = "r", .run = read_run, .args_min = 2, .args_max = -1,
      .args = "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
      .oneline = "reads a number of bytes at a specified offset",
      .help = "\n -b  from the saved state of a machine, not from the disk\n"
              " -C  the report for programs: bytes,requests,time,bytes/s,requests/s\n"
              " -l  how many bytes -P checks; -s  where it begins, counted from off\n"
              " -P  fail unless all that was read is this byte\n"
              " -q  no report\n -r  from a registered buffer\n -v  show what was read\n"
              " Example: read -v 512 1k\n\n" },
    { .name = "readv", .run = readv_run, .args_min = 2, .args_max = -1,
      .args = "[-Cqrv] [-P pattern] off len [len..]",
      .oneline = "reads a number of bytes at a specified offset",
      .help = "\n One request into several buffers. Options as with read.\n Example: readv -v 512 1k 1k\n\n" },
    { .name = "write", .alias = "w", .run = write_run, .args_min = 2, .args_max = -1, .perm = BLK_PERM_WRITE,
      .args = "[-bcCfnqruz] [-P pattern | -s source_file] off len",
      .oneline = "writes a number of bytes at a specified offset",
      .help = "\n Bytes are 0xcd unless -P, -s or -z says otherwise.\n"
              " -b  to the saved state of a machine, not to the disk\n -c  compressed\n"
              " -C  the report for programs\n -f  durable when it is done\n"
              " -n  with -z: fail where zeroes would have to be written out\n -P  this byte\n -q  no report\n"
              " -r  from a registered buffer\n -s  what this file holds, over and over\n"
              " -u  with -z: space may be given back\n -z  zeroes, without a buffer\n"
              " Example: write -P 7 512 1k\n\n" },
    { .name = "writev", .run = writev_run, .args_min = 2, .args_max = -1, .perm = BLK_PERM_WRITE,
      .args = "[-Cfqr] [-P pattern] off len [len..]",
      .oneline = "writes a number of bytes at a specified offset",
      .help = "\n One request from several buffers. Options as with write.\n Example: writev 512 1k 1k\n\n" },
    { 0 },
};

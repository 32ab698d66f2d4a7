/* SPDX-License-Identifier: MIT */
/* io_aio.c: aio_read, aio_write, aio_flush: requests that go on while the next command runs.
 *
 * What they say comes when they are done, in that order. A command of this kind succeeds when its
 * request is on its way, whatever becomes of it.
 */
#include "ioshell/ioshell_private.h"

typedef struct AioRequest {
    IoShell *s;
    bool write, zero, terse, quiet, dump, check;
    uint8_t pattern;
    BdrvRequestFlags flags;
    int64_t offset, bytes, start_ns;
    QEMUIOVector qiov;
    uint8_t *buf;               /* NULL: zeroes */
} AioRequest;

static void aio_free(AioRequest *r)
{
    if (r->buf) {
        qemu_iovec_destroy(&r->qiov);
        io_free(r->s, r->buf);
    }
    g_free(r);
}

static void aio_done(AioRequest *r, int ret)
{
    IoShell *s = r->s;

    if (ret < 0) {
        ioshell_print(s, "%s failed: %s\n", r->write ? "aio_write" : "readv", g_strerror(-ret));
        return;
    }
    for (int64_t i = 0; r->check && i < r->bytes; i++) {
        if (r->buf[i] != r->pattern) {
            ioshell_print(s, "Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n", r->offset,
                          r->bytes);
            break;
        }
    }
    if (!r->quiet) {
        if (r->dump) {
            io_dump(s, r->buf, r->offset, r->bytes);
        }
        io_report(s, r->write ? "wrote" : "read", r->start_ns, r->offset, r->bytes, r->bytes, 1, r->terse);
    }
}

static void coroutine_fn aio_co(void *opaque)
{
    AioRequest *r = opaque;
    IoShell *s = r->s;
    BlockBackend *blk = s->blk;
    int ret;

    if (r->zero) {
        ret = blk_co_pwrite_zeroes(blk, r->offset, r->bytes, r->flags);
    } else if (r->write) {
        ret = blk_co_pwritev(blk, r->offset, r->bytes, &r->qiov, r->flags);
    } else {
        ret = blk_co_preadv(blk, r->offset, r->bytes, &r->qiov, r->flags);
    }
    /* The command that began it is over before it is told of, however fast it was. */
    aio_co_yield_fair();
    aio_done(r, ret);
    aio_free(r);
    s->in_flight--;
    aio_wait_kick();
}

static void aio_start(AioRequest *r)
{
    r->s->in_flight++;
    r->start_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    qemu_coroutine_enter(qemu_coroutine_create(aio_co, r));
}

/* ---- commands ---- */

static int aio_refuse(AioRequest *r, IoOptions *o)
{
    if (o && o->operands) {
        g_ptr_array_free(o->operands, true);
    }
    aio_free(r);
    return -EINVAL;
}

static int aio_wrong_usage(AioRequest *r, const IoCommand *cmd)
{
    ioshell_usage(r->s, cmd);
    return aio_refuse(r, NULL);
}

/* A request that never was, for the account of those that were refused. */
static int aio_inject_invalid(AioRequest *r)
{
    blk_account_invalid(r->s->blk, r->write ? BLOCK_ACCT_WRITE : BLOCK_ACCT_READ);
    ioshell_print(r->s, "injecting invalid %s request\n", r->write ? "write" : "read");
    aio_free(r);
    return 0;
}

static int coroutine_fn aio_read_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    AioRequest *r = g_new0(AioRequest, 1);
    IoOptions o = { 0 };
    bool invalid = false;
    int c, byte;

    r->s = s;
    while ((c = ioshell_next_option(s, &o, argc, argv, "CP:iqrv")) != -1) {
        switch (c) {
        case 'C': r->terse = true; break;
        case 'P':
            byte = io_pattern(s, o.arg);
            if (byte < 0) {
                return aio_refuse(r, &o);
            }
            r->check = true;
            r->pattern = byte;
            break;
        case 'i': invalid = true; break;
        case 'q': r->quiet = true; break;
        case 'r': r->flags |= BDRV_REQ_REGISTERED_BUF; break;
        case 'v': r->dump = true; break;
        default: return aio_wrong_usage(r, cmd);
        }
    }
    if (invalid) {
        return aio_inject_invalid(r);
    }
    if (o.at > argc - 2) {
        return aio_wrong_usage(r, cmd);
    }
    if (!io_parse_number(s, argv[o.at], &r->offset)) {
        return aio_refuse(r, NULL);
    }
    r->buf = io_alloc_vector(s, &r->qiov, argv + o.at + 1, argc - o.at - 1, 0xab);
    if (!r->buf) {
        return aio_refuse(r, NULL);
    }
    r->bytes = r->qiov.size;
    aio_start(r);
    return 0;
}

static bool aio_write_option(IoShell *s, AioRequest *r, int c, const char *arg, bool *invalid)
{
    int byte;

    switch (c) {
    case 'C': r->terse = true; break;
    case 'f': r->flags |= BDRV_REQ_FUA; break;
    case 'i': *invalid = true; break;
    case 'P':
        byte = io_pattern(s, arg);
        r->pattern = byte;
        return byte >= 0;
    case 'q': r->quiet = true; break;
    case 'r': r->flags |= BDRV_REQ_REGISTERED_BUF; break;
    case 'u': r->flags |= BDRV_REQ_MAY_UNMAP; break;
    case 'z': r->zero = true; break;
    }
    return true;
}

/* The operands of a write, from @words on. */
static bool aio_write_operands(IoShell *s, AioRequest *r, int n, char **words)
{
    if (r->zero && n != 2) {
        ioshell_print(s, "-z supports only a single length parameter\n");
        return false;
    }
    if (!r->zero && (r->flags & BDRV_REQ_MAY_UNMAP)) {
        ioshell_print(s, "-u requires -z to be specified\n");
        return false;
    }
    if (!io_parse_number(s, words[0], &r->offset)) {
        return false;
    }
    if (r->zero) {
        r->flags &= ~BDRV_REQ_REGISTERED_BUF;
        return io_parse_number(s, words[1], &r->bytes);
    }
    r->buf = io_alloc_vector(s, &r->qiov, words + 1, n - 1, r->pattern);
    r->bytes = r->buf ? r->qiov.size : 0;
    return r->buf;
}

static int coroutine_fn aio_write_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    AioRequest *r = g_new0(AioRequest, 1);
    IoOptions o = { 0 };
    bool invalid = false;
    int c;

    r->s = s;
    r->write = true;
    r->pattern = 0xcd;
    r->flags = s->writethrough ? BDRV_REQ_FUA : 0;
    while ((c = ioshell_next_option(s, &o, argc, argv, "CfiP:qruz")) != -1) {
        if (c == '?') {
            return aio_wrong_usage(r, cmd);
        }
        if (!aio_write_option(s, r, c, o.arg, &invalid)) {
            return aio_refuse(r, &o);
        }
    }
    if (o.at > argc - 2) {
        return aio_wrong_usage(r, cmd);
    }
    if (invalid) {
        return aio_inject_invalid(r);
    }
    if (!aio_write_operands(s, r, argc - o.at, argv + o.at)) {
        return aio_refuse(r, NULL);
    }
    aio_start(r);
    return 0;
}

static int coroutine_fn aio_flush_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    ioshell_co_wait_idle(s);
    return 0;
}

const IoCommand io_aio_commands[] = {
    { .name = "aio_read", .run = aio_read_run, .args_min = 2, .args_max = -1,
      .args = "[-Ciqrv] [-P pattern] off len [len..]", .oneline = "asynchronously reads a number of bytes",
      .help = "\n The command is done when the request is on its way; aio_flush waits for it.\n"
              " -i  count it as refused, and do nothing else. The other options: see read.\n"
              " Example: aio_read -v 512 1k 1k\n\n" },
    { .name = "aio_write", .run = aio_write_run, .args_min = 2, .args_max = -1, .perm = BLK_PERM_WRITE,
      .args = "[-Cfiqruz] [-P pattern] off len [len..]", .oneline = "asynchronously writes a number of bytes",
      .help = "\n The command is done when the request is on its way; aio_flush waits for it.\n"
              " -i  count it as refused, and do nothing else. The other options: see write.\n"
              " Example: aio_write 512 1k 1k\n\n" },
    { .name = "aio_flush", .run = aio_flush_run, .oneline = "completes all outstanding aio requests" },
    { 0 },
};

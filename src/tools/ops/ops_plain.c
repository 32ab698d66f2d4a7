/* SPDX-License-Identifier: MIT */
/* ops_plain.c: copy bytes as they are: some pieces at once, so that one is read while another is written. */
#include "ops/ops.h"

#define PIECE   (512 * KiB)
#define WORKERS 4

typedef struct Plain {
    BlockBackend *source, *target;
    int64_t source_offset, target_offset, bytes;
    int64_t next;               /* that nobody has taken */
    int ret;
    Error *err;
} Plain;

static void plain_fail(Plain *p, int ret, const char *what)
{
    if (p->ret == 0) {
        p->ret = ret;
        error_setg_errno(&p->err, -ret, "%s", what);
    }
}

static void coroutine_fn plain_worker(void *opaque)
{
    Plain *p = opaque;
    uint8_t *buf = qemu_try_blockalign(blk_bs(p->source), PIECE);

    if (!buf) {
        plain_fail(p, -ENOMEM, "could not allocate memory");
    }
    while (p->next < p->bytes && p->ret == 0) {
        int64_t at = p->next, n = MIN(PIECE, p->bytes - at);

        p->next += n;
        int ret = blk_co_pread(p->source, p->source_offset + at, n, buf, BDRV_REQ_BULK);

        if (ret < 0) {
            plain_fail(p, ret, "error while reading from input image file");
            break;
        }
        ret = blk_co_pwrite(p->target, p->target_offset + at, n, buf, BDRV_REQ_BULK);
        if (ret < 0) {
            plain_fail(p, ret, "error while writing to output image file");
        }
    }
    qemu_vfree(buf);
}

int coroutine_fn ops_copy_plain(BlockBackend *source, int64_t source_offset, BlockBackend *target, int64_t target_offset,
                                int64_t bytes, Error **errp)
{
    Plain p = { source, target, source_offset, target_offset, bytes };

    ops_run_workers(WORKERS, plain_worker, &p);
    error_propagate(errp, p.err);
    return p.ret;
}

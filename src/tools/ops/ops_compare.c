/* SPDX-License-Identifier: MIT */
/* ops_compare.c: compare whole images: several coroutines, each taking the next piece.
 *
 * What to look at next is found by one at a time (a coroutine lock), since one answer of block
 * status may cover gigabytes; the data is moved by all. Memory: workers * PIECE.
 */
#include "ops/ops.h"

#define PIECE   (512 * KiB)

typedef struct Pool {
    CoMutex lock;               /* over the position and the extent */
    int64_t at, end;            /* next byte to hand out */
    int ret;                    /* the first error */
    Error *err;
    OpsProgress *progress;
    OpsCompare *compare;
} Pool;

static void pool_fail(Pool *p, int ret, const char *what, int64_t at)
{
    if (p->ret == 0) {
        p->ret = ret;
        error_setg_errno(&p->err, -ret, "%s failed at %" PRId64, what, at);
    }
}

static void compare_differ(Pool *p, int64_t at, const char *why)
{
    OpsCompare *c = p->compare;

    if (c->different_at < 0 || at < c->different_at) {
        c->different_at = at;
        c->why = why;
    }
}

typedef struct Side {
    int64_t end;                /* of the known extent */
    bool zero;
    int kind;                   /* status bits that have to be the same in strict mode */
} Side;

static int coroutine_fn side_look(Pool *p, BlockBackend *blk, int64_t length, Side *s)
{
    int64_t n;
    int ret;

    if (p->at >= length) {
        *s = (Side) { p->end, true, BDRV_BLOCK_ZERO };
        return 0;
    }
    ret = blk_co_block_status_above(blk, NULL, p->at, length - p->at, &n, NULL, NULL);
    if (ret < 0) {
        pool_fail(p, ret, "Reading the allocation", p->at);
        return ret;
    }
    *s = (Side) { p->at + n, ret & BDRV_BLOCK_ZERO, ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED |
                                                           BDRV_BLOCK_COMPRESSED) };
    return 0;
}

typedef struct Piece {
    int64_t offset, bytes;
    bool zero_a, zero_b;
} Piece;

typedef struct ComparePool {
    Pool pool;
    int64_t length_a, length_b;
    Side a, b;
} ComparePool;

static bool coroutine_fn compare_next(ComparePool *cp, Piece *piece)
{
    Pool *p = &cp->pool;
    OpsCompare *c = p->compare;
    bool found = false;

    qemu_co_mutex_lock(&p->lock);
    /* What lies behind a difference is of no interest; pieces before it are being looked at. */
    while (!found && p->at < p->end && p->ret == 0 && c->different_at < 0) {
        if ((p->at >= cp->a.end && side_look(p, c->a, cp->length_a, &cp->a) < 0) ||
            (p->at >= cp->b.end && side_look(p, c->b, cp->length_b, &cp->b) < 0)) {
            break;
        }
        int64_t both = MIN(cp->a.end, cp->b.end);

        if (c->strict && cp->a.kind != cp->b.kind) {
            compare_differ(p, p->at, "allocation");
            break;
        }
        if (cp->a.zero && cp->b.zero) {
            p->progress->done += both - p->at;
            p->at = both;
            continue;
        }
        *piece = (Piece) { p->at, MIN(both - p->at, PIECE), cp->a.zero, cp->b.zero };
        p->at += piece->bytes;
        found = true;
    }
    qemu_co_mutex_unlock(&p->lock);
    return found;
}

static int64_t first_difference(const uint8_t *a, const uint8_t *b, int64_t n)
{
    int64_t i = 0;

    while (n - i > 4096 && !memcmp(a + i, b + i, 4096)) {
        i += 4096;
    }
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

static int coroutine_fn compare_read(Pool *p, BlockBackend *blk, const Piece *piece, bool zero, uint8_t *buf)
{
    int ret = 0;

    if (zero) {
        memset(buf, 0, piece->bytes);
    } else {
        ret = blk_co_pread(blk, piece->offset, piece->bytes, buf, BDRV_REQ_BULK);
        if (ret < 0) {
            pool_fail(p, ret, "Reading", piece->offset);
        }
    }
    return ret;
}

static void coroutine_fn compare_worker(void *opaque)
{
    ComparePool *cp = container_of(opaque, ComparePool, pool);
    Pool *p = &cp->pool;
    uint8_t *a = qemu_try_blockalign(blk_bs(p->compare->a), PIECE), *b = qemu_try_blockalign(blk_bs(p->compare->b), PIECE);
    Piece piece;

    if (!a || !b) {
        pool_fail(p, -ENOMEM, "Comparing", p->at);
    }
    while (p->ret == 0 && compare_next(cp, &piece)) {
        if (compare_read(p, p->compare->a, &piece, piece.zero_a, a) < 0 ||
            compare_read(p, p->compare->b, &piece, piece.zero_b, b) < 0) {
            break;
        }
        if (memcmp(a, b, piece.bytes)) {
            compare_differ(p, piece.offset + first_difference(a, b, piece.bytes), "content");
        }
        p->progress->done += piece.bytes;
    }
    qemu_vfree(a);
    qemu_vfree(b);
}

int coroutine_fn ops_compare(OpsCompare *c, Error **errp)
{
    ComparePool cp = { .pool = { .compare = c, .progress = c->progress } };

    c->different_at = -1;
    c->why = NULL;
    cp.length_a = blk_co_getlength(c->a);
    cp.length_b = blk_co_getlength(c->b);
    if (cp.length_a < 0 || cp.length_b < 0) {
        int ret = MIN(cp.length_a, cp.length_b);

        error_setg_errno(errp, -ret, "Could not get the size of an image");
        return ret;
    }
    if (c->strict && cp.length_a != cp.length_b) {
        c->different_at = MIN(cp.length_a, cp.length_b);
        c->why = "size";
        return 0;
    }
    cp.pool.end = c->progress->total = MAX(cp.length_a, cp.length_b);
    qemu_co_mutex_init(&cp.pool.lock);
    ops_run_workers(4, compare_worker, &cp.pool);
    error_propagate(errp, cp.pool.err);
    return cp.pool.ret;
}

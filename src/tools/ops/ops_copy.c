/* SPDX-License-Identifier: MIT */
/* ops_copy.c: copy or compare whole images: several coroutines, each taking the next piece.
 *
 * What to look at next is found by one at a time (a coroutine lock), since one answer of block
 * status may cover gigabytes; the data is moved by all. Memory: workers * PIECE.
 */
#include "ops/ops.h"

#define PIECE   (1 * MiB)

typedef struct Pool {
    CoMutex lock;               /* over the position and the extent */
    int64_t at, end;            /* next byte to hand out */
    int64_t extent_end;         /* up to here, `data` and `zero` are known */
    bool data, zero;
    unsigned running;
    int ret;                    /* the first error */
    Error *err;
    Coroutine *owner;           /* waits for the workers */
    OpsProgress *progress;
    const OpsCopy *copy;
    OpsCompare *compare;
} Pool;

static void pool_fail(Pool *p, int ret, const char *what, int64_t at)
{
    if (p->ret == 0) {
        p->ret = ret;
        error_setg_errno(&p->err, -ret, "%s failed at %" PRId64, what, at);
    }
}

static void worker_done(Pool *p)
{
    if (--p->running == 0) {
        aio_co_wake(p->owner);
    }
}

static int coroutine_fn pool_run(Pool *p, CoroutineEntry *entry, int workers, Error **errp)
{
    qemu_co_mutex_init(&p->lock);
    p->owner = qemu_coroutine_self();
    p->running = workers + 1;
    for (int i = 0; i < workers; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(entry, p));
    }
    if (--p->running) {
        qemu_coroutine_yield();
    }
    error_propagate(errp, p->err);
    return p->ret;
}

/* ---- copy ---- */

/* The next piece that has to be written: true; false: no more. */
static bool coroutine_fn copy_next(Pool *p, int64_t *offset, int64_t *bytes, bool *zero)
{
    bool found = false;

    qemu_co_mutex_lock(&p->lock);
    while (!found && p->at < p->end && p->ret == 0) {
        if (p->at >= p->extent_end) {
            int64_t n;
            int ret = blk_co_block_status_above(p->copy->source, NULL, p->at, p->end - p->at, &n, NULL, NULL);

            if (ret < 0) {
                pool_fail(p, ret, "Reading the allocation", p->at);
                break;
            }
            p->extent_end = p->at + n;
            p->zero = ret & BDRV_BLOCK_ZERO;
        }
        if (p->zero && p->copy->sparse) {
            p->progress->done += p->extent_end - p->at;
            p->at = p->extent_end;
            continue;
        }
        /* Pieces end at multiples of their size: clusters of the target are filled in one go. */
        *offset = p->at;
        *bytes = MIN(MIN(p->extent_end, QEMU_ALIGN_DOWN(p->at + PIECE, PIECE)), p->end) - p->at;
        *zero = p->zero;
        p->at += *bytes;
        found = true;
    }
    qemu_co_mutex_unlock(&p->lock);
    return found;
}

/* Write what is not zero of @buf, in runs; short runs of zeroes are not worth a gap. */
static int coroutine_fn write_sparse(BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t *buf)
{
    const int64_t unit = 64 * KiB;
    int64_t from = -1;

    for (int64_t at = 0; at < bytes; at += unit) {
        int64_t n = MIN(unit, bytes - at);
        bool empty = buffer_is_zero(buf + at, n);

        if (!empty && from < 0) {
            from = at;
        }
        if (from >= 0 && (empty || at + n == bytes)) {
            int64_t to = empty ? at : at + n;
            int ret = blk_co_pwrite(blk, offset + from, to - from, buf + from, BDRV_REQ_BULK);

            if (ret < 0) {
                return ret;
            }
            from = -1;
        }
    }
    return 0;
}

static void coroutine_fn copy_worker(void *opaque)
{
    Pool *p = opaque;
    const OpsCopy *c = p->copy;
    uint8_t *buf = qemu_try_blockalign(blk_bs(c->source), PIECE);
    int64_t offset, bytes;
    bool zero;

    if (!buf) {
        pool_fail(p, -ENOMEM, "Copying", p->at);
    }
    while (buf && p->ret == 0 && copy_next(p, &offset, &bytes, &zero)) {
        int ret = 0;

        if (zero) {
            memset(buf, 0, bytes);
        } else {
            ret = blk_co_pread(c->source, offset, bytes, buf, BDRV_REQ_BULK);
        }
        if (ret < 0) {
            pool_fail(p, ret, "Reading", offset);
            break;
        }
        ret = c->sparse ? write_sparse(c->target, offset, bytes, buf)
                        : blk_co_pwrite(c->target, offset, bytes, buf, BDRV_REQ_BULK);
        if (ret < 0) {
            pool_fail(p, ret, "Writing", offset);
            break;
        }
        p->progress->done += bytes;
    }
    qemu_vfree(buf);
    worker_done(p);
}

int coroutine_fn ops_copy(const OpsCopy *c, Error **errp)
{
    Pool p = { .copy = c, .progress = c->progress };
    int ret;

    p.end = blk_co_getlength(c->source);
    if (p.end < 0) {
        error_setg_errno(errp, -p.end, "Could not get the size of the source");
        return p.end;
    }
    c->progress->total = p.end;
    ret = pool_run(&p, copy_worker, c->workers, errp);
    if (ret == 0) {
        ret = blk_co_flush(c->target);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Flushing the target failed");
        }
    }
    return ret;
}

/* ---- compare ---- */

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
    worker_done(p);
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
    return pool_run(&cp.pool, compare_worker, 4, errp);
}

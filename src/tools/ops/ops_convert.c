/* SPDX-License-Identifier: MIT */
/* ops_convert.c: copy one image, or several behind each other, into one that is there.
 *
 * Workers take pieces of the source, read them, and write what is not zero. Where the target
 * allocates as it is written, writes begin in the order of the disk, so that it can be read in
 * one go later; reads do not wait for that.
 */
#include "ops/ops.h"
#include "aio/host.h"
#include "base/ratelimit.h"

#define PIECE           (512 * KiB)     /* what stays in a processor's cache */
#define PACK_PIECE      (512 * KiB)     /* to be compressed: for one worker at a time */

typedef enum PieceKind { PIECE_DATA, PIECE_ZERO, PIECE_BACKING } PieceKind;

typedef struct Convert {
    const OpsConvert *o;
    CoMutex lock;               /* over all below */
    int64_t at;                 /* next byte to hand out, of all sources together */
    int source;                 /* that holds it */
    int64_t source_start;
    int64_t extent_end, known_end;      /* known_end: of the extent behind, which is of another kind */
    PieceKind kind, known_kind;
    uint64_t next_ticket, writing;      /* writes in order: tickets are given out with pieces */
    CoQueue turn;
    RateLimit rate;
    bool zeroed, no_copy_range;
    int64_t unit;               /* zeroes are looked for in pieces of this size; 0: not */
    int ret;
    Error *err;
} Convert;

typedef struct Piece {
    int source;
    int64_t source_offset, offset, bytes;
    PieceKind kind;
    uint64_t ticket;
} Piece;

static void convert_fail(Convert *c, int ret, const char *what, int64_t at)
{
    if (c->ret == 0) {
        c->ret = ret;
        error_setg_errno(&c->err, -ret, "error while %s at byte %" PRId64, what, at);
    }
}

/* ---- what to copy ---- */

static int64_t source_length(const Convert *c)
{
    return blk_getlength_cached(c->o->sources[c->source]);
}

/* What begins at @at, which lies in c->source, and where it ends. */
static int coroutine_fn look_at(Convert *c, int64_t at, PieceKind *kind, int64_t *end)
{
    BlockBackend *blk = c->o->sources[c->source];
    BlockDriverState *base = NULL;
    int64_t offset = at - c->source_start, n = source_length(c) - offset;

    if (c->o->target_has_backing) {
        base = bdrv_backing_chain_next(bdrv_skip_filters(blk_bs(blk)));
    }
    int ret = blk_co_block_status_above(blk, base, offset, n, &n, NULL, NULL);

    if (ret < 0 && c->o->salvage) {
        ret = BDRV_BLOCK_DATA;
        n = MIN(source_length(c) - offset, 64 * KiB);
    }
    if (ret < 0) {
        return ret;
    }
    *end = at + n;
    *kind = ret & BDRV_BLOCK_ZERO ? PIECE_ZERO :
            base && !(ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED)) ? PIECE_BACKING : PIECE_DATA;
    return 0;
}

/* The extent at c->at, which lies in c->source. Extents are as long as the source lies in one piece; what is copied
 * is longer, so those that follow and are alike go with it. */
static int coroutine_fn look(Convert *c)
{
    int64_t source_end = c->source_start + source_length(c), end;
    PieceKind kind;
    int ret = 0;

    if (c->known_end > c->at) {
        c->extent_end = c->known_end;
        c->kind = c->known_kind;
    } else {
        ret = look_at(c, c->at, &c->kind, &c->extent_end);
    }
    c->known_end = 0;
    while (!ret && c->extent_end < source_end && c->extent_end < QEMU_ALIGN_DOWN(c->at + PIECE, PIECE)) {
        ret = look_at(c, c->extent_end, &kind, &end);
        if (ret < 0) {
            return 0;       /* to be told of when it is its turn */
        }
        if (kind != c->kind) {
            c->known_kind = kind;
            c->known_end = end;
            return 0;
        }
        c->extent_end = end;
    }
    return ret;
}

static bool nothing_to_do(const Convert *c)
{
    if (c->kind == PIECE_BACKING) {
        return true;
    }
    return c->kind == PIECE_ZERO && c->zeroed && c->unit &&
           (!c->o->target_has_backing || c->at >= c->o->target_backing_length);
}

static bool coroutine_fn next_piece(Convert *c, Piece *p)
{
    bool found = false;

    qemu_co_mutex_lock(&c->lock);
    while (!found && c->ret == 0 && c->at < c->o->progress->total) {
        while (c->at - c->source_start >= source_length(c)) {
            c->source_start += source_length(c);
            c->source++;
            c->known_end = 0;
        }
        if (c->at >= c->extent_end) {
            int ret = look(c);

            if (ret < 0) {
                convert_fail(c, ret, "reading block status", c->at);
                break;
            }
        }
        int64_t end = c->extent_end;

        p->kind = c->kind;
        if (c->o->compressed && end < c->o->progress->total) {
            end = QEMU_ALIGN_DOWN(end, c->o->compressed);
        }
        if (end > c->at && nothing_to_do(c)) {
            c->o->progress->done += end - c->at;
            c->at = end;
            continue;
        }
        if (c->o->compressed) {
            /* Whole clusters of the target, whatever the source has there. */
            int64_t max = MAX(PACK_PIECE, c->o->compressed);

            p->kind = end > c->at ? c->kind : PIECE_DATA;
            p->bytes = p->kind == PIECE_DATA && end > c->at ? MIN(end, QEMU_ALIGN_DOWN(c->at + max, max)) - c->at
                                                            : c->o->compressed;
            p->bytes = MIN(p->bytes, c->o->progress->total - c->at);
        } else if (c->kind == PIECE_ZERO && c->unit) {
            p->bytes = MIN(end - c->at, 1 * GiB);
        } else {
            p->bytes = MIN(end, QEMU_ALIGN_DOWN(c->at + PIECE, PIECE)) - c->at;
        }
        p->source = c->source;
        p->source_offset = c->at - c->source_start;
        p->offset = c->at;
        p->ticket = c->next_ticket++;
        c->at += p->bytes;
        found = true;
    }
    qemu_co_mutex_unlock(&c->lock);
    return found;
}

/* ---- reading ---- */

/* By sectors; those that cannot be read become zeroes. */
static void coroutine_fn read_salvage(Convert *c, BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t *buf)
{
    for (int64_t at = 0; at < bytes; at += BDRV_SECTOR_SIZE) {
        int64_t n = MIN(BDRV_SECTOR_SIZE, bytes - at);
        int ret = blk_co_pread(blk, offset + at, n, buf + at, 0);

        if (ret < 0) {
            if (!c->o->quiet) {
                warn_report("error while reading offset %" PRId64 ": %s", offset + at, g_strerror(-ret));
            }
            memset(buf + at, 0, n);
        }
    }
}

/* A piece may reach into the next source (clusters that are compressed). */
static int coroutine_fn read_piece(Convert *c, const Piece *p, uint8_t *buf)
{
    int source = p->source;
    int64_t offset = p->source_offset;

    if (p->kind == PIECE_ZERO) {
        memset(buf, 0, p->bytes);
        return 0;
    }
    for (int64_t done = 0; done < p->bytes; source++, offset = 0) {
        BlockBackend *blk = c->o->sources[source];
        int64_t n = MIN(p->bytes - done, blk_getlength_cached(blk) - offset);
        int ret = n > 0 ? blk_co_pread(blk, offset, n, buf + done, BDRV_REQ_BULK) : 0;

        if (ret < 0 && !c->o->salvage) {
            return ret;
        }
        if (ret < 0) {
            read_salvage(c, blk, offset, n, buf + done);
        }
        done += MAX(n, 0);
    }
    return 0;
}

/* ---- writing ---- */

static int coroutine_fn write_zeroes(Convert *c, int64_t offset, int64_t bytes)
{
    if (c->zeroed && (!c->o->target_has_backing || offset >= c->o->target_backing_length)) {
        return 0;
    }
    return blk_co_pwrite_zeroes(c->o->target, offset, bytes, c->o->target_has_backing ? 0 : BDRV_REQ_MAY_UNMAP);
}

/* Runs of data and of zeroes, in steps of @unit, which lie at multiples of their size on the disk. */
static int coroutine_fn write_runs(Convert *c, int64_t offset, int64_t bytes, uint8_t *buf, int64_t unit)
{
    int64_t at = 0;
    int ret = 0;

    while (at < bytes && ret == 0) {
        int64_t end = MIN(QEMU_ALIGN_DOWN(offset + at + unit, unit) - offset, bytes);
        bool zero = buffer_is_zero(buf + at, end - at);

        while (end < bytes && buffer_is_zero(buf + end, MIN(unit, bytes - end)) == zero) {
            end += MIN(unit, bytes - end);
        }
        ret = zero ? write_zeroes(c, offset + at, end - at)
            : c->o->compressed ? blk_co_pwrite_compressed(c->o->target, offset + at, end - at, buf + at)
            : blk_co_pwrite(c->o->target, offset + at, end - at, buf + at, BDRV_REQ_BULK);
        at = end;
    }
    return ret;
}

static int coroutine_fn write_piece(Convert *c, const Piece *p, uint8_t *buf)
{
    if (p->kind == PIECE_ZERO && c->unit) {
        return write_zeroes(c, p->offset, p->bytes);
    }
    if (c->o->compressed) {
        return c->unit ? write_runs(c, p->offset, p->bytes, buf, c->o->compressed)
                       : blk_co_pwrite_compressed(c->o->target, p->offset, p->bytes, buf);
    }
    return c->unit ? write_runs(c, p->offset, p->bytes, buf, c->unit)
                   : blk_co_pwrite(c->o->target, p->offset, p->bytes, buf, BDRV_REQ_BULK);
}

/* 1: done; 0: to be read and written. */
static int coroutine_fn try_copy_range(Convert *c, const Piece *p)
{
    if (!c->o->copy_range || c->no_copy_range || p->kind != PIECE_DATA) {
        return 0;
    }
    if (blk_co_copy_range(c->o->sources[p->source], p->source_offset, c->o->target, p->offset, p->bytes, 0, 0) < 0) {
        c->no_copy_range = true;
        return 0;
    }
    return 1;
}

static void coroutine_fn wait_turn(Convert *c, const Piece *p)
{
    qemu_co_mutex_lock(&c->lock);
    while (c->writing != p->ticket && c->ret == 0) {
        qemu_co_queue_wait(&c->turn, &c->lock);
    }
    qemu_co_mutex_unlock(&c->lock);
}

static void coroutine_fn turn_over(Convert *c)
{
    qemu_co_mutex_lock(&c->lock);
    c->writing++;
    qemu_co_queue_restart_all(&c->turn);
    qemu_co_mutex_unlock(&c->lock);
}

static void coroutine_fn keep_pace(Convert *c, int64_t bytes)
{
    if (c->o->rate) {
        int64_t wait = ratelimit_calculate_delay(&c->rate, bytes, host_ops->clock_ns(QEMU_CLOCK_REALTIME));

        if (wait > 0) {
            co_sleep_ns(wait);
        }
    }
}

static void coroutine_fn copy_piece(Convert *c, const Piece *p, uint8_t *buf)
{
    bool offloaded = try_copy_range(c, p) > 0;
    int ret = offloaded ? 0 : p->kind == PIECE_ZERO && c->unit ? 0 : read_piece(c, p, buf);

    if (ret < 0) {
        convert_fail(c, ret, "reading", p->offset);
    }
    if (c->o->in_order) {
        /* Who has begun to write has its place, or soon will: the next one need not wait for the end. */
        wait_turn(c, p);
        turn_over(c);
    }
    if (c->ret == 0 && !offloaded) {
        ret = write_piece(c, p, buf);
        if (ret < 0) {
            convert_fail(c, ret, "writing", p->offset);
        }
    }
    c->o->progress->done += p->bytes;
    keep_pace(c, p->bytes);
}

static void coroutine_fn convert_worker(void *opaque)
{
    Convert *c = opaque;
    int64_t size = MAX(PIECE, c->o->compressed);
    uint8_t *buf = qemu_try_blockalign(blk_bs(c->o->target), size);
    Piece p;

    if (!buf) {
        convert_fail(c, -ENOMEM, "allocating memory", c->at);
    }
    while (c->ret == 0 && next_piece(c, &p)) {
        copy_piece(c, &p, buf);
    }
    qemu_vfree(buf);
}

/* ---- the whole ---- */

int coroutine_fn ops_convert(const OpsConvert *o, Error **errp)
{
    Convert c = { .o = o, .zeroed = o->target_is_zero, .unit = o->sparse_bytes };
    int64_t total = 0;

    for (int i = 0; i < o->n_sources; i++) {
        total += blk_getlength_cached(o->sources[i]);
    }
    /* What is there already goes in one request, where that is cheap; what lies behind the copy stays. */
    if (!c.zeroed && !o->target_has_backing && c.unit && total &&
        blk_co_pwrite_zeroes(o->target, 0, total,
                             BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) == 0) {
        c.zeroed = true;
    }
    o->progress->total = total;
    ratelimit_set_speed(&c.rate, o->rate, 100 * 1000 * 1000);
    qemu_co_mutex_init(&c.lock);
    qemu_co_queue_init(&c.turn);
    ops_run_workers(o->workers, convert_worker, &c);
    if (c.ret == 0) {
        c.ret = blk_co_flush(o->target);
        if (c.ret < 0) {
            error_setg_errno(errp, -c.ret, "error while flushing the target");
        }
    }
    error_propagate(errp, c.err);
    return c.ret;
}

/* SPDX-License-Identifier: MIT */
/* quorum_io.c: requests of quorum nodes: sent to all children at once, and the answers counted.
 *
 * Runs on: any thread. The list of children changes on a drained node only.
 */
#include "drivers/filter/quorum.h"

typedef enum QuorumKind { QUORUM_READ, QUORUM_WRITE, QUORUM_ZERO, QUORUM_FLUSH } QuorumKind;

struct QuorumRequest;

typedef struct QuorumPart {
    struct QuorumRequest *r;
    int index, ret;
    uint8_t *buf;               /* of a read */
    int version;                /* first child that says the same; -1: it failed */
} QuorumPart;

typedef struct QuorumRequest {
    BlockDriverState *bs;
    QuorumKind kind;
    int64_t offset, bytes;
    QEMUIOVector *qiov;
    size_t qiov_offset;
    BdrvRequestFlags flags;
    QuorumPart *parts;
    int running;
    Coroutine *waiter;
} QuorumRequest;

/* ---- all at once ---- */

static int coroutine_fn send_part(QuorumRequest *r, QuorumPart *p)
{
    QuorumState *s = r->bs->opaque;
    BdrvChild *c = s->children[p->index];
    QEMUIOVector qiov;

    switch (r->kind) {
    case QUORUM_READ:
        qemu_iovec_init_buf(&qiov, p->buf, r->bytes);
        return bdrv_co_preadv(c, r->offset, r->bytes, &qiov, r->flags);
    case QUORUM_WRITE:
        return bdrv_co_pwritev_part(c, r->offset, r->bytes, r->qiov, r->qiov_offset, r->flags);
    case QUORUM_ZERO:
        return bdrv_co_pwrite_zeroes(c, r->offset, r->bytes, r->flags);
    default:
        return bdrv_co_flush(c->bs);
    }
}

static void coroutine_fn part_co(void *opaque)
{
    QuorumPart *p = opaque;
    QuorumRequest *r = p->r;

    p->ret = send_part(r, p);
    if (--r->running == 0 && r->waiter) {
        aio_co_wake(r->waiter);
    }
}

static void coroutine_fn send_to_all(QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;

    r->running = s->n;
    r->waiter = NULL;
    for (int i = 0; i < s->n; i++) {
        r->parts[i].r = r;
        r->parts[i].index = i;
        qemu_coroutine_enter(qemu_coroutine_create(part_co, &r->parts[i]));
    }
    if (r->running) {
        r->waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
}

/* ---- telling ---- */

static QuorumOpType op_type(QuorumKind kind)
{
    return kind == QUORUM_READ ? QUORUM_OP_TYPE_READ : kind == QUORUM_FLUSH ? QUORUM_OP_TYPE_FLUSH : QUORUM_OP_TYPE_WRITE;
}

static void sectors_of(const QuorumRequest *r, int64_t *start, int64_t *count)
{
    *start = r->offset / BDRV_SECTOR_SIZE;
    *count = DIV_ROUND_UP(r->offset + r->bytes, BDRV_SECTOR_SIZE) - *start;
}

/* @ret 0: it answered otherwise than the others. */
static void report_bad(const QuorumRequest *r, int index, int ret)
{
    QuorumState *s = r->bs->opaque;
    int64_t start, count;

    sectors_of(r, &start, &count);
    qapi_event_send_quorum_report_bad(op_type(r->kind), ret < 0 ? g_strerror(-ret) : NULL,
                                      bdrv_get_node_name(s->children[index]->bs), start, count);
}

static void report_failure(const QuorumRequest *r)
{
    int64_t start, count;

    sectors_of(r, &start, &count);
    qapi_event_send_quorum_failure(bdrv_get_device_or_node_name(r->bs), start, count);
}

/* The error that most children gave. */
static int most_common_error(const QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;
    int best = -EIO, best_count = 0;

    for (int i = 0; i < s->n; i++) {
        int count = 0;

        for (int j = 0; j < s->n; j++) {
            count += r->parts[j].ret == r->parts[i].ret;
        }
        if (r->parts[i].ret < 0 && count > best_count) {
            best = r->parts[i].ret;
            best_count = count;
        }
    }
    return best;
}

/* 0 if enough succeeded, else the error. All that failed are told. */
static int count_successes(const QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;
    int good = 0;

    for (int i = 0; i < s->n; i++) {
        if (r->parts[i].ret < 0) {
            report_bad(r, i, r->parts[i].ret);
        } else {
            good++;
        }
    }
    if (good >= s->threshold) {
        return 0;
    }
    report_failure(r);
    return most_common_error(r);
}

/* ---- reads ---- */

static bool parts_alloc(QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;

    r->parts = g_new0(QuorumPart, s->n);
    for (int i = 0; i < s->n && r->kind == QUORUM_READ; i++) {
        r->parts[i].buf = qemu_try_blockalign(r->bs, r->bytes);
        if (!r->parts[i].buf) {
            return false;
        }
    }
    return true;
}

static void parts_free(QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;

    for (int i = 0; i < s->n; i++) {
        qemu_vfree(r->parts[i].buf);
    }
    g_free(r->parts);
}

/* Which children say the same; returns the version with most votes. */
static int count_votes(QuorumRequest *r, int *votes)
{
    QuorumState *s = r->bs->opaque;
    int best = -1;

    *votes = 0;
    for (int i = 0; i < s->n; i++) {
        QuorumPart *p = &r->parts[i];
        int same = 0;

        p->version = p->ret < 0 ? -1 : i;
        for (int j = 0; j < i && p->version == i; j++) {
            if (r->parts[j].version == j && !memcmp(r->parts[j].buf, p->buf, r->bytes)) {
                p->version = j;
            }
        }
        for (int j = 0; j <= i; j++) {
            same += p->version >= 0 && r->parts[j].version == p->version;
        }
        if (same > *votes) {
            *votes = same;
            best = p->version;
        }
    }
    return best;
}

/* -EAGAIN: somebody has to be rewritten. */
static int judge_read(QuorumRequest *r, bool rewriting, int *winner)
{
    QuorumState *s = r->bs->opaque;
    int votes, ret = count_successes(r);
    bool differ = false;

    if (ret < 0) {
        return ret;
    }
    *winner = count_votes(r, &votes);
    for (int i = 0; i < s->n; i++) {
        differ |= r->parts[i].ret == 0 && r->parts[i].version != *winner;
    }
    if (differ && s->is_blkverify) {
        error_report("quorum: the children of '%s' differ at offset %" PRId64 ", in %" PRId64 " bytes",
                     bdrv_get_device_or_node_name(r->bs), r->offset, r->bytes);
    }
    if (votes < s->threshold) {
        report_failure(r);
        return -EIO;
    }
    if (differ && s->rewrite_corrupted && !rewriting) {
        return -EAGAIN;
    }
    for (int i = 0; i < s->n; i++) {
        if (r->parts[i].ret == 0 && r->parts[i].version != *winner) {
            report_bad(r, i, 0);
        }
    }
    return 0;
}

static void coroutine_fn rewrite_losers(QuorumRequest *r, int winner)
{
    QuorumState *s = r->bs->opaque;

    for (int i = 0; i < s->n; i++) {
        if (r->parts[i].ret == 0 && r->parts[i].version != winner) {
            /* Should it fail, it is bad again the next time. */
            bdrv_co_pwrite(s->children[i], r->offset, r->bytes, r->parts[winner].buf, 0);
        }
    }
}

/* All children. Where one is to be rewritten, all are read anew while nobody writes. */
static int coroutine_fn read_and_vote(QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;
    int ret = -ENOMEM, winner = 0;

    if (parts_alloc(r)) {
        send_to_all(r);
        ret = judge_read(r, false, &winner);
        if (ret == -EAGAIN) {
            qemu_co_rwlock_wrlock(&s->rewrite_lock);
            send_to_all(r);
            ret = judge_read(r, true, &winner);
            if (ret == 0) {
                rewrite_losers(r, winner);
            }
            qemu_co_rwlock_unlock(&s->rewrite_lock);
        }
    }
    if (ret == 0) {
        qemu_iovec_from_buf(r->qiov, r->qiov_offset, r->parts[winner].buf, r->bytes);
    }
    parts_free(r);
    return ret;
}

/* The first that can. */
static int coroutine_fn read_first(QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;
    int ret = -EIO;

    for (int i = 0; i < s->n && ret < 0; i++) {
        ret = bdrv_co_preadv_part(s->children[i], r->offset, r->bytes, r->qiov, r->qiov_offset, r->flags);
        if (ret < 0) {
            report_bad(r, i, ret);
        }
    }
    if (ret < 0) {
        report_failure(r);
    }
    return ret;
}

int coroutine_fn quorum_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags)
{
    QuorumState *s = bs->opaque;
    QuorumRequest r = { .bs = bs, .kind = QUORUM_READ, .offset = offset, .bytes = bytes, .qiov = qiov,
                        .qiov_offset = qiov_offset, .flags = flags & ~BDRV_REQ_REGISTERED_BUF };

    return s->pattern == QUORUM_READ_PATTERN_FIFO ? read_first(&r) : read_and_vote(&r);
}

/* ---- writes, flushes ---- */

static int coroutine_fn change_all(QuorumRequest *r)
{
    QuorumState *s = r->bs->opaque;

    parts_alloc(r);
    if (s->rewrite_corrupted && r->kind != QUORUM_FLUSH) {
        qemu_co_rwlock_rdlock(&s->rewrite_lock);
    }
    send_to_all(r);
    if (s->rewrite_corrupted && r->kind != QUORUM_FLUSH) {
        qemu_co_rwlock_unlock(&s->rewrite_lock);
    }
    int ret = count_successes(r);

    parts_free(r);
    return ret;
}

int coroutine_fn quorum_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    return change_all(&(QuorumRequest) { .bs = bs, .kind = QUORUM_WRITE, .offset = offset, .bytes = bytes, .qiov = qiov,
                                         .qiov_offset = qiov_offset, .flags = flags & ~BDRV_REQ_REGISTERED_BUF });
}

int coroutine_fn quorum_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return change_all(&(QuorumRequest) { .bs = bs, .kind = QUORUM_ZERO, .offset = offset, .bytes = bytes, .flags = flags });
}

int coroutine_fn quorum_co_flush(BlockDriverState *bs)
{
    return change_all(&(QuorumRequest) { .bs = bs, .kind = QUORUM_FLUSH });
}

/* ---- status ---- */

/* Zero where all say so. Where the data lies is each child's own affair. */
int coroutine_fn quorum_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                                        int64_t *map, BlockDriverState **file)
{
    QuorumState *s = bs->opaque;
    bool zero = want_zero;
    int64_t n;

    *pnum = bytes;
    for (int i = 0; i < s->n && zero; i++) {
        int ret = bdrv_co_block_status_above(s->children[i]->bs, NULL, offset, *pnum, &n, map, file);

        if (ret < 0 || !n) {
            zero = false;
        } else if (n < *pnum) {
            *pnum = n;
        }
        zero &= ret >= 0 && (ret & BDRV_BLOCK_ZERO);
    }
    return zero ? BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED : BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
}

/* SPDX-License-Identifier: MIT */
/* backend_io.c: requests of a BlockBackend. Any thread, coroutine.
 *
 * begin: count, then look whether the node is being drained; if so uncount and wait in the
 * queue until the drain ends. (The drain sets its counter, then waits for ours to be 0.)
 */
#include "backend/backend_private.h"

static void coroutine_fn blk_begin(BlockBackend *blk)
{
    for (;;) {
        __atomic_fetch_add(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
        if (likely(!__atomic_load_n(&blk->quiesce_counter, __ATOMIC_SEQ_CST)) || blk->disable_queuing) {
            return;
        }
        __atomic_sub_fetch(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
        aio_wait_kick();
        pthread_mutex_lock(&blk->queue_lock);
        /* Under the lock: the end of the drain empties the queue under it. */
        if (__atomic_load_n(&blk->quiesce_counter, __ATOMIC_SEQ_CST)) {
            qemu_co_queue_wait_plain(&blk->queued, &blk->queue_lock);
        }
        pthread_mutex_unlock(&blk->queue_lock);
    }
}

static void blk_end(BlockBackend *blk)
{
    if (__atomic_sub_fetch(&blk->in_flight, 1, __ATOMIC_SEQ_CST) == 0) {
        aio_wait_kick();
    }
}

static int blk_check(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    if (!blk->root || !blk->root->bs->drv) {
        return -ENOMEDIUM;
    }
    if (offset < 0 || bytes < 0 || bytes > BDRV_MAX_LENGTH || offset > BDRV_MAX_LENGTH - bytes) {
        return -EIO;
    }
    if (!blk->allow_beyond_eof) {
        int64_t length = bdrv_getlength_cached(blk->root->bs);

        if (offset > length || bytes > length - offset) {
            return -EIO;
        }
    }
    return 0;
}

static void account(BlockBackend *blk, int kind, int64_t bytes, int ret)
{
    if (likely(ret >= 0)) {
        __atomic_fetch_add(&blk->stats.ops[kind], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&blk->stats.bytes[kind], bytes, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&blk->stats.failed[kind], 1, __ATOMIC_RELAXED);
    }
}

#define BLK_REQUEST(blk, kind, offset, bytes, call) ({          \
        int ret_;                                               \
        blk_begin(blk);                                         \
        ret_ = blk_check(blk, offset, bytes);                   \
        if (likely(ret_ == 0)) {                                \
            ret_ = call;                                        \
            account(blk, kind, bytes, ret_);                    \
        } else {                                                \
            __atomic_fetch_add(&(blk)->stats.invalid[kind], 1, __ATOMIC_RELAXED); \
        }                                                       \
        blk_end(blk);                                           \
        ret_;                                                   \
    })

static inline BdrvRequestFlags bulk(BlockBackend *blk)
{
    return blk->bulk ? BDRV_REQ_BULK : 0;
}

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes,
                               QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return BLK_REQUEST(blk, BLOCK_ACCT_READ, offset, bytes,
                       bdrv_co_preadv(blk->root, offset, bytes, qiov, flags | bulk(blk)));
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return BLK_REQUEST(blk, BLOCK_ACCT_WRITE, offset, bytes,
                       bdrv_co_pwritev(blk->root, offset, bytes, qiov, flags | bulk(blk)));
}

int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, BdrvRequestFlags flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return blk_co_preadv(blk, offset, bytes, &qiov, flags);
}

int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf,
                               BdrvRequestFlags flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return blk_co_pwritev(blk, offset, bytes, &qiov, flags);
}

int coroutine_fn blk_co_pwrite_compressed(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf)
{
    return blk_co_pwrite(blk, offset, bytes, buf, BDRV_REQ_WRITE_COMPRESSED);
}

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return BLK_REQUEST(blk, BLOCK_ACCT_WRITE, offset, bytes,
                       bdrv_co_pwrite_zeroes(blk->root, offset, bytes, flags | bulk(blk)));
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return BLK_REQUEST(blk, BLOCK_ACCT_UNMAP, offset, bytes, bdrv_co_pdiscard(blk->root, offset, bytes));
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    return BLK_REQUEST(blk, BLOCK_ACCT_FLUSH, 0, 0, bdrv_co_flush(blk->root->bs));
}

int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact, PreallocMode prealloc,
                                 BdrvRequestFlags flags, Error **errp)
{
    int ret;

    blk_begin(blk);
    if (!blk->root || !blk->root->bs->drv) {
        error_setg(errp, "No medium inserted");
        ret = -ENOMEDIUM;
    } else {
        ret = bdrv_co_truncate(blk->root, offset, exact, prealloc, flags, errp);
    }
    blk_end(blk);
    return ret;
}

int64_t coroutine_fn blk_co_getlength(BlockBackend *blk)
{
    int64_t ret;

    blk_begin(blk);
    ret = blk->root ? bdrv_co_getlength(blk->root->bs) : -ENOMEDIUM;
    blk_end(blk);
    return ret;
}

int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *base, int64_t offset, int64_t bytes,
                                           int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    int ret;

    blk_begin(blk);
    ret = blk_check(blk, offset, bytes);
    if (ret == 0) {
        ret = bdrv_co_block_status_above(blk->root->bs, base, offset, bytes, pnum, map, file);
    }
    blk_end(blk);
    return ret;
}

int coroutine_fn blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst, int64_t dst_offset,
                                   int64_t bytes, BdrvRequestFlags read_flags, BdrvRequestFlags write_flags)
{
    int ret;

    blk_begin(src);
    blk_begin(dst);
    ret = blk_check(src, src_offset, bytes);
    ret = ret ? ret : blk_check(dst, dst_offset, bytes);
    if (ret == 0) {
        ret = bdrv_co_copy_range(src->root, src_offset, dst->root, dst_offset, bytes, read_flags, write_flags);
    }
    blk_end(dst);
    blk_end(src);
    return ret;
}

/* ---- the same for programs and tests ---- */

typedef struct SyncCall {
    enum { SYNC_READ, SYNC_WRITE, SYNC_ZEROES, SYNC_DISCARD, SYNC_FLUSH, SYNC_LENGTH, SYNC_TRUNCATE } kind;
    BlockBackend *blk;
    int64_t offset, bytes;
    void *buf;
    BdrvRequestFlags flags;
    bool exact;
    PreallocMode prealloc;
    Error **errp;
    int64_t ret;
} SyncCall;

static void coroutine_fn sync_co(void *opaque)
{
    SyncCall *s = opaque;

    switch (s->kind) {
    case SYNC_READ:     s->ret = blk_co_pread(s->blk, s->offset, s->bytes, s->buf, s->flags); break;
    case SYNC_WRITE:    s->ret = blk_co_pwrite(s->blk, s->offset, s->bytes, s->buf, s->flags); break;
    case SYNC_ZEROES:   s->ret = blk_co_pwrite_zeroes(s->blk, s->offset, s->bytes, s->flags); break;
    case SYNC_DISCARD:  s->ret = blk_co_pdiscard(s->blk, s->offset, s->bytes); break;
    case SYNC_FLUSH:    s->ret = blk_co_flush(s->blk); break;
    case SYNC_LENGTH:   s->ret = blk_co_getlength(s->blk); break;
    case SYNC_TRUNCATE:
        s->ret = blk_co_truncate(s->blk, s->offset, s->exact, s->prealloc, 0, s->errp);
        break;
    }
}

#define SYNC(...) ({ SyncCall s_ = { __VA_ARGS__ }; aio_co_run(sync_co, &s_); s_.ret; })

int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, BdrvRequestFlags flags)
{
    return SYNC(.kind = SYNC_READ, .blk = blk, .offset = offset, .bytes = bytes, .buf = buf, .flags = flags);
}

int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf, BdrvRequestFlags flags)
{
    return SYNC(.kind = SYNC_WRITE, .blk = blk, .offset = offset, .bytes = bytes, .buf = (void *)buf, .flags = flags);
}

int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return SYNC(.kind = SYNC_ZEROES, .blk = blk, .offset = offset, .bytes = bytes, .flags = flags);
}

int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return SYNC(.kind = SYNC_DISCARD, .blk = blk, .offset = offset, .bytes = bytes);
}

int blk_flush(BlockBackend *blk)
{
    return SYNC(.kind = SYNC_FLUSH, .blk = blk);
}

int64_t blk_getlength(BlockBackend *blk)
{
    return SYNC(.kind = SYNC_LENGTH, .blk = blk);
}

int blk_truncate(BlockBackend *blk, int64_t offset, bool exact, PreallocMode prealloc, Error **errp)
{
    return SYNC(.kind = SYNC_TRUNCATE, .blk = blk, .offset = offset, .exact = exact, .prealloc = prealloc,
                .errp = errp);
}

/* SPDX-License-Identifier: MIT */
/* backend_io.c: the requests of BlockBackends.
 *
 * Each is let in (counted; held in a queue while drained), checked, and passed to the root. The
 * checks are the outermost of the request path: what comes from guests and clients must not trip an
 * assertion further in.
 *
 * Runs on: any thread, in a coroutine.
 */
#include "backend/backend_private.h"

/* ---- letting in ---- */

static void coroutine_fn backend_wait(BlockBackend *blk)
{
    do {
        pthread_mutex_lock(&blk->queue_lock);
        __atomic_fetch_sub(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
        /* Under the lock that drained_end takes to wake us, so that it cannot pass in between. */
        if (__atomic_load_n(&blk->quiesce_counter, __ATOMIC_SEQ_CST)) {
            aio_wait_kick();
            qemu_co_queue_wait_plain(&blk->queue, &blk->queue_lock);
        }
        pthread_mutex_unlock(&blk->queue_lock);
        __atomic_fetch_add(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&blk->quiesce_counter, __ATOMIC_SEQ_CST));
}

/* Count oneself; false: it is drained, and the request must wait (still counted). */
static inline bool backend_try_begin(BlockBackend *blk)
{
    __atomic_fetch_add(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
    return likely(!__atomic_load_n(&blk->quiesce_counter, __ATOMIC_SEQ_CST)) ||
           __atomic_load_n(&blk->disable_request_queuing, __ATOMIC_SEQ_CST);
}

static inline void coroutine_fn backend_begin(BlockBackend *blk)
{
    if (unlikely(!backend_try_begin(blk))) {
        backend_wait(blk);
    }
}

/* @blk may be gone as soon as the count is down. */
static inline void backend_end(BlockBackend *blk)
{
    __atomic_fetch_sub(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

/* ---- checks ---- */

/* A root comes while requests may be on their way (they find none, or it); it goes only when none is. */
static inline BdrvChild *backend_root(BlockBackend *blk)
{
    return __atomic_load_n(&blk->root, __ATOMIC_ACQUIRE);
}

static int coroutine_fn range_check_slow(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int64_t length = bdrv_co_getlength(backend_root(blk)->bs);

    if (length < 0) {
        return length;
    }
    return offset > length || bytes > length - offset ? -EIO : 0;
}

/* @perm: what the request needs the backend to hold. */
static inline int coroutine_fn backend_check(BlockBackend *blk, int64_t offset, int64_t bytes, uint64_t perm)
{
    BdrvChild *root = backend_root(blk);

    if (unlikely(!root || !root->bs->drv)) {
        return -ENOMEDIUM;
    }
    if (unlikely(offset < 0 || bytes < 0 || offset > BDRV_MAX_LENGTH || bytes > BDRV_MAX_LENGTH - offset)) {
        return -EIO;
    }
    if (unlikely(perm && !(bdrv_child_perm(root) & perm))) {
        return -EPERM;
    }
    if (likely(offset + bytes <= __atomic_load_n(&root->bs->total_bytes, __ATOMIC_RELAXED)) ||
        blk->allow_write_beyond_eof) {
        return 0;
    }
    return range_check_slow(blk, offset, bytes);
}

static inline uint64_t write_perm(BdrvRequestFlags flags)
{
    return flags & BDRV_REQ_WRITE_UNCHANGED ? BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED : BLK_PERM_WRITE;
}

/* ---- accounting, of those with a name ---- */

static inline int64_t acct_start(BlockBackend *blk)
{
    return unlikely(blk->accounting) ? qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) : 0;
}

static void acct_account(BlockBackend *blk, int type, int64_t bytes, int64_t start_ns, int ret)
{
    BlockAcctStats *s = &blk->stats;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    if (ret < 0) {
        __atomic_fetch_add(&s->failed[type], 1, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&s->ops[type], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&s->bytes[type], bytes, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&s->total_time_ns[type], now - start_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&s->last_access_ns, now, __ATOMIC_RELAXED);
}

static inline void acct_done(BlockBackend *blk, int type, int64_t bytes, int64_t start_ns, int ret)
{
    if (unlikely(start_ns)) {
        acct_account(blk, type, bytes, start_ns, ret);
    }
}

/* A request that was refused before it began. */
static int acct_invalid(BlockBackend *blk, int type, int ret)
{
    if (blk->accounting) {
        __atomic_fetch_add(&blk->stats.invalid[type], 1, __ATOMIC_RELAXED);
    }
    return ret;
}

void blk_account_invalid(BlockBackend *blk, int type)
{
    acct_invalid(blk, type, 0);
}

/* ---- requests ---- */

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                               BdrvRequestFlags flags)
{
    backend_begin(blk);
    int64_t start = acct_start(blk);
    int ret = backend_check(blk, offset, bytes, 0);

    if (likely(!ret)) {
        ret = bdrv_co_preadv_part(backend_root(blk), offset, bytes, qiov, 0, flags | blk->extra_flags);
        acct_done(blk, BLOCK_ACCT_READ, bytes, start, ret);
    } else {
        acct_invalid(blk, BLOCK_ACCT_READ, ret);
    }
    backend_end(blk);
    return ret;
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                BdrvRequestFlags flags)
{
    backend_begin(blk);
    int64_t start = acct_start(blk);
    int ret = backend_check(blk, offset, bytes, write_perm(flags));

    if (likely(!ret)) {
        ret = bdrv_co_pwritev_part(backend_root(blk), offset, bytes, qiov, 0, flags | blk->extra_flags);
        acct_done(blk, BLOCK_ACCT_WRITE, bytes, start, ret);
    } else {
        acct_invalid(blk, BLOCK_ACCT_WRITE, ret);
    }
    backend_end(blk);
    return ret;
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

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return blk_co_pwritev(blk, offset, bytes, NULL, flags | BDRV_REQ_ZERO_WRITE);
}

int coroutine_fn blk_co_pwrite_compressed(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf)
{
    return blk_co_pwrite(blk, offset, bytes, buf, BDRV_REQ_WRITE_COMPRESSED);
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    backend_begin(blk);
    int64_t start = acct_start(blk);
    int ret = backend_check(blk, offset, bytes, BLK_PERM_WRITE);

    if (!ret) {
        ret = bdrv_co_pdiscard(backend_root(blk), offset, bytes);
        acct_done(blk, BLOCK_ACCT_UNMAP, bytes, start, ret);
    } else {
        acct_invalid(blk, BLOCK_ACCT_UNMAP, ret);
    }
    backend_end(blk);
    return ret;
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    backend_begin(blk);
    int64_t start = acct_start(blk);
    BdrvChild *root = backend_root(blk);
    int ret = root ? bdrv_co_flush(root->bs) : -ENOMEDIUM;

    acct_done(blk, BLOCK_ACCT_FLUSH, 0, start, ret);
    backend_end(blk);
    return ret;
}

int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact, PreallocMode prealloc,
                                 BdrvRequestFlags flags, Error **errp)
{
    BdrvChild *root;
    int ret;

    backend_begin(blk);
    root = backend_root(blk);
    if (!root) {
        error_setg(errp, "No medium inserted");
        ret = -ENOMEDIUM;
    } else if (!(bdrv_child_perm(root) & BLK_PERM_RESIZE)) {
        error_setg(errp, "Block backend may not resize node '%s'", bdrv_get_node_name(root->bs));
        ret = -EPERM;
    } else {
        ret = bdrv_co_truncate(root, offset, exact, prealloc, flags, errp);
    }
    backend_end(blk);
    return ret;
}

int64_t coroutine_fn blk_co_getlength(BlockBackend *blk)
{
    backend_begin(blk);
    BdrvChild *root = backend_root(blk);
    int64_t ret = root ? bdrv_co_getlength(root->bs) : -ENOMEDIUM;

    backend_end(blk);
    return ret;
}

static int coroutine_fn backend_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov, bool is_write)
{
    backend_begin(blk);
    BdrvChild *root = backend_root(blk);
    int ret = -ENOMEDIUM;

    if (root && is_write && !(bdrv_child_perm(root) & BLK_PERM_WRITE)) {
        ret = -EPERM;
    } else if (root) {
        ret = is_write ? bdrv_co_save_vmstate(root->bs, pos, qiov) : bdrv_co_load_vmstate(root->bs, pos, qiov);
    }
    backend_end(blk);
    return ret;
}

int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov)
{
    return backend_vmstate(blk, pos, qiov, false);
}

int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov)
{
    return backend_vmstate(blk, pos, qiov, true);
}

int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *base, int64_t offset,
                                           int64_t bytes, int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    backend_begin(blk);
    BdrvChild *root = backend_root(blk);
    int ret = root ? bdrv_co_block_status_above(root->bs, base, offset, bytes, pnum, map, file) : -ENOMEDIUM;

    backend_end(blk);
    return ret;
}

int coroutine_fn blk_co_is_allocated_above(BlockBackend *blk, BlockDriverState *base, bool include_base,
                                           int64_t offset, int64_t bytes, int64_t *pnum, int *depth)
{
    backend_begin(blk);
    BdrvChild *root = backend_root(blk);
    int ret = root ? bdrv_co_is_allocated_above(root->bs, base, include_base, offset, bytes, pnum, depth) : -ENOMEDIUM;

    backend_end(blk);
    return ret;
}

/* Let in at both. Waiting for one while counted at the other would keep a drain of both waiting. */
static void coroutine_fn backend_begin_both(BlockBackend *a, BlockBackend *b)
{
    backend_begin(a);
    while (!backend_try_begin(b)) {
        backend_end(a);
        backend_wait(b);
        backend_end(b);
        backend_begin(a);
    }
}

int coroutine_fn blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst, int64_t dst_offset,
                                   int64_t bytes, BdrvRequestFlags read_flags, BdrvRequestFlags write_flags)
{
    int ret;

    backend_begin_both(src, dst);
    ret = backend_check(src, src_offset, bytes, 0);
    if (!ret) {
        ret = backend_check(dst, dst_offset, bytes, write_perm(write_flags));
    }
    if (!ret) {
        ret = bdrv_co_copy_range(backend_root(src), src_offset, backend_root(dst), dst_offset, bytes,
                                 read_flags | src->extra_flags, write_flags | dst->extra_flags);
    }
    backend_end(dst);
    backend_end(src);
    return ret;
}

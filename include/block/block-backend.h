/* SPDX-License-Identifier: MIT */
/* block-backend.h: how something outside the graph (an export, a job, a tool, a
 * drive) does I/O on a root node.
 *
 * A BlockBackend holds one edge to its root node, is drained with it (new requests
 * wait in a queue, in order, or fail where the owner says so), checks ranges, keeps
 * account, and applies the error policy. Its requests may come from any thread.
 */
#ifndef LIVEBLK_BLOCK_BLOCK_BACKEND_H
#define LIVEBLK_BLOCK_BLOCK_BACKEND_H

#include "block/block.h"

/* What the owner wants to hear; all in the main thread, NULL: nothing. */
typedef struct BlockDevOps {
    void (*drained_begin)(void *opaque);    /* stop taking in new work */
    bool (*drained_poll)(void *opaque);     /* true while work outside the BlockBackend goes on */
    void (*drained_end)(void *opaque);
    void (*resize_cb)(void *opaque);
    char *(*get_desc)(void *opaque);        /* for error messages: "NBD export 'x'"; caller frees */
    void (*attached_aio_context)(AioContext *ctx, void *opaque);
    void (*detach_aio_context)(void *opaque);
} BlockDevOps;

/* GS */
LIVEBLK_PUBLIC BlockBackend *blk_new(AioContext *ctx, uint64_t perm, uint64_t shared_perm);
LIVEBLK_PUBLIC BlockBackend *blk_new_with_bs(BlockDriverState *bs, uint64_t perm, uint64_t shared_perm, Error **errp);
/* Open and attach in one go, for tools; unshared write where @flags has BDRV_O_RDWR. */
LIVEBLK_PUBLIC BlockBackend *blk_new_open(const char *filename, const char *reference, QDict *options, int flags, Error **errp);
LIVEBLK_PUBLIC void blk_ref(BlockBackend *blk);
LIVEBLK_PUBLIC void blk_unref(BlockBackend *blk);
LIVEBLK_PUBLIC int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp);
LIVEBLK_PUBLIC void blk_remove_bs(BlockBackend *blk);
LIVEBLK_PUBLIC int blk_replace_bs(BlockBackend *blk, BlockDriverState *new_bs, Error **errp);
LIVEBLK_PUBLIC int blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared_perm, Error **errp);
LIVEBLK_PUBLIC void blk_get_perm(BlockBackend *blk, uint64_t *perm, uint64_t *shared_perm);
LIVEBLK_PUBLIC void blk_set_dev_ops(BlockBackend *blk, const BlockDevOps *ops, void *opaque);
LIVEBLK_PUBLIC int blk_set_name(BlockBackend *blk, const char *name, Error **errp);   /* monitor name; NULL removes */
LIVEBLK_PUBLIC const char *blk_name(const BlockBackend *blk);
LIVEBLK_PUBLIC BlockBackend *blk_by_name(const char *name);
LIVEBLK_PUBLIC BlockBackend *blk_next(BlockBackend *blk);           /* all, also unnamed */
LIVEBLK_PUBLIC BlockDriverState *blk_bs(BlockBackend *blk);
LIVEBLK_PUBLIC BdrvChild *blk_root(BlockBackend *blk);
LIVEBLK_PUBLIC AioContext *blk_get_aio_context(BlockBackend *blk);
LIVEBLK_PUBLIC int blk_set_aio_context(BlockBackend *blk, AioContext *ctx, Error **errp);
LIVEBLK_PUBLIC void blk_set_allow_aio_context_change(BlockBackend *blk, bool allow);
/* Jobs: requests are not held back while drained (the job pauses by itself). */
LIVEBLK_PUBLIC void blk_set_disable_request_queuing(BlockBackend *blk, bool disable);
/* Requests carry BDRV_REQ_BULK: a job's, to give way to guests. */
LIVEBLK_PUBLIC void blk_set_bulk(BlockBackend *blk, bool bulk);
LIVEBLK_PUBLIC void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow);
LIVEBLK_PUBLIC void blk_set_on_error(BlockBackend *blk, BlockdevOnError on_read_error, BlockdevOnError on_write_error);
LIVEBLK_PUBLIC BlockErrorAction blk_get_error_action(BlockBackend *blk, bool is_read, int error);
LIVEBLK_PUBLIC void blk_drain(BlockBackend *blk);                   /* may suspend */
/* Requests in flight at this moment; any thread. */
LIVEBLK_PUBLIC unsigned blk_in_flight(BlockBackend *blk);

/* co, any thread */
LIVEBLK_PUBLIC int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, QEMUIOVector *qiov, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes, QEMUIOVector *qiov, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn blk_co_pwrite_compressed(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf);
LIVEBLK_PUBLIC int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
LIVEBLK_PUBLIC int coroutine_fn blk_co_flush(BlockBackend *blk);
LIVEBLK_PUBLIC int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact, PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
LIVEBLK_PUBLIC int64_t coroutine_fn blk_co_getlength(BlockBackend *blk);
LIVEBLK_PUBLIC int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov);
LIVEBLK_PUBLIC int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov);
LIVEBLK_PUBLIC int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *base, int64_t offset, int64_t bytes,
                                                          int64_t *pnum, int64_t *map, BlockDriverState **file);
LIVEBLK_PUBLIC int coroutine_fn blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst, int64_t dst_offset,
                                                  int64_t bytes, BdrvRequestFlags read_flags, BdrvRequestFlags write_flags);

LIVEBLK_PUBLIC int coroutine_fn blk_co_is_allocated_above(BlockBackend *blk, BlockDriverState *base, bool include_base,
                                                          int64_t offset, int64_t bytes, int64_t *pnum, int *depth);
/* Last known length of the root there is or was last, bytes. Any thread, never suspends: the root itself may be
 * looked at by requests and by the main thread only, since it may go at any time. */
LIVEBLK_PUBLIC int64_t blk_getlength_cached(BlockBackend *blk);

/* Programs and tests, main thread, outside coroutines: the same, and wait. */
LIVEBLK_PUBLIC int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
LIVEBLK_PUBLIC int blk_flush(BlockBackend *blk);
LIVEBLK_PUBLIC int64_t blk_getlength(BlockBackend *blk);
LIVEBLK_PUBLIC int blk_truncate(BlockBackend *blk, int64_t offset, bool exact, PreallocMode prealloc, Error **errp);

/* Accounting of requests, for query-blockstats, and so only while the backend has a name;
 * atomic counters. */
typedef struct BlockAcctStats {
    uint64_t ops[5], bytes[5], failed[5], invalid[5], total_time_ns[5];  /* read write flush unmap zone_append; index BLOCK_ACCT_* */
    int64_t last_access_ns;
} BlockAcctStats;
enum { BLOCK_ACCT_READ, BLOCK_ACCT_WRITE, BLOCK_ACCT_FLUSH, BLOCK_ACCT_UNMAP, BLOCK_ACCT_ZONE_APPEND };
/* Count a request (BLOCK_ACCT_*) as refused before it began. Any thread. */
LIVEBLK_PUBLIC void blk_account_invalid(BlockBackend *blk, int type);
LIVEBLK_PUBLIC void blk_get_stats(BlockBackend *blk, BlockAcctStats *stats);

#endif

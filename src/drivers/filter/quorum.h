/* SPDX-License-Identifier: MIT */
/* quorum.h: inside quorum: its state, and counting votes. */
#ifndef LIVEBLK_DRIVERS_QUORUM_H
#define LIVEBLK_DRIVERS_QUORUM_H

#include "base/osdep.h"
#include "block/block_int-global-state.h"
#include "qapi-events.h"

typedef struct QuorumState {
    BdrvChild **children;
    int n, threshold;
    unsigned next_index;        /* of the next child's name */
    bool is_blkverify, rewrite_corrupted;
    QuorumReadPattern pattern;
    CoRwlock rewrite_lock;      /* held by writes, and alone by who rewrites; only with rewrite_corrupted */
} QuorumState;

/* ---- quorum_io.c; requests, any thread ---- */
int coroutine_fn quorum_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn quorum_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn quorum_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, BdrvRequestFlags flags);
int coroutine_fn quorum_co_flush(BlockDriverState *bs);
int coroutine_fn quorum_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                                        int64_t *map, BlockDriverState **file);

#endif

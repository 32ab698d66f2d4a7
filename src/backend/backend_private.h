/* SPDX-License-Identifier: MIT */
/* backend_private.h: inside the backend layer. */
#ifndef LIVEBLK_BACKEND_PRIVATE_H
#define LIVEBLK_BACKEND_PRIVATE_H

#include "base/osdep.h"
#include "block/block-backend.h"
#include "block/block_int-global-state.h"

struct BlockBackend {
    int refcnt;
    char *name;
    BdrvChild *root;                /* changes on a drained node only */
    AioContext *ctx;
    uint64_t perm, shared_perm;
    const BlockDevOps *ops;
    void *ops_opaque;
    bool allow_context_change, disable_queuing, bulk, allow_beyond_eof;
    BlockdevOnError on_read_error, on_write_error;

    unsigned in_flight;             /* atomic; counted before quiesce_counter is looked at */
    int quiesce_counter;            /* atomic; written by the main thread */
    pthread_mutex_t queue_lock;     /* over queued; held for instants */
    CoQueue queued;                 /* requests that wait for the end of a drain */
    BlockAcctStats stats;           /* atomic counters */
    TAILQ_ENTRY(BlockBackend) link;
};

BlockDriverState *blk_find_bs_by_name(const char *name);
const char *blk_name_of_bs(const BlockDriverState *bs);

#endif

/* SPDX-License-Identifier: MIT */
/* backend_private.h: inside the backend layer. */
#ifndef LIVEBLK_BACKEND_PRIVATE_H
#define LIVEBLK_BACKEND_PRIVATE_H

#include "base/osdep.h"
#include "block/block-backend.h"
#include "block/block_int-global-state.h"

struct BlockBackend {
    /* ---- GS ---- */
    int refcnt;
    char *name;                     /* monitor name; NULL */
    AioContext *ctx;
    uint64_t perm, shared_perm;     /* of the edge; kept while there is none */
    const BlockDevOps *dev_ops;
    void *dev_opaque;
    bool allow_aio_context_change;
    BlockdevOnError on_read_error, on_write_error;
    TAILQ_ENTRY(BlockBackend) link;

    /* ---- written GS while drained, read by requests ---- */
    BdrvChild *root;                /* NULL: no medium */
    bool disable_request_queuing;
    bool allow_write_beyond_eof;
    bool accounting;                /* it has a name: query-blockstats shows it */
    BdrvRequestFlags extra_flags;   /* on every request: BULK */

    /* ---- atomic, any thread ---- */
    unsigned in_flight;
    int quiesce_counter;            /* written GS */
    int64_t length_cached;          /* written GS; bytes */
    BlockAcctStats stats;

    pthread_mutex_t queue_lock;     /* over the queue; held for instants */
    CoQueue queue;                  /* requests that wait for the end of a drain */
};

/* What the graph asks about device names. */
BlockDriverState *blk_find_bs_by_name(const char *name);
const char *blk_name_of_bs(const BlockDriverState *bs);

#endif

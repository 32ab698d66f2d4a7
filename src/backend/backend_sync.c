/* SPDX-License-Identifier: MIT */
/* backend_sync.c: the requests of BlockBackends for programs: main thread, outside coroutines;
 * they run the main loop until the request is complete. */
#include "backend/backend_private.h"

typedef enum SyncOp { SYNC_READ, SYNC_WRITE, SYNC_ZEROES, SYNC_DISCARD, SYNC_FLUSH, SYNC_LENGTH, SYNC_TRUNCATE } SyncOp;

typedef struct SyncCall {
    SyncOp op;
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
    SyncCall *c = opaque;

    switch (c->op) {
    case SYNC_READ:
        c->ret = blk_co_pread(c->blk, c->offset, c->bytes, c->buf, c->flags);
        break;
    case SYNC_WRITE:
        c->ret = blk_co_pwrite(c->blk, c->offset, c->bytes, c->buf, c->flags);
        break;
    case SYNC_ZEROES:
        c->ret = blk_co_pwrite_zeroes(c->blk, c->offset, c->bytes, c->flags);
        break;
    case SYNC_DISCARD:
        c->ret = blk_co_pdiscard(c->blk, c->offset, c->bytes);
        break;
    case SYNC_FLUSH:
        c->ret = blk_co_flush(c->blk);
        break;
    case SYNC_LENGTH:
        c->ret = blk_co_getlength(c->blk);
        break;
    case SYNC_TRUNCATE:
        c->ret = blk_co_truncate(c->blk, c->offset, c->exact, c->prealloc, 0, c->errp);
        break;
    }
}

static int64_t sync_run(SyncCall *c)
{
    aio_co_run(sync_co, c);
    return c->ret;
}

int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, BdrvRequestFlags flags)
{
    return sync_run(&(SyncCall) { SYNC_READ, blk, offset, bytes, buf, flags });
}

int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf, BdrvRequestFlags flags)
{
    return sync_run(&(SyncCall) { SYNC_WRITE, blk, offset, bytes, (void *)buf, flags });
}

int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return sync_run(&(SyncCall) { SYNC_ZEROES, blk, offset, bytes, NULL, flags });
}

int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return sync_run(&(SyncCall) { SYNC_DISCARD, blk, offset, bytes });
}

int blk_flush(BlockBackend *blk)
{
    return sync_run(&(SyncCall) { SYNC_FLUSH, blk });
}

int64_t blk_getlength(BlockBackend *blk)
{
    return sync_run(&(SyncCall) { SYNC_LENGTH, blk });
}

int blk_truncate(BlockBackend *blk, int64_t offset, bool exact, PreallocMode prealloc, Error **errp)
{
    return sync_run(&(SyncCall) { .op = SYNC_TRUNCATE, .blk = blk, .offset = offset, .exact = exact,
                                  .prealloc = prealloc, .errp = errp });
}

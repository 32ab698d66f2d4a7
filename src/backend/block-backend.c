/* SPDX-License-Identifier: MIT */
/* block-backend.c: the root edge, drain, and the owner's view; see block/block-backend.h.
 * Requests are in backend_io.c. Main thread.
 */
#include "base/osdep.h"
#include "base/str.h"
#include "backend/backend_private.h"

static TAILQ_HEAD(, BlockBackend) backends = TAILQ_HEAD_INITIALIZER(backends);

/* ---- the root edge ---- */

static char *blk_root_desc(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (blk->name) {
        return g_strdup_printf("block device '%s'", blk->name);
    }
    if (blk->ops && blk->ops->get_desc) {
        return blk->ops->get_desc(blk->ops_opaque);
    }
    return g_strdup("an unnamed block device");
}

static void blk_root_drained_begin(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (__atomic_fetch_add(&blk->quiesce_counter, 1, __ATOMIC_SEQ_CST) == 0 &&
        blk->ops && blk->ops->drained_begin) {
        blk->ops->drained_begin(blk->ops_opaque);
    }
}

static bool blk_root_drained_poll(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (__atomic_load_n(&blk->in_flight, __ATOMIC_SEQ_CST) > 0) {
        return true;
    }
    return blk->ops && blk->ops->drained_poll && blk->ops->drained_poll(blk->ops_opaque);
}

static void blk_root_drained_end(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (__atomic_sub_fetch(&blk->quiesce_counter, 1, __ATOMIC_SEQ_CST) == 0) {
        pthread_mutex_lock(&blk->queue_lock);
        qemu_co_queue_restart_all(&blk->queued);
        pthread_mutex_unlock(&blk->queue_lock);
        if (blk->ops && blk->ops->drained_end) {
            blk->ops->drained_end(blk->ops_opaque);
        }
    }
}

static bool blk_root_change_aio_ctx(BdrvChild *c, AioContext *ctx, GHashTable *visited,
                                    Transaction *tran, Error **errp)
{
    BlockBackend *blk = c->opaque;

    if (!blk->allow_context_change) {
        error_setg(errp, "Cannot change iothread of active block backend");
        return false;
    }
    blk->ctx = ctx;             /* where its requests come from is its owner's affair */
    return true;
}

static void blk_root_resize(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (blk->ops && blk->ops->resize_cb) {
        blk->ops->resize_cb(blk->ops_opaque);
    }
}

static const BdrvChildClass child_root = {
    .get_parent_desc = blk_root_desc,
    .drained_begin   = blk_root_drained_begin,
    .drained_poll    = blk_root_drained_poll,
    .drained_end     = blk_root_drained_end,
    .change_aio_ctx  = blk_root_change_aio_ctx,
    .resize          = blk_root_resize,
};

/* ---- making ---- */

BlockBackend *blk_new(AioContext *ctx, uint64_t perm, uint64_t shared_perm)
{
    BlockBackend *blk = g_new0(BlockBackend, 1);

    g_assert(qemu_in_main_thread());
    blk->refcnt = 1;
    blk->ctx = ctx;
    blk->perm = perm;
    blk->shared_perm = shared_perm;
    blk->on_read_error = BLOCKDEV_ON_ERROR_REPORT;
    blk->on_write_error = BLOCKDEV_ON_ERROR_ENOSPC;
    pthread_mutex_init(&blk->queue_lock, NULL);
    qemu_co_queue_init(&blk->queued);
    TAILQ_INSERT_TAIL(&backends, blk, link);
    bdrv_set_device_lookup(blk_find_bs_by_name, blk_name_of_bs);
    return blk;
}

BlockBackend *blk_new_with_bs(BlockDriverState *bs, uint64_t perm, uint64_t shared_perm, Error **errp)
{
    BlockBackend *blk = blk_new(bdrv_get_aio_context(bs), perm, shared_perm);

    if (blk_insert_bs(blk, bs, errp) < 0) {
        blk_unref(blk);
        return NULL;
    }
    return blk;
}

BlockBackend *blk_new_open(const char *filename, const char *reference, QDict *options, int flags, Error **errp)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ | (flags & BDRV_O_RDWR ? BLK_PERM_WRITE : 0) |
                    (flags & BDRV_O_RESIZE ? BLK_PERM_RESIZE : 0);
    uint64_t shared = flags & BDRV_O_RESIZE ? BLK_PERM_ALL : BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE;
    BlockDriverState *bs = bdrv_open(filename, reference, options, flags, errp);

    if (!bs) {
        return NULL;
    }
    if (flags & BDRV_O_RDWR) {
        shared &= ~(uint64_t)BLK_PERM_WRITE;
    }
    BlockBackend *blk = blk_new_with_bs(bs, perm, shared, errp);

    bdrv_unref(bs);
    return blk;
}

void blk_ref(BlockBackend *blk)
{
    blk->refcnt++;
}

void blk_unref(BlockBackend *blk)
{
    g_assert(qemu_in_main_thread());
    if (!blk || --blk->refcnt) {
        return;
    }
    blk->refcnt = 1;            /* closing may suspend */
    blk_remove_bs(blk);
    TAILQ_REMOVE(&backends, blk, link);
    g_assert(blk->in_flight == 0 && qemu_co_queue_empty(&blk->queued));
    pthread_mutex_destroy(&blk->queue_lock);
    g_free(blk->name);
    g_free(blk);
}

int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp)
{
    g_assert(!blk->root);
    bdrv_ref(bs);
    blk->root = bdrv_root_attach_child(bs, "root", &child_root, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                                       blk->perm, blk->shared_perm, blk, errp);
    return blk->root ? 0 : -EPERM;
}

static bool blk_busy(void *opaque)
{
    return __atomic_load_n(&((BlockBackend *)opaque)->in_flight, __ATOMIC_SEQ_CST) > 0;
}

void blk_remove_bs(BlockBackend *blk)
{
    BdrvChild *root = blk->root;

    if (root) {
        aio_wait_while(blk_busy, blk);
        blk->root = NULL;
        bdrv_root_unref_child(root);
    }
}

int blk_replace_bs(BlockBackend *blk, BlockDriverState *new_bs, Error **errp)
{
    return bdrv_replace_child_bs(blk->root, new_bs, errp);
}

int blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared_perm, Error **errp)
{
    if (blk->root) {
        int ret = bdrv_child_try_set_perm(blk->root, perm, shared_perm, errp);

        if (ret < 0) {
            return ret;
        }
    }
    blk->perm = perm;
    blk->shared_perm = shared_perm;
    return 0;
}

void blk_get_perm(BlockBackend *blk, uint64_t *perm, uint64_t *shared_perm)
{
    *perm = blk->perm;
    *shared_perm = blk->shared_perm;
}

void blk_set_dev_ops(BlockBackend *blk, const BlockDevOps *ops, void *opaque)
{
    blk->ops = ops;
    blk->ops_opaque = opaque;
}

/* ---- names ---- */

BlockBackend *blk_by_name(const char *name)
{
    BlockBackend *blk;

    TAILQ_FOREACH(blk, &backends, link) {
        if (blk->name && !strcmp(blk->name, name)) {
            return blk;
        }
    }
    return NULL;
}

BlockDriverState *blk_find_bs_by_name(const char *name)
{
    BlockBackend *blk = blk_by_name(name);

    return blk ? blk_bs(blk) : NULL;
}

const char *blk_name_of_bs(const BlockDriverState *bs)
{
    BlockBackend *blk;

    TAILQ_FOREACH(blk, &backends, link) {
        if (blk->name && blk_bs(blk) == bs) {
            return blk->name;
        }
    }
    return NULL;
}

int blk_set_name(BlockBackend *blk, const char *name, Error **errp)
{
    if (name && !id_wellformed(name)) {
        error_setg(errp, "Invalid device name");
        return -EINVAL;
    }
    if (name && (blk_by_name(name) || bdrv_find_node(name))) {
        error_setg(errp, "Device name '%s' is taken", name);
        return -EEXIST;
    }
    char *copy = g_strdup(name);

    g_free(blk->name);
    blk->name = copy;
    return 0;
}

const char *blk_name(const BlockBackend *blk)
{
    return blk->name ? blk->name : "";
}

BlockBackend *blk_next(BlockBackend *blk)
{
    return blk ? TAILQ_NEXT(blk, link) : TAILQ_FIRST(&backends);
}

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return blk->root ? blk->root->bs : NULL;
}

BdrvChild *blk_root(BlockBackend *blk)
{
    return blk->root;
}

AioContext *blk_get_aio_context(BlockBackend *blk)
{
    return blk->ctx;
}

int blk_set_aio_context(BlockBackend *blk, AioContext *ctx, Error **errp)
{
    bool allow = blk->allow_context_change;
    int ret = 0;

    blk->allow_context_change = true;
    if (blk->root) {
        ret = bdrv_try_change_aio_context(blk_bs(blk), ctx, NULL, errp);
    }
    blk->allow_context_change = allow;
    if (ret == 0) {
        blk->ctx = ctx;
    }
    return ret;
}

void blk_set_allow_aio_context_change(BlockBackend *blk, bool allow)
{
    blk->allow_context_change = allow;
}

/* ---- settings ---- */

void blk_set_disable_request_queuing(BlockBackend *blk, bool disable)
{
    blk->disable_queuing = disable;
}

void blk_set_bulk(BlockBackend *blk, bool bulk)
{
    blk->bulk = bulk;
}

void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow)
{
    blk->allow_beyond_eof = allow;
}

void blk_set_on_error(BlockBackend *blk, BlockdevOnError on_read_error, BlockdevOnError on_write_error)
{
    blk->on_read_error = on_read_error;
    blk->on_write_error = on_write_error;
}

BlockErrorAction blk_get_error_action(BlockBackend *blk, bool is_read, int error)
{
    switch (is_read ? blk->on_read_error : blk->on_write_error) {
    case BLOCKDEV_ON_ERROR_ENOSPC:
    case BLOCKDEV_ON_ERROR_AUTO:
        return error == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    default:
        return BLOCK_ERROR_ACTION_REPORT;
    }
}

void blk_drain(BlockBackend *blk)
{
    if (blk->root) {
        bdrv_drain(blk_bs(blk));
    } else {
        aio_wait_while(blk_busy, blk);
    }
}

unsigned blk_in_flight(BlockBackend *blk)
{
    return __atomic_load_n(&blk->in_flight, __ATOMIC_RELAXED);
}

void blk_get_stats(BlockBackend *blk, BlockAcctStats *stats)
{
    const uint64_t *from = (const uint64_t *)&blk->stats;
    uint64_t *to = (uint64_t *)stats;

    for (size_t i = 0; i < sizeof(*stats) / sizeof(uint64_t); i++) {
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}

/* SPDX-License-Identifier: MIT */
/* block-backend.c: BlockBackends: making, roots, permissions, names, drain, contexts.
 * Their requests are in backend_io.c. Everything here: main thread.
 *
 * Drain: drained_begin raises quiesce_counter, and from then on requests wait in a queue (unless
 * the owner pauses by itself: disable_request_queuing). drained_poll says whether any
 * that began before is still in flight. drained_end lets the queue go on, in order.
 */
#include "backend/backend_private.h"
#include "base/str.h"
#include "graph/transaction.h"

static TAILQ_HEAD(, BlockBackend) all_backends = TAILQ_HEAD_INITIALIZER(all_backends);

/* ---- as a parent of its root ---- */

static char *root_parent_desc(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (blk->name) {
        return g_strdup_printf("block device '%s'", blk->name);
    }
    if (blk->dev_ops && blk->dev_ops->get_desc) {
        return blk->dev_ops->get_desc(blk->dev_opaque);
    }
    return g_strdup("an unnamed block device");
}

static void root_drained_begin(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (__atomic_add_fetch(&blk->quiesce_counter, 1, __ATOMIC_SEQ_CST) == 1 &&
        blk->dev_ops && blk->dev_ops->drained_begin) {
        blk->dev_ops->drained_begin(blk->dev_opaque);
    }
}

static bool root_drained_poll(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    return __atomic_load_n(&blk->in_flight, __ATOMIC_SEQ_CST) ||
           (blk->dev_ops && blk->dev_ops->drained_poll && blk->dev_ops->drained_poll(blk->dev_opaque));
}

static void root_drained_end(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    g_assert(blk->quiesce_counter > 0);
    if (__atomic_sub_fetch(&blk->quiesce_counter, 1, __ATOMIC_SEQ_CST) > 0) {
        return;
    }
    if (blk->dev_ops && blk->dev_ops->drained_end) {
        blk->dev_ops->drained_end(blk->dev_opaque);
    }
    pthread_mutex_lock(&blk->queue_lock);
    qemu_co_queue_restart_all(&blk->queue);
    pthread_mutex_unlock(&blk->queue_lock);
}

static void root_attach(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    __atomic_store_n(&blk->length_cached, bdrv_getlength_cached(c->bs), __ATOMIC_RELAXED);
}

int64_t blk_getlength_cached(BlockBackend *blk)
{
    return __atomic_load_n(&blk->length_cached, __ATOMIC_RELAXED);
}

static void root_resize(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    __atomic_store_n(&blk->length_cached, bdrv_getlength_cached(c->bs), __ATOMIC_RELAXED);

    if (blk->dev_ops && blk->dev_ops->resize_cb) {
        blk->dev_ops->resize_cb(blk->dev_opaque);
    }
}

/* ---- contexts ---- */

typedef struct MoveStep {
    BlockBackend *blk;
    AioContext *ctx;
} MoveStep;

static void backend_move(BlockBackend *blk, AioContext *ctx)
{
    if (blk->dev_ops && blk->dev_ops->detach_aio_context) {
        blk->dev_ops->detach_aio_context(blk->dev_opaque);
    }
    blk->ctx = ctx;
    if (blk->dev_ops && blk->dev_ops->attached_aio_context) {
        blk->dev_ops->attached_aio_context(ctx, blk->dev_opaque);
    }
}

static void move_commit(void *opaque)
{
    MoveStep *s = opaque;

    backend_move(s->blk, s->ctx);
}

static const TransactionActionDrv move_drv = { .commit = move_commit, .clean = g_free };

static bool root_change_aio_ctx(BdrvChild *c, AioContext *ctx, GHashTable *visited, Transaction *tran,
                                Error **errp)
{
    BlockBackend *blk = c->opaque;

    if (blk->ctx == ctx) {
        return true;
    }
    /* A named one that no device uses has nobody to ask. */
    if (!blk->allow_aio_context_change && !(blk->name && !blk->dev_ops)) {
        error_setg(errp, "Cannot change iothread of active block backend");
        return false;
    }
    MoveStep *s = g_new(MoveStep, 1);

    *s = (MoveStep) { blk, ctx };
    tran_add(tran, &move_drv, s);
    return true;
}

static const BdrvChildClass child_root = {
    .get_parent_desc = root_parent_desc,
    .attach = root_attach,
    .drained_begin = root_drained_begin,
    .drained_poll = root_drained_poll,
    .drained_end = root_drained_end,
    .change_aio_ctx = root_change_aio_ctx,
    .resize = root_resize,
};

AioContext *blk_get_aio_context(BlockBackend *blk)
{
    return blk->ctx;
}

int blk_set_aio_context(BlockBackend *blk, AioContext *ctx, Error **errp)
{
    if (blk->root) {
        int ret = bdrv_try_change_aio_context(blk->root->bs, ctx, blk->root, errp);

        if (ret < 0) {
            return ret;
        }
    }
    blk->ctx = ctx;
    return 0;
}

void blk_set_allow_aio_context_change(BlockBackend *blk, bool allow)
{
    blk->allow_aio_context_change = allow;
}

/* ---- making and ending ---- */

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
    qemu_co_queue_init(&blk->queue);
    TAILQ_INSERT_TAIL(&all_backends, blk, link);
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
    uint64_t perm = BLK_PERM_CONSISTENT_READ, shared = BLK_PERM_ALL;
    BlockDriverState *bs = bdrv_open(filename, reference, options, flags, errp);
    BlockBackend *blk;

    if (!bs) {
        return NULL;
    }
    if (flags & BDRV_O_RDWR) {
        perm |= BLK_PERM_WRITE;
        shared &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    if (flags & BDRV_O_RESIZE) {
        perm |= BLK_PERM_RESIZE;
    }
    if (flags & BDRV_O_NO_SHARE) {
        shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    }
    blk = blk_new_with_bs(bs, perm, shared, errp);
    bdrv_unref(bs);
    return blk;
}

void blk_ref(BlockBackend *blk)
{
    g_assert(qemu_in_main_thread() && blk->refcnt > 0);
    blk->refcnt++;
}

static void backend_free(BlockBackend *blk)
{
    blk_drain(blk);
    blk_remove_bs(blk);
    g_assert(qemu_co_queue_empty(&blk->queue) && !blk->quiesce_counter);
    TAILQ_REMOVE(&all_backends, blk, link);
    pthread_mutex_destroy(&blk->queue_lock);
    g_free(blk->name);
    g_free(blk);
}

void blk_unref(BlockBackend *blk)
{
    if (!blk) {
        return;
    }
    g_assert(qemu_in_main_thread() && blk->refcnt > 0);
    if (blk->refcnt > 1) {
        blk->refcnt--;
    } else {
        backend_free(blk);
    }
}

/* ---- the root ---- */

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return blk->root ? blk->root->bs : NULL;
}

BdrvChild *blk_root(BlockBackend *blk)
{
    return blk->root;
}

int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp)
{
    g_assert(!blk->root);
    bdrv_ref(bs);
    BdrvChild *root = bdrv_root_attach_child(bs, "root", &child_root, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                                             blk->perm, blk->shared_perm, blk, errp);

    if (!root) {
        return -EPERM;
    }
    __atomic_store_n(&blk->root, root, __ATOMIC_RELEASE);
    return 0;
}

void blk_remove_bs(BlockBackend *blk)
{
    BdrvChild *root = blk->root;

    if (!root) {
        return;
    }
    /* Quiet first: a request looks at blk->root only when it has been let in. */
    BlockDriverState *bs = root->bs;

    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    __atomic_store_n(&blk->root, NULL, __ATOMIC_RELEASE);
    bdrv_root_unref_child(root);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

int blk_replace_bs(BlockBackend *blk, BlockDriverState *new_bs, Error **errp)
{
    return blk->root ? bdrv_replace_child_bs(blk->root, new_bs, errp) : blk_insert_bs(blk, new_bs, errp);
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

/* ---- settings ---- */

void blk_set_dev_ops(BlockBackend *blk, const BlockDevOps *ops, void *opaque)
{
    blk->dev_ops = ops;
    blk->dev_opaque = opaque;
    /* One that comes while all is quiet must hear of it. */
    if (blk->quiesce_counter && ops && ops->drained_begin) {
        ops->drained_begin(opaque);
    }
}

void blk_set_disable_request_queuing(BlockBackend *blk, bool disable)
{
    __atomic_store_n(&blk->disable_request_queuing, disable, __ATOMIC_SEQ_CST);
}

void blk_set_bulk(BlockBackend *blk, bool bulk)
{
    blk->extra_flags = bulk ? BDRV_REQ_BULK : 0;
}

void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow)
{
    blk->allow_write_beyond_eof = allow;
}

/* ---- names ---- */

int blk_set_name(BlockBackend *blk, const char *name, Error **errp)
{
    if (name && !id_wellformed(name)) {
        error_setg(errp, "Invalid device name");
        return -EINVAL;
    }
    if (name && blk_by_name(name)) {
        error_setg(errp, "Device with id '%s' already exists", name);
        return -EEXIST;
    }
    if (name && bdrv_find_node(name)) {
        error_setg(errp, "Device name '%s' conflicts with an existing node name", name);
        return -EEXIST;
    }
    g_free(blk->name);
    blk->name = g_strdup(name);
    __atomic_store_n(&blk->accounting, name != NULL, __ATOMIC_RELAXED);
    return 0;
}

const char *blk_name(const BlockBackend *blk)
{
    return blk->name ? blk->name : "";
}

BlockBackend *blk_next(BlockBackend *blk)
{
    return blk ? TAILQ_NEXT(blk, link) : TAILQ_FIRST(&all_backends);
}

BlockBackend *blk_by_name(const char *name)
{
    BlockBackend *blk;

    TAILQ_FOREACH(blk, &all_backends, link) {
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

    TAILQ_FOREACH(blk, &all_backends, link) {
        if (blk->name && blk_bs(blk) == bs) {
            return blk->name;
        }
    }
    return NULL;
}

/* ---- error policy ---- */

void blk_set_on_error(BlockBackend *blk, BlockdevOnError on_read_error, BlockdevOnError on_write_error)
{
    blk->on_read_error = on_read_error;
    blk->on_write_error = on_write_error;
}

BlockErrorAction blk_get_error_action(BlockBackend *blk, bool is_read, int error)
{
    BlockdevOnError on_error = is_read ? blk->on_read_error : blk->on_write_error;

    switch (on_error) {
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_ENOSPC:
        return error == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_AUTO:        /* stop only where it helps: a full disk, on writing */
        return !is_read && error == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    default:
        return BLOCK_ERROR_ACTION_REPORT;
    }
}

/* ---- drain ---- */

static bool backend_busy(void *opaque)
{
    BlockBackend *blk = opaque;

    return __atomic_load_n(&blk->in_flight, __ATOMIC_SEQ_CST) > 0;
}

void blk_drain(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    if (bs) {
        bdrv_drain(bs);
    } else {
        aio_wait_while(backend_busy, blk);
    }
}

unsigned blk_in_flight(BlockBackend *blk)
{
    return __atomic_load_n(&blk->in_flight, __ATOMIC_RELAXED);
}

/* ---- accounting ---- */

void blk_get_stats(BlockBackend *blk, BlockAcctStats *stats)
{
    for (int i = 0; i < (int)G_N_ELEMENTS(stats->ops); i++) {
        stats->ops[i] = __atomic_load_n(&blk->stats.ops[i], __ATOMIC_RELAXED);
        stats->bytes[i] = __atomic_load_n(&blk->stats.bytes[i], __ATOMIC_RELAXED);
        stats->failed[i] = __atomic_load_n(&blk->stats.failed[i], __ATOMIC_RELAXED);
        stats->invalid[i] = __atomic_load_n(&blk->stats.invalid[i], __ATOMIC_RELAXED);
        stats->total_time_ns[i] = __atomic_load_n(&blk->stats.total_time_ns[i], __ATOMIC_RELAXED);
    }
    stats->last_access_ns = __atomic_load_n(&blk->stats.last_access_ns, __ATOMIC_RELAXED);
}

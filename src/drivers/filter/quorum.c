/* SPDX-License-Identifier: MIT */
/* quorum.c: several children that hold the same: writes go to all, what is read is what at least vote-threshold of them
 * say. One that says otherwise is told of, and with rewrite-corrupted given what the others have. With the read
 * pattern fifo the first child that can answers.
 */
#include "drivers/drivers.h"
#include "drivers/filter/quorum.h"

static int check_options(const BlockdevOptionsQuorum *o, int n, Error **errp)
{
    if (n < 1) {
        error_setg(errp, "Number of provided children must be 1 or more");
        return -EINVAL;
    }
    if (o->vote_threshold < 1) {
        error_setg(errp, "Parameter 'vote-threshold' expects a value >= 1");
        return -ERANGE;
    }
    if (o->vote_threshold > n) {
        error_setg(errp, "threshold may not exceed children count");
        return -ERANGE;
    }
    if (o->has_blkverify && o->blkverify && (n != 2 || o->vote_threshold != 2)) {
        error_setg(errp, "blkverify=on can only be set if there are exactly two files and vote-threshold is 2");
        return -EINVAL;
    }
    return 0;
}

static int count_children(const BlockdevOptionsQuorum *o)
{
    int n = 0;

    for (BlockdevRefList *l = o->children; l; l = l->next) {
        n++;
    }
    return n;
}

static char *child_name(unsigned index)
{
    return g_strdup_printf("children.%u", index);
}

static int coroutine_fn quorum_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsQuorum *o = &opts->u.quorum;
    QuorumState *s = bs->opaque;
    int n = count_children(o), ret = check_options(o, n, errp);

    if (ret < 0) {
        return ret;
    }
    s->threshold = o->vote_threshold;
    s->is_blkverify = o->has_blkverify && o->blkverify;
    s->pattern = o->has_read_pattern ? o->read_pattern : QUORUM_READ_PATTERN_QUORUM;
    s->rewrite_corrupted = o->has_rewrite_corrupted && o->rewrite_corrupted && s->pattern == QUORUM_READ_PATTERN_QUORUM;
    s->children = g_new0(BdrvChild *, n);
    qemu_co_rwlock_init(&s->rewrite_lock);
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    for (BlockdevRefList *l = o->children; l; l = l->next) {
        g_autofree char *name = child_name(s->next_index);
        BdrvChild *c = bdrv_co_open_child(bs, l->value, name, BDRV_CHILD_DATA, errp);

        if (!c) {
            g_clear_pointer(&s->children, g_free);
            return -EINVAL;
        }
        s->children[s->n++] = c;
        s->next_index++;
    }
    return 0;
}

static void coroutine_fn quorum_co_close(BlockDriverState *bs)
{
    g_free(((QuorumState *)bs->opaque)->children);
}

/* As long as all of them are. */
static int64_t coroutine_fn quorum_co_getlength(BlockDriverState *bs)
{
    QuorumState *s = bs->opaque;
    int64_t length = bdrv_co_getlength(s->children[0]->bs);

    for (int i = 1; i < s->n && length >= 0; i++) {
        int64_t other = bdrv_co_getlength(s->children[i]->bs);

        if (other != length) {
            return other < 0 ? other : -EIO;
        }
    }
    return length;
}

static void quorum_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                              uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    QuorumState *s = bs->opaque;

    *nperm = perm & BLK_PERM_DEFAULT_PASSTHROUGH;
    if (s->rewrite_corrupted) {
        *nperm |= BLK_PERM_WRITE;
    }
    /* Others would make the children differ. */
    *nshared = shared & (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
}

static bool quorum_recurse_can_replace(BlockDriverState *bs, BlockDriverState *to_replace)
{
    QuorumState *s = bs->opaque;

    for (int i = 0; i < s->n; i++) {
        if (bdrv_recurse_can_replace(s->children[i]->bs, to_replace)) {
            return true;
        }
    }
    return false;
}

/* ---- children that come and go; drained ---- */

static int quorum_add_child(BlockDriverState *bs, BlockDriverState *child_bs, Error **errp)
{
    QuorumState *s = bs->opaque;
    g_autofree char *name = child_name(s->next_index);

    if (s->is_blkverify) {
        error_setg(errp, "Cannot add a child to a quorum in blkverify mode");
        return -EINVAL;
    }
    bdrv_ref(child_bs);
    BdrvChild *c = bdrv_attach_child(bs, child_bs, name, BDRV_CHILD_DATA, errp);

    if (!c) {
        return -EINVAL;
    }
    s->next_index++;
    s->children = g_renew(BdrvChild *, s->children, s->n + 1);
    s->children[s->n++] = c;
    return 0;
}

static int quorum_del_child(BlockDriverState *bs, BdrvChild *child, Error **errp)
{
    QuorumState *s = bs->opaque;
    int i = 0;

    if (s->n <= s->threshold) {
        error_setg(errp, "The number of children cannot be lower than the vote threshold %d", s->threshold);
        return -EINVAL;
    }
    if (s->is_blkverify) {
        error_setg(errp, "Cannot remove a child from a quorum in blkverify mode");
        return -EINVAL;
    }
    while (s->children[i] != child) {
        i++;
    }
    memmove(&s->children[i], &s->children[i + 1], (s->n - i - 1) * sizeof(*s->children));
    s->n--;
    bdrv_unref_child(bs, child);
    return 0;
}

const BlockDriver bdrv_quorum = {
    .format_name        = "quorum",
    .kind               = BLOCK_DRIVER_FORMAT,
    .schema_driver      = BLOCKDEV_DRIVER_QUORUM,
    .instance_size      = sizeof(QuorumState),
    .flushes_children   = true,
    .has_variable_length = true,
    .co_open            = quorum_co_open,
    .co_close           = quorum_co_close,
    .child_perm         = quorum_child_perm,
    .recurse_can_replace = quorum_recurse_can_replace,
    .add_child          = quorum_add_child,
    .del_child          = quorum_del_child,
    .co_getlength       = quorum_co_getlength,
    .co_preadv          = quorum_co_preadv,
    .co_pwritev         = quorum_co_pwritev,
    .co_pwrite_zeroes   = quorum_co_pwrite_zeroes,
    .co_flush           = quorum_co_flush,
    .co_block_status    = quorum_co_block_status,
};

/* SPDX-License-Identifier: MIT */
/* throttle.c: a filter that keeps requests to the limits of its group.
 *
 * A drain lets all go on that wait. Flushes do not count.
 */
#include "drivers/drivers.h"
#include "drivers/filter/throttle_group.h"
#include "block/block_int-global-state.h"

typedef struct ThrottleNode {
    ThrottleMember *member;     /* changes on a drained node */
} ThrottleNode;

static ThrottleGroup *find_group(const char *id, Error **errp)
{
    ThrottleGroup *g = throttle_group_by_id(id);

    if (!g) {
        error_setg(errp, "Throttle group '%s' does not exist", id);
    }
    return g;
}

static int coroutine_fn throttle_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsThrottle *o = &opts->u.throttle;
    ThrottleNode *n = bs->opaque;

    if (!bdrv_co_open_child(bs, o->file, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        return -EINVAL;
    }
    ThrottleGroup *g = find_group(o->throttle_group, errp);

    if (!g) {
        return -EINVAL;
    }
    bs->supported_write_flags = (BDRV_REQ_FUA | BDRV_REQ_WRITE_COMPRESSED) & bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) &
                               bs->file->bs->supported_zero_flags;
    n->member = throttle_member_new(g);
    return 0;
}

static void coroutine_fn throttle_co_close(BlockDriverState *bs)
{
    throttle_member_free(((ThrottleNode *)bs->opaque)->member);
}

static int coroutine_fn throttle_co_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    state->opaque = find_group(state->opts->u.throttle.throttle_group, errp);
    return state->opaque ? 0 : -EINVAL;
}

static void coroutine_fn throttle_co_reopen_commit(BDRVReopenState *state)
{
    ThrottleNode *n = state->bs->opaque;

    /* It is drained: nobody waits, and new ones must not. */
    throttle_member_free(n->member);
    n->member = throttle_member_new(state->opaque);
    throttle_member_set_unlimited(n->member, true);
}

static void throttle_drain_begin(BlockDriverState *bs)
{
    throttle_member_set_unlimited(((ThrottleNode *)bs->opaque)->member, true);
}

static void throttle_drain_end(BlockDriverState *bs)
{
    throttle_member_set_unlimited(((ThrottleNode *)bs->opaque)->member, false);
}

static void coroutine_fn pass_gate(BlockDriverState *bs, int64_t bytes, bool is_write)
{
    throttle_co_wait(((ThrottleNode *)bs->opaque)->member, bytes, is_write);
}

static int coroutine_fn throttle_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                           size_t qiov_offset, BdrvRequestFlags flags)
{
    pass_gate(bs, bytes, false);
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn throttle_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                            size_t qiov_offset, BdrvRequestFlags flags)
{
    pass_gate(bs, bytes, true);
    return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn throttle_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                       QEMUIOVector *qiov, size_t qiov_offset)
{
    return throttle_co_pwritev(bs, offset, bytes, qiov, qiov_offset, BDRV_REQ_WRITE_COMPRESSED);
}

static int coroutine_fn throttle_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                  BdrvRequestFlags flags)
{
    pass_gate(bs, bytes, true);
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn throttle_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    pass_gate(bs, bytes, true);
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

const BlockDriver bdrv_throttle = {
    .format_name        = "throttle",
    .kind               = BLOCK_DRIVER_FILTER,
    .schema_driver      = BLOCKDEV_DRIVER_THROTTLE,
    .instance_size      = sizeof(ThrottleNode),
    .co_open            = throttle_co_open,
    .co_close           = throttle_co_close,
    .co_reopen_prepare  = throttle_co_reopen_prepare,
    .co_reopen_commit   = throttle_co_reopen_commit,
    .drain_begin        = throttle_drain_begin,
    .drain_end          = throttle_drain_end,
    .co_preadv          = throttle_co_preadv,
    .co_pwritev         = throttle_co_pwritev,
    .co_pwritev_compressed = throttle_co_pwritev_compressed,
    .co_pwrite_zeroes   = throttle_co_pwrite_zeroes,
    .co_pdiscard        = throttle_co_pdiscard,
};

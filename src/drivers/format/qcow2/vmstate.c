/* SPDX-License-Identifier: MIT */
/* vmstate.c: the saved state of a machine: it lies behind the disk, in the clusters of L1 entries that
 * the disk has no use for. A snapshot takes it along.
 */
#include "drivers/format/qcow2/qcow2.h"

/* Guest offset of the first byte, or -errno; the L1 table is made to reach to @end. */
static int64_t coroutine_fn vmstate_offset(BlockDriverState *bs, int64_t pos, uint64_t bytes, bool grow)
{
    Qcow2State *s = bs->opaque;
    BlockDriverInfo info = { 0 };
    uint64_t start, end;

    if (s->external) {
        return -ENOTSUP;        /* the data file holds the disk, and nothing else */
    }
    qcow2_get_info(bs, &info);
    if (__builtin_add_overflow((uint64_t)info.vm_state_offset, (uint64_t)pos, &start) ||
        __builtin_add_overflow(start, bytes, &end) || end > INT64_MAX) {
        return -EFBIG;
    }
    if (grow && qcow2_l1_needed(s, end) > s->l1_size) {
        int ret = qcow2_co_l1_grow(bs, qcow2_l1_needed(s, end));

        if (ret < 0) {
            return ret;
        }
    }
    return start;
}

int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov)
{
    int64_t offset = vmstate_offset(bs, pos, qiov->size, false);

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_VMSTATE_LOAD);
    return offset < 0 ? offset : qcow2_co_preadv(bs, offset, qiov->size, qiov, 0, 0);
}

int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov)
{
    int64_t offset = vmstate_offset(bs, pos, qiov->size, true);

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_VMSTATE_SAVE);
    return offset < 0 ? offset : qcow2_co_pwritev(bs, offset, qiov->size, qiov, 0, 0);
}

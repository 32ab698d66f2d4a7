/* SPDX-License-Identifier: MIT */
/* preallocate.c: a filter below a format: when the format writes beyond the end of the file, the file is made longer
 * than that by prealloc-size, up to a multiple of prealloc-align, without writing data. File systems that are slow at
 * making files longer are asked seldom then.
 *
 * Nobody sees the surplus: the node is as long as what was written. It is cut off when the node closes, becomes
 * read-only or is truncated. It is made only where the users of the node may write and resize; and while there is one,
 * nobody else may resize the file.
 *
 * Runs on: requests in any thread, one at a time over `lock`; control in the main thread, drained.
 */
#include "drivers/drivers.h"
#include "base/osdep.h"
#include "block/block_int-global-state.h"

#define ALIGN_DEFAULT   (1 * MiB)
#define SIZE_DEFAULT    (128 * MiB)

typedef struct PreallocateSettings {
    int64_t align, size;        /* bytes */
} PreallocateSettings;

typedef struct PreallocateState {
    PreallocateSettings settings;
    CoMutex lock;
    int64_t data_end;           /* what is seen; -1: not known, the file has no surplus; atomic */
    int64_t file_end;           /* bytes */
} PreallocateState;

static int parse_settings(const BlockdevOptionsPreallocate *o, PreallocateSettings *set, Error **errp)
{
    set->align = o->has_prealloc_align ? o->prealloc_align : ALIGN_DEFAULT;
    set->size = o->has_prealloc_size ? o->prealloc_size : SIZE_DEFAULT;
    if (set->align < 0 || set->align % BDRV_SECTOR_SIZE) {
        error_setg(errp, "prealloc-align parameter of preallocate filter is not aligned to %d", BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    if (set->size < 0) {
        error_setg(errp, "Value '%" PRId64 "' is out of range for parameter 'prealloc-size'", set->size);
        return -EINVAL;
    }
    set->align = MAX(set->align, BDRV_SECTOR_SIZE);
    return 0;
}

static bool may_grow(BlockDriverState *bs)
{
    const uint64_t needed = BLK_PERM_WRITE | BLK_PERM_RESIZE;

    return (bdrv_child_perm(bs->file) & needed) == needed;
}

static bool has_surplus(PreallocateState *s)
{
    int64_t data_end = __atomic_load_n(&s->data_end, __ATOMIC_RELAXED);

    return data_end >= 0 && s->file_end > data_end;
}

/* Cut it off. `lock` held, or drained. */
static int coroutine_fn drop_surplus(BlockDriverState *bs, Error **errp)
{
    PreallocateState *s = bs->opaque;
    int ret = has_surplus(s) ? bdrv_co_truncate(bs->file, s->data_end, true, PREALLOC_MODE_OFF, 0, errp) : 0;

    if (ret < 0) {
        return ret;
    }
    __atomic_store_n(&s->data_end, -1, __ATOMIC_RELAXED);
    return 0;
}

/* `lock` held. */
static void coroutine_fn make_surplus(BlockDriverState *bs, int64_t end)
{
    PreallocateState *s = bs->opaque;
    int64_t to;

    if (__builtin_add_overflow(end, s->settings.size + s->settings.align, &to)) {
        return;
    }
    to = QEMU_ALIGN_UP(end + s->settings.size, s->settings.align);
    if (to <= s->file_end || to > BDRV_MAX_LENGTH) {
        return;
    }
    /* Nobody writes there: whoever does comes by here first. */
    int ret = bdrv_co_pwrite_zeroes(bs->file, s->file_end, to - s->file_end, BDRV_REQ_NO_FALLBACK);

    if (!ret) {
        s->file_end = to;
    } else {
        int64_t length = bdrv_co_getlength(bs->file->bs);       /* it may have got half way */

        s->file_end = MAX(length, s->file_end);
    }
}

/* Before a write that ends at @end. */
static void coroutine_fn before_write(BlockDriverState *bs, int64_t end)
{
    PreallocateState *s = bs->opaque;

    if (likely(end <= __atomic_load_n(&s->data_end, __ATOMIC_RELAXED)) || !may_grow(bs)) {
        return;
    }
    qemu_co_mutex_lock(&s->lock);
    if (s->data_end < 0) {
        int64_t length = bdrv_co_getlength(bs->file->bs);

        if (length < 0) {
            qemu_co_mutex_unlock(&s->lock);
            return;
        }
        s->file_end = length;
        __atomic_store_n(&s->data_end, length, __ATOMIC_RELAXED);
    }
    if (end > s->data_end) {
        __atomic_store_n(&s->data_end, end, __ATOMIC_RELAXED);
        if (end > s->file_end) {
            make_surplus(bs, end);
            s->file_end = MAX(s->file_end, end);
        }
    }
    qemu_co_mutex_unlock(&s->lock);
}

static int coroutine_fn preallocate_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                               size_t qiov_offset, BdrvRequestFlags flags)
{
    before_write(bs, offset + bytes);
    return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn preallocate_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                     BdrvRequestFlags flags)
{
    before_write(bs, offset + bytes);
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int64_t coroutine_fn preallocate_co_getlength(BlockDriverState *bs)
{
    PreallocateState *s = bs->opaque;
    int64_t data_end = __atomic_load_n(&s->data_end, __ATOMIC_RELAXED);

    return data_end >= 0 ? data_end : bdrv_co_getlength(bs->file->bs);
}

static int coroutine_fn preallocate_co_truncate(BlockDriverState *bs, int64_t offset, bool exact, PreallocMode prealloc,
                                                BdrvRequestFlags flags, Error **errp)
{
    PreallocateState *s = bs->opaque;

    qemu_co_mutex_lock(&s->lock);
    int ret = drop_surplus(bs, errp);

    if (ret == 0) {
        ret = bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
    }
    qemu_co_mutex_unlock(&s->lock);
    return ret;
}

static void preallocate_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                                   uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    const uint64_t grow = BLK_PERM_WRITE | BLK_PERM_RESIZE;

    bdrv_default_perms(bs, c, role, queue, perm, shared, nperm, nshared);
    /* The right to cut the surplus off stays after the last user has gone. */
    if ((*nperm & grow) == grow || has_surplus(bs->opaque)) {
        *nperm |= grow;
        *nshared &= ~(uint64_t)BLK_PERM_RESIZE;
    }
}

static int coroutine_fn preallocate_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsPreallocate *o = &opts->u.preallocate;
    PreallocateState *s = bs->opaque;

    s->data_end = -1;
    qemu_co_mutex_init(&s->lock);
    if (!bdrv_co_open_child(bs, o->file, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        return -EINVAL;
    }
    bs->supported_write_flags = BDRV_REQ_FUA & bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) &
                               bs->file->bs->supported_zero_flags;
    return parse_settings(o, &s->settings, errp);
}

static void coroutine_fn preallocate_co_close(BlockDriverState *bs)
{
    Error *err = NULL;

    if (drop_surplus(bs, &err) < 0) {
        error_reportf_err(err, "Failed to drop preallocation: ");
    }
}

static int coroutine_fn preallocate_co_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    g_autofree PreallocateSettings *set = g_new(PreallocateSettings, 1);
    int ret = parse_settings(&state->opts->u.preallocate, set, errp);

    if (ret == 0 && !(state->flags & BDRV_O_RDWR)) {
        ret = drop_surplus(state->bs, errp);
    }
    if (ret == 0) {
        state->opaque = g_steal_pointer(&set);
    }
    return ret;
}

static void coroutine_fn preallocate_co_reopen_commit(BDRVReopenState *state)
{
    PreallocateState *s = state->bs->opaque;

    s->settings = *(PreallocateSettings *)state->opaque;
    g_clear_pointer(&state->opaque, g_free);
}

static void coroutine_fn preallocate_co_reopen_abort(BDRVReopenState *state)
{
    g_clear_pointer(&state->opaque, g_free);
}

const BlockDriver bdrv_preallocate = {
    .format_name        = "preallocate",
    .kind               = BLOCK_DRIVER_FILTER,
    .schema_driver      = BLOCKDEV_DRIVER_PREALLOCATE,
    .instance_size      = sizeof(PreallocateState),
    .has_variable_length = true,
    .co_open            = preallocate_co_open,
    .co_close           = preallocate_co_close,
    .co_reopen_prepare  = preallocate_co_reopen_prepare,
    .co_reopen_commit   = preallocate_co_reopen_commit,
    .co_reopen_abort    = preallocate_co_reopen_abort,
    .child_perm         = preallocate_child_perm,
    .co_pwritev         = preallocate_co_pwritev,
    .co_pwrite_zeroes   = preallocate_co_pwrite_zeroes,
    .co_truncate        = preallocate_co_truncate,
    .co_getlength       = preallocate_co_getlength,
};

/* SPDX-License-Identifier: MIT */
/* raw.c: the bytes of the child, or a window (offset, size) into them.
 *
 * Without an offset every request passes on unchanged.
 *
 * A raw image whose format was guessed (bs->probed) must stay one: a guest that wrote
 * a qcow2 header into its first sector could make the next start of the image read any
 * file of the host as its backing file. So there a write to the first sector is
 * refused (-EPERM) if the sector would then be taken for another format.
 *
 * Runs on: the request's thread. The window is changed in the main thread on a
 * drained node only.
 */
#include "base/osdep.h"
#include "block/block.h"
#include "drivers/drivers.h"

#define PROBE_BYTES 512

typedef struct RawState {
    int64_t offset_bytes;       /* of the window */
    int64_t size_bytes;         /* of the window; valid with has_size */
    bool has_size;
} RawState;

/* Without a window raw shows its child as it is and asks of it just what its own parents
 * ask. With one, the child must not change its length underneath. */
static BdrvChildRole raw_child_role(const BlockdevOptionsRaw *o)
{
    return (o->has_offset || o->has_size ? BDRV_CHILD_DATA : BDRV_CHILD_FILTERED) |
           BDRV_CHILD_PRIMARY;
}

/* ---- the window ---- */

static int raw_check_window(RawState *w, int64_t available, Error **errp)
{
    if (w->offset_bytes > available) {
        error_setg(errp, "Offset (%" PRId64 ") cannot be greater than size of the containing "
                   "file (%" PRId64 ")", w->offset_bytes, available);
        return -EINVAL;
    }
    if (w->has_size && w->size_bytes > available - w->offset_bytes) {
        error_setg(errp, "The sum of offset (%" PRId64 ") and size (%" PRId64 ") has to be "
                   "smaller or equal to the  actual size of the containing file (%" PRId64 ")",
                   w->offset_bytes, w->size_bytes, available);
        return -EINVAL;
    }
    if (w->has_size && !QEMU_IS_ALIGNED(w->size_bytes, BDRV_SECTOR_SIZE)) {
        error_setg(errp, "Specified size is not multiple of %d", BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn raw_co_read_window(BlockDriverState *bs, const BlockdevOptionsRaw *o,
                                           RawState *w, Error **errp)
{
    int64_t available = bdrv_co_getlength(bs->file->bs);

    if (available < 0) {
        error_setg_errno(errp, -available, "Could not get image size");
        return available;
    }
    if ((o->has_offset && o->offset < 0) || (o->has_size && o->size < 0)) {
        error_setg(errp, "Value '%" PRId64 "' is out of range for parameter '%s'",
                   o->has_offset && o->offset < 0 ? o->offset : o->size,
                   o->has_offset && o->offset < 0 ? "offset" : "size");
        return -EINVAL;
    }
    w->offset_bytes = o->has_offset ? o->offset : 0;
    w->has_size = o->has_size;
    w->size_bytes = o->has_size ? o->size : 0;
    return raw_check_window(w, available, errp);
}

static int coroutine_fn raw_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                    int flags, Error **errp)
{
    const BlockdevOptionsRaw *o = &opts->u.raw;
    RawState *s = bs->opaque;

    if (!bdrv_co_open_child(bs, o->file, "file", raw_child_role(o), errp)) {
        return -EINVAL;
    }
    bs->supported_write_flags = bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
    if (bs->probed && (flags & BDRV_O_RDWR)) {
        /* In the words, and without the program's name, that people search their logs for. */
        fprintf(stderr, "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                    "         Automatically detecting the format is dangerous for raw images, "
                    "write operations on block 0 will be restricted.\n"
                    "         Specify the 'raw' format explicitly to remove the restrictions.\n",
                    bs->file->bs->filename);
    }
    return raw_co_read_window(bs, o, s, errp);
}

static int coroutine_fn raw_co_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    g_autofree RawState *w = g_new0(RawState, 1);
    int ret = raw_co_read_window(state->bs, &state->opts->u.raw, w, errp);

    if (!ret) {
        state->opaque = g_steal_pointer(&w);
    }
    return ret;
}

static void coroutine_fn raw_co_reopen_commit(BDRVReopenState *state)
{
    RawState *s = state->bs->opaque;

    *s = *(RawState *)state->opaque;
    g_clear_pointer(&state->opaque, g_free);
}

static void coroutine_fn raw_co_reopen_abort(BDRVReopenState *state)
{
    g_clear_pointer(&state->opaque, g_free);
}

static int64_t coroutine_fn raw_co_getlength(BlockDriverState *bs)
{
    RawState *s = bs->opaque;
    int64_t available = bdrv_co_getlength(bs->file->bs);

    if (available < 0) {
        return available;
    }
    if (s->has_size) {
        return s->size_bytes;
    }
    return MAX(available - s->offset_bytes, 0);
}

static int coroutine_fn raw_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags,
                                        Error **errp)
{
    RawState *s = bs->opaque;

    if (s->has_size) {
        error_setg(errp, "Cannot resize fixed-size raw disks");
        return -ENOTSUP;
    }
    if (offset > BDRV_MAX_LENGTH - s->offset_bytes) {
        error_setg(errp, "Disk size too large for the chosen offset");
        return -EINVAL;
    }
    return bdrv_co_truncate(bs->file, offset + s->offset_bytes, exact, prealloc, flags, errp);
}

/* ---- the guard of the first sector ---- */

/* Would this be taken for an image of another format? */
static bool raw_looks_foreign(const uint8_t *sector)
{
    for (const BlockDriver *drv = bdrv_next_driver(NULL); drv; drv = bdrv_next_driver(drv)) {
        if (drv != &bdrv_raw && drv->probe && drv->probe(sector, PROBE_BYTES, "") > 1) {
            return true;
        }
    }
    return false;
}

/* Requests are aligned to a sector here, see raw_refresh_limits(), so one that touches
 * the first has all of it. The check and the write must see the same bytes: the guest may
 * change the buffer in between. So the sector goes down from a copy. */
static int coroutine_fn raw_co_pwritev_guarded(BlockDriverState *bs, int64_t offset,
                                               int64_t bytes, QEMUIOVector *qiov,
                                               size_t qiov_offset, BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;
    uint8_t *sector = qemu_blockalign(bs, PROBE_BYTES);
    QEMUIOVector local;
    int ret = -EPERM;

    assert(offset == 0 && bytes >= PROBE_BYTES);
    qemu_iovec_to_buf(qiov, qiov_offset, sector, PROBE_BYTES);
    if (!raw_looks_foreign(sector)) {
        qemu_iovec_init(&local, qiov->niov + 1);
        qemu_iovec_add(&local, sector, PROBE_BYTES);
        qemu_iovec_concat(&local, qiov, qiov_offset + PROBE_BYTES, bytes - PROBE_BYTES);
        ret = bdrv_co_pwritev(bs->file, s->offset_bytes, bytes, &local,
                              flags & ~BDRV_REQ_REGISTERED_BUF);
        qemu_iovec_destroy(&local);
    }
    qemu_vfree(sector);
    return ret;
}

/* ---- requests ---- */

/* A window does not grow by being written behind its end. */
static inline bool raw_is_outside(const RawState *s, int64_t offset, int64_t bytes)
{
    return unlikely(s->has_size) && offset > s->size_bytes - bytes;
}

static int coroutine_fn raw_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_READ_AIO);
    return bdrv_co_preadv_part(bs->file, offset + s->offset_bytes, bytes, qiov, qiov_offset,
                               flags);
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;

    if (raw_is_outside(s, offset, bytes)) {
        return -ENOSPC;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_WRITE_AIO);
    if (unlikely(bs->probed && offset < PROBE_BYTES && bytes)) {
        return raw_co_pwritev_guarded(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    return bdrv_co_pwritev_part(bs->file, offset + s->offset_bytes, bytes, qiov, qiov_offset,
                                flags);
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                             int64_t bytes, BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;

    if (raw_is_outside(s, offset, bytes)) {
        return -ENOSPC;
    }
    return bdrv_co_pwrite_zeroes(bs->file, offset + s->offset_bytes, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    RawState *s = bs->opaque;

    if (raw_is_outside(s, offset, bytes)) {
        return -ENOSPC;
    }
    return bdrv_co_pdiscard(bs->file, offset + s->offset_bytes, bytes);
}

static int coroutine_fn raw_co_block_status(BlockDriverState *bs, bool want_zero,
                                            int64_t offset, int64_t bytes, int64_t *pnum,
                                            int64_t *map, BlockDriverState **file)
{
    RawState *s = bs->opaque;

    *pnum = bytes;
    *map = offset + s->offset_bytes;
    *file = bs->file->bs;
    return BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_RECURSE;
}

static void raw_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    if (bs->probed) {
        bl->request_alignment = MAX(bl->request_alignment, PROBE_BYTES);
    }
}

static void raw_refresh_filename(BlockDriverState *bs)
{
    RawState *s = bs->opaque;
    bool plain = !s->offset_bytes && !s->has_size &&
                 bs->file->bs->drv->kind == BLOCK_DRIVER_PROTOCOL;

    g_free(bs->exact_filename);
    bs->exact_filename = g_strdup(plain && bs->file->bs->exact_filename
                                  ? bs->file->bs->exact_filename : "");
}

/* Anything can be raw: the weakest claim, so that every other format wins. */
static int raw_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return 1;
}

static int raw_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bdrv_get_info(bs->file->bs, info);
}

const BlockDriver bdrv_raw = {
    .format_name = "raw",
    .kind = BLOCK_DRIVER_FORMAT,
    .instance_size = sizeof(RawState),
    .schema_driver = BLOCKDEV_DRIVER_RAW,
    .co_open = raw_co_open,
    .co_reopen_prepare = raw_co_reopen_prepare,
    .co_reopen_commit = raw_co_reopen_commit,
    .co_reopen_abort = raw_co_reopen_abort,
    .refresh_limits = raw_refresh_limits,
    .refresh_filename = raw_refresh_filename,
    .probe = raw_probe,
    .get_info = raw_get_info,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .co_pdiscard = raw_co_pdiscard,
    .co_truncate = raw_co_truncate,
    .co_getlength = raw_co_getlength,
    .co_block_status = raw_co_block_status,
};

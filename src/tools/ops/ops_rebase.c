/* SPDX-License-Identifier: MIT */
/* ops_rebase.c: what an overlay needs of its own before it gets another backing image.
 *
 * Where the new backing image is a part of the old chain, only what lies above it there can differ; else
 * both are read and compared. The image shows the same at any time: it gets what it shows already.
 */
#include "ops/ops.h"

#define CHUNK   (512 * KiB)
#define WORKERS 4

typedef struct Rebase {
    const OpsRebase *r;
    BlockDriverState *overlay, *old;    /* old: the node below, or NULL */
    int64_t at, length, cluster, chunk;
    CoMutex lock;               /* over what is to be looked at next */
    int ret;
    Error *err;
} Rebase;

static int64_t length_of(BlockBackend *blk)
{
    return blk ? blk_getlength_cached(blk) : 0;
}

/* Zeroes behind the end. */
static int coroutine_fn read_backing(BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t *buf)
{
    int64_t n = MAX(MIN(bytes, length_of(blk) - offset), 0);

    memset(buf + n, 0, bytes - n);
    return n ? blk_co_pread(blk, offset, n, buf, 0) : 0;
}

/* Is it zero on both sides by what their tables say? */
static bool coroutine_fn both_zero(const OpsRebase *r, int64_t offset, int64_t *bytes)
{
    BlockBackend *sides[] = { r->old_backing, r->new_backing };

    for (int i = 0; i < 2; i++) {
        int64_t n, length = length_of(sides[i]);

        if (offset >= length) {
            continue;
        }
        int ret = blk_co_block_status_above(sides[i], NULL, offset, MIN(*bytes, length - offset), &n, NULL, NULL);

        if (ret < 0 || !(ret & BDRV_BLOCK_ZERO)) {
            return false;
        }
        *bytes = MIN(*bytes, n);
    }
    return true;
}

/* Whole clusters of the overlay where they differ. */
static int coroutine_fn write_different(const Rebase *s, int64_t offset, int64_t bytes, uint8_t *old, uint8_t *new)
{
    const OpsRebase *r = s->r;
    int ret = 0;

    for (int64_t at = 0, n; at < bytes && ret == 0; at += n) {
        n = MIN(QEMU_ALIGN_DOWN(offset + at + s->cluster, s->cluster) - offset - at, bytes - at);
        if (!memcmp(old + at, new + at, n)) {
            continue;
        }
        if (buffer_is_zero(old + at, n)) {
            ret = blk_co_pwrite_zeroes(r->overlay, offset + at, n, 0);
        } else if (r->compress) {
            ret = blk_co_pwrite_compressed(r->overlay, offset + at, n, old + at);
        } else {
            ret = blk_co_pwrite(r->overlay, offset + at, n, old + at, BDRV_REQ_BULK);
        }
    }
    return ret;
}

static void rebase_fail(Rebase *s, int ret, const char *what)
{
    if (s->ret == 0) {
        s->ret = ret;
        error_setg_errno(&s->err, -ret, "%s", what);
    }
}

static void coroutine_fn rebase_range(Rebase *s, int64_t offset, int64_t bytes, uint8_t *old, uint8_t *new)
{
    int ret = read_backing(s->r->old_backing, offset, bytes, old);

    if (ret < 0) {
        rebase_fail(s, ret, "error while reading from old backing file");
        return;
    }
    ret = read_backing(s->r->new_backing, offset, bytes, new);
    if (ret < 0) {
        rebase_fail(s, ret, "error while reading from new backing file");
        return;
    }
    ret = write_different(s, offset, bytes, old, new);
    if (ret < 0) {
        rebase_fail(s, ret, "Error while writing to COW image");
    }
}

/* May the two sides differ at s->at, where the overlay has nothing? *bytes: how far that goes. 0, 1, -errno. */
static int coroutine_fn may_differ(Rebase *s, int64_t *bytes)
{
    const OpsRebase *r = s->r;

    if (r->common && s->at < length_of(r->old_backing)) {
        int64_t n = MIN(*bytes, length_of(r->old_backing) - s->at);
        int ret = bdrv_co_is_allocated_above(s->old, r->common, false, s->at, n, bytes, NULL);

        if (ret <= 0) {
            return ret;
        }
    }
    return !both_zero(r, s->at, bytes);
}

static bool coroutine_fn next_range(Rebase *s, int64_t *offset, int64_t *bytes)
{
    bool found = false;

    qemu_co_mutex_lock(&s->lock);
    while (!found && s->at < s->length && s->ret == 0) {
        int64_t n;
        int ret = bdrv_co_is_allocated(s->overlay, s->at, s->length - s->at, &n);

        if (ret == 0) {
            ret = may_differ(s, &n);
            found = ret > 0;
        }
        if (ret < 0) {
            rebase_fail(s, ret, "error while reading image metadata");
            found = false;
        }
        if (found) {
            n = MIN(n, QEMU_ALIGN_DOWN(s->at + s->chunk, s->chunk) - s->at);
            *offset = s->at;
            *bytes = n;
        }
        s->at += n;
        s->r->progress->done = s->at;
    }
    qemu_co_mutex_unlock(&s->lock);
    return found;
}

static void coroutine_fn rebase_worker(void *opaque)
{
    Rebase *s = opaque;
    uint8_t *old = qemu_try_blockalign(s->overlay, s->chunk), *new = qemu_try_blockalign(s->overlay, s->chunk);
    int64_t offset, bytes;

    if (!old || !new) {
        rebase_fail(s, -ENOMEM, "could not allocate memory");
    }
    while (next_range(s, &offset, &bytes)) {
        rebase_range(s, offset, bytes, old, new);
    }
    qemu_vfree(old);
    qemu_vfree(new);
}

int coroutine_fn ops_rebase(const OpsRebase *r, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(r->overlay));
    Rebase s = { .r = r, .overlay = bs, .length = blk_co_getlength(r->overlay) };
    BlockDriverInfo info = { 0 };

    bdrv_get_info(bs, &info);
    s.old = r->old_backing ? blk_bs(r->old_backing) : NULL;
    s.cluster = MAX(info.cluster_size, 64 * KiB);
    s.chunk = MAX(CHUNK, s.cluster);
    r->progress->total = s.length;
    qemu_co_mutex_init(&s.lock);
    /* Zeroes have to be written, though nothing lies below now. */
    __atomic_store_n(&bs->backing_awaited, r->new_backing != NULL, __ATOMIC_RELAXED);
    ops_run_workers(WORKERS, rebase_worker, &s);
    __atomic_store_n(&bs->backing_awaited, false, __ATOMIC_RELAXED);
    error_propagate(errp, s.err);
    return s.ret;
}

BlockDriverState *ops_find_common(BlockDriverState *old, BlockBackend *backing)
{
    BlockDriverState *new = backing ? bdrv_skip_filters(blk_bs(backing)) : NULL;

    if (!new || !*new->exact_filename) {
        return NULL;
    }
    while (old && (strcmp(old->exact_filename, new->exact_filename) || old->drv != new->drv)) {
        old = bdrv_backing_chain_next(old);
    }
    return old;
}

/* SPDX-License-Identifier: MIT */
/* ops_commit.c: write what an image, and those between, have above a base into the base.
 *
 * The base shows what the top shows when the copy is complete and durable, and not before that is the
 * top emptied: at any moment the top, and with it the disk, shows the same.
 */
#include "ops/ops.h"
#include "aio/host.h"
#include "base/ratelimit.h"
#include "drivers/drivers.h"

#define PIECE   (512 * KiB)
#define ZEROES  (1 * GiB)
#define WORKERS 4

typedef struct Commit {
    BlockBackend *top, *base;
    BlockDriverState *top_bs, *above;   /* above: the filter above the base, where the copy ends */
    OpsProgress *progress;
    int64_t at, length;
    RateLimit rate;
    bool limited;
    CoMutex lock;               /* over what is to be looked at next */
    int ret;
    Error *err;
} Commit;

static void commit_fail(Commit *c, int ret, const char *what, int64_t at)
{
    if (c->ret == 0) {
        c->ret = ret;
        error_setg_errno(&c->err, -ret, "Could not commit: %s at byte %" PRId64 " failed", what, at);
    }
}

static bool coroutine_fn next_piece(Commit *c, int64_t *offset, int64_t *bytes, bool *zero)
{
    bool found = false;

    qemu_co_mutex_lock(&c->lock);
    while (!found && c->at < c->length && c->ret == 0) {
        int64_t n;
        int ret = bdrv_co_block_status_above(c->top_bs, c->above, c->at, MIN(c->length - c->at, ZEROES), &n, NULL, NULL);

        if (ret < 0) {
            commit_fail(c, ret, "reading the allocation", c->at);
            break;
        }
        found = ret & BDRV_BLOCK_ALLOCATED;
        *zero = ret & BDRV_BLOCK_ZERO;
        if (found && !*zero) {
            n = MIN(n, QEMU_ALIGN_DOWN(c->at + PIECE, PIECE) - c->at);
        }
        *offset = c->at;
        *bytes = n;
        c->at += n;
        if (!found) {
            c->progress->done += n;
        }
    }
    qemu_co_mutex_unlock(&c->lock);
    return found;
}

static void coroutine_fn copy_piece(Commit *c, int64_t offset, int64_t bytes, bool zero, void *buf)
{
    int ret;

    if (zero) {
        ret = blk_co_pwrite_zeroes(c->base, offset, bytes, BDRV_REQ_MAY_UNMAP);
        if (ret < 0) {
            commit_fail(c, ret, "writing zeroes", offset);
        }
        return;
    }
    ret = blk_co_pread(c->top, offset, bytes, buf, BDRV_REQ_BULK);
    if (ret < 0) {
        commit_fail(c, ret, "reading", offset);
        return;
    }
    ret = blk_co_pwrite(c->base, offset, bytes, buf, BDRV_REQ_BULK);
    if (ret < 0) {
        commit_fail(c, ret, "writing", offset);
    }
}

static void coroutine_fn commit_worker(void *opaque)
{
    Commit *c = opaque;
    void *buf = qemu_try_blockalign(c->top_bs, PIECE);
    int64_t offset, bytes;
    bool zero;

    if (!buf) {
        commit_fail(c, -ENOMEM, "allocating memory", c->at);
    }
    while (next_piece(c, &offset, &bytes, &zero)) {
        copy_piece(c, offset, bytes, zero, buf);
        c->progress->done += bytes;
        if (c->limited) {
            int64_t wait = ratelimit_calculate_delay(&c->rate, bytes, host_ops->clock_ns(QEMU_CLOCK_REALTIME));

            if (wait > 0) {
                co_sleep_ns(wait);
            }
        }
    }
    qemu_vfree(buf);
}

static int coroutine_fn grow_base(Commit *c, Error **errp)
{
    int64_t have = blk_co_getlength(c->base);

    if (have < 0) {
        error_setg_errno(errp, -have, "Could not get the size of the base");
        return have;
    }
    return have >= c->length ? 0 : blk_co_truncate(c->base, c->length, false, PREALLOC_MODE_OFF, 0, errp);
}

static int coroutine_fn copy_all(const OpsCommit *o, Commit *c, Error **errp)
{
    int ret = grow_base(c, errp);

    if (ret < 0) {
        return ret;
    }
    ops_run_workers(o->rate ? 1 : WORKERS, commit_worker, c);
    error_propagate(errp, c->err);
    if (c->ret == 0) {
        c->ret = blk_co_flush(c->base);
        if (c->ret < 0) {
            error_setg_errno(errp, -c->ret, "Could not flush the base");
        }
    }
    return c->ret;
}

static int coroutine_fn empty_top(const OpsCommit *o, BlockDriverState *bs, Error **errp)
{
    int ret = bdrv_co_make_empty(bs);

    if (ret < 0 && ret != -ENOTSUP) {
        error_setg_errno(errp, -ret, "Could not empty %s", bs->filename);
        return ret;
    }
    return 0;
}

int coroutine_fn ops_commit(const OpsCommit *o, Error **errp)
{
    BlockDriverState *base = o->base;
    bool read_only = bdrv_is_read_only(base);
    Commit c = { .top = o->top, .top_bs = blk_bs(o->top), .progress = o->progress, .length = blk_co_getlength(o->top),
                 .limited = o->rate };
    int ret;

    if (c.length < 0) {
        error_setg_errno(errp, -c.length, "Could not get the size of the image");
        return c.length;
    }
    /* What the base does not say itself it takes over from here. */
    int flags = BDRV_O_RDWR | (c.top_bs->open_flags & (BDRV_O_UNMAP | BDRV_O_NOCACHE | BDRV_O_NO_FLUSH));

    c.above = bdrv_new_open_driver(&bdrv_commit_top, NULL, flags, errp);
    if (!c.above) {
        return -EINVAL;
    }
    ret = bdrv_append(c.above, base, errp);
    if (ret < 0) {
        bdrv_unref(c.above);
        return ret;
    }
    ret = read_only ? bdrv_reopen_set_read_only(base, false, errp) : 0;
    if (ret == 0) {
        c.base = blk_new_with_bs(base, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL, errp);
        ret = c.base ? 0 : -EPERM;
    }
    if (ret == 0) {
        o->progress->total = c.length;
        ratelimit_set_speed(&c.rate, o->rate, 100 * 1000 * 1000);
        qemu_co_mutex_init(&c.lock);
        ret = copy_all(o, &c, errp);
    }
    blk_unref(c.base);
    if (read_only && !bdrv_is_read_only(base) && bdrv_reopen_set_read_only(base, true, ret < 0 ? NULL : errp) < 0 &&
        ret == 0) {
        ret = -EIO;
    }
    bdrv_drop_filter(c.above, &error_abort);
    bdrv_unref(c.above);
    return ret == 0 && o->empty ? empty_top(o, bdrv_skip_filters(blk_bs(o->top)), errp) : ret;
}

BlockDriverState *ops_find_backing(BlockDriverState *top, const char *name)
{
    for (BlockDriverState *bs = bdrv_skip_filters(top), *below; (below = bdrv_backing_chain_next(bs)); bs = below) {
        g_autofree char *seen_from_here = ops_backing_path(bs->exact_filename, name);
        g_autofree char *real = realpath(below->exact_filename, NULL);
        g_autofree char *given = realpath(name, NULL), *relative = realpath(seen_from_here, NULL);

        if (!strcmp(below->exact_filename, name) || !strcmp(below->filename, name) ||
            !g_strcmp0(bs->backing_file, name) || (real && (!g_strcmp0(real, given) || !g_strcmp0(real, relative)))) {
            return below;
        }
    }
    return NULL;
}

/* SPDX-License-Identifier: MIT */
/* blkverify.c: two nodes that have to show the same: writes go to both, reads are compared. For tests of formats:
 * `raw` is the plain copy that is trusted, `test` what is tested.
 *
 * A difference fails the request with EIO, and is told. The data returned is that of `test`.
 *
 * Runs on: the request's thread.
 */
#include "drivers/drivers.h"
#include "base/osdep.h"
#include "block/block_int-global-state.h"
#include "graph/filename.h"

typedef struct BlkverifyState {
    BdrvChild *test;            /* bs->file is the raw one */
} BlkverifyState;

typedef struct Pair {
    BlockDriverState *bs;
    int64_t offset, bytes;
    QEMUIOVector *qiov;
    size_t qiov_offset;
    BdrvRequestFlags flags;
    bool write;
    uint8_t *raw;               /* of a read: what raw says */
    int raw_ret;
    bool done;
    Coroutine *waiter;
} Pair;

static void coroutine_fn raw_co(void *opaque)
{
    Pair *p = opaque;
    QEMUIOVector qiov;

    if (p->write) {
        p->raw_ret = bdrv_co_pwritev_part(p->bs->file, p->offset, p->bytes, p->qiov, p->qiov_offset, p->flags);
    } else {
        qemu_iovec_init_buf(&qiov, p->raw, p->bytes);
        p->raw_ret = bdrv_co_preadv(p->bs->file, p->offset, p->bytes, &qiov, p->flags);
    }
    p->done = true;
    if (p->waiter) {
        aio_co_wake(p->waiter);
    }
}

/* Both at once. 0 or -errno. */
static int coroutine_fn run_pair(Pair *p)
{
    BlkverifyState *s = p->bs->opaque;
    int ret;

    qemu_coroutine_enter(qemu_coroutine_create(raw_co, p));
    ret = p->write ? bdrv_co_pwritev_part(s->test, p->offset, p->bytes, p->qiov, p->qiov_offset, p->flags)
                   : bdrv_co_preadv_part(s->test, p->offset, p->bytes, p->qiov, p->qiov_offset, p->flags);
    if (!p->done) {
        p->waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    if (ret != p->raw_ret) {
        error_report("blkverify: %s offset %" PRId64 " bytes %" PRId64 " return value mismatch %d != %d",
                     p->write ? "write" : "read", p->offset, p->bytes, ret, p->raw_ret);
        return -EIO;
    }
    return ret;
}

/* -1: none. */
static int64_t first_difference(const Pair *p)
{
    g_autofree uint8_t *test = g_malloc(p->bytes);

    qemu_iovec_to_buf(p->qiov, p->qiov_offset, test, p->bytes);
    for (int64_t i = 0; i < p->bytes; i++) {
        if (test[i] != p->raw[i]) {
            return i;
        }
    }
    return -1;
}

static int coroutine_fn blkverify_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                            size_t qiov_offset, BdrvRequestFlags flags)
{
    Pair p = { .bs = bs, .offset = offset, .bytes = bytes, .qiov = qiov, .qiov_offset = qiov_offset,
               .flags = flags & ~BDRV_REQ_REGISTERED_BUF, .raw = qemu_try_blockalign(bs, bytes) };

    if (!qiov || !p.raw) {
        qemu_vfree(p.raw);
        return qiov ? -ENOMEM : 0;      /* nothing to prefetch */
    }
    int ret = run_pair(&p);
    int64_t at = ret ? -1 : first_difference(&p);

    if (at >= 0) {
        error_report("blkverify: read offset %" PRId64 " bytes %" PRId64 " contents mismatch at offset %" PRId64, offset,
                     bytes, offset + at);
        ret = -EIO;
    }
    qemu_vfree(p.raw);
    return ret;
}

static int coroutine_fn blkverify_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                             size_t qiov_offset, BdrvRequestFlags flags)
{
    Pair p = { .bs = bs, .offset = offset, .bytes = bytes, .qiov = qiov, .qiov_offset = qiov_offset,
               .flags = flags & ~BDRV_REQ_REGISTERED_BUF, .write = true };

    return run_pair(&p);
}

/* Zeroes are written out, so that both have them; what a discarded range reads as is each side's own affair. */
static int coroutine_fn blkverify_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                   BdrvRequestFlags flags)
{
    return -ENOTSUP;
}

static int coroutine_fn blkverify_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return 0;
}

static int64_t coroutine_fn blkverify_co_getlength(BlockDriverState *bs)
{
    BlkverifyState *s = bs->opaque;

    return bdrv_co_getlength(s->test->bs);
}

static int coroutine_fn blkverify_co_truncate(BlockDriverState *bs, int64_t offset, bool exact, PreallocMode prealloc,
                                              BdrvRequestFlags flags, Error **errp)
{
    error_setg(errp, "Image format driver does not support resize");
    return -ENOTSUP;
}

/* blkverify:RAW:TEST */
static int blkverify_parse_filename(const char *filename, QDict *options, Error **errp)
{
    const char *raw = filename + strlen("blkverify:"), *test = strchr(raw, ':');

    if (!test) {
        error_setg(errp, "blkverify requires raw copy and original image path");
        return -EINVAL;
    }
    g_autofree char *raw_name = g_strndup(raw, test - raw);
    QDict *r = graph_options_of_filename(raw_name, errp), *t = r ? graph_options_of_filename(test + 1, errp) : NULL;

    if (!t) {
        qdict_unref(r);
        return -EINVAL;
    }
    qdict_put_obj(options, "raw", r);
    qdict_put_obj(options, "test", t);
    return 0;
}

static void blkverify_refresh_filename(BlockDriverState *bs)
{
    BlkverifyState *s = bs->opaque;
    const char *raw = bs->file ? bs->file->bs->exact_filename : NULL;
    const char *test = s->test ? s->test->bs->exact_filename : NULL;

    g_free(bs->exact_filename);
    bs->exact_filename = raw && *raw && test && *test ? g_strdup_printf("blkverify:%s:%s", raw, test) : g_strdup("");
}

static int coroutine_fn blkverify_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsBlkverify *o = &opts->u.blkverify;
    BlkverifyState *s = bs->opaque;

    if (!bdrv_co_open_child(bs, o->raw, "raw", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        return -EINVAL;
    }
    s->test = bdrv_co_open_child(bs, o->test, "test", BDRV_CHILD_DATA, errp);
    return s->test ? 0 : -EINVAL;
}

static void blkverify_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                                 uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    /* Both are used as the one is that is seen. */
    bdrv_default_perms(bs, c, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, queue, perm, shared, nperm, nshared);
}

const BlockDriver bdrv_blkverify = {
    .format_name        = "blkverify",
    .protocol_name      = "blkverify",
    .kind               = BLOCK_DRIVER_FILTER,
    .schema_driver      = BLOCKDEV_DRIVER_BLKVERIFY,
    .instance_size      = sizeof(BlkverifyState),
    .parse_filename     = blkverify_parse_filename,
    .refresh_filename   = blkverify_refresh_filename,
    .co_open            = blkverify_co_open,
    .child_perm         = blkverify_child_perm,
    .co_preadv          = blkverify_co_preadv,
    .co_pwritev         = blkverify_co_pwritev,
    .co_pwrite_zeroes   = blkverify_co_pwrite_zeroes,
    .co_pdiscard        = blkverify_co_pdiscard,
    .co_getlength       = blkverify_co_getlength,
    .co_truncate        = blkverify_co_truncate,
};

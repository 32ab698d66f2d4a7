/* SPDX-License-Identifier: MIT */
/* nbd.c: the driver `nbd`: a node whose bytes an NBD server has; see nbd.h.
 *
 * Protocol: the NBD project's proto.md. Requests run in any thread; open, close and moves
 * in the main thread.
 */
#include "drivers/drivers.h"
#include "drivers/protocol/nbd/nbd.h"

/* NBD counts in 32 bits; a multiple of any block size. */
#define COUNT_MAX       ((int64_t)UINT32_MAX - 64 * KiB + 1)
#define TRANSFER_MAX    (32 * MiB)

#define STATE_HOLE      1
#define STATE_ZERO      2

typedef struct NbdState {
    NbdLink link;
    BlockdevOptions *options;       /* link's strings are its */
} NbdState;

/* ---- open, close ---- */

static int check_access(BlockDriverState *bs, NbdState *s, int flags, Error **errp)
{
    if (!s->link.info.read_only || !(flags & BDRV_O_RDWR)) {
        return 0;
    }
    if (!(flags & BDRV_O_AUTO_RDONLY)) {
        g_autofree char *at = nbd_address_text(s->link.server);

        error_setg(errp, "The NBD export '%s' at '%s' is read-only", s->link.export ?: "", at);
        error_append_hint(errp, "Open it with read-only=on, or auto-read-only=on.\n");
        return -EACCES;
    }
    bs->read_only = true;
    bs->open_flags &= ~BDRV_O_RDWR;
    return 0;
}

static int check_names(const BlockdevOptionsNbd *o, Error **errp)
{
    if (o->export && strlen(o->export) > NBD_NAME_MAX) {
        error_setg(errp, "export name too long to send to server");
        return -EINVAL;
    }
    if (o->x_dirty_bitmap && strlen(o->x_dirty_bitmap) > NBD_NAME_MAX) {
        error_setg(errp, "x-dirty-bitmap name too long to send to server");
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn nbd_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsNbd *o = &opts->u.nbd;
    NbdState *s = bs->opaque;
    NbdLink *link = &s->link;
    int ret = check_names(o, errp);

    if (ret < 0) {
        return ret;
    }
    s->options = qapi_clone(&qapi_type_BlockdevOptions, opts);
    o = &s->options->u.nbd;
    link->server = o->server;
    link->export = o->export;
    link->context = o->x_dirty_bitmap ?: LIBNBD_CONTEXT_BASE_ALLOCATION;
    link->tls_hostname = o->tls_hostname;
    link->creds = o->tls_creds ? tls_creds_find(o->tls_creds, false, errp) : NULL;
    if (o->tls_creds && !link->creds) {
        qapi_free(&qapi_type_BlockdevOptions, s->options);
        return -EINVAL;
    }
    if (link->creds) {
        secure_object_ref(&link->creds->common);
    }
    link->reconnect_delay_ns = o->reconnect_delay * NANOSECONDS_PER_SECOND;
    ret = nbd_link_co_open(link, o->open_timeout * NANOSECONDS_PER_SECOND, errp);
    if (ret == 0) {
        ret = check_access(bs, s, flags, errp);
        if (ret < 0) {
            nbd_link_co_close(link);
        }
    }
    if (ret < 0) {
        secure_object_unref(link->creds ? &link->creds->common : NULL);
        qapi_free(&qapi_type_BlockdevOptions, s->options);
        return ret;
    }
    bs->supported_write_flags = link->info.can_fua ? BDRV_REQ_FUA : 0;
    bs->supported_zero_flags = link->info.can_zero ? bs->supported_write_flags | BDRV_REQ_MAY_UNMAP |
                               (link->info.can_fast_zero ? BDRV_REQ_NO_FALLBACK : 0) : 0;
    return 0;
}

static void coroutine_fn nbd_co_close(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    nbd_link_co_close(&s->link);
    secure_object_unref(s->link.creds ? &s->link.creds->common : NULL);
    qapi_free(&qapi_type_BlockdevOptions, s->options);
}

/* How a node is used may change, not what it is. */
static int coroutine_fn nbd_co_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    NbdState *s = state->bs->opaque;

    if ((state->flags & BDRV_O_RDWR) && s->link.info.read_only) {
        error_setg(errp, "Can't reopen read-only NBD mount as read/write");
        return -EACCES;
    }
    return 0;
}

static void nbd_detach_aio_context(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    nbd_link_leave(&s->link);
}

static void nbd_attach_aio_context(BlockDriverState *bs, AioContext *ctx)
{
    NbdState *s = bs->opaque;

    nbd_link_enter(&s->link, ctx);
}

/* ---- what it is ---- */

static void nbd_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    const NbdExportInfo *info = &((NbdState *)bs->opaque)->link.info;
    int64_t transfer = info->block_max_bytes ? MIN(info->block_max_bytes, TRANSFER_MAX) : TRANSFER_MAX;

    bl->request_alignment = info->block_min_bytes ? info->block_min_bytes : info->size_bytes % 512 ? 1 : 512;
    bl->max_transfer = QEMU_ALIGN_DOWN(transfer, bl->request_alignment);
    bl->max_pdiscard = bl->max_pwrite_zeroes = COUNT_MAX;
    if (is_power_of_2(info->block_preferred_bytes) && info->block_preferred_bytes <= TRANSFER_MAX) {
        bl->opt_transfer = MAX(info->block_preferred_bytes, bl->request_alignment);
    }
}

static void nbd_refresh_filename(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    g_free(bs->exact_filename);
    bs->exact_filename = nbd_make_filename(s->link.server, s->link.export);
}

static int64_t coroutine_fn nbd_co_getlength(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    return s->link.info.size_bytes;
}

static int64_t coroutine_fn nbd_co_get_allocated_file_size(BlockDriverState *bs)
{
    return -ENOTSUP;
}

static int coroutine_fn nbd_co_truncate(BlockDriverState *bs, int64_t offset, bool exact, PreallocMode prealloc,
                                        BdrvRequestFlags flags, Error **errp)
{
    NbdState *s = bs->opaque;

    if (offset != s->link.info.size_bytes && exact) {
        error_setg(errp, "Cannot resize NBD nodes");
        return -ENOTSUP;
    }
    if (offset > s->link.info.size_bytes) {
        error_setg(errp, "Cannot grow NBD nodes");
        return -EINVAL;
    }
    return 0;
}

/* ---- requests ---- */

/* Run @fn's request on one buffer: that of @qiov if it is one piece, or a copy. */
static int coroutine_fn co_transfer(BlockDriverState *bs, NbdRequest *r, QEMUIOVector *qiov, size_t qiov_offset)
{
    NbdState *s = bs->opaque;
    size_t skip, rest;
    int niov, ret;
    struct iovec *iov = qemu_iovec_slice(qiov, qiov_offset, r->bytes, &skip, &rest, &niov);
    void *copy = NULL;

    if (niov == 1) {
        r->buf = (char *)iov->iov_base + skip;
    } else {
        r->buf = copy = qemu_try_blockalign(bs, r->bytes);
        if (!copy) {
            return -ENOMEM;
        }
        if (r->op == NBD_WRITE) {
            qemu_iovec_to_buf(qiov, qiov_offset, copy, r->bytes);
        }
    }
    ret = nbd_link_co_request(&s->link, r);
    if (copy && ret == 0 && r->op == NBD_READ) {
        qemu_iovec_from_buf(qiov, qiov_offset, copy, r->bytes);
    }
    qemu_vfree(copy);
    return ret;
}

static int coroutine_fn nbd_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset, BdrvRequestFlags flags)
{
    NbdRequest r = { .op = NBD_READ, .offset = offset, .bytes = bytes };

    return co_transfer(bs, &r, qiov, qiov_offset);
}

static int coroutine_fn nbd_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset, BdrvRequestFlags flags)
{
    NbdRequest r = {
        .op = NBD_WRITE, .offset = offset, .bytes = bytes,
        .flags = flags & BDRV_REQ_FUA ? LIBNBD_CMD_FLAG_FUA : 0,
    };

    return co_transfer(bs, &r, qiov, qiov_offset);
}

static int coroutine_fn nbd_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    NbdState *s = bs->opaque;
    NbdRequest r = { .op = NBD_ZERO, .offset = offset, .bytes = bytes };

    if (!s->link.info.can_zero || ((flags & BDRV_REQ_NO_FALLBACK) && !s->link.info.can_fast_zero)) {
        return -ENOTSUP;
    }
    r.flags = (flags & BDRV_REQ_FUA ? LIBNBD_CMD_FLAG_FUA : 0) |
              (flags & BDRV_REQ_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) |
              (flags & BDRV_REQ_NO_FALLBACK ? LIBNBD_CMD_FLAG_FAST_ZERO : 0);
    return nbd_link_co_request(&s->link, &r);
}

static int coroutine_fn nbd_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    NbdState *s = bs->opaque;
    NbdRequest r = { .op = NBD_TRIM, .offset = offset, .bytes = bytes };

    return s->link.info.can_trim && bytes ? nbd_link_co_request(&s->link, &r) : 0;
}

static int coroutine_fn nbd_co_flush(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;
    NbdRequest r = { .op = NBD_FLUSH };

    return s->link.info.can_flush ? nbd_link_co_request(&s->link, &r) : 0;
}

/* base:allocation, or whatever context was asked for, read in its way (as the peer does). */
static int coroutine_fn nbd_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes,
                                            int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    NbdState *s = bs->opaque;
    NbdRequest r = {
        .op = NBD_STATUS, .offset = offset, .flags = LIBNBD_CMD_FLAG_REQ_ONE,
        .bytes = MIN(MIN(bytes, COUNT_MAX), s->link.info.size_bytes - offset),
    };
    int ret;

    *map = offset;
    *file = bs;
    if (!s->link.info.can_status || offset >= s->link.info.size_bytes) {
        *pnum = bytes;
        return BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_DATA;
    }
    ret = nbd_link_co_request(&s->link, &r);
    if (ret < 0) {
        return ret;
    }
    if (!r.status[0]) {
        return -EIO;            /* the server answered without an answer */
    }
    *pnum = MIN(r.status[0], r.bytes);
    if (*pnum == r.bytes && offset + r.bytes == s->link.info.size_bytes) {
        *pnum = bytes;
    }
    return BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED | (r.status[1] & STATE_HOLE ? 0 : BDRV_BLOCK_DATA) |
           (r.status[1] & STATE_ZERO ? BDRV_BLOCK_ZERO : 0);
}

static const char *const nbd_aliases[] = { "nbd+tcp", "nbd+unix", NULL };

const BlockDriver bdrv_nbd = {
    .format_name = "nbd",
    .kind = BLOCK_DRIVER_PROTOCOL,
    .instance_size = sizeof(NbdState),
    .schema_driver = BLOCKDEV_DRIVER_NBD,
    .protocol_name = "nbd",
    .fixed_length = true,
    .protocol_aliases = nbd_aliases,
    .parse_filename = nbd_parse_filename,
    .co_open = nbd_co_open,
    .co_close = nbd_co_close,
    .co_reopen_prepare = nbd_co_reopen_prepare,
    .refresh_limits = nbd_refresh_limits,
    .refresh_filename = nbd_refresh_filename,
    .detach_aio_context = nbd_detach_aio_context,
    .attach_aio_context = nbd_attach_aio_context,
    .co_preadv = nbd_co_preadv,
    .co_pwritev = nbd_co_pwritev,
    .co_pwrite_zeroes = nbd_co_pwrite_zeroes,
    .co_pdiscard = nbd_co_pdiscard,
    .co_flush = nbd_co_flush,
    .co_truncate = nbd_co_truncate,
    .co_getlength = nbd_co_getlength,
    .co_get_allocated_file_size = nbd_co_get_allocated_file_size,
    .co_block_status = nbd_co_block_status,
};

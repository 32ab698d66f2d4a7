/* SPDX-License-Identifier: MIT */
/* null.c: null-co and null-aio: nodes that store nothing.
 *
 * Writes succeed and are forgotten, reads give zeroes. latency-ns delays every
 * request. The two drivers differ in name only: there is one way of doing I/O here.
 *
 * Reads always give zeroes, so that no memory of the process is ever shown to a
 * client; with read-zeroes the node also promises it (block status ZERO), and
 * copies may skip it.
 *
 * Runs on: the request's thread. State is constant after open.
 */
#include "base/osdep.h"
#include "block/block.h"
#include "drivers/drivers.h"

#define NULL_DEFAULT_LENGTH (1 * GiB)

typedef struct NullState {
    int64_t length_bytes;
    int64_t latency_ns;
    bool read_zeroes;
    bool plain;             /* no options: "null-co://" opens the same */
} NullState;

static const BlockdevOptionsNull *null_options(const BlockdevOptions *opts)
{
    return opts->driver == BLOCKDEV_DRIVER_NULL_AIO ? &opts->u.null_aio : &opts->u.null_co;
}

static int coroutine_fn null_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     int flags, Error **errp)
{
    const BlockdevOptionsNull *o = null_options(opts);
    NullState *s = bs->opaque;

    if (o->has_latency_ns && o->latency_ns > INT64_MAX) {
        error_setg(errp, "latency-ns is invalid");
        return -EINVAL;
    }
    if (o->has_size && (o->size < 0 || o->size > BDRV_MAX_LENGTH)) {
        error_setg(errp, "Value '%" PRId64 "' is out of range for parameter 'size'", o->size);
        return -EINVAL;
    }
    s->length_bytes = o->has_size ? o->size : NULL_DEFAULT_LENGTH;
    s->latency_ns = o->has_latency_ns ? o->latency_ns : 0;
    s->read_zeroes = o->has_read_zeroes && o->read_zeroes;
    bs->supported_write_flags = bs->drv->supported_write_flags;
    bs->supported_zero_flags = bs->drv->supported_zero_flags;
    s->plain = !o->has_size && !o->has_read_zeroes;     /* latency is not contents */
    return 0;
}

static void null_refresh_filename(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    g_free(bs->exact_filename);
    bs->exact_filename = s->plain ? g_strdup_printf("%s://", bs->drv->format_name) : g_strdup("");
}

static int64_t coroutine_fn null_co_getlength(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    return s->length_bytes;
}

static int64_t coroutine_fn null_co_get_allocated_file_size(BlockDriverState *bs)
{
    return 0;
}

static int coroutine_fn null_co_wait(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    if (s->latency_ns) {
        co_sleep_ns(s->latency_ns);
    }
    return 0;
}

static int coroutine_fn null_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    return null_co_wait(bs);
}

static int coroutine_fn null_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    return null_co_wait(bs);
}

static int coroutine_fn null_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                              int64_t bytes, BdrvRequestFlags flags)
{
    return null_co_wait(bs);
}

static int coroutine_fn null_co_block_status(BlockDriverState *bs, bool want_zero,
                                             int64_t offset, int64_t bytes, int64_t *pnum,
                                             int64_t *map, BlockDriverState **file)
{
    NullState *s = bs->opaque;

    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED |
           (s->read_zeroes ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
}

#define NULL_DRIVER(name, schema_name)                                      \
    .format_name = name,                                                    \
    .protocol_name = name,                                                  \
    .kind = BLOCK_DRIVER_PROTOCOL,                                          \
    .schema_driver = schema_name,                                           \
    .instance_size = sizeof(NullState),                                     \
    .supported_write_flags = BDRV_REQ_FUA,                                  \
    .supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK, \
    .co_open = null_co_open,                                                \
    .refresh_filename = null_refresh_filename,                              \
    .co_getlength = null_co_getlength,                                      \
    .co_get_allocated_file_size = null_co_get_allocated_file_size,          \
    .co_preadv = null_co_preadv,                                            \
    .co_pwritev = null_co_pwritev,                                          \
    .co_pwrite_zeroes = null_co_pwrite_zeroes,                              \
    .co_flush = null_co_wait,                                               \
    .co_block_status = null_co_block_status

const BlockDriver bdrv_null_co = { NULL_DRIVER("null-co", BLOCKDEV_DRIVER_NULL_CO) };
const BlockDriver bdrv_null_aio = { NULL_DRIVER("null-aio", BLOCKDEV_DRIVER_NULL_AIO) };

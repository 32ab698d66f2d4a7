/* SPDX-License-Identifier: MIT */
/* read.c: reading guest data, and saying where it lies.
 *
 * Runs on: the request's thread. A piece is looked up, then read without any lock; see
 * "freed clusters" in qcow2.h for why its cluster stays its own meanwhile.
 */
#include "drivers/format/qcow2/qcow2.h"

int coroutine_fn qcow2_co_read_child(BdrvChild *c, uint64_t host, uint64_t bytes, QEMUIOVector *qiov, size_t qiov_offset,
                                     BdrvRequestFlags flags)
{
    uint64_t end = bdrv_getlength_cached(c->bs);
    uint64_t n = host < end ? MIN(bytes, end - host) : 0;
    int ret = 0;

    if (n < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + n, 0, bytes - n);
    }
    if (n) {
        ret = bdrv_co_preadv_part(c, host, n, qiov, qiov_offset, flags);
    }
    return ret;
}

int coroutine_fn qcow2_co_read_file(BlockDriverState *bs, uint64_t host, uint64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    return qcow2_co_read_child(bs->file, host, bytes, qiov, qiov_offset, flags);
}

int coroutine_fn qcow2_co_read_data(BlockDriverState *bs, uint64_t host, uint64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;

    if (unlikely(s->crypt)) {
        return qcow2_co_read_encrypted(bs, host, bytes, qiov, qiov_offset);
    }
    return qcow2_co_read_child(s->data_file, host, bytes, qiov, qiov_offset, flags);
}

bool qcow2_backing_is_zero(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    if (__atomic_load_n(&bs->backing_awaited, __ATOMIC_RELAXED)) {
        return false;
    }
    return !bs->backing || (int64_t)offset >= bdrv_getlength_cached(bs->backing->bs);
}

int coroutine_fn qcow2_co_read_backing(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    uint64_t end = bs->backing ? bdrv_getlength_cached(bs->backing->bs) : 0;
    uint64_t n = offset < end ? MIN(bytes, end - offset) : 0;

    if (n < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + n, 0, bytes - n);
    }
    return n ? bdrv_co_preadv_part(bs->backing, offset, n, qiov, qiov_offset, flags) : 0;
}

/* Whole clusters go where the guest wants them, if that is in one piece, some at once; parts are kept. At most @bytes;
 * e->bytes: what it was. */
static int coroutine_fn read_co_packed(BlockDriverState *bs, Qcow2Extent *e, uint64_t offset, uint64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (e->bytes == s->cluster_size && qiov->niov == 1) {
        return qcow2_co_read_packed_run(bs, e, offset, bytes, (uint8_t *)qiov->iov[0].iov_base + qiov_offset, &e->bytes);
    }
    ret = qcow2_co_read_packed_part(bs, e->host, e->packed_bytes, qcow2_in_cluster(s, offset), e->bytes, qiov,
                                    qiov_offset);
    qcow2_use_end(s, e->epoch);
    return ret;
}

/* From @offset on at most @bytes; e->bytes: what it was. */
static int coroutine_fn read_co_extent(BlockDriverState *bs, Qcow2Extent *e, uint64_t offset, uint64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    int ret;

    switch (e->kind) {
    case QCOW2_NORMAL:
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_READ_AIO);
        ret = unlikely(s->crypt_method == QCOW2_CRYPT_AES)
              ? qcow2_co_read_aes(bs, e->host, offset, e->bytes, qiov, qiov_offset)
              : qcow2_co_read_data(bs, e->host, e->bytes, qiov, qiov_offset, flags);
        qcow2_use_end(s, e->epoch);
        return ret;
    case QCOW2_PACKED:
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_READ_COMPRESSED);
        return read_co_packed(bs, e, offset, bytes, qiov, qiov_offset);
    case QCOW2_UNALLOCATED:
        if (bs->backing) {
            bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_READ_BACKING_AIO);
        }
        return qcow2_co_read_backing(bs, offset, e->bytes, qiov, qiov_offset, flags);
    default:
        qemu_iovec_memset(qiov, qiov_offset, 0, e->bytes);
        return 0;
    }
}

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int ret = 0;

    while (bytes && !ret) {
        Qcow2Extent e;

        ret = qcow2_co_map(bs, offset, bytes, &e);
        if (!ret) {
            ret = read_co_extent(bs, &e, offset, bytes, qiov, qiov_offset, flags);
            offset += e.bytes;
            bytes -= e.bytes;
            qiov_offset += e.bytes;
        }
    }
    if (ret < 0) {
        qcow2_co_note_damage(bs);
    }
    return ret;
}

int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    Qcow2State *s = bs->opaque;
    Qcow2Extent e;
    int ret = qcow2_co_map(bs, offset, bytes, &e);

    if (ret < 0) {
        qcow2_co_note_damage(bs);
        return ret;
    }
    *pnum = e.bytes;
    switch (e.kind) {
    case QCOW2_NORMAL:
        qcow2_use_end(s, e.epoch);
        *map = e.host;
        *file = s->data_file->bs;
        if (s->crypt_method) {
            return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;      /* not as it lies in the file */
        }
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED |
               (__atomic_load_n(&s->sparse_data, __ATOMIC_RELAXED) ? BDRV_BLOCK_RECURSE : 0);
    case QCOW2_PACKED:
        qcow2_use_end(s, e.epoch);
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED;
    case QCOW2_ZERO_ALLOC:
        *map = e.host;
        *file = s->data_file->bs;
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED;
    case QCOW2_ZERO_PLAIN:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    default:
        return 0;
    }
}

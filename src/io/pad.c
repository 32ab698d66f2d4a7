/* SPDX-License-Identifier: MIT */
/* pad.c: widen an unaligned request to the node's alignment.
 *
 * The blocks at the two ends go through scratch memory; what lies between goes straight from or
 * to the caller's buffers. A write first reads the blocks at its ends (the caller holds a
 * serialising request over all of it).
 */
#include "io/io_private.h"

bool pad_init(IoPad *pad, BlockDriverState *bs, int64_t *offset, int64_t *bytes)
{
    int64_t align = bs->bl.request_alignment;
    int64_t head = *offset & (align - 1), tail = -(*offset + *bytes) & (align - 1);

    if (!head && !tail) {
        return false;
    }
    *offset -= head;
    *bytes += head + tail;
    pad->head = head;
    pad->tail = tail;
    pad->buf_len = head && tail && *bytes > align ? 2 * align : align;
    pad->merged = *bytes == pad->buf_len;
    pad->buf = qemu_blockalign(bs, pad->buf_len);
    pad->tail_buf = pad->buf + pad->buf_len - align;
    pad->qiov.iov = NULL;
    return true;
}

void pad_wrap(IoPad *pad, QEMUIOVector *qiov, size_t qiov_offset, size_t bytes)
{
    size_t first_skip, last_cut, size = pad->head + bytes + pad->tail;
    int niov, n = 0;
    struct iovec *part = qemu_iovec_slice(qiov, qiov_offset, bytes, &first_skip, &last_cut, &niov);
    struct iovec *iov = niov + 2 <= PAD_IOV_LOCAL ? pad->local : g_new(struct iovec, niov + 2);

    if (pad->head) {
        iov[n++] = (struct iovec) { pad->buf, pad->head };
    }
    for (int i = 0; i < niov; i++) {
        iov[n] = part[i];
        if (i == 0) {
            iov[n].iov_base = (char *)iov[n].iov_base + first_skip;
            iov[n].iov_len -= first_skip;
        }
        if (i == niov - 1) {
            iov[n].iov_len -= last_cut;
        }
        n++;
    }
    if (pad->tail) {
        iov[n++] = (struct iovec) { pad->buf + pad->buf_len - pad->tail, pad->tail };
    }
    pad->qiov = (QEMUIOVector) { .iov = iov, .niov = n, .nalloc = -1, .size = size };
}

static int coroutine_fn pad_read(BlockDriverState *bs, int64_t offset, void *buf, size_t bytes)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return driver_preadv(bs, offset, bytes, &qiov, 0, 0);
}

int coroutine_fn pad_fill(IoPad *pad, BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    size_t align = bs->bl.request_alignment;
    int ret = 0;

    if (pad->head) {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_HEAD);
    }
    if (pad->merged) {
        if (pad->tail) {
            bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_TAIL);
        }
        ret = pad_read(bs, offset, pad->buf, pad->buf_len);
    } else if (pad->head) {
        ret = pad_read(bs, offset, pad->buf, align);
    }
    if (!ret && pad->head) {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_HEAD);
    }
    if (!ret && pad->tail && !pad->merged) {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_TAIL);
        ret = pad_read(bs, offset + bytes - align, pad->tail_buf, align);
    }
    if (!ret && pad->tail) {
        bdrv_co_debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_TAIL);
    }
    return ret;
}

void pad_destroy(IoPad *pad)
{
    if (pad->qiov.iov && pad->qiov.iov != pad->local) {
        g_free(pad->qiov.iov);
    }
    qemu_vfree(pad->buf);
}

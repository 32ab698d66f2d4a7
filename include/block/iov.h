/* SPDX-License-Identifier: MIT */
/* iov.h: I/O vectors. A QEMUIOVector lists buffers it does not own. Any thread; one
 * owner at a time.
 */
#ifndef LIVEBLK_BLOCK_IOV_H
#define LIVEBLK_BLOCK_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "block/liveblk-export.h"

typedef struct QEMUIOVector {
    struct iovec *iov;
    int niov;
    int nalloc;                 /* -1: iov is not ours (`local`, or the caller's) */
    size_t size;                /* sum of the lengths, bytes */
    struct iovec local;         /* one buffer needs no allocation */
} QEMUIOVector;

/* An empty vector with room for @alloc_hint buffers. */
LIVEBLK_PUBLIC void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint);
/* A vector over iovecs that the caller keeps. */
LIVEBLK_PUBLIC void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov);
LIVEBLK_PUBLIC void qemu_iovec_destroy(QEMUIOVector *qiov);
LIVEBLK_PUBLIC void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len);
/* Append the part [@offset, +@bytes) of @src; its buffers are shared. */
LIVEBLK_PUBLIC void qemu_iovec_concat(QEMUIOVector *dst, QEMUIOVector *src, size_t offset, size_t bytes);
LIVEBLK_PUBLIC size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset, void *buf, size_t bytes);
LIVEBLK_PUBLIC size_t qemu_iovec_from_buf(QEMUIOVector *qiov, size_t offset, const void *buf, size_t bytes);
LIVEBLK_PUBLIC void qemu_iovec_memset(QEMUIOVector *qiov, size_t offset, int byte, size_t bytes);
LIVEBLK_PUBLIC bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes);
/* The iovecs that cover [@offset, +@bytes): returns the first, *niov their number, *head how
 * far into the first, *tail how much of the last lies behind the range. */
LIVEBLK_PUBLIC struct iovec *qemu_iovec_slice(QEMUIOVector *qiov, size_t offset, size_t bytes,
                                              size_t *head, size_t *tail, int *niov);

/* One buffer; nothing to destroy. */
static inline void qemu_iovec_init_buf(QEMUIOVector *qiov, void *buf, size_t len)
{
    qiov->iov = &qiov->local;
    qiov->niov = 1;
    qiov->nalloc = -1;
    qiov->size = len;
    qiov->local.iov_base = buf;
    qiov->local.iov_len = len;
}

LIVEBLK_PUBLIC bool buffer_is_zero(const void *buf, size_t len);
#endif

/* SPDX-License-Identifier: MIT */
/* iov.h: I/O vectors: the buffers of one request.
 *
 * A QEMUIOVector lists buffers; it never owns their memory, only the list.
 *
 * Use:      qemu_iovec_init_buf(&qiov, buf, len);                  one buffer
 *           qemu_iovec_init(&qiov, hint); qemu_iovec_add() ...     several
 *           qemu_iovec_init_slice(&part, &qiov, offset, bytes);    part of another
 *           qemu_iovec_destroy(&qiov);     after any init; needed after all but init_buf
 * One buffer costs no allocation: its iovec lies in the structure, which therefore
 * must not be copied by assignment nor moved.
 * Ranges:   [offset, offset + bytes) must lie within the vector (asserted), except
 *           where a function says that it stops at the end.
 * Runs on:  any thread; one vector belongs to one at a time. Never suspends.
 * Fails:    never, but that sizes beyond SIZE_MAX and counts beyond INT_MAX abort.
 */
#ifndef LIVEBLK_BLOCK_IOV_H
#define LIVEBLK_BLOCK_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "block/liveblk-export.h"

typedef struct QEMUIOVector {
    struct iovec *iov;      /* &local, an array of ours, or somebody else's */
    int niov;
    int nalloc;             /* room in iov; -1: not to be added to nor freed */
    size_t size;            /* sum of the lengths, bytes */
    struct iovec local;
} QEMUIOVector;

/* ---- making and ending ---- */

/* An empty vector, with room for @alloc_hint buffers to begin with. */
LIVEBLK_PUBLIC void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint);
/* A vector over iovecs that the caller keeps, and that outlive it. */
LIVEBLK_PUBLIC void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov);
/* The part [@offset, +@bytes) of @src. Allocates only if the part begins or ends
 * inside a buffer and spans several; else it may refer to the iovecs of @src, which
 * must therefore outlive it unchanged. */
LIVEBLK_PUBLIC void qemu_iovec_init_slice(QEMUIOVector *qiov, QEMUIOVector *src,
                                          size_t offset, size_t bytes);
/* @head_len bytes at @head, then [@offset, +@bytes) of @mid, then @tail_len bytes at
 * @tail: a request with padding around it. Empty pieces are left out; @mid may be
 * NULL if @bytes is 0. */
LIVEBLK_PUBLIC void qemu_iovec_init_extended(QEMUIOVector *qiov, void *head, size_t head_len,
                                             QEMUIOVector *mid, size_t offset, size_t bytes,
                                             void *tail, size_t tail_len);
LIVEBLK_PUBLIC void qemu_iovec_destroy(QEMUIOVector *qiov);

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

/* ---- growing: only what qemu_iovec_init() made ---- */

LIVEBLK_PUBLIC void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len);
/* Append the part [@offset, +@bytes) of @src, whose buffers are then shared. */
LIVEBLK_PUBLIC void qemu_iovec_concat(QEMUIOVector *dst, QEMUIOVector *src,
                                      size_t offset, size_t bytes);
/* Empty it; its room stays. */
LIVEBLK_PUBLIC void qemu_iovec_reset(QEMUIOVector *qiov);

/* ---- looking at a part ---- */

/* The iovecs that cover [@offset, +@bytes): returns the first, *@niov their number,
 * *@head how far into the first the range begins, *@tail how much of the last lies
 * behind it. An empty range has none (*@niov 0, *@head and *@tail 0). */
LIVEBLK_PUBLIC struct iovec *qemu_iovec_slice(QEMUIOVector *qiov, size_t offset, size_t bytes,
                                              size_t *head, size_t *tail, int *niov);
/* How many iovecs qemu_iovec_slice() would give. */
LIVEBLK_PUBLIC int qemu_iovec_subvec_niov(QEMUIOVector *qiov, size_t offset, size_t bytes);
LIVEBLK_PUBLIC bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes);

/* ---- copying; these stop at the end of the vector and return the bytes done ---- */

LIVEBLK_PUBLIC size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset,
                                        void *buf, size_t bytes);
LIVEBLK_PUBLIC size_t qemu_iovec_from_buf(QEMUIOVector *qiov, size_t offset,
                                          const void *buf, size_t bytes);
LIVEBLK_PUBLIC size_t qemu_iovec_memset(QEMUIOVector *qiov, size_t offset, int byte, size_t bytes);

/* Whether @len bytes at @buf, of any alignment, are all zero. */
LIVEBLK_PUBLIC bool buffer_is_zero(const void *buf, size_t len);

#endif

/* SPDX-License-Identifier: MIT */
/* iov.c: I/O vectors and the all-zero test; see block/iov.h. */
#include "base/osdep.h"
#include "block/iov.h"

void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint)
{
    qiov->iov = g_new(struct iovec, MAX(alloc_hint, 1));
    qiov->niov = 0;
    qiov->nalloc = MAX(alloc_hint, 1);
    qiov->size = 0;
}

void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov)
{
    qiov->iov = iov;
    qiov->niov = niov;
    qiov->nalloc = -1;
    qiov->size = 0;
    for (int i = 0; i < niov; i++) {
        qiov->size += iov[i].iov_len;
    }
}

void qemu_iovec_destroy(QEMUIOVector *qiov)
{
    if (qiov->nalloc != -1) {
        g_free(qiov->iov);
    }
    memset(qiov, 0, sizeof(*qiov));
    qiov->nalloc = -1;
}

void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len)
{
    g_assert(qiov->nalloc != -1);
    if (qiov->niov == qiov->nalloc) {
        qiov->nalloc = 2 * qiov->nalloc + 1;
        qiov->iov = g_renew(struct iovec, qiov->iov, qiov->nalloc);
    }
    qiov->iov[qiov->niov].iov_base = base;
    qiov->iov[qiov->niov].iov_len = len;
    qiov->size += len;
    qiov->niov++;
}

struct iovec *qemu_iovec_slice(QEMUIOVector *qiov, size_t offset, size_t bytes,
                               size_t *head, size_t *tail, int *niov)
{
    struct iovec *first = qiov->iov, *last;

    g_assert(offset + bytes <= qiov->size && offset + bytes >= offset);
    while (offset > 0 && offset >= first->iov_len) {
        offset -= first->iov_len;
        first++;
    }
    *head = offset;
    last = first;
    for (size_t left = offset + bytes; ; last++) {
        if (left <= last->iov_len || bytes == 0) {
            *tail = last->iov_len - MIN(left, last->iov_len);
            break;
        }
        left -= last->iov_len;
    }
    *niov = bytes ? last - first + 1 : 0;
    return first;
}

void qemu_iovec_concat(QEMUIOVector *dst, QEMUIOVector *src, size_t offset, size_t bytes)
{
    size_t head, tail;
    int n;

    if (!bytes) {
        return;
    }
    struct iovec *v = qemu_iovec_slice(src, offset, bytes, &head, &tail, &n);

    for (int i = 0; i < n; i++) {
        size_t skip = i == 0 ? head : 0;
        size_t len = v[i].iov_len - skip - (i == n - 1 ? tail : 0);

        if (len) {
            qemu_iovec_add(dst, (char *)v[i].iov_base + skip, len);
        }
    }
}

/* Visit the pieces of [offset, +bytes): @p and @len of each in turn. */
#define IOV_FOREACH_PIECE(qiov, offset, bytes, p, len)                              \
    for (size_t i_ = 0, off_ = (offset), left_ = (bytes); i_ < (size_t)(qiov)->niov && left_; i_++)   \
        if (off_ >= (qiov)->iov[i_].iov_len) {                                      \
            off_ -= (qiov)->iov[i_].iov_len;                                        \
        } else for (size_t len = MIN((qiov)->iov[i_].iov_len - off_, left_), one_ = 1;        \
                    one_; one_ = 0, left_ -= len, off_ = 0)                         \
            for (char *p = (char *)(qiov)->iov[i_].iov_base + off_; p; p = NULL)

size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset, void *buf, size_t bytes)
{
    size_t done = 0;

    IOV_FOREACH_PIECE(qiov, offset, bytes, p, len) {
        memcpy((char *)buf + done, p, len);
        done += len;
    }
    return done;
}

size_t qemu_iovec_from_buf(QEMUIOVector *qiov, size_t offset, const void *buf, size_t bytes)
{
    size_t done = 0;

    IOV_FOREACH_PIECE(qiov, offset, bytes, p, len) {
        memcpy(p, (const char *)buf + done, len);
        done += len;
    }
    return done;
}

void qemu_iovec_memset(QEMUIOVector *qiov, size_t offset, int byte, size_t bytes)
{
    IOV_FOREACH_PIECE(qiov, offset, bytes, p, len) {
        memset(p, byte, len);
    }
}

bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    IOV_FOREACH_PIECE(qiov, offset, bytes, p, len) {
        if (!buffer_is_zero(p, len)) {
            return false;
        }
    }
    return true;
}

/* Most buffers that are not zero show it at once: look at three words first. The rest goes
 * in blocks that the compiler turns into vector code for the best unit there is. */
__attribute__((target_clones("default", "avx2")))
static bool block_is_zero(const uint64_t *w, size_t words)
{
    size_t i = 0;

    for (; i + 32 <= words; i += 32) {
        uint64_t any = 0;

        for (int j = 0; j < 32; j++) {
            any |= w[i + j];
        }
        if (any) {
            return false;
        }
    }
    for (; i < words; i++) {
        if (w[i]) {
            return false;
        }
    }
    return true;
}

bool buffer_is_zero(const void *buf, size_t len)
{
    const unsigned char *p = buf;

    if (!len) {
        return true;
    }
    if (p[0] | p[len / 2] | p[len - 1]) {
        return false;
    }
    while (len && ((uintptr_t)p & 7)) {
        if (*p++) {
            return false;
        }
        len--;
    }
    if (!block_is_zero((const uint64_t *)p, len / 8)) {
        return false;
    }
    for (p += len & ~(size_t)7, len &= 7; len; len--) {
        if (*p++) {
            return false;
        }
    }
    return true;
}

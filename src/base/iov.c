/* SPDX-License-Identifier: MIT */
/* iov.c: I/O vectors; see block/iov.h and iov.h. */
#include "base/osdep.h"
#include "base/iov.h"

/* ---- plain arrays ---- */

/* A walk over the pieces of a range; iov_piece() yields one after the other. */
typedef struct IovWalk {
    const struct iovec *next, *end;
    size_t skip;            /* bytes before the range, from next on */
    size_t left;            /* bytes of the range not yielded yet */
} IovWalk;

static IovWalk iov_walk(const struct iovec *iov, int niov, size_t offset, size_t bytes)
{
    return (IovWalk) { .next = iov, .end = iov + niov, .skip = offset, .left = bytes };
}

/* The next piece that is not empty: returns its length and sets *@piece; 0: no more. */
static size_t iov_piece(IovWalk *walk, char **piece)
{
    while (walk->left && walk->next < walk->end) {
        const struct iovec *v = walk->next++;

        if (walk->skip >= v->iov_len) {
            walk->skip -= v->iov_len;
            continue;
        }
        size_t len = MIN(v->iov_len - walk->skip, walk->left);

        *piece = (char *)v->iov_base + walk->skip;
        walk->skip = 0;
        walk->left -= len;
        return len;
    }
    return 0;
}

size_t iov_size(const struct iovec *iov, int niov)
{
    size_t size = 0;

    for (int i = 0; i < niov; i++) {
        bool overflow = __builtin_add_overflow(size, iov[i].iov_len, &size);
        assert(!overflow);
    }
    return size;
}

size_t iov_to_buf(const struct iovec *iov, int niov, size_t offset, void *buf, size_t bytes)
{
    IovWalk walk = iov_walk(iov, niov, offset, bytes);
    size_t done = 0, len;
    char *piece;

    for (; (len = iov_piece(&walk, &piece)); done += len) {
        memcpy((char *)buf + done, piece, len);
    }
    return done;
}

size_t iov_from_buf(const struct iovec *iov, int niov, size_t offset,
                    const void *buf, size_t bytes)
{
    IovWalk walk = iov_walk(iov, niov, offset, bytes);
    size_t done = 0, len;
    char *piece;

    for (; (len = iov_piece(&walk, &piece)); done += len) {
        memcpy(piece, (const char *)buf + done, len);
    }
    return done;
}

size_t iov_memset(const struct iovec *iov, int niov, size_t offset, int byte, size_t bytes)
{
    IovWalk walk = iov_walk(iov, niov, offset, bytes);
    size_t done = 0, len;
    char *piece;

    for (; (len = iov_piece(&walk, &piece)); done += len) {
        memset(piece, byte, len);
    }
    return done;
}

bool iov_is_zero(const struct iovec *iov, int niov, size_t offset, size_t bytes)
{
    IovWalk walk = iov_walk(iov, niov, offset, bytes);
    size_t len;
    char *piece;

    while ((len = iov_piece(&walk, &piece))) {
        if (!buffer_is_zero(piece, len)) {
            return false;
        }
    }
    return true;
}

size_t iov_discard_front(struct iovec **iov, int *niov, size_t bytes)
{
    size_t left = bytes;

    while (*niov > 0 && left >= (*iov)->iov_len) {
        left -= (*iov)->iov_len;
        (*iov)++;
        (*niov)--;
    }
    if (*niov > 0 && left) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + left;
        (*iov)->iov_len -= left;
        left = 0;
    }
    return bytes - left;
}

/* ---- QEMUIOVector: making and ending ---- */

void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint)
{
    if (alloc_hint > 1) {
        qiov->iov = g_new(struct iovec, alloc_hint);
        qiov->nalloc = alloc_hint;
    } else {
        qiov->iov = &qiov->local;
        qiov->nalloc = 1;
    }
    qiov->niov = 0;
    qiov->size = 0;
}

void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov)
{
    assert(niov >= 0);
    qiov->iov = iov;
    qiov->niov = niov;
    qiov->nalloc = -1;
    qiov->size = iov_size(iov, niov);
}

void qemu_iovec_init_slice(QEMUIOVector *qiov, QEMUIOVector *src, size_t offset, size_t bytes)
{
    size_t head, tail;
    int niov;
    struct iovec *first = qemu_iovec_slice(src, offset, bytes, &head, &tail, &niov);

    if (niov == 1) {
        qemu_iovec_init_buf(qiov, (char *)first->iov_base + head, bytes);
    } else if (!head && !tail) {
        qiov->iov = first;
        qiov->niov = niov;
        qiov->nalloc = -1;
        qiov->size = bytes;
    } else {
        qemu_iovec_init(qiov, niov);
        qemu_iovec_concat(qiov, src, offset, bytes);
    }
}

void qemu_iovec_init_extended(QEMUIOVector *qiov, void *head, size_t head_len,
                              QEMUIOVector *mid, size_t offset, size_t bytes,
                              void *tail, size_t tail_len)
{
    int mid_niov = bytes ? qemu_iovec_subvec_niov(mid, offset, bytes) : 0;

    qemu_iovec_init(qiov, mid_niov + !!head_len + !!tail_len);
    if (head_len) {
        qemu_iovec_add(qiov, head, head_len);
    }
    if (bytes) {
        qemu_iovec_concat(qiov, mid, offset, bytes);
    }
    if (tail_len) {
        qemu_iovec_add(qiov, tail, tail_len);
    }
}

void qemu_iovec_destroy(QEMUIOVector *qiov)
{
    if (qiov->nalloc != -1 && qiov->iov != &qiov->local) {
        g_free(qiov->iov);
    }
    memset(qiov, 0, sizeof(*qiov));
    qiov->nalloc = -1;
}

/* ---- growing ---- */

static void iovec_grow(QEMUIOVector *qiov)
{
    int nalloc = qiov->nalloc < 4 ? 8 : qiov->nalloc * 2;

    assert(qiov->nalloc <= INT_MAX / 2);
    if (qiov->iov == &qiov->local) {
        qiov->iov = g_new(struct iovec, nalloc);
        qiov->iov[0] = qiov->local;
    } else {
        qiov->iov = g_renew(struct iovec, qiov->iov, nalloc);
    }
    qiov->nalloc = nalloc;
}

void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len)
{
    bool overflow = __builtin_add_overflow(qiov->size, len, &qiov->size);

    assert(qiov->nalloc != -1 && !overflow);
    if (qiov->niov == qiov->nalloc) {
        iovec_grow(qiov);
    }
    qiov->iov[qiov->niov++] = (struct iovec) { .iov_base = base, .iov_len = len };
}

void qemu_iovec_concat(QEMUIOVector *dst, QEMUIOVector *src, size_t offset, size_t bytes)
{
    /* Adding to the array that one walks over would pull it away underfoot. */
    assert(dst != src);
    assert(offset <= src->size && bytes <= src->size - offset);

    IovWalk walk = iov_walk(src->iov, src->niov, offset, bytes);
    size_t len;
    char *piece;

    while ((len = iov_piece(&walk, &piece))) {
        qemu_iovec_add(dst, piece, len);
    }
}

void qemu_iovec_reset(QEMUIOVector *qiov)
{
    assert(qiov->nalloc != -1);
    qiov->niov = 0;
    qiov->size = 0;
}

/* ---- looking at a part, copying ---- */

struct iovec *qemu_iovec_slice(QEMUIOVector *qiov, size_t offset, size_t bytes,
                               size_t *head, size_t *tail, int *niov)
{
    struct iovec *first = qiov->iov, *last;
    size_t end;

    assert(offset <= qiov->size && bytes <= qiov->size - offset);
    if (!bytes) {
        *head = *tail = 0;
        *niov = 0;
        return first;
    }
    for (; offset >= first->iov_len; first++) {
        offset -= first->iov_len;
    }
    last = first;
    for (end = offset + bytes; end > last->iov_len; last++) {
        end -= last->iov_len;
    }
    *head = offset;
    *tail = last->iov_len - end;
    *niov = last - first + 1;
    return first;
}

int qemu_iovec_subvec_niov(QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    size_t head, tail;
    int niov;

    qemu_iovec_slice(qiov, offset, bytes, &head, &tail, &niov);
    return niov;
}

bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    assert(offset <= qiov->size && bytes <= qiov->size - offset);
    return iov_is_zero(qiov->iov, qiov->niov, offset, bytes);
}

size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset, void *buf, size_t bytes)
{
    return iov_to_buf(qiov->iov, qiov->niov, offset, buf, bytes);
}

size_t qemu_iovec_from_buf(QEMUIOVector *qiov, size_t offset, const void *buf, size_t bytes)
{
    return iov_from_buf(qiov->iov, qiov->niov, offset, buf, bytes);
}

size_t qemu_iovec_memset(QEMUIOVector *qiov, size_t offset, int byte, size_t bytes)
{
    return iov_memset(qiov->iov, qiov->niov, offset, byte, bytes);
}

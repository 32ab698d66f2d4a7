/* SPDX-License-Identifier: MIT */
/* write.c: writing guest data.
 *
 * A request is cut into pieces, each within one slice and of one of three sorts:
 *   in place   clusters that are ours alone: write, nothing else.
 *   fresh      the guest sees zeroes there, and the cluster is known to be zero: enter it
 *              into the table, then write.
 *   copy       all else: read what the piece leaves out of its first and last cluster,
 *              write head, data and tail in one request, then change the table.
 * Why this is safe against power failure, and against each other, is told in qcow2.h.
 *
 * Runs on: the request's thread. Suspends without any lock held, except where metadata has
 * to be read or made first.
 */
#include "drivers/format/qcow2/qcow2.h"

#define NO_CLUSTER 1

/* One piece on its way. */
typedef struct Piece {
    uint64_t offset, bytes;             /* guest */
    QEMUIOVector *qiov;
    size_t qiov_offset;
    BdrvRequestFlags flags;

    Qcow2Table *slice;                  /* pinned */
    uint32_t index, n;                  /* entries */
    uint64_t host;                      /* cluster start of the new place */
    bool fresh;                         /* the new place reads as zeroes */
    bool reuse;                         /* ZERO_ALLOC: the place stays */
    uint64_t head_entry, tail_entry;    /* old contents of the first and last cluster */
    unsigned epoch;
} Piece;

static Qcow2Alloc *alloc_overlapping(Qcow2State *s, uint64_t from, uint64_t to)
{
    Qcow2Alloc *a;

    LIST_FOREACH(a, &s->allocs, next) {
        if (a->guest_from < to && from < a->guest_to) {
            return a;
        }
    }
    return NULL;
}

bool coroutine_fn qcow2_co_wait_allocs(Qcow2State *s, uint64_t from, uint64_t to)
{
    bool waited = false;
    Qcow2Alloc *a;

    while ((a = alloc_overlapping(s, from, to))) {
        qemu_co_queue_wait_plain(&a->waiters, &s->lock);
        waited = true;
    }
    return waited;
}

/* ---- in place, and fresh ---- */

static int coroutine_fn piece_co_write_at(BlockDriverState *bs, Piece *p, uint64_t host)
{
    int ret = bdrv_co_pwritev_part(bs->file, host, p->bytes, p->qiov, p->qiov_offset, p->flags);

    qcow2_use_end(bs->opaque, p->epoch);
    return ret;
}

/* ---- copy on write ---- */

/* The old contents of [offset, +bytes), inside one cluster, whose entry is @entry. */
static int coroutine_fn copy_co_read(BlockDriverState *bs, uint64_t entry, uint64_t offset,
                                     uint64_t bytes, uint8_t *buf)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, offset), host;
    uint32_t packed_bytes;
    uint8_t *cluster;
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    switch (qcow2_entry_kind(s, entry)) {
    case QCOW2_UNALLOCATED:
        return qcow2_co_read_backing(bs, offset, bytes, &qiov, 0, 0);
    case QCOW2_NORMAL:
        host = entry & QCOW2_OFFSET_MASK;
        if (host >= (uint64_t)bdrv_getlength_cached(bs->file->bs)) {
            qcow2_lock(s);
            qcow2_found_cut_off(bs, host);
            qcow2_unlock(s);
            return -EIO;
        }
        return qcow2_co_read_file(bs, host + within, bytes, &qiov, 0, 0);
    case QCOW2_PACKED:
        cluster = qemu_try_blockalign(bs, s->cluster_size);
        if (!cluster) {
            return -ENOMEM;
        }
        qcow2_packed_place(s, entry, &host, &packed_bytes);
        ret = qcow2_co_read_packed(bs, host, packed_bytes, cluster);
        memcpy(buf, cluster + within, bytes);
        qemu_vfree(cluster);
        return ret;
    default:
        memset(buf, 0, bytes);
        return 0;
    }
}

/* Read head and tail, and write all in one. Where the place is known to be zero, a head or
 * tail of zeroes is left out. */
static int coroutine_fn copy_co_data(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    uint64_t head = qcow2_in_cluster(s, p->offset), end = p->offset + p->bytes;
    uint64_t tail = ROUND_UP(end, (uint64_t)s->cluster_size) - end;
    uint8_t *buf = head + tail ? qemu_try_blockalign(bs->file->bs, head + tail) : NULL;
    QEMUIOVector qiov;
    int ret = 0;

    if (!buf && head + tail) {
        return -ENOMEM;
    }
    if (head) {
        ret = copy_co_read(bs, p->head_entry, p->offset - head, head, buf);
    }
    if (tail && !ret) {
        ret = copy_co_read(bs, p->tail_entry, end, tail, buf + head);
    }
    if (ret < 0) {
        qemu_vfree(buf);
        return ret;
    }
    uint64_t skip = p->fresh && buffer_is_zero(buf, head) ? head : 0;

    if (p->fresh && tail && buffer_is_zero(buf + head, tail)) {
        tail = 0;
    }
    qemu_iovec_init(&qiov, p->qiov->niov + 2);
    if (head - skip) {
        qemu_iovec_add(&qiov, buf, head);
    }
    qemu_iovec_concat(&qiov, p->qiov, p->qiov_offset, p->bytes);
    if (tail) {
        qemu_iovec_add(&qiov, buf + head, tail);
    }
    ret = bdrv_co_pwritev(bs->file, p->host + skip, qiov.size, &qiov,
                          head - skip + tail ? p->flags & ~BDRV_REQ_REGISTERED_BUF : p->flags);
    qemu_iovec_destroy(&qiov);
    qemu_vfree(buf);
    return ret;
}

/* The data is written: change the entries, free what they had. `lock` held. */
static void copy_link(Qcow2State *s, Piece *p)
{
    for (uint32_t i = 0; i < p->n && !p->reuse; i++) {
        qcow2_free_entry(s, be64_at(p->slice->data, p->index + i), s->discard_other);
    }
    qcow2_set_entries(s, p->slice, p->index, p->n, p->host | QCOW2_COPIED, s->cluster_size);
}

/* `lock` held before, not after. */
static int coroutine_fn piece_co_copy(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    Qcow2Alloc alloc = {
        .guest_from = p->offset - qcow2_in_cluster(s, p->offset),
        .guest_to = ROUND_UP(p->offset + p->bytes, (uint64_t)s->cluster_size),
    };

    qemu_co_queue_init(&alloc.waiters);
    LIST_INSERT_HEAD(&s->allocs, &alloc, next);
    p->epoch = qcow2_use_begin(s);
    qcow2_unlock(s);

    int ret = copy_co_data(bs, p);

    qcow2_use_end(s, p->epoch);
    qcow2_lock(s);
    if (!ret) {
        copy_link(s, p);
    } else if (!p->reuse) {
        qcow2_free_clusters(s, p->host >> s->cluster_bits, p->n, false);
    }
    LIST_REMOVE(&alloc, next);
    qemu_co_queue_restart_all(&alloc.waiters);
    qcow2_cache_put(&s->l2, p->slice);
    qcow2_unlock(s);
    return ret;
}

/* ---- choosing ---- */

/* Clusters that can be treated alike. */
typedef enum PieceSort {
    PIECE_IN_PLACE,     /* neighbours in the file */
    PIECE_ZERO,         /* read as zeroes, have no cluster */
    PIECE_REUSE,        /* read as zeroes, have a cluster of their own; neighbours */
    PIECE_COPY,
} PieceSort;

static PieceSort entry_sort(BlockDriverState *bs, uint64_t guest, uint64_t entry)
{
    Qcow2State *s = bs->opaque;

    switch (qcow2_entry_kind(s, entry)) {
    case QCOW2_NORMAL:
        return entry & QCOW2_COPIED ? PIECE_IN_PLACE : PIECE_COPY;
    case QCOW2_ZERO_PLAIN:
        return PIECE_ZERO;
    case QCOW2_ZERO_ALLOC:
        return entry & QCOW2_COPIED ? PIECE_REUSE : PIECE_COPY;
    case QCOW2_UNALLOCATED:
        return qcow2_backing_is_zero(bs, guest, s->cluster_size) ? PIECE_ZERO : PIECE_COPY;
    default:
        return PIECE_COPY;
    }
}

/* How far the piece can go: sets n and bytes, at most @max clusters. -EIO: bad entry. */
static int piece_measure(BlockDriverState *bs, Piece *p, PieceSort *sort, uint64_t max)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, p->offset), guest = p->offset - within;
    uint64_t first = be64_at(p->slice->data, p->index);
    uint32_t limit = MIN(DIV_ROUND_UP(within + p->bytes, s->cluster_size),
                         MIN(max, s->slice_entries - p->index));

    *sort = entry_sort(bs, guest, first);
    for (p->n = 0; p->n < limit; p->n++) {
        uint64_t entry = be64_at(p->slice->data, p->index + p->n);
        uint64_t at = guest + (uint64_t)p->n * s->cluster_size;

        if (!qcow2_entry_valid(bs, at, entry)) {
            return -EIO;
        }
        if (p->n && (entry_sort(bs, at, entry) != *sort ||
                     ((*sort == PIECE_IN_PLACE || *sort == PIECE_REUSE) &&
                      entry != first + (uint64_t)p->n * s->cluster_size))) {
            break;
        }
    }
    p->bytes = MIN(p->bytes, (uint64_t)p->n * s->cluster_size - within);
    p->head_entry = first;
    p->tail_entry = be64_at(p->slice->data, p->index + p->n - 1);
    return 0;
}

/* Find room for the piece; it may become shorter. `lock` held. False: none in the window. */
static bool piece_allocate(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster, n = qcow2_alloc_try(bs, p->n, &cluster, &p->fresh);

    if (!n) {
        return false;
    }
    p->host = cluster << s->cluster_bits;
    if (n < p->n) {
        p->n = n;
        p->bytes = n * s->cluster_size - qcow2_in_cluster(s, p->offset);
        p->tail_entry = be64_at(p->slice->data, p->index + n - 1);
    }
    return true;
}

/* `lock` held before, not after; the slice is pinned before, not after. NO_CLUSTER: there was
 * no free one at hand. */
static int coroutine_fn piece_co_write(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, p->offset);
    PieceSort sort;
    int ret = piece_measure(bs, p, &sort, UINT32_MAX);

    if (!ret && sort == PIECE_IN_PLACE) {
        p->epoch = qcow2_use_begin(s);
        qcow2_cache_put(&s->l2, p->slice);
        qcow2_unlock(s);
        return piece_co_write_at(bs, p, (p->head_entry & QCOW2_OFFSET_MASK) + within);
    }
    if (!ret && sort == PIECE_REUSE) {
        p->host = p->head_entry & QCOW2_OFFSET_MASK;
        p->reuse = true;
        return piece_co_copy(bs, p);
    }
    if (!ret && !piece_allocate(bs, p)) {
        ret = NO_CLUSTER;
    }
    if (ret) {
        qcow2_cache_put(&s->l2, p->slice);
        qcow2_unlock(s);
        return ret;
    }
    if (sort == PIECE_ZERO && p->fresh && p->host + ((uint64_t)p->n << s->cluster_bits) <= s->grown_to) {
        qcow2_set_entries(s, p->slice, p->index, p->n, p->host | QCOW2_COPIED, s->cluster_size);
        p->epoch = qcow2_use_begin(s);
        qcow2_cache_put(&s->l2, p->slice);
        qcow2_unlock(s);
        ret = piece_co_write_at(bs, p, p->host + within);
        if (ret < 0 || p->bytes != (uint64_t)p->n << s->cluster_bits) {
            __atomic_store_n(&s->sparse_data, true, __ATOMIC_RELAXED);
        }
        return ret;
    }
    return piece_co_copy(bs, p);
}

/* Write the beginning of [p->offset, +p->bytes); p->bytes becomes what was done. */
static int coroutine_fn write_co_piece(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    const uint64_t wanted = p->bytes;
    int ret;

    do {
        uint64_t slice_guest_bytes = (uint64_t)s->slice_entries << s->cluster_bits;
        bool dropped;

        p->bytes = MIN(wanted, slice_guest_bytes - p->offset % slice_guest_bytes);
        qcow2_lock(s);
        for (;;) {
            dropped = false;
            ret = qcow2_co_slice_for_write(bs, p->offset, &p->slice, &p->index, &dropped);
            if (ret < 0) {
                qcow2_unlock(s);
                return ret;
            }
            if (!dropped && !qcow2_co_wait_allocs(s, p->offset, p->offset + p->bytes)) {
                break;
            }
            qcow2_cache_put(&s->l2, p->slice);
        }
        ret = piece_co_write(bs, p);
        if (ret == NO_CLUSTER) {
            int err = qcow2_co_alloc_refill(bs);

            ret = err < 0 ? err : ret;
        }
    } while (ret == NO_CLUSTER);
    return ret;
}

int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int ret = 0;

    while (bytes && !ret) {
        Piece p = {
            .offset = offset, .bytes = bytes, .qiov = qiov, .qiov_offset = qiov_offset,
            .flags = flags & (BDRV_REQ_REGISTERED_BUF | BDRV_REQ_BULK),
        };

        ret = qcow2_co_before_change(bs);
        if (!ret) {
            ret = write_co_piece(bs, &p);
        }
        offset += p.bytes;
        bytes -= p.bytes;
        qiov_offset += p.bytes;
    }
    if (ret < 0) {
        qcow2_co_note_damage(bs);
    }
    return ret;
}

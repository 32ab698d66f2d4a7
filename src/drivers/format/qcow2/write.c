/* SPDX-License-Identifier: MIT */
/* write.c: writing guest data.
 *
 * A request is cut into pieces, each within one slice and of one of three sorts:
 *   in place   clusters that are ours alone: write, nothing else.
 *   fresh      the guest sees zeroes there, and the cluster is known to be zero: enter it
 *              into the table, then write.
 *   copy       all else: read what the piece leaves out of its first and last cluster,
 *              write head, data and tail in one request, then change the table. With
 *              subclusters, what it leaves out of its first and last subcluster is enough where
 *              the place stays or there was none; and there the range that others
 *              wait for is that of the subclusters.
 * With an external data file nothing is fresh, and the place of a cluster is always known.
 * Why this is safe against power failure, and against each other, is told in qcow2.h.
 *
 * Runs on: the request's thread. Suspends without any lock held, except where metadata has
 * to be read or made first.
 */
#include "drivers/format/qcow2/overlap.h"

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
    uint64_t head_bits, tail_bits;
    uint64_t copy_from, copy_to;        /* guest range that is written with head and tail */
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
    Qcow2State *s = bs->opaque;

    if (p->fresh) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_CLUSTER_ALLOC);
    }
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_WRITE_AIO);
    int ret = qcow2_co_write_data(bs, host, p->bytes, p->qiov, p->qiov_offset, p->flags);

    qcow2_use_end(s, p->epoch);
    return ret;
}

/* ---- copy on write ---- */

/* The old contents of [offset, +bytes), inside one subcluster. */
static int coroutine_fn copy_co_read_sub(BlockDriverState *bs, uint64_t entry, uint64_t bits,
                                         uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, offset), host;
    uint32_t packed_bytes;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    switch (qcow2_sub_kind(s, entry, bits, within >> s->subcluster_bits)) {
    case QCOW2_UNALLOCATED:
        return qcow2_co_read_backing(bs, offset, bytes, &qiov, 0, 0);
    case QCOW2_NORMAL:
        host = entry & QCOW2_OFFSET_MASK;
        if (host >= (uint64_t)bdrv_getlength_cached(s->data_file->bs) && !s->raw_data) {
            qcow2_lock(s);
            qcow2_found_cut_off(bs, host);
            qcow2_unlock(s);
            return -EIO;
        }
        return qcow2_co_read_data(bs, host + within, bytes, &qiov, 0, 0);
    case QCOW2_PACKED:
        qcow2_packed_place(s, entry, &host, &packed_bytes);
        return qcow2_co_read_packed_part(bs, host, packed_bytes, within, bytes, &qiov, 0);
    default:
        memset(buf, 0, bytes);
        return 0;
    }
}

/* The same inside one cluster: subclusters of one kind together. */
static int coroutine_fn copy_co_read(BlockDriverState *bs, uint64_t entry, uint64_t bits,
                                     uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    while (bytes && !ret) {
        unsigned sub = qcow2_in_cluster(s, offset) >> s->subcluster_bits;
        Qcow2Kind kind = qcow2_sub_kind(s, entry, bits, sub);
        uint64_t n = s->subcluster_size - (offset & (s->subcluster_size - 1));

        while (n < bytes && qcow2_sub_kind(s, entry, bits, ++sub) == kind) {
            n += s->subcluster_size;
        }
        n = MIN(n, bytes);
        ret = copy_co_read_sub(bs, entry, bits, offset, n, buf);
        offset += n;
        buf += n;
        bytes -= n;
    }
    return ret;
}

/* Read head and tail, and write all in one. Where the place is known to be zero, a head or
 * tail of zeroes is left out. */
static int coroutine_fn copy_co_data(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    uint64_t head = p->offset - p->copy_from, end = p->offset + p->bytes;
    uint64_t tail = p->copy_to - end;
    uint8_t *buf = head + tail ? qemu_try_blockalign(s->data_file->bs, head + tail) : NULL;
    QEMUIOVector qiov;
    int ret = 0;

    if (!buf && head + tail) {
        return -ENOMEM;
    }
    if (!p->reuse) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_CLUSTER_ALLOC);
    }
    if (head + tail) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_COW_READ);
    }
    if (head) {
        ret = copy_co_read(bs, p->head_entry, p->head_bits, p->copy_from, head, buf);
    }
    if (tail && !ret) {
        ret = copy_co_read(bs, p->tail_entry, p->tail_bits, end, tail, buf + head);
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
    if (head - skip + tail) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_COW_WRITE);
    }
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_WRITE_AIO);
    ret = qcow2_co_write_data(bs, p->host + qcow2_in_cluster(s, p->copy_from + skip), qiov.size, &qiov, 0,
                              head - skip + tail ? p->flags & ~BDRV_REQ_REGISTERED_BUF : p->flags);
    qemu_iovec_destroy(&qiov);
    qemu_vfree(buf);
    return ret;
}

/* The subclusters of entry @i of the piece that lie in guest [from, to). */
static uint64_t piece_bits(Qcow2State *s, const Piece *p, uint32_t i, uint64_t from, uint64_t to)
{
    uint64_t start = p->offset - qcow2_in_cluster(s, p->offset) + (uint64_t)i * s->cluster_size;
    uint64_t end = start + s->cluster_size;

    if (!s->ext_l2) {
        return 0;
    }
    from = MAX(from, start);
    to = MIN(to, end);
    return qcow2_bits_range((from - start) >> s->subcluster_bits,
                            DIV_ROUND_UP(to - start, s->subcluster_size));
}

/* Enter the place; what is in guest [from, to) has data there. Of the rest the entry keeps what it
 * said: nothing, or zeroes, or (where the place stays) data. `lock` held. */
static void piece_link(Qcow2State *s, const Piece *p, uint64_t from, uint64_t to)
{
    if (!s->ext_l2) {
        qcow2_set_entries(s, p->slice, p->index, p->n, p->host | QCOW2_COPIED, s->cluster_size, 0);
        return;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        uint64_t old = qcow2_entry(s, p->slice->data, p->index + i);
        uint64_t bits = old & QCOW2_COMPRESSED ? 0 : qcow2_bits(s, p->slice->data, p->index + i);
        uint64_t data = piece_bits(s, p, i, from, to);

        bits = (bits | data) & ~(data << QCOW2_SUBCLUSTERS);
        qcow2_set_entries(s, p->slice, p->index + i, 1,
                          (p->host + (uint64_t)i * s->cluster_size) | QCOW2_COPIED, 0, bits);
    }
}

/* Data of the cluster that has to move with it: guest bytes, from its start on. */
static void moved_data(Qcow2State *s, uint64_t entry, uint64_t bits, uint64_t *from, uint64_t *to)
{
    uint32_t data = bits & QCOW2_BITS_DATA;

    *from = s->cluster_size;
    *to = 0;
    if (entry & QCOW2_COMPRESSED) {
        *from = 0;
        *to = s->cluster_size;
    } else if (data) {
        *from = (uint64_t)__builtin_ctz(data) << s->subcluster_bits;
        *to = (uint64_t)(QCOW2_SUBCLUSTERS - __builtin_clz(data)) << s->subcluster_bits;
    }
}

/* How far beyond the guest's bytes has to be written. */
static void piece_copy_range(Qcow2State *s, Piece *p)
{
    const uint64_t sub = s->subcluster_size, end = p->offset + p->bytes;
    uint64_t start = p->offset - qcow2_in_cluster(s, p->offset);
    uint64_t last = start + (uint64_t)(p->n - 1) * s->cluster_size, from, to;

    p->copy_from = p->offset & ~(sub - 1);
    p->copy_to = ROUND_UP(end, sub);
    if (!s->ext_l2) {
        return;
    }
    if (p->reuse) {
        /* What has data here is complete. */
        if (p->head_bits & (1ULL << ((p->copy_from - start) >> s->subcluster_bits))) {
            p->copy_from = p->offset;
        }
        if (p->tail_bits & (1ULL << ((p->copy_to - 1 - last) >> s->subcluster_bits))) {
            p->copy_to = end;
        }
        return;
    }
    moved_data(s, p->head_entry, p->head_bits, &from, &to);
    p->copy_from = MIN(p->copy_from, start + from);
    moved_data(s, p->tail_entry, p->tail_bits, &from, &to);
    p->copy_to = MAX(p->copy_to, last + to);
}

/* The data is written: change the entries, free what they had. `lock` held. */
static void copy_link(Qcow2State *s, Piece *p)
{
    for (uint32_t i = 0; i < p->n && !p->reuse; i++) {
        qcow2_free_entry(s, qcow2_entry(s, p->slice->data, p->index + i), s->discard_other);
    }
    piece_link(s, p, p->copy_from, p->copy_to);
}

/* `lock` held before, not after. */
static int coroutine_fn piece_co_copy(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    /* Where the place stays, other subclusters may be filled meanwhile. */
    uint64_t unit = p->reuse ? s->subcluster_size : s->cluster_size;
    Qcow2Alloc alloc = {
        .guest_from = p->offset & ~(unit - 1), .guest_to = ROUND_UP(p->offset + p->bytes, unit),
    };

    piece_copy_range(s, p);
    qemu_co_queue_init(&alloc.waiters);
    LIST_INSERT_HEAD(&s->allocs, &alloc, next);
    p->epoch = qcow2_use_begin(s);
    qcow2_unlock(s);

    int ret = copy_co_data(bs, p);

    qcow2_use_end(s, p->epoch);
    qcow2_lock(s);
    if (!ret) {
        copy_link(s, p);
    } else if (!p->reuse && !s->external) {
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
    PIECE_IN_PLACE,     /* neighbours in the file, with data */
    PIECE_ZERO,         /* read as zeroes, have no cluster */
    PIECE_REUSE,        /* have a cluster of their own, but no data there yet; neighbours */
    PIECE_COPY,
} PieceSort;

/* @data: the subclusters that are written to. */
static PieceSort sub_entry_sort(BlockDriverState *bs, uint64_t guest, uint64_t entry, uint64_t bits, uint64_t data)
{
    Qcow2State *s = bs->opaque;

    switch (qcow2_entry_kind(s, entry)) {
    case QCOW2_NORMAL:
        if (!qcow2_entry_is_own(s, entry)) {
            return PIECE_COPY;
        }
        return (bits & data) == data ? PIECE_IN_PLACE : PIECE_REUSE;
    case QCOW2_UNALLOCATED:
        return ((bits >> QCOW2_SUBCLUSTERS) & data) == data ||
               qcow2_backing_is_zero(bs, guest, s->cluster_size) ? PIECE_ZERO : PIECE_COPY;
    default:
        return PIECE_COPY;
    }
}

static PieceSort entry_sort(BlockDriverState *bs, uint64_t guest, uint64_t entry, uint64_t bits, uint64_t data)
{
    Qcow2State *s = bs->opaque;

    if (s->ext_l2) {
        return sub_entry_sort(bs, guest, entry, bits, data);
    }
    switch (qcow2_entry_kind(s, entry)) {
    case QCOW2_NORMAL:
        return qcow2_entry_is_own(s, entry) ? PIECE_IN_PLACE : PIECE_COPY;
    case QCOW2_ZERO_PLAIN:
        return PIECE_ZERO;
    case QCOW2_ZERO_ALLOC:
        return qcow2_entry_is_own(s, entry) ? PIECE_REUSE : PIECE_COPY;
    case QCOW2_UNALLOCATED:
        return qcow2_backing_is_zero(bs, guest, s->cluster_size) ? PIECE_ZERO : PIECE_COPY;
    default:
        return PIECE_COPY;
    }
}

/* The last cluster of the piece is known. */
static void piece_set_tail(Qcow2State *s, Piece *p)
{
    p->tail_entry = qcow2_entry(s, p->slice->data, p->index + p->n - 1);
    p->tail_bits = qcow2_bits(s, p->slice->data, p->index + p->n - 1);
}

/* How far the piece can go: sets n and bytes, at most @max clusters. -EIO: bad entry. */
static int piece_measure(BlockDriverState *bs, Piece *p, PieceSort *sort, uint64_t max)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, p->offset), guest = p->offset - within;
    uint64_t first = qcow2_entry(s, p->slice->data, p->index), end = p->offset + p->bytes;
    uint32_t limit = MIN(DIV_ROUND_UP(within + p->bytes, s->cluster_size),
                         MIN(max, s->slice_entries - p->index));

    for (p->n = 0; p->n < limit; p->n++) {
        uint64_t entry = qcow2_entry(s, p->slice->data, p->index + p->n);
        uint64_t bits = qcow2_bits(s, p->slice->data, p->index + p->n);
        uint64_t at = guest + (uint64_t)p->n * s->cluster_size;
        PieceSort this;

        if (!qcow2_entry_valid(bs, at, entry, bits)) {
            return -EIO;
        }
        this = entry_sort(bs, at, entry, bits, piece_bits(s, p, p->n, p->offset, end));
        *sort = p->n ? *sort : this;
        if (p->n && (this != *sort ||
                     ((*sort == PIECE_IN_PLACE || *sort == PIECE_REUSE) &&
                      entry != first + (uint64_t)p->n * s->cluster_size))) {
            break;
        }
    }
    p->bytes = MIN(p->bytes, (uint64_t)p->n * s->cluster_size - within);
    p->head_entry = first;
    p->head_bits = qcow2_bits(s, p->slice->data, p->index);
    piece_set_tail(s, p);
    return 0;
}

/* Find room for the piece; it may become shorter. `lock` held. False: none in the window. */
static bool piece_allocate(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster, n;

    if (s->external) {
        p->host = p->offset - qcow2_in_cluster(s, p->offset);
        p->fresh = false;
        return true;
    }
    n = qcow2_alloc_try(bs, p->n, &cluster, &p->fresh);
    if (!n) {
        return false;
    }
    p->host = cluster << s->cluster_bits;
    if (n < p->n) {
        p->n = n;
        p->bytes = n * s->cluster_size - qcow2_in_cluster(s, p->offset);
        piece_set_tail(s, p);
    }
    return true;
}

/* `lock` held before, not after; the slice is pinned before, not after. NO_CLUSTER: there was
 * no free one at hand. */
static int coroutine_fn piece_co_write(BlockDriverState *bs, Piece *p)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, p->offset);
    PieceSort sort = PIECE_COPY;
    int ret = piece_measure(bs, p, &sort, UINT32_MAX);

    if (!ret && (sort == PIECE_IN_PLACE || sort == PIECE_REUSE) &&
        qcow2_overlap_data(bs, (p->head_entry & QCOW2_OFFSET_MASK) + within, p->bytes)) {
        ret = -EIO;
    }
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
        piece_link(s, p, p->offset, p->offset + p->bytes);
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

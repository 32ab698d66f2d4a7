/* SPDX-License-Identifier: MIT */
/* compress.c: writing compressed clusters.
 *
 * Clusters are compressed on worker threads, without any lock, up to BATCH_BYTES in one errand, so requests that
 * run at the same time use as many cores as there are. Then each gets a place: behind the last stream, in the rest of that
 * one's cluster (and the one that follows, if that is free), else at a cluster's start. Streams
 * that share a cluster count it once each. Then all are written, neighbours in one request, and then the entries change, as
 * for copy on write (write.c); the order on disk is that of commit.c, as for any data.
 *
 * A cluster that does not become smaller is written as it is.
 *
 * Clusters get their places in the order in which they came, however long each takes to compress, so that
 * who writes from front to back gets a file that can be read so. Each takes a ticket, and waits, with nothing
 * held, until it is its turn.
 *
 * Runs on: the request's thread.
 */
#include "drivers/format/qcow2/alloc.h"
#include "drivers/format/qcow2/codec.h"

#define BATCH_BYTES (512 * KiB)
#define BATCH_MAX   128
#define SPARE_BYTES (4 * MiB)   /* of what is compressed */

/* ---- a place for a stream ---- */

void qcow2_pack_close(Qcow2State *s)
{
    s->pack_next = 0;
}

/* May one more stream be in the cluster that @rb counts? `lock` held. */
static bool count_can_grow(Qcow2State *s, uint64_t count)
{
    unsigned bits = 1u << s->refcount_order;

    return count && count < (bits == 64 ? UINT64_MAX : (1ULL << bits) - 1);
}

/* In the rest of the cluster of the last stream, and as much as needed of the next: true. `lock` held;
 * @rb counts the cluster, and nothing was dropped since. */
static bool place_behind(BlockDriverState *bs, Qcow2Table *rb, uint64_t bytes, uint64_t *host)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster = s->pack_next >> s->cluster_bits, i = cluster % s->rb_entries, next;
    uint64_t rest = s->cluster_size - qcow2_in_cluster(s, s->pack_next);
    uint64_t count = qcow2_refcount_get(rb->data, s->refcount_order, i);
    bool fresh;

    if (!count_can_grow(s, count)) {
        s->pack_next = 0;
        return false;
    }
    if (bytes > rest) {
        if (!s->win_rb || s->win_next != cluster + 1 || !qcow2_alloc_try(bs, 1, &next, &fresh)) {
            return false;
        }
        if (next != cluster + 1) {
            /* The window began with one in use. */
            qcow2_free_clusters(s, next, 1, false);
            return false;
        }
    }
    refcount_set_run(s, rb, i, 1, count + 1);
    *host = s->pack_next;
    s->pack_next += bytes;
    s->pack_next = qcow2_in_cluster(s, s->pack_next) ? s->pack_next : 0;
    return true;
}

/* Room for @bytes, less than a cluster. Takes `lock`. */
static int coroutine_fn place_co_find(BlockDriverState *bs, uint64_t bytes, uint64_t *host)
{
    Qcow2State *s = bs->opaque;

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_CLUSTER_ALLOC_BYTES);
    for (;;) {
        uint64_t cluster, n, at;
        bool dropped = false, fresh, found = false;
        Qcow2Table *rb;
        int ret;

        qcow2_lock(s);
        at = s->pack_next;
        if (at) {
            ret = qcow2_co_refcount_block(bs, at >> s->cluster_bits, &rb, &dropped);
            if (ret < 0) {
                qcow2_unlock(s);
                return ret;
            }
            if (rb) {
                found = !dropped && s->pack_next == at && place_behind(bs, rb, bytes, host);
                qcow2_cache_put(&s->rb, rb);
            }
        }
        if (!found && !dropped) {
            n = qcow2_alloc_try(bs, 1, &cluster, &fresh);
            found = n;
            if (found) {
                *host = cluster << s->cluster_bits;
                s->pack_next = *host + bytes;
            }
        }
        qcow2_unlock(s);
        if (found) {
            return 0;
        }
        if (!dropped) {
            ret = qcow2_co_alloc_refill(bs);
            if (ret < 0) {
                return ret;
            }
        }
    }
}

/* ---- turns ---- */

static uint64_t turn_take(Qcow2State *s)
{
    qcow2_lock(s);
    uint64_t ticket = s->pack_ticket++;

    qcow2_unlock(s);
    return ticket;
}

static void coroutine_fn turn_wait(Qcow2State *s, uint64_t ticket)
{
    qcow2_lock(s);
    while (s->pack_turn != ticket) {
        qemu_co_queue_wait_plain(&s->pack_waiters, &s->lock);
    }
    qcow2_unlock(s);
}

static void turn_over(Qcow2State *s)
{
    qcow2_lock(s);
    s->pack_turn++;
    qemu_co_queue_restart_all(&s->pack_waiters);
    qcow2_unlock(s);
}

/* ---- some clusters ---- */

/* The entry of a stream; what qcow2_packed_place() reads. */
static uint64_t packed_entry(Qcow2State *s, uint64_t host, uint64_t bytes)
{
    unsigned shift = 62 - (s->cluster_bits - 8);
    uint64_t sectors = (host + bytes - 1) / BDRV_SECTOR_SIZE - host / BDRV_SECTOR_SIZE;

    return QCOW2_COMPRESSED | sectors << shift | host;
}

/* Pin the slice of [@offset, @end) with nobody else on the way there. On success `lock` is held. */
static int coroutine_fn packed_co_begin(BlockDriverState *bs, uint64_t offset, uint64_t end, Qcow2Table **slice,
                                        uint32_t *index)
{
    Qcow2State *s = bs->opaque;

    qcow2_lock(s);
    for (;;) {
        bool dropped = false;
        int ret = qcow2_co_slice_for_write(bs, offset, slice, index, &dropped);

        if (ret < 0) {
            qcow2_unlock(s);
            return ret;
        }
        if (!dropped && !qcow2_co_wait_allocs(s, offset, end)) {
            return 0;
        }
        qcow2_cache_put(&s->l2, *slice);
    }
}

/* Clusters on their way, neighbours below one slice of an L2 table. */
typedef struct Qcow2PackBatch PackBatch;
struct Qcow2PackBatch {
    PackBatch *next_spare;
    uint64_t offset;            /* of the guest */
    unsigned n;
    bool zstd;
    uint32_t cluster_bytes;
    uint8_t *in, *out;          /* a cluster's worth for each */
    uint32_t stream_bytes[BATCH_MAX];   /* 0: it does not become smaller */
    uint64_t host[BATCH_MAX];   /* of the stream; 0: none */
};

static int batch_pack(void *opaque)
{
    PackBatch *b = opaque;
    int ret = 0;

    for (unsigned i = 0; i < b->n && !ret; i++) {
        Qcow2Codec p = {
            .zstd = b->zstd, .in = b->in + (uint64_t)i * b->cluster_bytes, .in_bytes = b->cluster_bytes,
            .out = b->out + (uint64_t)i * b->cluster_bytes, .out_bytes = b->cluster_bytes - 1,
        };

        ret = qcow2_codec_pack(&p);
        b->stream_bytes[i] = p.packed_bytes;
    }
    return ret;
}

/* A place for each stream. */
static int coroutine_fn batch_co_place(BlockDriverState *bs, PackBatch *b)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    for (unsigned i = 0; i < b->n && !ret; i++) {
        if (b->stream_bytes[i]) {
            ret = place_co_find(bs, b->stream_bytes[i], &b->host[i]);
            /* An entry of a stream cannot name places very far behind. */
            ret = !ret && b->host[i] >> (62 - (s->cluster_bits - 8)) ? -EFBIG : ret;
        }
    }
    return ret;
}

/* Those that lie behind each other go in one request. */
static int coroutine_fn batch_co_write(BlockDriverState *bs, PackBatch *b)
{
    struct iovec iov[BATCH_MAX];
    int ret = 0;

    for (unsigned i = 0, k; i < b->n && !ret; i = k) {
        uint64_t end = b->host[i];
        QEMUIOVector qiov;
        int n = 0;

        for (k = i; k < b->n && (k == i || !b->host[k] || b->host[k] == end); k++) {
            if (b->host[k]) {
                iov[n++] = (struct iovec) { b->out + (uint64_t)k * b->cluster_bytes, b->stream_bytes[k] };
                end += b->stream_bytes[k];
            }
        }
        if (n) {
            qemu_iovec_init_external(&qiov, iov, n);
            bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_WRITE_COMPRESSED);
            ret = bdrv_co_pwritev(bs->file, b->host[i], end - b->host[i], &qiov, 0);
        }
    }
    return ret;
}

/* `lock` held. */
static void batch_done(BlockDriverState *bs, PackBatch *b, Qcow2Table *slice, uint32_t index, bool failed)
{
    Qcow2State *s = bs->opaque;

    for (unsigned i = 0; i < b->n; i++) {
        uint64_t host = b->host[i], first = host >> s->cluster_bits;

        if (host && failed) {
            qcow2_free_clusters(s, first, ((host + b->stream_bytes[i] - 1) >> s->cluster_bits) - first + 1, false);
        } else if (host) {
            qcow2_free_entry(s, qcow2_entry(s, slice->data, index + i), s->discard_other);
            qcow2_set_entries(s, slice, index + i, 1, packed_entry(s, host, b->stream_bytes[i]), 0, 0);
        }
    }
}

/* The streams. It is the caller's turn; it is over when they have their places. */
static int coroutine_fn packed_co_write(BlockDriverState *bs, PackBatch *b)
{
    Qcow2State *s = bs->opaque;
    Qcow2Alloc alloc = { .guest_from = b->offset, .guest_to = b->offset + (uint64_t)b->n * s->cluster_size };
    uint32_t index;
    Qcow2Table *slice;
    int ret = packed_co_begin(bs, alloc.guest_from, alloc.guest_to, &slice, &index);

    if (ret < 0) {
        turn_over(s);
        return ret;
    }
    qemu_co_queue_init(&alloc.waiters);
    LIST_INSERT_HEAD(&s->allocs, &alloc, next);
    qcow2_unlock(s);

    ret = batch_co_place(bs, b);
    turn_over(s);
    if (!ret) {
        ret = batch_co_write(bs, b);
    }
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L2_UPDATE_COMPRESSED);
    qcow2_lock(s);
    batch_done(bs, b, slice, index, ret < 0);
    LIST_REMOVE(&alloc, next);
    qemu_co_queue_restart_all(&alloc.waiters);
    qcow2_cache_put(&s->l2, slice);
    qcow2_unlock(s);
    return ret;
}

/* Those that did not become smaller; @bytes of the batch are within the disk. */
static int coroutine_fn plain_co_write(BlockDriverState *bs, const PackBatch *b, uint64_t bytes)
{
    int ret = 0;

    for (unsigned i = 0, k; i < b->n && !ret; i = k) {
        uint64_t from = (uint64_t)i * b->cluster_bytes, to;
        QEMUIOVector qiov;

        for (k = i; k < b->n && !b->stream_bytes[k]; k++) {
        }
        if (k == i) {
            k++;
            continue;
        }
        to = MIN((uint64_t)k * b->cluster_bytes, bytes);
        qemu_iovec_init_buf(&qiov, b->in + from, to - from);
        ret = qcow2_co_pwritev(bs, b->offset + from, to - from, &qiov, 0, 0);
    }
    return ret;
}

/* b->in: what the guest's clusters are to hold; @bytes of it are within the disk. */
static int coroutine_fn batch_co_run(BlockDriverState *bs, PackBatch *b, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t ticket = turn_take(s);
    int ret = qcow2_co_before_change(bs);
    bool any = false;

    if (!ret) {
        ret = thread_pool_submit_co(batch_pack, b);
    }
    for (unsigned i = 0; i < b->n; i++) {
        b->host[i] = 0;
        any |= !ret && b->stream_bytes[i];
    }
    turn_wait(s, ticket);
    if (any) {
        ret = packed_co_write(bs, b);
    } else {
        turn_over(s);       /* a plain write takes its place before it waits for anything */
    }
    return ret ? ret : plain_co_write(bs, b, bytes);
}

/* How many clusters from @offset on go together. */
static unsigned batch_clusters(Qcow2State *s, uint64_t offset, uint64_t bytes)
{
    uint64_t in_slice = s->slice_entries - (qcow2_l2_index(s, offset) & (s->slice_entries - 1));
    uint64_t n = MAX(BATCH_BYTES >> s->cluster_bits, 1);

    return MIN(MIN(n, BATCH_MAX), MIN(in_slice, DIV_ROUND_UP(bytes, s->cluster_size)));
}

/* ---- memory, which costs more to get and to give back than to fill ---- */

/* For as many clusters as a batch can have. */
static PackBatch *batch_get(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    size_t room = MAX(BATCH_BYTES, s->cluster_size);
    PackBatch *b;

    qcow2_lock(s);
    b = s->pack_spare;
    if (b) {
        s->pack_spare = b->next_spare;
        s->n_pack_spare--;
    }
    qcow2_unlock(s);
    if (b) {
        return b;
    }
    b = g_new(PackBatch, 1);
    b->zstd = s->compression_type;
    b->cluster_bytes = s->cluster_size;
    b->in = qemu_try_blockalign(bs->file->bs, room);
    b->out = qemu_try_blockalign(bs->file->bs, room);
    return b;
}

static void batch_free(PackBatch *b)
{
    qemu_vfree(b->in);
    qemu_vfree(b->out);
    g_free(b);
}

static void batch_put(Qcow2State *s, PackBatch *b)
{
    bool keep;

    qcow2_lock(s);
    keep = b->in && b->out && s->n_pack_spare < MAX(SPARE_BYTES >> MAX(s->cluster_bits, 19), 1);
    if (keep) {
        b->next_spare = s->pack_spare;
        s->pack_spare = b;
        s->n_pack_spare++;
    }
    qcow2_unlock(s);
    if (!keep) {
        batch_free(b);
    }
}

void qcow2_pack_free(Qcow2State *s)
{
    PackBatch *b;

    while ((b = s->pack_spare)) {
        s->pack_spare = b->next_spare;
        batch_free(b);
    }
    s->n_pack_spare = 0;
}

/* ---- a request ---- */

int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             QEMUIOVector *qiov, size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = (uint64_t)offset + bytes;
    PackBatch *b;
    int ret = 0;

    if (s->external || s->crypt_method) {
        return -ENOTSUP;
    }
    if (qcow2_in_cluster(s, offset) || (qcow2_in_cluster(s, end) && end != s->length_bytes)) {
        return -EINVAL;
    }
    b = batch_get(bs);
    if (!b->in || !b->out) {
        ret = -ENOMEM;
    }
    while (bytes && !ret) {
        b->n = batch_clusters(s, offset, bytes);
        b->offset = offset;
        uint64_t whole = (uint64_t)b->n << s->cluster_bits, n = MIN((uint64_t)bytes, whole);

        qemu_iovec_to_buf(qiov, qiov_offset, b->in, n);
        memset(b->in + n, 0, whole - n);
        ret = batch_co_run(bs, b, n);
        offset += n;
        bytes -= n;
        qiov_offset += n;
    }
    batch_put(s, b);
    if (ret < 0) {
        qcow2_co_note_damage(bs);
    }
    return ret;
}

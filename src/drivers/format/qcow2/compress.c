/* SPDX-License-Identifier: MIT */
/* compress.c: writing compressed clusters.
 *
 * A cluster is compressed on a worker thread, without any lock, so requests that run at the same
 * time use as many cores as there are. Then it gets a place: behind the last stream, in the rest of that
 * one's cluster (and the one that follows, if that is free), else at a cluster's start. Streams
 * that share a cluster count it once each. Then it is written, and then the entry changes, as
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

/* ---- one cluster ---- */

/* The entry of a stream; what qcow2_packed_place() reads. */
static uint64_t packed_entry(Qcow2State *s, uint64_t host, uint64_t bytes)
{
    unsigned shift = 62 - (s->cluster_bits - 8);
    uint64_t sectors = (host + bytes - 1) / BDRV_SECTOR_SIZE - host / BDRV_SECTOR_SIZE;

    return QCOW2_COMPRESSED | sectors << shift | host;
}

/* Pin the slice of @offset with nobody else on the way in its cluster. On success `lock` is held. */
static int coroutine_fn packed_co_begin(BlockDriverState *bs, uint64_t offset, Qcow2Table **slice, uint32_t *index)
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
        if (!dropped && !qcow2_co_wait_allocs(s, offset, offset + s->cluster_size)) {
            return 0;
        }
        qcow2_cache_put(&s->l2, *slice);
    }
}

/* It is the caller's turn; it is over when the stream has its place. */
static int coroutine_fn packed_co_write(BlockDriverState *bs, uint64_t offset, uint8_t *stream, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    Qcow2Alloc alloc = { .guest_from = offset, .guest_to = offset + s->cluster_size };
    uint32_t index;
    Qcow2Table *slice;
    uint64_t host;
    int ret = packed_co_begin(bs, offset, &slice, &index);

    if (ret < 0) {
        turn_over(s);
        return ret;
    }
    qemu_co_queue_init(&alloc.waiters);
    LIST_INSERT_HEAD(&s->allocs, &alloc, next);
    qcow2_unlock(s);

    ret = place_co_find(bs, bytes, &host);
    turn_over(s);
    bool placed = !ret;

    if (placed) {
        /* An entry of a stream cannot name places very far behind. */
        ret = host >> (62 - (s->cluster_bits - 8)) ? -EFBIG : bdrv_co_pwrite(bs->file, host, bytes, stream, 0);
    }
    qcow2_lock(s);
    if (!ret) {
        qcow2_free_entry(s, qcow2_entry(s, slice->data, index), s->discard_other);
        qcow2_set_entries(s, slice, index, 1, packed_entry(s, host, bytes), 0, 0);
    } else if (placed) {
        uint64_t first = host >> s->cluster_bits, last = (host + bytes - 1) >> s->cluster_bits;

        qcow2_free_clusters(s, first, last - first + 1, false);
    }
    LIST_REMOVE(&alloc, next);
    qemu_co_queue_restart_all(&alloc.waiters);
    qcow2_cache_put(&s->l2, slice);
    qcow2_unlock(s);
    return ret;
}

/* @cluster: what the guest's cluster at @offset is to hold; @bytes of it are within the disk. */
static int coroutine_fn compress_co_cluster(BlockDriverState *bs, uint64_t offset, uint64_t bytes, uint8_t *cluster,
                                            uint8_t *stream)
{
    Qcow2State *s = bs->opaque;
    Qcow2Codec p = {
        .zstd = s->compression_type, .in = cluster, .in_bytes = s->cluster_size,
        .out = stream, .out_bytes = s->cluster_size - 1,
    };
    uint64_t ticket = turn_take(s);
    int ret = qcow2_co_before_change(bs);

    if (!ret) {
        ret = thread_pool_submit_co(qcow2_codec_pack, &p);
    }
    turn_wait(s, ticket);
    if (!ret && p.packed_bytes) {
        return packed_co_write(bs, offset, stream, p.packed_bytes);
    }
    turn_over(s);       /* a plain write takes its place before it waits for anything */
    if (!ret) {
        QEMUIOVector qiov;

        qemu_iovec_init_buf(&qiov, cluster, bytes);
        ret = qcow2_co_pwritev(bs, offset, bytes, &qiov, 0, 0);
    }
    return ret;
}

int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             QEMUIOVector *qiov, size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = (uint64_t)offset + bytes;
    uint8_t *cluster, *stream;
    int ret = 0;

    if (s->external || s->crypt_method) {
        return -ENOTSUP;
    }
    if (qcow2_in_cluster(s, offset) || (qcow2_in_cluster(s, end) && end != s->length_bytes)) {
        return -EINVAL;
    }
    cluster = qemu_try_blockalign(bs->file->bs, s->cluster_size);
    stream = qemu_try_blockalign(bs->file->bs, s->cluster_size);
    if (!cluster || !stream) {
        ret = -ENOMEM;
    }
    while (bytes && !ret) {
        uint64_t n = MIN((uint64_t)bytes, s->cluster_size);

        qemu_iovec_to_buf(qiov, qiov_offset, cluster, n);
        memset(cluster + n, 0, s->cluster_size - n);
        ret = compress_co_cluster(bs, offset, n, cluster, stream);
        offset += n;
        bytes -= n;
        qiov_offset += n;
    }
    qemu_vfree(cluster);
    qemu_vfree(stream);
    if (ret < 0) {
        qcow2_co_note_damage(bs);
    }
    return ret;
}

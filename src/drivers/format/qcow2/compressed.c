/* SPDX-License-Identifier: MIT */
/* compressed.c: reading compressed clusters.
 *
 * A compressed cluster is one stream, raw deflate or a zstd frame, somewhere in the file;
 * its entry says where, and in how many sectors it lies at most. It is unpacked on a
 * worker thread. A stream that is damaged, or gives less than a cluster, is -EIO.
 *
 * Requests for parts of a cluster keep what was unpacked, a few clusters of it, so that the next part
 * is there already; who wants the same cluster meanwhile waits for it. An entry is dropped when the
 * space of its stream is freed, which is not before the requests that use it are gone.
 */
#include "drivers/format/qcow2/codec.h"
#include "drivers/format/qcow2/qcow2.h"

#define KEPT_BYTES (2 * MiB)
#define KEPT_MIN   2
#define KEPT_MAX   16

struct Qcow2Unpacked {
    uint64_t host;
    uint32_t packed_bytes;
    uint8_t *data;
    bool loading, gone;                 /* gone: not in the list any more */
    int error;
    unsigned pins;
    CoQueue waiters;
    TAILQ_ENTRY(Qcow2Unpacked) link;    /* the last used first */
};

int coroutine_fn qcow2_co_read_packed(BlockDriverState *bs, uint64_t host, uint32_t packed_bytes,
                                      void *buf)
{
    Qcow2State *s = bs->opaque;
    Qcow2Codec u = {
        .zstd = s->compression_type, .in = qemu_try_blockalign(bs->file->bs, packed_bytes), .in_bytes = packed_bytes,
        .out = buf, .out_bytes = s->cluster_size,
    };
    QEMUIOVector qiov;

    if (!u.in) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, u.in, packed_bytes);
    int ret = qcow2_co_read_file(bs, host, packed_bytes, &qiov, 0, 0);

    if (!ret) {
        ret = thread_pool_submit_co(qcow2_codec_unpack, &u);
    }
    qemu_vfree(u.in);
    return ret;
}

/* ---- what is kept; `lock` held ---- */

static void unpacked_put(Qcow2Unpacked *k)
{
    if (!--k->pins && k->gone) {
        qemu_vfree(k->data);
        g_free(k);
    }
}

/* Out of the list. */
static void unpacked_drop(Qcow2State *s, Qcow2Unpacked *k)
{
    TAILQ_REMOVE(&s->unpacked, k, link);
    s->n_unpacked--;
    k->gone = true;
    k->pins++;
    unpacked_put(k);
}

void qcow2_unpacked_forget(Qcow2State *s, uint64_t host, uint64_t bytes)
{
    Qcow2Unpacked *k, *next;

    TAILQ_FOREACH_SAFE(k, &s->unpacked, link, next) {
        if (k->host < host + bytes && host < k->host + k->packed_bytes) {
            unpacked_drop(s, k);
        }
    }
}

static Qcow2Unpacked *unpacked_find(Qcow2State *s, uint64_t host, uint32_t packed_bytes)
{
    Qcow2Unpacked *k;

    TAILQ_FOREACH(k, &s->unpacked, link) {
        if (k->host == host && k->packed_bytes == packed_bytes) {
            TAILQ_REMOVE(&s->unpacked, k, link);
            TAILQ_INSERT_HEAD(&s->unpacked, k, link);
            return k;
        }
    }
    return NULL;
}

static Qcow2Unpacked *unpacked_new(Qcow2State *s, uint64_t host, uint32_t packed_bytes)
{
    Qcow2Unpacked *k = g_new0(Qcow2Unpacked, 1);
    unsigned max = CLAMP(KEPT_BYTES >> s->cluster_bits, KEPT_MIN, KEPT_MAX);

    if (s->n_unpacked >= max) {
        unpacked_drop(s, TAILQ_LAST(&s->unpacked, Qcow2UnpackedList));
    }
    *k = (Qcow2Unpacked) { .host = host, .packed_bytes = packed_bytes, .loading = true };
    qemu_co_queue_init(&k->waiters);
    TAILQ_INSERT_HEAD(&s->unpacked, k, link);
    s->n_unpacked++;
    return k;
}

/* ---- parts of a cluster ---- */

static void coroutine_fn unpacked_co_load(BlockDriverState *bs, Qcow2Unpacked *k)
{
    Qcow2State *s = bs->opaque;
    uint8_t *data;
    int ret = -ENOMEM;

    qcow2_unlock(s);
    data = qemu_try_blockalign(bs, s->cluster_size);
    if (data) {
        ret = qcow2_co_read_packed(bs, k->host, k->packed_bytes, data);
    }
    qcow2_lock(s);
    k->data = data;
    k->error = ret;
    k->loading = false;
    qemu_co_queue_restart_all(&k->waiters);
    if (ret < 0 && !k->gone) {
        unpacked_drop(s, k);
    }
}

int coroutine_fn qcow2_co_read_packed_part(BlockDriverState *bs, uint64_t host, uint32_t packed_bytes,
                                           uint64_t within, uint64_t bytes, QEMUIOVector *qiov, size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;
    Qcow2Unpacked *k;
    int ret;

    qcow2_lock(s);
    k = unpacked_find(s, host, packed_bytes);
    if (k) {
        k->pins++;
        while (k->loading) {
            qemu_co_queue_wait_plain(&k->waiters, &s->lock);
        }
    } else {
        k = unpacked_new(s, host, packed_bytes);
        k->pins++;
        unpacked_co_load(bs, k);
    }
    ret = k->error;
    qcow2_unlock(s);
    if (!ret) {
        qemu_iovec_from_buf(qiov, qiov_offset, k->data + within, bytes);
    }
    qcow2_lock(s);
    unpacked_put(k);
    qcow2_unlock(s);
    return ret;
}

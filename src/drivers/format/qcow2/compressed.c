/* SPDX-License-Identifier: MIT */
/* compressed.c: reading compressed clusters.
 *
 * A compressed cluster is one stream, raw deflate or a zstd frame, somewhere in the file;
 * its entry says where, and in how many sectors it lies at most. It is unpacked on a
 * worker thread. A stream that is damaged, or gives less than a cluster, is -EIO.
 *
 * Whole clusters behind each other are read and unpacked together, up to RUN_BYTES of them: one request for their
 * streams, which mostly are neighbours, and one errand to a worker.
 *
 * Requests for parts of a cluster keep what was unpacked, a few clusters of it, so that the next part
 * is there already; who wants the same cluster meanwhile waits for it. An entry is dropped when the
 * space of its stream is freed, which is not before the requests that use it are gone.
 */
#include "drivers/format/qcow2/codec.h"
#include "drivers/format/qcow2/qcow2.h"

#define RUN_BYTES  (512 * KiB)
#define RUN_MAX    128
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

/* ---- runs of whole clusters ---- */

typedef struct PackedRun {
    bool zstd;
    unsigned n;
    Qcow2Extent e[RUN_MAX];             /* of each; in use until all are unpacked */
    uint64_t at[RUN_MAX];               /* of its stream in `in` */
    uint8_t *in, *out;
    uint32_t cluster_bytes;
} PackedRun;

static int run_unpack(void *opaque)
{
    PackedRun *run = opaque;
    int ret = 0;

    for (unsigned i = 0; i < run->n && !ret; i++) {
        Qcow2Codec u = {
            .zstd = run->zstd, .in = run->in + run->at[i], .in_bytes = run->e[i].packed_bytes,
            .out = run->out + (uint64_t)i * run->cluster_bytes, .out_bytes = run->cluster_bytes,
        };

        ret = qcow2_codec_unpack(&u);
    }
    return ret;
}

/* Take the clusters behind the first into @run, as long as they are whole and compressed. */
static int coroutine_fn run_co_collect(BlockDriverState *bs, PackedRun *run, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    unsigned max = MIN(MAX(MIN(bytes, RUN_BYTES) >> s->cluster_bits, 1), RUN_MAX);

    while (run->n < max) {
        Qcow2Extent *e = &run->e[run->n];
        uint64_t at = offset + ((uint64_t)run->n << s->cluster_bits);
        int ret = qcow2_co_map(bs, at, bytes - (at - offset), e);

        if (ret < 0) {
            return ret;
        }
        if (e->kind != QCOW2_PACKED || e->bytes != s->cluster_size) {
            if (e->kind == QCOW2_PACKED || e->kind == QCOW2_NORMAL) {
                qcow2_use_end(s, e->epoch);
            }
            break;
        }
        run->n++;
    }
    return 0;
}

/* The streams, neighbours in one request. */
static int coroutine_fn run_co_read(BlockDriverState *bs, PackedRun *run)
{
    uint64_t total = 0;
    int ret = 0;

    for (unsigned i = 0; i < run->n; i++) {
        total += run->e[i].packed_bytes;
    }
    run->in = qemu_try_blockalign(bs->file->bs, total);
    if (!run->in) {
        return -ENOMEM;
    }
    total = 0;
    for (unsigned i = 0, k; i < run->n && !ret; i = k) {
        uint64_t from = run->e[i].host, to = from + run->e[i].packed_bytes;
        QEMUIOVector qiov;

        run->at[i] = total;
        /* The last sector of a stream is mostly the first of the next one too. */
        for (k = i + 1; k < run->n && run->e[k].host > from && run->e[k].host <= to; k++) {
            run->at[k] = total + run->e[k].host - from;
            to = MAX(to, run->e[k].host + run->e[k].packed_bytes);
        }
        qemu_iovec_init_buf(&qiov, run->in + total, to - from);
        ret = qcow2_co_read_file(bs, from, to - from, &qiov, 0, 0);
        total += to - from;
    }
    return ret;
}

int coroutine_fn qcow2_co_read_packed_run(BlockDriverState *bs, const Qcow2Extent *first, uint64_t offset, uint64_t bytes,
                                          void *buf, uint64_t *done)
{
    Qcow2State *s = bs->opaque;
    PackedRun *run = g_new(PackedRun, 1);
    int ret;

    run->zstd = s->compression_type;
    run->cluster_bytes = s->cluster_size;
    run->n = 1;
    run->e[0] = *first;
    run->in = NULL;
    run->out = buf;
    ret = run_co_collect(bs, run, offset, bytes);
    if (!ret) {
        ret = run_co_read(bs, run);
    }
    if (!ret) {
        ret = thread_pool_submit_co(run_unpack, run);
    }
    for (unsigned i = 0; i < run->n; i++) {
        qcow2_use_end(s, run->e[i].epoch);
    }
    *done = (uint64_t)run->n << s->cluster_bits;
    qemu_vfree(run->in);
    g_free(run);
    return ret;
}

/* ---- one cluster ---- */

static int coroutine_fn read_co_stream(BlockDriverState *bs, uint64_t host, uint32_t packed_bytes, void *buf)
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
        ret = read_co_stream(bs, k->host, k->packed_bytes, data);
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

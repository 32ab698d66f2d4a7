/* SPDX-License-Identifier: MIT */
/* prealloc.c: places for clusters before anything is written to them.
 *
 * Where there are no L2 tables yet, which is so in all of a new image, they are made many at a time: one run of
 * clusters behind the end of the file takes the tables and the data that they name, the tables are written in
 * long requests, some at once, and only then, in memory, L1 names them. The next commit makes refcounts and tables durable
 * before it writes L1, as always (commit.c). Where a table is there already its entries change in the cache.
 *
 * New space reads as zeroes. In encrypted images zeroes of the file would read as noise: there the entries say that
 * the clusters are zero; version 2, where they cannot, has encrypted zeroes written.
 *
 * Runs on: the context of the caller, for whom nothing else changes the range.
 */
#include "drivers/format/qcow2/overlap.h"

#define BULK_BYTES   (16 * MiB)     /* of tables, for one run */
#define WRITE_BYTES  (1 * MiB)      /* of tables, in one request */
#define WRITERS      4

/* What entries of new clusters say besides where they are. */
static uint64_t prealloc_flags(const Qcow2State *s)
{
    return QCOW2_COPIED | (s->crypt_method && s->version >= 3 && !s->ext_l2 ? QCOW2_ZERO : 0);
}

/* ... and of subclusters: what is below shows still, also where the header names it and it is not open (a new image). */
static uint64_t prealloc_bits(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    return qcow2_has_backing(bs) || (bs->backing_file && *bs->backing_file) ? 0 : s->crypt_method ? QCOW2_BITS_ZERO : QCOW2_BITS_DATA;
}

/* ---- tables that are there ---- */

/* Clusters for the @n entries from @offset on, which lie in one slice and have none. */
static int coroutine_fn prealloc_co_slice(BlockDriverState *bs, uint64_t offset, uint32_t n,
                                          uint64_t cluster)
{
    Qcow2State *s = bs->opaque;
    uint32_t index;
    Qcow2Table *slice;
    bool dropped;
    int ret;

    qcow2_lock(s);
    do {
        dropped = false;
        ret = qcow2_co_slice_for_write(bs, offset, &slice, &index, &dropped);
        if (!ret && !dropped) {
            qcow2_set_entries(s, slice, index, n, (cluster << s->cluster_bits) | prealloc_flags(s),
                              s->cluster_size, prealloc_bits(bs));
        }
        if (!ret) {
            qcow2_cache_put(&s->l2, slice);
        }
    } while (!ret && dropped);
    qcow2_unlock(s);
    return ret;
}

/* Make the space of a new run, which nothing refers to yet: it reads as zeroes already, unless it was there before. */
static int coroutine_fn prealloc_co_space(BlockDriverState *bs, uint64_t place, uint64_t bytes,
                                          PreallocMode prealloc)
{
    Qcow2State *s = bs->opaque;
    bool encrypt = s->crypt_method && s->version < 3;
    uint64_t chunk = prealloc == PREALLOC_MODE_FULL || encrypt ? 1 * MiB : 1 * GiB;
    QEMUIOVector qiov;
    void *zeroes;
    int ret = 0;

    /* There the end is where it is, and what was there before shows. */
    prealloc = s->fixed_length && prealloc == PREALLOC_MODE_METADATA ? PREALLOC_MODE_FALLOC : prealloc;
    if (prealloc == PREALLOC_MODE_METADATA && !encrypt) {
        /* Only let the file reach to the end of it. */
        place += bytes - BDRV_SECTOR_SIZE;
        bytes = BDRV_SECTOR_SIZE;
    }
    zeroes = qemu_blockalign(bs->file->bs, MIN(chunk, 1 * MiB));
    memset(zeroes, 0, MIN(chunk, 1 * MiB));
    for (uint64_t at = place; at < place + bytes && !ret; at += chunk) {
        uint64_t n = MIN(chunk, place + bytes - at);

        if (encrypt) {
            qemu_iovec_init_buf(&qiov, zeroes, n);
            ret = qcow2_co_write_data(bs, at, n, &qiov, 0, 0);
            continue;
        }
        ret = prealloc == PREALLOC_MODE_FALLOC ? bdrv_co_pwrite_zeroes(bs->file, at, n, 0)
                                               : bdrv_co_pwrite(bs->file, at, n, zeroes, 0);
    }
    qemu_vfree(zeroes);
    return ret;
}

/* Give each cluster of [from, to), all of it below one L2 table, a place behind the end of the file. */
static int coroutine_fn prealloc_co_table(BlockDriverState *bs, uint64_t from, uint64_t to, PreallocMode prealloc)
{
    Qcow2State *s = bs->opaque;
    uint64_t slice_bytes = (uint64_t)s->slice_entries << s->cluster_bits;
    uint64_t n = DIV_ROUND_UP(to - from, s->cluster_size), cluster = from >> s->cluster_bits;
    int ret = 0;

    if (!s->external) {         /* else the space was made with the file's length */
        ret = qcow2_co_alloc_at_end(bs, n, &cluster);
        if (!ret) {
            ret = prealloc_co_space(bs, cluster << s->cluster_bits, n << s->cluster_bits, prealloc);
        }
    }
    while (!ret && from < to) {
        uint64_t piece = MIN(to, QEMU_ALIGN_DOWN(from, slice_bytes) + slice_bytes) - from;
        uint32_t k = DIV_ROUND_UP(piece, s->cluster_size);

        ret = qcow2_co_before_change(bs);
        if (!ret) {
            ret = prealloc_co_slice(bs, from, k, cluster);
        }
        cluster += k;
        from += piece;
    }
    return ret;
}

/* ---- many new tables ---- */

typedef struct Bulk {
    BlockDriverState *bs;
    uint64_t place;             /* of the first table, bytes */
    uint64_t data;              /* the cluster that the first entry names */
    uint64_t entries;           /* in all of them; the rest of the last stays empty */
    uint64_t tables, next;      /* how many; the first that nobody has taken */
    Coroutine *waiter;
    unsigned writers;           /* and the caller, until it waits */
    bool waiting;
    int ret;
} Bulk;

static void bulk_fill(const Bulk *b, uint64_t *words, uint64_t table, uint64_t n)
{
    Qcow2State *s = b->bs->opaque;
    uint64_t first = table * s->l2_entries, count = MIN(n * s->l2_entries, b->entries - first);
    uint64_t entry = ((b->data + first) << s->cluster_bits) | prealloc_flags(s);
    uint64_t bits = GUINT64_TO_BE(prealloc_bits(b->bs));

    if (s->ext_l2) {
        for (uint64_t i = 0; i < count; i++) {
            words[2 * i] = GUINT64_TO_BE(entry + (i << s->cluster_bits));
            words[2 * i + 1] = bits;
        }
    } else {
        for (uint64_t i = 0; i < count; i++) {
            words[i] = GUINT64_TO_BE(entry + (i << s->cluster_bits));
        }
    }
    memset(words + (count << s->ext_l2), 0, (n << s->cluster_bits) - (count << s->ext_l2) * 8);
}

static void coroutine_fn bulk_writer_co(void *opaque)
{
    Bulk *b = opaque;
    Qcow2State *s = b->bs->opaque;
    uint64_t at_once = MIN(MAX(WRITE_BYTES >> s->cluster_bits, 1), b->tables);
    void *buf = qemu_try_blockalign(b->bs->file->bs, at_once << s->cluster_bits);
    int ret = buf ? 0 : -ENOMEM;

    while (!ret && !b->ret && b->next < b->tables) {
        uint64_t table = b->next, n = MIN(at_once, b->tables - table);

        b->next += n;
        bulk_fill(b, buf, table, n);
        bdrv_co_debug_event(b->bs->file->bs, BLKDEBUG_EVENT_L2_ALLOC_WRITE);
        ret = bdrv_co_pwrite(b->bs->file, b->place + (table << s->cluster_bits), n << s->cluster_bits, buf, 0);
    }
    qemu_vfree(buf);
    b->ret = b->ret ? b->ret : ret;
    if (--b->writers == 0 && b->waiting) {
        aio_co_wake(b->waiter);
    }
}

static int coroutine_fn bulk_co_write(Bulk *b)
{
    b->waiter = qemu_coroutine_self();
    b->writers = 1;
    for (unsigned i = 0; i < WRITERS && b->next < b->tables && !b->ret; i++) {
        b->writers++;
        qemu_coroutine_enter(qemu_coroutine_create(bulk_writer_co, b));
    }
    if (--b->writers) {
        b->waiting = true;
        qemu_coroutine_yield();
    }
    return b->ret;
}

/* How many L2 tables from that of @offset on are not there, which is where it begins; 0: it is, or @offset
 * lies within it. */
static uint64_t tables_missing(Qcow2State *s, uint64_t offset, uint64_t to)
{
    uint64_t first = qcow2_l1_index(s, offset), end = MIN(qcow2_l1_needed(s, to), s->l1_size), n = 0;
    uint64_t max = MAX(BULK_BYTES >> s->cluster_bits, 1);

    if (offset & ((1ULL << (s->cluster_bits + s->l2_bits)) - 1)) {
        return 0;
    }
    qcow2_lock(s);
    while (first + n < end && n < max && !s->l1_table[first + n]) {
        n++;
    }
    qcow2_unlock(s);
    return n;
}

static void l1_name_tables(Qcow2State *s, uint64_t first, uint64_t n, uint64_t cluster)
{
    qcow2_lock(s);
    for (uint64_t i = 0; i < n; i++) {
        s->l1_table[first + i] = ((cluster + i) << s->cluster_bits) | QCOW2_COPIED;
    }
    qcow2_overlap_add(s, OVERLAP_ACTIVE_L2, cluster, n);
    s->l1_dirty_from = s->l1_dirty_from < s->l1_dirty_to ? MIN(s->l1_dirty_from, first) : first;
    s->l1_dirty_to = MAX(s->l1_dirty_to, first + n);
    qcow2_unlock(s);
}

/* The @n tables from @from on are not there. */
static int coroutine_fn prealloc_co_bulk(BlockDriverState *bs, uint64_t from, uint64_t to, uint64_t n,
                                         PreallocMode prealloc)
{
    Qcow2State *s = bs->opaque;
    Bulk b = { .bs = bs, .tables = n, .entries = DIV_ROUND_UP(to - from, s->cluster_size) };
    uint64_t clusters = n + (s->external ? 0 : b.entries), cluster;
    int ret = qcow2_co_before_change(bs);

    if (!ret) {
        ret = qcow2_co_alloc_at_end(bs, clusters, &cluster);
    }
    if (ret < 0) {
        return ret;
    }
    b.place = cluster << s->cluster_bits;
    b.data = s->external ? from >> s->cluster_bits : cluster + n;
    if (!s->external) {
        ret = prealloc_co_space(bs, b.data << s->cluster_bits, b.entries << s->cluster_bits, prealloc);
    }
    if (!ret) {
        ret = bulk_co_write(&b);
    }
    if (ret < 0) {
        qcow2_lock(s);
        qcow2_free_clusters(s, cluster, clusters, false);
        qcow2_unlock(s);
        return ret;
    }
    l1_name_tables(s, qcow2_l1_index(s, from), n, cluster);
    return 0;
}

int coroutine_fn qcow2_co_preallocate(BlockDriverState *bs, uint64_t from, uint64_t to, PreallocMode prealloc,
                                      Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t span = 1ULL << (s->cluster_bits + s->l2_bits);
    int ret = 0;

    while (from < to && !ret) {
        uint64_t end, n;

        qemu_co_mutex_lock(&s->l1_lock);
        n = tables_missing(s, from, to);
        end = MIN(to, QEMU_ALIGN_DOWN(from, span) + MAX(n, 1) * span);
        if (n) {
            ret = prealloc_co_bulk(bs, from, end, n, prealloc);
        }
        qemu_co_mutex_unlock(&s->l1_lock);
        if (!n) {
            ret = prealloc_co_table(bs, from, end, prealloc);
        }
        from = end;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not preallocate clusters");
    }
    __atomic_store_n(&s->sparse_data, true, __ATOMIC_RELAXED);
    return ret;
}

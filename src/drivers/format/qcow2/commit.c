/* SPDX-License-Identifier: MIT */
/* commit.c: writing metadata back in the order that a power failure forgives, and freeing
 * clusters after that. The argument is at the head of qcow2.h; the steps below have its
 * numbers.
 *
 * Runs on: the context of whoever flushes, or whose write made too much dirty. Others go on
 * changing tables meanwhile; what a commit writes are copies.
 */
#include "base/trace.h"
#include "drivers/format/qcow2/overlap.h"

#define FREES_PER_COMMIT_MAX 4096

/* A piece of a table on its way to the file. */
typedef struct CommitWrite {
    uint64_t place;             /* in the file */
    uint32_t from, bytes;       /* of the table */
    size_t at;                  /* in the buffer */
    Qcow2Table *table;          /* pinned */
} CommitWrite;

/* What is dirty in one cache. */
typedef struct CommitBatch {
    Qcow2Cache *cache;
    GArray *writes;             /* CommitWrite, by place */
    uint8_t *buf;
} CommitBatch;

/* Part of a table that is in memory as a whole: L1, or the refcount table. */
typedef struct CommitRange {
    uint64_t place;
    uint32_t from, to;          /* entries; sectors as far as the table reaches */
    uint64_t *copy;
} CommitRange;

/* ---- taking copies; `lock` held ---- */

static int write_compare(const void *a, const void *b)
{
    const CommitWrite *x = a, *y = b;

    return x->place < y->place ? -1 : x->place > y->place;
}

static void batch_take(BlockDriverState *bs, CommitBatch *batch, Qcow2Cache *c)
{
    Qcow2Table *t;
    size_t total = 0;

    batch->cache = c;
    batch->writes = g_array_new(false, false, sizeof(CommitWrite));
    batch->buf = NULL;
    TAILQ_FOREACH(t, &c->dirty, dirty) {
        uint32_t from = QEMU_ALIGN_DOWN(t->dirty_from, BDRV_SECTOR_SIZE);
        uint32_t to = ROUND_UP(t->dirty_to, BDRV_SECTOR_SIZE);
        CommitWrite w = { t->offset + from, from, to - from, 0, t };

        g_array_append_val(batch->writes, w);
        total += w.bytes;
    }
    if (!total) {
        return;
    }
    g_array_sort(batch->writes, write_compare);
    batch->buf = qemu_blockalign(bs->file->bs, total);
    total = 0;
    for (guint i = 0; i < batch->writes->len; i++) {
        CommitWrite *w = &g_array_index(batch->writes, CommitWrite, i);

        w->at = total;
        memcpy(batch->buf + total, (uint8_t *)w->table->data + w->from, w->bytes);
        total += w->bytes;
        w->table->pins++;
        qcow2_cache_clean(c, w->table);
    }
}

static void range_take(BlockDriverState *bs, CommitRange *r, uint64_t place, const uint64_t *table,
                       uint32_t size, uint32_t *dirty_from, uint32_t *dirty_to)
{
    const uint32_t per_sector = BDRV_SECTOR_SIZE / 8;

    *r = (CommitRange) { .place = place };
    if (*dirty_from >= *dirty_to) {
        return;
    }
    r->from = QEMU_ALIGN_DOWN(*dirty_from, per_sector);
    r->to = MIN(ROUND_UP(*dirty_to, per_sector), size);
    r->copy = qemu_blockalign(bs->file->bs, (r->to - r->from) * 8ULL);
    for (uint32_t i = r->from; i < r->to; i++) {
        r->copy[i - r->from] = GUINT64_TO_BE(table[i]);
    }
    *dirty_from = *dirty_to = 0;
}

/* ---- writing them ---- */

/* What writing @w is called in rules of blkdebug. @hookup: of new blocks, too, that nothing points to yet. */
static BlkdebugEvent batch_event(Qcow2State *s, const CommitBatch *batch, const CommitWrite *w, bool hookup)
{
    if (batch->cache == &s->l2) {
        return BLKDEBUG_EVENT_L2_UPDATE;
    }
    return w->bytes < s->cluster_size ? BLKDEBUG_EVENT_REFBLOCK_UPDATE_PART
                                      : hookup ? BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE : BLKDEBUG_EVENT_REFBLOCK_UPDATE;
}

/* Neighbours go in one request. */
static int coroutine_fn batch_co_write(BlockDriverState *bs, CommitBatch *batch, bool hookup)
{
    CommitWrite *w = (CommitWrite *)batch->writes->data;
    Qcow2State *s = bs->opaque;
    guint n = batch->writes->len;
    int ret = 0;

    for (guint i = 0, next; i < n && !ret; i = next) {
        uint64_t bytes = w[i].bytes;

        for (next = i + 1; next < n && w[next].place == w[i].place + bytes; next++) {
            bytes += w[next].bytes;
        }
        bdrv_co_debug_event(bs->file->bs, batch_event(s, batch, &w[i], hookup));
        ret = bdrv_co_pwrite(bs->file, w[i].place, bytes, batch->buf + w[i].at, 0);
    }
    return ret;
}

static int coroutine_fn range_co_write(BlockDriverState *bs, CommitRange *r, BlkdebugEvent event)
{
    if (!r->copy) {
        return 0;
    }
    bdrv_co_debug_event(bs->file->bs, event);
    return bdrv_co_pwrite(bs->file, r->place + r->from * 8ULL, (r->to - r->from) * 8ULL, r->copy, 0);
}

/* Give back what was taken; after an error all of it is dirty again. `lock` held. */
static void batch_done(CommitBatch *batch, bool failed)
{
    for (guint i = 0; i < batch->writes->len; i++) {
        CommitWrite *w = &g_array_index(batch->writes, CommitWrite, i);

        if (failed) {
            qcow2_cache_dirty(batch->cache, w->table, w->from, w->from + w->bytes);
        }
        qcow2_cache_put(batch->cache, w->table);
    }
    g_array_free(batch->writes, true);
    qemu_vfree(batch->buf);
}

static void range_done(CommitRange *r, bool failed, uint32_t *dirty_from, uint32_t *dirty_to)
{
    if (r->copy && failed) {
        bool clean = *dirty_from >= *dirty_to;

        *dirty_from = clean ? r->from : MIN(*dirty_from, r->from);
        *dirty_to = clean ? r->to : MAX(*dirty_to, r->to);
    }
    qemu_vfree(r->copy);
}

/* ---- freeing ---- */

void qcow2_free_clusters(Qcow2State *s, uint64_t cluster, uint64_t n, bool discard)
{
    Qcow2Run run = { cluster, n, discard };

    if (s->frees->len) {
        Qcow2Run *last = &g_array_index(s->frees, Qcow2Run, s->frees->len - 1);

        if (last->cluster + last->n == cluster && last->discard == discard) {
            last->n += n;
            return;
        }
    }
    g_array_append_val(s->frees, run);
}

/* The clusters [at, +n), all counted once by @rb, are free. `lock` held; dropped for the
 * discard, while they are still counted and so belong to nobody. */
static void coroutine_fn free_co_last(BlockDriverState *bs, Qcow2Table *rb, uint64_t at, uint64_t n,
                                      bool discard)
{
    Qcow2State *s = bs->opaque;
    uint64_t place = at << s->cluster_bits, bytes = n << s->cluster_bits;
    uint64_t base = at % s->rb_entries;

    qcow2_unpacked_forget(s, place, bytes);
    if (s->pack_next >= place && s->pack_next < place + bytes) {
        qcow2_pack_close(s);
    }
    if (discard) {
        qcow2_unlock(s);
        bdrv_co_pdiscard(bs->file, place, bytes);   /* if it fails, it is only space */
        qcow2_lock(s);
    }
    qcow2_cache_drop(&s->l2, place, bytes);
    qcow2_overlap_clear(s, at, n);
    for (uint64_t i = base; i < base + n; i++) {
        qcow2_refcount_set(rb->data, s->refcount_order, i, 0);
    }
    qcow2_cache_dirty(&s->rb, rb, (base << s->refcount_order) / 8,
                      DIV_ROUND_UP((base + n) << s->refcount_order, 8));
    /* It may lie behind the end that the file had when it was opened (power failed before its data was
     * there), and have been written since. */
    s->fresh_from = MAX(s->fresh_from, at + n);
    qcow2_alloc_freed(s, at, n);
}

/* One reference less for clusters [at, to), all of one block. `lock` held. */
static void coroutine_fn free_co_in_block(BlockDriverState *bs, Qcow2Table *rb, uint64_t at,
                                          uint64_t to, bool discard)
{
    Qcow2State *s = bs->opaque;
    unsigned order = s->refcount_order;

    while (at < to) {
        uint64_t i = at % s->rb_entries, n = 1, count = qcow2_refcount_get(rb->data, order, i);

        if (!count) {
            qcow2_damaged(bs, "Refcount of cluster at offset %#" PRIx64 " is too low",
                          at << s->cluster_bits);
            return;
        }
        if (count > 1) {
            qcow2_refcount_set(rb->data, order, i, count - 1);
            qcow2_cache_dirty(&s->rb, rb, (i << order) / 8, DIV_ROUND_UP((i + 1) << order, 8));
        } else {
            while (at + n < to && qcow2_refcount_get(rb->data, order, i + n) == 1) {
                n++;
            }
            free_co_last(bs, rb, at, n, discard);
        }
        at += n;
    }
}

/* Step 6. commit_lock held. */
static void coroutine_fn commit_co_free(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    qcow2_lock(s);
    if (!s->frees_durable->len || __atomic_load_n(&s->in_use[!s->epoch], __ATOMIC_ACQUIRE)) {
        qcow2_unlock(s);
        return;
    }
    GArray *runs = s->frees_durable;

    s->frees_durable = g_array_new(false, false, sizeof(Qcow2Run));
    qcow2_unlock(s);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_CLUSTER_FREE);
    qcow2_lock(s);
    for (guint i = 0; i < runs->len && !s->corrupt; i++) {
        Qcow2Run *run = &g_array_index(runs, Qcow2Run, i);

        for (uint64_t at = run->cluster; at < run->cluster + run->n && !s->corrupt;) {
            uint64_t to = MIN(run->cluster + run->n, (at / s->rb_entries + 1) * s->rb_entries);
            bool dropped = false;
            Qcow2Table *rb;
            int ret = qcow2_co_refcount_block(bs, at, &rb, &dropped);

            if (ret < 0) {
                break;      /* what cannot be counted stays as a leak */
            }
            if (rb) {
                free_co_in_block(bs, rb, at, to, run->discard);
                qcow2_cache_put(&s->rb, rb);
            } else {
                qcow2_damaged(bs, "No refcount block for cluster at offset %#" PRIx64,
                              at << s->cluster_bits);
            }
            at = to;
        }
    }
    qcow2_unlock(s);
    g_array_free(runs, true);
}

/* ---- the commit ---- */

int coroutine_fn qcow2_co_commit_blocks(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    CommitBatch blocks;

    qcow2_lock(s);
    batch_take(bs, &blocks, &s->rb);
    qcow2_unlock(s);
    int ret = batch_co_write(bs, &blocks, false);
    qcow2_lock(s);
    batch_done(&blocks, ret < 0);
    qcow2_unlock(s);
    return ret;
}

typedef struct Commit {
    CommitBatch blocks, slices;
    CommitRange reftable, l1;
    GArray *frees;              /* Qcow2Run; NULL: none in this commit */
} Commit;

/* Take copies of all that is dirty, at one instant. `lock` held. */
static void commit_take(BlockDriverState *bs, Commit *c, bool with_frees)
{
    Qcow2State *s = bs->opaque;

    batch_take(bs, &c->blocks, &s->rb);
    batch_take(bs, &c->slices, &s->l2);
    range_take(bs, &c->reftable, s->reftable_offset, s->reftable, s->reftable_size,
               &s->reftable_dirty_from, &s->reftable_dirty_to);
    range_take(bs, &c->l1, s->l1_offset, s->l1_table, s->l1_size,
               &s->l1_dirty_from, &s->l1_dirty_to);
    c->frees = NULL;
    if (with_frees && s->frees->len && !s->frees_durable->len &&
        !__atomic_load_n(&s->in_use[!s->epoch], __ATOMIC_ACQUIRE)) {
        c->frees = s->frees;
        s->frees = g_array_new(false, false, sizeof(Qcow2Run));
        s->epoch = !s->epoch;
    }
}

int coroutine_fn qcow2_co_flush_files(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = s->external && s->data_file ? bdrv_co_flush(s->data_file->bs) : 0;

    return ret ? ret : bdrv_co_flush(bs->file->bs);
}

/* Steps 1 to 5. */
static int coroutine_fn commit_co_write(BlockDriverState *bs, Commit *c)
{
    bool has_references = c->slices.writes->len || c->l1.copy;
    int ret = batch_co_write(bs, &c->blocks, c->reftable.copy);

    if (!ret && c->reftable.copy) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFBLOCK_ALLOC_HOOKUP);
        ret = bdrv_co_flush(bs->file->bs);
        if (!ret) {
            ret = range_co_write(bs, &c->reftable, BLKDEBUG_EVENT_REFTABLE_UPDATE);
        }
    }
    if (!ret && has_references) {
        ret = qcow2_co_flush_files(bs);
        if (!ret) {
            ret = batch_co_write(bs, &c->slices, false);
        }
        if (!ret) {
            ret = range_co_write(bs, &c->l1, BLKDEBUG_EVENT_L1_UPDATE);
        }
    }
    if (!ret && c->frees) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    return ret;
}

/* `lock` held. */
static void commit_done(Qcow2State *s, Commit *c, bool failed)
{
    batch_done(&c->blocks, failed);
    batch_done(&c->slices, failed);
    range_done(&c->reftable, failed, &s->reftable_dirty_from, &s->reftable_dirty_to);
    range_done(&c->l1, failed, &s->l1_dirty_from, &s->l1_dirty_to);
    if (c->frees) {
        GArray *to = failed ? s->frees : s->frees_durable;

        g_array_append_vals(to, c->frees->data, c->frees->len);
        g_array_free(c->frees, true);
    }
}

int coroutine_fn qcow2_co_commit_locked(BlockDriverState *bs, bool durable)
{
    Qcow2State *s = bs->opaque;
    Commit c;

    commit_co_free(bs);
    qcow2_lock(s);
    if (s->corrupt) {
        bool dirty = s->l2.n_dirty || s->rb.n_dirty;

        qcow2_unlock(s);
        return dirty ? -EIO : 0;
    }
    commit_take(bs, &c, durable || s->frees->len > FREES_PER_COMMIT_MAX);
    qcow2_unlock(s);

    int ret = commit_co_write(bs, &c);

    TRACE(qcow2, "%s: commit%s: %d", bs->node_name, durable ? ", durable" : "", ret);
    qcow2_lock(s);
    commit_done(s, &c, ret < 0);
    qcow2_unlock(s);
    if (!ret) {
        commit_co_free(bs);
    }
    qcow2_co_note_damage(bs);
    return ret;
}

int coroutine_fn qcow2_co_commit(BlockDriverState *bs, bool durable)
{
    Qcow2State *s = bs->opaque;

    qemu_co_mutex_lock(&s->commit_lock);
    int ret = qcow2_co_commit_locked(bs, durable);
    qemu_co_mutex_unlock(&s->commit_lock);
    return ret;
}

/* Bits of features that we do not keep up must not claim that we did; stored bitmaps are out of date from now on. */
static int coroutine_fn clear_co_autoclear(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    qemu_co_mutex_lock(&s->l1_lock);
    if (__atomic_load_n(&s->autoclear_pending, __ATOMIC_ACQUIRE)) {
        uint64_t kept = s->autoclear & QCOW2_AUTOCLEAR_KNOWN, word = GUINT64_TO_BE(kept);

        if (kept != s->autoclear) {
            ret = bdrv_co_pwrite(bs->file, 88, sizeof(word), &word, 0);
            if (!ret) {
                ret = bdrv_co_flush(bs->file->bs);
            }
        }
        if (!ret) {
            ret = qcow2_co_bitmaps_mark(bs);
        }
        if (!ret) {
            s->autoclear = kept;
            __atomic_store_n(&s->autoclear_pending, false, __ATOMIC_RELEASE);
        }
    }
    qemu_co_mutex_unlock(&s->l1_lock);
    return ret;
}

int coroutine_fn qcow2_co_before_change(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    bool needed;

    if (unlikely(!s->data_file)) {
        return -EIO;        /* opened without it */
    }
    if (unlikely(__atomic_load_n(&s->autoclear_pending, __ATOMIC_ACQUIRE))) {
        int ret = clear_co_autoclear(bs);

        if (ret < 0) {
            return ret;
        }
    }
    qcow2_lock(s);
    needed = s->l2.n_dirty > s->l2.n_max - s->l2.n_max / 8 || s->rb.n_dirty > s->rb.n_max ||
             (s->frees->len > FREES_PER_COMMIT_MAX && !s->frees_durable->len);
    qcow2_unlock(s);
    return needed ? qcow2_co_commit(bs, false) : 0;
}

int coroutine_fn qcow2_co_flush(BlockDriverState *bs)
{
    return qcow2_co_commit(bs, true);
}

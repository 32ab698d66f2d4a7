/* SPDX-License-Identifier: MIT */
/* cache.c: tables of the image in memory.
 *
 * Two caches of this kind: slices of L2 tables, and refcount blocks. The caller holds
 * the image's `lock`; only qcow2_co_cache_get() suspends, without it, to read. While
 * a table is being read others go on; who wants the same table waits for it alone.
 *
 * Limit: clean tables that nobody uses are evicted beyond it. Dirty ones stay until a
 * commit has written them; qcow2_co_before_change() keeps them below half.
 */
#include "drivers/format/qcow2/qcow2.h"

#define MIN_TABLES 4
#define SMALL_TABLE_MAX 4096

void qcow2_cache_init(Qcow2Cache *c, uint32_t table_bytes, uint64_t limit_bytes)
{
    c->tables = g_hash_table_new(g_int64_hash, g_int64_equal);
    c->table_bytes = table_bytes;
    c->n_max = MAX(MIN(limit_bytes / table_bytes, UINT_MAX / 2), MIN_TABLES);
    c->n_dirty = 0;
    TAILQ_INIT(&c->lru);
    TAILQ_INIT(&c->dirty);
}

static void table_free(Qcow2Table *t)
{
    qemu_vfree(t->data);
    g_free(t);
}

/* Out of the cache; freed when nobody holds it any more. */
static void table_remove(Qcow2Cache *c, Qcow2Table *t)
{
    qcow2_cache_clean(c, t);
    if (t->cached) {
        g_hash_table_remove(c->tables, &t->offset);
        TAILQ_REMOVE(&c->lru, t, lru);
        t->cached = false;
    }
    if (!t->pins) {
        table_free(t);
    }
}

void qcow2_cache_forget(Qcow2Cache *c)
{
    Qcow2Table *t;

    while ((t = TAILQ_FIRST(&c->lru))) {
        g_assert(!t->pins);
        table_remove(c, t);
    }
}

void qcow2_cache_forget_clean(Qcow2Cache *c)
{
    Qcow2Table *t, *next;

    TAILQ_FOREACH_SAFE(t, &c->lru, lru, next) {
        if (!table_is_dirty(t)) {
            g_assert(!t->pins);
            table_remove(c, t);
        }
    }
}

void qcow2_cache_destroy(Qcow2Cache *c)
{
    if (!c->tables) {
        return;
    }
    qcow2_cache_forget(c);
    g_hash_table_destroy(c->tables);
    c->tables = NULL;
}

/* Make room for one more, as far as there are tables that can go. */
static void cache_evict(Qcow2Cache *c)
{
    Qcow2Table *t, *next;
    unsigned tries = 16;

    if (g_hash_table_size(c->tables) < c->n_max) {
        return;
    }
    TAILQ_FOREACH_SAFE(t, &c->lru, lru, next) {
        if (!t->pins && !table_is_dirty(t)) {
            table_remove(c, t);
            if (g_hash_table_size(c->tables) < c->n_max) {
                return;
            }
        } else if (!--tries) {
            return;
        }
    }
}

/* Small tables are many: each takes no more than it has, where one that begins a page takes two. */
static void *table_alloc(BlockDriverState *bs, uint32_t bytes)
{
    size_t align = MAX(bs->file->bs->bl.min_mem_alignment, BDRV_SECTOR_SIZE);
    void *data;

    if (bytes > SMALL_TABLE_MAX) {
        return qemu_blockalign(bs->file->bs, bytes);
    }
    data = aligned_alloc(align, ROUND_UP(bytes, align));
    return data ? data : qemu_blockalign(bs->file->bs, bytes);
}

static Qcow2Table *cache_insert(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset)
{
    Qcow2Table *t = g_new0(Qcow2Table, 1);

    cache_evict(c);
    t->offset = offset;
    t->data = table_alloc(bs, c->table_bytes);
    t->pins = 1;
    t->cached = t->used = true;
    qemu_co_queue_init(&t->waiters);
    g_hash_table_insert(c->tables, &t->offset, t);
    TAILQ_INSERT_TAIL(&c->lru, t, lru);
    return t;
}

Qcow2Table *qcow2_cache_peek(Qcow2Cache *c, uint64_t offset)
{
    Qcow2Table *t = g_hash_table_lookup(c->tables, &offset);

    if (!t || t->loading) {
        return NULL;
    }
    t->used = true;
    if (TAILQ_NEXT(t, lru)) {
        TAILQ_REMOVE(&c->lru, t, lru);
        TAILQ_INSERT_TAIL(&c->lru, t, lru);
    }
    return t;
}

void qcow2_cache_put(Qcow2Cache *c, Qcow2Table *t)
{
    g_assert(t->pins);
    if (!--t->pins && !t->cached) {
        table_free(t);
    }
}

/* Read into @t, which is in the cache, marked as loading, and pinned by us. */
static int coroutine_fn cache_co_load(BlockDriverState *bs, Qcow2Cache *c, Qcow2Table *t)
{
    Qcow2State *s = bs->opaque;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, t->data, c->table_bytes);
    qcow2_unlock(s);
    bdrv_co_debug_event(bs->file->bs, c == &s->l2 ? BLKDEBUG_EVENT_L2_LOAD : BLKDEBUG_EVENT_REFBLOCK_LOAD);
    int ret = qcow2_co_read_file(bs, t->offset, c->table_bytes, &qiov, 0, 0);
    qcow2_lock(s);

    t->loading = false;
    t->error = ret;
    qemu_co_queue_restart_all(&t->waiters);
    if (ret < 0 && t->cached) {
        table_remove(c, t);
    }
    return ret;
}

int coroutine_fn qcow2_co_cache_get(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset,
                                    Qcow2Table **table, bool *dropped)
{
    Qcow2State *s = bs->opaque;
    Qcow2Table *t = qcow2_cache_peek(c, offset);
    int ret = 0;

    if (t) {
        t->pins++;
        *table = t;
        return 0;
    }
    if (offset + c->table_bytes > (uint64_t)bdrv_getlength_cached(bs->file->bs)) {
        /* It would read as zeroes: an image that was cut off would look empty, and be written to. */
        qcow2_damaged(bs, "%s at offset %#" PRIx64 " lies behind the end of the image file; is the file cut off?",
                      c == &s->l2 ? "L2 table" : "Refcount block", offset);
        return -EIO;
    }
    *dropped = true;
    t = g_hash_table_lookup(c->tables, &offset);
    if (t) {
        t->pins++;
        while (t->loading) {
            qemu_co_queue_wait_plain(&t->waiters, &s->lock);
        }
        ret = t->error;
    } else {
        t = cache_insert(bs, c, offset);
        t->loading = true;
        ret = cache_co_load(bs, c, t);
    }
    if (ret < 0) {
        qcow2_cache_put(c, t);
        return ret;
    }
    *table = t;
    return 0;
}

Qcow2Table *qcow2_cache_new(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset)
{
    Qcow2Table *t;

    qcow2_cache_drop(c, offset, c->table_bytes);
    t = cache_insert(bs, c, offset);
    memset(t->data, 0, c->table_bytes);
    return t;
}

void qcow2_cache_dirty(Qcow2Cache *c, Qcow2Table *t, uint32_t from, uint32_t to)
{
    g_assert(t->pins && from < to && to <= c->table_bytes);
    if (!t->cached) {
        return;         /* its place was freed */
    }
    if (table_is_dirty(t)) {
        t->dirty_from = MIN(t->dirty_from, from);
        t->dirty_to = MAX(t->dirty_to, to);
    } else {
        t->dirty_from = from;
        t->dirty_to = to;
        TAILQ_INSERT_TAIL(&c->dirty, t, dirty);
        c->n_dirty++;
    }
}

void qcow2_cache_clean(Qcow2Cache *c, Qcow2Table *t)
{
    if (table_is_dirty(t)) {
        TAILQ_REMOVE(&c->dirty, t, dirty);
        c->n_dirty--;
        t->dirty_from = t->dirty_to = 0;
    }
}

void qcow2_cache_drop(Qcow2Cache *c, uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = offset; at < offset + bytes; at += c->table_bytes) {
        Qcow2Table *t = g_hash_table_lookup(c->tables, &at);

        if (t) {
            table_remove(c, t);
        }
    }
}

void qcow2_cache_age(Qcow2Cache *c)
{
    Qcow2Table *t, *next;

    if (!c->tables) {
        return;
    }
    TAILQ_FOREACH_SAFE(t, &c->lru, lru, next) {
        if (!t->used && !t->pins && !table_is_dirty(t)) {
            table_remove(c, t);
        } else {
            t->used = false;
        }
    }
}

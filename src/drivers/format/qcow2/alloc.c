/* SPDX-License-Identifier: MIT */
/* alloc.c: finding free clusters.
 *
 * Clusters are given out from a window: a stretch of one refcount block, which stays in
 * memory meanwhile. That takes a few instructions under `lock`. When the window is used up
 * qcow2_co_alloc_refill() finds the next one:
 *   1  a run that was freed in this session,
 *   2  the next block, in order, that counts a free cluster,
 *   3  a new block, for the region behind the last.
 * The search in 2 goes through the image once and does not come back, except to runs that
 * were freed when freed_runs was full.
 */
#include "drivers/format/qcow2/alloc.h"
#include "drivers/format/qcow2/overlap.h"

#define FREED_RUNS_MAX 65536

/* The file grows by a quarter, but at least and at most by this. */
#define GROW_BYTES_MIN    (1 * MiB)
#define GROW_BYTES_MAX    (64 * MiB)
#define GROW_CLUSTERS_MIN 4

void qcow2_alloc_close_window(Qcow2State *s)
{
    if (s->win_rb) {
        /* What is left of it is found again when the search wraps around. */
        if (s->win_next < s->win_end) {
            qcow2_alloc_freed(s, s->win_next, s->win_end - s->win_next);
        }
        qcow2_cache_put(&s->rb, s->win_rb);
        s->win_rb = NULL;
    }
}

void qcow2_alloc_freed(Qcow2State *s, uint64_t cluster, uint64_t n)
{
    Qcow2Run run = { .cluster = cluster, .n = n };

    if (s->freed_runs->len) {
        Qcow2Run *last = &g_array_index(s->freed_runs, Qcow2Run, s->freed_runs->len - 1);

        if (last->cluster + last->n == cluster) {
            last->n += n;
            return;
        }
    }
    if (s->freed_runs->len >= FREED_RUNS_MAX) {
        s->scan_again = MIN(s->scan_again, cluster);
        return;
    }
    g_array_append_val(s->freed_runs, run);
}

/* A refcount of zero for the header or a table in use: the counts are wrong. */
static bool cluster_is_metadata(Qcow2State *s, uint64_t cluster, uint64_t n)
{
    const struct { uint64_t from, bytes; } used[] = {
        { 0, s->cluster_size },
        { s->l1_offset, s->l1_size * 8ULL },
        { s->reftable_offset, s->reftable_size * 8ULL },
    };
    uint64_t from = cluster << s->cluster_bits, to = (cluster + n) << s->cluster_bits;

    for (size_t i = 0; i < G_N_ELEMENTS(used); i++) {
        if (used[i].bytes && from < used[i].from + used[i].bytes && used[i].from < to) {
            return true;
        }
    }
    return false;
}

uint64_t qcow2_alloc_try(BlockDriverState *bs, uint64_t want, uint64_t *cluster, bool *fresh)
{
    Qcow2State *s = bs->opaque;
    uint64_t base, i, end, n = 0;
    unsigned order = s->refcount_order;

    if (!s->win_rb) {
        return 0;
    }
    base = s->win_next - s->win_next % s->rb_entries;
    end = s->win_end - base;
    for (i = s->win_next - base; i < end && qcow2_refcount_get(s->win_rb->data, order, i); i++) {
    }
    *cluster = base + i;
    bool behind = *cluster >= s->fresh_from;

    /* Zeroes that are decrypted are none. */
    *fresh = behind && !s->crypt_method && !s->fixed_length;
    if (!behind) {
        end = MIN(end, s->fresh_from - base);   /* all or none of a run */
    }
    while (n < want && i + n < end && !qcow2_refcount_get(s->win_rb->data, order, i + n)) {
        n++;
    }
    if (n && cluster_is_metadata(s, *cluster, n)) {
        qcow2_damaged(bs, "Preventing invalid allocation at offset %#" PRIx64,
                      *cluster << s->cluster_bits);
        n = 0;
    } else if (n && qcow2_overlap_data(bs, *cluster << s->cluster_bits, n << s->cluster_bits)) {
        n = 0;
    }
    s->win_next = *cluster + n;
    if (n) {
        refcount_set_run(s, s->win_rb, i, n, 1);
        s->fresh_from = MAX(s->fresh_from, s->win_next);
    }
    if (s->win_next >= s->win_end || !n) {
        s->win_next = s->win_end;
        qcow2_alloc_close_window(s);
    }
    return n;
}

static bool block_has_free(Qcow2State *s, const Qcow2Table *rb, uint64_t from, uint64_t to,
                           uint64_t *first)
{
    for (uint64_t i = from; i < to; i++) {
        if (!qcow2_refcount_get(rb->data, s->refcount_order, i)) {
            *first = i;
            return true;
        }
    }
    return false;
}

/* How many clusters more the file is made to hold when it ends at cluster @from. */
static uint64_t grow_clusters(Qcow2State *s, uint64_t from)
{
    uint64_t bytes = MIN(MAX((from << s->cluster_bits) / 4, GROW_BYTES_MIN), GROW_BYTES_MAX);

    return MAX(bytes >> s->cluster_bits, GROW_CLUSTERS_MIN);
}

/* Let the file reach to cluster @to, which nobody has, nor any behind. If it cannot, the clusters
 * are not entered before they are written. `lock` held; dropped. */
static void coroutine_fn window_co_grow_file(BlockDriverState *bs, uint64_t to)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = to << s->cluster_bits;
    uint8_t *sector;

    if (end <= s->grown_to || s->fixed_length) {
        return;
    }
    qcow2_unlock(s);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_CLUSTER_ALLOC_SPACE);
    sector = qemu_blockalign(bs->file->bs, BDRV_SECTOR_SIZE);
    memset(sector, 0, BDRV_SECTOR_SIZE);
    int ret = bdrv_co_pwrite(bs->file, end - BDRV_SECTOR_SIZE, BDRV_SECTOR_SIZE, sector, 0);

    qemu_vfree(sector);
    qcow2_lock(s);
    if (!ret) {
        s->grown_to = end;
    }
}

/* Give out [from, to), or its beginning. alloc_lock held: while there is no window nobody gets a
 * cluster. `lock` held, may be dropped. Returns the window's end. */
static uint64_t coroutine_fn window_co_open(BlockDriverState *bs, Qcow2Table *rb, uint64_t from, uint64_t to)
{
    Qcow2State *s = bs->opaque;

    g_assert(!s->win_rb);
    if (from < s->fresh_from) {
        to = MIN(to, s->fresh_from);
    } else {
        to = MIN(to, from + grow_clusters(s, from));
        window_co_grow_file(bs, to);
    }
    s->win_rb = rb;
    s->win_next = from;
    s->win_end = to;
    return to;
}

/* A window in [from, to), as far as one block counts it. 1: opened, 0: nothing free there,
 * or -errno. *end: how far was looked, or given out. `lock` held; may be dropped. */
static int coroutine_fn refill_co_from(BlockDriverState *bs, uint64_t from, uint64_t to, uint64_t *end)
{
    Qcow2State *s = bs->opaque;
    uint64_t base = from - from % s->rb_entries, first;
    bool dropped = false;
    Qcow2Table *rb;
    int ret = qcow2_co_refcount_block(bs, from, &rb, &dropped);

    to = MIN(to, base + s->rb_entries);
    *end = to;
    if (ret < 0 || !rb) {
        return ret;
    }
    if (qcow2_overlap_table(bs, rb->offset, "refcount block", OVERLAP_REFBLOCK)) {
        qcow2_cache_put(&s->rb, rb);
        return -EIO;
    }
    if (!block_has_free(s, rb, from - base, to - base, &first)) {
        qcow2_cache_put(&s->rb, rb);
        return 0;
    }
    *end = window_co_open(bs, rb, base + first, to);
    return 1;
}

/* A window in a region that has no block yet. Its block counts itself. `lock` held; may be dropped. */
static int coroutine_fn refill_co_new_block(BlockDriverState *bs, uint64_t r)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster = r * s->rb_entries;
    Qcow2Table *rb;

    if (cluster + s->rb_entries > s->cluster_max) {
        return -EFBIG;
    }
    if (cluster_is_metadata(s, cluster, 1)) {
        qcow2_damaged(bs, "Preventing invalid allocation of refcount block at offset %#" PRIx64,
                      cluster << s->cluster_bits);
        return -EIO;
    }
    rb = refcount_block_new(bs, r, cluster);
    refcount_set_run(s, rb, 0, 1, 1);
    s->scan_next = window_co_open(bs, rb, cluster + 1, cluster + s->rb_entries);
    return 1;
}

/* One step of the search. 1: there is a window, 0: go on, -ERANGE: the table must grow. */
static int coroutine_fn refill_co_step(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    uint64_t r, from, end;
    int ret;

    if (s->corrupt) {
        return -EIO;
    }
    if (s->freed_runs->len) {
        Qcow2Run *run = &g_array_index(s->freed_runs, Qcow2Run, s->freed_runs->len - 1);
        Qcow2Run piece = *run;

        /* A run may reach over several blocks: take the part in the first. */
        piece.n = MIN(piece.n, s->rb_entries - piece.cluster % s->rb_entries);
        run->cluster += piece.n;
        run->n -= piece.n;
        if (!run->n) {
            g_array_set_size(s->freed_runs, s->freed_runs->len - 1);
        }
        ret = refill_co_from(bs, piece.cluster, piece.cluster + piece.n, &end);
        if (ret >= 0 && end < piece.cluster + piece.n) {
            qcow2_alloc_freed(s, end, piece.cluster + piece.n - end);
        }
        return ret;
    }
    from = s->scan_next;
    r = from / s->rb_entries;
    if (r >= s->reftable_size || !s->reftable[r]) {
        if (s->scan_again < from) {
            s->scan_next = s->scan_again;
            s->scan_again = UINT64_MAX;
            return 0;
        }
        if (r >= s->reftable_size) {
            return -ERANGE;
        }
        return refill_co_new_block(bs, r);
    }
    ret = refill_co_from(bs, from, (r + 1) * s->rb_entries, &end);
    if (ret >= 0) {
        s->scan_next = end;
    }
    return ret;
}

int coroutine_fn qcow2_co_alloc_refill(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    qemu_co_mutex_lock(&s->alloc_lock);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFBLOCK_ALLOC);
    qcow2_lock(s);
    while (!ret && !s->win_rb) {
        ret = refill_co_step(bs);
        if (ret == -ERANGE) {
            qcow2_unlock(s);
            ret = reftable_co_grow(bs);
            qcow2_lock(s);
        }
    }
    qcow2_unlock(s);
    qemu_co_mutex_unlock(&s->alloc_lock);
    return MIN(ret, 0);
}

int coroutine_fn qcow2_co_alloc(BlockDriverState *bs, uint64_t want, uint64_t *cluster,
                                uint64_t *n, bool *fresh)
{
    Qcow2State *s = bs->opaque;

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_CLUSTER_ALLOC);
    for (;;) {
        qcow2_lock(s);
        *n = qcow2_alloc_try(bs, want, cluster, fresh);
        qcow2_unlock(s);
        if (*n) {
            return 0;
        }
        int ret = qcow2_co_alloc_refill(bs);

        if (ret < 0) {
            return ret;
        }
    }
}

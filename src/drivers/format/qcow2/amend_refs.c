/* SPDX-License-Identifier: MIT */
/* amend_refs.c: refcounts of another width. All counts are read, and a new structure that holds the same is written
 * behind everything; it counts itself, and no longer the old one, whose clusters are free once the header
 * names the new one. See amend.h. */
#include "drivers/format/qcow2/amend.h"

typedef struct Widen {
    BlockDriverState *bs;
    Qcow2State *s;
    unsigned order;             /* new */
    uint64_t rb_entries, max;   /* new */
    Qcow2Refs old;              /* counts: all clusters, without the structure that counts them */
    uint64_t pages_max;         /* of counters */
    uint64_t used_end;          /* cluster behind the last one that is used */
    uint64_t first, blocks, table_clusters, entries;    /* the new structure */
    uint64_t *reftable;
    Error **errp;
} Widen;

/* ---- reading ---- */

static int read_block_fn(void *opaque, uint64_t r, void *block, bool *changed)
{
    Widen *w = opaque;
    Qcow2State *s = w->s;

    for (uint64_t i = 0, k = r * s->rb_entries; i < s->rb_entries && k < w->old.clusters; i++, k++) {
        uint64_t count = qcow2_refcount_get(block, s->refcount_order, i);

        if (!count) {
            continue;
        }
        if (count > w->max || count > UINT32_MAX) {
            error_setg(w->errp, "Cannot decrease refcount entry width to %u bits: Cluster at offset %#" PRIx64
                       " has a refcount of %" PRIu64, 1u << w->order, k << s->cluster_bits, count);
            return -EINVAL;
        }
        if (w->old.counts.n_made > w->pages_max) {
            error_setg(w->errp, "The image refers to more places than its file can hold");
            error_append_hint(w->errp, "The image is damaged; `liveblk check` tells more.\n");
            return -EFBIG;
        }
        check_counts_add(&w->old.counts, k, count);
    }
    return 0;
}

static void forget_structure(Widen *w)
{
    Qcow2State *s = w->s;
    uint64_t table = s->reftable_offset >> s->cluster_bits, n = s->reftable_size * 8ULL >> s->cluster_bits;

    for (uint64_t r = 0; r < s->reftable_size + n; r++) {
        uint64_t k = r < n ? table + r : s->reftable[r - n] >> s->cluster_bits;

        if (k && check_counts_get(&w->old.counts, k)) {
            check_counts_sub(&w->old.counts, k, 1);
        }
    }
}

static int coroutine_fn co_read_counts(Widen *w)
{
    GArray *places = g_array_new(false, false, sizeof(Qcow2Place));
    int ret;

    for (uint64_t r = 0; r < w->s->reftable_size; r++) {
        Qcow2Place p = { w->s->reftable[r] & QCOW2_OFFSET_MASK, r };

        if (p.offset && !qcow2_in_cluster(w->s, p.offset)) {
            g_array_append_val(places, p);
        }
    }
    ret = qcow2_co_walk_tables(w->bs, places, 4, read_block_fn, w);
    g_array_free(places, true);
    forget_structure(w);
    for (uint64_t k = w->old.clusters; k-- > 0;) {
        if (!w->old.counts.pages[k >> CHECK_PAGE_BITS]) {
            k &= ~(uint64_t)(CHECK_PAGE - 1);
        } else if (check_counts_get(&w->old.counts, k)) {
            w->used_end = k + 1;
            break;
        }
    }
    return ret;
}

/* ---- the new structure ---- */

static bool range_is_used(const Widen *w, uint64_t r)
{
    uint64_t from = r * w->rb_entries, to = from + w->rb_entries;

    if (from < w->first + w->blocks + w->table_clusters && to > w->first) {
        return true;
    }
    for (uint64_t k = from; k < MIN(to, w->used_end); k++) {
        if (!w->old.counts.pages[k >> CHECK_PAGE_BITS]) {
            k |= CHECK_PAGE - 1;
        } else if (check_counts_get(&w->old.counts, k)) {
            return true;
        }
    }
    return false;
}

/* How many blocks and clusters of table it takes, themselves included. */
static int plan(Widen *w)
{
    Qcow2State *s = w->s;

    for (;;) {
        uint64_t end = w->first + w->blocks + w->table_clusters, blocks = 0, clusters;

        if (end > s->cluster_max) {
            return -EFBIG;
        }
        w->entries = DIV_ROUND_UP(MAX(end, 1), w->rb_entries);
        clusters = DIV_ROUND_UP(w->entries * 8, s->cluster_size);
        if (clusters * s->cluster_size > QCOW2_MAX_REFTABLE_BYTES) {
            return -EFBIG;
        }
        for (uint64_t r = 0; r < w->entries; r++) {
            blocks += range_is_used(w, r);
        }
        if (blocks <= w->blocks && clusters <= w->table_clusters) {
            return 0;
        }
        w->blocks = MAX(blocks, w->blocks);
        w->table_clusters = MAX(clusters, w->table_clusters);
    }
}

static int coroutine_fn co_write_blocks(Widen *w)
{
    Qcow2State *s = w->s;
    uint64_t end = w->first + w->blocks + w->table_clusters, at = w->first;
    uint8_t *block = qemu_try_blockalign(w->bs->file->bs, s->cluster_size);
    int ret = block ? 0 : -ENOMEM;

    for (uint64_t r = 0; r < w->entries && !ret; r++) {
        if (!range_is_used(w, r)) {
            continue;
        }
        memset(block, 0, s->cluster_size);
        for (uint64_t i = 0, k = r * w->rb_entries; i < w->rb_entries; i++, k++) {
            uint64_t count = k < w->used_end ? check_counts_get(&w->old.counts, k) : k >= w->first && k < end;

            if (count) {
                qcow2_refcount_set(block, w->order, i, count);
            }
        }
        w->reftable[r] = GUINT64_TO_BE(at << s->cluster_bits);
        ret = bdrv_co_pwrite(w->bs->file, at++ << s->cluster_bits, s->cluster_size, block, 0);
    }
    qemu_vfree(block);
    return ret;
}

static int coroutine_fn co_write_structure(Widen *w)
{
    Qcow2State *s = w->s;
    uint64_t bytes = w->table_clusters << s->cluster_bits;
    int ret;

    w->reftable = qemu_try_blockalign(w->bs->file->bs, bytes);
    if (!w->reftable) {
        return -ENOMEM;
    }
    memset(w->reftable, 0, bytes);
    ret = co_write_blocks(w);
    if (!ret) {
        ret = bdrv_co_pwrite(w->bs->file, (w->first + w->blocks) << s->cluster_bits, bytes, w->reftable, 0);
    }
    return ret ? ret : bdrv_co_flush(w->bs->file->bs);
}

int coroutine_fn qcow2_co_amend_refcounts(BlockDriverState *bs, unsigned order, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Error *err = NULL;
    Widen w = {
        .bs = bs, .s = s, .order = order, .rb_entries = s->cluster_size * 8ULL >> order,
        .max = order == 6 ? UINT64_MAX : (1ULL << (1u << order)) - 1, .errp = &err,
    };
    int ret;

    qcow2_forget_tables(s);
    ret = qcow2_refs_init(s, &w.old) ? 0 : -ENOMEM;
    if (!ret) {
        w.pages_max = check_co_pages_max(bs);
        ret = co_read_counts(&w);
    }
    if (!ret) {
        w.first = MAX(w.used_end, s->fresh_from);
        ret = plan(&w);
    }
    if (!ret) {
        /* Should this fail, what was written there is no zeroes any more. */
        s->fresh_from = MAX(s->fresh_from, w.first + w.blocks + w.table_clusters);
        ret = co_write_structure(&w);
    }
    if (!ret) {
        s->refcount_order = order;
        s->rb_entries = w.rb_entries;
        s->reftable_offset = (w.first + w.blocks) << s->cluster_bits;
        s->reftable_size = (w.table_clusters << s->cluster_bits) / 8;
        ret = qcow2_co_amend_header(bs, &err);
    }
    if (!ret) {
        ret = qcow2_co_reload(bs);
    }
    qemu_vfree(w.reftable);
    qcow2_refs_free(&w.old);
    if (err) {
        error_propagate(errp, err);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not make a new refcount structure");
    }
    return ret;
}

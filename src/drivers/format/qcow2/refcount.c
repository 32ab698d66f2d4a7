/* SPDX-License-Identifier: MIT */
/* refcount.c: refcount blocks and their table: reading, making, growing.
 *
 * Block r counts the clusters [r * rb_entries, (r + 1) * rb_entries). A new block lies in
 * the first cluster that it counts itself, where it is made for the next free region; or
 * behind a run of clusters that had to be in one piece.
 *
 * Growing the table: the new one, with the blocks that count it, goes behind everything. All
 * of it is made durable before the header points to it, so that at any moment the header's
 * table is complete. alloc_lock is held: no other block is made meanwhile; commit_lock is
 * held: nothing is written through the old table.
 */
#include "drivers/format/qcow2/alloc.h"
#include "drivers/format/qcow2/overlap.h"

uint64_t qcow2_refcount_get(const void *block, unsigned order, uint64_t i)
{
    const uint8_t *b = block;

    switch (order) {
    case 0: case 1: case 2: {
        unsigned bits = 1u << order, per_byte = 8 >> order;

        return (b[i / per_byte] >> (i % per_byte * bits)) & ((1u << bits) - 1);
    }
    case 3:
        return b[i];
    case 4:
        return GUINT16_FROM_BE(((const uint16_t *)block)[i]);
    case 5:
        return GUINT32_FROM_BE(((const uint32_t *)block)[i]);
    default:
        return GUINT64_FROM_BE(((const uint64_t *)block)[i]);
    }
}

void qcow2_refcount_set(void *block, unsigned order, uint64_t i, uint64_t value)
{
    uint8_t *b = block;

    switch (order) {
    case 0: case 1: case 2: {
        unsigned bits = 1u << order, per_byte = 8 >> order;
        unsigned shift = i % per_byte * bits;
        uint8_t mask = ((1u << bits) - 1) << shift;

        b[i / per_byte] = (b[i / per_byte] & ~mask) | (value << shift);
        break;
    }
    case 3:
        b[i] = value;
        break;
    case 4:
        ((uint16_t *)block)[i] = GUINT16_TO_BE(value);
        break;
    case 5:
        ((uint32_t *)block)[i] = GUINT32_TO_BE(value);
        break;
    default:
        ((uint64_t *)block)[i] = GUINT64_TO_BE(value);
        break;
    }
}

void refcount_set_run(Qcow2State *s, Qcow2Table *rb, uint64_t i, uint64_t n, uint64_t value)
{
    unsigned order = s->refcount_order;

    if (order == 4) {           /* the usual one, and there may be many */
        uint16_t *counts = rb->data, be = GUINT16_TO_BE(value);

        for (uint64_t k = i; k < i + n; k++) {
            counts[k] = be;
        }
    } else {
        for (uint64_t k = i; k < i + n; k++) {
            qcow2_refcount_set(rb->data, order, k, value);
        }
    }
    qcow2_cache_dirty(&s->rb, rb, (i << order) / 8, DIV_ROUND_UP((i + n) << order, 8));
}

int coroutine_fn qcow2_co_refcount_block(BlockDriverState *bs, uint64_t cluster,
                                         Qcow2Table **table, bool *dropped)
{
    Qcow2State *s = bs->opaque;
    uint64_t r = cluster / s->rb_entries;
    uint64_t place = r < s->reftable_size ? s->reftable[r] : 0;

    *table = NULL;
    if (!place) {
        return 0;
    }
    if ((place & ~QCOW2_OFFSET_MASK) || qcow2_in_cluster(s, place)) {
        qcow2_damaged(bs, "Refblock offset %#" PRIx64 " unaligned (reftable index: %#" PRIx64 ")",
                      place, r);
        return -EIO;
    }
    return qcow2_co_cache_get(bs, &s->rb, place, table, dropped);
}

void reftable_set(Qcow2State *s, uint64_t r, uint64_t place)
{
    s->reftable[r] = place;
    if (s->reftable_dirty_from >= s->reftable_dirty_to) {
        s->reftable_dirty_from = r;
        s->reftable_dirty_to = r + 1;
    }
    s->reftable_dirty_from = MIN(s->reftable_dirty_from, r);
    s->reftable_dirty_to = MAX(s->reftable_dirty_to, r + 1);
}

Qcow2Table *refcount_block_new(BlockDriverState *bs, uint64_t r, uint64_t cluster)
{
    Qcow2State *s = bs->opaque;
    Qcow2Table *rb = qcow2_cache_new(bs, &s->rb, cluster << s->cluster_bits);

    g_assert(!s->reftable[r]);
    qcow2_cache_dirty(&s->rb, rb, 0, s->cluster_size);
    reftable_set(s, r, cluster << s->cluster_bits);
    qcow2_overlap_add(s, OVERLAP_REFBLOCK, cluster, 1);
    s->fresh_from = MAX(s->fresh_from, cluster + 1);
    return rb;
}

/* Behind the last cluster that is counted, or was ever used here. */
static int coroutine_fn clusters_co_end(BlockDriverState *bs, uint64_t *end)
{
    Qcow2State *s = bs->opaque;
    uint64_t r = s->reftable_size, last = 0;

    while (r && !last) {
        bool dropped = false;
        Qcow2Table *rb;
        int ret;

        r--;
        ret = qcow2_co_refcount_block(bs, r * s->rb_entries, &rb, &dropped);
        if (ret < 0) {
            return ret;
        }
        if (!rb) {
            continue;
        }
        for (uint64_t i = s->rb_entries; i-- > 0;) {
            if (qcow2_refcount_get(rb->data, s->refcount_order, i)) {
                last = r * s->rb_entries + i + 1;
                break;
            }
        }
        qcow2_cache_put(&s->rb, rb);
    }
    *end = MAX(last, s->fresh_from);
    return 0;
}

/* How many new blocks it takes to count [start, +n) and themselves, placed right behind. */
static uint64_t blocks_needed(Qcow2State *s, uint64_t start, uint64_t n, uint64_t *end)
{
    uint64_t blocks = 0, missing;

    for (;;) {
        *end = start + n + blocks;
        missing = 0;
        for (uint64_t r = start / s->rb_entries; r <= (*end - 1) / s->rb_entries; r++) {
            missing += r >= s->reftable_size || !s->reftable[r];
        }
        if (missing <= blocks) {
            return blocks;
        }
        blocks = missing;
    }
}

/* Count [start, +n) and the blocks that this takes. The refcount table reaches far enough. */
static int coroutine_fn clusters_co_reserve(BlockDriverState *bs, uint64_t start, uint64_t n)
{
    Qcow2State *s = bs->opaque;
    uint64_t end, next_block = start + n;
    uint64_t blocks = blocks_needed(s, start, n, &end);

    s->fresh_from = MAX(s->fresh_from, end);
    for (uint64_t at = start; at < end;) {
        uint64_t r = at / s->rb_entries, to = MIN(end, (r + 1) * s->rb_entries);
        bool dropped = false;
        Qcow2Table *rb;

        if (!s->reftable[r]) {
            g_assert(blocks > 0);
            blocks--;
            rb = refcount_block_new(bs, r, next_block++);
        } else {
            int ret = qcow2_co_refcount_block(bs, at, &rb, &dropped);

            if (ret < 0) {
                return ret;     /* what was counted so far is a leak */
            }
        }
        refcount_set_run(s, rb, at % s->rb_entries, to - at, 1);
        qcow2_cache_put(&s->rb, rb);
        at = to;
    }
    return 0;
}

/* Write the whole table at @place, make it durable, and let the header point to it. */
static int coroutine_fn reftable_co_switch(BlockDriverState *bs, uint64_t place)
{
    Qcow2State *s = bs->opaque;
    size_t bytes = s->reftable_size * 8ULL;
    uint64_t *copy = qemu_try_blockalign(bs->file->bs, bytes);
    uint64_t be_place = GUINT64_TO_BE(place);
    uint32_t be_clusters = GUINT32_TO_BE(bytes >> s->cluster_bits);
    uint8_t fields[12];         /* the header's offset and length of the table */
    int ret;

    if (!copy) {
        return -ENOMEM;
    }
    qcow2_lock(s);
    for (uint32_t i = 0; i < s->reftable_size; i++) {
        copy[i] = GUINT64_TO_BE(s->reftable[i]);
    }
    qcow2_unlock(s);

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE_TABLE);
    ret = bdrv_co_pwrite(bs->file, place, bytes, copy, 0);
    qemu_vfree(copy);
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        return ret;
    }
    memcpy(fields, &be_place, 8);
    memcpy(fields + 8, &be_clusters, 4);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFBLOCK_ALLOC_SWITCH_TABLE);
    ret = bdrv_co_pwrite(bs->file, 48, sizeof(fields), fields, 0);
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        /* Which table the header on disk points to is not known. What is there is
         * consistent with either; more must not be written. */
        qcow2_lock(s);
        s->corrupt = s->header_lost = true;
        qcow2_unlock(s);
        error_report("qcow2: could not update the header of '%s'; no more writes are done to it",
                     bs->filename);
    }
    return ret;
}

/* Make room in memory for a table that also counts its own new place. @place: where that
 * is, in clusters; *clusters: its length. `lock` held. */
static int coroutine_fn reftable_co_plan(BlockDriverState *bs, uint64_t *place, uint64_t *clusters)
{
    Qcow2State *s = bs->opaque;
    uint64_t per_cluster = s->cluster_size / 8, end, entries = s->reftable_size;
    int ret = clusters_co_end(bs, place);

    if (ret < 0) {
        return ret;
    }
    entries += entries / 2 + 1;
    do {
        *clusters = DIV_ROUND_UP(entries, per_cluster);
        entries = *clusters * per_cluster;
        blocks_needed(s, *place, *clusters, &end);
        if (entries * 8 > QCOW2_MAX_REFTABLE_BYTES || end > s->cluster_max) {
            return -EFBIG;
        }
        if ((end - 1) / s->rb_entries < entries) {
            break;
        }
        entries = (end - 1) / s->rb_entries + 1;
    } while (true);
    s->reftable = g_renew(uint64_t, s->reftable, entries);
    memset(s->reftable + s->reftable_size, 0, (entries - s->reftable_size) * 8);
    s->reftable_size = entries;
    return 0;
}

int coroutine_fn reftable_co_grow(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_size, old_place, place, clusters;

    qemu_co_mutex_lock(&s->commit_lock);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFTABLE_GROW);
    int ret = qcow2_co_commit_locked(bs, false);

    if (ret < 0) {
        goto out;
    }
    qcow2_lock(s);
    old_size = s->reftable_size;
    old_place = s->reftable_offset;
    ret = reftable_co_plan(bs, &place, &clusters);
    if (!ret) {
        ret = clusters_co_reserve(bs, place, clusters);
    }
    qcow2_unlock(s);
    if (!ret) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE_BLOCKS);
        ret = qcow2_co_commit_blocks(bs);
    }
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (!ret) {
        ret = reftable_co_switch(bs, place << s->cluster_bits);
    }
    qcow2_lock(s);
    if (ret < 0) {
        /* New blocks within the old table stay; the others are as if they had never been. */
        s->reftable_size = old_size;
        s->reftable_dirty_to = MIN(s->reftable_dirty_to, old_size);
    } else {
        s->reftable_dirty_from = s->reftable_dirty_to = 0;
        s->reftable_offset = place << s->cluster_bits;
        qcow2_overlap_add(s, OVERLAP_REFTABLE, place, clusters);
        qcow2_free_clusters(s, old_place >> s->cluster_bits,
                            DIV_ROUND_UP(old_size * 8, s->cluster_size), false);
    }
    qcow2_unlock(s);
out:
    qemu_co_mutex_unlock(&s->commit_lock);
    return ret;
}

int coroutine_fn qcow2_co_alloc_at_end(BlockDriverState *bs, uint64_t n, uint64_t *cluster)
{
    Qcow2State *s = bs->opaque;
    uint64_t end;
    int ret;

    qemu_co_mutex_lock(&s->alloc_lock);
    for (;;) {
        qcow2_lock(s);
        qcow2_alloc_close_window(s);
        ret = s->corrupt ? -EIO : clusters_co_end(bs, cluster);
        if (!ret) {
            blocks_needed(s, *cluster, n, &end);
            if (end > s->cluster_max) {
                ret = -EFBIG;
            } else if ((end - 1) / s->rb_entries < s->reftable_size) {
                ret = clusters_co_reserve(bs, *cluster, n);
                qcow2_unlock(s);
                break;
            }
        }
        qcow2_unlock(s);
        if (!ret) {
            ret = reftable_co_grow(bs);
        }
        if (ret < 0) {
            break;
        }
    }
    qemu_co_mutex_unlock(&s->alloc_lock);
    return ret;
}

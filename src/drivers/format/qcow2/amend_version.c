/* SPDX-License-Identifier: MIT */
/* amend_version.c: from version 2 to 3 and back; see amend.h.
 *
 * Up: all that version 2 has means the same in version 3; but its table of snapshots has to say more.
 *
 * Down: version 2 knows no zero clusters. Where nothing lies below, those without a place become unallocated; all
 * others get zeroes as data; first those of the disk, as any write would do it, then those of the
 * snapshots, where they stand: who reads such a table sees the same before and after.
 */
#include "drivers/format/qcow2/amend.h"
#include "drivers/format/qcow2/bitmap.h"
#include "drivers/format/qcow2/overlap.h"

#define ZERO_CHUNK (1 * MiB)

/* ---- up ---- */

/* Write the table of snapshots anew; the state names it then, the header not yet. */
static int coroutine_fn co_rewrite_snapshots(BlockDriverState *bs, uint64_t *old_place, uint64_t *old_bytes)
{
    Qcow2State *s = bs->opaque;
    GByteArray *table = qcow2_snapshot_table_build(s->snapshots);
    uint64_t bytes = ROUND_UP(table->len, s->cluster_size), cluster;
    int ret = qcow2_co_alloc_at_end(bs, bytes >> s->cluster_bits, &cluster);

    *old_place = s->snapshots_offset;
    *old_bytes = s->snapshots_bytes;
    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    if (!ret) {
        uint64_t len = table->len;
        guint whole = ROUND_UP(len, BDRV_SECTOR_SIZE);

        g_byte_array_set_size(table, whole);
        memset(table->data + len, 0, whole - len);
        ret = bdrv_co_pwrite(bs->file, cluster << s->cluster_bits, whole, table->data, 0);
        if (!ret) {
            ret = bdrv_co_flush(bs->file->bs);
        }
        s->snapshots_offset = ret ? s->snapshots_offset : cluster << s->cluster_bits;
        s->snapshots_bytes = ret ? s->snapshots_bytes : len;
    }
    g_byte_array_unref(table);
    return ret;
}

int coroutine_fn qcow2_co_upgrade(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Ext names = { .magic = QCOW2_EXT_FEATURES };
    uint64_t old_place = 0, old_bytes = 0;
    int ret = s->nb_snapshots ? co_rewrite_snapshots(bs, &old_place, &old_bytes) : 0;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the table of snapshots");
        return ret;
    }
    s->version = 3;
    s->header_length = QCOW2_V3_HEADER_WRITTEN;
    names.data = qcow2_feature_names(&names.len);
    g_array_append_val(s->extensions, names);
    ret = qcow2_co_amend_header(bs, errp);
    if (!ret && old_bytes) {
        qcow2_lock(s);
        qcow2_free_clusters(s, old_place >> s->cluster_bits, DIV_ROUND_UP(old_bytes, s->cluster_size), false);
        qcow2_unlock(s);
        qcow2_co_overlap_build(bs);
        qcow2_co_settle(bs);
    }
    return ret;
}

/* ---- down: the disk ---- */

static bool has_below(BlockDriverState *bs)
{
    return qcow2_has_backing(bs) || (bs->backing_file && *bs->backing_file);
}

/* [at, +bytes) are zero clusters; @bare: without a place. */
static int coroutine_fn co_expand(BlockDriverState *bs, uint64_t at, uint64_t bytes, bool bare)
{
    Qcow2State *s = bs->opaque;
    uint8_t *zeroes;
    int ret = 0;

    if (at >= s->length_bytes || (bare && !has_below(bs))) {
        return qcow2_co_unmap(bs, at, ROUND_UP(bytes, (uint64_t)s->cluster_size));
    }
    zeroes = qemu_try_blockalign(bs->file->bs, ZERO_CHUNK);
    if (!zeroes) {
        return -ENOMEM;
    }
    memset(zeroes, 0, ZERO_CHUNK);
    for (uint64_t done = 0; done < bytes && !ret; done += ZERO_CHUNK) {
        QEMUIOVector qiov;

        qemu_iovec_init_buf(&qiov, zeroes, MIN(bytes - done, ZERO_CHUNK));
        ret = qcow2_co_pwritev(bs, at + done, qiov.size, &qiov, 0, 0);
    }
    qemu_vfree(zeroes);
    return ret;
}

static int coroutine_fn co_expand_disk(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = (uint64_t)s->l1_size << (s->cluster_bits + s->l2_bits);
    int ret = 0;

    for (uint64_t at = 0, n; at < end && !ret; at += n) {
        uint64_t part = at < s->length_bytes ? ROUND_UP(s->length_bytes, (uint64_t)s->cluster_size) : end;
        Qcow2Extent e;

        ret = qcow2_co_map(bs, at, part - at, &e);
        if (ret < 0) {
            break;
        }
        n = e.bytes;
        if (e.kind == QCOW2_NORMAL || e.kind == QCOW2_PACKED) {
            qcow2_use_end(s, e.epoch);
        } else if (e.kind != QCOW2_UNALLOCATED) {
            ret = co_expand(bs, at, MIN(n, at < s->length_bytes ? s->length_bytes - at : n), e.kind == QCOW2_ZERO_PLAIN);
        }
    }
    return ret;
}

/* ---- down: snapshots ---- */

typedef struct Expand {
    BlockDriverState *bs;
    Qcow2State *s;
    CheckCounts times;          /* how often an L2 table is named, by snapshots and the disk */
    Qcow2Refs more;             /* references to new clusters beyond their first */
    bool any_more;
} Expand;

/* Zeroes that read as zeroes. */
static int coroutine_fn expand_co_encrypted(Expand *x, uint64_t place)
{
    uint8_t *zeroes = qemu_try_blockalign(x->bs->file->bs, x->s->cluster_size);
    QEMUIOVector qiov;

    if (!zeroes) {
        return -ENOMEM;
    }
    memset(zeroes, 0, x->s->cluster_size);
    qemu_iovec_init_buf(&qiov, zeroes, x->s->cluster_size);
    int ret = qcow2_co_write_data(x->bs, place, qiov.size, &qiov, 0, 0);

    qemu_vfree(zeroes);
    return ret;
}

/* The new entry for @entry, which is ZERO, in a table that is named @times times. co */
static int coroutine_fn expand_co_entry(Expand *x, uint64_t entry, uint32_t times, uint64_t *new)
{
    Qcow2State *s = x->s;
    uint64_t place = entry & QCOW2_OFFSET_MASK, cluster, n;
    bool fresh;
    int ret;

    if (!place && !has_below(x->bs)) {
        *new = 0;
        return 0;
    }
    if (!place) {
        ret = qcow2_co_alloc(x->bs, 1, &cluster, &n, &fresh);
        if (ret < 0) {
            return ret;
        }
        place = cluster << s->cluster_bits;
        if (times > 1) {
            /* The refcount table may have grown for it. */
            if (!check_counts_grow(&x->more.counts, cluster + 1)) {
                return -ENOMEM;
            }
            x->more.clusters = MAX(x->more.clusters, cluster + 1);
            check_counts_add(&x->more.counts, cluster, times - 1);
            x->any_more = true;
        }
    }
    /* Others that have this cluster have it as a zero cluster too. */
    *new = place;
    return s->crypt ? expand_co_encrypted(x, place) : bdrv_co_pwrite_zeroes(x->bs->file, place, s->cluster_size, 0);
}

static int coroutine_fn expand_table_fn(void *opaque, uint64_t cluster, void *table, bool *changed)
{
    Expand *x = opaque;
    uint64_t *words = table;
    uint32_t times = check_counts_get(&x->times, cluster);
    int ret = 0;

    for (uint64_t i = 0; i < x->s->l2_entries && !ret; i++) {
        uint64_t entry = GUINT64_FROM_BE(words[i]), new = 0;

        if (!(entry & QCOW2_ZERO) || (entry & QCOW2_COMPRESSED)) {
            continue;
        }
        ret = expand_co_entry(x, entry, times, &new);
        if (!ret) {
            words[i] = GUINT64_TO_BE(new);
            *changed = true;
        }
    }
    /* What the entries name is counted and there before they are. */
    if (!ret && *changed) {
        ret = qcow2_co_settle(x->bs);
    }
    if (!ret && x->any_more) {
        qcow2_forget_tables(x->s);
        ret = qcow2_co_refs_step(x->bs, &x->more, REFS_ADD, NULL);
        qcow2_refs_free(&x->more);
        x->any_more = false;
        if (!qcow2_refs_init(x->s, &x->more)) {
            ret = ret ? ret : -ENOMEM;
        }
    }
    return !ret && *changed ? bdrv_co_flush(x->bs->file->bs) : ret;
}

/* The L2 tables that snapshots have, each once, with x->times. */
static int coroutine_fn expand_co_places(Expand *x, GArray *places, Error **errp)
{
    Qcow2State *s = x->s;

    for (guint k = 0; k < s->snapshots->len; k++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, k);
        g_autofree uint64_t *l1 = qcow2_co_snapshot_l1(x->bs, sn, 0, errp);

        for (uint32_t i = 0; l1 && i < sn->l1_size; i++) {
            Qcow2Place p = { l1[i] & QCOW2_OFFSET_MASK, (l1[i] & QCOW2_OFFSET_MASK) >> s->cluster_bits };

            if (!p.offset || qcow2_in_cluster(s, p.offset) || p.index >= x->more.clusters) {
                continue;
            }
            if (!check_counts_get(&x->times, p.index)) {
                g_array_append_val(places, p);
            }
            check_counts_add(&x->times, p.index, 1);
        }
        if (!l1) {
            return -EIO;
        }
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        uint64_t cluster = (s->l1_table[i] & QCOW2_OFFSET_MASK) >> s->cluster_bits;

        if (cluster && cluster < x->more.clusters && check_counts_get(&x->times, cluster)) {
            check_counts_add(&x->times, cluster, 1);
        }
    }
    return 0;
}

static int coroutine_fn co_expand_snapshots(BlockDriverState *bs, Error **errp)
{
    Expand x = { .bs = bs, .s = bs->opaque };
    GArray *places = g_array_new(false, false, sizeof(Qcow2Place));
    int ret = -ENOMEM;

    if (!qcow2_refs_init(x.s, &x.more) || !check_counts_init(&x.times, x.more.clusters)) {
        error_setg_errno(errp, ENOMEM, "Could not count the references of the image");
    } else {
        ret = expand_co_places(&x, places, errp);
    }
    qcow2_forget_tables(x.s);
    if (!ret) {
        ret = qcow2_co_walk_tables(bs, places, 1, expand_table_fn, &x);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to turn zero into data clusters");
        }
    }
    qcow2_forget_tables(x.s);
    check_counts_free(&x.times);
    qcow2_refs_free(&x.more);
    g_array_free(places, true);
    return ret;
}

/* ---- down ---- */

static int check_downgrade(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t incompatible = s->incompatible & ~QCOW2_INCOMPAT_CORRUPT;

    if (s->external) {
        error_setg(errp, "Cannot downgrade an image with a data file");
        return -ENOTSUP;
    }
    if (s->incompatible & QCOW2_INCOMPAT_DIRTY) {
        error_setg(errp, "Cannot downgrade an image that is to be repaired first, by 'check --repair all'");
        return -ENOTSUP;
    }
    if (incompatible) {
        error_setg(errp, "Cannot downgrade an image with incompatible features %#" PRIx64 " set", incompatible);
        return -ENOTSUP;
    }
    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (sn->vm_state_bytes > UINT32_MAX || sn->disk_bytes != s->length_bytes) {
            error_setg(errp, "Internal snapshots prevent downgrade of image");
            return -ENOTSUP;
        }
    }
    bool bitmaps = s->bitmaps && s->bitmaps->entries->len;

    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        bitmaps |= bdrv_dirty_bitmap_get_persistence(b);        /* to be stored when the image is closed */
    }
    if (bitmaps) {
        error_setg(errp, "Cannot downgrade an image with bitmaps: they would be lost");
        error_append_hint(errp, "Remove them first, with 'qemu-img bitmap --remove'.\n");
        return -ENOTSUP;
    }
    return 0;
}

int coroutine_fn qcow2_co_downgrade(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = check_downgrade(bs, errp);

    if (ret < 0) {
        return ret;
    }
    ret = co_expand_disk(bs);
    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to turn zero into data clusters");
        return ret;
    }
    ret = s->snapshots->len ? co_expand_snapshots(bs, errp) : 0;
    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    if (ret < 0) {
        return ret;
    }
    s->version = 2;
    s->header_length = QCOW2_V2_HEADER_BYTES;
    s->incompatible = s->compatible = s->autoclear = 0;
    g_clear_pointer(&s->header_extra, g_free);
    for (guint i = s->extensions->len; i-- > 0;) {
        if (g_array_index(s->extensions, Qcow2Ext, i).magic == QCOW2_EXT_FEATURES) {
            g_array_remove_index(s->extensions, i);
        }
    }
    return qcow2_co_amend_header(bs, errp);
}

/* SPDX-License-Identifier: MIT */
/* bitmap_data.c: the bits of stored bitmaps; see bitmap.h.
 *
 * A table has a word for each cluster of bits: 0 or 1 if all of them are that, else where the cluster lies.
 * Clusters are read and written one at a time: memory is a cluster and the table.
 */
#include "drivers/format/qcow2/bitmap.h"

static bool entry_is_valid(Qcow2State *s, uint64_t entry)
{
    uint64_t at = entry & QCOW2_OFFSET_MASK;

    return !(entry & ~(QCOW2_OFFSET_MASK | 1)) && !((entry & 1) && at) && !qcow2_in_cluster(s, at);
}

/* In host order; the caller frees. */
static int coroutine_fn table_co_read(BlockDriverState *bs, const Qcow2BitmapEntry *e, uint64_t **table)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = e->table_entries * 8ULL;
    uint64_t *t = qemu_try_blockalign(bs->file->bs, bytes);
    QEMUIOVector qiov;

    if (!t) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, t, bytes);
    int ret = qcow2_co_read_file(bs, e->table_offset, bytes, &qiov, 0, 0);

    for (uint32_t i = 0; i < e->table_entries && !ret; i++) {
        t[i] = GUINT64_FROM_BE(t[i]);
        if (!entry_is_valid(s, t[i])) {
            ret = -EINVAL;
        }
    }
    if (ret < 0) {
        qemu_vfree(t);
        return ret;
    }
    *table = t;
    return 0;
}

static bool take(uint64_t *clusters, uint64_t n)
{
    bool enough = n <= *clusters;

    *clusters -= enough ? n : 0;
    return enough;
}

bool coroutine_fn qcow2_co_bitmap_is_sound(BlockDriverState *bs, const Qcow2BitmapEntry *e, uint64_t *clusters)
{
    Qcow2State *s = bs->opaque;
    uint64_t file_bytes = bdrv_getlength_cached(bs->file->bs), *table;
    bool sound = e->table_offset + e->table_entries * 8ULL <= file_bytes &&
                 take(clusters, DIV_ROUND_UP(e->table_entries * 8ULL, s->cluster_size)) &&
                 table_co_read(bs, e, &table) == 0;

    if (!sound) {
        return false;
    }
    for (uint32_t i = 0; i < e->table_entries && sound; i++) {
        uint64_t at = table[i] & QCOW2_OFFSET_MASK;

        sound = !at || (at < file_bytes && take(clusters, 1));
    }
    qemu_vfree(table);
    return sound;
}

int coroutine_fn qcow2_co_bitmap_load(BlockDriverState *bs, const Qcow2BitmapEntry *e, uint64_t *clusters,
                                      BdrvDirtyBitmap *b, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t covers = qcow2_bitmap_cluster_covers(s, e->granularity_bits), *table;
    uint8_t *bits;
    int ret;

    if (!take(clusters, DIV_ROUND_UP(e->table_entries * 8ULL, s->cluster_size))) {
        error_setg(errp, "The bitmaps of the image have more clusters than its file, with bitmap '%s'", e->name);
        return -EINVAL;
    }
    ret = table_co_read(bs, e, &table);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read bitmap_table table from image for bitmap '%s'", e->name);
        return ret;
    }
    bits = qemu_blockalign(bs->file->bs, s->cluster_size);
    for (uint32_t i = 0; i < e->table_entries && !ret; i++) {
        uint64_t start = i * covers, n = MIN(covers, s->length_bytes - start), at = table[i] & QCOW2_OFFSET_MASK;

        if (table[i] == 1) {
            bdrv_set_dirty_bitmap(b, start, n);
        } else if (at && !take(clusters, 1)) {
            ret = -EINVAL;      /* the same cluster again and again */
        } else if (at) {
            QEMUIOVector qiov;

            qemu_iovec_init_buf(&qiov, bits, s->cluster_size);
            ret = qcow2_co_read_file(bs, at, s->cluster_size, &qiov, 0, 0);
            if (!ret) {
                bdrv_dirty_bitmap_deserialize_part(b, bits, start, n);
            }
        }
    }
    qemu_vfree(bits);
    qemu_vfree(table);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read bitmap '%s' from image", e->name);
    }
    return ret;
}

static void coroutine_fn co_free_table(BlockDriverState *bs, const uint64_t *table, uint32_t n, bool big_endian)
{
    Qcow2State *s = bs->opaque;

    qcow2_lock(s);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = (big_endian ? GUINT64_FROM_BE(table[i]) : table[i]) & QCOW2_OFFSET_MASK;

        if (at) {
            qcow2_free_clusters(s, at >> s->cluster_bits, 1, s->discard_other);
        }
    }
    qcow2_unlock(s);
}

/* One cluster of bits: *word for the table, big endian. */
static int coroutine_fn co_save_cluster(BlockDriverState *bs, BdrvDirtyBitmap *b, uint64_t start, uint64_t n,
                                        uint64_t covers, uint8_t *bits, uint64_t *word)
{
    Qcow2State *s = bs->opaque;
    int64_t dirty_at, dirty_bytes;
    uint64_t cluster, got;
    bool fresh;
    int ret;

    *word = 0;
    if (!bdrv_dirty_bitmap_next_dirty_area(b, start, start + n, n, &dirty_at, &dirty_bytes)) {
        return 0;
    }
    if (dirty_at == start && dirty_bytes == n && n == covers) {
        *word = GUINT64_TO_BE(1);
        return 0;
    }
    ret = qcow2_co_alloc(bs, 1, &cluster, &got, &fresh);
    if (ret < 0) {
        return ret;
    }
    memset(bits, 0, s->cluster_size);
    bdrv_dirty_bitmap_serialize_part(b, bits, start, n);
    *word = GUINT64_TO_BE(cluster << s->cluster_bits);
    return bdrv_co_pwrite(bs->file, cluster << s->cluster_bits, s->cluster_size, bits, 0);
}

int coroutine_fn qcow2_co_bitmap_save(BlockDriverState *bs, BdrvDirtyBitmap *b, Qcow2BitmapEntry *e, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t covers = qcow2_bitmap_cluster_covers(s, e->granularity_bits);
    uint64_t n = qcow2_bitmap_table_needed(s, s->length_bytes, e->granularity_bits), cluster, *table;
    uint64_t n_clusters = DIV_ROUND_UP(n * 8, s->cluster_size);
    uint8_t *bits;
    int ret = 0;

    if (n == UINT64_MAX) {
        error_setg(errp, "Bitmap '%s' is too large to be stored", e->name);
        return -EFBIG;
    }
    table = qemu_blockalign(bs->file->bs, n * 8);
    memset(table, 0, n * 8);
    bits = qemu_blockalign(bs->file->bs, s->cluster_size);
    for (uint64_t i = 0; i < n && !ret; i++) {
        uint64_t start = i * covers;

        if (start < s->length_bytes) {
            ret = co_save_cluster(bs, b, start, MIN(covers, s->length_bytes - start), covers, bits, &table[i]);
        }
    }
    if (!ret) {
        ret = qcow2_co_alloc_at_end(bs, n_clusters, &cluster);
    }
    if (!ret) {
        ret = bdrv_co_pwrite(bs->file, cluster << s->cluster_bits, n * 8, table, 0);
        if (ret < 0) {
            qcow2_lock(s);
            qcow2_free_clusters(s, cluster, n_clusters, false);
            qcow2_unlock(s);
        }
    }
    if (ret < 0) {
        co_free_table(bs, table, n, true);
        error_setg_errno(errp, -ret, "Could not write bitmap '%s' to the image", e->name);
    } else {
        e->table_offset = cluster << s->cluster_bits;
        e->table_entries = n;
    }
    qemu_vfree(bits);
    qemu_vfree(table);
    return ret;
}

int coroutine_fn qcow2_co_bitmap_give_back(BlockDriverState *bs, const Qcow2BitmapEntry *e)
{
    Qcow2State *s = bs->opaque;
    uint64_t *table;
    int ret = table_co_read(bs, e, &table);

    if (ret < 0) {
        return ret;
    }
    co_free_table(bs, table, e->table_entries, false);
    qcow2_lock(s);
    qcow2_free_clusters(s, e->table_offset >> s->cluster_bits, DIV_ROUND_UP(e->table_entries * 8ULL, s->cluster_size),
                        s->discard_other);
    qcow2_unlock(s);
    qemu_vfree(table);
    return 0;
}

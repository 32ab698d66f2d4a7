/* SPDX-License-Identifier: MIT */
/* bitmap.c: the directory of the bitmaps stored in an image; see bitmap.h. */
#include "drivers/format/qcow2/bitmap.h"

/* An entry on disk; then extra data, the name, and padding to 8 bytes. */
typedef struct DirEntry {
    uint64_t table_offset;
    uint32_t table_entries, flags;
    uint8_t type, granularity_bits;
    uint16_t name_bytes;
    uint32_t extra_bytes;
} __attribute__((packed)) DirEntry;

typedef struct ExtData {
    uint32_t n, reserved;
    uint64_t dir_bytes, dir_offset;
} __attribute__((packed)) ExtData;

/* ---- entries ---- */

Qcow2BitmapEntry *qcow2_bitmap_entry_new(const char *name, size_t name_bytes)
{
    Qcow2BitmapEntry *e = g_new0(Qcow2BitmapEntry, 1);

    e->name = g_strndup(name, name_bytes);
    return e;
}

void qcow2_bitmap_entry_free(void *entry)
{
    Qcow2BitmapEntry *e = entry;

    if (e) {
        g_free(e->name);
        g_free(e);
    }
}

Qcow2BitmapEntry *qcow2_bitmap_find(Qcow2State *s, const char *name)
{
    for (guint i = 0; i < s->bitmaps->entries->len; i++) {
        Qcow2BitmapEntry *e = g_ptr_array_index(s->bitmaps->entries, i);

        if (!strcmp(e->name, name)) {
            return e;
        }
    }
    return NULL;
}

uint64_t qcow2_bitmap_cluster_covers(Qcow2State *s, unsigned granularity_bits)
{
    return (uint64_t)s->cluster_size * 8 << granularity_bits;
}

uint64_t qcow2_bitmap_table_needed(Qcow2State *s, uint64_t bytes, unsigned granularity_bits)
{
    uint64_t n = DIV_ROUND_UP(MAX(bytes, 1), qcow2_bitmap_cluster_covers(s, granularity_bits));

    return n * 8 > QCOW2_BITMAP_TABLE_MAX ? UINT64_MAX : n;
}

static bool entry_is_sound(Qcow2State *s, const DirEntry *d)
{
    uint64_t offset = GUINT64_FROM_BE(d->table_offset), n = GUINT32_FROM_BE(d->table_entries);

    if (!n || n * 8 > QCOW2_BITMAP_TABLE_MAX || !offset || qcow2_in_cluster(s, offset) || offset >> 56 ||
        d->type != QCOW2_BITMAP_TRACKING || d->granularity_bits < 9 || d->granularity_bits > 31 ||
        (GUINT32_FROM_BE(d->flags) & ~QCOW2_BITMAP_KNOWN)) {
        return false;
    }
    /* The disk may have changed its length after a bitmap was marked as in use. */
    return (GUINT32_FROM_BE(d->flags) & QCOW2_BITMAP_IN_USE) ||
           n == qcow2_bitmap_table_needed(s, s->length_bytes, d->granularity_bits);
}

/* The entry at @p of the @left bytes of the directory; NULL and *errp. *used: how long it is. */
static Qcow2BitmapEntry *entry_parse(Qcow2State *s, const uint8_t *p, uint64_t left, uint64_t *used, Error **errp)
{
    DirEntry d;
    uint32_t name_bytes;

    if (left < sizeof(d)) {
        error_setg(errp, "Broken bitmap directory");
        return NULL;
    }
    memcpy(&d, p, sizeof(d));
    name_bytes = GUINT16_FROM_BE(d.name_bytes);
    if (d.extra_bytes) {
        error_setg(errp, "Bitmap extra data is not supported");
        return NULL;
    }
    *used = ROUND_UP(sizeof(d) + (uint64_t)name_bytes, 8);
    if (*used > left || !name_bytes || name_bytes > QCOW2_BITMAP_NAME_MAX || memchr(p + sizeof(d), 0, name_bytes)) {
        error_setg(errp, "Broken bitmap directory");
        return NULL;
    }
    Qcow2BitmapEntry *e = qcow2_bitmap_entry_new((const char *)p + sizeof(d), name_bytes);

    e->table_offset = GUINT64_FROM_BE(d.table_offset);
    e->table_entries = GUINT32_FROM_BE(d.table_entries);
    e->flags = GUINT32_FROM_BE(d.flags);
    e->granularity_bits = d.granularity_bits;
    e->lost = e->flags & QCOW2_BITMAP_IN_USE;
    if (!entry_is_sound(s, &d)) {
        error_setg(errp, "Bitmap '%s' doesn't satisfy the constraints", e->name);
        qcow2_bitmap_entry_free(e);
        return NULL;
    }
    return e;
}

static int dir_parse(Qcow2State *s, const uint8_t *dir, uint64_t bytes, uint32_t n, Error **errp)
{
    uint64_t used;

    for (uint64_t at = 0; at < bytes; at += used) {
        Qcow2BitmapEntry *e = entry_parse(s, dir + at, bytes - at, &used, errp);

        if (!e) {
            return -EINVAL;
        }
        bool twice = qcow2_bitmap_find(s, e->name) != NULL;

        g_ptr_array_add(s->bitmaps->entries, e);
        if (twice) {
            error_setg(errp, "Bitmap already exists: %s", e->name);
            return -EINVAL;
        }
        if (s->bitmaps->entries->len > n) {
            error_setg(errp, "More bitmaps found than specified in header extension");
            return -EINVAL;
        }
    }
    if (s->bitmaps->entries->len < n) {
        error_setg(errp, "Less bitmaps found than specified in header extension");
        return -EINVAL;
    }
    return 0;
}

/* New; the caller frees. */
static GByteArray *dir_build(GPtrArray *entries)
{
    static const uint8_t padding[8];
    GByteArray *out = g_byte_array_new();

    for (guint i = 0; i < entries->len; i++) {
        const Qcow2BitmapEntry *e = g_ptr_array_index(entries, i);
        size_t name_bytes = strlen(e->name);
        DirEntry d = {
            .table_offset = GUINT64_TO_BE(e->table_offset), .table_entries = GUINT32_TO_BE(e->table_entries),
            .flags = GUINT32_TO_BE(e->flags), .type = QCOW2_BITMAP_TRACKING,
            .granularity_bits = e->granularity_bits, .name_bytes = GUINT16_TO_BE(name_bytes),
        };

        g_byte_array_append(out, (uint8_t *)&d, sizeof(d));
        g_byte_array_append(out, (const uint8_t *)e->name, name_bytes);
        g_byte_array_append(out, padding, ROUND_UP(out->len, 8) - out->len);
    }
    return out;
}

static int coroutine_fn dir_co_write(BlockDriverState *bs, uint64_t offset, const GByteArray *dir)
{
    void *buf = qemu_try_blockalign(bs->file->bs, dir->len);

    if (!buf) {
        return -ENOMEM;
    }
    memcpy(buf, dir->data, dir->len);
    int ret = bdrv_co_pwrite(bs->file, offset, dir->len, buf, 0);

    qemu_vfree(buf);
    return ret;
}

/* ---- the header extension ---- */

static Qcow2Ext *find_ext(Qcow2State *s)
{
    for (guint i = 0; s->extensions && i < s->extensions->len; i++) {
        Qcow2Ext *e = &g_array_index(s->extensions, Qcow2Ext, i);

        if (e->magic == QCOW2_EXT_BITMAPS) {
            return e;
        }
    }
    return NULL;
}

static void remove_ext(Qcow2State *s)
{
    Qcow2Ext *e = find_ext(s);

    if (e) {
        g_array_remove_index(s->extensions, e - (Qcow2Ext *)s->extensions->data);
    }
}

static int ext_check(Qcow2State *s, const Qcow2Ext *ext, ExtData *x, Error **errp)
{
    if (ext->len != sizeof(*x)) {
        error_setg(errp, "bitmaps_ext: Invalid extension length");
        return -EINVAL;
    }
    memcpy(x, ext->data, sizeof(*x));
    x->n = GUINT32_FROM_BE(x->n);
    x->dir_bytes = GUINT64_FROM_BE(x->dir_bytes);
    x->dir_offset = GUINT64_FROM_BE(x->dir_offset);
    if (x->reserved) {
        error_setg(errp, "bitmaps_ext: Reserved field is not zero");
    } else if (x->n > QCOW2_BITMAPS_MAX) {
        error_setg(errp, "bitmaps_ext: Image has %" PRIu32 " bitmaps, exceeding the supported maximum of %u", x->n,
                   QCOW2_BITMAPS_MAX);
    } else if (!x->n) {
        error_setg(errp, "found bitmaps extension with zero bitmaps");
    } else if (qcow2_in_cluster(s, x->dir_offset) || !x->dir_offset) {
        error_setg(errp, "bitmaps_ext: invalid bitmap directory offset");
    } else if (x->dir_bytes > QCOW2_BITMAP_DIR_MAX) {
        error_setg(errp, "bitmaps_ext: bitmap directory size (%" PRIu64 ") exceeds the maximum supported size (%llu)",
                   x->dir_bytes, QCOW2_BITMAP_DIR_MAX);
    } else if (!x->dir_bytes) {
        error_setg(errp, "Requested bitmap directory size is zero");
    } else {
        return 0;
    }
    return -EINVAL;
}

/* Let the header name the directory, or none, durably. l1_lock is taken. */
static int coroutine_fn header_co_update(BlockDriverState *bs, uint32_t n, uint64_t dir_offset, uint64_t dir_bytes)
{
    Qcow2State *s = bs->opaque;
    ExtData x = { GUINT32_TO_BE(n), 0, GUINT64_TO_BE(dir_bytes), GUINT64_TO_BE(dir_offset) };
    uint64_t autoclear = s->autoclear;
    int ret;

    qemu_co_mutex_lock(&s->l1_lock);
    Qcow2Ext *old = find_ext(s);
    g_autofree uint8_t *old_data = old ? g_memdup2(old->data, old->len) : NULL;
    uint32_t old_len = old ? old->len : 0;

    remove_ext(s);
    if (n) {
        Qcow2Ext ext = { QCOW2_EXT_BITMAPS, sizeof(x), g_memdup2(&x, sizeof(x)) };

        g_array_append_val(s->extensions, ext);
    }
    s->autoclear = n ? autoclear | QCOW2_AUTOCLEAR_BITMAPS : autoclear & ~QCOW2_AUTOCLEAR_BITMAPS;
    ret = qcow2_co_write_header(bs);
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        remove_ext(s);
        if (old_data) {
            Qcow2Ext ext = { QCOW2_EXT_BITMAPS, old_len, g_steal_pointer(&old_data) };

            g_array_append_val(s->extensions, ext);
        }
        s->autoclear = autoclear;
    }
    qemu_co_mutex_unlock(&s->l1_lock);
    return ret;
}

/* ---- opening and closing ---- */

static int coroutine_fn dir_co_read(BlockDriverState *bs, const ExtData *x, Error **errp)
{
    uint8_t *dir = qemu_try_blockalign(bs->file->bs, x->dir_bytes);
    QEMUIOVector qiov;
    int ret;

    if (!dir) {
        error_setg(errp, "Failed to read bitmap directory: not enough memory");
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, dir, x->dir_bytes);
    ret = qcow2_co_read_file(bs, x->dir_offset, x->dir_bytes, &qiov, 0, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to read bitmap directory");
    } else {
        ret = dir_parse(bs->opaque, dir, x->dir_bytes, x->n, errp);
    }
    qemu_vfree(dir);
    return ret;
}

static int coroutine_fn co_load(BlockDriverState *bs, const Qcow2BitmapEntry *e, uint64_t *clusters, Error **errp)
{
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(bs, 1u << e->granularity_bits, e->name, errp);

    if (!b) {
        return -EINVAL;
    }
    bdrv_dirty_bitmap_set_persistence(b, true);
    if (e->lost) {
        bdrv_disable_dirty_bitmap(b);
        bdrv_dirty_bitmap_set_inconsistent(b);
        return 0;
    }
    if (!(e->flags & QCOW2_BITMAP_AUTO)) {
        bdrv_disable_dirty_bitmap(b);
    }
    int ret = qcow2_co_bitmap_load(bs, e, clusters, b, errp);

    bdrv_dirty_bitmap_set_modified(b, false);
    return ret;
}

int coroutine_fn qcow2_co_bitmaps_open(BlockDriverState *bs, int flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Ext *ext = find_ext(s);
    Error *err = NULL;
    ExtData x;
    int ret;

    s->bitmaps = g_new0(Qcow2Bitmaps, 1);
    s->bitmaps->entries = g_ptr_array_new_with_free_func(qcow2_bitmap_entry_free);
    if (ext && !(s->autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
        warn_report("a program lacking bitmap support modified this file, so all bitmaps are now considered inconsistent\n"
                    "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.");
        remove_ext(s);
        ext = NULL;
    }
    if (ext) {
        ret = ext_check(s, ext, &x, &err);
        if (!ret) {
            ret = dir_co_read(bs, &x, &err);
        }
        if (ret < 0 && (flags & BDRV_O_CHECK)) {
            g_ptr_array_set_size(s->bitmaps->entries, 0);
            s->bitmaps->broken = g_strdup(err ? error_get_pretty(err) : "Broken bitmap directory");
            error_free(err);
            return 0;
        }
        if (ret < 0) {
            error_propagate(errp, err);
            return ret;
        }
        s->bitmaps->dir_offset = x.dir_offset;
        s->bitmaps->dir_bytes = x.dir_bytes;
    }
    if (flags & (BDRV_O_NO_IO | BDRV_O_CHECK)) {
        return 0;
    }
    s->bitmaps->loaded = true;
    ret = bdrv_co_refresh_length(bs);
    int64_t file_bytes = bdrv_co_getlength(bs->file->bs);
    uint64_t clusters = DIV_ROUND_UP(MAX(file_bytes, 0), s->cluster_size);

    for (guint i = 0; i < s->bitmaps->entries->len && ret >= 0; i++) {
        ret = co_load(bs, g_ptr_array_index(s->bitmaps->entries, i), &clusters, errp);
    }
    return ret;
}

/* ---- mending ---- */

/* The entries of @dir that can be; nobody knows where one begins behind one that has no end. Of two with one name nobody
 * knows which is meant. */
static void coroutine_fn dir_co_salvage(BlockDriverState *bs, const uint8_t *dir, uint64_t bytes, uint64_t *clusters)
{
    Qcow2State *s = bs->opaque;
    GPtrArray *entries = s->bitmaps->entries;
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);    /* of entries, with how many there are */

    for (uint64_t at = 0, used; at + sizeof(DirEntry) <= bytes && entries->len < QCOW2_BITMAPS_MAX; at += used) {
        DirEntry d;

        memcpy(&d, dir + at, sizeof(d));
        used = ROUND_UP(sizeof(d) + (uint64_t)GUINT32_FROM_BE(d.extra_bytes) + GUINT16_FROM_BE(d.name_bytes), 8);
        if (used > bytes - at) {
            break;
        }
        Qcow2BitmapEntry *e = entry_parse(s, dir + at, bytes - at, &(uint64_t) { 0 }, NULL);

        if (e) {
            guint n = GPOINTER_TO_UINT(g_hash_table_lookup(names, e->name));

            g_hash_table_insert(names, e->name, GUINT_TO_POINTER(n + 1));
            g_ptr_array_add(entries, e);
        }
    }
    GPtrArray *kept = g_ptr_array_new_with_free_func(qcow2_bitmap_entry_free);

    for (guint i = 0; i < entries->len; i++) {
        Qcow2BitmapEntry *e = entries->pdata[i];

        if (g_hash_table_lookup(names, e->name) == GUINT_TO_POINTER(1) && qcow2_co_bitmap_is_sound(bs, e, clusters)) {
            g_ptr_array_add(kept, e);
            entries->pdata[i] = NULL;
        }
    }
    g_ptr_array_unref(entries);
    s->bitmaps->entries = kept;
}

/* Read the directory again, with what is whole of it. */
static void coroutine_fn co_salvage(BlockDriverState *bs, const ExtData *x)
{
    uint64_t clusters = DIV_ROUND_UP(bdrv_getlength_cached(bs->file->bs), ((Qcow2State *)bs->opaque)->cluster_size);
    uint8_t *dir = qemu_try_blockalign(bs->file->bs, x->dir_bytes);
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, dir, x->dir_bytes);
    if (dir && qcow2_co_read_file(bs, x->dir_offset, x->dir_bytes, &qiov, 0, 0) == 0) {
        dir_co_salvage(bs, dir, x->dir_bytes, &clusters);
    }
    qemu_vfree(dir);
}

/* The directory becomes shorter where it lies. Until that is done all bitmaps are void: nobody takes the name of one for
 * the bits of another. */
static int coroutine_fn dir_co_replace(BlockDriverState *bs, const ExtData *x)
{
    Qcow2State *s = bs->opaque;
    GByteArray *dir = dir_build(s->bitmaps->entries);
    int ret;

    qemu_co_mutex_lock(&s->l1_lock);
    s->autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
    ret = qcow2_co_write_header(bs);
    qemu_co_mutex_unlock(&s->l1_lock);
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (!ret && dir->len) {
        ret = dir_co_write(bs, x->dir_offset, dir);
    }
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (!ret) {
        ret = header_co_update(bs, s->bitmaps->entries->len, x->dir_offset, dir->len);
    }
    s->bitmaps->dir_offset = dir->len ? x->dir_offset : 0;
    s->bitmaps->dir_bytes = dir->len;
    g_byte_array_unref(dir);
    return ret;
}

int coroutine_fn qcow2_co_bitmaps_mend(BlockDriverState *bs, unsigned *dropped)
{
    Qcow2State *s = bs->opaque;
    Qcow2Ext *ext = find_ext(s);
    GPtrArray *entries = s->bitmaps ? s->bitmaps->entries : NULL;
    uint64_t clusters = DIV_ROUND_UP(bdrv_getlength_cached(bs->file->bs), s->cluster_size);
    bool sound = entries && !s->bitmaps->broken;
    ExtData x = { 0 };

    *dropped = 0;
    if (!ext || !entries || s->bitmaps->loaded) {
        return 0;
    }
    for (guint i = 0; i < entries->len && sound; i++) {
        sound = qcow2_co_bitmap_is_sound(bs, g_ptr_array_index(entries, i), &clusters);
    }
    if (sound) {
        return 0;
    }
    g_ptr_array_set_size(entries, 0);
    if (ext_check(s, ext, &x, NULL) == 0 && x.dir_offset + x.dir_bytes <= (uint64_t)bdrv_getlength_cached(bs->file->bs)) {
        co_salvage(bs, &x);
    }
    *dropped = MAX(x.n, s->bitmaps->entries->len + 1) - s->bitmaps->entries->len;
    g_clear_pointer(&s->bitmaps->broken, g_free);
    return dir_co_replace(bs, &x);
}

const char *qcow2_bitmaps_broken(Qcow2State *s)
{
    return s->bitmaps ? s->bitmaps->broken : NULL;
}

void qcow2_bitmaps_free(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    BdrvDirtyBitmap *b, *next;

    if (!s->bitmaps) {
        return;
    }
    for (b = bdrv_dirty_bitmap_first(bs); b; b = next) {
        next = bdrv_dirty_bitmap_next(b);
        if (bdrv_dirty_bitmap_get_persistence(b)) {
            bdrv_release_dirty_bitmap(b);
        }
    }
    g_ptr_array_unref(s->bitmaps->entries);
    g_free(s->bitmaps->broken);
    g_clear_pointer(&s->bitmaps, g_free);
}

bool qcow2_bitmaps_to_mark(Qcow2State *s)
{
    if (!s->bitmaps || !s->bitmaps->loaded || s->bitmaps->marked) {
        return false;
    }
    for (guint i = 0; i < s->bitmaps->entries->len; i++) {
        if (!((Qcow2BitmapEntry *)g_ptr_array_index(s->bitmaps->entries, i))->lost) {
            return true;
        }
    }
    return false;
}

int coroutine_fn qcow2_co_bitmaps_mark(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    GPtrArray *entries = s->bitmaps->entries;
    int ret;

    if (!qcow2_bitmaps_to_mark(s)) {
        return 0;
    }
    for (guint i = 0; i < entries->len; i++) {
        ((Qcow2BitmapEntry *)g_ptr_array_index(entries, i))->flags |= QCOW2_BITMAP_IN_USE;
    }
    GByteArray *dir = dir_build(entries);

    ret = dir->len == s->bitmaps->dir_bytes ? dir_co_write(bs, s->bitmaps->dir_offset, dir) : -EIO;
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    g_byte_array_unref(dir);
    if (ret < 0) {
        /* Some may be marked on disk; they are as good as lost if this ends badly, and stored anew if not. */
        for (guint i = 0; i < entries->len; i++) {
            Qcow2BitmapEntry *e = g_ptr_array_index(entries, i);

            e->flags &= e->lost ? ~0u : ~QCOW2_BITMAP_IN_USE;
        }
        return ret;
    }
    s->bitmaps->marked = true;
    return 0;
}

/* ---- storing ---- */

static void coroutine_fn co_give_back_dir(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;

    if (bytes) {
        qcow2_lock(s);
        qcow2_free_clusters(s, offset >> s->cluster_bits, DIV_ROUND_UP(bytes, s->cluster_size), s->discard_other);
        qcow2_unlock(s);
    }
}

/* Let the image have @entries: write their directory and let the header name it. On success the state has
 * them. The old directory is given back; its tables are the caller's. */
static int coroutine_fn co_switch(BlockDriverState *bs, GPtrArray *entries, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Bitmaps *m = s->bitmaps;
    GByteArray *dir = dir_build(entries);
    uint64_t cluster = 0, old_offset = m->dir_offset, old_bytes = m->dir_bytes;
    int ret = 0;

    if (dir->len) {
        ret = qcow2_co_alloc_at_end(bs, DIV_ROUND_UP(dir->len, s->cluster_size), &cluster);
        if (!ret) {
            ret = dir_co_write(bs, cluster << s->cluster_bits, dir);
        }
    }
    if (!ret) {
        ret = qcow2_co_commit(bs, true);
    }
    if (!ret) {
        ret = qcow2_co_flush_files(bs);     /* what the header will lead to */
    }
    if (ret < 0 && cluster) {
        co_give_back_dir(bs, cluster << s->cluster_bits, dir->len);
    }
    if (!ret) {
        /* Should this fail it is not known which directory the header on disk names: neither is given back. */
        ret = header_co_update(bs, entries->len, cluster << s->cluster_bits, dir->len);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the bitmap directory");
    } else {
        m->dir_offset = cluster << s->cluster_bits;
        m->dir_bytes = dir->len;
        g_ptr_array_unref(m->entries);
        m->entries = g_ptr_array_ref(entries);
        co_give_back_dir(bs, old_offset, old_bytes);
    }
    g_byte_array_unref(dir);
    return ret;
}

static Qcow2BitmapEntry *entry_copy(const Qcow2BitmapEntry *e)
{
    Qcow2BitmapEntry *copy = g_memdup2(e, sizeof(*e));

    copy->name = g_strdup(e->name);
    return copy;
}

/* Write the bits of @b, and add the entry for it to @entries. */
static int coroutine_fn co_save_one(BlockDriverState *bs, BdrvDirtyBitmap *b, GPtrArray *entries, Error **errp)
{
    const char *name = bdrv_dirty_bitmap_name(b);
    Qcow2BitmapEntry *e = qcow2_bitmap_entry_new(name, strlen(name));

    e->granularity_bits = __builtin_ctz(bdrv_dirty_bitmap_granularity(b));
    e->flags = bdrv_dirty_bitmap_enabled(b) ? QCOW2_BITMAP_AUTO : 0;
    int ret = qcow2_co_bitmap_save(bs, b, e, errp);

    if (ret < 0) {
        qcow2_bitmap_entry_free(e);
    } else {
        g_ptr_array_add(entries, e);
    }
    return ret;
}

/* The old ones in their order, then the new ones, the newest first, as the peer has them. */
static int coroutine_fn co_save_all(BlockDriverState *bs, GPtrArray *entries, GPtrArray *written, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    for (guint i = 0; i < s->bitmaps->entries->len && !ret; i++) {
        Qcow2BitmapEntry *e = g_ptr_array_index(s->bitmaps->entries, i);
        BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(bs, e->name);

        if (e->lost) {
            g_ptr_array_add(entries, entry_copy(e));
        } else if (b && bdrv_dirty_bitmap_get_persistence(b)) {
            ret = co_save_one(bs, b, entries, errp);
            if (!ret) {
                g_ptr_array_add(written, g_ptr_array_index(entries, entries->len - 1));
            }
        }
    }
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b && !ret; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_get_persistence(b) && !qcow2_bitmap_find(s, bdrv_dirty_bitmap_name(b))) {
            ret = co_save_one(bs, b, entries, errp);
            if (!ret) {
                g_ptr_array_add(written, g_ptr_array_index(entries, entries->len - 1));
            }
        }
    }
    return ret;
}

static bool needs_storing(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    unsigned n = 0;

    if (s->bitmaps->marked) {
        return true;
    }
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_get_persistence(b)) {
            n++;
            if (bdrv_dirty_bitmap_modified(b) || !qcow2_bitmap_find(s, bdrv_dirty_bitmap_name(b))) {
                return true;
            }
        }
    }
    return n != s->bitmaps->entries->len;
}

int coroutine_fn qcow2_co_bitmaps_store(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) old = NULL, entries = NULL, written = NULL;
    int ret;

    if (!s->bitmaps || !s->bitmaps->loaded || s->corrupt || !needs_storing(bs)) {
        return 0;
    }
    ret = qcow2_co_before_change(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to store the bitmaps");
        return ret;
    }
    old = g_ptr_array_ref(s->bitmaps->entries);
    entries = g_ptr_array_new_with_free_func(qcow2_bitmap_entry_free);
    written = g_ptr_array_new();
    ret = co_save_all(bs, entries, written, errp);
    if (!ret) {
        ret = co_switch(bs, entries, errp);
    }
    if (ret < 0) {
        for (guint i = 0; i < written->len; i++) {
            qcow2_co_bitmap_give_back(bs, g_ptr_array_index(written, i));
        }
        return ret;
    }
    for (guint i = 0; i < old->len; i++) {
        Qcow2BitmapEntry *e = g_ptr_array_index(old, i);

        if (!e->lost) {
            qcow2_co_bitmap_give_back(bs, e);   /* if its table cannot be read, that is only space */
        }
    }
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        bdrv_dirty_bitmap_set_modified(b, false);
    }
    s->bitmaps->marked = false;
    __atomic_store_n(&s->autoclear_pending, s->autoclear_pending || qcow2_bitmaps_to_mark(s), __ATOMIC_RELEASE);
    return 0;
}

/* ---- what the node is asked for ---- */

bool coroutine_fn qcow2_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity,
                                                      Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t n = 0, bytes = 0;

    if (s->version < 3) {
        error_setg(errp, "Cannot store dirty bitmaps in qcow2 v2 files");
        goto fail;
    }
    if (strlen(name) > QCOW2_BITMAP_NAME_MAX) {
        error_setg(errp, "Name length exceeds maximum (%u characters)", QCOW2_BITMAP_NAME_MAX);
        goto fail;
    }
    if (granularity < 512 || granularity > 1u << 31) {
        error_setg(errp, "Granularity exceeds %s (%u bytes)", granularity < 512 ? "minimum" : "maximum",
                   granularity < 512 ? 512u : 1u << 31);
        goto fail;
    }
    if (qcow2_bitmap_table_needed(s, s->length_bytes, __builtin_ctz(granularity)) == UINT64_MAX) {
        error_setg(errp, "Too much space will be occupied by the bitmap. Use larger granularity");
        goto fail;
    }
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_get_persistence(b)) {
            n++;
            bytes += ROUND_UP(sizeof(DirEntry) + strlen(bdrv_dirty_bitmap_name(b)), 8);
        }
    }
    if (n + 1 > QCOW2_BITMAPS_MAX) {
        error_setg(errp, "Maximum number of persistent bitmaps is already reached");
        goto fail;
    }
    if (bytes + ROUND_UP(sizeof(DirEntry) + strlen(name), 8) > QCOW2_BITMAP_DIR_MAX) {
        error_setg(errp, "Not enough space in the bitmap directory");
        goto fail;
    }
    return true;
fail:
    error_prepend(errp, "Can't make bitmap '%s' persistent in '%s': ", name, bdrv_get_device_or_node_name(bs));
    return false;
}

int coroutine_fn qcow2_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2BitmapEntry *e = s->bitmaps ? qcow2_bitmap_find(s, name) : NULL;
    g_autoptr(GPtrArray) old = NULL, entries = NULL;
    int ret;

    if (!e) {
        return 0;       /* it was never stored */
    }
    ret = qcow2_co_before_change(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the bitmap directory");
        return ret;
    }
    old = g_ptr_array_ref(s->bitmaps->entries);
    entries = g_ptr_array_new_with_free_func(qcow2_bitmap_entry_free);
    for (guint i = 0; i < old->len; i++) {
        if (g_ptr_array_index(old, i) != e) {
            g_ptr_array_add(entries, entry_copy(g_ptr_array_index(old, i)));
        }
    }
    ret = co_switch(bs, entries, errp);
    if (!ret) {
        qcow2_co_bitmap_give_back(bs, e);
        ret = 0;
    }
    return ret;
}

int qcow2_bitmaps_check_resize(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;

    /* One that is lost keeps its table as it is, which would not fit any more. */
    for (guint i = 0; i < s->bitmaps->entries->len; i++) {
        BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(bs, ((Qcow2BitmapEntry *)g_ptr_array_index(s->bitmaps->entries, i))->name);

        if (b && bdrv_dirty_bitmap_get_persistence(b) && bdrv_dirty_bitmap_check(b, false, errp) < 0) {
            return -ENOTSUP;
        }
    }
    return 0;
}

Qcow2BitmapInfoList *qcow2_bitmaps_info(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    Qcow2BitmapInfoList *list = NULL, **tail = &list;

    for (guint i = 0; s->bitmaps && i < s->bitmaps->entries->len; i++) {
        const Qcow2BitmapEntry *e = g_ptr_array_index(s->bitmaps->entries, i);
        Qcow2BitmapInfo *info = g_new0(Qcow2BitmapInfo, 1);
        Qcow2BitmapInfoFlagsList **flag = &info->flags;

        info->name = g_strdup(e->name);
        info->granularity = 1u << e->granularity_bits;
        for (unsigned bit = 0; bit < 2; bit++) {
            if (e->flags & (1u << bit)) {
                *flag = g_new0(Qcow2BitmapInfoFlagsList, 1);
                (*flag)->value = bit ? QCOW2_BITMAP_INFO_FLAGS_AUTO : QCOW2_BITMAP_INFO_FLAGS_IN_USE;
                flag = &(*flag)->next;
            }
        }
        *tail = g_new0(Qcow2BitmapInfoList, 1);
        (*tail)->value = info;
        tail = &(*tail)->next;
    }
    return list;
}

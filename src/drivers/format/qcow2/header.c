/* SPDX-License-Identifier: MIT */
/* header.c: the header of an image: reading, checking, writing back.
 *
 * The header cluster holds, in this order: the fixed fields, fields of later versions of the
 * format (kept as they are), extensions up to an end mark, and the backing file's name.
 * Everything that is not understood is kept, or, where a feature bit says that it must be
 * understood, refused by the name that the image itself gives for the bit.
 *
 * Writing: the header is made anew from the state. All that changes while an image is in use lies in
 * its first sector, which is written as one.
 *
 * Runs on: the main thread; suspends.
 */
#include "drivers/format/qcow2/qcow2.h"

#define FEATURE_BYTES 48

/* The fixed fields, where they lie. */
enum {
    H_MAGIC = 0, H_VERSION = 4, H_BACKING_OFFSET = 8, H_BACKING_BYTES = 16,
    H_CLUSTER_BITS = 20, H_SIZE = 24, H_CRYPT = 32, H_L1_SIZE = 36, H_L1_OFFSET = 40,
    H_REFTABLE_OFFSET = 48, H_REFTABLE_CLUSTERS = 56, H_NB_SNAPSHOTS = 60,
    H_SNAPSHOTS_OFFSET = 64, H_INCOMPATIBLE = 72, H_COMPATIBLE = 80, H_AUTOCLEAR = 88,
    H_REFCOUNT_ORDER = 96, H_LENGTH = 100, H_COMPRESSION = 104,
};

static uint32_t get32(const uint8_t *h, size_t at)
{
    uint32_t v;

    memcpy(&v, h + at, sizeof(v));
    return GUINT32_FROM_BE(v);
}

static uint64_t get64(const uint8_t *h, size_t at)
{
    uint64_t v;

    memcpy(&v, h + at, sizeof(v));
    return GUINT64_FROM_BE(v);
}

static void put32(uint8_t *h, size_t at, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(h + at, &v, sizeof(v));
}

static void put64(uint8_t *h, size_t at, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    memcpy(h + at, &v, sizeof(v));
}

/* ---- fixed fields ---- */

static int header_basics(Qcow2State *s, const uint8_t *h, Error **errp)
{
    if (get32(h, H_MAGIC) != QCOW2_MAGIC) {
        error_setg(errp, "Image is not in qcow2 format");
        return -EINVAL;
    }
    s->version = get32(h, H_VERSION);
    if (s->version < 2 || s->version > 3) {
        error_setg(errp, "Unsupported qcow2 version %u", s->version);
        return -ENOTSUP;
    }
    s->cluster_bits = get32(h, H_CLUSTER_BITS);
    if (s->cluster_bits < QCOW2_MIN_CLUSTER_BITS || s->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
        error_setg(errp, "Unsupported cluster size: 2^%u", s->cluster_bits);
        return -EINVAL;
    }
    s->cluster_size = 1u << s->cluster_bits;
    s->cluster_max = 1ULL << (56 - s->cluster_bits);
    if (s->version == 2) {
        s->refcount_order = 4;
        s->header_length = QCOW2_V2_HEADER_BYTES;
    } else {
        s->incompatible = get64(h, H_INCOMPATIBLE);
        s->compatible = get64(h, H_COMPATIBLE);
        s->autoclear = get64(h, H_AUTOCLEAR);
        s->refcount_order = get32(h, H_REFCOUNT_ORDER);
        s->header_length = get32(h, H_LENGTH);
        if (s->header_length < QCOW2_V3_HEADER_BYTES) {
            error_setg(errp, "qcow2 header too short");
            return -EINVAL;
        }
    }
    if (s->header_length > s->cluster_size) {
        error_setg(errp, "qcow2 header exceeds cluster size");
        return -EINVAL;
    }
    if (s->refcount_order > 6) {
        error_setg(errp, "Reference count entry width too large; may not exceed 64 bits");
        return -EINVAL;
    }
    s->rb_entries = s->cluster_size * 8ULL >> s->refcount_order;
    s->ext_l2 = s->incompatible & QCOW2_INCOMPAT_EXT_L2;
    if (s->ext_l2 && s->cluster_bits < QCOW2_EXT_L2_CLUSTER_BITS_MIN) {
        error_setg(errp, "Extended L2 entries are only supported with cluster sizes of at least %d bytes",
                   1 << QCOW2_EXT_L2_CLUSTER_BITS_MIN);
        return -EINVAL;
    }
    s->l2_bits = s->cluster_bits - 3 - s->ext_l2;
    s->l2_entries = 1ULL << s->l2_bits;
    s->subcluster_bits = s->ext_l2 ? s->cluster_bits - 5 : s->cluster_bits;
    s->subcluster_size = 1u << s->subcluster_bits;
    s->external = s->incompatible & QCOW2_INCOMPAT_DATA_FILE;
    s->raw_data = s->external && (s->autoclear & QCOW2_AUTOCLEAR_RAW);
    return 0;
}

/* @bytes at @offset: whole clusters' start, at most @max, inside what an offset can name. */
static int check_place(Qcow2State *s, uint64_t offset, uint64_t bytes, uint64_t max,
                       const char *what, Error **errp)
{
    if (bytes > max) {
        error_setg(errp, "%s too large", what);
        return -EFBIG;
    }
    if (offset > INT64_MAX - bytes || qcow2_in_cluster(s, offset)) {
        error_setg(errp, "%s offset invalid", what);
        return -EINVAL;
    }
    return 0;
}

/* @checking: what a check can mend is let pass. */
static int header_tables(Qcow2State *s, const uint8_t *h, bool checking, Error **errp)
{
    uint32_t reftable_clusters = get32(h, H_REFTABLE_CLUSTERS);
    uint64_t needed;
    int ret;

    s->reftable_offset = get64(h, H_REFTABLE_OFFSET);
    if (!reftable_clusters && !checking) {
        error_setg(errp, "Image does not contain a reference count table");
        return -EINVAL;
    }
    ret = check_place(s, s->reftable_offset, (uint64_t)reftable_clusters << s->cluster_bits,
                      QCOW2_MAX_REFTABLE_BYTES, "Reference count table", errp);
    if (ret < 0) {
        return ret;
    }
    s->reftable_size = reftable_clusters * (s->cluster_size / 8);

    s->nb_snapshots = get32(h, H_NB_SNAPSHOTS);
    s->snapshots_offset = get64(h, H_SNAPSHOTS_OFFSET);
    if (s->nb_snapshots) {
        ret = check_place(s, s->snapshots_offset, checking ? 1 : s->nb_snapshots, QCOW2_MAX_SNAPSHOTS,
                          "Snapshot table", errp);
        if (ret < 0) {
            return ret;
        }
    }

    s->l1_size = get32(h, H_L1_SIZE);
    s->l1_offset = get64(h, H_L1_OFFSET);
    ret = check_place(s, s->l1_offset, s->l1_size * 8ULL, QCOW2_MAX_L1_BYTES, "Active L1 table", errp);
    if (ret < 0) {
        return ret;
    }
    s->length_bytes = get64(h, H_SIZE);
    needed = qcow2_l1_needed(s, s->length_bytes);
    if (needed > INT32_MAX || s->length_bytes > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image is too big");
        return -EFBIG;
    }
    if (s->l1_size < needed) {
        error_setg(errp, "L1 table is too small");
        return -EINVAL;
    }
    return 0;
}

/* ---- extensions ---- */

static void ext_free(gpointer p)
{
    g_free(((Qcow2Ext *)p)->data);
}

static int header_extension(BlockDriverState *bs, uint32_t magic, uint32_t len,
                            const uint8_t *data, Error **errp)
{
    Qcow2State *s = bs->opaque;

    if (magic == QCOW2_EXT_BACKING_FMT) {
        if (len >= 16) {
            error_setg(errp, "ERROR: ext_backing_format: len=%" PRIu32 " too large (>=%d)", len, 16);
            return -EINVAL;
        }
        g_free(bs->backing_format);
        bs->backing_format = g_strndup((const char *)data, len);
        return 0;
    }
    if (magic == QCOW2_EXT_DATA_FILE) {
        g_free(s->data_file_name);
        s->data_file_name = g_strndup((const char *)data, len);
    }
    Qcow2Ext ext = { magic, len, g_memdup2(data, len) };

    g_array_append_val(s->extensions, ext);
    return 0;
}

static int header_extensions(BlockDriverState *bs, const uint8_t *h, uint64_t end, Error **errp)
{
    Qcow2State *s = bs->opaque;

    for (uint64_t at = s->header_length; at + 8 <= end;) {
        uint32_t magic = get32(h, at), len = get32(h, at + 4);
        int ret;

        at += 8;
        if (magic == QCOW2_EXT_END) {
            return 0;
        }
        if (len > end - at) {
            error_setg(errp, "Header extension too large");
            return -EINVAL;
        }
        ret = header_extension(bs, magic, len, h + at, errp);
        if (ret < 0) {
            return ret;
        }
        at += ROUND_UP(len, 8);
    }
    return 0;
}

/* ---- features ---- */

/* The image's own name for bit @bit of kind @type (0: incompatible); NULL: it has none. The
 * caller frees. */
static char *feature_name(Qcow2State *s, unsigned type, unsigned bit)
{
    for (guint i = 0; i < s->extensions->len; i++) {
        Qcow2Ext *e = &g_array_index(s->extensions, Qcow2Ext, i);

        for (uint32_t at = 0; e->magic == QCOW2_EXT_FEATURES && at + FEATURE_BYTES <= e->len;
             at += FEATURE_BYTES) {
            if (e->data[at] == type && e->data[at + 1] == bit) {
                return g_strndup((const char *)e->data + at + 2, FEATURE_BYTES - 2);
            }
        }
    }
    return NULL;
}

static int header_features(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t unknown = s->incompatible & ~QCOW2_INCOMPAT_KNOWN;
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned bit = 0; bit < 64; bit++) {
        g_autofree char *name = unknown & (1ULL << bit) ? feature_name(s, 0, bit) : NULL;

        if (name && *name) {
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", name);
            unknown &= ~(1ULL << bit);
        }
    }
    if (unknown) {
        g_string_append_printf(names, "%sUnknown incompatible feature: %" PRIx64,
                               names->len ? ", " : "", unknown);
    }
    if (names->len) {
        error_setg(errp, "Unsupported qcow2 feature(s): %s", names->str);
        return -ENOTSUP;
    }
    return 0;
}

static int header_compression(Qcow2State *s, const uint8_t *h, Error **errp)
{
    bool bit = s->incompatible & QCOW2_INCOMPAT_COMPRESSION;

    s->compression_type = s->version >= 3 && s->header_length > H_COMPRESSION ? h[H_COMPRESSION] : 0;
    if (s->compression_type > 1) {
        error_setg(errp, "qcow2: unknown compression type: %u", s->compression_type);
        return -ENOTSUP;
    }
    if (bit != !!s->compression_type) {
        error_setg(errp, "qcow2: Compression type incompatible feature bit must %sbe set",
                   bit ? "not " : "");
        return -EINVAL;
    }
    return 0;
}

static int header_encryption(Qcow2State *s, const uint8_t *h, Error **errp)
{
    uint32_t method = get32(h, H_CRYPT);

    if (method > 2) {
        error_setg(errp, "Unsupported encryption method %" PRIu32, method);
        return -EINVAL;
    }
    s->crypt_method = method;
    return 0;
}

/* May it be opened as @flags ask? */
static int header_writable(Qcow2State *s, int flags, Error **errp)
{
    if (!(flags & BDRV_O_RDWR) || (flags & BDRV_O_CHECK)) {
        return 0;
    }
    if (s->incompatible & QCOW2_INCOMPAT_CORRUPT) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened read/write");
        return -EACCES;
    }
    if (s->crypt_method == QCOW2_CRYPT_AES) {
        error_setg(errp, "qcow2: Images that are encrypted with AES-CBC are for reading only");
        error_append_hint(errp, "That encryption is broken. Convert the image to one with encrypt.format=luks.\n");
        return -EACCES;
    }
    return 0;
}

/* ---- reading ---- */

static int header_backing_name(BlockDriverState *bs, const uint8_t *h, uint64_t *ext_end,
                               char **name, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset = get64(h, H_BACKING_OFFSET);
    uint32_t len = get32(h, H_BACKING_BYTES);

    *ext_end = s->cluster_size;
    if (!offset) {
        return 0;
    }
    if (offset > s->cluster_size) {
        error_setg(errp, "Invalid backing file offset");
        return -EINVAL;
    }
    *ext_end = offset;
    if (!len) {
        return 0;
    }
    if (len > QCOW2_MAX_BACKING_NAME || len > s->cluster_size - offset) {
        error_setg(errp, "Backing file name too long");
        return -EINVAL;
    }
    *name = g_strndup((const char *)h + offset, len);
    return 0;
}

static int header_parse(BlockDriverState *bs, const uint8_t *h, int flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    g_autofree char *backing = NULL;
    uint64_t ext_end;
    int ret = header_encryption(s, h, errp);

    if (!ret) {
        ret = header_backing_name(bs, h, &ext_end, &backing, errp);
    }
    if (!ret) {
        ret = header_extensions(bs, h, ext_end, errp);
    }
    if (!ret) {
        ret = header_features(bs, errp);
    }
    if (!ret) {
        ret = header_compression(s, h, errp);
    }
    if (!ret) {
        ret = header_tables(s, h, flags & BDRV_O_CHECK, errp);
    }
    if (!ret) {
        ret = header_writable(s, flags, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (s->header_length > QCOW2_V3_HEADER_WRITTEN) {
        s->header_extra = g_memdup2(h + QCOW2_V3_HEADER_WRITTEN,
                                    s->header_length - QCOW2_V3_HEADER_WRITTEN);
    }
    s->tail_bytes = MIN(s->cluster_size, 8 * BDRV_SECTOR_SIZE) - BDRV_SECTOR_SIZE;
    s->header_tail = g_memdup2(h + BDRV_SECTOR_SIZE, s->tail_bytes);
    s->name_offset = backing ? get64(h, H_BACKING_OFFSET) : 0;
    s->name_written = g_strdup(backing);
    s->header_end = MAX(2 * BDRV_SECTOR_SIZE, s->name_offset + (backing ? strlen(backing) : 0));
    if (backing) {
        g_autofree char *fmt = g_steal_pointer(&bs->backing_format);

        bdrv_set_backing_hint(bs, backing, fmt);
    }
    return 0;
}

int coroutine_fn qcow2_co_read_header(BlockDriverState *bs, int flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint8_t *h = qemu_blockalign(bs->file->bs, 1u << QCOW2_MIN_CLUSTER_BITS);
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, h, 1u << QCOW2_MIN_CLUSTER_BITS);
    ret = qcow2_co_read_file(bs, 0, qiov.size, &qiov, 0, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read qcow2 header");
        qemu_vfree(h);
        return ret;
    }
    ret = header_basics(s, h, errp);
    qemu_vfree(h);
    if (ret < 0) {
        return ret;
    }
    h = qemu_blockalign(bs->file->bs, s->cluster_size);
    qemu_iovec_init_buf(&qiov, h, s->cluster_size);
    ret = qcow2_co_read_file(bs, 0, s->cluster_size, &qiov, 0, 0);
    s->extensions = g_array_new(false, false, sizeof(Qcow2Ext));
    g_array_set_clear_func(s->extensions, ext_free);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read qcow2 header");
    } else {
        ret = header_parse(bs, h, flags, errp);
    }
    if (ret < 0) {
        qcow2_free_header(s);
    }
    qemu_vfree(h);
    return ret;
}

void qcow2_free_header(Qcow2State *s)
{
    if (s->extensions) {
        g_array_free(s->extensions, true);
        s->extensions = NULL;
    }
    g_clear_pointer(&s->header_extra, g_free);
    g_clear_pointer(&s->name_written, g_free);
    g_clear_pointer(&s->header_tail, g_free);
    g_clear_pointer(&s->data_file_name, g_free);
}

/* ---- writing ----
 *
 * A device writes a sector as a whole, but not more. So what says how the image is to be read (fields and
 * extensions) stands in the first sector; names of features are left out where there is no room for them. The name of
 * the backing file stands there as well, or behind it in a place that the old header does not need: it is
 * written before the sector that refers to it, and stays where it is as long as it is the same. Only extensions
 * longer than a sector and long names in clusters of 1 KiB can be torn. In a new image, which nobody can lose, the
 * name stands directly behind the extensions.
 */

uint8_t *qcow2_feature_names(uint32_t *len)
{
    static const struct { uint8_t type, bit; const char *name; } names[] = {
        { 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" },
        { 0, 3, "compression type" }, { 0, 4, "extended L2 entries" },
        { 1, 0, "lazy refcounts" }, { 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
    };
    uint8_t *table = g_malloc0(G_N_ELEMENTS(names) * FEATURE_BYTES);

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        table[i * FEATURE_BYTES] = names[i].type;
        table[i * FEATURE_BYTES + 1] = names[i].bit;
        memcpy(table + i * FEATURE_BYTES + 2, names[i].name, strlen(names[i].name));
    }
    *len = G_N_ELEMENTS(names) * FEATURE_BYTES;
    return table;
}

static void put_ext(GByteArray *out, uint32_t magic, const void *data, uint32_t len)
{
    static const uint8_t padding[8];
    uint8_t head[8];

    put32(head, 0, magic);
    put32(head, 4, len);
    g_byte_array_append(out, head, 8);
    if (len) {
        g_byte_array_append(out, data, len);
        g_byte_array_append(out, padding, ROUND_UP(len, 8) - len);
    }
}

static void put_fixed(Qcow2State *s, uint8_t *h, uint32_t header_length)
{
    put32(h, H_MAGIC, QCOW2_MAGIC);
    put32(h, H_VERSION, s->version);
    put32(h, H_CLUSTER_BITS, s->cluster_bits);
    put64(h, H_SIZE, s->length_bytes);
    put32(h, H_CRYPT, s->crypt_method);
    put32(h, H_L1_SIZE, s->l1_size);
    put64(h, H_L1_OFFSET, s->l1_offset);
    put64(h, H_REFTABLE_OFFSET, s->reftable_offset);
    put32(h, H_REFTABLE_CLUSTERS, s->reftable_size / (s->cluster_size / 8));
    put32(h, H_NB_SNAPSHOTS, s->nb_snapshots);
    put64(h, H_SNAPSHOTS_OFFSET, s->snapshots_offset);
    if (s->version >= 3) {
        put64(h, H_INCOMPATIBLE, s->incompatible);
        put64(h, H_COMPATIBLE, s->compatible);
        put64(h, H_AUTOCLEAR, s->autoclear);
        put32(h, H_REFCOUNT_ORDER, s->refcount_order);
        put32(h, H_LENGTH, header_length);
        h[H_COMPRESSION] = s->compression_type;
    }
}

/* Where the name goes, if what is before it ends at @end. @simple: there. */
static uint32_t name_place(Qcow2State *s, const char *name, uint32_t end, bool simple)
{
    uint32_t bytes = strlen(name), first = ROUND_UP(MAX(end, BDRV_SECTOR_SIZE), BDRV_SECTOR_SIZE);
    uint32_t beyond = ROUND_UP(MAX(first, s->header_end), BDRV_SECTOR_SIZE);

    if (simple || end + bytes <= BDRV_SECTOR_SIZE || first + bytes > s->cluster_size) {
        return end;
    }
    if (s->name_offset >= first && !g_strcmp0(s->name_written, name)) {
        return s->name_offset;
    }
    return beyond + bytes <= s->cluster_size ? beyond : first;
}

static GByteArray *header_build(Qcow2State *s, const char *backing_file, const char *backing_fmt,
                                bool feature_names, bool simple)
{
    uint32_t length = s->version == 2 ? QCOW2_V2_HEADER_BYTES
                                      : MAX(s->header_length, QCOW2_V3_HEADER_WRITTEN);
    GByteArray *out = g_byte_array_sized_new(1024);
    size_t name_bytes = backing_file ? strlen(backing_file) : 0;

    g_byte_array_set_size(out, length);
    memset(out->data, 0, length);
    put_fixed(s, out->data, length);
    if (s->header_extra) {
        memcpy(out->data + QCOW2_V3_HEADER_WRITTEN, s->header_extra,
               length - QCOW2_V3_HEADER_WRITTEN);
    }
    if (backing_fmt && *backing_fmt) {
        put_ext(out, QCOW2_EXT_BACKING_FMT, backing_fmt, strlen(backing_fmt));
    }
    for (guint i = 0; i < s->extensions->len; i++) {
        Qcow2Ext *e = &g_array_index(s->extensions, Qcow2Ext, i);

        if (feature_names || e->magic != QCOW2_EXT_FEATURES) {
            put_ext(out, e->magic, e->data, e->len);
        }
    }
    put_ext(out, QCOW2_EXT_END, NULL, 0);
    if (name_bytes) {
        uint32_t end = out->len, place = name_place(s, backing_file, end, simple);

        g_byte_array_set_size(out, place);
        memset(out->data + end, 0, place - end);
        put64(out->data, H_BACKING_OFFSET, place);
        put32(out->data, H_BACKING_BYTES, name_bytes);
        g_byte_array_append(out, (const uint8_t *)backing_file, name_bytes);
    }
    return out;
}

static bool tail_is_there(const Qcow2State *s, const GByteArray *header)
{
    uint32_t bytes = MAX(header->len, BDRV_SECTOR_SIZE) - BDRV_SECTOR_SIZE;

    return bytes <= s->tail_bytes && (!bytes || !memcmp(header->data + BDRV_SECTOR_SIZE, s->header_tail, bytes));
}

GByteArray *qcow2_header_build(Qcow2State *s, const char *backing_file, const char *backing_fmt)
{
    GByteArray *out;

    if (backing_file && strlen(backing_file) > QCOW2_MAX_BACKING_NAME) {
        return NULL;
    }
    /* As everybody does it, in a new image, or if nothing changes behind the first sector. */
    out = header_build(s, backing_file, backing_fmt, true, true);
    if (out->len < s->cluster_size && (!s->header_end || tail_is_there(s, out))) {
        return out;
    }
    g_byte_array_unref(out);
    out = header_build(s, NULL, backing_fmt, true, true);
    bool names = out->len <= BDRV_SECTOR_SIZE;

    g_byte_array_unref(out);
    out = header_build(s, backing_file, backing_fmt, names, !s->header_end);
    if (names && out->len >= s->cluster_size) {
        /* With small clusters, too, names of features are what one can do without. */
        g_byte_array_unref(out);
        out = header_build(s, backing_file, backing_fmt, false, !s->header_end);
    }
    if (out->len > s->cluster_size) {
        g_byte_array_unref(out);
        return NULL;
    }
    return out;
}

int coroutine_fn qcow2_co_put_header(BdrvChild *file, Qcow2State *s, const GByteArray *header)
{
    /* The rest of the sector too, so that nothing of an older, longer one is left there. */
    uint32_t bytes = ROUND_UP(header->len, BDRV_SECTOR_SIZE), at = 0;
    uint32_t place = get64(header->data, H_BACKING_OFFSET), name_bytes = get32(header->data, H_BACKING_BYTES);
    const char *name = (const char *)header->data + place;
    uint8_t *buf = qemu_blockalign(file->bs, bytes);
    int ret = 0;

    memset(buf, 0, bytes);
    memcpy(buf, header->data, header->len);
    if (place >= BDRV_SECTOR_SIZE && buffer_is_zero(buf + BDRV_SECTOR_SIZE, place - BDRV_SECTOR_SIZE)) {
        at = QEMU_ALIGN_DOWN(place, BDRV_SECTOR_SIZE);
        if (!s || s->name_offset != place || !s->name_written || strlen(s->name_written) != name_bytes ||
            memcmp(s->name_written, name, name_bytes)) {
            ret = bdrv_co_pwrite(file, at, bytes - at, buf + at, 0);
            ret = ret < 0 ? ret : bdrv_co_flush(file->bs);
        }
    }
    if (ret >= 0) {
        ret = bdrv_co_pwrite(file, 0, at ? BDRV_SECTOR_SIZE : bytes, buf, 0);
    }
    if (ret >= 0 && s) {
        g_free(s->name_written);
        s->name_written = name_bytes ? g_strndup(name, name_bytes) : NULL;
        s->name_offset = name_bytes ? place : 0;
        s->header_end = header->len;
        if (bytes > BDRV_SECTOR_SIZE) {
            g_free(s->header_tail);
            s->tail_bytes = bytes - BDRV_SECTOR_SIZE;
            s->header_tail = g_memdup2(buf + BDRV_SECTOR_SIZE, s->tail_bytes);
        }
    }
    qemu_vfree(buf);
    return ret;
}

int coroutine_fn qcow2_co_write_header(BlockDriverState *bs)
{
    GByteArray *h = qcow2_header_build(bs->opaque, bs->backing_file, bs->backing_format);

    if (!h) {
        return -ENOSPC;
    }
    int ret = qcow2_co_put_header(bs->file, bs->opaque, h);

    g_byte_array_unref(h);
    return ret;
}

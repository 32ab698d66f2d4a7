/* SPDX-License-Identifier: MIT */
/* create.c: blockdev-create for qcow2, and what is in a new header.
 *
 * An empty image of length 0 is written: header, refcount table and one block, in the first
 * three clusters. Then it is opened as any other, and grown to its length; so tables,
 * preallocation and their crash safety are those of grow.c.
 *
 * Runs on: the main thread; suspends.
 */
#include "block/block_int-global-state.h"
#include "drivers/format/creator.h"
#include "drivers/format/qcow2/qcow2.h"

/* ---- parameters ---- */

typedef struct CreateParams {
    const BlockdevCreateOptionsQcow2 *o;
    unsigned version, cluster_bits, refcount_order;
    PreallocMode prealloc;
    const char *backing_fmt;
    bool zstd;
    BlockDriverState *data;             /* external data file, or NULL */
    bool raw_data;
} CreateParams;

static int params_widths(CreateParams *p, Error **errp)
{
    uint64_t cluster = p->o->has_cluster_size ? p->o->cluster_size : 64 * KiB;
    int64_t bits = p->o->has_refcount_bits ? p->o->refcount_bits : 16;

    if (!is_power_of_2(cluster) || cluster < 1u << QCOW2_MIN_CLUSTER_BITS ||
        cluster > 1u << QCOW2_MAX_CLUSTER_BITS) {
        error_setg(errp, "Cluster size must be a power of two between %d and %dk",
                   1 << QCOW2_MIN_CLUSTER_BITS, 1 << (QCOW2_MAX_CLUSTER_BITS - 10));
        return -EINVAL;
    }
    p->cluster_bits = __builtin_ctzll(cluster);
    if (bits < 1 || bits > 64 || !is_power_of_2(bits)) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
        return -EINVAL;
    }
    if (p->version < 3 && bits != 16) {
        error_setg(errp, "Different refcount widths than 16 bits require compatibility level 1.1 "
                   "or above (use version=v3 or greater)");
        return -EINVAL;
    }
    p->refcount_order = __builtin_ctzll(bits);
    if (p->version < 3 && p->o->has_lazy_refcounts && p->o->lazy_refcounts) {
        error_setg(errp, "Lazy refcounts only supported with compatibility level 1.1 and above "
                   "(use version=v3 or greater)");
        return -EINVAL;
    }
    if (p->version < 3 && p->zstd) {
        error_setg(errp, "Non-zlib compression type is only supported with compatibility level 1.1 "
                   "and above (use version=v3 or greater)");
        return -EINVAL;
    }
    return 0;
}

static int params_features(CreateParams *p, Error **errp)
{
    if (p->version < 3 && p->o->data_file) {
        error_setg(errp, "External data files are only supported with compatibility level 1.1 and above "
                   "(use version=v3 or greater)");
        return -EINVAL;
    }
    if (p->raw_data && !p->o->data_file) {
        error_setg(errp, "data-file-raw requires data-file");
        return -EINVAL;
    }
    if (p->raw_data && p->o->backing_file) {
        error_setg(errp, "Backing file and data-file-raw cannot be used at the same time");
        return -EINVAL;
    }
    if (p->o->extended_l2 && p->cluster_bits < QCOW2_EXT_L2_CLUSTER_BITS_MIN) {
        error_setg(errp, "Extended L2 entries are only supported with cluster sizes of at least %d bytes",
                   1 << QCOW2_EXT_L2_CLUSTER_BITS_MIN);
        return -EINVAL;
    }
    if (p->o->extended_l2 && p->version < 3) {
        error_setg(errp, "Extended L2 entries are only supported with compatibility level 1.1 and above "
                   "(use version=v3 or greater)");
        return -EINVAL;
    }
    return 0;
}

static int params_check(CreateParams *p, const BlockdevCreateOptionsQcow2 *o, Error **errp)
{
    *p = (CreateParams) {
        .o = o,
        .version = o->has_version && o->version == BLOCKDEV_QCOW2_VERSION_V2 ? 2 : 3,
        .prealloc = o->has_preallocation ? o->preallocation : PREALLOC_MODE_OFF,
        .zstd = o->has_compression_type && o->compression_type == QCOW2_COMPRESSION_TYPE_ZSTD,
        .raw_data = o->data_file_raw,
        .backing_fmt = o->has_backing_fmt ? BlockdevDriver_str(o->backing_fmt) : NULL,
    };
    if (o->size & (BDRV_SECTOR_SIZE - 1)) {
        error_setg(errp, "Image size must be a multiple of %d bytes", BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    if (params_widths(p, errp) < 0 || params_features(p, errp) < 0) {
        return -EINVAL;
    }
    if (o->backing_file && p->prealloc != PREALLOC_MODE_OFF && !o->extended_l2) {
        error_setg(errp, "Backing file and preallocation can only be used at the same time if "
                   "extended_l2 is on");
        return -EINVAL;
    }
    if (p->backing_fmt && !o->backing_file) {
        error_setg(errp, "Backing format cannot be used without backing file");
        return -EINVAL;
    }
    return 0;
}

/* ---- the empty image ---- */

static GByteArray *empty_header(const CreateParams *p, Error **errp)
{
    uint32_t cluster = 1u << p->cluster_bits;
    Qcow2State s = {
        .version = p->version, .cluster_bits = p->cluster_bits, .cluster_size = cluster,
        .refcount_order = p->refcount_order,
        .header_length = p->version == 2 ? QCOW2_V2_HEADER_BYTES : QCOW2_V3_HEADER_WRITTEN,
        .incompatible = (p->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0) | (p->data ? QCOW2_INCOMPAT_DATA_FILE : 0) |
                        (p->o->extended_l2 ? QCOW2_INCOMPAT_EXT_L2 : 0),
        .compression_type = p->zstd, .autoclear = p->raw_data ? QCOW2_AUTOCLEAR_RAW : 0,
        .compatible = p->o->has_lazy_refcounts && p->o->lazy_refcounts ? QCOW2_COMPAT_LAZY : 0,
        .reftable_offset = cluster, .reftable_size = cluster / 8,
        .extensions = g_array_new(false, false, sizeof(Qcow2Ext)),
    };
    Qcow2Ext names = { .magic = QCOW2_EXT_FEATURES };
    GByteArray *h;

    if (p->data) {
        Qcow2Ext data = { QCOW2_EXT_DATA_FILE, strlen(p->data->filename), (uint8_t *)p->data->filename };

        g_array_append_val(s.extensions, data);
    }
    names.data = qcow2_feature_names(&names.len);
    if (p->version >= 3) {
        g_array_append_val(s.extensions, names);
    }
    h = qcow2_header_build(&s, p->o->backing_file, p->backing_fmt);
    if (!h) {
        if (p->o->backing_file) {
            error_setg(errp, "Could not assign backing file '%s' with format '%s': Invalid argument",
                       p->o->backing_file, p->backing_fmt ? p->backing_fmt : "(null)");
        } else {
            error_setg(errp, "The header does not fit into one cluster");
        }
    }
    g_free(names.data);
    g_array_free(s.extensions, true);
    return h;
}

static int coroutine_fn write_co_empty(BdrvChild *file, const CreateParams *p, const GByteArray *h)
{
    uint64_t cluster = 1u << p->cluster_bits, block = GUINT64_TO_BE(2 * cluster);
    uint8_t *sector = qemu_blockalign(file->bs, BDRV_SECTOR_SIZE);
    int ret = 0;

    /* Nothing of what was there before should be taken for a table, or for fresh space. */
    if (bdrv_getlength_cached(file->bs) > 0) {
        bdrv_co_truncate(file, 0, false, PREALLOC_MODE_OFF, 0, NULL);
    }
    ret = bdrv_co_pwrite_zeroes(file, 0, 3 * cluster, BDRV_REQ_MAY_UNMAP);
    memset(sector, 0, BDRV_SECTOR_SIZE);
    for (unsigned i = 0; i < 3; i++) {
        qcow2_refcount_set(sector, p->refcount_order, i, 1);
    }
    if (!ret) {
        ret = bdrv_co_pwrite(file, 2 * cluster, BDRV_SECTOR_SIZE, sector, 0);
    }
    memset(sector, 0, BDRV_SECTOR_SIZE);
    memcpy(sector, &block, sizeof(block));
    if (!ret) {
        ret = bdrv_co_pwrite(file, cluster, BDRV_SECTOR_SIZE, sector, 0);
    }
    qemu_vfree(sector);
    /* The header last: until then it is no image. */
    if (!ret) {
        ret = bdrv_co_flush(file->bs);
    }
    if (!ret) {
        ret = qcow2_co_put_header(file, NULL, h);
    }
    return ret ? ret : bdrv_co_flush(file->bs);
}

static int coroutine_fn create_co_empty(BlockDriverState *bs, const CreateParams *p, Error **errp)
{
    GByteArray *h = empty_header(p, errp);
    BdrvChild *c;
    int ret;

    if (!h) {
        return -EINVAL;
    }
    bdrv_ref(bs);       /* for the child, also if it fails */
    c = creator_attach(bs, errp);
    if (!c) {
        g_byte_array_unref(h);
        return -EPERM;
    }
    ret = write_co_empty(c, p, h);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write qcow2 header");
    }
    bdrv_root_unref_child(c);
    g_byte_array_unref(h);
    return ret;
}

/* Open the empty image and grow it. */
static int coroutine_fn create_co_grow(BlockDriverState *file, const CreateParams *p, Error **errp)
{
    QDict *options = qdict_new();
    BlockDriverState *bs;
    BdrvChild *c;
    int ret;

    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "file", file->node_name);
    if (p->data) {
        qdict_put_str(options, "data-file", p->data->node_name);
    }
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE | BDRV_O_NO_BACKING, errp);
    if (!bs) {
        return -EINVAL;
    }
    c = creator_attach(bs, errp);
    if (!c) {
        return -EPERM;
    }
    ret = p->o->encrypt ? qcow2_co_crypt_create(bs, p->o->encrypt, errp) : 0;
    if (ret < 0) {
        bdrv_root_unref_child(c);
        return ret;
    }
    ret = bdrv_co_truncate(c, p->o->size, false, p->prealloc, 0, errp);
    if (ret < 0) {
        error_prepend(errp, "Could not resize image: ");
    } else {
        ret = bdrv_co_flush(bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not flush the new image");
        }
    }
    bdrv_root_unref_child(c);       /* with the last reference */
    return ret;
}

int coroutine_fn qcow2_co_create(BlockdevCreateOptions *opts, Error **errp)
{
    const BlockdevCreateOptionsQcow2 *o = &opts->u.qcow2;
    BlockDriverState *bs;
    CreateParams p;
    int ret = params_check(&p, o, errp);

    if (ret < 0) {
        return ret;
    }
    bs = creator_co_open(o->file, errp);
    if (!bs) {
        return -EINVAL;
    }
    p.data = o->data_file ? creator_co_open(o->data_file, errp) : NULL;
    if (o->data_file && !p.data) {
        bdrv_unref(bs);
        return -EINVAL;
    }
    ret = create_co_empty(bs, &p, errp);
    if (!ret) {
        ret = create_co_grow(bs, &p, errp);
    }
    if (p.data) {
        bdrv_unref(p.data);
    }
    bdrv_unref(bs);
    return ret;
}

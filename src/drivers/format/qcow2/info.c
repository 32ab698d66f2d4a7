/* SPDX-License-Identifier: MIT */
/* info.c: probing, what an image says about itself, and the backing file's name in it. */
#include "drivers/format/qcow2/bitmap.h"

int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    uint32_t magic, version;

    if (len < 8) {
        return 0;
    }
    memcpy(&magic, buf, 4);
    memcpy(&version, buf + 4, 4);
    /* Version 1 is another format. It is refused with its name, and not taken for the bytes of a disk. */
    return GUINT32_FROM_BE(magic) == QCOW2_MAGIC && version ? 100 : 0;
}

int qcow2_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    Qcow2State *s = bs->opaque;
    unsigned l1_shift = s->cluster_bits + s->l2_bits;

    qcow2_lock(s);
    info->cluster_size = s->cluster_size;
    info->subcluster_size = s->subcluster_size;
    info->vm_state_offset = qcow2_l1_needed(s, s->length_bytes) << l1_shift;
    info->encrypted = s->crypt_method;
    info->is_dirty = s->incompatible & QCOW2_INCOMPAT_DIRTY;
    qcow2_unlock(s);
    return 0;
}

ImageInfoSpecific *qcow2_get_specific_info(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);
    ImageInfoSpecificQCow2 *q = g_new0(ImageInfoSpecificQCow2, 1);

    info->type = IMAGE_INFO_SPECIFIC_KIND_QCOW2;
    info->u.qcow2.data = q;
    q->compat = g_strdup(s->version == 2 ? "0.10" : "1.1");
    q->refcount_bits = 1 << s->refcount_order;
    q->compression_type = s->compression_type ? QCOW2_COMPRESSION_TYPE_ZSTD
                                              : QCOW2_COMPRESSION_TYPE_ZLIB;
    if (s->version >= 3) {
        q->has_lazy_refcounts = q->has_corrupt = q->has_extended_l2 = true;
        q->lazy_refcounts = s->compatible & QCOW2_COMPAT_LAZY;
        q->corrupt = s->incompatible & QCOW2_INCOMPAT_CORRUPT;
        q->extended_l2 = s->ext_l2;
    }
    if (s->bitmaps && s->bitmaps->entries->len) {
        q->bitmaps = qcow2_bitmaps_info(bs);
    }
    if (s->crypt) {
        q->encrypt = qcow2_crypt_info(s);
    }
    if (s->external) {
        q->data_file = g_strdup(s->data_file_name);
        q->has_data_file_raw = true;
        q->data_file_raw = s->raw_data;
    }
    return info;
}

int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs, const char *backing_file,
                                              const char *backing_fmt, Error **errp)
{
    Qcow2State *s = bs->opaque;
    GByteArray *h;
    int ret;

    if (backing_file && strlen(backing_file) > QCOW2_MAX_BACKING_NAME) {
        error_setg(errp, "Backing file name too long");
        return -EINVAL;
    }
    if (backing_file && *backing_file && s->raw_data) {
        error_setg(errp, "Cannot set a backing file for images with data-file-raw");
        return -EINVAL;
    }
    qemu_co_mutex_lock(&s->l1_lock);
    h = qcow2_header_build(s, backing_file, backing_fmt);
    if (!h) {
        error_setg(errp, "The name of the backing file does not fit into the header");
        ret = -ENOSPC;
    } else {
        /* What was copied up must be there before the file it came from is let go. */
        ret = qcow2_co_commit(bs, true);
        if (!ret) {
            ret = qcow2_co_flush_files(bs);
        }
        if (!ret) {
            ret = qcow2_co_put_header(bs->file, s, h);
        }
        if (!ret) {
            ret = bdrv_co_flush(bs->file->bs);
        }
        g_byte_array_unref(h);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not update the image header");
        }
    }
    qemu_co_mutex_unlock(&s->l1_lock);
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* amend.c: the options of an image that can be changed; see amend.h. */
#include "drivers/format/qcow2/amend.h"

int coroutine_fn qcow2_co_amend_header(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_co_write_header(bs);

    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        qcow2_lock(s);
        s->corrupt = s->header_lost = true;
        qcow2_unlock(s);
        error_setg_errno(errp, -ret, "Failed to update the image header");
    }
    return ret;
}

/* ---- what cannot be ---- */

static int check_fixed(BlockDriverState *bs, const BdrvAmendOptions *o, Error **errp)
{
    Qcow2State *s = bs->opaque;

    if ((o->backing_file && g_strcmp0(o->backing_file, bs->backing_file)) ||
        (o->backing_fmt && g_strcmp0(o->backing_fmt, bs->backing_format)) ||
        (o->backing_file && !o->backing_fmt && bs->backing_format)) {
        error_setg(errp, "Cannot amend the backing file");
        error_append_hint(errp, "You can use 'qemu-img rebase' instead.\n");
        return -EINVAL;
    }
    if (o->has_data_file_raw && o->data_file_raw && !s->raw_data) {
        error_setg(errp, "data-file-raw cannot be set on existing images");
        return -EINVAL;
    }
    if (o->data_file && !s->external) {
        error_setg(errp, "data-file can only be set for images that use an external data file");
        return -EINVAL;
    }
    return 0;
}

static int check_widths(BlockDriverState *bs, const BdrvAmendOptions *o, unsigned version, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int64_t bits = o->refcount_bits;

    if (bits >= 0 && (bits < 1 || bits > 64 || !is_power_of_2(bits))) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
        return -EINVAL;
    }
    if (o->has_lazy_refcounts && o->lazy_refcounts && version < 3) {
        error_setg(errp, "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
                   "greater)");
        return -EINVAL;
    }
    if (bits >= 0 && bits != 16 && version < 3) {
        error_setg(errp, "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 "
                   "or greater)");
        return -EINVAL;
    }
    if (version < s->version && bits < 0 && s->refcount_order != 4) {
        error_setg(errp, "compat=0.10 requires refcount_bits=16");
        return -ENOTSUP;
    }
    return 0;
}

static int check_size(BlockDriverState *bs, const BdrvAmendOptions *o, Error **errp)
{
    Qcow2State *s = bs->opaque;

    if (o->size < 0 || (uint64_t)o->size == s->length_bytes) {
        return 0;
    }
    if (o->size & (BDRV_SECTOR_SIZE - 1)) {
        error_setg(errp, "The new size must be a multiple of %d", BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    return 0;
}

/* ---- small changes: of the header only ---- */

static void set_data_file(Qcow2State *s, const char *name)
{
    for (guint i = s->extensions->len; i-- > 0;) {
        if (g_array_index(s->extensions, Qcow2Ext, i).magic == QCOW2_EXT_DATA_FILE) {
            g_array_remove_index(s->extensions, i);
        }
    }
    g_free(s->data_file_name);
    s->data_file_name = *name ? g_strdup(name) : NULL;
    if (*name) {
        Qcow2Ext ext = { QCOW2_EXT_DATA_FILE, strlen(name), (uint8_t *)g_strdup(name) };

        g_array_append_val(s->extensions, ext);
    }
}

static int coroutine_fn amend_co_header(BlockDriverState *bs, const BdrvAmendOptions *o, Error **errp)
{
    Qcow2State *s = bs->opaque;
    bool changed = false;

    if (o->has_lazy_refcounts && o->lazy_refcounts != !!(s->compatible & QCOW2_COMPAT_LAZY)) {
        s->compatible ^= QCOW2_COMPAT_LAZY;
        changed = true;
    }
    if (o->has_data_file_raw && !o->data_file_raw && s->raw_data) {
        s->autoclear &= ~QCOW2_AUTOCLEAR_RAW;
        s->raw_data = false;
        changed = true;
    }
    if (o->data_file) {
        set_data_file(s, o->data_file);
        changed = true;
    }
    return changed ? qcow2_co_amend_header(bs, errp) : 0;
}

static int coroutine_fn amend_co_steps(BlockDriverState *bs, const BdrvAmendOptions *o, unsigned version, Error **errp)
{
    Qcow2State *s = bs->opaque;
    unsigned order = o->refcount_bits > 0 ? __builtin_ctzll(o->refcount_bits) : s->refcount_order;
    int ret = qcow2_co_before_change(bs);

    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write what is in memory of the image");
    }
    if (!ret && version > s->version) {
        ret = qcow2_co_upgrade(bs, errp);
    }
    if (!ret) {
        ret = amend_co_header(bs, o, errp);
    }
    if (!ret && order != s->refcount_order) {
        ret = qcow2_co_amend_refcounts(bs, order, errp);
    }
    if (!ret && o->size >= 0 && (uint64_t)o->size != s->length_bytes) {
        ret = qcow2_co_truncate(bs, o->size, false, PREALLOC_MODE_OFF, 0, errp);
    }
    if (!ret && version < s->version) {
        ret = qcow2_co_downgrade(bs, errp);
    }
    return ret;
}

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, const BdrvAmendOptions *o, Error **errp)
{
    Qcow2State *s = bs->opaque;
    unsigned version = o->version ? o->version : s->version;
    int ret = check_fixed(bs, o, errp);

    if (!ret) {
        ret = check_widths(bs, o, version, errp);
    }
    if (!ret) {
        ret = check_size(bs, o, errp);
    }
    if (!ret && (s->corrupt || !s->snapshots || !s->data_file)) {
        error_setg(errp, "The image is damaged, or was opened without its data file");
        ret = -EIO;
    }
    if (!ret) {
        ret = amend_co_steps(bs, o, version, errp);
        qcow2_co_note_damage(bs);
    }
    return ret;
}

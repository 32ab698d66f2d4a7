/* SPDX-License-Identifier: MIT */
/* infer.c: what options of an image leave out because its header says so: the kind of encryption where only
 * encrypt.key-secret is given, and driver and file of the backing image where there are options for that besides.
 */
#include "compat/compat.h"

static bool is_dict(QDict *d)
{
    return d && qdict_type(d) == QTYPE_QDICT;
}

/* Open the image of @d, or of @filename with them, to look at its header. What is wrong is told when it is opened for
 * good. */
static BlockBackend *coroutine_fn open_header(const char *filename, QDict *d)
{
    static const char *const later[] = { "encrypt", "backing", "node-name", "read-only" };
    QDict *look = qdict_clone(d);

    for (size_t i = 0; i < G_N_ELEMENTS(later); i++) {
        qdict_del(look, later[i]);
    }
    if (!filename || qdict_size(look)) {
        look = compat_options_typed(look, NULL);
    }
    if (!look) {
        return NULL;
    }
    qdict_put_bool(look, "force-share", true);
    return blk_new_open(filename, NULL, look, BDRV_O_NO_IO | BDRV_O_NO_BACKING, NULL);
}

static void put_format(BlockDriverState *bs, QDict *encrypt)
{
    ImageInfoSpecific *info = bs->drv->get_specific_info ? bs->drv->get_specific_info(bs, NULL) : NULL;

    if (info && info->type == IMAGE_INFO_SPECIFIC_KIND_QCOW2 && info->u.qcow2.data->encrypt) {
        qdict_put_str(encrypt, "format", BlockdevQcow2EncryptionFormat_str(info->u.qcow2.data->encrypt->format));
    }
    qapi_free(&qapi_type_ImageInfoSpecific, info);
}

/* Options of a backing image that do not say where it is are for the one that the header names. */
static void put_backing(BlockDriverState *bs, QDict *backing)
{
    BlockDriverState *storage = bs, *below;

    while ((below = bdrv_primary_bs(storage))) {
        storage = below;
    }
    g_autofree char *path = bs->backing_file ? ops_backing_path(storage->exact_filename, bs->backing_file) : NULL;

    /* Names that are options themselves, and other protocols, are to be written out. */
    if (!path || !*path || g_str_has_prefix(path, "json:") || strstr(path, "://")) {
        return;
    }
    QDict *file = qdict_new();

    qdict_put_str(file, "filename", path);
    qdict_put_obj(backing, "file", file);
    if (bs->backing_format && *bs->backing_format) {
        qdict_put_str(backing, "driver", bs->backing_format);
    }
}

void coroutine_fn compat_co_infer(const char *filename, QDict *d)
{
    for (unsigned depth = 0; is_dict(d) && depth < 256; depth++) {
        QDict *encrypt = qdict_get(d, "encrypt"), *backing = qdict_get(d, "backing");
        bool kind = is_dict(encrypt) && !qdict_haskey(encrypt, "format");
        bool below = is_dict(backing) && !qdict_haskey(backing, "driver") && !qdict_haskey(backing, "file") &&
                     !qdict_haskey(backing, "filename");
        bool driver = depth && !qdict_haskey(d, "driver") && qdict_haskey(d, "file");
        BlockBackend *blk = kind || below || driver ? open_header(filename, d) : NULL;

        if (blk && driver) {
            qdict_put_str(d, "driver", blk_bs(blk)->drv->format_name);
        }
        if (blk && kind) {
            put_format(blk_bs(blk), encrypt);
        }
        if (blk && below) {
            put_backing(blk_bs(blk), backing);
        }
        blk_unref(blk);
        filename = NULL;
        d = backing;
    }
}

/* SPDX-License-Identifier: MIT */
/* open.c: opening images as command lines name them: plain names, "driver:..." , "json:{...}" and key=value options. */
#include "compat/compat.h"

/* Options of a whole image: they say a driver or a file. */
static QDict *whole_options(QDict *d, Error **errp)
{
    const char *driver = qdict_get_try_str(d, "driver");

    if (!driver && !qdict_haskey(d, "file")) {
        error_setg(errp, "Must specify either driver or file");
        qdict_unref(d);
        return NULL;
    }
    return compat_options_typed(d, errp);
}

static QDict *options_of_json(const char *text, Error **errp)
{
    ERRP_GUARD();
    QDict *d = qdict_from_json(text, errp);

    if (!d) {
        error_prepend(errp, "Could not parse the JSON options: ");
        return NULL;
    }
    if (qdict_type(d) != QTYPE_QDICT) {
        qdict_unref(d);
        error_setg(errp, "Invalid JSON object given");
        return NULL;
    }
    return qdict_crumple(d, errp);
}

static void add_common(QDict *d, const CompatOpen *o)
{
    if (o->force_share) {
        qdict_put_bool(d, "force-share", true);
    }
    if (o->detect_zeroes) {
        qdict_put_str(d, "detect-zeroes", o->detect_zeroes);
    }
}

/* aio= belongs to the file. It only matters where the name does not say all. */
static int check_aio(const CompatOpen *o, Error **errp)
{
    if (o->aio && !strcmp(o->aio, "native") && !(o->cache_flags & BDRV_O_NOCACHE)) {
        error_setg(errp, "aio=native was specified, but it requires cache.direct=on, which was not specified.");
        return -EINVAL;
    }
    return 0;
}

/* The format that @name would be probed to have; NULL and *errp. Lent. */
static const char *coroutine_fn probe_format(const char *name, Error **errp)
{
    BlockBackend *blk = blk_new_open(name, NULL, qdict_new(), BDRV_O_NO_BACKING | BDRV_O_NO_IO, errp);
    const char *format = blk ? blk_bs(blk)->drv->format_name : NULL;

    blk_unref(blk);
    return format;
}

/* Where a format is known by name and file, its options are only typed. Takes over @d. */
static QDict *coroutine_fn named_options(const char *name, QDict *d, Error **errp)
{
    if (!*name) {
        error_setg(errp, "The 'file' block driver requires a file name");
    } else if (qdict_size(d) == 0 || qdict_haskey(d, "driver")) {
        return qdict_size(d) > 1 ? compat_named_options_typed(d, true, errp) : d;
    } else {
        const char *format = probe_format(name, errp);

        if (format) {
            qdict_put_str(d, "driver", format);
            return compat_named_options_typed(d, true, errp);
        }
    }
    qdict_unref(d);
    return NULL;
}

/* What the name itself says of options. */
static QDict *options_of_name(const CompatOpen *o, Error **errp)
{
    bool help;

    if (!o->name) {
        return qdict_new();
    }
    if (o->image_opts) {
        /* A word alone names a node; there are none here. */
        if (!strchr(o->name, '=')) {
            error_setg(errp, "Cannot find device='%s' nor node-name='%s'", o->name, o->name);
            return NULL;
        }
        return qdict_from_keyval(o->name, NULL, &help, errp);
    }
    return g_str_has_prefix(o->name, "json:") ? options_of_json(o->name + strlen("json:"), errp) : qdict_new();
}

/* Sets *filename to NULL where the options say it all. */
static QDict *coroutine_fn collect_options(const CompatOpen *o, const char **filename, Error **errp)
{
    QDict *d = options_of_name(o, errp);

    if (!d) {
        return NULL;
    }
    if (o->options) {
        qdict_join(d, o->options, true);
    }
    if (o->format) {
        if (!bdrv_find_format(o->format)) {
            error_setg(errp, "Unknown driver '%s'", o->format);
            qdict_unref(d);
            return NULL;
        }
        qdict_put_str(d, "driver", o->format);
    }
    *filename = o->name && !o->image_opts && !g_str_has_prefix(o->name, "json:") ? o->name : NULL;
    compat_co_infer(*filename, d);
    d = *filename ? named_options(*filename, d, errp) : whole_options(d, errp);
    if (d) {
        add_common(d, o);
    }
    return d;
}

BlockBackend *coroutine_fn compat_co_open(const CompatOpen *o, Error **errp)
{
    int flags = o->cache_flags | (o->writable ? BDRV_O_RDWR : 0) | (o->resize ? BDRV_O_RESIZE : 0) |
                (o->no_backing ? BDRV_O_NO_BACKING : 0) | (o->unmap ? BDRV_O_UNMAP : 0) |
                (o->check ? BDRV_O_CHECK : 0) | (o->no_data ? BDRV_O_NO_IO : 0) | (o->no_share && !o->force_share ? BDRV_O_NO_SHARE : 0);
    const char *filename;
    QDict *options = collect_options(o, &filename, errp);

    if (!options) {
        return NULL;
    }
    if (check_aio(o, errp) < 0) {
        qdict_unref(options);
        return NULL;
    }
    return blk_new_open(filename, NULL, options, flags, errp);
}

BlockBackend *coroutine_fn compat_co_open_report(const CompatOpen *o)
{
    Error *err = NULL;
    BlockBackend *blk = compat_co_open(o, &err);

    if (!blk) {
        error_reportf_err(err, "Could not open '%s': ", o->name);
    }
    return blk;
}

/* ---- nodes on top ---- */

BlockBackend *coroutine_fn compat_co_open_above(BlockBackend *blk, QDict *options, const char *child, Error **errp)
{
    BlockDriverState *bs = blk_bs(blk);

    qdict_put_str(options, child, bdrv_get_node_name(bs));
    bdrv_ref(bs);
    blk_unref(blk);
    BlockBackend *above = blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE | BDRV_O_UNMAP, errp);

    bdrv_unref(bs);
    return above;
}

BlockBackend *coroutine_fn compat_co_temporary_overlay(BlockBackend *blk, Error **errp)
{
    g_autofree char *name = g_build_filename(g_get_tmp_dir(), "liveblk-XXXXXX", NULL);
    int64_t bytes = blk_co_getlength(blk);
    OpsCreate create = { .filename = name, .format = "qcow2", .size = bytes, .force = true };
    int fd = bytes < 0 ? -1 : g_mkstemp(name);
    QDict *options, *file;

    if (fd < 0) {
        error_setg_errno(errp, bytes < 0 ? -bytes : errno, "Could not get a temporary file");
        blk_unref(blk);
        return NULL;
    }
    close(fd);
    if (ops_create_plain(&create, errp) < 0) {
        unlink(name);
        blk_unref(blk);
        return NULL;
    }
    file = qdict_new();
    qdict_put_str(file, "driver", "file");
    qdict_put_str(file, "filename", name);
    options = qdict_new();
    qdict_put_str(options, "driver", "qcow2");
    qdict_put_obj(options, "file", file);
    blk = compat_co_open_above(blk, options, "backing", errp);
    unlink(name);
    return blk;
}

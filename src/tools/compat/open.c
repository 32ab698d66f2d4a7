/* SPDX-License-Identifier: MIT */
/* open.c: opening images as command lines name them: plain names, "driver:..." , "json:{...}" and
 * key=value options, where values may be strings and drivers of files left out.
 */
#include "compat/compat.h"
#include "aio/host.h"

/* ---- types ---- */

static const QapiMember *find_member(const QapiType *t, const char *name)
{
    for (int i = 0; t && i < t->n_members; i++) {
        if (!strcmp(t->members[i].name, name)) {
            return &t->members[i];
        }
    }
    return NULL;
}

static int put_typed(QDict *d, const char *key, const QapiType *t, QDict *v, Error **errp);

static int put_members(QDict *d, const QapiType *t, QDict *from, Error **errp);

typedef struct Walk {
    const QapiType *type, *variant;
    const BlockDriver *drv;             /* of a node; NULL: another structure */
    QDict *out;
    Error **errp;
    int ret;
} Walk;

static void typed_member(const char *key, QDict *value, void *opaque)
{
    Walk *w = opaque;
    const QapiMember *m = find_member(w->type, key);

    if (w->ret < 0) {
        return;
    }
    m = m ? m : find_member(w->variant, key);
    if (!m) {
        if (w->drv && w->drv->protocol_name) {
            error_setg(w->errp, "Block protocol '%s' doesn't support the option '%s'", w->drv->format_name, key);
        } else if (w->drv) {
            error_setg(w->errp, "Block format '%s' does not support the option '%s'", w->drv->format_name, key);
        } else {
            error_setg(w->errp, "Invalid parameter '%s'", key);
        }
        w->ret = -EINVAL;
        return;
    }
    w->ret = put_typed(w->out, m->name, m->type, value, w->errp);
}

static int put_members(QDict *d, const QapiType *t, QDict *from, Error **errp)
{
    Walk w = { .type = t, .out = d, .errp = errp };

    qdict_foreach(from, typed_member, &w);
    return w.ret;
}

static int put_scalar(QDict *d, const char *key, const QapiType *t, const char *text, Error **errp)
{
    uint64_t bytes;
    bool on;

    switch (t->kind) {
    case QAPI_BOOL:
        if (!compat_text_to_bool(text, &on)) {
            error_setg(errp, "Parameter '%s' expects 'on' or 'off'", key);
            return -EINVAL;
        }
        qdict_put_bool(d, key, on);
        return 0;
    case QAPI_INT: case QAPI_UINT: case QAPI_SIZE:
        if (!compat_size(key, text, &bytes, errp)) {
            return -EINVAL;
        }
        qdict_put_int(d, key, bytes);
        return 0;
    case QAPI_ENUM:
        if (qapi_enum_parse(t, text) < 0) {
            error_setg(errp, "invalid parameter value: %s", text);
            return -EINVAL;
        }
        qdict_put_str(d, key, text);
        return 0;
    default:
        qdict_put_str(d, key, text);
        return 0;
    }
}

static bool is_node_ref(const QapiType *t)
{
    return t->kind == QAPI_ALTERNATE && t->n_members && !strcmp(t->members[0].type->name, "BlockdevOptions");
}

static bool is_enum_or_struct(const QapiType *t)
{
    return t->kind == QAPI_ALTERNATE && t->n_members == 2 && t->members[0].type->kind == QAPI_STRUCT &&
           t->members[1].type->kind == QAPI_ENUM;
}

/* A name of a set, or the things in it one by one ("overlap-check"). */
static int put_enum_or_struct(QDict *d, const char *key, const QapiType *t, QDict *v, Error **errp)
{
    const QapiType *names = t->members[1].type;
    QDict *set = qstring_get(v) ? NULL : qdict_get(v, "template");
    const char *text = qstring_get(v) ? qstring_get(v) : set ? qstring_get(set) : NULL;
    g_autoptr(GString) list = g_string_new(NULL);
    QDict *sub;
    int ret;

    if (text && qapi_enum_parse(names, text) < 0) {
        for (int i = 0; i < names->n_values; i++) {
            g_string_append_printf(list, "%s%s", i ? ", " : "", names->values[i]);
        }
        error_setg(errp, "Unsupported value '%s' for qcow2 option '%s'. Allowed are any of the following: %s", text, key,
                   list->str);
        return -EINVAL;
    }
    if (qstring_get(v)) {
        qdict_put_str(d, key, text);
        return 0;
    }
    sub = qdict_new();
    ret = put_members(sub, t->members[0].type, v, errp);
    qdict_put_obj(d, key, sub);
    return ret;
}

/* Each element goes through a dictionary of its own, under @key, which is named in errors. */
static int put_list(QDict *d, const char *key, const QapiType *t, QDict *v, Error **errp)
{
    QDict *list = qlist_new();
    int ret = 0;

    for (size_t i = 0; i < qlist_size(v) && ret == 0; i++) {
        g_autoptr(QDict) one = qdict_new();

        ret = put_typed(one, key, t->element, qlist_get(v, i), errp);
        qlist_append(list, qdict_ref(qdict_get(one, key)));
    }
    qdict_put_obj(d, key, list);
    return ret;
}

static int put_typed(QDict *d, const char *key, const QapiType *t, QDict *v, Error **errp)
{
    const char *text = qstring_get(v);

    if (is_node_ref(t)) {
        QDict *sub = text || qdict_type(v) != QTYPE_QDICT ? qdict_ref(v)
                                                          : compat_options_typed(qdict_clone(v), errp);

        if (!sub) {
            return -EINVAL;
        }
        if (text && !*text && !strcmp(key, "backing")) {
            warn_report("Use of \"backing\": \"\" is deprecated; use \"backing\": null instead");
            qdict_unref(sub);
            sub = NULL;
        }
        qdict_put_obj(d, key, sub);
        return 0;
    }
    if (is_enum_or_struct(t) && (text || qdict_type(v) == QTYPE_QDICT)) {
        return put_enum_or_struct(d, key, t, v, errp);
    }
    if (text) {
        return put_scalar(d, key, t, text, errp);
    }
    if (t->kind == QAPI_LIST && qdict_type(v) == QTYPE_QLIST) {
        return put_list(d, key, t, v, errp);
    }
    if ((t->kind == QAPI_STRUCT) && qdict_type(v) == QTYPE_QDICT) {
        QDict *sub = qdict_new();
        int ret = put_members(sub, t, v, errp);

        qdict_put_obj(d, key, sub);
        return ret;
    }
    qdict_put_obj(d, key, qdict_ref(v));
    return 0;
}

/* A file without a driver: its name says which. */
static void guess_protocol(QDict *d)
{
    const char *name = qdict_get_try_str(d, "filename");

    if (!qdict_haskey(d, "driver") && name && !qdict_haskey(d, "file")) {
        qdict_put_str(d, "driver", host_ops->path_is_device(name) ? "host_device" : "file");
    }
}

/* @named: the file is known by a name besides. */
static QDict *node_typed(QDict *d, bool named, Error **errp)
{
    const char *driver = qdict_get_try_str(d, "driver");
    Walk w = { .type = &qapi_type_BlockdevOptions, .out = qdict_new(), .errp = errp };

    if (driver) {
        int i = qapi_enum_parse(&qapi_type_BlockdevDriver, driver);

        w.drv = bdrv_find_format(driver);
        if (i < 0 || !w.drv) {
            error_setg(errp, "Unknown driver '%s'", driver);
            qdict_unref(w.out);
            return NULL;
        }
        w.variant = qapi_type_BlockdevOptions.variants[i];
    } else {
        /* To be probed: formats take a file. */
        w.drv = bdrv_find_format("raw");
        w.variant = qapi_type_BlockdevOptions.variants[w.drv->schema_driver];
    }
    for (int i = 0; driver && w.variant && i < w.variant->n_members && w.ret == 0; i++) {
        const QapiMember *m = &w.variant->members[i];

        if (is_node_ref(m->type) && !m->optional && !qdict_haskey(d, m->name) && !(named && !strcmp(m->name, "file"))) {
            error_setg(errp, "A block device must be specified for \"%s\"", m->name);
            w.ret = -EINVAL;
        }
    }
    if (w.variant == &qapi_type_BlockdevOptionsFile && !qdict_haskey(d, "filename")) {
        error_setg(errp, "The '%s' block driver requires a file name", w.drv->format_name);
        w.ret = -EINVAL;
    }
    qdict_foreach(d, typed_member, &w);
    if (w.ret < 0) {
        qdict_unref(w.out);
        return NULL;
    }
    return w.out;
}

static QDict *options_typed(QDict *d, bool named, Error **errp)
{
    QDict *encrypt = qdict_get(d, "encrypt");

    /* The usual kind, where no header told of another; see infer.c. */
    if (encrypt && qdict_type(encrypt) == QTYPE_QDICT && !qdict_haskey(encrypt, "format")) {
        qdict_put_str(encrypt, "format", "luks");
    }
    guess_protocol(d);
    QDict *typed = node_typed(d, named, errp);

    qdict_unref(d);
    return typed;
}

QDict *compat_options_typed(QDict *d, Error **errp)
{
    return options_typed(d, false, errp);
}

/* ---- opening ---- */

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
        return qdict_size(d) > 1 ? options_typed(d, true, errp) : d;
    } else {
        const char *format = probe_format(name, errp);

        if (format) {
            qdict_put_str(d, "driver", format);
            return options_typed(d, true, errp);
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

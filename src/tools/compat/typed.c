/* SPDX-License-Identifier: MIT */
/* typed.c: options as legacy programs give them, where values may be strings and drivers of files left out, typed as the
 * schema has them.
 */
#include "compat/compat.h"
#include "compat/nbd_server.h"
#include "aio/host.h"

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
    if (w.variant == &qapi_type_BlockdevOptionsNbd && w.ret == 0) {
        w.ret = compat_nbd_server(d, errp);
    }
    qdict_foreach(d, typed_member, &w);
    if (w.ret < 0) {
        qdict_unref(w.out);
        return NULL;
    }
    return w.out;
}

QDict *compat_named_options_typed(QDict *d, bool named, Error **errp)
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
    return compat_named_options_typed(d, false, errp);
}

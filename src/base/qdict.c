/* SPDX-License-Identifier: MIT */
/* qdict.c: dictionaries over json-c values: making, asking, nesting. */
#include "base/osdep.h"
#include "block/qdict.h"

/* json-c's readers take no const pointers though they change nothing. */
static json_object *mut(const QDict *d)
{
    return (json_object *)d;
}

/* ---- making ---- */

QDict *qdict_new(void)
{
    return json_object_new_object();
}

QDict *qlist_new(void)
{
    return json_object_new_array();
}

QDict *qstring_new(const char *s)
{
    return json_object_new_string(s);
}

QDict *qint_new(int64_t v)
{
    return json_object_new_int64(v);
}

QDict *quint_new(uint64_t v)
{
    return v <= INT64_MAX ? json_object_new_int64(v) : json_object_new_uint64(v);
}

QDict *qdouble_new(double v)
{
    return json_object_new_double(v);
}

QDict *qbool_new(bool v)
{
    return json_object_new_boolean(v);
}

QDict *qdict_ref(QDict *d)
{
    return json_object_get(d);
}

void qdict_unref(QDict *d)
{
    json_object_put(d);
}

QDict *qdict_clone(const QDict *d)
{
    json_object *copy = NULL;

    if (d && json_object_deep_copy(mut(d), &copy, NULL) < 0) {
        g_error("out of memory while copying a dictionary");
    }
    return copy;
}

QType qdict_type(const QDict *d)
{
    switch (json_object_get_type(d)) {
    case json_type_boolean: return QTYPE_QBOOL;
    case json_type_double:
    case json_type_int:     return QTYPE_QNUM;
    case json_type_object:  return QTYPE_QDICT;
    case json_type_array:   return QTYPE_QLIST;
    case json_type_string:  return QTYPE_QSTRING;
    default:                return QTYPE_QNULL;
    }
}

/* ---- objects ---- */

void qdict_put_obj(QDict *d, const char *key, QDict *value)
{
    json_object_object_add(d, key, value);
}

void qdict_put_str(QDict *d, const char *key, const char *value)
{
    qdict_put_obj(d, key, qstring_new(value));
}

void qdict_put_int(QDict *d, const char *key, int64_t value)
{
    qdict_put_obj(d, key, qint_new(value));
}

void qdict_put_bool(QDict *d, const char *key, bool value)
{
    qdict_put_obj(d, key, qbool_new(value));
}

void qdict_put_null(QDict *d, const char *key)
{
    qdict_put_obj(d, key, NULL);
}

bool qdict_haskey(const QDict *d, const char *key)
{
    return json_object_object_get_ex(d, key, NULL);
}

size_t qdict_size(const QDict *d)
{
    return json_object_object_length(d);
}

void qdict_del(QDict *d, const char *key)
{
    json_object_object_del(d, key);
}

QDict *qdict_get(const QDict *d, const char *key)
{
    json_object *value = NULL;

    json_object_object_get_ex(d, key, &value);
    return value;
}

const char *qdict_get_try_str(const QDict *d, const char *key)
{
    return qstring_get(qdict_get(d, key));
}

int64_t qdict_get_try_int(const QDict *d, const char *key, int64_t def)
{
    int64_t v;

    return qint_get(qdict_get(d, key), &v) ? v : def;
}

bool qdict_get_try_bool(const QDict *d, const char *key, bool def)
{
    bool v;

    return qbool_get(qdict_get(d, key), &v) ? v : def;
}

QDict *qdict_get_qdict(const QDict *d, const char *key)
{
    QDict *v = qdict_get(d, key);

    return qdict_type(v) == QTYPE_QDICT ? v : NULL;
}

QDict *qdict_get_qlist(const QDict *d, const char *key)
{
    QDict *v = qdict_get(d, key);

    return qdict_type(v) == QTYPE_QLIST ? v : NULL;
}

void qdict_join(QDict *dst, const QDict *src, bool overwrite)
{
    json_object_object_foreach(mut(src), key, value) {
        if (overwrite || !qdict_haskey(dst, key)) {
            qdict_put_obj(dst, key, qdict_ref(value));
        }
    }
}

void qdict_foreach(const QDict *d, void (*fn)(const char *key, QDict *value, void *opaque), void *opaque)
{
    json_object_object_foreach(mut(d), key, value) {
        fn(key, value, opaque);
    }
}

/* ---- lists, scalars ---- */

void qlist_append(QDict *list, QDict *value)
{
    json_object_array_add(list, value);
}

size_t qlist_size(const QDict *list)
{
    return json_object_array_length(list);
}

QDict *qlist_get(const QDict *list, size_t i)
{
    return json_object_array_get_idx(list, i);
}

const char *qstring_get(const QDict *d)
{
    return qdict_type(d) == QTYPE_QSTRING ? json_object_get_string(mut(d)) : NULL;
}

/* json-c clamps a uint64 that does not fit; comparing the two readings finds that out. */
bool qint_get(const QDict *d, int64_t *v)
{
    if (json_object_get_type(d) != json_type_int) {
        return false;
    }
    *v = json_object_get_int64(d);
    return *v != INT64_MAX || json_object_get_uint64(d) == INT64_MAX;
}

bool quint_get(const QDict *d, uint64_t *v)
{
    if (json_object_get_type(d) != json_type_int || json_object_get_int64(d) < 0) {
        return false;
    }
    *v = json_object_get_uint64(d);
    return true;
}

bool qbool_get(const QDict *d, bool *v)
{
    if (qdict_type(d) != QTYPE_QBOOL) {
        return false;
    }
    *v = json_object_get_boolean(d);
    return true;
}

bool qnumber_get(const QDict *d, double *v)
{
    if (qdict_type(d) != QTYPE_QNUM) {
        return false;
    }
    *v = json_object_get_double(d);
    return true;
}

bool qdict_equal(const QDict *a, const QDict *b)
{
    return json_object_equal(mut(a), mut(b));
}

/* ---- nested and dotted ---- */

static void flatten_value(QDict *out, const char *name, QDict *value);

static void flatten_members(QDict *out, const char *prefix, QDict *d)
{
    if (qdict_type(d) == QTYPE_QDICT) {
        json_object_object_foreach(d, key, value) {
            g_autofree char *name = prefix ? g_strconcat(prefix, ".", key, NULL) : g_strdup(key);
            flatten_value(out, name, value);
        }
        return;
    }
    for (size_t i = 0; i < qlist_size(d); i++) {
        g_autofree char *name = g_strdup_printf("%s.%zu", prefix, i);
        flatten_value(out, name, qlist_get(d, i));
    }
}

static void flatten_value(QDict *out, const char *name, QDict *value)
{
    QType type = qdict_type(value);

    if ((type == QTYPE_QDICT && qdict_size(value)) || (type == QTYPE_QLIST && qlist_size(value))) {
        flatten_members(out, name, value);
    } else {
        qdict_put_obj(out, name, qdict_ref(value));
    }
}

static void object_clear(QDict *d)
{
    json_object_object_foreach(d, key, value) {
        (void)value;
        json_object_object_del(d, key);
    }
}

void qdict_flatten(QDict *d)
{
    g_autoptr(QDict) flat = qdict_new();

    flatten_members(flat, NULL, d);
    object_clear(d);
    qdict_join(d, flat, true);
}

/* "0", "7", "12"; not "007", not "1x". -1: no index. */
static int list_index(const char *key)
{
    char *end;
    unsigned long v;

    if (!g_ascii_isdigit(key[0]) || (key[0] == '0' && key[1])) {
        return -1;
    }
    v = strtoul(key, &end, 10);
    return *end || v > 65535 ? -1 : (int)v;
}

/* Turn objects whose members are all indices into lists, bottom up. NULL on error. */
static QDict *listify(QDict *d, const char *path, Error **errp)
{
    g_autoptr(QDict) out = qdict_new();
    size_t indices = 0;

    json_object_object_foreach(d, key, value) {
        g_autofree char *name = path ? g_strconcat(path, ".", key, NULL) : g_strdup(key);
        QDict *v = qdict_ref(value);

        if (qdict_type(value) == QTYPE_QDICT && qdict_size(value)) {
            qdict_unref(v);
            v = listify(value, name, errp);
            if (!v) {
                return NULL;
            }
        }
        indices += list_index(key) >= 0;
        qdict_put_obj(out, key, v);
    }
    if (!indices || !path) {
        return g_steal_pointer(&out);
    }
    if (indices != qdict_size(out)) {
        error_setg(errp, "Parameters '%s.*' used inconsistently", path);
        return NULL;
    }
    g_autoptr(QDict) list = qlist_new();
    for (size_t i = 0; i < indices; i++) {
        char index[24];

        snprintf(index, sizeof(index), "%zu", i);
        if (!qdict_haskey(out, index)) {
            error_setg(errp, "Parameter '%s.%zu' missing", path, i);
            return NULL;
        }
        qlist_append(list, qdict_ref(qdict_get(out, index)));
    }
    return g_steal_pointer(&list);
}

/* Put @value under the dotted @name, making objects on the way. */
static bool nest(QDict *root, const char *name, QDict *value, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(name, ".", -1);
    QDict *d = root;
    size_t n = g_strv_length(parts);

    for (size_t i = 0; i + 1 < n; i++) {
        QDict *next = qdict_get(d, parts[i]);

        if (!next && !qdict_haskey(d, parts[i])) {
            next = qdict_new();
            qdict_put_obj(d, parts[i], next);
        }
        if (qdict_type(next) != QTYPE_QDICT) {
            break;
        }
        d = next;
        if (i + 2 == n && !qdict_haskey(d, parts[n - 1])) {
            qdict_put_obj(d, parts[n - 1], qdict_ref(value));
            return true;
        }
    }
    if (n == 1 && !qdict_haskey(d, name)) {
        qdict_put_obj(d, name, qdict_ref(value));
        return true;
    }
    error_setg(errp, "Parameters '%s.*' used inconsistently", parts[0]);
    return false;
}

QDict *qdict_crumple(QDict *d, Error **errp)
{
    g_autoptr(QDict) dotted = d;
    g_autoptr(QDict) nested = qdict_new();

    json_object_object_foreach(dotted, key, value) {
        if (!nest(nested, key, value, errp)) {
            return NULL;
        }
    }
    return listify(nested, NULL, errp);
}

void qdict_extract_subqdict(QDict *d, QDict **sub, const char *prefix)
{
    size_t len = strlen(prefix);
    QDict *out = qdict_new();

    json_object_object_foreach(d, key, value) {
        if (!strncmp(key, prefix, len)) {
            qdict_put_obj(out, key + len, qdict_ref(value));
            json_object_object_del(d, key);
        }
    }
    if (sub) {
        *sub = out;
    } else {
        qdict_unref(out);
    }
}

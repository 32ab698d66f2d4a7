/* SPDX-License-Identifier: MIT */
/* visit.c: walk descriptors of types; see block/qapi-visit.h. Error texts are the peer's. */
#include "base/osdep.h"
#include "base/str.h"
#include "block/qapi-visit.h"
#include "block/qdict.h"

#define SCALAR(id, k, t) const QapiType qapi_type_##id = { .name = #id, .kind = k, .size = sizeof(t) }
SCALAR(str, QAPI_STR, char *);
SCALAR(bool, QAPI_BOOL, bool);
SCALAR(int, QAPI_INT, int64_t);
SCALAR(uint32, QAPI_UINT32, uint32_t);
SCALAR(uint64, QAPI_UINT64, uint64_t);
SCALAR(size, QAPI_SIZE, uint64_t);
SCALAR(number, QAPI_NUMBER, double);
SCALAR(null, QAPI_NULL, bool);
SCALAR(any, QAPI_ANY, void *);

const char *qapi_enum_str(const QapiType *type, int value)
{
    g_assert(value >= 0 && value < type->count);
    return type->names[value];
}

int qapi_enum_parse(const QapiType *type, const char *text)
{
    for (int i = 0; i < type->count; i++) {
        if (!strcmp(type->names[i], text)) {
            return i;
        }
    }
    return -1;
}

/* ---- JSON to C ---- */

typedef struct Visit {
    bool keyval;
    GString *path;              /* "file.filename" of what is being read */
    Error **errp;
} Visit;

static bool is_by_pointer(const QapiType *t)
{
    return t->kind == QAPI_STRUCT || t->kind == QAPI_LIST || t->kind == QAPI_ALTERNATE;
}

static const char *path_name(Visit *v)
{
    return v->path->len ? v->path->str : "null";
}

static bool bad_type(Visit *v, const char *expected)
{
    error_setg(v->errp, "Invalid parameter type for '%s', expected: %s", path_name(v), expected);
    return false;
}

static bool visit_value(Visit *v, const QapiType *t, json_object *j, void *out, const char *name);

static bool visit_int(Visit *v, const QapiType *t, json_object *j, void *out)
{
    int64_t i = 0;
    uint64_t u = 0;
    bool negative = false;

    if (v->keyval && json_object_is_type(j, json_type_string)) {
        const char *s = json_object_get_string(j);
        char *end;

        if (t->kind == QAPI_SIZE) {
            if (size_parse(s, 1, &u) || u > INT64_MAX) {
                error_setg(v->errp, "Parameter '%s' expects a non-negative number below 2^64", path_name(v));
                error_append_hint(v->errp, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                                  "peta-\nand exabytes, respectively.\n");
                return false;
            }
        } else {
            errno = 0;
            negative = *s == '-';
            if (negative) {
                i = g_ascii_strtoll(s, &end, 0);
            } else {
                u = g_ascii_strtoull(s, &end, 0);
            }
            if (end == s || *end || errno) {
                error_setg(v->errp, "Parameter '%s' expects integer", path_name(v));
                return false;
            }
        }
    } else if (json_object_is_type(j, json_type_int) && !v->keyval) {
        i = json_object_get_int64(j);
        negative = i < 0;
        u = negative ? 0 : json_object_get_uint64(j);
    } else {
        return bad_type(v, t->kind == QAPI_SIZE ? "size" : "integer");
    }
    switch (t->kind) {
    case QAPI_INT:
        if (!negative && u > INT64_MAX) {
            return bad_type(v, "integer");
        }
        *(int64_t *)out = negative ? i : (int64_t)u;
        return true;
    case QAPI_UINT32:
        if (negative || u > UINT32_MAX) {
            error_setg(v->errp, "Parameter '%s' expects uint32_t", path_name(v));
            return false;
        }
        *(uint32_t *)out = u;
        return true;
    default:
        /* A negative number is taken as its two's complement, as the peer does. */
        *(uint64_t *)out = negative ? (uint64_t)i : u;
        return true;
    }
}

static bool visit_bool(Visit *v, json_object *j, void *out)
{
    if (v->keyval && json_object_is_type(j, json_type_string)) {
        const char *s = json_object_get_string(j);
        bool on = !strcmp(s, "on") || !strcmp(s, "yes") || !strcmp(s, "true") || !strcmp(s, "y");
        bool off = !strcmp(s, "off") || !strcmp(s, "no") || !strcmp(s, "false") || !strcmp(s, "n");

        if (!on && !off) {
            error_setg(v->errp, "Parameter '%s' expects 'on' or 'off'", path_name(v));
            return false;
        }
        *(bool *)out = on;
        return true;
    }
    if (!json_object_is_type(j, json_type_boolean)) {
        return bad_type(v, "boolean");
    }
    *(bool *)out = json_object_get_boolean(j);
    return true;
}

static bool visit_enum(Visit *v, const QapiType *t, json_object *j, void *out, const char *name)
{
    if (!json_object_is_type(j, json_type_string)) {
        return bad_type(v, "string");
    }
    int e = qapi_enum_parse(t, json_object_get_string(j));

    if (e < 0) {
        error_setg(v->errp, "Parameter '%s' does not accept value '%s'", name ? name : "null",
                   json_object_get_string(j));
        return false;
    }
    *(int *)out = e;
    return true;
}

static bool visit_list(Visit *v, const QapiType *t, json_object *j, void *out)
{
    void **link = out;

    if (!json_object_is_type(j, json_type_array)) {
        return bad_type(v, "array");
    }
    for (size_t i = 0; i < json_object_array_length(j); i++) {
        gsize mark = v->path->len;
        char *node = g_malloc0(t->size);

        *link = node;
        link = (void **)node;           /* `next` comes first */
        g_string_append_printf(v->path, "[%zu]", i);
        if (!visit_value(v, t->element, json_object_array_get_idx(j, i), node + t->value_offset, NULL)) {
            return false;
        }
        g_string_truncate(v->path, mark);
    }
    return true;
}

static bool visit_member(Visit *v, const QapiMember *m, json_object *dict, char *base, GHashTable *seen)
{
    json_object *j;
    gsize mark = v->path->len;
    bool ok = true;

    if (!json_object_object_get_ex(dict, m->name, &j)) {
        if (m->optional) {
            return true;
        }
        if (mark) {
            g_string_append_c(v->path, '.');
        }
        g_string_append(v->path, m->name);
        error_setg(v->errp, "Parameter '%s' is missing", v->path->str);
        return false;
    }
    if (mark) {
        g_string_append_c(v->path, '.');
    }
    g_string_append(v->path, m->name);
    g_hash_table_add(seen, (gpointer)m->name);
    if (m->has_offset >= 0) {
        *(bool *)(base + m->has_offset) = true;
    }
    ok = visit_value(v, m->type, j, base + m->offset, m->name);
    if (ok) {
        g_string_truncate(v->path, mark);
    }
    return ok;
}

static bool visit_members(Visit *v, const QapiType *t, json_object *dict, char *base, GHashTable *seen)
{
    for (int i = 0; i < t->n_members; i++) {
        if (!visit_member(v, &t->members[i], dict, base, seen)) {
            return false;
        }
    }
    if (t->tag) {
        const QapiType *branch = t->cases[*(int *)(base + t->tag_offset)];

        if (branch) {
            return visit_members(v, branch, dict, base + t->union_offset, seen);
        }
    }
    return true;
}

static bool visit_struct(Visit *v, const QapiType *t, json_object *j, void *out)
{
    if (!json_object_is_type(j, json_type_object)) {
        return bad_type(v, "object");
    }
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    char *base = g_malloc0(t->size);

    *(void **)out = base;
    if (!visit_members(v, t, j, base, seen)) {
        return false;
    }
    json_object_object_foreach(j, key, value) {
        (void)value;
        if (!g_hash_table_contains(seen, key)) {
            error_setg(v->errp, "Parameter '%s%s%s' is unexpected", v->path->str, v->path->len ? "." : "", key);
            return false;
        }
    }
    return true;
}

static bool visit_alternate(Visit *v, const QapiType *t, json_object *j, void *out, const char *name)
{
    QapiAltKind want = json_object_is_type(j, json_type_object) ? QTYPE_QDICT
                     : json_object_is_type(j, json_type_string) ? QTYPE_QSTRING
                     : j == NULL ? QTYPE_QNULL : 0;
    char *base = g_malloc0(t->size);

    *(void **)out = base;
    for (int i = 0; i < t->n_members; i++) {
        const QapiMember *m = &t->members[i];
        QapiAltKind kind = m->type->kind == QAPI_STRUCT ? QTYPE_QDICT
                         : m->type->kind == QAPI_NULL ? QTYPE_QNULL : QTYPE_QSTRING;

        if (kind == want) {
            *(QapiAltKind *)base = kind;
            return visit_value(v, m->type, j, base + m->offset, name);
        }
    }
    return bad_type(v, t->name);
}

static bool visit_value(Visit *v, const QapiType *t, json_object *j, void *out, const char *name)
{
    switch (t->kind) {
    case QAPI_STR:
        if (!json_object_is_type(j, json_type_string)) {
            return bad_type(v, "string");
        }
        *(char **)out = g_strdup(json_object_get_string(j));
        return true;
    case QAPI_BOOL:
        return visit_bool(v, j, out);
    case QAPI_NUMBER:
        if (!json_object_is_type(j, json_type_double) && !json_object_is_type(j, json_type_int)) {
            return bad_type(v, "number");
        }
        *(double *)out = json_object_get_double(j);
        return true;
    case QAPI_NULL:
        *(bool *)out = true;
        return j == NULL || bad_type(v, "null");
    case QAPI_ANY:
        *(void **)out = json_object_get(j);
        return true;
    case QAPI_ENUM:
        return visit_enum(v, t, j, out, name);
    case QAPI_STRUCT:
        return visit_struct(v, t, j, out);
    case QAPI_LIST:
        return visit_list(v, t, j, out);
    case QAPI_ALTERNATE:
        return visit_alternate(v, t, j, out, name);
    default:
        return visit_int(v, t, j, out);
    }
}

void *qapi_from_json(const QapiType *type, json_object *json, bool keyval, Error **errp)
{
    Error *local_err = NULL;
    Visit v = { .keyval = keyval, .path = g_string_new(""), .errp = &local_err };
    void *value = NULL;

    g_assert(is_by_pointer(type));
    if (!visit_value(&v, type, json, &value, NULL)) {
        qapi_free(type, value);
        value = NULL;
        error_propagate(errp, local_err);
    }
    g_string_free(v.path, TRUE);
    return value;
}

/* ---- C to JSON ---- */

static json_object *value_to_json(const QapiType *t, const void *p);

static bool member_present(const QapiMember *m, const char *base)
{
    if (m->has_offset >= 0) {
        return *(const bool *)(base + m->has_offset);
    }
    if (m->optional) {
        return *(void *const *)(base + m->offset) != NULL;
    }
    return true;
}

static void members_to_json(const QapiType *t, const char *base, json_object *dict)
{
    for (int i = 0; i < t->n_members; i++) {
        const QapiMember *m = &t->members[i];

        if (member_present(m, base)) {
            json_object_object_add(dict, m->name, value_to_json(m->type, base + m->offset));
        }
    }
    if (t->tag) {
        const QapiType *branch = t->cases[*(const int *)(base + t->tag_offset)];

        if (branch) {
            members_to_json(branch, base + t->union_offset, dict);
        }
    }
}

static json_object *value_to_json(const QapiType *t, const void *p)
{
    switch (t->kind) {
    case QAPI_STR: {
        const char *s = *(char *const *)p;
        return json_object_new_string(s ? s : "");
    }
    case QAPI_BOOL:
        return json_object_new_boolean(*(const bool *)p);
    case QAPI_INT:
        return json_object_new_int64(*(const int64_t *)p);
    case QAPI_UINT32:
        return json_object_new_int64(*(const uint32_t *)p);
    case QAPI_UINT64:
    case QAPI_SIZE:
        return json_object_new_uint64(*(const uint64_t *)p);
    case QAPI_NUMBER:
        return json_object_new_double(*(const double *)p);
    case QAPI_NULL:
        return NULL;
    case QAPI_ANY:
        return json_object_get(*(json_object *const *)p);
    case QAPI_ENUM:
        return json_object_new_string(qapi_enum_str(t, *(const int *)p));
    default:
        return qapi_to_json(t, *(void *const *)p);
    }
}

json_object *qapi_to_json(const QapiType *t, const void *value)
{
    const char *base = value;

    if (t->kind == QAPI_LIST) {
        json_object *a = json_object_new_array();

        for (; base; base = *(const char *const *)base) {
            json_object_array_add(a, value_to_json(t->element, base + t->value_offset));
        }
        return a;
    }
    if (t->kind == QAPI_ANY) {
        return json_object_get((json_object *)value);
    }
    if (t->kind == QAPI_ALTERNATE) {
        for (int i = 0; i < t->n_members; i++) {
            const QapiMember *m = &t->members[i];
            QapiAltKind kind = m->type->kind == QAPI_STRUCT ? QTYPE_QDICT
                             : m->type->kind == QAPI_NULL ? QTYPE_QNULL : QTYPE_QSTRING;

            if (kind == *(const QapiAltKind *)base) {
                return value_to_json(m->type, base + m->offset);
            }
        }
        return NULL;
    }
    json_object *dict = json_object_new_object();

    members_to_json(t, base, dict);
    return dict;
}

/* ---- free, clone ---- */

static void value_free(const QapiType *t, void *p)
{
    if (t->kind == QAPI_STR) {
        g_free(*(char **)p);
    } else if (t->kind == QAPI_ANY) {
        json_object_put(*(json_object **)p);
    } else if (is_by_pointer(t)) {
        qapi_free(t, *(void **)p);
    }
}

static void members_free(const QapiType *t, char *base)
{
    for (int i = 0; i < t->n_members; i++) {
        value_free(t->members[i].type, base + t->members[i].offset);
    }
    if (t->tag) {
        int tag = *(int *)(base + t->tag_offset);

        if (tag >= 0 && tag < t->count && t->cases[tag]) {
            members_free(t->cases[tag], base + t->union_offset);
        }
    }
}

void qapi_free(const QapiType *t, void *value)
{
    char *base = value;

    if (!base) {
        return;
    }
    switch (t->kind) {
    case QAPI_LIST:
        while (base) {
            char *next = *(char **)base;

            value_free(t->element, base + t->value_offset);
            g_free(base);
            base = next;
        }
        return;
    case QAPI_ALTERNATE:
        for (int i = 0; i < t->n_members; i++) {
            const QapiMember *m = &t->members[i];
            QapiAltKind kind = m->type->kind == QAPI_STRUCT ? QTYPE_QDICT
                             : m->type->kind == QAPI_NULL ? QTYPE_QNULL : QTYPE_QSTRING;

            if (kind == *(QapiAltKind *)base) {
                value_free(m->type, base + m->offset);
            }
        }
        break;
    case QAPI_STRUCT:
        members_free(t, base);
        break;
    case QAPI_ANY:
        json_object_put(value);
        return;
    default:
        g_assert_not_reached();
    }
    g_free(base);
}

void *qapi_clone(const QapiType *t, const void *value)
{
    if (!value) {
        return NULL;
    }
    json_object *j = qapi_to_json(t, value);
    void *copy = qapi_from_json(t, j, false, &error_abort);

    json_object_put(j);
    return copy;
}

/* ---- events ---- */

static QapiEventSink *event_sink;

void qapi_event_set_sink(QapiEventSink *sink)
{
    event_sink = sink;
}

void qapi_event_emit(const char *name, const QapiType *type, const void *data)
{
    if (event_sink) {
        json_object *j = qapi_to_json(type, data);

        event_sink(name, j);
        json_object_put(j);
    }
}

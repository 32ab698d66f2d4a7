/* SPDX-License-Identifier: MIT */
/* input.c: read JSON, or key=value options, as values of the schema's types.
 *
 * Order of the checks, and so of the errors: members in the order of the schema, each
 * with all below it; then members nobody knows. The texts are those clients know.
 * Some name a member with its path, others alone: that is part of the texts.
 */
#include "base/osdep.h"
#include "base/size.h"
#include "block/qapi-visit.h"

/* Nothing in the schema nests deeper in earnest; input that does is refused. */
#define INPUT_DEPTH_MAX 512

/* Where we are: one frame a level, on the stack of the recursion. */
typedef struct Frame {
    const struct Frame *parent;
    const char *name;           /* member; NULL: root, or element */
    int index;                  /* element of a list; -1 else */
    int depth;
} Frame;

typedef struct Input {
    bool keyval;
} Input;

static void path_append(const Input *in, const Frame *f, GString *out)
{
    if (f->parent) {
        path_append(in, f->parent, out);
    }
    if (f->index >= 0) {
        g_string_append_printf(out, in->keyval ? ".%d" : "[%d]", f->index);
    } else if (f->name) {
        g_string_append_printf(out, "%s%s", out->len ? "." : "", f->name);
    }
}

/* The path of @f; of its member @name if not NULL. */
static char *frame_path(const Input *in, const Frame *f, const char *name)
{
    GString *out = g_string_new("");

    path_append(in, f, out);
    if (name) {
        g_string_append_printf(out, "%s%s", out->len ? "." : "", name);
    }
    if (!out->len) {
        g_string_append(out, "null");
    }
    return g_string_free(out, FALSE);
}

/* Some texts tell the last name only. */
static const char *frame_name(const Frame *f)
{
    return f->name ? f->name : "null";
}

static bool fail_type(const Input *in, const Frame *f, const char *expected, Error **errp)
{
    g_autofree char *path = frame_path(in, f, NULL);

    error_setg(errp, "Invalid parameter type for '%s', expected: %s", path, expected);
    return false;
}

static bool fail_expects(const Input *in, const Frame *f, const char *expected, Error **errp)
{
    g_autofree char *path = frame_path(in, f, NULL);

    error_setg(errp, "Parameter '%s' expects %s", path, expected);
    return false;
}

/* key=value: a scalar's text, or NULL and *errp. */
static const char *keyval_text(const Input *in, const Frame *f, QDict *v, Error **errp)
{
    const char *text = qstring_get(v);

    if (!text) {
        g_autofree char *path = frame_path(in, f, NULL);
        error_setg(errp, "Parameters '%s.*' are unexpected", path);
    }
    return text;
}

static bool input_slot(const Input *in, const QapiType *t, QDict *v, void *slot, const Frame *f, Error **errp);
static bool input_object(const Input *in, const QapiType *t, QDict *v, void *obj, const Frame *f, Error **errp);

/* ---- scalars ---- */

static bool input_str(const Input *in, QDict *v, char **slot, const Frame *f, Error **errp)
{
    const char *text = in->keyval ? keyval_text(in, f, v, errp) : qstring_get(v);

    if (!text) {
        return in->keyval ? false : fail_type(in, f, "string", errp);
    }
    *slot = g_strdup(text);
    return true;
}

static bool keyval_bool(const char *text, bool *value)
{
    static const char *const words[] = { "off", "no", "false", "n", "on", "yes", "true", "y" };

    for (int i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(text, words[i])) {
            *value = i >= 4;
            return true;
        }
    }
    return false;
}

static bool input_bool(const Input *in, QDict *v, bool *slot, const Frame *f, Error **errp)
{
    if (in->keyval) {
        const char *text = keyval_text(in, f, v, errp);

        return text && (keyval_bool(text, slot) || fail_expects(in, f, "'on' or 'off'", errp));
    }
    return qbool_get(v, slot) || fail_type(in, f, "boolean", errp);
}

static bool input_number(const Input *in, QDict *v, double *slot, const Frame *f, Error **errp)
{
    if (in->keyval) {
        const char *text = keyval_text(in, f, v, errp);
        char *end;

        if (!text) {
            return false;
        }
        *slot = g_ascii_strtod(text, &end);
        return (end != text && !*end) || fail_expects(in, f, "number", errp);
    }
    return qnumber_get(v, slot) || fail_type(in, f, "number", errp);
}

/* Decimal or 0x..., with sign, and nothing else. */
static bool keyval_int(const char *text, bool is_signed, int64_t *value)
{
    char *end;

    errno = 0;
    *value = is_signed ? g_ascii_strtoll(text, &end, 0) : (int64_t)g_ascii_strtoull(text, &end, 0);
    return !errno && end != text && !*end;
}

/* Read 64 bits, as signed or unsigned. Unsigned ones take small negative numbers as their
 * complement, as they always have. */
static bool input_int64(const Input *in, const QapiType *t, QDict *v, int64_t *value, const Frame *f, Error **errp)
{
    bool is_signed = t->kind == QAPI_INT;

    if (in->keyval) {
        const char *text = keyval_text(in, f, v, errp);
        uint64_t bytes;

        if (!text) {
            return false;
        }
        if (t->kind == QAPI_SIZE) {
            if (size_parse(text, 1, &bytes) < 0) {
                return fail_expects(in, f, "a size", errp);
            }
            *value = bytes;
            return true;
        }
        return keyval_int(text, is_signed, value) || fail_expects(in, f, "integer", errp);
    }
    if (qint_get(v, value)) {
        return true;
    }
    if (is_signed) {
        return fail_type(in, f, "integer", errp);
    }
    return quint_get(v, (uint64_t *)value) || fail_expects(in, f, "uint64", errp);
}

static bool input_int(const Input *in, const QapiType *t, QDict *v, void *slot, const Frame *f, Error **errp)
{
    int64_t value, low, high;

    if (!input_int64(in, t, v, &value, f, errp)) {
        return false;
    }
    if (t->bits < 64) {
        high = t->kind == QAPI_INT ? (1LL << (t->bits - 1)) - 1 : (1LL << t->bits) - 1;
        low = t->kind == QAPI_INT ? -high - 1 : 0;
        if (value < low || value > high) {
            error_setg(errp, "Parameter '%s' expects %s_t", frame_name(f), t->name);
            return false;
        }
    }
    switch (t->bits) {
    case 8:  *(int8_t *)slot = value; break;
    case 16: *(int16_t *)slot = value; break;
    case 32: *(int32_t *)slot = value; break;
    default: *(int64_t *)slot = value; break;
    }
    return true;
}

static bool input_enum(const Input *in, const QapiType *t, QDict *v, int *slot, const Frame *f, Error **errp)
{
    const char *text = in->keyval ? keyval_text(in, f, v, errp) : qstring_get(v);
    int i;

    if (!text) {
        return in->keyval ? false : fail_type(in, f, "string", errp);
    }
    i = qapi_enum_parse(t, text);
    if (i < 0) {
        error_setg(errp, "Parameter '%s' does not accept value '%s'", frame_name(f), text);
        return false;
    }
    *slot = i;
    return true;
}

/* ---- lists, alternates ---- */

typedef struct AnyList AnyList;
struct AnyList {
    AnyList *next;
    union { void *p; int64_t i; } value;
};

static bool input_list(const Input *in, const QapiType *t, QDict *v, AnyList **slot, const Frame *f, Error **errp)
{
    AnyList **tail = slot;

    if (qdict_type(v) != QTYPE_QLIST) {
        return fail_type(in, f, "array", errp);
    }
    for (size_t i = 0; i < qlist_size(v); i++) {
        Frame element = { f, NULL, (int)i, f->depth + 1 };

        /* Linked in first, so that what was read of it is freed on failure. */
        *tail = g_new0(AnyList, 1);
        if (!input_slot(in, t->element, qlist_get(v, i), &(*tail)->value, &element, errp)) {
            return false;
        }
        tail = &(*tail)->next;
    }
    return true;
}

static bool input_alternate(const Input *in, const QapiType *t, QDict *v, void *obj, const Frame *f, Error **errp)
{
    QType qtype = qdict_type(v);
    char *u = (char *)obj + t->u_offset;

    for (int i = 0; i < t->n_members; i++) {
        const QapiType *b = t->members[i].type;

        if (t->members[i].qtype != qtype) {
            continue;
        }
        *(QType *)obj = qtype;
        return input_slot(in, b, v, u, f, errp);
    }
    error_setg(errp, "Invalid parameter type for '%s', expected: %s", frame_name(f), t->name);
    return false;
}

/* ---- structures ---- */

static bool input_member(const Input *in, const QapiMember *m, QDict *d, void *obj, const Frame *f, int *seen,
                         Error **errp)
{
    Frame frame = { f, m->name, -1, f->depth + 1 };
    char *slot = (char *)obj + m->offset;

    if (!qdict_haskey(d, m->name)) {
        if (m->has_default && m->type->kind == QAPI_NUMBER) {
            *(double *)slot = m->def.n;
        } else if (m->has_default) {
            memcpy(slot, &m->def.i, m->type->size);     /* little endian, as all hosts */
        }
        if (!m->optional) {
            g_autofree char *path = frame_path(in, &frame, NULL);
            error_setg(errp, "Parameter '%s' is missing", path);
        }
        return m->optional;
    }
    (*seen)++;
    if (m->has_flag) {
        *(bool *)((char *)obj + m->has_offset) = true;
    }
    return input_slot(in, m->type, qdict_get(d, m->name), slot, &frame, errp);
}

static const QapiType *variant_of(const QapiType *t, const void *obj)
{
    return t->kind == QAPI_UNION ? t->variants[*(const int *)((const char *)obj + t->members[t->tag].offset)] : NULL;
}

static bool input_members(const Input *in, const QapiType *t, QDict *d, void *obj, const Frame *f, int *seen,
                          Error **errp)
{
    const QapiType *variant;

    for (int i = 0; i < t->n_members; i++) {
        if (!input_member(in, &t->members[i], d, obj, f, seen, errp)) {
            return false;
        }
    }
    variant = variant_of(t, obj);
    return !variant || input_members(in, variant, d, (char *)obj + t->u_offset, f, seen, errp);
}

/* Which of several unknown members clients are told of: the first that a GLib hash table
 * still holds which all members were put in and the known ones taken out. */
static void forget_known(const QapiType *t, const void *obj, GHashTable *names)
{
    for (int i = 0; i < t->n_members; i++) {
        g_hash_table_remove(names, t->members[i].name);
    }
    if (variant_of(t, obj)) {
        forget_known(variant_of(t, obj), (const char *)obj + t->u_offset, names);
    }
}

static void add_name(const char *key, QDict *value, void *opaque)
{
    g_hash_table_insert(opaque, (char *)key, (char *)key);
}

static bool fail_unexpected(const Input *in, const QapiType *t, QDict *d, const void *obj, const Frame *f,
                            Error **errp)
{
    GHashTable *names = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    void *name = NULL;
    g_autofree char *path = NULL;

    qdict_foreach_wire(d, add_name, names);
    forget_known(t, obj, names);
    g_hash_table_iter_init(&iter, names);
    g_hash_table_iter_next(&iter, &name, NULL);
    path = frame_path(in, f, name);
    if (in->keyval && qdict_type(qdict_get(d, name)) != QTYPE_QSTRING) {
        error_setg(errp, "Parameters '%s.*' are unexpected", path);
    } else {
        error_setg(errp, "Parameter '%s' is unexpected", path);
    }
    g_hash_table_unref(names);
    return false;
}

/* Read a struct, union or alternate into @obj, which is zeroed. */
static bool input_object(const Input *in, const QapiType *t, QDict *v, void *obj, const Frame *f, Error **errp)
{
    int seen = 0;

    if (t->kind == QAPI_ALTERNATE) {
        return input_alternate(in, t, v, obj, f, errp);
    }
    if (qdict_type(v) != QTYPE_QDICT) {
        return fail_type(in, f, "object", errp);
    }
    if (f->depth > INPUT_DEPTH_MAX) {
        error_setg(errp, "Parameters are nested too deeply");
        return false;
    }
    if (!input_members(in, t, v, obj, f, &seen, errp)) {
        return false;
    }
    return seen == (int)qdict_size(v) || fail_unexpected(in, t, v, obj, f, errp);
}

static bool input_slot(const Input *in, const QapiType *t, QDict *v, void *slot, const Frame *f, Error **errp)
{
    switch (t->kind) {
    case QAPI_STR:    return input_str(in, v, slot, f, errp);
    case QAPI_BOOL:   return input_bool(in, v, slot, f, errp);
    case QAPI_NUMBER: return input_number(in, v, slot, f, errp);
    case QAPI_NULL:   return qdict_type(v) == QTYPE_QNULL || fail_type(in, f, "null", errp);
    case QAPI_ANY:    *(QDict **)slot = qdict_ref(v); return true;
    case QAPI_ENUM:   return input_enum(in, t, v, slot, f, errp);
    case QAPI_LIST:   return input_list(in, t, v, slot, f, errp);
    case QAPI_STRUCT: case QAPI_UNION: case QAPI_ALTERNATE:
        *(void **)slot = g_malloc0(t->size);
        return input_object(in, t, v, *(void **)slot, f, errp);
    default:
        return input_int(in, t, v, slot, f, errp);
    }
}

void *qapi_from_json(const QapiType *type, QDict *json, bool keyval, Error **errp)
{
    Input in = { .keyval = keyval };
    Frame root = { NULL, NULL, -1, 0 };
    void *value = NULL;

    g_assert(type->kind >= QAPI_STRUCT);
    if (!input_slot(&in, type, json, &value, &root, errp)) {
        qapi_free(type, value);
        return NULL;
    }
    return value;
}

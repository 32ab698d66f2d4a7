/* SPDX-License-Identifier: MIT */
/* visit.c: free, copy and print values of the schema's types. Reading is in input.c. */
#include "base/osdep.h"
#include "block/qapi-visit.h"

/* A list as all of them look. */
typedef struct AnyList AnyList;
struct AnyList {
    AnyList *next;
    union { char *p; int64_t i; } value;
};

/* Is a member of this type a pointer to the value? */
static bool type_is_pointer(const QapiType *t)
{
    return t->kind == QAPI_STRUCT || t->kind == QAPI_UNION || t->kind == QAPI_ALTERNATE ||
           t->kind == QAPI_LIST;
}

static const QapiMember *alternate_branch(const QapiType *t, const void *obj)
{
    QType qtype = *(const QType *)obj;

    for (int i = 0; i < t->n_members; i++) {
        if (t->members[i].qtype == qtype) {
            return &t->members[i];
        }
    }
    return NULL;
}

static const QapiType *union_variant(const QapiType *t, const void *obj)
{
    int tag = *(const int *)((const char *)obj + t->members[t->tag].offset);

    return t->variants[tag];
}

/* ---- free ---- */

static void free_slot(const QapiType *t, void *slot);

static void free_contents(const QapiType *t, void *obj)
{
    char *p = obj;

    if (t->kind == QAPI_ALTERNATE) {
        const QapiMember *b = alternate_branch(t, obj);

        if (b) {
            free_slot(b->type, p + t->u_offset);
        }
        return;
    }
    if (t->kind == QAPI_UNION && union_variant(t, obj)) {
        free_contents(union_variant(t, obj), p + t->u_offset);
    }
    for (int i = 0; i < t->n_members; i++) {
        free_slot(t->members[i].type, p + t->members[i].offset);
    }
}

/* Free what the variable @slot of type @t holds. */
static void free_slot(const QapiType *t, void *slot)
{
    if (t->kind == QAPI_STR) {
        g_free(*(char **)slot);
    } else if (t->kind == QAPI_ANY) {
        qdict_unref(*(QDict **)slot);
    } else if (type_is_pointer(t)) {
        qapi_free(t, *(void **)slot);
    }
}

void qapi_free(const QapiType *type, void *obj)
{
    if (type->kind == QAPI_LIST) {
        for (AnyList *l = obj, *next; l; l = next) {
            next = l->next;
            free_slot(type->element, &l->value);
            g_free(l);
        }
    } else if (type->kind == QAPI_ANY) {
        qdict_unref(obj);
    } else if (obj) {
        free_contents(type, obj);
        g_free(obj);
    }
}

/* ---- clone: the bits are copied already, what they point to is not ---- */

static void clone_slot(const QapiType *t, void *slot);

static void clone_contents(const QapiType *t, void *obj)
{
    char *p = obj;

    if (t->kind == QAPI_ALTERNATE) {
        const QapiMember *b = alternate_branch(t, obj);

        if (b) {
            clone_slot(b->type, p + t->u_offset);
        }
        return;
    }
    for (int i = 0; i < t->n_members; i++) {
        clone_slot(t->members[i].type, p + t->members[i].offset);
    }
    if (t->kind == QAPI_UNION && union_variant(t, obj)) {
        clone_contents(union_variant(t, obj), p + t->u_offset);
    }
}

static void clone_slot(const QapiType *t, void *slot)
{
    if (t->kind == QAPI_STR) {
        *(char **)slot = g_strdup(*(char **)slot);
    } else if (t->kind == QAPI_ANY) {
        *(QDict **)slot = qdict_clone(*(QDict **)slot);
    } else if (type_is_pointer(t)) {
        *(void **)slot = qapi_clone(t, *(void **)slot);
    }
}

void *qapi_clone(const QapiType *type, const void *obj)
{
    AnyList *head = NULL, **tail = &head;
    void *copy;

    if (type->kind == QAPI_LIST) {
        for (const AnyList *l = obj; l; l = l->next) {
            *tail = g_memdup2(l, sizeof(*l));
            clone_slot(type->element, &(*tail)->value);
            tail = &(*tail)->next;
        }
        *tail = NULL;
        return head;
    }
    if (!obj) {
        return NULL;
    }
    copy = g_memdup2(obj, type->size);
    clone_contents(type, copy);
    return copy;
}

/* ---- output ---- */

static QDict *output_slot(const QapiType *t, const void *slot);
static QDict *output_list(const QapiType *type, const void *list);

static int64_t int_load(const QapiType *t, const void *slot)
{
    bool is_signed = t->kind == QAPI_INT;

    switch (t->bits) {
    case 8:  return is_signed ? *(const int8_t *)slot : *(const uint8_t *)slot;
    case 16: return is_signed ? *(const int16_t *)slot : *(const uint16_t *)slot;
    case 32: return is_signed ? *(const int32_t *)slot : (int64_t)*(const uint32_t *)slot;
    default: return *(const int64_t *)slot;
    }
}

static void output_members(const QapiType *t, const void *obj, QDict *out)
{
    const char *p = obj;

    for (int i = 0; i < t->n_members; i++) {
        const QapiMember *m = &t->members[i];
        const void *slot = p + m->offset;

        if (m->optional && (m->has_flag ? !*(const bool *)(p + m->has_offset) : !*(void *const *)slot)) {
            continue;
        }
        qdict_put_obj(out, m->name, output_slot(m->type, slot));
    }
    if (t->kind == QAPI_UNION && union_variant(t, obj)) {
        output_members(union_variant(t, obj), p + t->u_offset, out);
    }
}

static QDict *output_slot(const QapiType *t, const void *slot)
{
    switch (t->kind) {
    case QAPI_STR: {
        const char *s = *(char *const *)slot;
        return qstring_new(s ? s : "");
    }
    case QAPI_BOOL:
        return qbool_new(*(const bool *)slot);
    case QAPI_NUMBER:
        return qdouble_new(*(const double *)slot);
    case QAPI_NULL:
        return NULL;
    case QAPI_ANY:
        return qdict_ref(*(QDict *const *)slot);
    case QAPI_INT:
        return qint_new(int_load(t, slot));
    case QAPI_UINT:
    case QAPI_SIZE:
        return quint_new(int_load(t, slot));
    case QAPI_ENUM:
        return qstring_new(t->values[*(const int *)slot]);
    case QAPI_LIST:
        return output_list(t->element, *(void *const *)slot);
    default:
        return qapi_to_json(t, *(void *const *)slot);
    }
}

static QDict *output_list(const QapiType *type, const void *list)
{
    QDict *out = qlist_new();

    for (const AnyList *l = list; l; l = l->next) {
        qlist_append(out, output_slot(type, &l->value));
    }
    return out;
}

QDict *qapi_to_json(const QapiType *type, const void *obj)
{
    if (type->kind == QAPI_LIST) {
        return output_list(type->element, obj);
    }
    if (type->kind == QAPI_ANY) {
        return qdict_ref((QDict *)obj);
    }
    g_assert(type_is_pointer(type));
    if (type->kind == QAPI_ALTERNATE) {
        const QapiMember *b = alternate_branch(type, obj);

        g_assert(b);
        return output_slot(b->type, (const char *)obj + type->u_offset);
    }
    QDict *out = qdict_new();
    output_members(type, obj, out);
    return out;
}

/* ---- enums ---- */

const char *qapi_enum_str(const QapiType *type, int value)
{
    g_assert(value >= 0 && value < type->n_values);
    return type->values[value];
}

int qapi_enum_parse(const QapiType *type, const char *name)
{
    for (int i = 0; i < type->n_values; i++) {
        if (!strcmp(type->values[i], name)) {
            return i;
        }
    }
    return -1;
}

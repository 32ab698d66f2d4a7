/* SPDX-License-Identifier: MIT */
/* introspect.c: what query-qmp-schema answers, made from the descriptors. Types that are not
 * built in have numbers for names, as in the peer: clients must not rely on them.
 */
#include "base/osdep.h"
#include "block/qapi-visit.h"
#include "block/qdict.h"
#include "schema/introspect.h"

typedef struct Intro {
    GHashTable *names;          /* QapiType -> its name */
    GPtrArray *queue;           /* types still to describe */
    json_object *out;
    unsigned next;
} Intro;

static const char *builtin_name(const QapiType *t)
{
    switch (t->kind) {
    case QAPI_STR: return "str";
    case QAPI_BOOL: return "bool";
    case QAPI_NUMBER: return "number";
    case QAPI_NULL: return "null";
    case QAPI_ANY: return "any";
    case QAPI_INT: case QAPI_UINT32: case QAPI_UINT64: case QAPI_SIZE: return "int";
    default: return NULL;
    }
}

static const QapiType qapi_type_empty = { .name = "q_empty", .kind = QAPI_STRUCT };

static const char *name_of(Intro *in, const QapiType *t)
{
    if (t->kind == QAPI_STRUCT && !t->n_members && !t->tag) {
        t = &qapi_type_empty;
    }
    const char *name = g_hash_table_lookup(in->names, t);

    if (name) {
        return name;
    }
    if (builtin_name(t)) {
        name = g_strdup(builtin_name(t));
    } else if (t->kind == QAPI_LIST) {
        name = g_strdup_printf("[%s]", name_of(in, t->element));
    } else {
        name = g_strdup_printf("%u", in->next++);
    }
    g_hash_table_insert(in->names, (gpointer)t, (gpointer)name);
    g_ptr_array_add(in->queue, (gpointer)t);
    return name;
}

static json_object *members_json(Intro *in, const QapiType *t)
{
    json_object *a = json_object_new_array();

    for (int i = 0; i < t->n_members; i++) {
        json_object *m = json_object_new_object();

        qdict_put_str(m, "name", t->members[i].name);
        if (t->members[i].optional) {
            json_object_object_add(m, "default", NULL);
        }
        qdict_put_str(m, "type", name_of(in, t->members[i].type));
        json_object_array_add(a, m);
    }
    return a;
}

static void describe_struct(Intro *in, const QapiType *t, json_object *e)
{
    qdict_put_str(e, "meta-type", "object");
    qdict_put_obj(e, "members", members_json(in, t));
    if (!t->tag) {
        return;
    }
    json_object *variants = json_object_new_array();
    const QapiType *tag_type = NULL;

    for (int i = 0; i < t->n_members; i++) {
        if (!strcmp(t->members[i].name, t->tag)) {
            tag_type = t->members[i].type;
        }
    }
    for (int i = 0; i < t->count; i++) {
        json_object *c = json_object_new_object();

        qdict_put_str(c, "case", qapi_enum_str(tag_type, i));
        qdict_put_str(c, "type", name_of(in, t->cases[i] ? t->cases[i] : &qapi_type_empty));
        json_object_array_add(variants, c);
    }
    qdict_put_str(e, "tag", t->tag);
    qdict_put_obj(e, "variants", variants);
}

static void describe(Intro *in, const QapiType *t)
{
    json_object *e = json_object_new_object(), *a;

    qdict_put_str(e, "name", name_of(in, t));
    switch (t->kind) {
    case QAPI_STRUCT:
        describe_struct(in, t, e);
        break;
    case QAPI_ENUM:
        qdict_put_str(e, "meta-type", "enum");
        a = json_object_new_array();
        json_object *v = json_object_new_array();

        for (int i = 0; i < t->count; i++) {
            json_object *m = json_object_new_object();

            qdict_put_str(m, "name", t->names[i]);
            json_object_array_add(a, m);
            json_object_array_add(v, json_object_new_string(t->names[i]));
        }
        qdict_put_obj(e, "members", a);
        qdict_put_obj(e, "values", v);
        break;
    case QAPI_LIST:
        qdict_put_str(e, "meta-type", "array");
        qdict_put_str(e, "element-type", name_of(in, t->element));
        break;
    case QAPI_ALTERNATE:
        qdict_put_str(e, "meta-type", "alternate");
        a = json_object_new_array();
        for (int i = 0; i < t->n_members; i++) {
            json_object *m = json_object_new_object();

            qdict_put_str(m, "type", name_of(in, t->members[i].type));
            json_object_array_add(a, m);
        }
        qdict_put_obj(e, "members", a);
        break;
    default: {
        const char *b = builtin_name(t);

        qdict_put_str(e, "meta-type", "builtin");
        qdict_put_str(e, "json-type", !strcmp(b, "str") ? "string" : !strcmp(b, "bool") ? "boolean"
                      : !strcmp(b, "any") ? "value" : b);
    }
    }
    json_object_array_add(in->out, e);
}

json_object *qapi_introspect(void)
{
    Intro in = {
        .names = g_hash_table_new_full(NULL, NULL, NULL, g_free),
        .queue = g_ptr_array_new(), .out = json_object_new_array(),
    };
    g_autoptr(GHashTable) builtins = g_hash_table_new(g_str_hash, g_str_equal);

    for (const QapiCommand *c = qapi_commands; c->name; c++) {
        json_object *e = json_object_new_object();

        qdict_put_str(e, "name", c->name);
        qdict_put_str(e, "meta-type", "command");
        if (c->oob) {
            qdict_put_bool(e, "allow-oob", true);
        }
        qdict_put_str(e, "arg-type", name_of(&in, c->arg));
        qdict_put_str(e, "ret-type", name_of(&in, c->ret ? c->ret : &qapi_type_empty));
        json_object_array_add(in.out, e);
    }
    for (const QapiEvent *ev = qapi_events; ev->name; ev++) {
        json_object *e = json_object_new_object();

        qdict_put_str(e, "name", ev->name);
        qdict_put_str(e, "meta-type", "event");
        qdict_put_str(e, "arg-type", name_of(&in, ev->data));
        json_object_array_add(in.out, e);
    }
    for (guint i = 0; i < in.queue->len; i++) {
        const QapiType *t = g_ptr_array_index(in.queue, i);
        const char *b = builtin_name(t);

        if (b && !g_hash_table_add(builtins, (gpointer)b)) {
            continue;           /* all integers are one type here */
        }
        describe(&in, t);
    }
    g_hash_table_destroy(in.names);
    g_ptr_array_free(in.queue, TRUE);
    return in.out;
}

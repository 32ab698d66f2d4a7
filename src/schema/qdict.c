/* SPDX-License-Identifier: MIT */
/* qdict.c: option dictionaries; see block/qdict.h. */
#include "base/osdep.h"
#include "block/qdict.h"

QDict *qdict_new(void)
{
    return json_object_new_object();
}

void qdict_put_str(QDict *d, const char *key, const char *value)
{
    json_object_object_add(d, key, json_object_new_string(value));
}

void qdict_put_int(QDict *d, const char *key, int64_t value)
{
    json_object_object_add(d, key, json_object_new_int64(value));
}

void qdict_put_bool(QDict *d, const char *key, bool value)
{
    json_object_object_add(d, key, json_object_new_boolean(value));
}

void qdict_put_obj(QDict *d, const char *key, json_object *value)
{
    json_object_object_add(d, key, value);
}

bool qdict_haskey(const QDict *d, const char *key)
{
    return json_object_object_get_ex(d, key, NULL);
}

void qdict_del(QDict *d, const char *key)
{
    json_object_object_del(d, key);
}

json_object *qdict_get(const QDict *d, const char *key)
{
    json_object *v = NULL;

    json_object_object_get_ex(d, key, &v);
    return v;
}

const char *qdict_get_try_str(const QDict *d, const char *key)
{
    json_object *v = qdict_get(d, key);

    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

QDict *qdict_clone(const QDict *d)
{
    QDict *copy = NULL;

    json_object_deep_copy((QDict *)d, &copy, NULL);
    return copy;
}

/* Put @value (taken) at the dotted @key of @d. */
static bool put_dotted(QDict *d, const char *key, json_object *value, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);

    for (guint i = 0; parts[i]; i++) {
        json_object *child = qdict_get(d, parts[i]);

        if (!*parts[i]) {
            error_setg(errp, "Invalid parameter '%s'", key);
            json_object_put(value);
            return false;
        }
        if (!parts[i + 1]) {
            if (qdict_haskey(d, parts[i]) && json_object_is_type(child, json_type_object)) {
                error_setg(errp, "Parameters '%s.*' used inconsistently", key);
                json_object_put(value);
                return false;
            }
            json_object_object_add(d, parts[i], value);
            return true;
        }
        if (!child) {
            child = json_object_new_object();
            json_object_object_add(d, parts[i], child);
        } else if (!json_object_is_type(child, json_type_object)) {
            error_setg(errp, "Parameters '%s.*' used inconsistently", parts[i]);
            json_object_put(value);
            return false;
        }
        d = child;
    }
    return true;
}

/* Dictionaries whose keys are 0..n-1 are lists. */
static json_object *lists_from_indices(json_object *v)
{
    size_t n = 0;
    bool all = true;

    json_object_object_foreach(v, key, value) {
        char want[24];

        if (json_object_is_type(value, json_type_object)) {
            json_object *c = lists_from_indices(value);

            if (c != value) {
                json_object_object_add(v, key, c);
            }
        }
        snprintf(want, sizeof(want), "%zu", n++);
        all &= !strcmp(key, want);
    }
    if (!n || !all) {
        return v;
    }
    json_object *a = json_object_new_array();

    json_object_object_foreach(v, k2, v2) {
        (void)k2;
        json_object_array_add(a, json_object_get(v2));
    }
    return a;
}

QDict *qdict_crumple(QDict *d, Error **errp)
{
    QDict *out = qdict_new();

    json_object_object_foreach(d, key, value) {
        if (!put_dotted(out, key, json_object_get(value), errp)) {
            qdict_unref(out);
            qdict_unref(d);
            return NULL;
        }
    }
    qdict_unref(d);
    return lists_from_indices(out);
}

static QDict *from_keyval(const char *text, const char *implied_key, Error **errp)
{
    g_autoptr(QDict) flat = qdict_new();
    bool first = true;

    while (*text) {
        g_autoptr(GString) key = g_string_new(""), value = g_string_new("");
        size_t n = strcspn(text, "=,");

        if (first && implied_key && text[n] != '=') {
            g_string_append(key, implied_key);
        } else {
            g_string_append_len(key, text, n);
            text += n;
            if (*text != '=') {
                error_setg(errp, "Expected '=' after parameter '%s'", key->str);
                return NULL;
            }
            text++;
            if (!key->len) {
                error_setg(errp, "Invalid parameter ''");
                return NULL;
            }
        }
        for (; *text; text++) {
            if (*text == ',') {
                if (text[1] != ',') {
                    break;
                }
                text++;
            }
            g_string_append_c(value, *text);
        }
        qdict_put_str(flat, key->str, value->str);
        if (*text == ',') {
            text++;
        }
        first = false;
    }
    return qdict_crumple(qdict_ref(flat), errp);
}

QDict *qdict_from_options(const char *text, const char *implied_key, bool *keyval, Error **errp)
{
    *keyval = *text != '{';
    if (*keyval) {
        return from_keyval(text, implied_key, errp);
    }
    struct json_tokener *tok = json_tokener_new_ex(64);
    json_object *j = json_tokener_parse_ex(tok, text, strlen(text));
    enum json_tokener_error e = json_tokener_get_error(tok);

    json_tokener_free(tok);
    if (e != json_tokener_success || !json_object_is_type(j, json_type_object)) {
        json_object_put(j);
        error_setg(errp, "JSON parse error, %s", json_tokener_error_desc(e));
        return NULL;
    }
    return qdict_crumple(j, errp);
}

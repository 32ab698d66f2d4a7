/* SPDX-License-Identifier: MIT */
/* json_print.c: JSON text, byte for byte as the peer prints it.
 *
 * Key order: the peer keeps objects in a hash table of 512 buckets and prints bucket by bucket,
 * in each the newest first. The hash is the one of GDBM and TDB, public since the 1990s. Tools
 * that compare output as text depend on it; it was verified on recorded replies.
 */
#include "base/osdep.h"
#include "block/qdict.h"

#define BUCKETS 512

static unsigned key_bucket(const char *key)
{
    unsigned len = strlen(key), v = 0x238F13AFu * len;

    for (unsigned i = 0; i < len; i++) {
        v += (unsigned)(unsigned char)key[i] << (i * 5 % 24);
    }
    return (1103515243u * v + 12345u) % BUCKETS;
}

typedef struct Slot {
    const char *key;
    json_object *value;
    unsigned bucket, age;
} Slot;

static int slot_cmp(const void *a, const void *b)
{
    const Slot *x = a, *y = b;

    if (x->bucket != y->bucket) {
        return x->bucket < y->bucket ? -1 : 1;
    }
    return x->age > y->age ? -1 : 1;
}

static void print_string(GString *out, const char *s, size_t len)
{
    const char *end = s + len;

    g_string_append_c(out, '"');
    while (s < end) {
        gunichar c = g_utf8_get_char_validated(s, end - s);

        if (c >= (gunichar)-2) {
            c = 0xfffd;
            s++;
        } else {
            s = g_utf8_next_char(s);
        }
        switch (c) {
        case '"':  g_string_append(out, "\\\""); break;
        case '\\': g_string_append(out, "\\\\"); break;
        case '\b': g_string_append(out, "\\b"); break;
        case '\f': g_string_append(out, "\\f"); break;
        case '\n': g_string_append(out, "\\n"); break;
        case '\r': g_string_append(out, "\\r"); break;
        case '\t': g_string_append(out, "\\t"); break;
        default:
            if (c > 0xffff) {
                c -= 0x10000;
                g_string_append_printf(out, "\\u%04X\\u%04X", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
            } else if (c < 0x20 || c >= 0x7f) {
                g_string_append_printf(out, "\\u%04X", c);
            } else {
                g_string_append_c(out, c);
            }
        }
    }
    g_string_append_c(out, '"');
}

static void newline(GString *out, bool pretty, int depth)
{
    if (pretty) {
        g_string_append_printf(out, "\n%*s", 4 * depth, "");
    }
}

static void print_value(GString *out, json_object *v, bool pretty, int depth);

static void print_object(GString *out, json_object *v, bool pretty, int depth)
{
    unsigned n = json_object_object_length(v), i = 0;
    g_autofree Slot *slots = g_new(Slot, n + 1);

    json_object_object_foreach(v, key, value) {
        slots[i] = (Slot) { key, value, key_bucket(key), i };
        i++;
    }
    qsort(slots, n, sizeof(*slots), slot_cmp);
    g_string_append_c(out, '{');
    for (i = 0; i < n; i++) {
        if (i) {
            g_string_append(out, pretty ? "," : ", ");
        }
        newline(out, pretty, depth + 1);
        print_string(out, slots[i].key, strlen(slots[i].key));
        g_string_append(out, ": ");
        print_value(out, slots[i].value, pretty, depth + 1);
    }
    newline(out, pretty, depth);
    g_string_append_c(out, '}');
}

static void print_double(GString *out, double d)
{
    char buf[G_ASCII_DTOSTR_BUF_SIZE];

    g_ascii_formatd(buf, sizeof(buf), "%.17g", d);
    g_string_append(out, buf);
}

static void print_value(GString *out, json_object *v, bool pretty, int depth)
{
    switch (json_object_get_type(v)) {
    case json_type_null:
        g_string_append(out, "null");
        break;
    case json_type_boolean:
        g_string_append(out, json_object_get_boolean(v) ? "true" : "false");
        break;
    case json_type_int:
        if (json_object_get_int64(v) < 0) {
            g_string_append_printf(out, "%" PRId64, json_object_get_int64(v));
        } else {
            g_string_append_printf(out, "%" PRIu64, json_object_get_uint64(v));
        }
        break;
    case json_type_double:
        print_double(out, json_object_get_double(v));
        break;
    case json_type_string:
        print_string(out, json_object_get_string(v), json_object_get_string_len(v));
        break;
    case json_type_array:
        g_string_append_c(out, '[');
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            if (i) {
                g_string_append(out, pretty ? "," : ", ");
            }
            newline(out, pretty, depth + 1);
            print_value(out, json_object_array_get_idx(v, i), pretty, depth + 1);
        }
        newline(out, pretty, depth);
        g_string_append_c(out, ']');
        break;
    case json_type_object:
        print_object(out, v, pretty, depth);
        break;
    }
}

void json_print(GString *out, json_object *v, bool pretty)
{
    print_value(out, v, pretty, 0);
}

char *json_to_str(json_object *v, bool pretty)
{
    GString *out = g_string_new("");

    json_print(out, v, pretty);
    return g_string_free(out, FALSE);
}

/* SPDX-License-Identifier: MIT */
/* json_print.c: JSON text as clients of the control protocol know it, byte for byte.
 *
 * Order of members: tools and tests compare replies as text, so the order in which the
 * field's programs print is kept. They walk a hash table of 512 buckets, the newest entry
 * of a bucket first; the hash is the public string hash of gdbm and tdb. Order of
 * insertion therefore decides only between names that share a bucket.
 */
#include "base/osdep.h"
#include <math.h>
#include "block/qdict.h"

#define WIRE_BUCKETS 512

static unsigned wire_bucket(const char *key)
{
    uint32_t length = strlen(key), h = 0x238F13AFu * length;

    for (uint32_t i = 0; i < length; i++) {
        h += (uint32_t)(unsigned char)key[i] << (i * 5 % 24);
    }
    return (1103515243u * h + 12345u) % WIRE_BUCKETS;
}

typedef struct WireMember {
    const char *key;
    QDict *value;
    unsigned rank;              /* bucket first, then newest first */
} WireMember;

static int wire_compare(const void *a, const void *b)
{
    unsigned x = ((const WireMember *)a)->rank, y = ((const WireMember *)b)->rank;

    return x < y ? -1 : x > y;
}

/* The members of @d in the order of the wire: in @small if they fit, else allocated. */
#define WIRE_SMALL 8            /* messages nest a thousand deep, and this is on the stack at each level */
static WireMember *wire_members(const QDict *d, WireMember small[WIRE_SMALL])
{
    size_t n = qdict_size(d), i = 0;
    WireMember *m = n <= WIRE_SMALL ? small : g_new(WireMember, n);
    bool sorted = true;

    json_object_object_foreach((QDict *)d, key, value) {
        unsigned age = MIN(n - i, (1u << 22) - 1);      /* the newest has the least */

        m[i] = (WireMember) { key, value, wire_bucket(key) << 22 | age };
        sorted = sorted && (i == 0 || m[i - 1].rank < m[i].rank);
        i++;
    }
    if (!sorted) {
        qsort(m, n, sizeof(*m), wire_compare);
    }
    return m;
}

void qdict_foreach_wire(const QDict *d, void (*fn)(const char *key, QDict *value, void *opaque), void *opaque)
{
    WireMember small[WIRE_SMALL], *m = wire_members(d, small);

    for (size_t i = 0, n = qdict_size(d); i < n; i++) {
        fn(m[i].key, m[i].value, opaque);
    }
    if (m != small) {
        g_free(m);
    }
}

/* ---- strings: ASCII only on the wire ---- */

static void print_escape(GString *out, gunichar c)
{
    if (c >= 0x10000) {
        c -= 0x10000;
        g_string_append_printf(out, "\\u%04X\\u%04X", 0xD800 + (c >> 10), 0xDC00 + (c & 0x3ff));
    } else {
        g_string_append_printf(out, "\\u%04X", c);
    }
}

/* One character that cannot stand for itself; returns where the next begins. */
static const char *print_special(GString *out, const char *s, const char *end)
{
    static const char plain[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    gunichar c;

    for (const char *p = plain; *p; p += 2) {
        if (*s == *p) {
            g_string_append_c(out, '\\');
            g_string_append_c(out, p[1]);
            return s + 1;
        }
    }
    if (end - s >= 2 && !memcmp(s, "\xC0\x80", 2)) {
        print_escape(out, 0);       /* how the parser keeps a NUL */
        return s + 2;
    }
    c = g_utf8_get_char_validated(s, end - s);
    if (c >= (gunichar)-2 || !c) {
        /* Not UTF-8: say so with the replacement character. A NUL is itself, escaped. */
        print_escape(out, *s ? 0xFFFD : 0);
        return s + 1;
    }
    print_escape(out, c);
    return g_utf8_next_char(s);
}

static void print_string(GString *out, const char *s, size_t length)
{
    const char *end = s + length, *run = s;

    g_string_append_c(out, '"');
    while (s < end) {
        unsigned char c = *s;

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            s++;
            continue;
        }
        g_string_append_len(out, run, s - run);
        run = s = print_special(out, s, end);
    }
    g_string_append_len(out, run, end - run);
    g_string_append_c(out, '"');
}

/* ---- values ---- */

static void print_number(GString *out, const QDict *v)
{
    char text[40];
    double d;

    if (json_object_get_type(v) == json_type_int) {
        int64_t i = json_object_get_int64(v);

        g_string_append_printf(out, i < 0 ? "%" PRId64 : "%" PRIu64,
                               i < 0 ? (uint64_t)i : json_object_get_uint64(v));
        return;
    }
    d = json_object_get_double(v);
    if (!isfinite(d)) {
        d = 0;      /* JSON has no word for it; input cannot bring it */
    }
    g_string_append(out, g_ascii_formatd(text, sizeof(text), "%.17g", d));
}

static void print_newline(GString *out, bool pretty, int indent)
{
    if (pretty) {
        g_string_append_c(out, '\n');
        for (int i = 0; i < indent; i++) {
            g_string_append(out, "    ");
        }
    }
}

static void print_separator(GString *out, bool pretty)
{
    g_string_append(out, pretty ? "," : ", ");
}

static void print_value(GString *out, const QDict *v, bool pretty, int indent);

static void print_object(GString *out, const QDict *v, bool pretty, int indent)
{
    WireMember small[WIRE_SMALL], *m = wire_members(v, small);
    size_t n = qdict_size(v);

    g_string_append_c(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i) {
            print_separator(out, pretty);
        }
        print_newline(out, pretty, indent + 1);
        print_string(out, m[i].key, strlen(m[i].key));
        g_string_append(out, ": ");
        print_value(out, m[i].value, pretty, indent + 1);
    }
    print_newline(out, pretty, indent);
    g_string_append_c(out, '}');
    if (m != small) {
        g_free(m);
    }
}

static void print_list(GString *out, const QDict *v, bool pretty, int indent)
{
    size_t n = qlist_size(v);

    g_string_append_c(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) {
            print_separator(out, pretty);
        }
        print_newline(out, pretty, indent + 1);
        print_value(out, qlist_get(v, i), pretty, indent + 1);
    }
    print_newline(out, pretty, indent);
    g_string_append_c(out, ']');
}

static void print_value(GString *out, const QDict *v, bool pretty, int indent)
{
    bool b;

    switch (qdict_type(v)) {
    case QTYPE_QDICT:
        print_object(out, v, pretty, indent);
        break;
    case QTYPE_QLIST:
        print_list(out, v, pretty, indent);
        break;
    case QTYPE_QSTRING:
        print_string(out, json_object_get_string((QDict *)v), json_object_get_string_len(v));
        break;
    case QTYPE_QNUM:
        print_number(out, v);
        break;
    case QTYPE_QBOOL:
        qbool_get(v, &b);
        g_string_append(out, b ? "true" : "false");
        break;
    default:
        g_string_append(out, "null");
        break;
    }
}

void json_print(GString *out, const QDict *v, bool pretty)
{
    print_value(out, v, pretty, 0);
}

char *json_to_str(const QDict *v, bool pretty)
{
    GString *out = g_string_new(NULL);

    json_print(out, v, pretty);
    return g_string_free(out, FALSE);
}

/* SPDX-License-Identifier: MIT */
/* json_parse.c: from the tokens of one message to a value. The lexer is in json_lex.c. */
#include "base/osdep.h"
#include <math.h>
#include "base/json_private.h"

typedef struct Parse {
    const JsonToken *token, *end;
    const char *text;
    Error **errp;
} Parse;

#define FAIL(p, ...) error_setg((p)->errp, "JSON parse error, " __VA_ARGS__)

static bool at(const Parse *p, JsonTokenType type)
{
    return p->token < p->end && p->token->type == type;
}

/* ---- strings ---- */

/* Is @c a character that text may hold: no surrogate, no noncharacter? */
static bool unicode_is_valid(gunichar c)
{
    return c <= 0x10FFFF && (c & 0x1FF800) != 0xD800 && !(c >= 0xFDD0 && c <= 0xFDEF) && (c & 0xFFFE) != 0xFFFE;
}

/* Four hex digits; -1. */
static int hex4(const char *s, const char *end)
{
    int v = 0;

    for (int i = 0; i < 4; i++) {
        if (s + i >= end || !g_ascii_isxdigit(s[i])) {
            return -1;
        }
        v = v * 16 + g_ascii_xdigit_value(s[i]);
    }
    return v;
}

/* U+0000 is kept in two bytes, so that no text is cut short where it is a C string. */
static void append_char(GString *out, gunichar c)
{
    if (c) {
        g_string_append_unichar(out, c);
    } else {
        g_string_append_len(out, "\xC0\x80", 2);
    }
}

/* After "\u". The next character, or NULL and the error. */
static const char *unescape_unicode(Parse *p, const char *s, const char *end, GString *out)
{
    int hi = hex4(s, end), lo;
    gunichar c = hi;

    if (hi >= 0xD800 && hi <= 0xDBFF && end - s >= 10 && s[4] == '\\' && s[5] == 'u') {
        lo = hex4(s + 6, end);
        if (lo >= 0xDC00 && lo <= 0xDFFF) {
            c = 0x10000 + ((hi & 0x3FF) << 10 | (lo & 0x3FF));
        }
    }
    if (hi < 0 || !unicode_is_valid(c)) {
        FAIL(p, "\\u%.*s is not a valid Unicode character", (int)MIN(4, end + 1 - s), s);
        return NULL;
    }
    append_char(out, c);
    return s + (c >= 0x10000 ? 10 : 4);
}

static const char *unescape(Parse *p, const char *s, const char *end, GString *out)
{
    static const char from[] = "\"'\\/bfnrt", to[] = "\"'\\/\b\f\n\r\t";
    const char *which;

    if (*s == 'u') {
        return unescape_unicode(p, s + 1, end, out);
    }
    which = *s ? strchr(from, *s) : NULL;
    if (!which) {
        FAIL(p, "invalid escape sequence in string");
        return NULL;
    }
    g_string_append_c(out, to[which - from]);
    return s + 1;
}

/* One character of several bytes. */
static const char *multibyte(Parse *p, const char *s, const char *end, GString *out)
{
    gunichar c = g_utf8_get_char_validated(s, end - s);
    const char *next;

    if (end - s >= 2 && !memcmp(s, "\xC0\x80", 2)) {
        append_char(out, 0);
        return s + 2;
    }
    if (c >= (gunichar)-2 || !unicode_is_valid(c)) {
        FAIL(p, "invalid UTF-8 sequence in string");
        return NULL;
    }
    next = g_utf8_next_char(s);
    g_string_append_len(out, s, next - s);
    return next;
}

static QDict *parse_string(Parse *p)
{
    const JsonToken *t = p->token++;
    const char *s = p->text + t->offset + 1, *end = s + t->length - 2, *run = s;
    g_autoptr(GString) out = g_string_sized_new(t->length);

    while (s && s < end) {
        if (*s == '\\' || (*s & 0x80)) {
            g_string_append_len(out, run, s - run);
            run = s = *s == '\\' ? unescape(p, s + 1, end, out) : multibyte(p, s, end, out);
        } else {
            s++;
        }
    }
    if (!s) {
        return NULL;
    }
    g_string_append_len(out, run, s - run);
    return json_object_new_string_len(out->str, out->len);
}

/* ---- numbers, words ---- */

static QDict *parse_number(Parse *p)
{
    const JsonToken *t = p->token++;
    g_autofree char *text = g_strndup(p->text + t->offset, t->length);
    double d;

    if (t->type == JSON_TOKEN_INTEGER) {
        int64_t i;
        uint64_t u;

        errno = 0;
        i = g_ascii_strtoll(text, NULL, 10);
        if (!errno) {
            return qint_new(i);
        }
        errno = 0;
        u = *text == '-' ? 0 : g_ascii_strtoull(text, NULL, 10);
        if (!errno && *text != '-') {
            return quint_new(u);
        }
    }
    d = g_ascii_strtod(text, NULL);
    return qdouble_new(isfinite(d) ? d : d < 0 ? -G_MAXDOUBLE : G_MAXDOUBLE);
}

static bool parse_keyword(Parse *p, QDict **value)
{
    const JsonToken *t = p->token++;
    const char *word = p->text + t->offset;

    if (t->length == 4 && !memcmp(word, "true", 4)) {
        *value = qbool_new(true);
    } else if (t->length == 5 && !memcmp(word, "false", 5)) {
        *value = qbool_new(false);
    } else if (t->length == 4 && !memcmp(word, "null", 4)) {
        *value = NULL;
    } else {
        FAIL(p, "invalid keyword '%.*s'", (int)t->length, word);
        return false;
    }
    return true;
}

/* ---- structures; the lexer has limited the depth ---- */

static bool parse_value(Parse *p, QDict **value);

static bool parse_eoi(Parse *p)
{
    if (p->token < p->end) {
        return false;
    }
    FAIL(p, "premature EOI");
    return true;
}

static bool parse_pair(Parse *p, QDict *object)
{
    g_autoptr(QDict) key = NULL;
    QDict *value = NULL;

    if (!parse_value(p, &key)) {
        return false;
    }
    if (qdict_type(key) != QTYPE_QSTRING) {
        FAIL(p, "key is not a string in object");
        return false;
    }
    if (parse_eoi(p)) {
        return false;
    }
    if (!at(p, JSON_TOKEN_COLON)) {
        FAIL(p, "missing : in object pair");
        return false;
    }
    p->token++;
    if (!parse_value(p, &value)) {
        return false;
    }
    if (qdict_haskey(object, qstring_get(key))) {
        FAIL(p, "duplicate key");
        qdict_unref(value);
        return false;
    }
    qdict_put_obj(object, qstring_get(key), value);
    return true;
}

static bool parse_element(Parse *p, QDict *list)
{
    QDict *value = NULL;

    if (!parse_value(p, &value)) {
        return false;
    }
    qlist_append(list, value);
    return true;
}

/* The members of an object or a list, up to the closing token. */
static bool parse_members(Parse *p, QDict **value, bool is_object)
{
    JsonTokenType close = is_object ? JSON_TOKEN_RCURLY : JSON_TOKEN_RSQUARE;
    g_autoptr(QDict) out = is_object ? qdict_new() : qlist_new();

    p->token++;
    if (parse_eoi(p)) {
        return false;
    }
    while (!at(p, close)) {
        if (!(is_object ? parse_pair(p, out) : parse_element(p, out)) || parse_eoi(p)) {
            return false;
        }
        if (at(p, close)) {
            break;
        }
        if (!at(p, JSON_TOKEN_COMMA)) {
            FAIL(p, "expected separator in %s", is_object ? "dict" : "list");
            return false;
        }
        p->token++;
        if (parse_eoi(p)) {
            return false;
        }
        if (at(p, close)) {
            FAIL(p, "expecting value");
            return false;
        }
    }
    p->token++;
    *value = g_steal_pointer(&out);
    return true;
}

static bool parse_value(Parse *p, QDict **value)
{
    if (parse_eoi(p)) {
        return false;
    }
    switch (p->token->type) {
    case JSON_TOKEN_LCURLY:
        return parse_members(p, value, true);
    case JSON_TOKEN_LSQUARE:
        return parse_members(p, value, false);
    case JSON_TOKEN_STRING:
        *value = parse_string(p);
        return *value != NULL;
    case JSON_TOKEN_INTEGER: case JSON_TOKEN_FLOAT:
        *value = parse_number(p);
        return true;
    case JSON_TOKEN_KEYWORD:
        return parse_keyword(p, value);
    default:
        FAIL(p, "expecting value");
        return false;
    }
}

QDict *json_parse_tokens(const JsonToken *tokens, size_t n, const char *text, Error **errp)
{
    Parse p = { tokens, tokens + n, text, errp };
    QDict *value = NULL;

    return parse_value(&p, &value) ? value : NULL;
}

/* ---- one value from a string ---- */

typedef struct One {
    QDict *value;
    bool seen;
    Error *err;
} One;

static void one_emit(void *opaque, QDict *value, Error *err)
{
    One *one = opaque;

    if (one->seen && !one->err) {
        error_free(err);
        err = NULL;
        error_setg(&err, "Expecting at most one JSON value");
    }
    if (one->err) {
        error_free(err);
        qdict_unref(value);
    } else if (err) {
        one->err = err;
        qdict_unref(value);
    } else {
        one->value = value;
        one->seen = true;
    }
}

QDict *qdict_from_json(const char *text, Error **errp)
{
    One one = { 0 };
    JsonParser p;

    json_parser_init(&p, one_emit, &one);
    json_parser_feed(&p, text, strlen(text));
    json_parser_flush(&p);
    json_parser_destroy(&p);
    if (!one.err && !one.seen) {
        error_setg(&one.err, "Expecting a JSON value");
    }
    if (one.err) {
        qdict_unref(one.value);
        error_propagate(errp, one.err);
        return NULL;
    }
    return one.value;
}

/* SPDX-License-Identifier: MIT */
/* json_parse: what a stream of JSON gives, value by value and fault by fault.
 * The expected texts were recorded from the field's reference program, fed the same bytes.
 */
#include "base/osdep.h"
#include "base/json.h"

static void collect(void *opaque, QDict *value, Error *err)
{
    GString *out = opaque;

    if (out->len) {
        g_string_append_c(out, '|');
    }
    if (err) {
        const char *text = error_get_pretty(err);

        g_string_append(out, g_str_has_prefix(text, "JSON parse error, ") ? text + 18 : text);
    } else {
        json_print(out, value, false);
    }
    error_free(err);
    qdict_unref(value);
}

/* Feed @n bytes in pieces of @step; what came out, joined by '|'. */
static char *run(const char *data, size_t n, size_t step)
{
    GString *out = g_string_new(NULL);
    JsonParser p;

    json_parser_init(&p, collect, out);
    for (size_t i = 0; i < n; i += step) {
        json_parser_feed(&p, data + i, MIN(step, n - i));
    }
    json_parser_flush(&p);
    json_parser_destroy(&p);
    return g_string_free(out, FALSE);
}

typedef struct Case {
    const char *in, *out;
    size_t length;      /* 0: strlen */
} Case;

static void check(const Case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = cases[i].length ? cases[i].length : strlen(cases[i].in);

        for (size_t step = 1; step <= length; step += 3) {
            g_autofree char *out = run(cases[i].in, length, step);
            g_assert_cmpstr(out, ==, cases[i].out);
        }
    }
}

static void test_values(void)
{
    static const Case cases[] = {
        { "{}", "{}" }, { "[]", "[]" }, { "[1,[],{}]", "[1, [], {}]" },
        { "1 2\n3", "1|2|3" }, { "\"a\"\"b\"", "\"a\"|\"b\"" }, { "1\"b\"", "1|\"b\"" },
        { "{'a' : 'single \"q\" '}", "{\"a\": \"single \\\"q\\\" \"}" },
        { "\"\\\"\\'\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"'\\\\/\\b\\f\\n\\r\\t\"" },
        { "\"\\u0001\x7f\\u0080\\ud83d\\ude00\xc3\xa9/\"", "\"\\u0001\\u007F\\u0080\\uD83D\\uDE00\\u00E9/\"" },
        { "\"a\\u0000b\xc0\x80\"", "\"a\\u0000b\\u0000\"" },
        { "true false null", "true|false|null" }, { "\r\n\t 5", "5" },
    };
    check(cases, G_N_ELEMENTS(cases));
}

static void test_numbers(void)
{
    static const Case cases[] = {
        { "0 -0 -0.0 1.0 0.1 1E5 -0.5", "0|0|-0|1|0.10000000000000001|100000|-0.5" },
        { "123456789.123456789 1e22", "123456789.12345679|1e+22" },
        { "9223372036854775807 9223372036854775808", "9223372036854775807|9223372036854775808" },
        { "18446744073709551615 18446744073709551616", "18446744073709551615|1.8446744073709552e+19" },
        { "-9223372036854775808 -9223372036854775809", "-9223372036854775808|-9.2233720368547758e+18" },
        { "01", "stray '01'" }, { "1.}", "stray '1.}'" }, { "-x", "stray '-x'" }, { "1ex", "stray '1ex'" },
        { "1.5e+\n", "stray '1.5e+\n'" }, { "--5", "stray '--'" }, { "- 5", "stray '- '" },
        { "1x", "1|invalid keyword 'x'" }, { "0x10", "0|invalid keyword 'x'|10" },
        { "1.5.5", "1.5|stray '.'" }, { "+5", "stray '+'" },
    };
    check(cases, G_N_ELEMENTS(cases));
}

static void test_faults_of_the_lexer(void)
{
    static const Case cases[] = {
        { "@ abc", "stray '@'" }, { "@'x' 7", "stray '@'" }, { "@\n5", "stray '@'|5" }, { "@\r5", "stray '@'|5" },
        { "@\t5", "stray '@'" }, { "@:5", "stray '@'|expecting value|5" }, { "@[5]", "stray '@'|[5]" },
        { "@\xff" "5", "stray '@'|stray '\xff'" }, { "@\xf5" "5", "stray '@'" },
        { "\0005", "stray ''", 2 }, { "5\xff" "6", "5|stray '\xff'" },
        { "[1,2\xff]", "stray '\xff'|expecting value" }, { "\"abc\xff" "def\"", "stray '\"abc\xff'" },
        { "\"a\tb\"}", "stray '\"a\t'|expecting value" }, { "\"abc\n\"", "stray '\"abc\n'" },
        { "\"a\\\n", "stray '\"a\\\n'" }, { "{\"id\":%d}", "stray '%'|expecting value" },
        { "{\"id\":.5}", "stray '.'|expecting value" }, { "NULL", "stray 'N'" }, { "\xc3\xa9", "stray '\xc3'" },
        { "/* */", "stray '/'" }, { "a-b", "invalid keyword 'a'|stray '-b'" },
    };
    check(cases, G_N_ELEMENTS(cases));
}

static void test_faults_of_the_grammar(void)
{
    static const Case cases[] = {
        { "abc def", "invalid keyword 'abc'|invalid keyword 'def'" }, { "truefalse", "invalid keyword 'truefalse'" },
        { "{\"id\":tru}", "invalid keyword 'tru'" }, { "{1:2}", "key is not a string in object" },
        { "{null:1}", "key is not a string in object" }, { "{xyz:1}", "invalid keyword 'xyz'" },
        { "{\"a\":1,\"a\":2}", "duplicate key" }, { "{\"a\":1,\"a\":2 3}", "duplicate key" },
        { "{\"a\" 1}", "missing : in object pair" }, { "{\"a\"}", "missing : in object pair" },
        { "{\"a\":}", "expecting value" }, { "{\"a\":1,}", "expecting value" }, { "[1,]", "expecting value" },
        { "[,]", "expecting value" }, { "{,}", "expecting value" }, { "[1 2]", "expected separator in list" },
        { "{\"a\":1 2}", "expected separator in dict" }, { "}", "expecting value" }, { ":,", "expecting value|expecting value" },
        { "{]", "expecting value" }, { "[}", "expecting value" }, { "[1}", "expected separator in list" },
        { "[]]", "[]|expecting value" }, { "{\"a\":1}}{}", "{\"a\": 1}|expecting value|{}" },
        { "\"\\x\"", "invalid escape sequence in string" }, { "\"\\u12\"", "\\u12\" is not a valid Unicode character" },
        { "\"\\ud83d\"", "\\ud83d is not a valid Unicode character" },
        { "\"\\ud800\\u0041\"", "\\ud800 is not a valid Unicode character" },
        { "\"\\udc00\"", "\\udc00 is not a valid Unicode character" },
        { "\"\\ufdd0\"", "\\ufdd0 is not a valid Unicode character" },
        { "\"\xc3(\"", "invalid UTF-8 sequence in string" }, { "\"\xed\xa0\x80\"", "invalid UTF-8 sequence in string" },
        { "\"\xef\xbf\xbe\"", "invalid UTF-8 sequence in string" }, { "\"\xf5\"", "invalid UTF-8 sequence in string" },
        { "{\"a\":[1", "premature EOI" },
    };
    check(cases, G_N_ELEMENTS(cases));
}

static char *nested(size_t n, size_t closed)
{
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < n; i++) {
        g_string_append_c(s, '[');
    }
    for (size_t i = 0; i < closed; i++) {
        g_string_append_c(s, ']');
    }
    return g_string_free(s, FALSE);
}

static void test_depth_is_limited(void)
{
    g_autofree char *deepest = nested(1024, 1024), *deeper = nested(1025, 2), *endless = nested(100000, 0);
    g_autofree char *out = run(deepest, 2048, 2048);
    g_autofree char *fail = run(deeper, strlen(deeper), 4096);
    g_autofree char *many = run(endless, strlen(endless), 4096);

    g_assert_cmpint(strlen(out), ==, 2048);
    g_assert_cmpstr(fail, ==, "JSON nesting depth limit exceeded|expecting value|expecting value");
    g_assert_true(g_str_has_prefix(many, "JSON nesting depth limit exceeded|JSON nesting"));
}

static void test_tokens_are_counted(void)
{
    GString *s = g_string_new("[");
    g_autofree char *out = NULL;

    for (int i = 0; i < (1 << 20) + 10; i++) {
        g_string_append(s, "1,");
    }
    out = run(s->str, s->len, 65536);
    g_assert_true(g_str_has_prefix(out, "JSON token count limit exceeded|"));
    g_string_free(s, TRUE);
}

static void test_size_is_limited(void)
{
    GString *out = g_string_new(NULL);
    g_autofree char *block = g_malloc(1 << 20);
    JsonParser p;

    memset(block, 'a', 1 << 20);
    json_parser_init(&p, collect, out);
    json_parser_feed(&p, "{\"a\":\"", 6);
    for (int i = 0; i < 65; i++) {
        json_parser_feed(&p, block, 1 << 20);
        g_assert_cmpint(p.text->len, <=, JSON_BYTES_MAX + (1 << 20));
    }
    json_parser_feed(&p, "\"}\n7 ", 5);
    json_parser_destroy(&p);
    g_assert_cmpstr(out->str, ==, "JSON token size limit exceeded|expecting value|7");
    g_string_free(out, TRUE);
}

static void test_one_value(void)
{
    Error *err = NULL;
    g_autoptr(QDict) v = qdict_from_json(" {\"a\": [1]} ", &error_abort);
    g_autofree char *text = json_to_str(v, false);

    g_assert_cmpstr(text, ==, "{\"a\": [1]}");
    g_assert_null(qdict_from_json("{} x", &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Expecting at most one JSON value");
    g_clear_pointer(&err, error_free);
    g_assert_null(qdict_from_json("{} {}", &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Expecting at most one JSON value");
    g_clear_pointer(&err, error_free);
    g_assert_null(qdict_from_json("{\"a\": 5", &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "JSON parse error, premature EOI");
    g_clear_pointer(&err, error_free);
    g_assert_null(qdict_from_json("  ", &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Expecting a JSON value");
    error_free(err);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/parse/values", test_values);
    g_test_add_func("/json/parse/numbers", test_numbers);
    g_test_add_func("/json/parse/faults-of-the-lexer", test_faults_of_the_lexer);
    g_test_add_func("/json/parse/faults-of-the-grammar", test_faults_of_the_grammar);
    g_test_add_func("/json/parse/depth-is-limited", test_depth_is_limited);
    g_test_add_func("/json/parse/tokens-are-counted", test_tokens_are_counted);
    g_test_add_func("/json/parse/size-is-limited", test_size_is_limited);
    g_test_add_func("/json/parse/one-value", test_one_value);
    return g_test_run();
}

/* SPDX-License-Identifier: MIT */
/* qdict_nested: dotted and nested dictionaries, and options written as key=value.
 * Error texts were recorded from the field's reference program.
 */
#include "base/osdep.h"
#include "block/qdict.h"

static QDict *parse(const char *json)
{
    return qdict_from_json(json, &error_abort);
}

static void assert_json(const QDict *d, const char *json)
{
    g_autoptr(QDict) other = parse(json);
    g_autofree char *text = json_to_str(d, false);

    if (!qdict_equal(d, other)) {
        g_error("%s is not %s", text, json);
    }
}

static void test_flatten_and_crumple(void)
{
    static const char nested[] = "{'a': {'b': {'c': 1}, 'l': ['x', {'y': true}]}, 'e': {}, 'n': null, 'f': []}";
    g_autoptr(QDict) d = parse(nested);

    qdict_flatten(d);
    assert_json(d, "{'a.b.c': 1, 'a.l.0': 'x', 'a.l.1.y': true, 'e': {}, 'n': null, 'f': []}");
    d = qdict_crumple(g_steal_pointer(&d), &error_abort);
    assert_json(d, nested);
}

static void test_crumple_clashes(void)
{
    static const char *const cases[][2] = {
        { "{'a': 1, 'a.b': 2}", "Parameters 'a.*' used inconsistently" },
        { "{'a.b': 1, 'a': 2}", "Parameters 'a.*' used inconsistently" },
        { "{'a.0': 1, 'a.b': 2}", "Parameters 'a.*' used inconsistently" },
        { "{'a.1': 1}", "Parameter 'a.0' missing" },
        { "{'x.a.0': 1, 'x.a.2': 2}", "Parameter 'x.a.1' missing" },
    };

    for (int i = 0; i < G_N_ELEMENTS(cases); i++) {
        Error *err = NULL;

        g_assert_null(qdict_crumple(parse(cases[i][0]), &err));
        g_assert_cmpstr(error_get_pretty(err), ==, cases[i][1]);
        error_free(err);
    }
}

static void test_subqdict(void)
{
    g_autoptr(QDict) d = parse("{'file.a': 1, 'b': 2, 'file.c.d': 3, 'filename': 4}");
    g_autoptr(QDict) sub = NULL;

    qdict_extract_subqdict(d, &sub, "file.");
    assert_json(sub, "{'a': 1, 'c.d': 3}");
    assert_json(d, "{'b': 2, 'filename': 4}");
    qdict_extract_subqdict(d, NULL, "f");
    assert_json(d, "{'b': 2}");
}

static void test_numbers_keep_their_range(void)
{
    g_autoptr(QDict) d = parse("{'max': 18446744073709551615, 'min': -9223372036854775808, 'big': 9223372036854775807,"
                               " 'over': 9223372036854775808, 'half': 0.5}");
    int64_t i;
    uint64_t u;

    g_assert_true(quint_get(qdict_get(d, "max"), &u) && u == UINT64_MAX);
    g_assert_false(qint_get(qdict_get(d, "max"), &i));
    g_assert_false(qint_get(qdict_get(d, "over"), &i));
    g_assert_true(qint_get(qdict_get(d, "big"), &i) && i == INT64_MAX);
    g_assert_true(qint_get(qdict_get(d, "min"), &i) && i == INT64_MIN);
    g_assert_false(quint_get(qdict_get(d, "min"), &u));
    g_assert_false(qint_get(qdict_get(d, "half"), &i));
    g_assert_cmpint(qdict_get_try_int(d, "none", -7), ==, -7);
}

static void test_keyval(void)
{
    static const char *const good[][2] = {
        { "driver=file,filename=a,,b,x.y=1", "{'driver': 'file', 'filename': 'a,b', 'x': {'y': '1'}}" },
        { "null-co,node-name=n", "{'driver': 'null-co', 'node-name': 'n'}" },
        { "null-co,driver=raw", "{'driver': 'raw'}" }, { "driver=a,", "{'driver': 'a'}" }, { "", "{}" },
        { "a=1,a=2,b=", "{'a': '2', 'b': ''}" }, { "l.0=x,l.1.k=y", "{'l': ['x', {'k': 'y'}]}" },
        { "a,,b", "{'driver': 'a,b'}" }, { "a_b-C9=1", "{'a_b-C9': '1'}" }, { "a==b", "{'a': '=b'}" },
    };
    static const char *const bad[][2] = {
        { "driver=x,foo", "Expected '=' after parameter 'foo'" }, { ",a=b", "Invalid parameter ''" },
        { "=x", "Invalid parameter ''" }, { "a=1,5a=n", "Invalid parameter '5a'" }, { "0=n", "Invalid parameter '0'" },
        { "a..b=n", "Invalid parameter 'a..b'" }, { "a.=n", "Invalid parameter 'a.'" },
        { ".a=n", "Invalid parameter '.a'" }, { "a%b=n", "Invalid parameter 'a%b'" },
        { "b.-1=n", "Invalid parameter 'b.-1'" }, { "a.1=n", "Parameter 'a.0' missing" },
        { "a=1,help", "Help is not available for this option" }, { "?", "Help is not available for this option" },
        { "f.d=n,f=x", "Parameters 'f.*' used inconsistently" },
    };

    for (int i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(QDict) d = qdict_from_keyval(good[i][0], "driver", NULL, &error_abort);
        assert_json(d, good[i][1]);
    }
    for (int i = 0; i < G_N_ELEMENTS(bad); i++) {
        Error *err = NULL;

        g_assert_null(qdict_from_keyval(bad[i][0], "driver", NULL, &err));
        g_assert_cmpstr(error_get_pretty(err), ==, bad[i][1]);
        error_free(err);
    }
}

static void test_long_keys_are_refused(void)
{
    g_autofree char *key = g_strnfill(127, 'a'), *longer = g_strnfill(128, 'a');
    g_autofree char *good = g_strconcat(key, "=1", NULL), *bad = g_strconcat(longer, "=1", NULL);
    g_autoptr(QDict) d = qdict_from_keyval(good, NULL, NULL, &error_abort);
    g_autoptr(Error) err = NULL;

    g_assert_true(qdict_haskey(d, key));
    g_assert_null(qdict_from_keyval(bad, NULL, NULL, &err));
    g_assert_nonnull(err);
}

static void test_help(void)
{
    bool help = false;
    g_autoptr(QDict) d = qdict_from_keyval("iothread,help", "qom-type", &help, &error_abort);

    g_assert_true(help);
    assert_json(d, "{'qom-type': 'iothread'}");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qdict/flatten-and-crumple", test_flatten_and_crumple);
    g_test_add_func("/qdict/crumple-clashes", test_crumple_clashes);
    g_test_add_func("/qdict/subqdict", test_subqdict);
    g_test_add_func("/qdict/numbers-keep-their-range", test_numbers_keep_their_range);
    g_test_add_func("/qdict/keyval", test_keyval);
    g_test_add_func("/qdict/long-keys-are-refused", test_long_keys_are_refused);
    g_test_add_func("/qdict/help", test_help);
    return g_test_run();
}

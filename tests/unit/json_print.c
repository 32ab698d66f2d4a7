/* SPDX-License-Identifier: MIT */
/* json_print: values are printed byte for byte as clients know them.
 * Replies recorded from the field's reference program are read, shuffled and printed again.
 */
#include "base/osdep.h"
#include "block/qdict.h"

static const char *const recorded[] = {
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, \"package\": \"p\"}, "
    "\"capabilities\": [\"oob\"]}}",
    "{\"id\": 1, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command x has not been found\"}}",
    "{\"return\": {}, \"id\": {\"a\": null}}",
    "{\"name\": \"95\", \"tag\": \"driver\", \"variants\": [{\"case\": \"file\", \"type\": \"223\"}], "
    "\"members\": [{\"name\": \"qdev\", \"default\": null, \"type\": \"str\"}], \"meta-type\": \"object\"}",
    "{\"name\": \"nbd-server-add\", \"ret-type\": \"2\", \"meta-type\": \"command\", \"arg-type\": \"61\", "
    "\"features\": [\"deprecated\"]}",
};

/* The same value with the members of its objects inserted the other way round. */
static QDict *reversed(const QDict *v)
{
    QDict *out;

    if (qdict_type(v) == QTYPE_QLIST) {
        out = qlist_new();
        for (size_t i = 0; i < qlist_size(v); i++) {
            qlist_append(out, reversed(qlist_get(v, i)));
        }
        return out;
    }
    if (qdict_type(v) != QTYPE_QDICT) {
        return qdict_ref((QDict *)v);
    }
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    json_object_object_foreach((QDict *)v, key, value) {
        (void)value;
        g_ptr_array_insert(keys, 0, key);
    }
    out = qdict_new();
    for (guint i = 0; i < keys->len; i++) {
        qdict_put_obj(out, keys->pdata[i], reversed(qdict_get(v, keys->pdata[i])));
    }
    return out;
}

static void test_order_of_replies(void)
{
    for (int i = 0; i < G_N_ELEMENTS(recorded); i++) {
        g_autoptr(QDict) v = qdict_from_json(recorded[i], &error_abort);
        g_autoptr(QDict) r = reversed(v);
        g_autofree char *text = json_to_str(r, false);

        g_assert_cmpstr(text, ==, recorded[i]);
    }
}

/* All names of the protocol: lines in the order of printing; names on one line share a place,
 * and there the one inserted last is printed first. */
static void test_order_of_all_names(void)
{
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "..", "interop", "qmp", "key-order.txt", NULL);
    g_autofree char *text = NULL, *printed = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(QDict) d = qdict_new();
    GString *expected = g_string_new("{");

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(g_strstrip(text), "\n", -1);
    for (int i = 0; lines[i]; i++) {
        g_auto(GStrv) names = g_strsplit(lines[i], " ", -1);

        for (int k = (int)g_strv_length(names) - 1; k >= 0; k--) {
            qdict_put_int(d, names[k], 0);
        }
        for (int k = 0; names[k]; k++) {
            g_string_append_printf(expected, "%s\"%s\": 0", expected->len > 1 ? ", " : "", names[k]);
        }
    }
    g_assert_cmpint(qdict_size(d), >, 500);
    g_string_append_c(expected, '}');
    printed = json_to_str(d, false);
    g_assert_cmpstr(printed, ==, expected->str);
    g_string_free(expected, TRUE);
}

static void test_pretty(void)
{
    g_autoptr(QDict) v = qdict_from_json("{'return': [{'name': 'a'}, {}, []], 'id': 5}", &error_abort);
    g_autofree char *text = json_to_str(v, true);

    g_assert_cmpstr(text, ==, "{\n    \"return\": [\n        {\n            \"name\": \"a\"\n        },\n"
                    "        {\n        },\n        [\n        ]\n    ],\n    \"id\": 5\n}");
}

static void test_what_is_no_text(void)
{
    g_autoptr(QDict) s = qstring_new("a\xff\xc3" "b\xe2\x82");
    g_autofree char *text = json_to_str(s, false);

    g_assert_cmpstr(text, ==, "\"a\\uFFFD\\uFFFDb\\uFFFD\\uFFFD\"");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/print/order-of-replies", test_order_of_replies);
    g_test_add_func("/json/print/order-of-all-names", test_order_of_all_names);
    g_test_add_func("/json/print/pretty", test_pretty);
    g_test_add_func("/json/print/what-is-no-text", test_what_is_no_text);
    return g_test_run();
}

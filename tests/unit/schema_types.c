/* SPDX-License-Identifier: MIT */
/* schema_types: values of the schema's types go in and come out as they were, and what is
 * wrong is refused with the texts clients know, everything freed.
 */
#include "base/osdep.h"
#include "block/qapi-types.h"
#include "qapi-events.h"
#include "schema/introspect.h"

static void *input(const QapiType *type, const char *json, Error **errp)
{
    g_autoptr(QDict) d = qdict_from_json(json, &error_abort);

    return qapi_from_json(type, d, false, errp);
}

static void assert_output(const QapiType *type, const void *value, const char *json)
{
    g_autoptr(QDict) expected = qdict_from_json(json, &error_abort);
    g_autoptr(QDict) out = qapi_to_json(type, value);
    g_autofree char *text = json_to_str(out, false);

    if (!qdict_equal(out, expected)) {
        g_error("%s is not %s", text, json);
    }
}

static void test_round_trips(void)
{
    static const struct { const QapiType *type; const char *json; } cases[] = {
        { &qapi_type_BlockdevOptions,
          "{'driver': 'qcow2', 'node-name': 'n', 'cache': {'direct': true}, 'file': {'driver': 'file', 'filename': 'f'},"
          " 'backing': null}" },
        { &qapi_type_BlockdevOptions,
          "{'driver': 'qcow2', 'file': 'node', 'backing': {'driver': 'raw', 'file': 'x', 'offset': 512}}" },
        { &qapi_type_BlockExportOptions,
          "{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': ['a', {'node': 'x', 'name': 'y'}]}" },
        { &qapi_type_NbdServerOptionsLegacy,
          "{'addr': {'type': 'inet', 'data': {'host': '', 'port': '1', 'to': 65535}}, 'max-connections': 4294967295}" },
        { &qapi_type_BlockLatencyHistogramInfo, "{'boundaries': [1, 18446744073709551615], 'bins': []}" },
    };

    for (int i = 0; i < G_N_ELEMENTS(cases); i++) {
        void *value = input(cases[i].type, cases[i].json, &error_abort);
        void *copy = qapi_clone(cases[i].type, value);

        assert_output(cases[i].type, value, cases[i].json);
        qapi_free(cases[i].type, value);
        assert_output(cases[i].type, copy, cases[i].json);
        qapi_free(cases[i].type, copy);
    }
}

static void test_defaults(void)
{
    g_autoptr(BlockdevOptions) o = input(&qapi_type_BlockdevOptions,
                                         "{'driver': 'null-co', 'read-zeroes': true}", &error_abort);

    g_assert_false(o->u.null_co.has_size);
    g_assert_cmpint(o->u.null_co.size, ==, 1 << 30);
    g_assert_true(o->u.null_co.has_read_zeroes && o->u.null_co.read_zeroes);
    g_assert_false(o->has_detect_zeroes);
    g_assert_cmpint(o->detect_zeroes, ==, BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF);
    g_assert_null(o->node_name);
    g_assert_null(o->cache);
}

typedef struct Bad {
    const QapiType *type;
    const char *in, *error;
} Bad;

#define CREATE &qapi_type_BlockdevCreateOptions
#define ADD &qapi_type_BlockdevOptions
#define NBD &qapi_type_NbdServerOptionsLegacy
#define EXPORT &qapi_type_BlockExportOptions

static void test_errors(void)
{
    static const Bad cases[] = {
        { CREATE, "{'driver': 'file', 'filename': 'x', 'size': '1'}", "Parameter 'size' expects uint64" },
        { CREATE, "{'driver': 'file', 'filename': 'x', 'size': 1.5}", "Parameter 'size' expects uint64" },
        { CREATE, "{'driver': 'file', 'filename': 'x', 'size': 18446744073709551616}", "Parameter 'size' expects uint64" },
        { CREATE, "{'driver': 'file', 'filename': 5, 'size': 1}", "Invalid parameter type for 'filename', expected: string" },
        { CREATE, "{'driver': 'fil'}", "Parameter 'driver' does not accept value 'fil'" },
        { CREATE, "{'driver': 5}", "Invalid parameter type for 'driver', expected: string" },
        { CREATE, "{'filename': 'x'}", "Parameter 'driver' is missing" },
        { CREATE, "{'driver': 'file', 'filename': 'x', 'size': 1, 'foo': 1}", "Parameter 'foo' is unexpected" },
        { CREATE, "{'driver': 'file', 'filename': 'x', 'size': 1, 'preallocation': 'f'}",
          "Parameter 'preallocation' does not accept value 'f'" },
        { CREATE, "5", "Invalid parameter type for 'null', expected: object" },
        { NBD, "{'addr': {'type': 'unix', 'data': {'path': 'a'}}, 'max-connections': -1}",
          "Parameter 'max-connections' expects uint32_t" },
        { NBD, "{'addr': {'type': 'unix', 'data': {'path': 'a'}}, 'max-connections': 4294967296}",
          "Parameter 'max-connections' expects uint32_t" },
        { NBD, "{'addr': {'type': 'unix', 'data': {'path': 'a'}}, 'max-connections': 1.0}",
          "Parameter 'max-connections' expects uint64" },
        { NBD, "{'addr': {'type': 'unix', 'data': {'path': 'a', 'abstract': 1}}}",
          "Invalid parameter type for 'addr.data.abstract', expected: boolean" },
        { NBD, "{'addr': {'type': 'unix', 'data': []}}", "Invalid parameter type for 'addr.data', expected: object" },
        { NBD, "{'addr': {'type': 'inet', 'data': {'host': 'h', 'port': 'x', 'to': 70000}}}",
          "Parameter 'to' expects uint16_t" },
        { NBD, "{'addr': {'type': 'inetx'}}", "Parameter 'type' does not accept value 'inetx'" },
        { EXPORT, "{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': 5}",
          "Invalid parameter type for 'bitmaps', expected: array" },
        { EXPORT, "{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': [5]}",
          "Invalid parameter type for 'null', expected: BlockDirtyBitmapOrStr" },
        { EXPORT, "{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': ['a', {'node': 'x'}]}",
          "Parameter 'bitmaps[1].name' is missing" },
        { EXPORT, "{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': [{'node': 'x', 'name': 'y', 'z': 1}]}",
          "Parameter 'bitmaps[0].z' is unexpected" },
        { ADD, "{'driver': 'qcow2', 'file': 5}", "Invalid parameter type for 'file', expected: BlockdevRef" },
        { ADD, "{'driver': 'qcow2', 'file': {'driver': 'file'}}", "Parameter 'file.filename' is missing" },
        { ADD, "{'driver': 'qcow2', 'file': 'f', 'backing': []}",
          "Invalid parameter type for 'backing', expected: BlockdevRefOrNull" },
        { ADD, "{'driver': 'qcow2', 'file': 'f', 'discard': 'foo'}",
          "Parameter 'discard' does not accept value 'foo'" },
        { ADD, "{'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'f', 'cache': {'direct': 5}}}",
          "Invalid parameter type for 'file.cache.direct', expected: boolean" },
        { ADD, "{'driver': 'null-co', 'size': 9223372036854775808}",
          "Invalid parameter type for 'size', expected: integer" },
        { ADD, "{'driver': 'null-co', 'cache': null}", "Invalid parameter type for 'cache', expected: object" },
        { &qapi_type_JobInfo, "{'id': 'a\\u0000', 'type': 'mirror', 'status': 'null\\u0000'}",
          "Parameter 'status' does not accept value 'null\xc0\x80'" },
    };

    for (int i = 0; i < G_N_ELEMENTS(cases); i++) {
        Error *err = NULL;

        g_assert_null(input(cases[i].type, cases[i].in, &err));
        g_assert_cmpstr(error_get_pretty(err), ==, cases[i].error);
        error_free(err);
    }
}

/* Which of several unknown members is named was observed, too. */
static void test_the_unknown_member_that_is_named(void)
{
    static const Bad cases[] = {
        { &qapi_type_JobInfo, "{'id': 'a', 'type': 'mirror', 'status': 'null', 'current-progress': 0, 'total-progress': 0,"
          " 'b': 1, 'a': 2, 'zz': 3}", NULL },
    };
    g_autoptr(Error) err = NULL;

    g_assert_null(input(cases[0].type, cases[0].in, &err));
    g_assert_true(g_str_has_suffix(error_get_pretty(err), "' is unexpected"));
}

static void test_unsigned_takes_complements(void)
{
    g_autoptr(BlockdevOptions) o = input(ADD, "{'driver': 'null-co', 'latency-ns': -1}", &error_abort);

    g_assert_cmpuint(o->u.null_co.latency_ns, ==, UINT64_MAX);
}

static void test_keyval(void)
{
    static const Bad bad[] = {
        { ADD, "driver=null-co,size=x", "Parameter 'size' expects integer" },
        { ADD, "driver=null-co,size=", "Parameter 'size' expects integer" },
        { ADD, "driver=null-co,size=1.5", "Parameter 'size' expects integer" },
        { ADD, "driver=null-co,size=1k", "Parameter 'size' expects integer" },
        { ADD, "driver=null-co,size=9223372036854775808", "Parameter 'size' expects integer" },
        { ADD, "driver=null-co,latency-ns=18446744073709551616", "Parameter 'latency-ns' expects integer" },
        { ADD, "driver=null-co,read-zeroes=1", "Parameter 'read-zeroes' expects 'on' or 'off'" },
        { ADD, "driver=null-co,cache=x", "Invalid parameter type for 'cache', expected: object" },
        { ADD, "driver=null-co,cache.direct=x", "Parameter 'cache.direct' expects 'on' or 'off'" },
        { ADD, "driver=null-co,cache.direct.x=on", "Parameters 'cache.direct.*' are unexpected" },
        { ADD, "driver=null-co,cache.foo=on", "Parameter 'cache.foo' is unexpected" },
        { ADD, "driver=null-co,foo=on", "Parameter 'foo' is unexpected" },
        { ADD, "driver=null-co,discard=on", "Parameter 'discard' does not accept value 'on'" },
        { ADD, "driver.x=nul", "Parameters 'driver.*' are unexpected" },
        { ADD, "driver=raw,file.0=x", "Invalid parameter type for 'file', expected: BlockdevRef" },
        { EXPORT, "type=nbd,id=e,node-name=n,bitmaps=x", "Invalid parameter type for 'bitmaps', expected: array" },
        { EXPORT, "type=nbd,id=e,node-name=n,bitmaps.0.node=x", "Parameter 'bitmaps.0.name' is missing" },
        { &qapi_type_NbdServerOptions, "addr.type=unix,addr.path=a,max-connections=-1",
          "Parameter 'max-connections' expects uint32_t" },
        { &qapi_type_NbdServerOptions, "addr.type=inet,addr.host=h,addr.port=0,addr.to=1k",
          "Parameter 'addr.to' expects integer" },
    };
    g_autoptr(QDict) d = qdict_from_keyval("null-co,size=0x10,read-zeroes=yes,cache.direct=on", "driver", NULL, &error_abort);
    g_autoptr(BlockdevOptions) o = qapi_from_json(ADD, d, true, &error_abort);

    g_assert_cmpint(o->u.null_co.size, ==, 16);
    g_assert_true(o->u.null_co.read_zeroes && o->cache->direct && o->cache->has_direct);
    for (int i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(QDict) k = qdict_from_keyval(bad[i].in, NULL, NULL, &error_abort);
        Error *err = NULL;

        g_assert_null(qapi_from_json(bad[i].type, k, true, &err));
        g_assert_cmpstr(error_get_pretty(err), ==, bad[i].error);
        error_free(err);
    }
}

static void test_deep_input_is_refused(void)
{
    GString *json = g_string_new(NULL);
    g_autoptr(Error) err = NULL;

    for (int i = 0; i < 1000; i++) {
        g_string_append(json, "{'driver': 'raw', 'file': ");
    }
    g_string_append(json, "'x'");
    for (int i = 0; i < 1000; i++) {
        g_string_append_c(json, '}');
    }
    g_assert_null(input(ADD, json->str, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Parameters are nested too deeply");
    g_string_free(json, TRUE);
}

static char *event_name;
static char *event_data;

static void event_sink(const char *name, QDict *data)
{
    event_name = g_strdup(name);
    event_data = json_to_str(data, false);
}

static void test_events(void)
{
    qapi_event_send_job_status_change("j", JOB_STATUS_READY);
    g_assert_null(event_name);
    qapi_event_set_sink(event_sink);
    qapi_event_send_block_job_completed(JOB_TYPE_MIRROR, "j", 10, 5, 0, "No space left on device");
    qapi_event_set_sink(NULL);
    g_assert_cmpstr(event_name, ==, "BLOCK_JOB_COMPLETED");
    g_assert_cmpstr(event_data, ==, "{\"device\": \"j\", \"len\": 10, \"offset\": 5, \"speed\": 0, \"type\": \"mirror\", "
                    "\"error\": \"No space left on device\"}");
    g_free(event_name);
    g_free(event_data);
}

/* Each type that is referred to is described, and the description is of the schema's own form. */
static void test_introspection(void)
{
    g_autoptr(QDict) list = qapi_introspect();
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (size_t i = 0; i < qlist_size(list); i++) {
        QDict *e = qlist_get(list, i);
        SchemaInfo *info = qapi_from_json(&qapi_type_SchemaInfo, e, false, &error_abort);

        g_assert_true(g_hash_table_add(names, (char *)qdict_get_try_str(e, "name")));
        qapi_free_SchemaInfo(info);
    }
    for (size_t i = 0; i < qlist_size(list); i++) {
        static const char *const refs[] = { "arg-type", "ret-type", "element-type" };

        for (int k = 0; k < G_N_ELEMENTS(refs); k++) {
            const char *ref = qdict_get_try_str(qlist_get(list, i), refs[k]);
            g_assert_true(!ref || g_hash_table_contains(names, ref));
        }
    }
    g_assert_true(g_hash_table_contains(names, "blockdev-mirror"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/schema/round-trips", test_round_trips);
    g_test_add_func("/schema/defaults", test_defaults);
    g_test_add_func("/schema/errors", test_errors);
    g_test_add_func("/schema/the-unknown-member-that-is-named", test_the_unknown_member_that_is_named);
    g_test_add_func("/schema/unsigned-takes-complements", test_unsigned_takes_complements);
    g_test_add_func("/schema/keyval", test_keyval);
    g_test_add_func("/schema/deep-input-is-refused", test_deep_input_is_refused);
    g_test_add_func("/schema/events", test_events);
    g_test_add_func("/schema/introspection", test_introspection);
    return g_test_run();
}

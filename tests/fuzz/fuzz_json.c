/* SPDX-License-Identifier: MIT */
/* fuzz_json.c: bytes as a stream of JSON; each value that is one is read as every big type of the
 * schema and printed. What was printed must read as the same value again. */
#include "tests/fuzz/fuzz.h"
#include "base/json.h"
#include "qapi-commands.h"

uint8_t *fuzz_base(unsigned i, size_t *size)
{
    return NULL;
}

static const QapiType *const types[] = {
    &qapi_type_BlockdevOptions, &qapi_type_BlockdevCreateOptions, &qapi_type_BlockExportOptions,
    &qapi_type_NbdServerOptions, &qapi_type_ObjectOptions, &qapi_type_SocketAddress,
};

static void visit(QDict *value, bool keyval)
{
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        Error *err = NULL;
        void *v = qapi_from_json(types[i], value, keyval, &err);

        g_assert_true(!v == !!err);
        error_free(err);
        if (v) {
            void *copy = qapi_clone(types[i], v);
            g_autoptr(QDict) a = qapi_to_json(types[i], v);
            g_autoptr(QDict) b = qapi_to_json(types[i], copy);

            g_assert_true(qdict_equal(a, b));
            qapi_free(types[i], v);
            qapi_free(types[i], copy);
        }
    }
}

static void emit(void *opaque, QDict *value, Error *err)
{
    if (!err) {
        g_autofree char *text = json_to_str(value, false), *pretty = json_to_str(value, true);
        Error *again_err = NULL;
        QDict *again = qdict_from_json(text, &again_err);

        g_assert_null(again_err);
        qdict_unref(again);
        again = qdict_from_json(pretty, &again_err);
        g_assert_null(again_err);
        qdict_unref(again);
        visit(value, false);
        visit(value, true);
    }
    qdict_unref(value);
    error_free(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    JsonParser p;

    fuzz_begin();
    json_parser_init(&p, emit, NULL);
    /* in two pieces: the cut may be anywhere */
    size_t cut = size ? data[0] % size : 0;

    json_parser_feed(&p, (const char *)data, cut);
    json_parser_feed(&p, (const char *)data + cut, size - cut);
    json_parser_flush(&p);
    json_parser_destroy(&p);
    return 0;
}

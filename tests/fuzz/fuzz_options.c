/* SPDX-License-Identifier: MIT */
/* fuzz_options.c: bytes as the argument of --blockdev and its siblings, as key=value and as JSON,
 * and as the name of an image: "json:{...}", "file:...". Names with a slash are left alone, so that
 * nothing outside the folder is opened. */
#include "tests/fuzz/fuzz.h"
#include "qapi-commands.h"

uint8_t *fuzz_base(unsigned i, size_t *size)
{
    return NULL;
}

static void read_as(const QapiType *type, const char *text, const char *implied)
{
    Error *err = NULL;
    bool keyval;
    g_autoptr(QDict) d = qdict_from_options(text, implied, &keyval, &err);
    void *v = d ? qapi_from_json(type, d, keyval, &err) : NULL;

    g_assert_true(!v == !!err);
    error_free(err);
    qapi_free(type, v);
}

static void nested(const char *text)
{
    Error *err = NULL;
    bool help = false;
    QDict *d = qdict_from_keyval(text, NULL, &help, &err);

    g_assert_true(!!d == !err);
    error_free(err);
    if (d) {
        QDict *sub = NULL;

        qdict_flatten(d);
        qdict_extract_subqdict(d, &sub, "file.");
        qdict_unref(sub);
        err = NULL;
        d = qdict_crumple(d, &err);
        g_assert_true(!!d == !err);
        error_free(err);
        qdict_unref(d);
    }
}

static void open_name(const char *text)
{
    Error *err = NULL;
    BlockDriverState *bs = bdrv_open(text, NULL, NULL, 0, &err);

    g_assert_true(!bs == !!err);
    error_free(err);
    bdrv_unref(bs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);

    fuzz_begin();
    read_as(&qapi_type_BlockdevOptions, text, "driver");
    read_as(&qapi_type_BlockExportOptions, text, "type");
    read_as(&qapi_type_ObjectOptions, text, "qom-type");
    read_as(&qapi_type_NbdServerOptions, text, NULL);
    nested(text);
    if (!strchr(text, '/') && !strstr(text, "\\u") && *text) {
        open_name(text);
    }
    return 0;
}

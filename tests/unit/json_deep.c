/* SPDX-License-Identifier: MIT */
/* json_deep: a message nested as deep as the parser lets it be can be read, copied, compared, printed
 * and freed on a coroutine's stack, where the control protocol does so. */
#include "base/osdep.h"
#include "base/json.h"
#include "block/aio.h"
#include "block/qdict.h"

static char *nested(const char *open, const char *close)
{
    GString *s = g_string_new(NULL);

    for (int i = 0; i < JSON_DEPTH_MAX - 1; i++) {
        g_string_append(s, open);
    }
    g_string_append(s, "1");
    for (int i = 0; i < JSON_DEPTH_MAX - 1; i++) {
        g_string_append(s, close);
    }
    return g_string_free(s, FALSE);
}

static void coroutine_fn deep_co(void *opaque)
{
    const char *text = opaque;
    g_autoptr(QDict) d = qdict_from_json(text, &error_abort);
    g_autoptr(QDict) copy = qdict_clone(d);
    g_autofree char *out = json_to_str(copy, false);

    g_assert_true(qdict_equal(d, copy));
    g_assert_cmpstr(out, ==, text);
}

static void test_objects(void)
{
    g_autofree char *text = nested("{\"a\": ", "}");

    aio_co_run(deep_co, text);
}

static void test_lists(void)
{
    g_autofree char *text = nested("[", "]");

    aio_co_run(deep_co, text);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/json/deep/objects", test_objects);
    g_test_add_func("/json/deep/lists", test_lists);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

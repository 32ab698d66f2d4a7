/* SPDX-License-Identifier: MIT */
/* raw_node.c: raw shows its file, or a window of it; a guessed one stays raw.
 *
 * Method: raw nodes on one file; what goes through is looked for in the file.
 */
#include "tests/unit/driver_util.h"

static void test_refusals(void)
{
    test_make_file("r.raw", 1 * MiB);
    static const struct { const char *options, *text; } cases[] = {
        { "\"offset\":1048577",
          "Offset (1048577) cannot be greater than size of the containing file (1048576)" },
        { "\"offset\":1048576,\"size\":512", "The sum of offset (1048576) and size (512) has to be smaller or "
          "equal to the  actual size of the containing file (1048576)" },
        { "\"size\":2000000", "The sum of offset (0) and size (2000000) has to be smaller or equal to the  "
          "actual size of the containing file (1048576)" },
        { "\"size\":1000", "Specified size is not multiple of 512" },
        { "\"offset\":100,\"size\":-512", "Value '-512' is out of range for parameter 'size'" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *json = g_strdup_printf(
            "{\"driver\":\"raw\",%s,\"file\":{\"driver\":\"file\",\"filename\":\"r.raw\"}}", cases[i].options);

        test_open_fails(json, cases[i].text);
    }
}

static void test_window(void)
{
    uint8_t buf[1024];
    Error *err = NULL;

    test_make_file("r.raw", 1 * MiB);
    BdrvChild *c = test_attach(test_open("{\"driver\":\"raw\",\"offset\":1024,\"size\":4096,\"file\":"
                                         "{\"driver\":\"file\",\"filename\":\"r.raw\"}}"));

    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, 4096);
    memset(buf, 3, sizeof(buf));
    g_assert_cmpint(test_write(c, 0, 1024, buf), ==, 0);
    g_assert_cmpint(test_zero(c, 512, 256, 0), ==, 0);
    g_assert_cmpint(test_truncate(c, 8192, PREALLOC_MODE_OFF, &err), ==, -ENOTSUP);
    g_assert_cmpstr(error_get_pretty(err), ==, "Cannot resize fixed-size raw disks");
    error_free(err);
    bdrv_root_unref_child(c);

    c = test_attach(test_open("{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"r.raw\"}}"));
    g_assert_cmpint(test_read(c, 1000, 24, buf), ==, 0);
    g_assert_cmpint(buf[23], ==, 0);
    g_assert_cmpint(test_read(c, 1024, 1024, buf), ==, 0);
    g_assert_cmpint(buf[0], ==, 3);
    g_assert_cmpint(buf[511], ==, 3);
    g_assert_cmpint(buf[512], ==, 0);
    g_assert_cmpint(buf[767], ==, 0);
    g_assert_cmpint(buf[768], ==, 3);
    bdrv_root_unref_child(c);
}

/* No guest may turn its raw disk into an image that names files of the host. */
static void test_guessed_stays_raw(void)
{
    uint8_t header[1024] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 }, harmless[1024] = { 1, 2, 3 }, back[512];

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("*Image format was not specified for 'r.raw' and probing guessed raw.*");
        return;
    }
    test_make_file("r.raw", 1 * MiB);
    BdrvChild *c = test_attach(bdrv_open("r.raw", NULL, NULL, BDRV_O_RDWR, &error_abort));

    g_assert_cmpstr(c->bs->drv->format_name, ==, "raw");
    g_assert_cmpint(test_write(c, 0, 1024, header), ==, -EPERM);
    g_assert_cmpint(test_write(c, 0, 512, header), ==, -EPERM);
    g_assert_cmpint(test_write(c, 0, 8, header), ==, -EPERM);
    g_assert_cmpint(test_write(c, 0, 4, header), ==, 0);        /* the version is missing yet */
    g_assert_cmpint(test_write(c, 4, 4, header + 4), ==, -EPERM);
    g_assert_cmpint(test_write(c, 512, 512, header), ==, 0);
    g_assert_cmpint(test_write(c, 0, 1024, harmless), ==, 0);
    g_assert_cmpint(test_read(c, 0, 512, back), ==, 0);
    g_assert_cmpmem(back, 512, harmless, 512);
    bdrv_root_unref_child(c);

    /* Who says that it is raw may write anything. */
    c = test_attach(test_open("{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"r.raw\"}}"));
    g_assert_cmpint(test_write(c, 0, 512, header), ==, 0);
    bdrv_root_unref_child(c);
}

static void test_reopen_moves_window(void)
{
    uint8_t buf[512];

    test_make_file("r.raw", 4096);
    BdrvChild *c = test_attach(test_open("{\"driver\":\"raw\",\"node-name\":\"r\",\"offset\":512,\"size\":512,"
                                         "\"file\":{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"r.raw\"}}"));

    memset(buf, 9, 512);
    g_assert_cmpint(test_write(c, 0, 512, buf), ==, 0);
    const char *moved = "{\"driver\":\"raw\",\"node-name\":\"r\",\"offset\":0,\"size\":1024,\"file\":\"f\"}";
    Error *err = NULL;

    g_assert_cmpint(test_reopen(c->bs, "{\"driver\":\"raw\",\"node-name\":\"r\",\"offset\":5000,\"file\":\"f\"}",
                                BDRV_O_RDWR, true, &err), ==, -EINVAL);
    error_free(err);
    g_assert_cmpint(test_reopen(c->bs, moved, BDRV_O_RDWR, false, &error_abort), ==, 0);
    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, 512);
    g_assert_cmpint(test_reopen(c->bs, moved, BDRV_O_RDWR, true, &error_abort), ==, 0);
    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, 1024);
    g_assert_cmpint(test_read(c, 512, 512, buf), ==, 0);
    g_assert_cmpint(buf[0], ==, 9);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/raw/refusals", test_refusals);
    g_test_add_func("/raw/window", test_window);
    g_test_add_func("/raw/guessed-stays-raw", test_guessed_stays_raw);
    g_test_add_func("/raw/reopen-moves-window", test_reopen_moves_window);
    return test_end();
}

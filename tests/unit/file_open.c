/* SPDX-License-Identifier: MIT */
/* file_open.c: `file` opens what it should, refuses the rest with the texts that programs know,
 * and creates files.
 *
 * Method: nodes on files, directories, devices, a FIFO in a temporary directory.
 */
#include "tests/unit/driver_util.h"

static const struct {
    const char *json, *text;
} refused[] = {
    { "{\"driver\":\"file\",\"filename\":\"none\"}", "Could not open 'none': No such file or directory" },
    { "{\"driver\":\"file\",\"filename\":\"dir\"}", "Could not open 'dir': Is a directory" },
    { "{\"driver\":\"file\",\"filename\":\"dir\",\"read-only\":true}",
      "'file' driver requires 'dir' to be a regular file" },
    { "{\"driver\":\"file\",\"filename\":\"/dev/null\"}", "'file' driver requires '/dev/null' to be a regular file" },
    { "{\"driver\":\"file\",\"filename\":\"fifo\"}", "'file' driver requires 'fifo' to be a regular file" },
    { "{\"driver\":\"file\",\"filename\":\"\"}", "The 'file' block driver requires a file name" },
    { "{\"driver\":\"file\",\"filename\":\"a.raw/x\"}", "Could not open 'a.raw/x': Not a directory" },
    { "{\"driver\":\"host_device\",\"filename\":\"a.raw\"}",
      "'host_device' driver requires 'a.raw' to be either a character or block device" },
    { "{\"driver\":\"file\",\"filename\":\"a.raw\",\"aio\":\"native\"}",
      "aio=native was specified, but it requires cache.direct=on, which was not specified." },
};

static void test_refusals(void)
{
    test_make_file("a.raw", 1 * MiB);
    g_assert_cmpint(mkdir("dir", 0755), ==, 0);
    g_assert_cmpint(mkfifo("fifo", 0644), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        test_open_fails(refused[i].json, refused[i].text);
    }
}

static void test_length(void)
{
    test_make_file("odd.raw", 1000);
    BlockDriverState *bs = test_open("{\"driver\":\"file\",\"filename\":\"odd.raw\"}");

    g_assert_cmpint(bdrv_getlength_cached(bs), ==, 1024);
    bdrv_unref(bs);
}

/* With auto-read-only nothing is opened for writing before somebody wants to write. */
static void test_auto_read_only(void)
{
    Error *err = NULL;
    char byte = 1;

    test_make_file("auto.raw", 4096);
    BlockDriverState *bs = test_open("{\"driver\":\"file\",\"filename\":\"auto.raw\",\"auto-read-only\":true}");
    BdrvChild *reader = test_attach_perm(bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);

    bdrv_ref(bs);
    g_assert_cmpint(rename("auto.raw", "moved.raw"), ==, 0);
    g_assert_null(test_attach_perm(bs, BLK_PERM_WRITE, BLK_PERM_ALL, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Could not open 'auto.raw': No such file or directory");
    error_free(err);
    g_assert_cmpint(rename("moved.raw", "auto.raw"), ==, 0);

    bdrv_ref(bs);
    BdrvChild *writer = test_attach_perm(bs, BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);

    g_assert_cmpint(test_write(writer, 0, 1, &byte), ==, 0);
    bdrv_root_unref_child(writer);
    byte = 0;
    g_assert_cmpint(test_read(reader, 0, 1, &byte), ==, 0);
    g_assert_cmpint(byte, ==, 1);
    bdrv_root_unref_child(reader);
}

static void assert_reopen_refused(BlockDriverState *bs, const char *json, const char *text)
{
    Error *err = NULL;

    g_assert_cmpint(test_reopen(bs, json, BDRV_O_RDWR, true, &err), <, 0);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

/* Reopening changes how, never what; locks stay all the while. */
static void test_reopen_modes(void)
{
    const char *same = "{\"driver\":\"file\",\"filename\":\"re.raw\"}";
    Error *err = NULL;
    uint8_t *buf = g_malloc0(8192);

    test_make_file("re.raw", 8192);
    BdrvChild *c = test_attach_perm(test_open(same), BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                                    BLK_PERM_ALL & ~BLK_PERM_WRITE, &error_abort);

    assert_reopen_refused(c->bs, "{\"driver\":\"file\",\"filename\":\"b.raw\"}",
                          "Cannot change the option 'filename'");
    assert_reopen_refused(c->bs, "{\"driver\":\"file\",\"filename\":\"re.raw\",\"locking\":\"off\"}",
                          "Cannot change the option 'locking'");
    assert_reopen_refused(c->bs, "{\"driver\":\"file\",\"filename\":\"re.raw\",\"aio\":\"native\"}",
                          "Cannot change the option 'aio'");
    static const int flags[] = {
        BDRV_O_RDWR | BDRV_O_NOCACHE, BDRV_O_RDWR | BDRV_O_AUTO_RDONLY, BDRV_O_RDWR,
        BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_NOCACHE,
    };

    for (size_t i = 0; i < 2 * G_N_ELEMENTS(flags); i++) {
        memset(buf, i + 1, 8192);
        g_assert_cmpint(test_reopen(c->bs, same, flags[i / 2], i & 1, &error_abort), ==, 0);
        g_assert_cmpint(test_write(c, 0, 8192, buf), ==, 0);
        g_assert_cmpint(test_read(c, 4096, 4096, buf), ==, 0);
        g_assert_cmpint(buf[0], ==, i + 1);
        g_assert_null(test_attach_perm(test_open(same), BLK_PERM_WRITE, BLK_PERM_ALL, &err));
        g_assert_cmpstr(error_get_pretty(err), ==, "Failed to get \"write\" lock");
        g_clear_pointer(&err, error_free);
    }
    bdrv_root_unref_child(c);
    g_free(buf);
}

static const struct {
    const char *json, *text;
} create_refused[] = {
    { "{\"driver\":\"file\",\"filename\":\"n\",\"size\":1048576,\"preallocation\":\"metadata\"}",
      "Unsupported preallocation mode: metadata" },
    { "{\"driver\":\"file\",\"filename\":\"nodir/n\",\"size\":512}",
      "Could not create 'nodir/n': No such file or directory" },
    { "{\"driver\":\"file\",\"filename\":\"n\",\"size\":9223372036854775807}",
      "Could not resize file: File too large" },
    { "{\"driver\":\"file\",\"filename\":\"n\",\"size\":512,\"extent-size-hint\":18446744073709551615}",
      "Extent size hint is too large" },
};

static void test_create_refusals(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(create_refused); i++) {
        Error *err = NULL;

        g_assert_cmpint(test_create(create_refused[i].json, &err), <, 0);
        g_assert_cmpstr(error_get_pretty(err), ==, create_refused[i].text);
        error_free(err);
        g_assert_cmpint(access("n", F_OK), <, 0);   /* nothing half made stays */
    }
}

static void test_create_modes(void)
{
    static const char *const modes[] = { "off", "falloc", "full" };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *json = g_strdup_printf(
            "{\"driver\":\"file\",\"filename\":\"c.raw\",\"size\":1048576,\"preallocation\":\"%s\"}", modes[i]);
        struct stat st;

        g_assert_cmpint(test_create(json, &error_abort), ==, 0);
        g_assert_cmpint(stat("c.raw", &st), ==, 0);
        g_assert_cmpint(st.st_size, ==, 1048576);
        g_assert_cmpint(st.st_blocks * 512 >= 1048576, ==, i > 0);
    }
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/file/open/refusals", test_refusals);
    g_test_add_func("/file/open/length", test_length);
    g_test_add_func("/file/open/auto-read-only", test_auto_read_only);
    g_test_add_func("/file/open/reopen", test_reopen_modes);
    g_test_add_func("/file/create/refusals", test_create_refusals);
    g_test_add_func("/file/create/modes", test_create_modes);
    return test_end();
}

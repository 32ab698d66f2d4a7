/* SPDX-License-Identifier: MIT */
/* qcow2_basic.c: an image is created, written, closed, opened and read again.
 *
 * Method: our own creation and driver; where qemu-img is installed it checks and compares.
 */
#include "tests/unit/driver_util.h"

static BdrvChild *create_and_open(const char *options)
{
    g_autofree char *create = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"a.qcow2\"}%s}", options);

    test_make_file("a.qcow2", 0);
    g_assert_cmpint(test_create(create, &error_abort), ==, 0);
    return test_attach(test_open("{\"driver\":\"qcow2\",\"node-name\":\"q\",\"file\":"
                                 "{\"driver\":\"file\",\"filename\":\"a.qcow2\"}}"));
}

static void check_image(const char *name)
{
    if (test_have("qemu-img")) {
        g_assert_cmpint(test_shell("qemu-img check -q %s", name), ==, 0);
    }
}

static void test_round_trip(const void *opaque)
{
    const char *options = opaque;
    BdrvChild *c = create_and_open(options);
    uint8_t data[3000], back[3000], zero[512] = { 0 };

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = i * 7 + 1;
    }
    g_assert_cmpint(test_read(c, 512, 512, back), ==, 0);
    g_assert_cmpmem(back, 512, zero, 512);
    g_assert_cmpint(test_write(c, 65000, sizeof(data), data), ==, 0);
    g_assert_cmpint(test_write(c, 10 * MiB - 100, sizeof(data), data), ==, 0);
    g_assert_cmpint(test_read(c, 65000, sizeof(back), back), ==, 0);
    g_assert_cmpmem(back, sizeof(back), data, sizeof(data));
    g_assert_cmpint(test_flush(c), ==, 0);
    g_assert_cmpint(test_zero(c, 1 * MiB, 4 * MiB, 0), ==, 0);
    g_assert_cmpint(test_discard(c, 10 * MiB, 4 * MiB), ==, 0);
    bdrv_root_unref_child(c);
    check_image("a.qcow2");

    c = test_attach(test_open("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                              "\"filename\":\"a.qcow2\"}}"));
    g_assert_cmpint(test_read(c, 65000, sizeof(back), back), ==, 0);
    g_assert_cmpmem(back, sizeof(back), data, sizeof(data));
    g_assert_cmpint(test_read(c, 10 * MiB, 512, back), ==, 0);
    g_assert_cmpmem(back, 512, zero, 512);
    bdrv_root_unref_child(c);
    check_image("a.qcow2");
}

/* Read-only and back, with other cache sizes: nothing that was in memory is lost. */
static void test_reopen_image(void)
{
    const char *small = "{\"driver\":\"qcow2\",\"l2-cache-size\":4096,\"l2-cache-entry-size\":512,\"file\":"
                        "{\"driver\":\"file\",\"filename\":\"a.qcow2\"}}";
    BdrvChild *c = create_and_open(",\"size\":67108864");
    uint8_t data[512], back[512];

    for (unsigned i = 0; i < 8; i++) {
        memset(data, i + 1, 512);
        g_assert_cmpint(test_write(c, i * 7 * MiB + 512 * i, 512, data), ==, 0);
        g_assert_cmpint(test_reopen(c->bs, small, i & 1 ? BDRV_O_RDWR : 0, i & 2, &error_abort), ==, 0);
        check_image("-U a.qcow2");
        for (unsigned k = 0; k <= i; k++) {
            g_assert_cmpint(test_read(c, k * 7 * MiB + 512 * k, 512, back), ==, 0);
            g_assert_cmpint(back[511], ==, k + 1);
        }
    }
    bdrv_root_unref_child(c);
    check_image("a.qcow2");
}

/* A table refers to a cluster behind the end of the file: its data was lost. Reading that fails; written to
 * it is there again. Freed and used again: what it held then is not to be seen. */
static void test_behind_the_end(void)
{
    BdrvChild *c = create_and_open(",\"size\":67108864");
    uint8_t data[512], back[512], zero[512] = { 0 };
    int64_t n, map = 0;

    memset(data, 0x11, sizeof(data));
    g_assert_cmpint(test_write(c, 0, 512, data), ==, 0);
    bdrv_root_unref_child(c);
    GStatBuf st;

    g_assert_cmpint(g_stat("a.qcow2", &st), ==, 0);
    g_assert_cmpint(st.st_size % 65536, ==, 0);
    g_assert_cmpint(truncate("a.qcow2", st.st_size - 65536), ==, 0);
    c = test_attach(test_open("{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"pass-discard-request\":false,"
                              "\"file\":{\"driver\":\"file\",\"filename\":\"a.qcow2\"}}"));
    g_assert_cmpint(test_read(c, 0, 512, back), ==, -EIO);
    g_assert_cmpint(test_write(c, 512, 512, data), ==, 0);
    g_assert_cmpint(test_read(c, 0, 512, back), ==, 0);
    g_assert_cmpmem(back, 512, zero, 512);
    g_assert_cmpint(test_discard(c, 0, 65536), ==, 0);
    g_assert_cmpint(test_flush(c), ==, 0);
    for (int i = 1; i < 4; i++) {
        memset(data, i, sizeof(data));
        g_assert_cmpint(test_write(c, i * MiB + 4096, 512, data), ==, 0);
        g_assert_cmpint(test_read(c, i * MiB + 512, 512, back), ==, 0);
        g_assert_cmpmem(back, 512, zero, 512);
        TestRequest r = { c, T_STATUS, i * MiB, 65536 };

        test_request(&r);
        n = r.map;
        map = MAX(map, n);
    }
    g_assert_cmpint(map, >=, st.st_size - 65536);       /* the cluster in question was among them */
    bdrv_root_unref_child(c);
    check_image("a.qcow2");
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_data_func("/qcow2/round-trip/default", ",\"size\":67108864", test_round_trip);
    g_test_add_data_func("/qcow2/round-trip/v2", ",\"size\":67108864,\"version\":\"v2\"", test_round_trip);
    g_test_add_data_func("/qcow2/round-trip/small-clusters",
                         ",\"size\":67108864,\"cluster-size\":512,\"refcount-bits\":64", test_round_trip);
    g_test_add_data_func("/qcow2/round-trip/large-clusters",
                         ",\"size\":67108864,\"cluster-size\":2097152,\"refcount-bits\":1", test_round_trip);
    g_test_add_data_func("/qcow2/round-trip/metadata", ",\"size\":67108864,\"preallocation\":\"metadata\"",
                         test_round_trip);
    g_test_add_data_func("/qcow2/round-trip/full", ",\"size\":33554432,\"preallocation\":\"full\"",
                         test_round_trip);
    g_test_add_func("/qcow2/reopen", test_reopen_image);
    g_test_add_func("/qcow2/behind-the-end", test_behind_the_end);
    return test_end();
}

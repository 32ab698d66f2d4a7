/* SPDX-License-Identifier: MIT */
/* file_io.c: requests on a file: data, zeroes, discard, length, status; with the page cache and
 * around it.
 *
 * Method: each request, then the file itself is looked at.
 */
#include "tests/unit/driver_util.h"

#define LENGTH (1 * MiB)

static BdrvChild *open_file(bool direct)
{
    g_autofree char *json = g_strdup_printf(
        "{\"driver\":\"file\",\"filename\":\"io.raw\",\"discard\":\"unmap\",\"cache\":{\"direct\":%s}}",
        direct ? "true" : "false");

    return test_attach(test_open(json));
}

static void fill(BdrvChild *c)
{
    uint8_t *buf = g_malloc(LENGTH);

    memset(buf, 0xa5, LENGTH);
    g_assert_cmpint(test_write(c, 0, LENGTH, buf), ==, 0);
    g_free(buf);
}

static void assert_bytes(BdrvChild *c, int64_t offset, int64_t bytes, uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(test_read(c, offset, bytes, buf), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmpint(buf[i], ==, value);
    }
}

static void test_requests(const void *opaque)
{
    bool direct = opaque != NULL;
    struct stat st;
    int64_t pnum;

    test_make_file("io.raw", LENGTH);
    BdrvChild *c = open_file(direct);

    g_assert_cmpint(test_status(c, 0, LENGTH, &pnum) & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA), ==, BDRV_BLOCK_ZERO);
    g_assert_cmpint(pnum, ==, LENGTH);
    fill(c);
    g_assert_cmpint(test_status(c, 0, LENGTH, &pnum) & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA), ==, BDRV_BLOCK_DATA);

    /* Neither aligned to anything nor in one piece. */
    g_assert_cmpint(test_zero(c, 12345, 70000, 0), ==, 0);
    assert_bytes(c, 12000, 345, 0xa5);
    assert_bytes(c, 12345, 70000, 0);
    assert_bytes(c, 82345, 1000, 0xa5);

    g_assert_cmpint(test_zero(c, 128 * KiB, 128 * KiB, BDRV_REQ_MAY_UNMAP), ==, 0);
    assert_bytes(c, 128 * KiB, 128 * KiB, 0);
    g_assert_cmpint(test_status(c, 128 * KiB, LENGTH, &pnum) & BDRV_BLOCK_ZERO, !=, 0);
    g_assert_cmpint(pnum, ==, 128 * KiB);
    g_assert_cmpint(test_discard(c, 512 * KiB, 256 * KiB), ==, 0);
    g_assert_cmpint(test_flush(c), ==, 0);
    g_assert_cmpint(stat("io.raw", &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, LENGTH);
    g_assert_cmpint(st.st_blocks * 512, <=, LENGTH - 368 * KiB);

    g_assert_cmpint(test_truncate(c, 2 * LENGTH, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    assert_bytes(c, LENGTH, LENGTH, 0);
    g_assert_cmpint(test_truncate(c, 3 * LENGTH, PREALLOC_MODE_FALLOC, &error_abort), ==, 0);
    g_assert_cmpint(test_truncate(c, LENGTH, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    g_assert_cmpint(stat("io.raw", &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, LENGTH);
    bdrv_root_unref_child(c);
}

/* Zeroes behind the end make the file longer, as writes do. */
static void test_zeroes_extend(void)
{
    struct stat st;

    test_make_file("io.raw", 0);
    BdrvChild *c = open_file(false);

    g_assert_cmpint(test_zero(c, 0, 64 * KiB, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(test_zero(c, 64 * KiB, 64 * KiB, 0), ==, 0);
    g_assert_cmpint(stat("io.raw", &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 128 * KiB);
    assert_bytes(c, 0, 128 * KiB, 0);
    bdrv_root_unref_child(c);
}

/* Memory that O_DIRECT would refuse. */
static void test_direct_any_memory(void)
{
    uint8_t *buf = g_malloc(8192 + 3);

    test_make_file("io.raw", LENGTH);
    BdrvChild *c = open_file(true);

    memset(buf, 7, 8192 + 3);
    g_assert_cmpint(test_write(c, 4096, 4096, buf + 3), ==, 0);
    g_assert_cmpint(test_write(c, 100, 5, buf), ==, 0);
    memset(buf, 0, 8192 + 3);
    g_assert_cmpint(test_read(c, 4096, 4096, buf + 1), ==, 0);
    g_assert_cmpint(buf[1], ==, 7);
    g_assert_cmpint(buf[4096], ==, 7);
    assert_bytes(c, 100, 5, 7);
    assert_bytes(c, 105, 100, 0);
    g_free(buf);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_data_func("/file/io/requests/cached", NULL, test_requests);
    g_test_add_data_func("/file/io/requests/direct", "direct", test_requests);
    g_test_add_func("/file/io/zeroes-extend", test_zeroes_extend);
    g_test_add_func("/file/io/direct-any-memory", test_direct_any_memory);
    return test_end();
}

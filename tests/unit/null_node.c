/* SPDX-License-Identifier: MIT */
/* null_node.c: null nodes have a length, a latency, and nothing in them. */
#include "tests/unit/driver_util.h"

static void test_reads_zeroes(void)
{
    uint8_t buf[4096];
    int64_t pnum;

    memset(buf, 0xff, sizeof(buf));
    BdrvChild *c = test_attach(test_open("{\"driver\":\"null-co\",\"size\":65536}"));

    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, 65536);
    g_assert_cmpint(test_write(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, 0);
    g_assert_true(buffer_is_zero(buf, sizeof(buf)));    /* never the memory of others */
    g_assert_cmpint(test_status(c, 0, 65536, &pnum) & BDRV_BLOCK_ZERO, ==, 0);
    bdrv_root_unref_child(c);

    c = test_attach(test_open("{\"driver\":\"null-aio\",\"read-zeroes\":true}"));
    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, 1 * GiB);
    g_assert_cmpint(test_status(c, 0, 65536, &pnum) & BDRV_BLOCK_ZERO, !=, 0);
    bdrv_root_unref_child(c);
}

static void test_latency(void)
{
    uint8_t buf[512] = { 0 };
    BdrvChild *c = test_attach(test_open("{\"driver\":\"null-co\",\"latency-ns\":20000000}"));
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    g_assert_cmpint(test_write(c, 0, 512, buf), ==, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - start, >=, 20000000);
    bdrv_root_unref_child(c);
}

static void test_refusals(void)
{
    test_open_fails("{\"driver\":\"null-co\",\"latency-ns\":18446744073709551615}", "latency-ns is invalid");
    test_open_fails("{\"driver\":\"null-co\",\"size\":-1}", "Value '-1' is out of range for parameter 'size'");
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/null/reads-zeroes", test_reads_zeroes);
    g_test_add_func("/null/latency", test_latency);
    g_test_add_func("/null/refusals", test_refusals);
    return test_end();
}

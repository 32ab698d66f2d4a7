/* SPDX-License-Identifier: MIT */
/* blkdebug_rules.c: rules of blkdebug fail just the requests they name, and requests stand at breakpoints
 * until they are told to go on.
 */
#include "tests/unit/driver_util.h"

#define FILE_BELOW "\"image\":{\"driver\":\"null-co\",\"size\":65536}"

static BdrvChild *open_with(const char *more)
{
    g_autofree char *json = g_strdup_printf("{\"driver\":\"blkdebug\"," FILE_BELOW "%s}", more);

    return test_attach(test_open(json));
}

static uint8_t buf[4096];

static void test_once(void)
{
    BdrvChild *c = open_with(",\"inject-error\":[{\"event\":\"none\",\"errno\":28,\"once\":true}]");

    g_assert_cmpint(test_read(c, 0, 512, buf), ==, -ENOSPC);
    g_assert_cmpint(test_read(c, 0, 512, buf), ==, 0);
    bdrv_root_unref_child(c);
}

static void test_sector_and_type(void)
{
    BdrvChild *c = open_with(",\"inject-error\":[{\"event\":\"none\",\"sector\":4,\"iotype\":\"write\"}]");

    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(test_write(c, 0, 2048, buf), ==, 0);
    g_assert_cmpint(test_write(c, 2048, 512, buf), ==, -EIO);
    g_assert_cmpint(test_write(c, 0, 4096, buf), ==, -EIO);
    g_assert_cmpint(test_write(c, 2560, 512, buf), ==, 0);
    bdrv_root_unref_child(c);
}

/* The write that makes state 2 is still one of state 1. */
static void test_states(void)
{
    BdrvChild *c = open_with(",\"set-state\":[{\"event\":\"pwritev\",\"state\":1,\"new_state\":2}],"
                             "\"inject-error\":[{\"event\":\"pwritev\",\"state\":2,\"iotype\":\"write\"}]");

    g_assert_cmpint(test_write(c, 0, 512, buf), ==, 0);
    g_assert_cmpint(test_write(c, 0, 512, buf), ==, -EIO);
    g_assert_cmpint(test_write(c, 0, 512, buf), ==, -EIO);
    bdrv_root_unref_child(c);
}

/* Rules of one event take the place of those of another. */
static void test_replaced(void)
{
    BdrvChild *c = open_with(",\"inject-error\":[{\"event\":\"none\",\"iotype\":\"read\"},"
                             "{\"event\":\"pwritev\",\"iotype\":\"flush\"}]");

    g_assert_cmpint(test_read(c, 0, 512, buf), ==, -EIO);
    g_assert_cmpint(test_write(c, 0, 512, buf), ==, 0);
    g_assert_cmpint(test_read(c, 0, 512, buf), ==, 0);
    bdrv_root_unref_child(c);
}

static void test_no_error_is_none(void)
{
    BdrvChild *c = open_with(",\"inject-error\":[{\"event\":\"none\",\"errno\":0}]");

    g_assert_cmpint(test_read(c, 0, 512, buf), ==, 0);
    bdrv_root_unref_child(c);
}

typedef struct Writer {
    BdrvChild *c;
    int ret;
} Writer;

static void coroutine_fn write_co(void *opaque)
{
    Writer *w = opaque;

    bdrv_inc_in_flight(w->c->bs);
    w->ret = bdrv_co_pwrite(w->c, 0, 512, buf, 0);
    bdrv_dec_in_flight(w->c->bs);
    aio_wait_kick();
}

static bool still_writing(void *opaque)
{
    return ((Writer *)opaque)->ret == 1;
}

static void test_breakpoints(void)
{
    BdrvChild *c = open_with("");
    Writer w = { c, 1 };

    g_assert_cmpint(bdrv_debug_breakpoint(c->bs, "nonsense", "A"), ==, -ENOENT);
    g_assert_cmpint(bdrv_debug_resume(c->bs, "A"), ==, -ENOENT);
    g_assert_cmpint(bdrv_debug_remove_breakpoint(c->bs, "A"), ==, -ENOENT);
    g_assert_cmpint(bdrv_debug_breakpoint(c->bs, "pwritev", "A"), ==, 0);
    g_assert_cmpint(bdrv_debug_breakpoint(c->bs, "pwritev", "B"), ==, 0);
    g_assert_false(bdrv_debug_is_suspended(c->bs, "A"));
    qemu_coroutine_enter(qemu_coroutine_create(write_co, &w));
    g_assert_true(bdrv_debug_is_suspended(c->bs, "A"));
    g_assert_true(bdrv_debug_is_suspended(c->bs, "B"));
    /* Used up: the next write goes through. */
    g_assert_cmpint(test_write(c, 0, 512, buf), ==, 0);
    g_assert_cmpint(w.ret, ==, 1);
    g_assert_cmpint(bdrv_debug_resume(c->bs, "A"), ==, 0);
    g_assert_cmpint(test_write(c, 0, 512, buf), ==, 0);
    g_assert_cmpint(w.ret, ==, 1);      /* it stands at the other */
    g_assert_cmpint(bdrv_debug_remove_breakpoint(c->bs, "B"), ==, 0);
    aio_wait_while(still_writing, &w);
    g_assert_cmpint(w.ret, ==, 0);
    bdrv_root_unref_child(c);
    g_assert_false(bdrv_debug_nodes_exist());
}

static void test_nodes_above_find_it(void)
{
    BdrvChild *c = test_attach(test_open("{\"driver\":\"raw\",\"file\":{\"driver\":\"blkdebug\"," FILE_BELOW "}}"));
    BdrvChild *plain = test_attach(test_open("{\"driver\":\"null-co\"}"));

    g_assert_cmpint(bdrv_debug_breakpoint(c->bs, "write_aio", "A"), ==, 0);
    g_assert_cmpint(bdrv_debug_remove_breakpoint(c->bs, "A"), ==, 0);
    g_assert_cmpint(bdrv_debug_breakpoint(plain->bs, "write_aio", "A"), ==, -ENOTSUP);
    bdrv_root_unref_child(c);
    bdrv_root_unref_child(plain);
}

static void test_refusals(void)
{
    test_open_fails("{\"driver\":\"blkdebug\"," FILE_BELOW ",\"align\":3}", "Cannot meet constraints with align 3");
    test_open_fails("{\"driver\":\"blkdebug\"," FILE_BELOW ",\"align\":-1}", "Cannot meet constraints with align -1");
    test_open_fails("{\"driver\":\"blkdebug\"," FILE_BELOW ",\"opt-discard\":4096,\"max-discard\":6144}",
                    "Cannot meet constraints with max-discard 6144");
    test_open_fails("{\"driver\":\"blkdebug\"," FILE_BELOW ",\"config\":\"nofile\"}",
                    "Could not read blkdebug config file: No such file or directory");
    /* Neither waits nor fills memory. */
    test_open_fails("{\"driver\":\"blkdebug\"," FILE_BELOW ",\"config\":\"/dev/zero\"}",
                    "Could not read blkdebug config file: Invalid argument");
    g_assert_cmpint(mkfifo("fifo", 0600), ==, 0);
    test_open_fails("{\"driver\":\"blkdebug\"," FILE_BELOW ",\"config\":\"fifo\"}",
                    "Could not read blkdebug config file: Invalid argument");
    g_assert_false(bdrv_debug_nodes_exist());
    BdrvChild *c = open_with(",\"inject-error\":[{\"event\":\"none\",\"sector\":9223372036854775807}]");

    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, 0);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/blkdebug/once", test_once);
    g_test_add_func("/blkdebug/sector-and-type", test_sector_and_type);
    g_test_add_func("/blkdebug/states", test_states);
    g_test_add_func("/blkdebug/replaced", test_replaced);
    g_test_add_func("/blkdebug/no-error-is-none", test_no_error_is_none);
    g_test_add_func("/blkdebug/breakpoints", test_breakpoints);
    g_test_add_func("/blkdebug/nodes-above-find-it", test_nodes_above_find_it);
    g_test_add_func("/blkdebug/refusals", test_refusals);
    return test_end();
}

/* SPDX-License-Identifier: MIT */
/* filter_nodes.c: copy-on-read keeps what it reads, and never overwrites what a guest wrote meanwhile; preallocate makes
 * files longer in large steps that nobody sees; blkverify finds differences.
 */
#include "tests/unit/driver_util.h"

static uint8_t buf[256 * 1024];

static int64_t file_size(const char *name)
{
    struct stat st;

    g_assert_cmpint(stat(name, &st), ==, 0);
    return st.st_size;
}

/* ---- copy-on-read ---- */

static void make_chain(void)
{
    g_assert_cmpint(test_shell("qemu-img create -q -f raw base.raw 1M && qemu-io -f raw -c 'write -q -P 7 0 1M' base.raw && "
                               "qemu-img create -q -f qcow2 -b base.raw -F raw top.qcow2"), ==, 0);
}

#define TOP "\"file\":{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"top.qcow2\"}}"

typedef struct Racer {
    BdrvChild *c;
    int64_t offset;
    bool write;
    unsigned *running;
} Racer;

static void coroutine_fn racer_co(void *opaque)
{
    Racer *r = opaque;
    uint8_t *data = qemu_blockalign(r->c->bs, 4096);

    memset(data, 9, 4096);
    bdrv_inc_in_flight(r->c->bs);
    g_assert_cmpint(r->write ? bdrv_co_pwrite(r->c, r->offset, 4096, data, 0)
                             : bdrv_co_pread(r->c, r->offset, 4096, data, 0), ==, 0);
    if (!r->write) {
        g_assert_true(data[0] == 7 || data[0] == 9);
    }
    bdrv_dec_in_flight(r->c->bs);
    qemu_vfree(data);
    --*r->running;
    aio_wait_kick();
}

static bool still_running(void *opaque)
{
    return *(unsigned *)opaque > 0;
}

/* Reads of a cluster and writes into it, all at once: what was written is there afterwards. */
static void test_copies_do_not_lose_writes(void)
{
    Racer racers[64];
    unsigned running = G_N_ELEMENTS(racers);

    if (!test_have("qemu-img")) {
        g_test_skip("no qemu-img here");
        return;
    }
    make_chain();
    BdrvChild *c = test_attach(test_open("{\"driver\":\"copy-on-read\"," TOP "}"));

    for (unsigned i = 0; i < G_N_ELEMENTS(racers); i++) {
        racers[i] = (Racer) { c, (i / 2) * 8192, i % 2, &running };
        qemu_coroutine_enter(qemu_coroutine_create(racer_co, &racers[i]));
    }
    aio_wait_while(still_running, &running);
    g_assert_cmpint(test_read(c, 0, sizeof(buf), buf), ==, 0);
    for (int i = 0; i < 32; i++) {
        g_assert_cmpint(buf[i * 8192], ==, 9);
        g_assert_cmpint(buf[i * 8192 + 4095], ==, 9);
        g_assert_cmpint(buf[i * 8192 + 4096], ==, 7);
    }
    bdrv_root_unref_child(c);
    g_assert_cmpint(test_shell("qemu-img check -q top.qcow2 && qemu-io -c map top.qcow2 | grep -q '256 KiB .* *allocated at offset 0'"),
                    ==, 0);
}

static void test_bottom_is_a_layer(void)
{
    if (!test_have("qemu-img")) {
        g_test_skip("no qemu-img here");
        return;
    }
    make_chain();
    test_open_fails("{\"driver\":\"copy-on-read\",\"bottom\":\"nope\"," TOP "}", "Bottom node 'nope' not found");
}

/* ---- preallocate ---- */

static void test_surplus_is_not_seen(void)
{
    test_make_file("p.raw", 4096);
    BlockDriverState *bs = test_open("{\"driver\":\"preallocate\",\"prealloc-size\":1048576,\"prealloc-align\":65536,"
                                     "\"file\":{\"driver\":\"file\",\"filename\":\"p.raw\"}}");
    BdrvChild *c = test_attach_perm(bs, BLK_PERM_WRITE | BLK_PERM_RESIZE | BLK_PERM_CONSISTENT_READ, 0, &error_abort);

    memset(buf, 5, 4096);
    g_assert_cmpint(test_write(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(file_size("p.raw"), ==, 4096);
    g_assert_cmpint(test_write(c, 4096, 4096, buf), ==, 0);
    g_assert_cmpint(file_size("p.raw"), ==, 8192 + 1048576 + 65536 - 8192);
    g_assert_cmpint(bdrv_getlength_cached(bs), ==, 8192);
    /* Within: the file stays as it is. */
    g_assert_cmpint(test_write(c, 8192, 4096, buf), ==, 0);
    g_assert_cmpint(file_size("p.raw"), ==, 1048576 + 65536);
    g_assert_cmpint(test_truncate(c, 20480, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    g_assert_cmpint(file_size("p.raw"), ==, 20480);
    g_assert_cmpint(test_write(c, 20480, 4096, buf), ==, 0);
    g_assert_cmpint(file_size("p.raw"), >, 1048576);
    bdrv_root_unref_child(c);
    g_assert_cmpint(file_size("p.raw"), ==, 24576);
}

/* One who may not resize gets nothing. */
static void test_surplus_needs_the_right(void)
{
    test_make_file("q.raw", 65536);
    BdrvChild *c = test_attach_perm(test_open("{\"driver\":\"preallocate\",\"file\":{\"driver\":\"file\",\"filename\":\"q.raw\"}}"),
                                    BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);

    g_assert_cmpint(test_write(c, 0, 65536, buf), ==, 0);
    g_assert_cmpint(file_size("q.raw"), ==, 65536);
    bdrv_root_unref_child(c);
    test_open_fails("{\"driver\":\"preallocate\",\"prealloc-align\":3,\"file\":{\"driver\":\"null-co\"}}",
                    "prealloc-align parameter of preallocate filter is not aligned to 512");
}

/* ---- blkverify ---- */

static void test_differences_are_found(void)
{
    test_make_file("one.raw", 65536);
    test_make_file("two.raw", 65536);
    BdrvChild *c = test_attach(test_open("{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"file\",\"filename\":\"one.raw\"},"
                                         "\"test\":{\"driver\":\"file\",\"filename\":\"two.raw\",\"node-name\":\"two\"}}"));
    BdrvChild *behind = test_attach(({ BlockDriverState *two = bdrv_find_node("two"); bdrv_ref(two); two; }));

    memset(buf, 3, 4096);
    g_assert_cmpint(test_write(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(test_read(c, 0, 65536, buf), ==, 0);
    g_assert_cmpint(buf[0], ==, 3);
    g_assert_cmpint(test_write(behind, 8192, 4096, buf), ==, 0);
    g_assert_cmpint(test_read(c, 0, 8192, buf), ==, 0);
    g_assert_cmpint(test_read(c, 0, 12288, buf), ==, -EIO);
    bdrv_root_unref_child(behind);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/copy-on-read/copies-do-not-lose-writes", test_copies_do_not_lose_writes);
    g_test_add_func("/copy-on-read/bottom-is-a-layer", test_bottom_is_a_layer);
    g_test_add_func("/preallocate/surplus-is-not-seen", test_surplus_is_not_seen);
    g_test_add_func("/preallocate/surplus-needs-the-right", test_surplus_needs_the_right);
    g_test_add_func("/blkverify/differences-are-found", test_differences_are_found);
    return test_end();
}

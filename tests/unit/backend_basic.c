/* SPDX-License-Identifier: MIT */
/* backend_basic.c: BlockBackends besides drain: roots that come, go and change under requests,
 * permissions, what ranges are refused, accounting.
 */
#include "base/osdep.h"
#include "memdrv.h"

static void expect_error(Error **err, const char *text)
{
    g_assert_nonnull(*err);
    g_assert_cmpstr(error_get_pretty(*err), ==, text);
    g_clear_pointer(err, error_free);
}

static BlockDriverState *node(const char *name, int64_t size)
{
    return mem_node_new(name, &(MemConfig) { .size = size });
}

static void test_permissions(void)
{
    BlockDriverState *bs = node("n", 4096);
    BlockBackend *a = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_CONSISTENT_READ, &error_abort), *b;
    uint8_t buf[512] = { 0 };
    uint64_t perm, shared;
    Error *err = NULL;

    /* Refused: not attached, nothing left over. */
    g_assert_null(blk_new_with_bs(bs, BLK_PERM_WRITE, BLK_PERM_ALL, &err));
    g_assert_nonnull(err);
    g_clear_pointer(&err, error_free);
    g_assert_true(!blk_next(a));
    g_assert_cmpint(blk_pwrite(a, 0, 512, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pwrite_zeroes(a, 0, 512, 0), ==, -EPERM);
    g_assert_cmpint(blk_pdiscard(a, 0, 512), ==, -EPERM);
    g_assert_cmpint(blk_truncate(a, 512, false, PREALLOC_MODE_OFF, &err), ==, -EPERM);
    expect_error(&err, "Block backend may not resize node 'n'");
    g_assert_cmpint(blk_set_perm(a, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_CONSISTENT_READ, &error_abort), ==, 0);
    g_assert_cmpint(blk_pwrite(a, 0, 512, buf, 0), ==, 0);
    b = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(blk_set_perm(b, BLK_PERM_WRITE, BLK_PERM_ALL, &err), ==, -EPERM);
    g_clear_pointer(&err, error_free);
    g_assert_cmpint(blk_truncate(a, 8192, false, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength_cached(b), ==, 8192);
    blk_get_perm(b, &perm, &shared);
    g_assert_true(perm == BLK_PERM_CONSISTENT_READ && shared == BLK_PERM_ALL);
    blk_unref(a);
    blk_unref(b);
    bdrv_unref(bs);
}

/* ---- roots ---- */

static BlockBackend *moving;
static unsigned stop, reads, empty;     /* atomic */
static bool ended;

static void coroutine_fn reader_co(void *opaque)
{
    uint8_t c;

    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        int ret = blk_co_pread(moving, 0, 1, &c, 0);

        if (ret == -ENOMEDIUM) {
            __atomic_fetch_add(&empty, 1, __ATOMIC_RELAXED);
        } else {
            g_assert_cmpint(ret, ==, 0);
            g_assert_true(c == 'a' || c == 'b');
            __atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
        }
    }
    __atomic_store_n(&ended, true, __ATOMIC_RELEASE);
    aio_wait_kick();
}

static bool not_ended(void *opaque)
{
    return !__atomic_load_n(&ended, __ATOMIC_ACQUIRE);
}

static void until_more(unsigned *n)
{
    unsigned before = __atomic_load_n(n, __ATOMIC_RELAXED);

    while (__atomic_load_n(n, __ATOMIC_RELAXED) == before) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

/* A reader in another thread sees one root, the other, or none; never anything between. */
static void test_roots(void)
{
    BlockDriverState *a = node("a", 4096), *b = node("b", 8192);
    IOThread *t = iothread_create("t", NULL, &error_abort);

    memset(mem_state(a)->data, 'a', 4096);
    memset(mem_state(b)->data, 'b', 8192);
    moving = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    aio_co_enter(iothread_get_aio_context(t), qemu_coroutine_create(reader_co, NULL));
    for (int i = 0; i < 30; i++) {
        until_more(&empty);
        g_assert_cmpint(blk_replace_bs(moving, a, &error_abort), ==, 0);    /* as good as an insert */
        g_assert_cmpint(blk_getlength_cached(moving), ==, 4096);
        until_more(&reads);
        g_assert_cmpint(blk_replace_bs(moving, b, &error_abort), ==, 0);
        g_assert_true(blk_bs(moving) == b);
        g_assert_cmpint(blk_getlength_cached(moving), ==, 8192);
        until_more(&reads);
        blk_remove_bs(moving);
        g_assert_null(blk_bs(moving));
        g_assert_cmpint(blk_getlength_cached(moving), ==, 8192);    /* what was there last */
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    aio_wait_while(not_ended, NULL);
    blk_unref(moving);
    g_assert_true(a->refcnt == 1 && b->refcnt == 1);
    bdrv_unref(a);
    bdrv_unref(b);
    iothread_destroy(t, &error_abort);
}

static void test_ranges(void)
{
    BlockDriverState *bs = node("n", 4096);
    BlockBackend *blk = mem_backend_new(bs);
    uint8_t buf[512] = { 0 };
    static const struct { int64_t offset, bytes; int ret; } cases[] = {
        { 0, 512, 0 }, { 3584, 512, 0 }, { 4096, 0, 0 }, { 3585, 512, -EIO }, { 4096, 1, -EIO },
        { -1, 1, -EIO }, { 0, -1, -EIO }, { INT64_MAX, 1, -EIO }, { INT64_MAX - 511, 512, -EIO },
        { INT64_MIN, 512, -EIO }, { 1, INT64_MAX, -EIO }, { BDRV_MAX_LENGTH, 512, -EIO },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        bool readable = cases[i].ret == 0 || (cases[i].bytes >= 0 && cases[i].bytes <= 512);

        if (readable) {
            g_assert_cmpint(blk_pread(blk, cases[i].offset, cases[i].bytes, buf, 0), ==, cases[i].ret);
            g_assert_cmpint(blk_pwrite(blk, cases[i].offset, cases[i].bytes, buf, 0), ==, cases[i].ret);
        }
        g_assert_cmpint(blk_pwrite_zeroes(blk, cases[i].offset, cases[i].bytes, 0), ==, cases[i].ret);
        g_assert_cmpint(blk_pdiscard(blk, cases[i].offset, cases[i].bytes), ==, cases[i].ret);
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_accounting(void)
{
    BlockDriverState *bs = node("n", 4096);
    BlockBackend *blk = mem_backend_new(bs);
    BlockAcctStats s;
    uint8_t buf[512];

    blk_pread(blk, 0, 512, buf, 0);
    blk_get_stats(blk, &s);
    g_assert_cmpuint(s.ops[BLOCK_ACCT_READ], ==, 0);    /* nobody can ask for one without a name */
    blk_set_name(blk, "d", &error_abort);
    blk_pread(blk, 0, 512, buf, 0);
    blk_pwrite(blk, 0, 512, buf, 0);
    blk_flush(blk);
    blk_pread(blk, 4096, 512, buf, 0);
    mem_state(bs)->error[MEM_READ] = -EIO;
    blk_pread(blk, 0, 512, buf, 0);
    blk_get_stats(blk, &s);
    g_assert_true(s.ops[BLOCK_ACCT_READ] == 1 && s.bytes[BLOCK_ACCT_READ] == 512);
    g_assert_true(s.failed[BLOCK_ACCT_READ] == 1 && s.invalid[BLOCK_ACCT_READ] == 1);
    g_assert_true(s.ops[BLOCK_ACCT_WRITE] == 1 && s.ops[BLOCK_ACCT_FLUSH] == 1);
    blk_unref(blk);
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/backend/permissions", test_permissions);
    g_test_add_func("/backend/roots", test_roots);
    g_test_add_func("/backend/ranges", test_ranges);
    g_test_add_func("/backend/accounting", test_accounting);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* io_status.c: block status through a chain, truncate above a backing file, copies without memory.
 *
 * Method: two or three layers in memory, with a filter in between; the layers' blocks are 4 KiB.
 */
#include "base/osdep.h"
#include "memdrv.h"

enum { BLOCK = 4096 };

typedef struct Chain {
    BlockDriverState *base, *filter, *top;
    BlockBackend *blk;
} Chain;

/* top (overlay) -> filter -> base (overlay without backing), of the given lengths. */
static void chain_init(Chain *c, int64_t base_size, int64_t top_size)
{
    c->base = mem_node_new("base", &(MemConfig) { .size = base_size, .overlay = true, .bl.request_alignment = BLOCK });
    c->filter = pass_node_new("filter", c->base);
    c->top = mem_node_new("top", &(MemConfig) { .size = top_size, .overlay = true, .bl.request_alignment = BLOCK });
    bdrv_ref(c->filter);
    g_assert(bdrv_attach_child(c->top, c->filter, "backing", BDRV_CHILD_COW, &error_abort));
    c->blk = mem_backend_new(c->top);
}

static void chain_free(Chain *c)
{
    blk_unref(c->blk);
    bdrv_unref(c->top);
    bdrv_unref(c->filter);
    bdrv_unref(c->base);
}

static void expect(BlockDriverState *bs, BlockDriverState *base, int64_t offset, int64_t bytes,
                   int bits, int64_t pnum)
{
    int64_t n;
    int ret = bdrv_co_block_status_above(bs, base, offset, bytes, &n, NULL, NULL);

    g_assert_cmphex(ret, ==, bits);
    g_assert_cmpint(n, ==, pnum);
}

static void expect_depth(BlockDriverState *top, BlockDriverState *base, bool include, int64_t offset,
                         int64_t bytes, int allocated, int64_t pnum, int depth)
{
    int64_t n;
    int d;

    g_assert_cmpint(bdrv_co_is_allocated_above(top, base, include, offset, bytes, &n, &d), ==, allocated);
    g_assert_cmpint(n, ==, pnum);
    g_assert_cmpint(d, ==, depth);
}

enum {
    HERE = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED,
    NIL = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED,
};

static void coroutine_fn chain_co(void *opaque)
{
    Chain *c = opaque;
    const int64_t len = 16 * BLOCK;

    /* blocks:  0-3 in base, 4 in both, 5 in top only, 6 zero in top, the rest nowhere */
    expect(c->top, NULL, 0, len, HERE, 4 * BLOCK);
    expect(c->top, NULL, 100, 5, HERE, 5);
    expect(c->top, NULL, 100, len - 100, HERE, 4 * BLOCK - 100);
    expect(c->top, NULL, 4 * BLOCK, len, HERE, 2 * BLOCK);
    expect(c->top, NULL, 6 * BLOCK, len, NIL, BLOCK);
    expect(c->top, NULL, 7 * BLOCK, len, BDRV_BLOCK_ZERO | BDRV_BLOCK_EOF, 9 * BLOCK);
    expect(c->top, NULL, len, 1, BDRV_BLOCK_EOF, 0);
    /* Not below the filter: what only base has is not there. */
    expect(c->top, c->filter, 0, len, 0, 4 * BLOCK);
    expect(c->filter, NULL, 4 * BLOCK, len, HERE, BLOCK);

    expect_depth(c->top, NULL, false, 0, len, 1, 4 * BLOCK, 2);
    expect_depth(c->top, NULL, false, 5 * BLOCK, len, 1, BLOCK, 1);
    expect_depth(c->top, NULL, false, 8 * BLOCK, len, 0, 8 * BLOCK, 0);
    expect_depth(c->top, c->filter, false, 0, len, 0, 4 * BLOCK, 0);
    expect_depth(c->top, c->base, false, 0, len, 0, 4 * BLOCK, 0);
    expect_depth(c->top, c->base, true, 0, len, 1, 4 * BLOCK, 2);

    g_assert_cmpint(bdrv_co_is_zero_fast(c->top, 6 * BLOCK, 10 * BLOCK), ==, 1);
    g_assert_cmpint(bdrv_co_is_zero_fast(c->top, 5 * BLOCK, 2 * BLOCK), ==, 0);
    g_assert_cmpint(bdrv_co_is_zero_fast(c->top, 6 * BLOCK, 100 * BLOCK), ==, 1);
}

static void test_chain(void)
{
    Chain c;

    chain_init(&c, 16 * BLOCK, 16 * BLOCK);
    mem_fill(c.base, 0, 5 * BLOCK, 1);
    mem_fill(c.top, 4 * BLOCK, 2 * BLOCK, 2);
    g_assert_cmpint(blk_pwrite_zeroes(c.blk, 6 * BLOCK, BLOCK, 0), ==, 0);
    aio_co_run(chain_co, &c);
    chain_free(&c);
}

static void coroutine_fn short_co(void *opaque)
{
    Chain *c = opaque;

    expect(c->top, NULL, 0, 16 * BLOCK, HERE, 2 * BLOCK);
    expect(c->top, NULL, 2 * BLOCK, 14 * BLOCK, NIL | BDRV_BLOCK_EOF, 14 * BLOCK);
    /* The top layer alone has nothing there, and knows that it is zero behind its backing. */
    expect(c->top, c->filter, 2 * BLOCK, 14 * BLOCK, BDRV_BLOCK_ZERO | BDRV_BLOCK_EOF, 14 * BLOCK);
    expect(c->top, c->filter, BLOCK, 15 * BLOCK, 0, BLOCK);
}

static void test_short_backing(void)
{
    uint8_t buf[3 * BLOCK];
    Chain c;

    chain_init(&c, 2 * BLOCK, 16 * BLOCK);
    mem_fill(c.base, 0, 2 * BLOCK, 1);
    aio_co_run(short_co, &c);
    memset(buf, 0xff, sizeof(buf));
    g_assert_cmpint(blk_pread(c.blk, BLOCK + 10, sizeof(buf), buf, 0), ==, 0);
    g_assert_cmphex(buf[BLOCK - 11], ==, mem_pattern(2 * BLOCK - 1, 1));
    g_assert(buffer_is_zero(buf + BLOCK - 10, sizeof(buf) - BLOCK + 10));
    chain_free(&c);
}

/* ---- truncate ---- */

typedef struct Observed {
    BdrvWriteObserver obs;
    int64_t length;
    int64_t written_bytes;
} Observed;

static void observed_written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    container_of(obs, Observed, obs)->written_bytes += bytes;
}

static void observed_resized(BdrvWriteObserver *obs, int64_t length)
{
    container_of(obs, Observed, obs)->length = length;
}

static void test_truncate(void)
{
    Observed o = { .obs = { .written = observed_written, .resized = observed_resized } };
    uint8_t buf[BLOCK];
    Chain c;

    chain_init(&c, 16 * BLOCK, 16 * BLOCK);
    mem_fill(c.base, 0, 16 * BLOCK, 1);
    bdrv_add_write_observer(c.top, &o.obs);
    g_assert_cmpint(blk_truncate(c.blk, 4 * BLOCK, true, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    g_assert_cmpint(o.length, ==, 4 * BLOCK);
    g_assert_cmpint(blk_getlength(c.blk), ==, 4 * BLOCK);
    g_assert_cmpint(blk_pread(c.blk, 4 * BLOCK, 1, buf, 0), ==, -EIO);
    /* Grown again: the backing file's data behind the old end must not come back. */
    g_assert_cmpint(blk_truncate(c.blk, 20 * BLOCK, true, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    /* The same once more: nothing to do, also while requests are recorded. */
    g_assert_cmpint(blk_truncate(c.blk, 20 * BLOCK, true, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    g_assert_cmpint(o.length, ==, 20 * BLOCK);
    g_assert_cmpint(blk_pread(c.blk, 5 * BLOCK, BLOCK, buf, 0), ==, 0);
    g_assert(buffer_is_zero(buf, BLOCK));
    g_assert_cmpint(blk_pread(c.blk, 3 * BLOCK, BLOCK, buf, 0), ==, 0);
    g_assert_cmphex(buf[0], ==, mem_pattern(3 * BLOCK, 1));
    bdrv_remove_write_observer(c.top, &o.obs);
    chain_free(&c);
}

static void test_truncate_fails_whole(void)
{
    uint8_t buf[BLOCK];
    Error *err = NULL;
    Chain c;

    chain_init(&c, 16 * BLOCK, 4 * BLOCK);
    mem_fill(c.base, 0, 16 * BLOCK, 1);
    mem_state(c.top)->error[MEM_ZERO] = -EIO;
    g_assert_cmpint(blk_truncate(c.blk, 8 * BLOCK, true, PREALLOC_MODE_OFF, &err), ==, -EIO);
    g_assert(err);
    error_free(err);
    err = NULL;
    g_assert_cmpint(blk_getlength(c.blk), ==, 4 * BLOCK);
    g_assert_cmpint(blk_pread(c.blk, 4 * BLOCK, BLOCK, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_truncate(c.blk, -1, true, PREALLOC_MODE_OFF, &err), ==, -EINVAL);
    error_free(err);
    err = NULL;
    g_assert_cmpint(blk_truncate(c.blk, INT64_MAX, true, PREALLOC_MODE_OFF, &err), ==, -EFBIG);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "offset(9223372036854775807) exceeds maximum(9223372035781033984)");
    error_free(err);
    chain_free(&c);
}

/* ---- copy without memory ---- */

typedef struct Copy {
    BlockBackend *src, *dst;
    int64_t src_offset, dst_offset, bytes;
    int ret;
} Copy;

static void coroutine_fn copy_co(void *opaque)
{
    Copy *c = opaque;

    c->ret = blk_co_copy_range(c->src, c->src_offset, c->dst, c->dst_offset, c->bytes, 0, 0);
}

static void test_copy_range(void)
{
    BlockDriverState *a = mem_node_new("a", &(MemConfig) { .size = 64 * BLOCK });
    BlockDriverState *fa = pass_node_new("fa", a);
    BlockDriverState *b = mem_node_new("b", &(MemConfig) { .size = 64 * BLOCK, .bl = { BLOCK, .max_transfer = 2 * BLOCK } });
    BlockDriverState *fb = pass_node_new("fb", b);
    Observed o = { .obs = { .written = observed_written } };
    Copy c = { mem_backend_new(fa), mem_backend_new(fb), 3 * BLOCK, BLOCK, 5 * BLOCK };

    mem_fill(a, 0, 64 * BLOCK, 1);
    bdrv_add_write_observer(fb, &o.obs);
    aio_co_run(copy_co, &c);
    g_assert_cmpint(c.ret, ==, 0);
    g_assert_cmpint(mem_state(b)->calls[MEM_COPY], ==, 3);
    g_assert_cmpmem(mem_state(b)->data + BLOCK, 5 * BLOCK, mem_state(a)->data + 3 * BLOCK, 5 * BLOCK);
    g_assert_cmpint(o.written_bytes, ==, 5 * BLOCK);
    c.dst_offset = 10;          /* unaligned: through memory, by the caller */
    aio_co_run(copy_co, &c);
    g_assert_cmpint(c.ret, ==, -ENOTSUP);
    c.dst_offset = 60 * BLOCK;
    aio_co_run(copy_co, &c);
    g_assert_cmpint(c.ret, ==, -EIO);
    bdrv_remove_write_observer(fb, &o.obs);
    blk_unref(c.src);
    blk_unref(c.dst);
    bdrv_unref(fa);
    bdrv_unref(a);
    bdrv_unref(fb);
    bdrv_unref(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/io/status/chain", test_chain);
    g_test_add_func("/io/status/short-backing", test_short_backing);
    g_test_add_func("/io/truncate/observed-and-zeroed", test_truncate);
    g_test_add_func("/io/truncate/fails-whole", test_truncate_fails_whole);
    g_test_add_func("/io/copy-range", test_copy_range);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

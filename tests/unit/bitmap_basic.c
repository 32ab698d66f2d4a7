/* SPDX-License-Identifier: MIT */
/* bitmap_basic.c: dirty bitmaps on a live node: what they record, what they are asked, and that they
 * miss no write where the node grows, shrinks, or where a write fails.
 */
#include "base/osdep.h"
#include "block/dirty-bitmap.h"
#include "block/hbitmap.h"
#include "block/block_int-global-state.h"
#include "memdrv.h"

typedef struct Fixture {
    BlockDriverState *mem;
    BlockBackend *blk;
} Fixture;

static Fixture fixture_new(int64_t size)
{
    Fixture f;

    f.mem = mem_node_new("mem0", &(MemConfig) { .size = size, .flags = BDRV_O_UNMAP });
    f.blk = mem_backend_new(f.mem);
    blk_set_allow_write_beyond_eof(f.blk, true);
    return f;
}

static void fixture_free(Fixture *f)
{
    blk_unref(f->blk);
    bdrv_unref(f->mem);
    g_assert_null(bdrv_next_all_states(NULL));
}

static void test_records(void)
{
    Fixture f = fixture_new(1 * MiB);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(f.mem, 4096, "b", &error_abort);
    uint8_t buf[8192] = { 1 };
    int64_t start, n;

    g_assert_true(bdrv_find_dirty_bitmap(f.mem, "b") == b && !bdrv_find_dirty_bitmap(f.mem, "c"));
    g_assert_cmpint(bdrv_dirty_bitmap_granularity(b), ==, 4096);
    g_assert_cmpint(blk_pread(f.blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpint(blk_flush(f.blk), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 0);
    g_assert_cmpint(blk_pwrite(f.blk, 4095, 2, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 8192);
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 64 * KiB, 4096, 0), ==, 0);
    g_assert_cmpint(blk_pdiscard(f.blk, 128 * KiB, 4096), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 16384);
    g_assert_true(bdrv_dirty_bitmap_next_dirty_area(b, 8192, 1 * MiB, 1 * MiB, &start, &n));
    g_assert_true(start == 64 * KiB && n == 4096);
    g_assert_cmpint(bdrv_dirty_bitmap_next_zero(b, 0, 1 * MiB), ==, 8192);
    g_assert_true(bdrv_dirty_bitmap_status(b, 100, 1 * MiB - 100, &n) && n == 8192 - 100);
    g_assert_false(bdrv_dirty_bitmap_status(b, 8192, 1 * MiB, &n) || n != 56 * KiB);
    g_assert_true(bdrv_dirty_bitmap_status(b, 64 * KiB, 5, &n) && n == 5);
    g_assert_false(bdrv_dirty_bitmap_status(b, 1 * MiB, 77, &n) || n != 77);
    bdrv_reset_dirty_bitmap(b, 0, 8192);
    g_assert_false(bdrv_dirty_bitmap_get(b, 4095));
    /* Disabled: nothing. */
    bdrv_drained_begin(f.mem);
    bdrv_disable_dirty_bitmap(b);
    bdrv_drained_end(f.mem);
    g_assert_false(bdrv_dirty_bitmap_enabled(b));
    g_assert_cmpint(blk_pwrite(f.blk, 0, 4096, buf, 0), ==, 0);
    g_assert_false(bdrv_dirty_bitmap_get(b, 0));
    bdrv_drained_begin(f.mem);
    bdrv_enable_dirty_bitmap(b);
    bdrv_drained_end(f.mem);
    g_assert_cmpint(blk_pwrite(f.blk, 0, 4096, buf, 0), ==, 0);
    g_assert_true(bdrv_dirty_bitmap_get(b, 0));
    bdrv_release_dirty_bitmap(b);
    fixture_free(&f);
}

static void test_making(void)
{
    Fixture f = fixture_new(1 * MiB);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(f.mem, 65536, "b", &error_abort), *anonymous;
    BlockDirtyInfoList *list;
    Error *err = NULL;

    g_assert_null(bdrv_create_dirty_bitmap(f.mem, 65536, "b", &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Bitmap already exists: b");
    g_clear_pointer(&err, error_free);
    for (size_t i = 0; i < 4; i++) {
        static const uint32_t bad[] = { 0, 256, 513, 3 << 20 };

        g_assert_null(bdrv_create_dirty_bitmap(f.mem, bad[i], "c", &err));
        g_assert_cmpstr(error_get_pretty(err), ==, "Granularity must be power of 2 and at least 512");
        g_clear_pointer(&err, error_free);
    }
    anonymous = bdrv_create_dirty_bitmap(f.mem, 512, NULL, &error_abort);
    bdrv_dirty_bitmap_set_busy(b, true);
    bdrv_set_dirty_bitmap(b, 0, 1);
    list = bdrv_query_dirty_bitmaps(f.mem);
    g_assert_true(list && list->next && !list->next->next);
    g_assert_null(list->value->name);
    g_assert_cmpstr(list->next->value->name, ==, "b");
    g_assert_true(list->next->value->busy && list->next->value->recording && list->next->value->count == 65536);
    qapi_free(&qapi_type_BlockDirtyInfoList, list);
    bdrv_release_dirty_bitmap(anonymous);
    bdrv_release_dirty_bitmap(b);
    fixture_free(&f);
}

/* Writes beyond the end make the node longer, and are recorded; one that fails there is none, and
 * leaves the bitmap as long as the node. */
static void test_growing(void)
{
    Fixture f = fixture_new(64 * KiB);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(f.mem, 4096, "b", &error_abort);
    uint8_t buf[4096] = { 1 };

    mem_state(f.mem)->error[MEM_WRITE] = -ENOSPC;
    g_assert_cmpint(blk_pwrite(f.blk, 128 * KiB, 4096, buf, 0), ==, -ENOSPC);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 0);
    g_assert_cmpint(blk_pwrite(f.blk, 62 * KiB, 4096, buf, 0), ==, -ENOSPC);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 4096);     /* it may have been written */
    mem_state(f.mem)->error[MEM_WRITE] = 0;
    g_assert_cmpint(blk_pwrite(f.blk, 128 * KiB, 4096, buf, 0), ==, 0);
    g_assert_true(bdrv_dirty_bitmap_get(b, 128 * KiB));
    g_assert_cmpint(blk_truncate(f.blk, 32 * KiB, true, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 0);
    /* Cut off, or not: it may be gone. */
    mem_state(f.mem)->error[MEM_TRUNCATE] = -EIO;
    g_assert_cmpint(blk_truncate(f.blk, 20 * KiB, true, PREALLOC_MODE_OFF, NULL), ==, -EIO);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 12 * KiB);
    g_assert_cmpint(blk_truncate(f.blk, 40 * KiB, true, PREALLOC_MODE_OFF, NULL), ==, -EIO);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 12 * KiB);
    bdrv_release_dirty_bitmap(b);
    fixture_free(&f);
}

/* The length became known to the node, but nobody told the bitmap yet (two writers in two threads;
 * somebody who asked for the length): what is written there counts. News that come late, of a length
 * that is no longer true, take nothing away. */
static void test_growing_unheard(void)
{
    Fixture f = fixture_new(64 * KiB);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(f.mem, 4096, "b", &error_abort);
    BdrvWriteObserver *obs = LIST_FIRST(&f.mem->write_observers);

    __atomic_store_n(&f.mem->total_bytes, 256 * KiB, __ATOMIC_SEQ_CST);
    obs->written(obs, 200 * KiB, 4096);
    g_assert_true(bdrv_dirty_bitmap_get(b, 200 * KiB));
    obs->resized(obs, 128 * KiB);
    g_assert_true(bdrv_dirty_bitmap_get(b, 200 * KiB));
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 4096);
    __atomic_store_n(&f.mem->total_bytes, 64 * KiB, __ATOMIC_SEQ_CST);
    bdrv_release_dirty_bitmap(b);
    fixture_free(&f);
}

/* ---- by name ---- */

static void expect_error(Error **err, const char *text)
{
    g_assert_nonnull(*err);
    g_assert_cmpstr(error_get_pretty(*err), ==, text);
    g_clear_pointer(err, error_free);
}

static void test_lookup(void)
{
    Fixture f = fixture_new(1 * MiB);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(f.mem, 4096, "b", &error_abort);
    BlockDriverState *bs = NULL;
    Error *err = NULL;

    g_assert_true(block_dirty_bitmap_lookup("mem0", "b", &bs, &error_abort) == b && bs == f.mem);
    g_assert_null(block_dirty_bitmap_lookup("mem0", "c", NULL, &err));
    expect_error(&err, "Dirty bitmap 'c' not found");
    g_assert_null(block_dirty_bitmap_lookup("none", "b", NULL, &err));
    expect_error(&err, "Node 'none' not found");
    bdrv_dirty_bitmap_set_busy(b, true);
    g_assert_null(block_dirty_bitmap_remove("mem0", "b", true, NULL, &err));
    expect_error(&err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    bdrv_dirty_bitmap_set_busy(b, false);
    bs = NULL;
    g_assert_true(block_dirty_bitmap_remove("mem0", "b", false, &bs, &error_abort) == b && bs == f.mem);
    g_assert_true(bdrv_find_dirty_bitmap(f.mem, "b") == b);
    g_assert_null(block_dirty_bitmap_remove("mem0", "b", true, &bs, &error_abort));
    g_assert_null(bdrv_find_dirty_bitmap(f.mem, "b"));
    fixture_free(&f);
}

/* Several sources, of another granularity and another node; undone; and nothing at all where the last
 * one does not fit. */
static void test_merge(void)
{
    Fixture f = fixture_new(1 * MiB);
    BlockDriverState *other = mem_node_new("other", &(MemConfig) { .size = 1 * MiB });
    BlockDriverState *longer = mem_node_new("longer", &(MemConfig) { .size = 2 * MiB });
    BdrvDirtyBitmap *t = bdrv_create_dirty_bitmap(f.mem, 65536, "t", &error_abort);
    BdrvDirtyBitmap *a = bdrv_create_dirty_bitmap(f.mem, 4096, "a", &error_abort);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(other, 65536, "b", &error_abort);
    BdrvDirtyBitmap *c = bdrv_create_dirty_bitmap(longer, 65536, "c", &error_abort);
    BlockDirtyBitmap ext_b = { .node = (char *)"other", .name = (char *)"b" };
    BlockDirtyBitmap ext_c = { .node = (char *)"longer", .name = (char *)"c" };
    BlockDirtyBitmapOrStr from_a = { .type = QTYPE_QSTRING, .u.local = (char *)"a" };
    BlockDirtyBitmapOrStr from_b = { .type = QTYPE_QDICT, .u.external = &ext_b };
    BlockDirtyBitmapOrStr from_c = { .type = QTYPE_QDICT, .u.external = &ext_c };
    BlockDirtyBitmapMergeSourceList third = { NULL, &from_c }, second = { NULL, &from_b }, first = { &second, &from_a };
    HBitmap *backup = NULL;
    Error *err = NULL;

    bdrv_set_dirty_bitmap(t, 0, 1);
    bdrv_set_dirty_bitmap(a, 70 * KiB, 1);
    bdrv_set_dirty_bitmap(b, 200 * KiB, 1);
    second.next = &third;
    g_assert_null(block_dirty_bitmap_merge("mem0", "t", &first, &backup, &err));
    expect_error(&err, "Bitmaps are of different sizes (destination size is 1048576, source size is 2097152) "
                 "and can't be merged");
    g_assert_null(backup);
    g_assert_cmpint(bdrv_get_dirty_count(t), ==, 64 * KiB);
    second.next = NULL;
    bdrv_dirty_bitmap_set_busy(b, true);
    g_assert_null(block_dirty_bitmap_merge("mem0", "t", &first, &backup, &err));
    expect_error(&err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    g_assert_cmpint(bdrv_get_dirty_count(t), ==, 64 * KiB);
    bdrv_dirty_bitmap_set_busy(b, false);
    bdrv_drained_begin(f.mem);
    g_assert_true(block_dirty_bitmap_merge("mem0", "t", &first, &backup, &error_abort) == t);
    g_assert_true(bdrv_dirty_bitmap_get(t, 0) && bdrv_dirty_bitmap_get(t, 64 * KiB) && bdrv_dirty_bitmap_get(t, 192 * KiB));
    g_assert_cmpint(bdrv_get_dirty_count(t), ==, 3 * 64 * KiB);
    g_assert_cmpint(bdrv_get_dirty_count(a), ==, 4096);
    bdrv_restore_dirty_bitmap(t, backup);
    bdrv_drained_end(f.mem);
    g_assert_cmpint(bdrv_get_dirty_count(t), ==, 64 * KiB);
    g_assert_true(bdrv_dirty_bitmap_get(t, 0));
    /* Without a backup, with itself, and with nothing. */
    g_assert_true(block_dirty_bitmap_merge("mem0", "t", &first, NULL, &error_abort) == t);
    from_a.u.local = (char *)"t";
    g_assert_true(block_dirty_bitmap_merge("mem0", "t", &first, &backup, &error_abort) == t);
    hbitmap_free(backup);
    g_assert_true(block_dirty_bitmap_merge("mem0", "t", NULL, NULL, &error_abort) == t);
    g_assert_cmpint(bdrv_get_dirty_count(t), ==, 3 * 64 * KiB);
    bdrv_release_dirty_bitmap(t);
    bdrv_release_dirty_bitmap(a);
    bdrv_release_dirty_bitmap(b);
    bdrv_release_dirty_bitmap(c);
    bdrv_unref(longer);
    bdrv_unref(other);
    fixture_free(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/bitmap/records", test_records);
    g_test_add_func("/bitmap/making", test_making);
    g_test_add_func("/bitmap/growing", test_growing);
    g_test_add_func("/bitmap/growing-unheard", test_growing_unheard);
    g_test_add_func("/bitmap/lookup", test_lookup);
    g_test_add_func("/bitmap/merge", test_merge);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

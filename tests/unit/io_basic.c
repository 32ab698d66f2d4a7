/* SPDX-License-Identifier: MIT */
/* io_basic.c: single requests through the request path.
 *
 * Goal: each operation does what its declaration says, at the edges too. Method: one node in memory
 * with the limits the case is about, mostly through a filter without operations.
 */
#include "base/osdep.h"
#include "memdrv.h"

typedef struct Fixture {
    BlockDriverState *mem, *filter;
    BlockBackend *blk;
} Fixture;

static Fixture fixture_new(MemConfig config)
{
    Fixture f;

    f.mem = mem_node_new("mem0", &config);
    f.filter = pass_node_new("filter0", f.mem);
    f.blk = mem_backend_new(f.filter);
    return f;
}

static void fixture_free(Fixture *f)
{
    blk_unref(f->blk);
    bdrv_unref(f->filter);
    bdrv_unref(f->mem);
}

static void check_bytes(const uint8_t *p, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++) {
        g_assert_cmphex(p[i], ==, byte);
    }
}

static void test_aligned(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 1 * MiB, .bl.request_alignment = 512 });
    uint8_t buf[4096];

    g_assert_cmpint(blk_getlength(f.blk), ==, 1 * MiB);
    memset(buf, 0xa5, sizeof(buf));
    g_assert_cmpint(blk_pwrite(f.blk, 8192, sizeof(buf), buf, 0), ==, 0);
    memset(buf, 0, sizeof(buf));
    g_assert_cmpint(blk_pread(f.blk, 8192, sizeof(buf), buf, 0), ==, 0);
    check_bytes(buf, sizeof(buf), 0xa5);
    g_assert_cmpint(mem_state(f.mem)->calls[MEM_READ], ==, 1);
    g_assert_cmpint(mem_state(f.mem)->calls[MEM_WRITE], ==, 1);
    g_assert_cmpint(f.mem->wr_highest_offset, ==, 8192 + 4096);
    g_assert_cmpint(f.filter->wr_highest_offset, ==, 8192 + 4096);
    fixture_free(&f);
}

static void test_unaligned(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 64 * KiB, .bl.request_alignment = 4096 });
    MemState *s = mem_state(f.mem);
    uint8_t buf[9000], zero[10] = { 0 };

    mem_fill(f.mem, 0, 64 * KiB, 1);
    g_assert_cmpint(blk_pwrite(f.blk, 5000, sizeof(zero), zero, 0), ==, 0);
    g_assert_cmpint(s->calls[MEM_READ], ==, 1);     /* one block read, one written */
    g_assert_cmpint(s->calls[MEM_WRITE], ==, 1);
    g_assert_cmpint(blk_pread(f.blk, 3, sizeof(buf), buf, 0), ==, 0);
    for (int i = 0; i < 9000; i++) {
        bool zeroed = i + 3 >= 5000 && i + 3 < 5010;

        g_assert_cmphex(buf[i], ==, zeroed ? 0 : mem_pattern(i + 3, 1));
    }
    fixture_free(&f);
}

static void test_ranges(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 1000 });
    uint8_t buf[1024];

    /* Whole sectors: what lies behind the file's end reads as zeroes. */
    g_assert_cmpint(blk_getlength(f.blk), ==, 1024);
    mem_fill(f.mem, 0, 1000, 1);
    g_assert_cmpint(blk_pread(f.blk, 0, 1024, buf, 0), ==, 0);
    g_assert_cmphex(buf[999], ==, mem_pattern(999, 1));
    check_bytes(buf + 1000, 24, 0);
    g_assert_cmpint(blk_pread(f.blk, 1000, 25, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(f.blk, -1, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(f.blk, INT64_MAX, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite(f.blk, 1024, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(f.blk, 1024, 0, buf, 0), ==, 0);
    fixture_free(&f);
}

static void test_grow_by_write(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 4096 });
    uint8_t buf[100] = { 1 };

    blk_set_allow_write_beyond_eof(f.blk, true);
    g_assert_cmpint(blk_pwrite(f.blk, 5000, sizeof(buf), buf, 0), ==, 0);
    g_assert_cmpint(blk_getlength(f.blk), ==, 5120);
    g_assert_cmpint(bdrv_getlength_cached(f.mem), ==, 5120);
    fixture_free(&f);
}

static void test_no_permission(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 4096 });
    BlockBackend *reader = blk_new_with_bs(f.mem, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    uint8_t buf[512] = { 0 };
    Error *err = NULL;

    g_assert_cmpint(blk_pread(reader, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite(reader, 0, 512, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pdiscard(reader, 0, 512), ==, -EPERM);
    g_assert_cmpint(blk_truncate(reader, 0, true, PREALLOC_MODE_OFF, &err), ==, -EPERM);
    g_assert(err);
    error_free(err);
    blk_unref(reader);
    fixture_free(&f);
}

static void test_empty(void)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    uint8_t buf[1];

    g_assert_cmpint(blk_pread(blk, 0, 1, buf, 0), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_flush(blk), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_getlength(blk), ==, -ENOMEDIUM);
    blk_unref(blk);
}

static void test_zeroes_native(void)
{
    Fixture f = fixture_new((MemConfig) {
        .size = 1 * MiB, .bl = { .request_alignment = 512, .pwrite_zeroes_alignment = 65536, .max_pwrite_zeroes = 131072 },
        .zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK, .flags = BDRV_O_UNMAP,
    });
    MemState *s = mem_state(f.mem);

    mem_fill(f.mem, 0, 1 * MiB, 1);
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 65536, 4 * 65536, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(s->calls[MEM_ZERO], ==, 2);
    g_assert_cmpint(s->calls[MEM_WRITE], ==, 0);
    g_assert(s->last_flags[MEM_ZERO] & BDRV_REQ_MAY_UNMAP);
    check_bytes(s->data + 65536, 4 * 65536, 0);
    /* Unaligned to the driver's unit: the ends are written, the middle is zeroed. */
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 6 * 65536 - 100, 65536 + 200, 0), ==, 0);
    check_bytes(s->data + 6 * 65536 - 100, 65536 + 200, 0);
    g_assert_cmphex(s->data[6 * 65536 - 101], ==, mem_pattern(6 * 65536 - 101, 1));
    g_assert_cmphex(s->data[7 * 65536 + 100], ==, mem_pattern(7 * 65536 + 100, 1));
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 512, 512, BDRV_REQ_NO_FALLBACK), ==, -ENOTSUP);
    fixture_free(&f);
}

static void test_zeroes_fallback(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 4 * MiB, .bl = { .request_alignment = 512, .max_transfer = 100352 } });
    MemState *s = mem_state(f.mem);

    mem_fill(f.mem, 0, 4 * MiB, 1);
    s->error[MEM_ZERO] = -ENOTSUP;
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 1000, 3 * MiB, 0), ==, 0);
    check_bytes(s->data + 1000, 3 * MiB, 0);
    g_assert_cmphex(s->data[999], ==, mem_pattern(999, 1));
    g_assert_cmphex(s->data[1000 + 3 * MiB], ==, mem_pattern(1000 + 3 * MiB, 1));
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 0, 1 * MiB, BDRV_REQ_NO_FALLBACK), ==, -ENOTSUP);
    s->error[MEM_ZERO] = -EIO;
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 0, 1 * MiB, 0), ==, -EIO);
    fixture_free(&f);
}

static void test_detect_zeroes(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 64 * KiB, .zero_flags = BDRV_REQ_MAY_UNMAP, .flags = BDRV_O_UNMAP });
    MemState *s = mem_state(f.mem);
    uint8_t buf[4096] = { 0 };

    mem_fill(f.mem, 0, 64 * KiB, 1);
    g_assert_cmpint(blk_pwrite(f.blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpint(s->calls[MEM_ZERO], ==, 0);
    f.filter->detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_ON;
    g_assert_cmpint(blk_pwrite(f.blk, 4096, 4096, buf, 0), ==, 0);
    g_assert_cmpint(s->calls[MEM_ZERO], ==, 1);
    g_assert(!(s->last_flags[MEM_ZERO] & BDRV_REQ_MAY_UNMAP));
    f.filter->detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP;
    g_assert_cmpint(blk_pwrite(f.blk, 8192, 4096, buf, 0), ==, 0);
    g_assert(s->last_flags[MEM_ZERO] & BDRV_REQ_MAY_UNMAP);
    buf[4095] = 1;
    g_assert_cmpint(blk_pwrite(f.blk, 8192, 4096, buf, 0), ==, 0);
    g_assert_cmpint(s->calls[MEM_ZERO], ==, 2);
    fixture_free(&f);
}

static void test_discard(void)
{
    Fixture f = fixture_new((MemConfig) {
        .size = 1 * MiB, .bl = { .request_alignment = 512, .pdiscard_alignment = 4096, .max_pdiscard = 65536 },
        .flags = BDRV_O_UNMAP,
    });
    MemState *s = mem_state(f.mem);

    mem_fill(f.mem, 0, 1 * MiB, 1);
    g_assert_cmpint(blk_pdiscard(f.blk, 1000, 3 * 65536), ==, 0);
    check_bytes(s->data + 4096, 3 * 65536 - 4096, 0);
    /* What is not a whole unit of the driver stays. */
    g_assert_cmphex(s->data[1000], ==, mem_pattern(1000, 1));
    g_assert_cmphex(s->data[3 * 65536 + 1000], ==, mem_pattern(3 * 65536 + 1000, 1));
    s->error[MEM_DISCARD] = -ENOTSUP;
    g_assert_cmpint(blk_pdiscard(f.blk, 0, 65536), ==, 0);
    s->error[MEM_DISCARD] = -EIO;
    g_assert_cmpint(blk_pdiscard(f.blk, 0, 65536), ==, -EIO);
    fixture_free(&f);

    f = fixture_new((MemConfig) { .size = 1 * MiB });
    g_assert_cmpint(blk_pdiscard(f.blk, 0, 65536), ==, 0);      /* discard=ignore */
    g_assert_cmpint(mem_state(f.mem)->calls[MEM_DISCARD], ==, 0);
    fixture_free(&f);
}

static void coroutine_fn vector_co(void *opaque)
{
    Fixture *f = opaque;
    uint8_t *data = qemu_blockalign(f->mem, 64 * KiB), *back = qemu_blockalign(f->mem, 64 * KiB);
    QEMUIOVector qiov;

    for (int i = 0; i < 64 * KiB; i++) {
        data[i] = mem_pattern(i, 7);
    }
    /* Many odd pieces, more than the driver takes at once. */
    qemu_iovec_init(&qiov, 1);
    for (int at = 0, len = 1; at < 64 * KiB; at += len, len = MIN(len % 700 + 13, 64 * KiB - at)) {
        qemu_iovec_add(&qiov, data + at, len);
    }
    g_assert_cmpint(blk_co_pwritev(f->blk, 512, 64 * KiB, &qiov, 0), ==, 0);
    g_assert_cmpint(blk_co_pread(f->blk, 512, 64 * KiB, back, 0), ==, 0);
    g_assert_cmpmem(data, 64 * KiB, back, 64 * KiB);
    memset(data, 0, 64 * KiB);
    g_assert_cmpint(blk_co_preadv(f->blk, 512, 64 * KiB, &qiov, 0), ==, 0);
    g_assert_cmpmem(data, 64 * KiB, back, 64 * KiB);
    qemu_iovec_destroy(&qiov);
    qemu_vfree(data);
    qemu_vfree(back);
}

static void test_split(void)
{
    Fixture f = fixture_new((MemConfig) {
        .size = 1 * MiB, .bl = { .request_alignment = 512, .max_transfer = 5 * 1024, .max_iov = 3 },
    });

    aio_co_run(vector_co, &f);
    fixture_free(&f);
}

static void test_write_error(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 64 * KiB, .bl = { .max_transfer = 4096 } });
    uint8_t buf[16384] = { 0 };

    mem_state(f.mem)->error[MEM_WRITE] = -ENOSPC;
    mem_state(f.mem)->error_after[MEM_WRITE] = 2;
    g_assert_cmpint(blk_pwrite(f.blk, 0, sizeof(buf), buf, 0), ==, -ENOSPC);
    g_assert_cmpint(mem_state(f.mem)->calls[MEM_WRITE], ==, 3);
    mem_state(f.mem)->error[MEM_READ] = -EIO;
    g_assert_cmpint(blk_pread(f.blk, 0, sizeof(buf), buf, 0), ==, -EIO);
    fixture_free(&f);
}

static void test_read_only(void)
{
    Fixture f = fixture_new((MemConfig) { .size = 64 * KiB });
    uint8_t buf[512] = { 0 };
    Error *err = NULL;

    f.mem->read_only = true;
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 0, 512, 0), ==, -EPERM);
    g_assert_cmpint(blk_truncate(f.blk, 0, true, PREALLOC_MODE_OFF, &err), ==, -EACCES);
    g_assert_cmpstr(error_get_pretty(err), ==, "Image is read-only");
    error_free(err);
    fixture_free(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/io/aligned", test_aligned);
    g_test_add_func("/io/unaligned", test_unaligned);
    g_test_add_func("/io/ranges", test_ranges);
    g_test_add_func("/io/grow-by-write", test_grow_by_write);
    g_test_add_func("/io/no-permission", test_no_permission);
    g_test_add_func("/io/empty", test_empty);
    g_test_add_func("/io/zeroes/native", test_zeroes_native);
    g_test_add_func("/io/zeroes/fallback", test_zeroes_fallback);
    g_test_add_func("/io/zeroes/detect", test_detect_zeroes);
    g_test_add_func("/io/discard", test_discard);
    g_test_add_func("/io/split", test_split);
    g_test_add_func("/io/write-error", test_write_error);
    g_test_add_func("/io/read-only", test_read_only);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

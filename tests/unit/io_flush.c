/* SPDX-License-Identifier: MIT */
/* io_flush.c: what a flush or FUA promises, and what it does not do twice.
 *
 * Method: the driver in memory keeps what would survive a power cut apart from what reads.
 */
#include "base/osdep.h"
#include "memdrv.h"

typedef struct Fixture {
    BlockDriverState *mem, *filter;
    BlockBackend *blk;
    MemState *s;
    unsigned running;
} Fixture;

static void fixture_init(Fixture *f, MemConfig config)
{
    memset(f, 0, sizeof(*f));
    config.size = 1 * MiB;
    f->mem = mem_node_new("mem0", &config);
    f->filter = pass_node_new("filter0", f->mem);
    f->blk = mem_backend_new(f->filter);
    f->s = mem_state(f->mem);
}

static void fixture_free(Fixture *f)
{
    blk_unref(f->blk);
    bdrv_unref(f->filter);
    bdrv_unref(f->mem);
}

static void test_once(void)
{
    Fixture f;
    uint8_t buf[512] = { 1 };

    fixture_init(&f, (MemConfig) { 0 });
    g_assert_cmpint(blk_flush(f.blk), ==, 0);
    g_assert_cmpint(f.s->calls[MEM_FLUSH], ==, 0);      /* nothing was written */
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmphex(f.s->durable[0], ==, 0);
    g_assert_cmpint(blk_flush(f.blk), ==, 0);
    g_assert_cmphex(f.s->durable[0], ==, 1);
    g_assert_cmpint(blk_flush(f.blk), ==, 0);
    g_assert_cmpint(f.s->calls[MEM_FLUSH], ==, 1);
    fixture_free(&f);
}

static void test_failure_is_not_forgotten(void)
{
    Fixture f;
    uint8_t buf[512] = { 1 };

    fixture_init(&f, (MemConfig) { 0 });
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, 0);
    f.s->error[MEM_FLUSH] = -EIO;
    g_assert_cmpint(blk_flush(f.blk), ==, -EIO);
    g_assert_cmpint(blk_flush(f.blk), ==, -EIO);
    f.s->error[MEM_FLUSH] = 0;
    g_assert_cmpint(blk_flush(f.blk), ==, 0);
    g_assert_cmpint(f.s->calls[MEM_FLUSH], ==, 3);
    g_assert_cmphex(f.s->durable[0], ==, 1);
    fixture_free(&f);
}

static void test_fua(gconstpointer native)
{
    Fixture f;
    uint8_t buf[512] = { 1 };
    BdrvRequestFlags fua = native ? BDRV_REQ_FUA : 0;

    fixture_init(&f, (MemConfig) { .write_flags = fua, .zero_flags = fua, .bl.max_transfer = 4096 });
    mem_fill(f.mem, 0, 1 * MiB, 1);
    memcpy(f.s->durable, f.s->data, 1 * MiB);
    g_assert_cmpint(blk_pwrite(f.blk, 512, 512, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmphex(f.s->durable[512], ==, 1);
    g_assert_cmphex(f.s->durable[513], ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 65536, 65536, BDRV_REQ_FUA), ==, 0);
    g_assert(buffer_is_zero(f.s->durable + 65536, 65536));
    g_assert_cmpint(f.s->calls[MEM_FLUSH], ==, native ? 0 : 2);
    /* Zeroes that the driver refuses are written, and those are durable too. */
    f.s->error[MEM_ZERO] = -ENOTSUP;
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 2 * 65536, 65536, BDRV_REQ_FUA), ==, 0);
    g_assert(buffer_is_zero(f.s->durable + 2 * 65536, 65536));
    if (native) {
        /* All of it was durable: a flush has nothing to do. */
        g_assert_cmpint(blk_flush(f.blk), ==, 0);
        g_assert_cmpint(f.s->calls[MEM_FLUSH], ==, 0);
    }
    fixture_free(&f);
}

static void test_no_flush(void)
{
    Fixture f;
    uint8_t buf[512] = { 1 };

    fixture_init(&f, (MemConfig) { .flags = BDRV_O_NO_FLUSH });
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpint(blk_flush(f.blk), ==, 0);
    g_assert_cmpint(f.s->calls[MEM_FLUSH], ==, 0);
    fixture_free(&f);
}

/* ---- many at once ---- */

enum { WRITERS = 24, ROUNDS = 20 };

typedef struct Writer {
    Fixture *f;
    int index;
} Writer;

static void coroutine_fn writer_co(void *opaque)
{
    Writer *w = opaque;
    Fixture *f = w->f;

    for (int i = 1; i <= ROUNDS; i++) {
        uint8_t byte = i;

        g_assert_cmpint(blk_co_pwrite(f->blk, w->index * 100, 1, &byte, 0), ==, 0);
        g_assert_cmpint(blk_co_flush(f->blk), ==, 0);
        pthread_mutex_lock(&f->s->lock);
        g_assert_cmphex(f->s->durable[w->index * 100], ==, byte);
        pthread_mutex_unlock(&f->s->lock);
    }
    __atomic_fetch_sub(&f->running, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

static bool writers_run(void *opaque)
{
    return __atomic_load_n(&((Fixture *)opaque)->running, __ATOMIC_SEQ_CST) > 0;
}

static void test_merged(void)
{
    IOThread *t = iothread_create("t", NULL, &error_abort);
    Writer writer[WRITERS];
    Fixture f;

    fixture_init(&f, (MemConfig) { .yield_percent = 60, .sleep_us_max = 30 });
    f.running = WRITERS;
    for (int i = 0; i < WRITERS; i++) {
        writer[i] = (Writer) { &f, i };
        aio_co_enter(i % 2 ? iothread_get_aio_context(t) : qemu_get_aio_context(),
                     qemu_coroutine_create(writer_co, &writer[i]));
    }
    aio_wait_while(writers_run, &f);
    g_assert_cmpint(f.s->in_driver_max[MEM_FLUSH], ==, 1);
    g_assert_cmpint(f.s->calls[MEM_FLUSH], <, WRITERS * ROUNDS / 2);
    fixture_free(&f);
    iothread_destroy(t, &error_abort);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/io/flush/once", test_once);
    g_test_add_func("/io/flush/failure-is-not-forgotten", test_failure_is_not_forgotten);
    g_test_add_data_func("/io/flush/fua-native", "native", test_fua);
    g_test_add_data_func("/io/flush/fua-by-flush", NULL, test_fua);
    g_test_add_func("/io/flush/no-flush", test_no_flush);
    g_test_add_func("/io/flush/merged", test_merged);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

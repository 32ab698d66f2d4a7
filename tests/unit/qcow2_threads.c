/* SPDX-License-Identifier: MIT */
/* qcow2_threads.c: one image is used from several threads at once, in neighbouring sectors of the
 * same clusters.
 *
 * Method: iothreads write, read back, zero, discard and flush; each worker owns every n-th
 * sector and knows what it holds. Under TSan races show; elsewhere lost updates do.
 */
#include "tests/unit/driver_util.h"

#define THREADS 3
#define WORKERS 8               /* in all */
#define SECTORS 4096
#define OPS 400

typedef struct Worker {
    unsigned id;
    BdrvChild *child;
    Prng prng;
    uint8_t value[SECTORS / WORKERS];
} Worker;

static unsigned running;

static void coroutine_fn worker_co_op(Worker *w)
{
    uint64_t mine = prng_below(&w->prng, SECTORS / WORKERS);
    int64_t at = (mine * WORKERS + w->id) * 512;
    unsigned what = prng_below(&w->prng, 20);
    uint8_t buf[512];

    if (what == 0) {
        g_assert_cmpint(bdrv_co_flush(w->child->bs), ==, 0);
    } else if (what == 1) {
        g_assert_cmpint(bdrv_co_pwrite_zeroes(w->child, at, 512, 0), ==, 0);
        w->value[mine] = 0;
    } else if (what < 12) {
        w->value[mine] = 1 + prng_below(&w->prng, 255);
        memset(buf, w->value[mine], 512);
        g_assert_cmpint(bdrv_co_pwrite(w->child, at, 512, buf, 0), ==, 0);
    } else {
        g_assert_cmpint(bdrv_co_pread(w->child, at, 512, buf, 0), ==, 0);
        g_assert_cmpint(buf[0], ==, w->value[mine]);
        g_assert_cmpint(buf[511], ==, w->value[mine]);
    }
}

static void coroutine_fn worker_co_run(void *opaque)
{
    Worker *w = opaque;

    for (unsigned i = 0; i < OPS; i++) {
        worker_co_op(w);
    }
    bdrv_dec_in_flight(w->child->bs);
    __atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

static bool some_run(void *opaque)
{
    return __atomic_load_n(&running, __ATOMIC_SEQ_CST) > 0;
}

static void test_threads(const void *opaque)
{
    const char *backing = opaque;
    g_autofree char *json = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"l2-cache-size\":1024,\"backing\":%s,"
        "\"file\":{\"driver\":\"file\",\"filename\":\"t.qcow2\"}}", backing);
    IOThread *threads[THREADS];
    Worker *workers = g_new0(Worker, WORKERS);

    test_make_file("t.raw", SECTORS * 512);
    test_make_file("t.qcow2", 0);
    test_create("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"t.qcow2\"},"
                "\"size\":2097152,\"cluster-size\":4096}", &error_abort);
    BdrvChild *c = test_attach(test_open(json));

    for (unsigned i = 0; i < THREADS; i++) {
        g_autofree char *id = g_strdup_printf("t%u", i);

        threads[i] = iothread_create(id, &(IOThreadParams) { 0 }, &error_abort);
    }
    running = WORKERS;
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (Worker) { .id = i, .child = c, .prng = { i } };
        bdrv_inc_in_flight(c->bs);
        aio_co_enter(i % (THREADS + 1) < THREADS ? iothread_get_aio_context(threads[i % (THREADS + 1)])
                                                 : qemu_get_aio_context(),
                     qemu_coroutine_create(worker_co_run, &workers[i]));
    }
    aio_wait_while(some_run, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        g_assert_cmpint(iothread_destroy(threads[i], &error_abort), ==, 0);
    }
    bdrv_root_unref_child(c);
    if (test_have("qemu-img")) {
        g_assert_cmpint(test_shell("qemu-img check -q t.qcow2"), ==, 0);
    }
    g_free(workers);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_data_func("/qcow2/threads/alone", "null", test_threads);
    g_test_add_data_func("/qcow2/threads/backing",
                         "{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"t.raw\"}}", test_threads);
    return test_end();
}

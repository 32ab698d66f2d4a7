/* SPDX-License-Identifier: MIT */
/* qcow2_full.c: when the file cannot grow, no entry is left that names what is not there.
 *
 * Method: the process's limit of file sizes stands for a full disk. Many small writes at once
 * run into it; those that were acknowledged must read back, the image must be without
 * errors (leaks are allowed), and the work goes on when there is room again.
 */
#include "tests/unit/driver_util.h"
#include <signal.h>
#include <sys/resource.h>

#define WRITES     64
#define CLUSTER    (64 * KiB)

typedef struct Writer {
    BdrvChild *child;
    int64_t offset;
    uint8_t data[4096];
    int ret;
} Writer;

static unsigned running;
static Writer writers[WRITES];

static void coroutine_fn writer_co_run(void *opaque)
{
    Writer *w = opaque;

    w->ret = bdrv_co_pwrite(w->child, w->offset, sizeof(w->data), w->data, 0);
    running--;
}

static void limit_set(rlim_t bytes)
{
    struct rlimit limit;

    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    limit.rlim_cur = bytes;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
}

static BdrvChild *image_open(void)
{
    return test_attach(test_open("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                                 "\"filename\":\"full.qcow2\"}}"));
}

/* 0: no error; 3: leaks. */
static void image_check_errors(void)
{
    if (test_have("qemu-img")) {
        int status = test_shell("qemu-img check -q full.qcow2");

        g_assert_true(status == 0 || status == 3);
    }
}

static unsigned read_back(BdrvChild *c)
{
    uint8_t back[4096];
    unsigned failed = 0;

    for (unsigned i = 0; i < WRITES; i++) {
        if (writers[i].ret < 0) {
            failed++;
            continue;
        }
        g_assert_cmpint(test_read(c, writers[i].offset, sizeof(back), back), ==, 0);
        g_assert_cmpmem(back, sizeof(back), writers[i].data, sizeof(back));
    }
    return failed;
}

/* @per_cluster of them go to the same cluster: some of those work, some do not. */
static void test_full(const void *opaque)
{
    const unsigned per_cluster = GPOINTER_TO_UINT(opaque);
    BdrvChild *c;

    test_make_file("full.qcow2", 0);
    g_assert_cmpint(test_create("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":"
                                "\"full.qcow2\"},\"size\":67108864}", &error_abort), ==, 0);
    c = image_open();
    memset(writers[0].data, 0xee, sizeof(writers[0].data));
    /* Space that may be entered first and written afterwards: a write has worked there. */
    g_assert_cmpint(test_write(c, 60 * MiB, 4096, writers[0].data), ==, 0);
    limit_set(8 * CLUSTER + 6144);
    for (unsigned i = 0; i < WRITES; i++) {
        Writer *w = &writers[i];

        w->child = c;
        w->offset = i / per_cluster * (int64_t)CLUSTER + i % per_cluster * 4096;
        memset(w->data, i + 1, sizeof(w->data));
        running++;
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(writer_co_run, w));
    }
    while (running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(read_back(c), >, 0);
    test_flush(c);
    read_back(c);
    bdrv_root_unref_child(c);
    image_check_errors();

    limit_set(RLIM_INFINITY);
    c = image_open();
    read_back(c);
    for (unsigned i = 0; i < WRITES; i++) {
        writers[i].ret = test_write(c, writers[i].offset, sizeof(writers[i].data), writers[i].data);
        g_assert_cmpint(writers[i].ret, ==, 0);
    }
    g_assert_cmpint(read_back(c), ==, 0);
    bdrv_root_unref_child(c);
    image_check_errors();
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    signal(SIGXFSZ, SIG_IGN);
    g_test_add_data_func("/qcow2/full/one-write-a-cluster", GUINT_TO_POINTER(1), test_full);
    g_test_add_data_func("/qcow2/full/writes-share-clusters", GUINT_TO_POINTER(4), test_full);
    g_test_add_data_func("/qcow2/full/whole-clusters", GUINT_TO_POINTER(16), test_full);
    return test_end();
}

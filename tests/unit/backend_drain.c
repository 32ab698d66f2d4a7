/* SPDX-License-Identifier: MIT */
/* backend_drain.c: requests and drained sections; serialising requests; names and policy.
 *
 * Goal: in a drained section nothing is in flight and what comes waits, in order; nothing is lost.
 */
#include "base/osdep.h"
#include "memdrv.h"

typedef struct Fixture {
    BlockDriverState *mem;
    BlockBackend *blk;
    MemState *s;
    GArray *order;
    unsigned running;
    int begins, ends;
} Fixture;

typedef struct Request {
    Fixture *f;
    int index;
    int64_t offset, bytes;
    BdrvRequestFlags flags;
    int ret;
    bool done;
} Request;

static void fixture_init(Fixture *f, MemConfig config)
{
    memset(f, 0, sizeof(*f));
    config.size = 1 * MiB;
    f->mem = mem_node_new("mem0", &config);
    f->blk = mem_backend_new(f->mem);
    f->s = mem_state(f->mem);
    f->order = g_array_new(false, false, sizeof(int));
}

static void fixture_free(Fixture *f)
{
    blk_unref(f->blk);
    bdrv_unref(f->mem);
    g_array_free(f->order, true);
}

static void coroutine_fn request_co(void *opaque)
{
    Request *r = opaque;
    g_autofree uint8_t *buf = g_malloc0(r->bytes);

    r->ret = blk_co_pwrite(r->f->blk, r->offset, r->bytes, buf, r->flags);
    r->done = true;
    g_array_append_val(r->f->order, r->index);
    r->f->running--;
}

static void request_start(Request *r)
{
    r->f->running++;
    qemu_coroutine_enter(qemu_coroutine_create(request_co, r));
}

static bool requests_run(void *opaque)
{
    return ((Fixture *)opaque)->running > 0;
}

static void test_queue_in_order(void)
{
    Request r[10];
    Fixture f;

    fixture_init(&f, (MemConfig) { 0 });
    bdrv_drained_begin(f.mem);
    for (int i = 0; i < 10; i++) {
        r[i] = (Request) { .f = &f, .index = i, .bytes = 512 };
        request_start(&r[i]);
    }
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
    g_assert_cmpint(f.s->calls[MEM_WRITE], ==, 0);
    g_assert_cmpint(f.running, ==, 10);
    bdrv_drained_end(f.mem);
    aio_wait_while(requests_run, &f);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpint(g_array_index(f.order, int, i), ==, i);
        g_assert_cmpint(r[i].ret, ==, 0);
    }
    fixture_free(&f);
}

static void test_waits_for_in_flight(void)
{
    Request r[10];
    Fixture f;

    fixture_init(&f, (MemConfig) { .yield_percent = 100, .sleep_us_max = 500 });
    for (int i = 0; i < 10; i++) {
        r[i] = (Request) { .f = &f, .bytes = 512, .offset = i * 100 };
        request_start(&r[i]);
    }
    g_assert_cmpint(f.running, ==, 10);
    bdrv_drained_begin(f.mem);
    g_assert_cmpint(f.mem->in_flight, ==, 0);
    g_assert_cmpint(f.running, ==, 0);
    bdrv_drained_end(f.mem);
    fixture_free(&f);
}

/* A job's backend goes on while drained; its owner pauses by itself. */
static void test_no_queuing(void)
{
    Fixture f;
    uint8_t buf[512] = { 0 };

    fixture_init(&f, (MemConfig) { 0 });
    blk_set_disable_request_queuing(f.blk, true);
    bdrv_drained_begin(f.mem);
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, 0);
    bdrv_drained_end(f.mem);
    fixture_free(&f);
}

/* The medium goes while requests wait. */
static void test_removed_while_queued(void)
{
    Request r;
    Fixture f;

    fixture_init(&f, (MemConfig) { 0 });
    r = (Request) { .f = &f, .bytes = 512 };
    bdrv_drained_begin(f.mem);
    request_start(&r);
    blk_remove_bs(f.blk);
    bdrv_drained_end(f.mem);
    aio_wait_while(requests_run, &f);
    g_assert_cmpint(r.ret, ==, -ENOMEDIUM);
    g_assert(blk_bs(f.blk) == NULL);
    fixture_free(&f);
}

/* A copy between two drained backends keeps neither of them from becoming quiet. */
static void coroutine_fn copy_co(void *opaque)
{
    Request *r = opaque;
    Fixture *f = r->f;

    r->ret = blk_co_copy_range(f->blk, 0, f[1].blk, 0, 4096, 0, 0);
    f->running--;
}

static void test_copy_waits_for_neither(void)
{
    Fixture f[2];
    Request r = { .f = f };

    memset(f, 0, sizeof(f));
    for (int i = 0; i < 2; i++) {
        f[i].mem = mem_node_new(i ? "b" : "a", &(MemConfig) { .size = 1 * MiB });
        f[i].blk = mem_backend_new(f[i].mem);
        f[i].order = g_array_new(false, false, sizeof(int));
    }
    bdrv_drained_begin(f[1].mem);
    f->running = 1;
    qemu_coroutine_enter(qemu_coroutine_create(copy_co, &r));
    bdrv_drained_begin(f[0].mem);       /* would wait for ever if the copy were counted */
    bdrv_drained_end(f[1].mem);
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
    g_assert_cmpint(f->running, ==, 1);
    bdrv_drained_end(f[0].mem);
    aio_wait_while(requests_run, f);
    g_assert_cmpint(r.ret, ==, 0);
    fixture_free(&f[0]);
    fixture_free(&f[1]);
}

static void count_begin_cb(void *opaque)
{
    ((Fixture *)opaque)->begins++;
}

static void count_end_cb(void *opaque)
{
    ((Fixture *)opaque)->ends++;
}

static void test_owner_hears_once(void)
{
    const BlockDevOps ops = { .drained_begin = count_begin_cb, .drained_end = count_end_cb };
    Fixture f;

    fixture_init(&f, (MemConfig) { 0 });
    blk_set_dev_ops(f.blk, &ops, &f);
    bdrv_drained_begin(f.mem);
    bdrv_drained_begin(f.mem);
    bdrv_drain_all_begin();
    g_assert_cmpint(f.begins, ==, 1);
    bdrv_drain_all_end();
    bdrv_drained_end(f.mem);
    g_assert_cmpint(f.ends, ==, 0);
    bdrv_drained_end(f.mem);
    g_assert_cmpint(f.ends, ==, 1);
    blk_set_dev_ops(f.blk, NULL, NULL);
    fixture_free(&f);
}

/* ---- serialising ---- */

static void test_serialising_waits_and_others_for_it(void)
{
    Request r[3];
    Fixture f;

    fixture_init(&f, (MemConfig) { .yield_percent = 100, .sleep_us_max = 2000, .bl.request_alignment = 512 });
    r[0] = (Request) { .f = &f, .index = 0, .offset = 0, .bytes = 4096 };
    r[1] = (Request) { .f = &f, .index = 1, .offset = 1024, .bytes = 512, .flags = BDRV_REQ_SERIALISING };
    r[2] = (Request) { .f = &f, .index = 2, .offset = 1024, .bytes = 4096 };
    for (int i = 0; i < 3; i++) {
        request_start(&r[i]);
    }
    aio_wait_while(requests_run, &f);
    g_assert_cmpint(f.s->in_driver_max[MEM_WRITE], ==, 1);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(g_array_index(f.order, int, i), ==, i);
    }
    fixture_free(&f);
}

static void test_serialising_no_wait(void)
{
    Request r[3];
    Fixture f;

    fixture_init(&f, (MemConfig) { .yield_percent = 100, .sleep_us_max = 2000 });
    r[0] = (Request) { .f = &f, .offset = 0, .bytes = 4096, .flags = BDRV_REQ_SERIALISING };
    r[1] = (Request) { .f = &f, .offset = 0, .bytes = 512, .flags = BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT };
    r[2] = (Request) { .f = &f, .offset = 8192, .bytes = 512, .flags = BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT };
    for (int i = 0; i < 3; i++) {
        request_start(&r[i]);
    }
    g_assert(r[1].done);
    g_assert_cmpint(r[1].ret, ==, -EBUSY);
    aio_wait_while(requests_run, &f);
    g_assert_cmpint(r[0].ret, ==, 0);
    g_assert_cmpint(r[2].ret, ==, 0);
    fixture_free(&f);
}

/* After enough requests without a serialising one, nobody pays for records any more. */
static void test_tracking_ends(void)
{
    uint8_t buf[512] = { 0 };
    Fixture f;

    fixture_init(&f, (MemConfig) { 0 });
    g_assert_cmpint(f.mem->tracking, ==, 0);
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, BDRV_REQ_SERIALISING), ==, 0);
    g_assert_cmpint(f.mem->tracking, ==, 1);
    for (int i = 0; i < 2000; i++) {
        g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, 0);
    }
    g_assert_cmpint(f.mem->tracking, ==, 0);
    fixture_free(&f);
}

/* ---- names, policy, account ---- */

static void test_names(void)
{
    BlockBackend *other = blk_new(qemu_get_aio_context(), 0, BLK_PERM_ALL);
    uint8_t buf[512] = { 0 };
    BlockAcctStats stats;
    Error *err = NULL;
    Fixture f;

    fixture_init(&f, (MemConfig) { 0 });
    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_set_name(f.blk, "disk", &error_abort), ==, 0);
    g_assert(blk_by_name("disk") == f.blk);
    g_assert_cmpint(blk_set_name(other, "disk", &err), ==, -EEXIST);
    g_assert_cmpstr(error_get_pretty(err), ==, "Device with id 'disk' already exists");
    error_free(err);
    err = NULL;
    g_assert_cmpint(blk_set_name(other, "1x", &err), ==, -EINVAL);
    error_free(err);
    err = NULL;
    g_assert_cmpint(blk_set_name(other, "mem0", &err), ==, -EEXIST);
    error_free(err);

    g_assert_cmpint(blk_pwrite(f.blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(f.blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(f.blk, 2 * MiB, 512, buf, 0), ==, -EIO);
    f.s->error[MEM_READ] = -EIO;
    g_assert_cmpint(blk_pread(f.blk, 0, 512, buf, 0), ==, -EIO);
    blk_get_stats(f.blk, &stats);
    g_assert_cmpint(stats.ops[BLOCK_ACCT_WRITE], ==, 1);
    g_assert_cmpint(stats.bytes[BLOCK_ACCT_READ], ==, 512);
    g_assert_cmpint(stats.failed[BLOCK_ACCT_READ], ==, 1);
    g_assert_cmpint(stats.invalid[BLOCK_ACCT_READ], ==, 1);
    g_assert_cmpint(stats.total_time_ns[BLOCK_ACCT_WRITE], >, 0);
    blk_unref(other);
    fixture_free(&f);
}

static void test_policy(void)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), 0, BLK_PERM_ALL);

    g_assert_cmpint(blk_get_error_action(blk, true, ENOSPC), ==, BLOCK_ERROR_ACTION_REPORT);
    g_assert_cmpint(blk_get_error_action(blk, false, ENOSPC), ==, BLOCK_ERROR_ACTION_STOP);
    g_assert_cmpint(blk_get_error_action(blk, false, EIO), ==, BLOCK_ERROR_ACTION_REPORT);
    blk_set_on_error(blk, BLOCKDEV_ON_ERROR_IGNORE, BLOCKDEV_ON_ERROR_STOP);
    g_assert_cmpint(blk_get_error_action(blk, true, EIO), ==, BLOCK_ERROR_ACTION_IGNORE);
    g_assert_cmpint(blk_get_error_action(blk, false, EIO), ==, BLOCK_ERROR_ACTION_STOP);
    blk_unref(blk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/backend/drain/queue-in-order", test_queue_in_order);
    g_test_add_func("/backend/drain/waits-for-in-flight", test_waits_for_in_flight);
    g_test_add_func("/backend/drain/no-queuing", test_no_queuing);
    g_test_add_func("/backend/drain/removed-while-queued", test_removed_while_queued);
    g_test_add_func("/backend/drain/copy-waits-for-neither", test_copy_waits_for_neither);
    g_test_add_func("/backend/drain/owner-hears-once", test_owner_hears_once);
    g_test_add_func("/backend/serialising/waits", test_serialising_waits_and_others_for_it);
    g_test_add_func("/backend/serialising/no-wait", test_serialising_no_wait);
    g_test_add_func("/backend/serialising/tracking-ends", test_tracking_ends);
    g_test_add_func("/backend/names", test_names);
    g_test_add_func("/backend/policy", test_policy);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

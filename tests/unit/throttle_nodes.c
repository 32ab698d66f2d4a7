/* SPDX-License-Identifier: MIT */
/* throttle_nodes.c: nodes of a throttle group keep to its limits together, take turns, and are drained at once. */
#include "tests/unit/driver_util.h"
#include "block/block-backend.h"
#include "drivers/filter/throttle_group.h"

#define NODE "{\"driver\":\"throttle\",\"throttle-group\":\"g\",\"file\":{\"driver\":\"null-co\"}}"

typedef struct Guest {
    BlockBackend *blk;
    unsigned done, *running;
} Guest;

static void coroutine_fn guest_co(void *opaque)
{
    Guest *g = opaque;
    static uint8_t buf[4096];

    g_assert_cmpint(blk_co_pwrite(g->blk, 0, sizeof(buf), buf, 0), ==, 0);
    g->done++;
    --*g->running;
    aio_wait_kick();
}

static void start(Guest *g, unsigned n)
{
    *g->running += n;
    for (unsigned i = 0; i < n; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(guest_co, g));
    }
}

static bool more_than(void *opaque)
{
    unsigned *p = opaque;

    return p[0] > p[1];
}

static void wait_until_left(unsigned *running, unsigned left)
{
    /* The count and its bound lie beside each other. */
    running[1] = left;
    aio_wait_while(more_than, running);
}

static BlockBackend *attach(BlockDriverState *bs)
{
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_WRITE | BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);

    bdrv_unref(bs);
    return blk;
}

static ThrottleGroup *group_of(int64_t iops)
{
    ThrottleLimits limits = { .has_iops_total = true, .iops_total = iops };

    return throttle_group_create("g", &(ThrottleGroupProperties) { .limits = &limits }, &error_abort);
}

static void test_limit_is_shared(void)
{
    ThrottleGroup *group = group_of(200);       /* 20 at once */
    unsigned running[2] = { 0, 0 };
    Guest a = { attach(test_open(NODE)), 0, running }, b = { attach(test_open(NODE)), 0, running };
    int64_t began = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    g_assert_cmpint(throttle_group_destroy(group, NULL), ==, -EBUSY);
    start(&a, 60);
    start(&b, 40);
    wait_until_left(running, 30);
    /* 20 of the first, then one each in turn, while there are any. */
    g_assert_cmpint(abs((int)a.done - 20 - (int)b.done), <=, 3);
    wait_until_left(running, 0);
    int64_t took_ms = (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - began) / 1000000;

    g_assert_cmpint(took_ms, >=, 390);          /* 80 at 200 a second */
    blk_unref(a.blk);
    blk_unref(b.blk);
    g_assert_cmpint(throttle_group_destroy(group, &error_abort), ==, 0);
    g_assert_null(throttle_group_by_id("g"));
}

static void test_drain_lets_all_go(void)
{
    ThrottleGroup *group = group_of(1);
    unsigned running[2] = { 0, 0 };
    Guest a = { attach(test_open(NODE)), 0, running }, b = { attach(test_open(NODE)), 0, running };
    int64_t began = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    start(&a, 20);
    start(&b, 20);
    g_assert_cmpint(running[0], >=, 38);
    bdrv_drain_all();
    g_assert_cmpint(running[0], ==, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - began, <, 2 * NANOSECONDS_PER_SECOND);
    blk_unref(a.blk);
    blk_unref(b.blk);
    throttle_group_destroy(group, &error_abort);
}

static void test_refusals(void)
{
    test_open_fails(NODE, "Throttle group 'g' does not exist");
    g_assert_null(throttle_group_create("g", &(ThrottleGroupProperties) { .has_x_iops_total_max = true,
                                                                          .x_iops_total_max = 5 }, NULL));
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/throttle/limit-is-shared", test_limit_is_shared);
    g_test_add_func("/throttle/drain-lets-all-go", test_drain_lets_all_go);
    g_test_add_func("/throttle/refusals", test_refusals);
    return test_end();
}

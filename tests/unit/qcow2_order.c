/* SPDX-License-Identifier: MIT */
/* qcow2_order.c: requests to one cluster that end in another order than they began.
 *
 * Method: the host's submit is wrapped, so that a write can be kept from the file, or its end
 * from whoever waits for it, until the test says so.
 */
#include "host_hook.h"
#include "driver_util.h"
#include "aio/host.h"

static bool hold_next_write;            /* before it is done */
static bool hold_next_end;              /* after it */
static HostRequest *held;
static void (*held_complete)(HostRequest *req);
static bool held_is_done;

static void end_held(HostRequest *req)
{
    held_is_done = true;
}

static bool holding_submit(HostLoop *loop, HostRequest *req)
{
    if (req->op == HOST_WRITE && hold_next_write) {
        hold_next_write = false;
        held = req;
        return false;
    }
    if (req->op == HOST_WRITE && hold_next_end) {
        hold_next_end = false;
        held = req;
        held_is_done = false;
        held_complete = req->complete;
        req->complete = end_held;
        held_is_done = host_real->submit(loop, req);
        return false;
    }
    return host_real->submit(loop, req);
}

static bool end_is_missing(void *opaque)
{
    return !held_is_done;
}

typedef struct Write {
    BdrvChild *child;
    int64_t offset;
    uint8_t byte;
    bool done;
} Write;

static void coroutine_fn write_co(void *opaque)
{
    Write *w = opaque;
    uint8_t buf[512];

    memset(buf, w->byte, sizeof(buf));
    g_assert_cmpint(bdrv_co_pwrite(w->child, w->offset, sizeof(buf), buf, 0), ==, 0);
    w->done = true;
    aio_wait_kick();
}

static bool write_on_its_way(void *opaque)
{
    return !((Write *)opaque)->done;
}

static void start(Write *w)
{
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(write_co, w));
    while (!held && aio_poll(qemu_get_aio_context(), false)) {
        /* until it is held, or has got as far as it does alone */
    }
}

/* A slow write in place; meanwhile its cluster is zeroed, and written elsewhere; the slow one ends, then a
 * zero of its range is acknowledged: that is what reads. */
static void test_zeroed_under_a_write(void)
{
    uint8_t data[65536], back[65536];

    test_make_file("a.qcow2", 0);
    g_assert_cmpint(test_create("{\"driver\":\"qcow2\",\"size\":1048576,\"file\":{\"driver\":\"file\","
                                "\"filename\":\"a.qcow2\"}}", &error_abort), ==, 0);
    BdrvChild *c = test_attach(test_open("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                                         "\"filename\":\"a.qcow2\"}}"));
    Write slow = { c, 4096, 0x22 }, other = { c, 32768, 0x33 };

    memset(data, 0x11, sizeof(data));
    g_assert_cmpint(test_write(c, 0, sizeof(data), data), ==, 0);
    g_assert_cmpint(test_flush(c), ==, 0);
    host_hook = holding_submit;

    hold_next_write = true;
    start(&slow);
    g_assert_nonnull(held);
    HostRequest *slow_req = g_steal_pointer(&held);

    g_assert_cmpint(test_zero(c, 0, sizeof(data), 0), ==, 0);
    hold_next_end = true;
    start(&other);
    g_assert_nonnull(held);
    aio_wait_while(end_is_missing, NULL);

    host_hook = NULL;
    if (host_real->submit(aio_host_loop(qemu_get_aio_context()), slow_req)) {
        slow_req->complete(slow_req);
    }
    aio_wait_while(write_on_its_way, &slow);
    g_assert_cmpint(test_zero(c, 4096, 512, 0), ==, 0);
    held_complete(held);
    aio_wait_while(write_on_its_way, &other);

    g_assert_cmpint(test_read(c, 0, sizeof(back), back), ==, 0);
    g_assert_true(buffer_is_zero(back, 32768));
    g_assert_cmphex(back[32768], ==, 0x33);
    g_assert_true(buffer_is_zero(back + 33280, sizeof(back) - 33280));
    bdrv_root_unref_child(c);
}

/* With nobody in the way the cluster stays: the next write finds its place. */
static void test_zeroed_at_rest_stays(void)
{
    uint8_t data[65536];

    test_make_file("a.qcow2", 0);
    g_assert_cmpint(test_create("{\"driver\":\"qcow2\",\"size\":1048576,\"file\":{\"driver\":\"file\","
                                "\"filename\":\"a.qcow2\"}}", &error_abort), ==, 0);
    BdrvChild *c = test_attach(test_open("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                                         "\"filename\":\"a.qcow2\"}}"));
    TestRequest before = { c, T_STATUS, 0, sizeof(data) }, after = before;

    memset(data, 0x11, sizeof(data));
    g_assert_cmpint(test_write(c, 0, sizeof(data), data), ==, 0);
    test_request(&before);
    g_assert_cmpint(test_zero(c, 0, sizeof(data), 0), ==, 0);
    g_assert_cmpint(test_write(c, 0, 512, data), ==, 0);
    test_request(&after);
    g_assert_cmpint(before.map, >, 0);
    g_assert_cmpint(after.map, ==, before.map);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    host_hook_install();
    test_begin(&argc, &argv);
    g_test_add_func("/qcow2/order/zeroed-under-a-write", test_zeroed_under_a_write);
    g_test_add_func("/qcow2/order/zeroed-at-rest-stays", test_zeroed_at_rest_stays);
    return test_end();
}

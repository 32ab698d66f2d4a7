/* SPDX-License-Identifier: MIT */
/* Coroutines, locks, timers, bottom halves, threads and host files, on whichever back end
 * LIVEBLK_HOST names. */
#include "host_hook.h"
#include "base/osdep.h"
#include "aio/host.h"
#include <fcntl.h>

static GString *order;

static void coroutine_fn two_steps(void *opaque)
{
    g_string_append_printf(order, "%s1 ", (char *)opaque);
    qemu_coroutine_yield();
    g_string_append_printf(order, "%s2 ", (char *)opaque);
}

static void test_order(void)
{
    order = g_string_new("");
    Coroutine *a = qemu_coroutine_create(two_steps, (void *)"a");
    Coroutine *b = qemu_coroutine_create(two_steps, (void *)"b");

    qemu_coroutine_enter(a);
    qemu_coroutine_enter(b);
    aio_co_wake(a);
    qemu_coroutine_enter(b);
    g_assert_cmpstr(order->str, ==, "a1 b1 a2 b2 ");
    g_string_free(order, TRUE);
}

static void coroutine_fn nothing(void *opaque)
{
    ++*(int *)opaque;
}

static void test_many(void)
{
    int n = 0;

    for (int i = 0; i < 100000; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(nothing, &n));
    }
    g_assert_cmpint(n, ==, 100000);
}

static void timer_cb(void *opaque)
{
    g_string_append(order, opaque);
}

static void coroutine_fn sleeper(void *opaque)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    co_sleep_ns(5000000);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - start, >=, 5000000);
    *(bool *)opaque = true;
}

static void test_timers(void)
{
    QEMUTimer a, b, c;
    AioContext *ctx = qemu_get_aio_context();
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    bool slept = false;

    order = g_string_new("");
    timer_init_ns(&a, ctx, timer_cb, (void *)"a");
    timer_init_ns(&b, ctx, timer_cb, (void *)"b");
    timer_init_ns(&c, ctx, timer_cb, (void *)"c");
    timer_mod_ns(&a, now + 3000000);
    timer_mod_ns(&b, now + 1000000);
    timer_mod_ns(&c, now + 2000000);
    timer_del(&c);
    while (timer_pending(&a)) {
        aio_poll(ctx, true);
    }
    g_assert_cmpstr(order->str, ==, "ba");
    g_string_free(order, TRUE);
    aio_co_run(sleeper, &slept);
    g_assert_true(slept);
}

/* ---- a mutex shared by coroutines of several threads ---- */
typedef struct Shared {
    CoMutex mutex;
    long counter;
    unsigned left;
} Shared;

static void coroutine_fn adder(void *opaque)
{
    Shared *s = opaque;

    for (int i = 0; i < 2000; i++) {
        qemu_co_mutex_lock(&s->mutex);
        long v = s->counter;
        if (i % 64 == 0) {
            aio_co_yield_fair();
        }
        s->counter = v + 1;
        qemu_co_mutex_unlock(&s->mutex);
    }
    __atomic_fetch_sub(&s->left, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

static bool shared_busy(void *opaque)
{
    return __atomic_load_n(&((Shared *)opaque)->left, __ATOMIC_SEQ_CST) > 0;
}

static void test_mutex_threads(void)
{
    Shared s = { .left = 6 };
    IOThread *t1 = iothread_create("t1", NULL, &error_abort);
    IOThread *t2 = iothread_create("t2", NULL, &error_abort);
    AioContext *ctxs[] = { qemu_get_aio_context(), iothread_get_aio_context(t1), iothread_get_aio_context(t2) };

    qemu_co_mutex_init(&s.mutex);
    for (int i = 0; i < 6; i++) {
        aio_co_enter(ctxs[i % 3], qemu_coroutine_create(adder, &s));
    }
    aio_wait_while(shared_busy, &s);
    g_assert_cmpint(s.counter, ==, 12000);
    iothread_destroy(t1, &error_abort);
    iothread_destroy(t2, &error_abort);
}

static void coroutine_fn traveller(void *opaque)
{
    Shared *s = opaque;
    AioContext *there = iothread_get_aio_context(iothread_by_id("t1"));

    for (int i = 0; i < 100; i++) {
        aio_co_reschedule_self(there);
        g_assert(qemu_get_current_aio_context() == there);
        aio_co_reschedule_self(qemu_get_aio_context());
        g_assert(qemu_in_main_thread());
    }
    s->left = 0;
    aio_wait_kick();
}

static void test_reschedule(void)
{
    Shared s = { .left = 1 };
    IOThread *t1 = iothread_create("t1", NULL, &error_abort);

    qemu_coroutine_enter(qemu_coroutine_create(traveller, &s));
    aio_wait_while(shared_busy, &s);
    iothread_destroy(t1, &error_abort);
}

static int burn(void *opaque)
{
    return *(int *)opaque * 2;
}

static void coroutine_fn file_co(void *opaque)
{
    g_autofree char *path = NULL;
    int ret, fd = g_file_open_tmp("liveblk-XXXXXX", &path, NULL), v = 21;
    char out[8192], in[8192];

    close(fd);
    HostFile *f = host_ops->file_open(path, O_RDWR, 0, &ret);

    g_assert(f);
    memset(out, 0x5a, sizeof(out));
    for (int guest = 0; guest < 2; guest++) {
        unsigned flags = guest ? HOST_FLAG_GUEST : 0;
        struct iovec iov[2] = { { out, 100 }, { out + 100, sizeof(out) - 100 } };
        struct iovec riov = { in, sizeof(in) };

        g_assert_cmpint(host_co_rw(f, true, 4096, iov, 2, sizeof(out), flags, 1), ==, 0);
        memset(in, 1, sizeof(in));
        g_assert_cmpint(host_co_rw(f, false, 8192, &riov, 1, sizeof(in), flags, 1), ==, 0);
        g_assert(!memcmp(in, out, 4096));
        g_assert_cmpint(in[4096], ==, 0);       /* past the end */
    }
    HostRequest req = { .op = HOST_FLUSH, .file = f };

    g_assert_cmpint(host_co_submit(&req), ==, 0);
    req = (HostRequest) { .op = HOST_STATUS, .file = f, .offset = 0, .bytes = 12288 };
    g_assert_cmpint(host_co_submit(&req), ==, 0);
    g_assert_false(req.status.data);
    g_assert_cmpint(req.status.bytes, ==, 4096);
    req = (HostRequest) { .op = HOST_TRUNCATE, .file = f, .offset = 100 };
    g_assert_cmpint(host_co_submit(&req), ==, 0);
    req = (HostRequest) { .op = HOST_STAT, .file = f };
    g_assert_cmpint(host_co_submit(&req), ==, 0);
    g_assert_cmpint(req.stat.length_bytes, ==, 100);
    g_assert_cmpint(thread_pool_submit_co(burn, &v), ==, 42);
    host_ops->file_close(f);
    unlink(path);
}

static void test_file(void)
{
    aio_co_run(file_co, NULL);
}

/* A read of a file that asks for aligned requests ends early, since the file does; before it goes on the file has
 * grown. What it asks for then is aligned too. */
static int growing_fd = -1;
static unsigned reads_seen;

static bool growing_submit(HostLoop *loop, HostRequest *req)
{
    if (req->op == HOST_READ) {
        g_assert_cmpint(req->offset % 4096, ==, 0);
        g_assert_cmpint(req->bytes % 4096, ==, 0);
        if (reads_seen++ && growing_fd >= 0) {
            char more[8192 - 5000];

            memset(more, 0x77, sizeof(more));
            g_assert_cmpint(pwrite(growing_fd, more, sizeof(more), 5000), ==, sizeof(more));
        }
    }
    return host_real->submit(loop, req);
}

static void coroutine_fn short_read_co(void *opaque)
{
    const bool *grows = opaque;
    g_autofree char *path = NULL;
    char buf[8192];
    struct iovec iov = { buf, sizeof(buf) };
    int ret, fd = g_file_open_tmp("liveblk-XXXXXX", &path, NULL);

    memset(buf, 0x11, sizeof(buf));
    g_assert_cmpint(pwrite(fd, buf, 5000, 0), ==, 5000);
    growing_fd = *grows ? fd : -1;
    reads_seen = 0;
    HostFile *f = host_ops->file_open(path, O_RDWR, 0, &ret);

    g_assert_cmpint(host_co_rw(f, false, 0, &iov, 1, sizeof(buf), 0, 4096), ==, 0);
    g_assert_cmpuint(reads_seen, ==, 2);
    g_assert_cmphex(buf[4999], ==, 0x11);
    g_assert_cmphex(buf[5000], ==, *grows ? 0x77 : 0);
    g_assert_cmphex(buf[8191], ==, *grows ? 0x77 : 0);
    host_ops->file_close(f);
    close(fd);
    unlink(path);
}

static void test_short_read(void)
{
    bool grows = false;

    host_hook = growing_submit;
    aio_co_run(short_read_co, &grows);
    grows = true;
    aio_co_run(short_read_co, &grows);
    host_hook = NULL;
}

typedef struct Pipe { int fd[2]; char got; int ret; bool done; } Pipe;

static void coroutine_fn pipe_reader(void *opaque)
{
    Pipe *p = opaque;

    p->ret = aio_co_wait_fd(p->fd[0], false);
    if (!p->ret) {
        g_assert_cmpint(read(p->fd[0], &p->got, 1), ==, 1);
    }
    p->done = true;
    aio_wait_kick();
}

static bool pipe_busy(void *opaque)
{
    return !((Pipe *)opaque)->done;
}

static void test_fd(void)
{
    for (int cancel = 0; cancel < 2; cancel++) {
        Pipe p = { .ret = 1 };

        g_assert(pipe(p.fd) == 0);
        qemu_coroutine_enter(qemu_coroutine_create(pipe_reader, &p));
        aio_poll(qemu_get_aio_context(), false);
        if (cancel) {
            aio_co_fd_cancel(p.fd[0]);
        } else {
            g_assert_cmpint(write(p.fd[1], "x", 1), ==, 1);
        }
        aio_wait_while(pipe_busy, &p);
        g_assert_cmpint(p.ret, ==, cancel ? -ECANCELED : 0);
        close(p.fd[0]);
        close(p.fd[1]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    host_hook_install();
    aio_init_main(NULL, &error_fatal);
    g_test_add_func("/co/order", test_order);
    g_test_add_func("/co/many", test_many);
    g_test_add_func("/timers", test_timers);
    g_test_add_func("/mutex/threads", test_mutex_threads);
    g_test_add_func("/co/reschedule", test_reschedule);
    g_test_add_func("/host/file", test_file);
    g_test_add_func("/host/file/short-read", test_short_read);
    g_test_add_func("/fd", test_fd);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

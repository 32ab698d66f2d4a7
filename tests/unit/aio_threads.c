/* SPDX-License-Identifier: MIT */
/* aio_threads.c: contexts and coroutine locks between threads, on whichever back end LIVEBLK_HOST
 * names.
 *
 * Goal: no wake-up is lost and none comes twice; locks exclude, are fair, and give what they
 * guard from one thread to the other. To be run under the thread checker: what the locks guard is
 * plain memory.
 */
#include "base/osdep.h"
#include "aio/host.h"
#include "base/prng.h"

enum { THREADS = 3, COROUTINES = 8 };

static IOThread *threads[THREADS];
static unsigned left;           /* atomic; coroutines that have not ended */

static AioContext *context(int i)
{
    int n = i % (THREADS + 1);

    return n == THREADS ? qemu_get_aio_context() : iothread_get_aio_context(threads[n]);
}

static void threads_start(void)
{
    for (int i = 0; i < THREADS; i++) {
        g_autofree char *id = g_strdup_printf("t%d", i);

        threads[i] = iothread_create(id, NULL, &error_abort);
    }
}

static void threads_end(void)
{
    for (int i = 0; i < THREADS; i++) {
        g_assert_cmpint(iothread_destroy(threads[i], &error_abort), ==, 0);
    }
}

static void one_ended(void)
{
    __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

static bool some_left(void *opaque)
{
    return __atomic_load_n(&left, __ATOMIC_SEQ_CST) > 0;
}

/* Start @n coroutines of @entry, spread over all contexts, and wait for their end. */
static void run_all(int n, CoroutineEntry *entry, void *(*arg)(int i))
{
    left = n;
    for (int i = 0; i < n; i++) {
        aio_co_enter(context(i), qemu_coroutine_create(entry, arg ? arg(i) : NULL));
    }
    aio_wait_while(some_left, NULL);
}

/* ---- mutex ---- */

static CoMutex mutex;
static int guarded;             /* plain: the lock guards it */
static unsigned tries_failed;

static void coroutine_fn mutex_co(void *opaque)
{
    for (int i = 0; i < 400; i++) {
        if (i % 5 == 0 && !qemu_co_mutex_trylock(&mutex)) {
            __atomic_fetch_add(&tries_failed, 1, __ATOMIC_RELAXED);
            continue;
        } else if (i % 5) {
            qemu_co_mutex_lock(&mutex);
        }
        int was = guarded;

        qemu_co_mutex_assert_locked(&mutex);
        if (i % 16 == 0) {
            aio_co_yield_fair();        /* the owner may suspend while it holds it */
        }
        guarded = was + 1;
        qemu_co_mutex_unlock(&mutex);
    }
    one_ended();
}

static void test_mutex(void)
{
    guarded = tries_failed = 0;
    qemu_co_mutex_init(&mutex);
    run_all(COROUTINES, mutex_co, NULL);
    g_assert_cmpint(guarded + tries_failed, ==, COROUTINES * 400);
    g_assert_cmpint(guarded, >=, COROUTINES * 320);
    g_assert_true(mutex.locked == 0 && STAILQ_EMPTY(&mutex.waiters));
}

static GString *order;

static void coroutine_fn fair_co(void *opaque)
{
    qemu_co_mutex_lock(&mutex);
    g_string_append(order, opaque);
    qemu_co_mutex_unlock(&mutex);
    one_ended();
}

/* First come, first served; also before one that comes just as it is let go. */
static void coroutine_fn fair_holder(void *opaque)
{
    qemu_co_mutex_lock(&mutex);
    for (const char *const *name = (const char *const[]) { "a", "b", "c", NULL }; *name; name++) {
        qemu_coroutine_enter(qemu_coroutine_create(fair_co, (void *)*name));
    }
    qemu_co_mutex_unlock(&mutex);
    g_assert_false(qemu_co_mutex_trylock(&mutex));      /* it is a's already */
    fair_co((void *)"d");
}

static void test_mutex_fair(void)
{
    order = g_string_new(NULL);
    qemu_co_mutex_init(&mutex);
    left = 4;
    aio_co_run(fair_holder, NULL);
    aio_wait_while(some_left, NULL);
    g_assert_cmpstr(order->str, ==, "abcd");
    g_string_free(order, TRUE);
}

/* ---- queue: producers and consumers of a bounded buffer ---- */

enum { ITEMS = 300, BUFFER = 4 };

static CoQueue not_full, not_empty;
static int buffer[BUFFER], buffered;
static int64_t produced, consumed;

static void coroutine_fn producer_co(void *opaque)
{
    for (int i = 0; i < ITEMS; i++) {
        qemu_co_mutex_lock(&mutex);
        while (buffered == BUFFER) {
            qemu_co_queue_wait(&not_full, &mutex);
        }
        buffer[buffered++] = i;
        produced += i;
        qemu_co_enter_next(&not_empty);
        qemu_co_mutex_unlock(&mutex);
    }
    one_ended();
}

static void coroutine_fn consumer_co(void *opaque)
{
    for (int i = 0; i < ITEMS; i++) {
        qemu_co_mutex_lock(&mutex);
        while (!buffered) {
            qemu_co_queue_wait(&not_empty, &mutex);
        }
        consumed += buffer[--buffered];
        qemu_co_enter_next(&not_full);
        qemu_co_mutex_unlock(&mutex);
    }
    one_ended();
}

static void coroutine_fn producer_or_consumer_co(void *opaque)
{
    (opaque ? producer_co : consumer_co)(NULL);
}

static void *odd(int i)
{
    return i / 2 % 2 ? &mutex : NULL;
}

static void test_queue(void)
{
    produced = consumed = buffered = 0;
    qemu_co_mutex_init(&mutex);
    qemu_co_queue_init(&not_full);
    qemu_co_queue_init(&not_empty);
    g_assert_true(qemu_co_queue_empty(&not_full));
    g_assert_false(qemu_co_enter_next(&not_full));
    run_all(COROUTINES, producer_or_consumer_co, odd);
    g_assert_cmpint(produced, ==, COROUTINES / 2 * (int64_t)ITEMS * (ITEMS - 1) / 2);
    g_assert_cmpint(consumed, ==, produced);
    g_assert_true(buffered == 0 && qemu_co_queue_empty(&not_full) && qemu_co_queue_empty(&not_empty));
}

/* ---- readers and writers ---- */

static CoRwlock rwlock;
static int pair[2];             /* equal whenever a reader looks */
static unsigned readers, readers_max;

static void coroutine_fn reader_once(void)
{
    qemu_co_rwlock_rdlock(&rwlock);
    unsigned now = __atomic_add_fetch(&readers, 1, __ATOMIC_RELAXED);

    if (now > __atomic_load_n(&readers_max, __ATOMIC_RELAXED)) {
        __atomic_store_n(&readers_max, now, __ATOMIC_RELAXED);
    }
    int a = pair[0];

    co_sleep_ns(10000);
    g_assert_cmpint(a, ==, pair[1]);
    __atomic_sub_fetch(&readers, 1, __ATOMIC_RELAXED);
    qemu_co_rwlock_unlock(&rwlock);
}

static void coroutine_fn writer_once(bool upgrade)
{
    if (upgrade) {
        qemu_co_rwlock_rdlock(&rwlock);
        qemu_co_rwlock_upgrade(&rwlock);
    } else {
        qemu_co_rwlock_wrlock(&rwlock);
    }
    g_assert_cmpuint(__atomic_load_n(&readers, __ATOMIC_RELAXED), ==, 0);
    pair[0]++;
    aio_co_yield_fair();
    pair[1]++;
    if (upgrade) {
        qemu_co_rwlock_downgrade(&rwlock);
        g_assert_cmpint(pair[0], ==, pair[1]);
    }
    qemu_co_rwlock_unlock(&rwlock);
}

static void coroutine_fn rw_co(void *opaque)
{
    for (int i = 0; i < 100; i++) {
        if (i % 4) {
            reader_once();
        } else {
            writer_once(i % 8);
        }
    }
    one_ended();
}

static void test_rwlock(void)
{
    pair[0] = pair[1] = 0;
    readers = readers_max = 0;
    qemu_co_rwlock_init(&rwlock);
    run_all(COROUTINES, rw_co, NULL);
    g_assert_cmpint(pair[0], ==, COROUTINES * 25);
    g_assert_cmpint(rwlock.owners, ==, 0);
    g_assert_cmpuint(readers_max, >, 1);
}

/* ---- semaphore ---- */

static CoSemaphore sem;
static unsigned inside, inside_max;

static void coroutine_fn sem_co(void *opaque)
{
    for (int i = 0; i < 100; i++) {
        qemu_co_sem_wait(&sem);
        unsigned now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);

        g_assert_cmpuint(now, <=, 3);
        if (now == 3) {
            __atomic_store_n(&inside_max, now, __ATOMIC_RELAXED);
        }
        co_sleep_ns(10000);
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        qemu_co_sem_post(&sem);
    }
    one_ended();
}

static void test_semaphore(void)
{
    inside = inside_max = 0;
    qemu_co_sem_init(&sem, 3);
    run_all(COROUTINES, sem_co, NULL);
    g_assert_cmpint(sem.count, ==, 3);
    g_assert_cmpuint(inside_max, ==, 3);
}

/* ---- waking, moving, sleeping ---- */

enum { PINGS = 2000 };

static Coroutine *ping, *pong;
static int pings, pongs;        /* plain: a wake hands over what was done before it */

/* Two coroutines in two threads wake each other; each wake may come before the other has suspended. */
static void coroutine_fn ping_co(void *opaque)
{
    for (int i = 0; i < PINGS; i++) {
        g_assert_cmpint(pings++, ==, pongs);
        aio_co_wake(pong);
        qemu_coroutine_yield();
    }
    one_ended();
}

static void coroutine_fn pong_co(void *opaque)
{
    aio_co_enter(context(1), ping);
    for (int i = 0; i < PINGS; i++) {
        qemu_coroutine_yield();
        g_assert_cmpint(++pongs, ==, pings);
        aio_co_wake(ping);
    }
    one_ended();
}

static void test_pingpong(void)
{
    left = 2;
    ping = qemu_coroutine_create(ping_co, NULL);
    pong = qemu_coroutine_create(pong_co, NULL);
    aio_co_enter(context(0), pong);
    aio_wait_while(some_left, NULL);
    g_assert_true(pings == PINGS && pongs == PINGS);
}

static void coroutine_fn wander_co(void *opaque)
{
    Prng prng = { (uintptr_t)opaque + 1 };

    for (int i = 0; i < 200; i++) {
        AioContext *to = context(prng_below(&prng, THREADS + 1));

        aio_co_reschedule_self(to);
        g_assert_true(qemu_get_current_aio_context() == to);
        g_assert_true(qemu_coroutine_get_aio_context(qemu_coroutine_self()) == to);
        if (i % 50 == 0) {
            co_sleep_ns(prng_below(&prng, 100000));
            g_assert_true(qemu_get_current_aio_context() == to);
        }
    }
    one_ended();
}

static void *number(int i)
{
    return (void *)(uintptr_t)i;
}

static void test_wander(void)
{
    run_all(COROUTINES, wander_co, number);
}

static QemuCoSleep naps[COROUTINES];

static void coroutine_fn nap_co(void *opaque)
{
    QemuCoSleep *nap = &naps[(uintptr_t)opaque];

    for (int i = 0; i < 50; i++) {
        co_sleep_ns_wakeable(nap, i % 2 ? NANOSECONDS_PER_SECOND * 3600 : 1000);
    }
    one_ended();
}

/* Sleepers are woken early from here while their timers may fire: once, whoever is first. */
static void test_sleep_wake(void)
{
    left = COROUTINES;
    memset(naps, 0, sizeof(naps));
    for (int i = 0; i < COROUTINES; i++) {
        aio_co_enter(context(i), qemu_coroutine_create(nap_co, (void *)(uintptr_t)i));
    }
    while (some_left(NULL)) {
        for (int i = 0; i < COROUTINES; i++) {
            co_sleep_wake(&naps[i]);
        }
        aio_poll(qemu_get_aio_context(), false);
    }
}

/* ---- bottom halves ---- */

static QEMUBH *bh;
static unsigned bh_runs, bh_oneshots;

static void bh_cb(void *opaque)
{
    __atomic_fetch_add(&bh_runs, 1, __ATOMIC_RELAXED);
}

static void bh_oneshot(void *opaque)
{
    g_assert_true(qemu_get_current_aio_context() == opaque);
    __atomic_fetch_add(&bh_oneshots, 1, __ATOMIC_RELAXED);
}

static void coroutine_fn bh_co(void *opaque)
{
    for (int i = 0; i < 500; i++) {
        AioContext *to = context(i);

        qemu_bh_schedule(bh);
        aio_bh_schedule_oneshot(to, bh_oneshot, to);
    }
    one_ended();
}

static bool bh_missing(void *opaque)
{
    return __atomic_load_n(&bh_oneshots, __ATOMIC_RELAXED) < COROUTINES * 500;
}

static void test_bh(void)
{
    bh_runs = bh_oneshots = 0;
    bh = aio_bh_new(qemu_get_aio_context(), bh_cb, NULL);
    run_all(COROUTINES, bh_co, NULL);
    while (bh_missing(NULL)) {
        aio_poll(qemu_get_aio_context(), false);
    }
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
    g_assert_cmpuint(bh_runs, >, 0);
    g_assert_cmpuint(bh_runs, <=, COROUTINES * 500);    /* scheduled twice, run once */
    bh_runs = 0;
    qemu_bh_schedule(bh);
    qemu_bh_cancel(bh);
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
    g_assert_cmpuint(bh_runs, ==, 0);
    qemu_bh_schedule(bh);
    qemu_bh_delete(bh);         /* while queued */
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
    g_assert_cmpuint(bh_runs, ==, 0);
}

/* ---- timers ---- */

static void timer_note(void *opaque)
{
    g_string_append(order, opaque);
}

static void test_timers(void)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    QEMUTimer t[5];

    order = g_string_new(NULL);
    for (int i = 0; i < 5; i++) {
        timer_init_ns(&t[i], qemu_get_aio_context(), timer_note, (void *)((const char *[]) { "a", "b", "c", "d", "e" })[i]);
        g_assert_false(timer_pending(&t[i]));
    }
    timer_mod_ns(&t[0], now + 3000000);
    timer_mod_ns(&t[1], now + 1000000);
    timer_mod_ns(&t[2], now + 2000000);
    timer_mod_ns(&t[3], now + 1000000);         /* as early as b, but armed later */
    timer_mod_ns(&t[4], now - 5);               /* has passed */
    timer_mod_ns(&t[2], now + 4000000);         /* moved */
    timer_del(&t[0]);
    timer_del(&t[0]);
    g_assert_true(!timer_pending(&t[0]) && timer_pending(&t[2]));
    while (timer_pending(&t[2])) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpstr(order->str, ==, "ebdc");
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), >=, now + 4000000);
    g_string_free(order, TRUE);
}

/* ---- descriptors ---- */

static int fds[2];
static unsigned fd_reads;

static void fd_read(void *opaque)
{
    char c[16];

    g_assert_true(opaque == &fd_reads);
    g_assert_cmpint(read(fds[0], c, sizeof(c)), >, 0);
    fd_reads++;
}

static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

/* A handler stays until it is taken away; a descriptor number that is used anew is another one. */
static void test_fd_handler(void)
{
    AioContext *ctx = qemu_get_aio_context();

    for (int round = 0; round < 3; round++) {
        fd_reads = 0;
        g_assert_cmpint(pipe(fds), ==, 0);
        aio_set_fd_handler(ctx, fds[0], fd_read, NULL, &fd_reads);
        turn();
        g_assert_cmpuint(fd_reads, ==, 0);
        for (unsigned i = 1; i < 5; i++) {
            g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
            while (fd_reads < i) {
                aio_poll(ctx, true);
            }
            g_assert_cmpuint(fd_reads, ==, i);
        }
        aio_set_fd_handler(ctx, fds[0], NULL, NULL, NULL);
        g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
        turn();
        g_assert_cmpuint(fd_reads, ==, 4);
        close(fds[0]);
        close(fds[1]);
    }
}

static int fd_wait_ret;

static void coroutine_fn fd_wait_co(void *opaque)
{
    fd_wait_ret = aio_co_wait_fd(fds[0], false);
    one_ended();
}

static void test_fd_cancel(void)
{
    left = 2;
    g_assert_cmpint(pipe(fds), ==, 0);
    fd_wait_ret = 1;
    qemu_coroutine_enter(qemu_coroutine_create(fd_wait_co, NULL));
    turn();
    g_assert_cmpint(fd_wait_ret, ==, 1);
    aio_co_fd_cancel(fds[0]);
    turn();
    g_assert_cmpint(fd_wait_ret, ==, -ECANCELED);
    qemu_coroutine_enter(qemu_coroutine_create(fd_wait_co, NULL));
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    aio_wait_while(some_left, NULL);
    g_assert_cmpint(fd_wait_ret, ==, 0);
    aio_co_fd_cancel(fds[0]);
    close(fds[0]);
    close(fds[1]);
}

/* ---- workers ---- */

static unsigned workers_now, workers_max;

static int work(void *arg)
{
    unsigned now = __atomic_add_fetch(&workers_now, 1, __ATOMIC_SEQ_CST);

    g_assert_null(qemu_get_current_aio_context());
    if (now > __atomic_load_n(&workers_max, __ATOMIC_RELAXED)) {
        __atomic_store_n(&workers_max, now, __ATOMIC_RELAXED);
    }
    g_usleep(200);
    __atomic_sub_fetch(&workers_now, 1, __ATOMIC_SEQ_CST);
    return -*(int *)arg;
}

static void coroutine_fn work_co(void *opaque)
{
    AioContext *ctx = qemu_get_current_aio_context();

    for (int i = 0; i < 30; i++) {
        int n = i;

        g_assert_cmpint(thread_pool_submit_co(work, &n), ==, -i);
        g_assert_true(qemu_get_current_aio_context() == ctx);
    }
    one_ended();
}

static void test_workers(void)
{
    run_all(3 * COROUTINES, work_co, NULL);
    g_assert_cmpuint(workers_max, >, 1);
}

/* A pool of one worker does it all, one after the other. */
static void test_workers_bounded(void)
{
    IOThread *t = iothread_create("one", &(IOThreadParams) { .thread_pool_max = 1 }, &error_abort);

    workers_max = 0;
    left = COROUTINES;
    for (int i = 0; i < COROUTINES; i++) {
        aio_co_enter(iothread_get_aio_context(t), qemu_coroutine_create(work_co, NULL));
    }
    aio_wait_while(some_left, NULL);
    g_assert_cmpuint(workers_max, ==, 1);
    iothread_destroy(t, &error_abort);
}

/* ---- iothreads ---- */

static void test_iothreads(void)
{
    Error *err = NULL;
    IOThreadParams params;

    g_assert_true(iothread_by_id("t1") == threads[1] && iothread_next(threads[1]) == threads[2]);
    g_assert_cmpstr(iothread_get_id(threads[1]), ==, "t1");
    g_assert_null(iothread_by_id("none"));
    g_assert_null(iothread_create("t1", NULL, &err));
    g_assert_nonnull(err);
    g_clear_pointer(&err, error_free);
    iothread_ref(threads[1]);
    g_assert_cmpint(iothread_destroy(threads[1], &err), ==, -EBUSY);
    g_assert_cmpstr(error_get_pretty(err), ==, "object 't1' is in use, can not be deleted");
    error_free(err);
    iothread_unref(threads[1]);
    iothread_get_params(threads[1], &params);
    g_assert_cmpint(params.thread_pool_max, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    threads_start();
    g_test_add_func("/aio/threads/mutex", test_mutex);
    g_test_add_func("/aio/threads/mutex-fair", test_mutex_fair);
    g_test_add_func("/aio/threads/queue", test_queue);
    g_test_add_func("/aio/threads/rwlock", test_rwlock);
    g_test_add_func("/aio/threads/semaphore", test_semaphore);
    g_test_add_func("/aio/threads/pingpong", test_pingpong);
    g_test_add_func("/aio/threads/wander", test_wander);
    g_test_add_func("/aio/threads/sleep-wake", test_sleep_wake);
    g_test_add_func("/aio/threads/bh", test_bh);
    g_test_add_func("/aio/threads/timers", test_timers);
    g_test_add_func("/aio/threads/fd-handler", test_fd_handler);
    g_test_add_func("/aio/threads/fd-cancel", test_fd_cancel);
    g_test_add_func("/aio/threads/workers", test_workers);
    g_test_add_func("/aio/threads/workers-bounded", test_workers_bounded);
    g_test_add_func("/aio/threads/iothreads", test_iothreads);
    int ret = g_test_run();

    threads_end();
    aio_cleanup_main();
    return ret;
}

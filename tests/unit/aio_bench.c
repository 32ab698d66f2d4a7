/* SPDX-License-Identifier: MIT */
/* What the event loop costs, in ns: a switch, a coroutine's life, a wake-up from another
 * thread, a timer, 4 KiB of cached file I/O each way it can go, beside the plain system call.
 * Not a test: figures to look at; run by hand or as a Meson benchmark. */
#include "base/osdep.h"
#include "aio/host.h"
#include <fcntl.h>
#include <sys/uio.h>
#include <time.h>

static int64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* Processor time of all threads so far: less disturbed by others than the clock. */
static int64_t cpu_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

/* Run @fn(@n) some times, print the best per piece: elapsed, and processor time. */
static void measure(const char *what, void (*fn)(int n), int n)
{
    int64_t best = INT64_MAX, best_cpu = INT64_MAX;

    for (int i = 0; i < 5; i++) {
        int64_t start = now(), start_cpu = cpu_now();

        fn(n);
        best = MIN(best, now() - start);
        best_cpu = MIN(best_cpu, cpu_now() - start_cpu);
    }
    printf("%-40s %10.1f ns, cpu %10.1f ns\n", what, (double)best / n, (double)best_cpu / n);
    fflush(stdout);
}

/* ---- coroutines ---- */

static void coroutine_fn yielder(void *opaque)
{
    for (int i = *(int *)opaque; i; i--) {
        qemu_coroutine_yield();
    }
}

static void bench_switch(int n)
{
    Coroutine *co = qemu_coroutine_create(yielder, &n);

    for (int i = 0; i <= n; i++) {
        qemu_coroutine_enter(co);
    }
}

static void coroutine_fn empty(void *opaque)
{
}

static void bench_life(int n)
{
    while (n--) {
        qemu_coroutine_enter(qemu_coroutine_create(empty, NULL));
    }
}

static CoMutex mutex;

static void coroutine_fn locker(void *opaque)
{
    for (int i = *(int *)opaque; i; i--) {
        qemu_co_mutex_lock(&mutex);
        qemu_co_mutex_unlock(&mutex);
    }
}

static void bench_mutex(int n)
{
    qemu_co_mutex_init(&mutex);
    aio_co_run(locker, &n);
}

/* ---- the loop ---- */

static void coroutine_fn fair(void *opaque)
{
    for (int i = *(int *)opaque; i; i--) {
        aio_co_yield_fair();
    }
}

static void bench_turn(int n)
{
    aio_co_run(fair, &n);
}

static IOThread *iothread;

static void coroutine_fn traveller(void *opaque)
{
    for (int i = *(int *)opaque; i; i--) {
        aio_co_reschedule_self(iothread_get_aio_context(iothread));
        aio_co_reschedule_self(qemu_get_aio_context());
    }
}

static void bench_travel(int n)
{
    aio_co_run(traveller, &n);
}

static void coroutine_fn sleeper(void *opaque)
{
    for (int i = *(int *)opaque; i; i--) {
        co_sleep_ns(1);
    }
}

static void bench_timer(int n)
{
    aio_co_run(sleeper, &n);
}

static int nothing(void *opaque)
{
    return 0;
}

static void coroutine_fn pooler(void *opaque)
{
    for (int i = *(int *)opaque; i; i--) {
        thread_pool_submit_co(nothing, NULL);
    }
}

static void bench_pool(int n)
{
    aio_co_run(pooler, &n);
}

static int fds[2];

static void coroutine_fn pipe_reader(void *opaque)
{
    char c;

    for (int i = *(int *)opaque; i; i--) {
        if (write(fds[1], "x", 1) != 1 || aio_co_wait_fd(fds[0], false) || read(fds[0], &c, 1) != 1) {
            abort();
        }
    }
}

static void bench_pipe(int n)
{
    aio_co_run(pipe_reader, &n);
}

/* ---- files ---- */

#define FILE_BYTES (64 * MiB)
static HostFile *file;
static char *buffer;

typedef struct Stream {
    bool write;
    unsigned flags;
    int n, *left;
    uint64_t seed;
} Stream;

static int64_t next_offset(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (*seed >> 33) % (FILE_BYTES / 4096) * 4096;
}

static void coroutine_fn stream_co(void *opaque)
{
    Stream *s = opaque;
    struct iovec iov = { buffer, 4096 };

    for (int i = 0; i < s->n; i++) {
        if (host_co_rw(file, s->write, next_offset(&s->seed), &iov, 1, 4096, s->flags, 1)) {
            abort();
        }
    }
    --*s->left;
    aio_wait_kick();
}

static bool streams_busy(void *opaque)
{
    return *(int *)opaque > 0;
}

static void streams(int depth, bool is_write, unsigned flags, int n)
{
    Stream s[32];
    int left = depth;

    for (int i = 0; i < depth; i++) {
        s[i] = (Stream) { is_write, flags, n / depth, &left, i };
        qemu_coroutine_enter(qemu_coroutine_create(stream_co, &s[i]));
    }
    aio_wait_while(streams_busy, &left);
}

static void bench_plain_read(int n)
{
    uint64_t seed = 0;

    while (n--) {
        if (pread(host_ops->file_fd(file), buffer, 4096, next_offset(&seed)) != 4096) {
            abort();
        }
    }
}

static void bench_plain_write(int n)
{
    uint64_t seed = 0;

    while (n--) {
        if (pwrite(host_ops->file_fd(file), buffer, 4096, next_offset(&seed)) != 4096) {
            abort();
        }
    }
}

#define STREAM(name, depth, is_write, flags) \
    static void name(int n) { streams(depth, is_write, flags, n); }
STREAM(read1, 1, false, 0)
STREAM(read32, 32, false, 0)
STREAM(write1, 1, true, 0)
STREAM(write32, 32, true, 0)
STREAM(read1_guest, 1, false, HOST_FLAG_GUEST)
STREAM(read32_guest, 32, false, HOST_FLAG_GUEST)
STREAM(write1_guest, 1, true, HOST_FLAG_GUEST)
STREAM(write32_guest, 32, true, HOST_FLAG_GUEST)

static void open_file(int flags)
{
    char path[] = "/var/tmp/liveblk-bench-XXXXXX";
    int fd = mkstemp(path), ret;

    close(fd);
    buffer = NULL;
    if (posix_memalign((void **)&buffer, 4096, MiB)) {
        abort();
    }
    memset(buffer, 0x5a, MiB);
    file = host_ops->file_open(path, O_RDWR | flags, 0, &ret);
    unlink(path);
    for (int64_t o = 0; file && o < FILE_BYTES; o += MiB) {
        if (pwrite(host_ops->file_fd(file), buffer, MiB, o) != MiB) {
            abort();
        }
    }
}

int main(int argc, char **argv)
{
    int scale = argc > 1 ? atoi(argv[1]) : 1;
    HostStats stats;

    aio_init_main(NULL, &error_fatal);
    printf("host back end: %s\n", aio_host_name());
    measure("enter and yield (two switches)", bench_switch, 1000000 * scale);
    measure("create, enter, end", bench_life, 1000000 * scale);
    measure("mutex lock and unlock", bench_mutex, 1000000 * scale);
    measure("turn of the loop", bench_turn, 200000 * scale);
    measure("timer, sleep of 1 ns", bench_timer, 20000 * scale);
    iothread = iothread_create("bench", NULL, &error_fatal);
    measure("to an iothread and back", bench_travel, 20000 * scale);
    iothread_destroy(iothread, &error_fatal);
    measure("work on a worker thread", bench_pool, 20000 * scale);
    if (pipe(fds)) {
        abort();
    }
    measure("wait for a pipe", bench_pipe, 50000 * scale);
    open_file(0);
    measure("4 KiB cached read:  pread", bench_plain_read, 200000 * scale);
    measure("4 KiB cached read:  guest, depth 1", read1_guest, 200000 * scale);
    measure("4 KiB cached read:  guest, depth 32", read32_guest, 200000 * scale);
    measure("4 KiB cached read:  queued, depth 1", read1, 50000 * scale);
    measure("4 KiB cached read:  queued, depth 32", read32, 50000 * scale);
    measure("4 KiB cached write: pwrite", bench_plain_write, 200000 * scale);
    measure("4 KiB cached write: guest, depth 1", write1_guest, 200000 * scale);
    measure("4 KiB cached write: guest, depth 32", write32_guest, 200000 * scale);
    measure("4 KiB cached write: queued, depth 1", write1, 20000 * scale);
    measure("4 KiB cached write: queued, depth 32", write32, 20000 * scale);
    host_ops->file_close(file);
    open_file(O_DIRECT);
    if (file) {
        measure("4 KiB direct write: queued, depth 1", write1, 500 * scale);
        measure("4 KiB direct write: queued, depth 32", write32, 3200 * scale);
        measure("4 KiB direct read:  queued, depth 1", read1, 500 * scale);
        measure("4 KiB direct read:  queued, depth 32", read32, 3200 * scale);
        host_ops->file_close(file);
    }
    host_stats_get(&stats);
    printf("at once: %" PRIu64 " reads (%" PRIu64 " missed), %" PRIu64 " writes (%" PRIu64 " slow); "
           "queued %" PRIu64 ", by workers %" PRIu64 ", sleeps %" PRIu64 "\n",
           stats.inline_reads, stats.inline_read_misses, stats.inline_writes,
           stats.inline_slow, stats.queued, stats.pooled, stats.sleeps);
    aio_cleanup_main();
    return 0;
}

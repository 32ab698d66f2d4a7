/* SPDX-License-Identifier: MIT */
/* io_model.c: random concurrent requests against a model.
 *
 * Goal: whatever the limits of a driver, no byte is lost, misplaced or invented, not even where
 * unaligned writes of several coroutines or threads meet in one block.
 * Method: the node is cut at odd places into chunks, each owned by one worker, which alone writes
 * there; so the expected contents are known to the byte, while neighbours share blocks and
 * collide. The node's limits come from the seed; the driver yields and sleeps at random. The main
 * thread drains now and then. `-m quick` runs fewer seeds.
 */
#include "base/osdep.h"
#include "memdrv.h"

enum { WORKERS_MAX = 9, CHUNKS_MAX = 64, SIZE = 192 * 1024 };

typedef struct Model Model;

typedef struct Worker {
    Model *m;
    int index;
    Prng prng;
} Worker;

struct Model {
    BlockDriverState *mem, *top;
    BlockBackend *blk;
    uint8_t expect[SIZE];
    int64_t edge[CHUNKS_MAX + 1];
    int chunks, workers, ops;
    unsigned running;               /* atomic */
    Worker worker[WORKERS_MAX];
};

/* ---- the requests of a worker ---- */

static void pick_range(Worker *w, int64_t *offset, int64_t *bytes)
{
    Model *m = w->m;
    int mine = (m->chunks - w->index + m->workers - 1) / m->workers;
    int c = w->index + m->workers * (int)prng_below(&w->prng, mine);
    int64_t len = m->edge[c + 1] - m->edge[c];

    *offset = m->edge[c];
    *bytes = len;
    if (prng_below(&w->prng, 3)) {
        int64_t cut = prng_below(&w->prng, len);

        *offset += cut;
        *bytes = 1 + prng_below(&w->prng, len - cut);
    }
}

/* @buf cut into random pieces. */
static void vector_make(Worker *w, QEMUIOVector *qiov, uint8_t *buf, int64_t bytes)
{
    qemu_iovec_init(qiov, 4);
    for (int64_t done = 0, n; done < bytes; done += n) {
        n = prng_below(&w->prng, 2) ? bytes - done : 1 + (int64_t)prng_below(&w->prng, bytes - done);
        if (qiov->niov > 20) {
            n = bytes - done;
        }
        qemu_iovec_add(qiov, buf + done, n);
    }
}

static void coroutine_fn op_read(Worker *w, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;

    vector_make(w, &qiov, buf, bytes);
    g_assert_cmpint(blk_co_preadv(w->m->blk, offset, bytes, &qiov, 0), ==, 0);
    qemu_iovec_destroy(&qiov);
    g_assert_cmpmem(buf, bytes, w->m->expect + offset, bytes);
}

static void coroutine_fn op_write(Worker *w, int64_t offset, int64_t bytes)
{
    static const BdrvRequestFlags flags[] = { 0, 0, 0, BDRV_REQ_FUA, BDRV_REQ_SERIALISING };
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;

    memset(buf, prng_below(&w->prng, 4) ? prng_u64(&w->prng) : 0, bytes);
    buf[prng_below(&w->prng, bytes)] ^= prng_below(&w->prng, 2);
    vector_make(w, &qiov, buf, bytes);
    g_assert_cmpint(blk_co_pwritev(w->m->blk, offset, bytes, &qiov, flags[prng_below(&w->prng, 5)]), ==, 0);
    qemu_iovec_destroy(&qiov);
    memcpy(w->m->expect + offset, buf, bytes);
}

static void coroutine_fn op_zero(Worker *w, int64_t offset, int64_t bytes)
{
    BdrvRequestFlags flags = prng_below(&w->prng, 2) ? BDRV_REQ_MAY_UNMAP : 0;

    g_assert_cmpint(blk_co_pwrite_zeroes(w->m->blk, offset, bytes, flags), ==, 0);
    memset(w->m->expect + offset, 0, bytes);
}

/* Each byte is afterwards what it was, or zero. */
static void coroutine_fn op_discard(Worker *w, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(blk_co_pdiscard(w->m->blk, offset, bytes), ==, 0);
    g_assert_cmpint(blk_co_pread(w->m->blk, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert(buf[i] == 0 || buf[i] == w->m->expect[offset + i]);
    }
    memcpy(w->m->expect + offset, buf, bytes);
}

/* Metadata must not claim zeroes where there is data. Others may write to blocks we share, so
 * ask about whole owned chunks only, where a block is all ours. */
static void coroutine_fn op_status(Worker *w, int64_t offset, int64_t bytes)
{
    int64_t block = mem_state(w->m->mem)->block, n;
    int64_t start = ROUND_UP(offset, block), end = QEMU_ALIGN_DOWN(offset + bytes, block);

    while (start < end) {
        int ret = blk_co_block_status_above(w->m->blk, NULL, start, end - start, &n, NULL, NULL);

        g_assert_cmpint(ret, >=, 0);
        g_assert_cmpint(n, >, 0);
        g_assert(ret & BDRV_BLOCK_ALLOCATED);
        if (ret & BDRV_BLOCK_ZERO) {
            g_assert(buffer_is_zero(w->m->expect + start, n));
        }
        start += n;
    }
}

static void coroutine_fn worker_co(void *opaque)
{
    Worker *w = opaque;
    int64_t offset, bytes;

    for (int i = 0; i < w->m->ops; i++) {
        pick_range(w, &offset, &bytes);
        switch (prng_below(&w->prng, 12)) {
        case 0 ... 3:
            op_read(w, offset, bytes);
            break;
        case 4 ... 7:
            op_write(w, offset, bytes);
            break;
        case 8:
            op_zero(w, offset, bytes);
            break;
        case 9:
            op_discard(w, offset, bytes);
            break;
        case 10:
            op_status(w, offset, bytes);
            break;
        case 11:
            g_assert_cmpint(blk_co_flush(w->m->blk), ==, 0);
            break;
        }
    }
    __atomic_fetch_sub(&w->m->running, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

/* ---- a run ---- */

static MemConfig random_config(Prng *p)
{
    static const uint32_t aligns[] = { 1, 1, 512, 4096, 16384 };
    uint32_t align = aligns[prng_below(p, G_N_ELEMENTS(aligns))];
    uint32_t unit = MAX(align, 512);
    MemConfig c = { .size = SIZE, .flags = BDRV_O_UNMAP, .bl.request_alignment = align };

    c.bl.max_transfer = prng_below(p, 2) ? 0 : unit * (1 + prng_below(p, 20));
    c.bl.max_iov = prng_below(p, 2) ? 0 : 1 + prng_below(p, 4);
    c.bl.pwrite_zeroes_alignment = prng_below(p, 2) ? 0 : unit << prng_below(p, 4);
    c.bl.max_pwrite_zeroes = prng_below(p, 2) ? 0 : MAX(c.bl.pwrite_zeroes_alignment, unit) * (1 + prng_below(p, 3));
    c.bl.pdiscard_alignment = prng_below(p, 2) ? 0 : unit << prng_below(p, 4);
    c.bl.max_pdiscard = prng_below(p, 2) ? 0 : MAX(c.bl.pdiscard_alignment, unit) * (1 + prng_below(p, 3));
    c.write_flags = prng_below(p, 2) ? BDRV_REQ_FUA : 0;
    c.zero_flags = (prng_below(p, 2) ? BDRV_REQ_FUA : 0) | (prng_below(p, 2) ? BDRV_REQ_MAY_UNMAP : 0);
    c.yield_percent = prng_below(p, 80);
    c.sleep_us_max = prng_below(p, 2) ? 0 : 1 + prng_below(p, 20);
    c.seed = prng_u64(p);
    return c;
}

static void model_cut(Model *m, Prng *p)
{
    m->chunks = MAX(m->workers, 10 + (int)prng_below(p, CHUNKS_MAX - 10));
    for (int i = 1; i < m->chunks; i++) {
        int64_t room = SIZE - m->edge[i - 1] - (m->chunks - i);

        m->edge[i] = m->edge[i - 1] + 1 + prng_below(p, MIN(room, 2 * SIZE / m->chunks));
    }
    m->edge[m->chunks] = SIZE;
}

static Model *model_new(uint64_t seed, int workers, int ops)
{
    Prng p = { seed };
    MemConfig config = random_config(&p);
    Model *m = g_new0(Model, 1);

    m->workers = workers;
    m->ops = ops;
    m->mem = mem_node_new("mem", &config);
    if (prng_below(&p, 2)) {
        mem_state(m->mem)->error[MEM_ZERO] = prng_below(&p, 3) ? 0 : -ENOTSUP;
        m->mem->detect_zeroes = prng_below(&p, 3);
    }
    mem_fill(m->mem, 0, SIZE, seed);
    memcpy(m->expect, mem_state(m->mem)->data, SIZE);
    m->top = pass_node_new("pass", m->mem);
    m->blk = mem_backend_new(m->top);
    model_cut(m, &p);
    for (int i = 0; i < workers; i++) {
        m->worker[i] = (Worker) { m, i, { prng_u64(&p) } };
    }
    return m;
}

static bool model_running(void *opaque)
{
    return __atomic_load_n(&((Model *)opaque)->running, __ATOMIC_SEQ_CST) > 0;
}

static void model_check(Model *m)
{
    g_assert_cmpmem(mem_state(m->mem)->data, SIZE, m->expect, SIZE);
    g_assert_cmpint(m->mem->in_flight, ==, 0);
    g_assert_cmpint(m->mem->serialising_in_flight, ==, 0);
}

static void model_free(Model *m)
{
    blk_unref(m->blk);
    bdrv_unref(m->top);
    bdrv_unref(m->mem);
    g_free(m);
}

static void run_one(uint64_t seed, AioContext **ctx, int nctx, int ops)
{
    Model *m = model_new(seed, WORKERS_MAX, ops);

    g_test_message("seed %" PRIu64, seed);
    m->running = m->workers;
    for (int i = 0; i < m->workers; i++) {
        aio_co_enter(ctx[i % nctx], qemu_coroutine_create(worker_co, &m->worker[i]));
    }
    for (int turn = 0; model_running(m); turn++) {
        if (turn % 64 == 63) {
            bdrv_drained_begin(turn % 128 == 127 ? m->mem : m->top);
            g_assert_cmpint(m->mem->in_flight, ==, 0);
            bdrv_drained_end(turn % 128 == 127 ? m->mem : m->top);
        }
        aio_poll(qemu_get_aio_context(), false);
    }
    model_check(m);
    model_free(m);
}

static void test_coroutines(void)
{
    AioContext *ctx = qemu_get_aio_context();

    for (int seed = 1; seed <= (!g_test_thorough() ? 60 : 1000); seed++) {
        run_one(seed, &ctx, 1, 60);
    }
}

static void test_threads(void)
{
    IOThread *a = iothread_create("a", NULL, &error_abort), *b = iothread_create("b", NULL, &error_abort);
    AioContext *ctx[] = { iothread_get_aio_context(a), iothread_get_aio_context(b), qemu_get_aio_context() };

    for (int seed = 1; seed <= (!g_test_thorough() ? 25 : 400); seed++) {
        run_one(10000 + seed, ctx, 3, 60);
    }
    iothread_destroy(a, &error_abort);
    iothread_destroy(b, &error_abort);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/io/model/coroutines", test_coroutines);
    g_test_add_func("/io/model/threads", test_threads);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* mirror_stress.c: guests write, zero, discard and read while a mirror is started, paused, hurried,
 * drained, cancelled and completed; after each the two sides are compared with a model.
 *
 * Goal: no write is lost, whatever comes together. Method: one seed makes everything, delays
 * included; a failing seed is printed and runs again with LIVEBLK_TEST_SEED.
 */
#include "mirror_util.h"

#define SIZE    (512 * KiB)
#define GUESTS  4
#ifdef __SANITIZE_THREAD__      /* all runs in one thread: a checker of threads learns little here */
#define SEEDS   6
#else
#define SEEDS   40
#endif

typedef struct Stress {
    Prng prng;
    uint64_t seed;
    Mirror m;
    uint8_t model[SIZE];
    bool stop, discards;
    unsigned guests;
    uint8_t busy[SIZE / 512];           /* a request of some guest is there: others keep away */
} Stress;

typedef struct Guest {
    Stress *s;
    uint8_t buf[64 * KiB];
} Guest;

/* A range no other guest works on. */
static bool claim(Stress *s, int64_t *offset, int64_t *bytes)
{
    *bytes = prng_below(&s->prng, 4) ? 1 + prng_below(&s->prng, 4096) : 1 + prng_below(&s->prng, 64 * KiB);
    *offset = prng_below(&s->prng, SIZE - *bytes + 1);
    if (prng_below(&s->prng, 2)) {
        *offset = QEMU_ALIGN_DOWN(*offset, 512);
        *bytes = MIN(QEMU_ALIGN_UP(*bytes, 512), SIZE - *offset);
    }
    for (int64_t b = *offset / 512; b <= (*offset + *bytes - 1) / 512; b++) {
        if (s->busy[b]) {
            return false;
        }
    }
    memset(s->busy + *offset / 512, 1, (*offset + *bytes - 1) / 512 - *offset / 512 + 1);
    return true;
}

static void expect_model(Stress *s, const uint8_t *buf, int64_t offset, int64_t bytes, const char *who)
{
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != s->model[offset + i]) {
            g_error("seed %" PRIu64 ": %s at %" PRId64 ": %02x, expected %02x", s->seed, who, offset + i, buf[i],
                    s->model[offset + i]);
        }
    }
}

static void coroutine_fn guest_request(Guest *g, int64_t offset, int64_t bytes)
{
    Stress *s = g->s;
    unsigned what = prng_below(&s->prng, s->discards ? 10 : 9), seed = prng_u64(&s->prng);

    if (what < 6) {
        for (int64_t i = 0; i < bytes; i++) {
            g->buf[i] = mem_pattern(offset + i, seed);
        }
        memcpy(s->model + offset, g->buf, bytes);
        g_assert_cmpint(blk_co_pwrite(s->m.guest, offset, bytes, g->buf, what == 0 ? BDRV_REQ_FUA : 0), ==, 0);
    } else if (what < 8) {
        memset(s->model + offset, 0, bytes);
        g_assert_cmpint(blk_co_pwrite_zeroes(s->m.guest, offset, bytes, what == 6 ? BDRV_REQ_MAY_UNMAP : 0), ==, 0);
    } else if (what == 8) {
        g_assert_cmpint(blk_co_pread(s->m.guest, offset, bytes, g->buf, 0), ==, 0);
        expect_model(s, g->buf, offset, bytes, "guest");
    } else {
        /* Our nodes read as zero where something was discarded, in whole blocks. */
        int64_t first = QEMU_ALIGN_UP(offset, 512), end = QEMU_ALIGN_DOWN(offset + bytes, 512);

        if (first < end) {
            memset(s->model + first, 0, end - first);
            g_assert_cmpint(blk_co_pdiscard(s->m.guest, first, end - first), ==, 0);
        }
    }
}

static void coroutine_fn guest_co(void *opaque)
{
    Guest *g = opaque;
    Stress *s = g->s;
    int64_t offset, bytes;

    while (!s->stop) {
        if (claim(s, &offset, &bytes)) {
            guest_request(g, offset, bytes);
            memset(s->busy + offset / 512, 0, (offset + bytes - 1) / 512 - offset / 512 + 1);
        }
        if (prng_below(&s->prng, 4) == 0) {
            co_sleep_ns(prng_below(&s->prng, 500 * 1000));
        } else {
            aio_co_yield_fair();
        }
    }
    s->guests--;
    g_free(g);
    aio_wait_kick();
}

static bool guests_run(void *opaque)
{
    return ((Stress *)opaque)->guests > 0;
}

/* A verb, or something done to the graph; the job goes on. */
static void disturb(Stress *s, BlockJob *job)
{
    static const int64_t speeds[] = { 0, 1 * MiB, 16 * MiB, INT64_MAX };

    switch (prng_below(&s->prng, 8)) {
    case 0:
        block_job_user_pause(job, NULL);
        break;
    case 1:
    case 2:
        block_job_user_resume(job, NULL);
        break;
    case 3:
        block_job_set_speed(job, speeds[prng_below(&s->prng, 4)], NULL);
        break;
    case 4:
        bdrv_drained_begin(s->m.source);
        aio_poll(qemu_get_aio_context(), false);
        bdrv_drained_end(s->m.source);
        break;
    case 5:
        bdrv_drained_begin(s->m.target);
        bdrv_drained_end(s->m.target);
        break;
    case 6: {
        BlockJobChangeOptions o = { .id = (char *)"m", .type = JOB_TYPE_MIRROR,
                                    .u.mirror.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING };

        job_change(job, &o, NULL);
        break;
    }
    default:
        bdrv_drain_all_begin();
        bdrv_drain_all_end();
    }
    test_settle(prng_below(&s->prng, 3) + 1);
}

static void resume(BlockJob *job)
{
    block_job_set_speed(job, 0, NULL);
    if (block_job_user_paused(job)) {
        block_job_user_resume(job, &error_abort);
    }
}

/* The two are the same, and as the model has it. */
static void expect_same(Stress *s, BlockDriverState *bs, const char *who)
{
    expect_model(s, mem_state(bs)->data, 0, SIZE, who);
}

static void stop_guests(Stress *s)
{
    s->stop = true;
    aio_wait_while(guests_run, s);
}

static void start_guests(Stress *s)
{
    s->stop = false;
    memset(s->busy, 0, sizeof(s->busy));
    for (s->guests = 0; s->guests < GUESTS; s->guests++) {
        Guest *g = g_new0(Guest, 1);

        g->s = s;
        qemu_coroutine_enter(qemu_coroutine_create(guest_co, g));
    }
}

/* One mirror from start to end; true when it pivoted. */
static bool one_mirror(Stress *s)
{
    MirrorArgs a = { MIRROR_FULL, .mode = prng_below(&s->prng, MIRROR_COPY_MODE__MAX),
                     .granularity = 512 << prng_below(&s->prng, 9), .keep_zeroes = prng_below(&s->prng, 2),
                     .buf_size = prng_below(&s->prng, 2) ? 0 : 1 + prng_below(&s->prng, 200 * KiB),
                     .flags = prng_below(&s->prng, 3) ? 0 : BLOCK_JOB_MANUAL_FINALIZE };
    BlockJob *job = mirror_begin(&s->m, &a);
    unsigned end = prng_below(&s->prng, 6);
    int ret;

    for (unsigned i = prng_below(&s->prng, 6); i > 0; i--) {
        disturb(s, job);
    }
    if (end == 0) {
        g_assert_cmpint(block_job_cancel_sync(job), ==, -ECANCELED);
        block_job_unref(job);
        return false;
    }
    resume(job);
    test_wait_status(job, JOB_STATUS_READY);
    for (unsigned i = prng_below(&s->prng, 4); i > 0; i--) {
        disturb(s, job);
    }
    resume(job);
    if (end == 1) {
        /* Softly, with the guests at rest, so that the copy can be compared. */
        stop_guests(s);
        block_job_cancel(job, false);
    } else {
        test_wait_status(job, JOB_STATUS_READY);
        block_job_complete(job, &error_abort);
    }
    if (a.flags) {
        test_wait_status(job, JOB_STATUS_PENDING);
        test_settle(2);
        block_job_finalize(job, &error_abort);
    }
    ret = mirror_wait_end(job, 20000);
    g_assert_cmpint(ret, ==, 0);
    if (end == 1) {
        expect_same(s, s->m.target, "copy");
        start_guests(s);
    }
    return end != 1;
}

static void stress(uint64_t seed)
{
    Stress *s = g_new0(Stress, 1);

    s->seed = seed;
    s->prng = (Prng) { seed };
    MemConfig c = { .size = SIZE, .yield_percent = prng_below(&s->prng, 100), .seed = seed,
                    .sleep_us_max = prng_below(&s->prng, 2) * 200, .flags = BDRV_O_UNMAP,
                    .zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK,
                    .bl.request_alignment = prng_below(&s->prng, 2) ? 512 : 1 };

    s->m = mirror_nodes(&c, &c);
    s->discards = prng_below(&s->prng, 2);
    mem_fill(s->m.target, 0, SIZE, 99);
    memcpy(s->model, mem_state(s->m.source)->data, SIZE);
    start_guests(s);
    for (int round = 0; round < 3; round++) {
        if (one_mirror(s)) {
            BlockDriverState *old = s->m.source;

            g_assert_true(blk_bs(s->m.guest) == s->m.target);
            s->m.source = s->m.target;
            s->m.target = old;
        }
        g_assert_true(blk_bs(s->m.guest) == s->m.source);
        test_settle(3);
    }
    stop_guests(s);
    expect_same(s, s->m.source, "disk");
    mirror_end(&s->m);
    g_free(s);
}

static void test_seeds(void)
{
    const char *one = g_getenv("LIVEBLK_TEST_SEED");

    if (one) {
        stress(g_ascii_strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= (g_test_slow() ? 500 : SEEDS); seed++) {
        g_test_message("seed %" PRIu64, seed);
        stress(seed);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/mirror/stress/seeds", test_seeds);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

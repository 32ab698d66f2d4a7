/* SPDX-License-Identifier: MIT */
/* live_threads.c: guests in several iothreads on one node, while the main thread does to it all
 * that may be done to a live node: mirrors that change speed, pause, pivot or are cancelled,
 * bitmaps, filters put in and taken out, drains of one and of all, moves to other contexts.
 *
 * Goal: no byte is lost and no thread steps on another: to be run under the thread checker.
 * Method: each guest owns an area and knows what is there; after each mirror that was completed the
 * node it pivoted to holds all of it. Bitmaps miss no write.
 */
#include "base/osdep.h"
#include "block/blockjob.h"
#include "block/dirty-bitmap.h"
#include "memdrv.h"

enum { GUESTS = 4, THREADS = 3, AREA = 64 * 1024, SIZE = GUESTS * AREA, ROUNDS = 40 };

typedef struct Guest {
    int index;
    BlockBackend *blk;
    Prng prng;
    uint8_t expect[AREA];
    uint64_t ops;               /* atomic */
} Guest;

static Guest guests[GUESTS];
static IOThread *threads[THREADS];
static unsigned running, stop;  /* atomic */
static Prng prng = { 42 };

static void coroutine_fn guest_one(Guest *g)
{
    int64_t at = prng_below(&g->prng, AREA - 1), n = 1 + prng_below(&g->prng, MIN(AREA - at, 9000));
    int64_t offset = (int64_t)g->index * AREA + at;
    g_autofree uint8_t *buf = g_malloc(n);

    switch (prng_below(&g->prng, 8)) {
    case 0 ... 2:
        g_assert_cmpint(blk_co_pread(g->blk, offset, n, buf, 0), ==, 0);
        g_assert_cmpmem(buf, n, g->expect + at, n);
        break;
    case 3 ... 5:
        memset(buf, prng_u64(&g->prng), n);
        g_assert_cmpint(blk_co_pwrite(g->blk, offset, n, buf, 0), ==, 0);
        memcpy(g->expect + at, buf, n);
        break;
    case 6:
        g_assert_cmpint(blk_co_pwrite_zeroes(g->blk, offset, n, BDRV_REQ_MAY_UNMAP), ==, 0);
        memset(g->expect + at, 0, n);
        break;
    case 7:
        g_assert_cmpint(blk_co_flush(g->blk), ==, 0);
        break;
    }
}

static void coroutine_fn guest_co(void *opaque)
{
    Guest *g = opaque;

    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        guest_one(g);
        if (__atomic_add_fetch(&g->ops, 1, __ATOMIC_RELAXED) % 16 == 0) {
            co_sleep_ns(50000);     /* a small machine must get to the main thread too */
        }
    }
    __atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

static bool guests_run(void *opaque)
{
    return __atomic_load_n(&running, __ATOMIC_SEQ_CST) > 0;
}

static void turns(int n)
{
    while (n--) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

static BlockDriverState *node_now(void)
{
    return bdrv_skip_filters(blk_bs(guests[0].blk));
}

/* All guests got further while the main thread was at it. */
static void let_guests_work(void)
{
    uint64_t before[GUESTS];

    for (int i = 0; i < GUESTS; i++) {
        before[i] = __atomic_load_n(&guests[i].ops, __ATOMIC_RELAXED);
    }
    for (int i = 0; i < GUESTS; i++) {
        while (__atomic_load_n(&guests[i].ops, __ATOMIC_RELAXED) < before[i] + 4) {
            turns(1);
        }
    }
}

/* ---- what the main thread does ---- */

static bool job_is_in(BlockJob *job, JobStatus status)
{
    BlockJobInfo *info = block_job_query(job, &error_abort);
    bool is = info->status == status;

    qapi_free_BlockJobInfo(info);
    return is;
}

static void do_mirror(int round)
{
    g_autofree char *name = g_strdup_printf("t%d", round);
    BlockDriverState *source = node_now(), *target = mem_node_new(name, &(MemConfig) {
        .size = SIZE, .bl.request_alignment = round % 2 ? 512 : 1, .flags = BDRV_O_UNMAP });
    MirrorCopyMode mode = round % 3 ? MIRROR_COPY_MODE_BACKGROUND : MIRROR_COPY_MODE_WRITE_BLOCKING;
    BlockJob *job;

    mirror_start("j", source, target, NULL, BLOCK_JOB_DEFAULT, 64 * KiB, 4096, 64 * KiB, MIRROR_SYNC_MODE_FULL,
                 MIRROR_LEAVE_BACKING_CHAIN, false, BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_REPORT,
                 round % 2, NULL, mode, &error_abort);
    job = block_job_get("j");
    g_assert_nonnull(job);
    let_guests_work();
    block_job_user_pause(job, &error_abort);
    bdrv_drain_all();
    turns(3);
    block_job_user_resume(job, &error_abort);
    block_job_set_speed(job, 0, &error_abort);
    if (round % 4 == 3) {
        g_assert_cmpint(block_job_cancel_sync(job), !=, 0);
        bdrv_unref(target);
        return;
    }
    while (!job_is_in(job, JOB_STATUS_READY)) {
        turns(1);
    }
    bdrv_drain_all_begin();
    bdrv_drain_all_end();
    g_assert_cmpint(block_job_complete_sync(job, &error_abort), ==, 0);
    g_assert_true(node_now() == target);
    bdrv_unref(source);         /* ours; the new one's reference is @target's */
}

static void do_filter(void)
{
    BlockDriverState *top = blk_bs(guests[1].blk);
    BlockDriverState *filter = pass_node_new("extra", top);

    for (int i = 0; i < GUESTS; i++) {
        if (prng_below(&prng, 2)) {
            g_assert_cmpint(blk_replace_bs(guests[i].blk, filter, &error_abort), ==, 0);
        }
    }
    let_guests_work();
    g_assert_cmpint(bdrv_drop_filter(filter, &error_abort), ==, 0);
    bdrv_unref(filter);
}

static void do_bitmap(void)
{
    BlockDriverState *bs = node_now();
    BdrvDirtyBitmap *b;
    g_autofree uint8_t *before = g_malloc(SIZE), *after = g_malloc(SIZE);

    bdrv_drained_begin(bs);
    memcpy(before, mem_state(bs)->data, SIZE);
    b = bdrv_create_dirty_bitmap(bs, 512, "b", &error_abort);
    bdrv_drained_end(bs);
    let_guests_work();
    bdrv_drained_begin(bs);
    memcpy(after, mem_state(bs)->data, SIZE);
    for (int64_t i = 0; i < SIZE; i += 512) {
        g_assert_true(bdrv_dirty_bitmap_get(b, i) || !memcmp(before + i, after + i, 512));
    }
    bdrv_release_dirty_bitmap(b);
    bdrv_drained_end(bs);
}

static void do_move(void)
{
    AioContext *ctx[] = { qemu_get_aio_context(), iothread_get_aio_context(threads[0]),
                          iothread_get_aio_context(threads[1]) };
    AioContext *to = ctx[prng_below(&prng, 3)];

    g_assert_cmpint(bdrv_try_change_aio_context(node_now(), to, NULL, &error_abort), ==, 0);
    g_assert_true(bdrv_get_aio_context(node_now()) == to);
    for (int i = 0; i < GUESTS; i++) {
        g_assert_true(blk_get_aio_context(guests[i].blk) == to);
    }
}

static void guests_start(BlockDriverState *bs)
{
    for (int i = 0; i < THREADS; i++) {
        g_autofree char *id = g_strdup_printf("io%d", i);

        threads[i] = iothread_create(id, NULL, &error_abort);
    }
    running = GUESTS;
    for (int i = 0; i < GUESTS; i++) {
        guests[i] = (Guest) { .index = i, .prng = { 7 + i } };
        guests[i].blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
        blk_set_allow_aio_context_change(guests[i].blk, true);
        /* One of them in the main thread, where all the rest happens. */
        aio_co_enter(i < THREADS ? iothread_get_aio_context(threads[i]) : qemu_get_aio_context(),
                     qemu_coroutine_create(guest_co, &guests[i]));
    }
}

static void guests_end(void)
{
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    aio_wait_while(guests_run, NULL);
    for (int i = 0; i < GUESTS; i++) {
        g_assert_cmpmem(mem_state(node_now())->data + i * AREA, AREA, guests[i].expect, AREA);
    }
}

static void test_live(void)
{
    BlockDriverState *bs = mem_node_new("s", &(MemConfig) { .size = SIZE, .flags = BDRV_O_UNMAP });

    guests_start(bs);
    for (int round = 0; round < ROUNDS; round++) {
        do_mirror(round);
        do_filter();
        do_bitmap();
        do_move();
    }
    guests_end();
    bs = node_now();
    for (int i = 0; i < GUESTS; i++) {
        blk_unref(guests[i].blk);
    }
    bdrv_unref(bs);
    for (int i = 0; i < THREADS; i++) {
        g_assert_cmpint(iothread_destroy(threads[i], &error_abort), ==, 0);
    }
    g_assert_null(bdrv_next_all_states(NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    bdrv_init();
    g_test_add_func("/live/threads", test_live);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

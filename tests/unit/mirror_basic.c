/* SPDX-License-Identifier: MIT */
/* mirror_basic.c: what a mirror copies, what it leaves out, and what it does to the graph.
 *
 * Goal: each argument of mirror_start() does what it says. Method: small nodes in memory whose calls
 * are counted.
 */
#include "mirror_util.h"

static const MemConfig mib = { .size = 1 * MiB, .zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK,
                               .flags = BDRV_O_UNMAP };

static void test_full(void)
{
    Mirror m = mirror_nodes(&mib, &mib);

    mem_fill(m.target, 0, 1 * MiB, 9);
    test_events_begin();
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    test_wait_status(job, JOB_STATUS_READY);
    mirror_expect_equal(&m);
    g_assert_cmpint(job->offset, ==, 1 * MiB);
    g_assert_cmpint(job->len, ==, 1 * MiB);
    g_assert_true(blk_bs(m.guest) != m.source);         /* the filter is between */
    g_assert_true(bdrv_skip_implicit_filters(blk_bs(m.guest)) == m.source);
    block_job_complete(job, &error_abort);
    g_assert_cmpint(mirror_wait_end(job, 5000), ==, 0);
    g_assert_true(blk_bs(m.guest) == m.target);
    test_expect_events("m:created m:running m:ready m:BLOCK_JOB_READY m:waiting m:pending "
                       "m:BLOCK_JOB_COMPLETED m:concluded m:null");
    /* What was flushed is what the source had. */
    g_assert_cmpmem(mem_state(m.target)->durable, 1 * MiB, mem_state(m.source)->data, 1 * MiB);
    mirror_end(&m);
}

/* Known zeroes are neither read nor, where the target is zero already, written; zeroes in data are
 * found. */
static void test_zeroes(void)
{
    for (int unmap = 0; unmap < 2; unmap++) {
        Mirror m = mirror_nodes(&mib, &mib);

        g_assert_cmpint(blk_pwrite_zeroes(m.guest, 256 * KiB, 256 * KiB, 0), ==, 0);    /* known */
        memset(mem_state(m.source)->data + 512 * KiB, 0, 64 * KiB);                     /* not known */
        mem_fill(m.target, 0, 512 * KiB, 7);
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .keep_zeroes = !unmap, .buf_size = 64 * KiB });

        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        mirror_expect_equal(&m);
        g_assert_cmpuint(mem_state(m.source)->calls[MEM_READ], ==, 12);
        g_assert_cmpuint(mem_state(m.target)->calls[MEM_WRITE], ==, 11);
        g_assert_cmpuint(mem_state(m.target)->calls[MEM_ZERO], ==, 4);
        g_assert_cmpint(!!(mem_state(m.target)->last_flags[MEM_ZERO] & BDRV_REQ_MAY_UNMAP), ==, unmap);
        mirror_end(&m);
    }
}

/* With a target that is said to read as zero only data is looked at. */
static void test_zero_target(void)
{
    for (int is_zero = 0; is_zero < 2; is_zero++) {
        Mirror m = mirror_nodes(&mib, &mib);

        g_assert_cmpint(blk_pwrite_zeroes(m.guest, 64 * KiB, 960 * KiB, 0), ==, 0);
        mem_fill(m.target, 512 * KiB, 4096, 7);         /* not so, to see that it is not touched */
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .target_is_zero = is_zero });

        test_wait_status(job, JOB_STATUS_READY);
        g_assert_cmpint(job->len, ==, is_zero ? 64 * KiB : 1 * MiB);
        g_assert_cmpint(mem_state(m.target)->data[512 * KiB] != 0, ==, is_zero);
        guest_write(&m, 128 * KiB, 4096, 5);
        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        g_assert_cmpmem(mem_state(m.target)->data, 512 * KiB, mem_state(m.source)->data, 512 * KiB);
        mirror_end(&m);
    }
}

static void test_none(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { .sync = MIRROR_SYNC_MODE_NONE,
                                                     .backing = MIRROR_LEAVE_BACKING_CHAIN });

    test_wait_status(job, JOB_STATUS_READY);
    g_assert_cmpint(job->len, ==, 0);
    guest_write(&m, 128 * KiB + 512, 1024, 3);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    /* One granule, and nothing else. */
    g_assert_cmpmem(mem_state(m.target)->data + 128 * KiB, 64 * KiB, mem_state(m.source)->data + 128 * KiB, 64 * KiB);
    g_assert_true(buffer_is_zero(mem_state(m.target)->data, 128 * KiB));
    g_assert_true(buffer_is_zero(mem_state(m.target)->data + 192 * KiB, 832 * KiB));
    mirror_end(&m);
}

/* ---- layers ---- */

typedef struct Layers {
    Mirror m;
    BlockDriverState *base;
} Layers;

/* The source is a layer over base; its third 64 KiB are its own, its fourth half and half; the fifth
 * are zeroes of its own. */
static Layers layers_new(bool target_has_base)
{
    const MemConfig layer = { .size = 1 * MiB, .overlay = true };
    Layers l = { .base = mem_node_new("base", &mib) };

    mem_fill(l.base, 0, 1 * MiB, 4);
    l.m.source = mem_node_new("source", &layer);
    l.m.target = mem_node_new("target", &layer);
    g_assert_cmpint(bdrv_set_backing_hd(l.m.source, l.base, &error_abort), ==, 0);
    if (target_has_base) {
        g_assert_cmpint(bdrv_set_backing_hd(l.m.target, l.base, &error_abort), ==, 0);
    }
    mem_fill(l.m.source, 128 * KiB, 64 * KiB + 32 * KiB, 5);
    l.m.guest = blk_new_with_bs(l.m.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(blk_pwrite_zeroes(l.m.guest, 256 * KiB, 64 * KiB, 0), ==, 0);
    return l;
}

static void expect_same_view(Layers *l, uint8_t *before)
{
    g_autofree uint8_t *after = g_malloc(1 * MiB);

    g_assert_true(blk_bs(l->m.guest) == l->m.target);
    g_assert_cmpint(blk_pread(l->m.guest, 0, 1 * MiB, after, 0), ==, 0);
    for (int i = 0; i < 1 * MiB; i++) {
        if (before[i] != after[i]) {
            g_error("at %d: %02x before, %02x after", i, before[i], after[i]);
        }
    }
}

static void layers_end(Layers *l)
{
    mirror_end(&l->m);
    bdrv_unref(l->base);
    g_assert_null(bdrv_find_node("base"));
}

static void test_top(void)
{
    g_autofree uint8_t *before = g_malloc(1 * MiB);
    Layers l = layers_new(true);

    g_assert_cmpint(blk_pread(l.m.guest, 0, 1 * MiB, before, 0), ==, 0);
    BlockJob *job = mirror_begin(&l.m, &(MirrorArgs) { .sync = MIRROR_SYNC_MODE_TOP,
                                                       .backing = MIRROR_LEAVE_BACKING_CHAIN });

    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    expect_same_view(&l, before);
    /* Only what the top layer had; half a granule even. */
    g_assert_cmpmem(mem_state(l.m.target)->present, 2048, mem_state(l.m.source)->present, 2048);
    layers_end(&l);
}

/* The target gets the source's backing only at the end, and shows the same then. A guest's small
 * write meanwhile must not lose its neighbours. */
static void test_top_takes_backing(void)
{
    for (int mode = 0; mode < MIRROR_COPY_MODE__MAX; mode++) {
        g_autofree uint8_t *before = g_malloc(1 * MiB);
        Layers l = layers_new(false);
        BlockJob *job = mirror_begin(&l.m, &(MirrorArgs) { .sync = MIRROR_SYNC_MODE_TOP, .mode = mode,
                                                           .backing = MIRROR_SOURCE_BACKING_CHAIN });

        test_wait_status(job, JOB_STATUS_READY);
        guest_write(&l.m, 600 * KiB, 512, 6);
        g_assert_cmpint(blk_pread(l.m.guest, 0, 1 * MiB, before, 0), ==, 0);
        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        g_assert_true(bdrv_cow_bs(l.m.target) == l.base);
        expect_same_view(&l, before);
        g_assert_cmpint(mem_state(l.m.target)->present[0], ==, 0);      /* thin all the same */
        layers_end(&l);
    }
}

/* sync=none: what the target does not hold it shows from the source. */
static void test_none_takes_source(void)
{
    g_autofree uint8_t *before = g_malloc(1 * MiB);
    Layers l = layers_new(false);
    BlockJob *job = mirror_begin(&l.m, &(MirrorArgs) { .sync = MIRROR_SYNC_MODE_NONE,
                                                       .backing = MIRROR_SOURCE_BACKING_CHAIN });

    test_wait_status(job, JOB_STATUS_READY);
    guest_write(&l.m, 600 * KiB, 512, 6);
    g_assert_cmpint(blk_pread(l.m.guest, 0, 1 * MiB, before, 0), ==, 0);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_true(bdrv_cow_bs(l.m.target) == l.m.source);
    expect_same_view(&l, before);
    g_assert_cmpint(bdrv_set_backing_hd(l.m.target, NULL, &error_abort), ==, 0);
    layers_end(&l);
}

/* A full mirror makes the target whole. */
static void test_full_of_chain(void)
{
    g_autofree uint8_t *before = g_malloc(1 * MiB);
    Layers l = layers_new(false);

    g_assert_cmpint(blk_pread(l.m.guest, 0, 1 * MiB, before, 0), ==, 0);
    BlockJob *job = mirror_begin(&l.m, &(MirrorArgs) { MIRROR_FULL });

    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_null(l.m.target->backing);
    expect_same_view(&l, before);
    layers_end(&l);
}

/* ---- granularity and amount in flight ---- */

static void test_granularity(void)
{
    for (int64_t g = 512; g <= 64 * MiB; g *= 2) {
        Mirror m = mirror_nodes(&mib, &mib);
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .granularity = g });

        g_assert_cmpint(mirror_of(job)->copy.granularity, ==, g);
        test_wait_status(job, JOB_STATUS_READY);
        guest_write(&m, 777, 1234, 2);
        guest_write(&m, 1 * MiB - 5, 5, 2);
        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        mirror_expect_equal(&m);
        mirror_end(&m);
    }
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    g_assert_cmpint(mirror_of(job)->copy.granularity, ==, 64 * KiB);
    g_assert_cmpint(block_job_cancel_sync(job), ==, -ECANCELED);
    block_job_unref(job);
    mirror_end(&m);
}

static void test_buf_size(void)
{
    static const int64_t sizes[] = { 1, 64 * KiB, 100 * KiB, 192 * KiB, 1 * MiB };

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        MemConfig slow = mib;

        slow.yield_percent = 100;
        slow.sleep_us_max = 300;
        Mirror m = mirror_nodes(&slow, &slow);
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .buf_size = sizes[i] });
        MirrorJob *s = mirror_of(job);
        int64_t most = 0;

        while (job->status != JOB_STATUS_READY) {
            most = MAX(most, s->copy.in_flight_bytes);
            aio_poll(qemu_get_aio_context(), true);
        }
        g_assert_cmpint(most, >, 0);
        g_assert_cmpint(most, <=, MAX(sizes[i], 64 * KiB));      /* a granule at least */
        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        mirror_expect_equal(&m);
        mirror_end(&m);
    }
}

/* ---- the graph ---- */

static void test_filter_name(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .filter = "myfilter" });
    BlockDriverState *top = bdrv_find_node("myfilter");
    Error *err = NULL;

    g_assert_true(top && top == blk_bs(m.guest));
    g_assert_true(bdrv_skip_implicit_filters(top) == top);      /* named: not hidden */
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_null(bdrv_find_node("myfilter"));

    /* A name in use: refused, nothing has changed. */
    blk_remove_bs(m.guest);
    blk_insert_bs(m.guest, m.source, &error_abort);
    mirror_try(&m, &(MirrorArgs) { MIRROR_FULL, .filter = "target" }, &err);
    g_assert_nonnull(err);
    error_free(err);
    g_assert_true(blk_bs(m.guest) == m.source);
    mirror_end(&m);
}

static void test_many_parents(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockBackend *second = blk_new_with_bs(m.source, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    BlockDriverState *filter = pass_node_new("above", m.source);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_true(blk_bs(m.guest) == m.target);
    g_assert_true(blk_bs(second) == m.target);
    g_assert_true(bdrv_filter_bs(filter) == m.target);
    g_assert_true(LIST_EMPTY(&m.source->parents));
    blk_unref(second);
    bdrv_unref(filter);
    mirror_end(&m);
}

/* `replaces`: a filter above the source keeps nothing, its parents use the target. */
static void test_replaces(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockDriverState *below = m.source, *filter = pass_node_new("above", m.source);
    Error *err = NULL;

    blk_remove_bs(m.guest);
    blk_insert_bs(m.guest, filter, &error_abort);
    m.source = filter;
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .replaces = "source" });

    test_wait_status(job, JOB_STATUS_READY);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_true(blk_bs(m.guest) == filter);
    g_assert_true(bdrv_filter_bs(filter) == m.target);

    /* Of a node that is not there any more the completion tells. */
    m.source = below;
    blk_remove_bs(m.guest);
    blk_insert_bs(m.guest, below, &error_abort);
    bdrv_unref(filter);
    job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .replaces = "gone" });
    test_wait_status(job, JOB_STATUS_READY);
    block_job_complete(job, &err);
    test_expect_error(err, "Failed to find node with node-name='gone'");
    g_assert_cmpint(block_job_cancel_sync(job), ==, -ECANCELED);
    block_job_unref(job);
    mirror_end(&m);
}

static void test_refused(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    Error *err = NULL;

    mirror_start("m", m.source, m.source, NULL, 0, 0, 0, 0, MIRROR_SYNC_MODE_FULL, MIRROR_LEAVE_BACKING_CHAIN, true,
                 0, 0, true, NULL, 0, &err);
    test_expect_error(err, "Can't mirror node into itself");
    err = NULL;
    mirror_try(&m, &(MirrorArgs) { MIRROR_FULL, .speed = -1 }, &err);
    test_expect_error(err, "Parameter 'speed' expects a non-negative value");
    g_assert_true(blk_bs(m.guest) == m.source);
    err = NULL;

    /* Somebody writes to the target and does not share that. */
    BlockBackend *writer = blk_new_with_bs(m.target, BLK_PERM_WRITE, BLK_PERM_CONSISTENT_READ, &error_abort);

    mirror_try(&m, &(MirrorArgs) { MIRROR_FULL }, &err);
    g_assert_nonnull(err);
    error_free(err);
    err = NULL;
    g_assert_true(blk_bs(m.guest) == m.source);
    blk_unref(writer);

    /* While a job is on it the source cannot be resized, nor be mirrored under the same id. */
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    g_assert_cmpint(blk_set_perm(m.guest, BLK_PERM_RESIZE, BLK_PERM_ALL, &err), <, 0);
    error_free(err);
    err = NULL;
    BlockDriverState *other = mem_node_new("other", &mib);

    mirror_start("m", m.source, other, NULL, 0, 0, 0, 0, MIRROR_SYNC_MODE_FULL, MIRROR_LEAVE_BACKING_CHAIN, true,
                 0, 0, true, NULL, 0, &err);
    test_expect_error(err, "Job ID 'm' already in use");
    bdrv_unref(other);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_end(&m);
}

static void test_sizes(void)
{
    static const int64_t sizes[] = { 512 * KiB, 2 * MiB };

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        MemConfig other = mib;

        other.size = sizes[i];
        Mirror m = mirror_nodes(&mib, &other);
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .flags = BLOCK_JOB_MANUAL_DISMISS });

        block_job_ref(job);
        g_assert_cmpint(mirror_wait_end(job, 5000), ==, -EINVAL);
        g_assert_cmpstr(error_get_pretty(job->err), ==, "Source and target image have different sizes");
        g_assert_true(blk_bs(m.guest) == m.source);
        block_job_unref(job);
        block_job_dismiss(&job, &error_abort);
        mirror_end(&m);
    }
    /* Nothing at all, and not a multiple of anything. */
    for (int64_t size = 0; size < 1 * MiB; size += 651 * 512) {
        MemConfig odd = mib;

        odd.size = size;
        Mirror m = mirror_nodes(&odd, &odd);
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        mirror_expect_equal(&m);
        mirror_end(&m);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/mirror/basic/full", test_full);
    g_test_add_func("/mirror/basic/zeroes", test_zeroes);
    g_test_add_func("/mirror/basic/zero-target", test_zero_target);
    g_test_add_func("/mirror/basic/none", test_none);
    g_test_add_func("/mirror/basic/top", test_top);
    g_test_add_func("/mirror/basic/top-takes-backing", test_top_takes_backing);
    g_test_add_func("/mirror/basic/none-takes-source", test_none_takes_source);
    g_test_add_func("/mirror/basic/full-of-chain", test_full_of_chain);
    g_test_add_func("/mirror/basic/granularity", test_granularity);
    g_test_add_func("/mirror/basic/buf-size", test_buf_size);
    g_test_add_func("/mirror/basic/filter-name", test_filter_name);
    g_test_add_func("/mirror/basic/many-parents", test_many_parents);
    g_test_add_func("/mirror/basic/replaces", test_replaces);
    g_test_add_func("/mirror/basic/refused", test_refused);
    g_test_add_func("/mirror/basic/sizes", test_sizes);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

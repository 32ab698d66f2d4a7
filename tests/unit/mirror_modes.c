/* SPDX-License-Identifier: MIT */
/* mirror_modes.c: how a guest's writes reach the target: in the background, on both sides, after a
 * change on the run; and that the job parks when it should.
 *
 * Method: a target whose calls are counted, and a job that cannot copy because it is paused.
 */
#include "mirror_util.h"
#include "block/qdict.h"

static const MemConfig mib = { .size = 1 * MiB, .zero_flags = BDRV_REQ_MAY_UNMAP, .flags = BDRV_O_UNMAP };

static BlockJob *ready_mirror(Mirror *m, MirrorCopyMode mode)
{
    BlockJob *job = mirror_begin(m, &(MirrorArgs) { MIRROR_FULL, .mode = mode });

    test_wait_status(job, JOB_STATUS_READY);
    return job;
}

static void change_mode(BlockJob *job, MirrorCopyMode mode, Error **errp)
{
    BlockJobChangeOptions o = { .id = (char *)"m", .type = JOB_TYPE_MIRROR, .u.mirror.copy_mode = mode };

    job_change(job, &o, errp);
}

static void pause_wait(BlockJob *job)
{
    block_job_user_pause(job, &error_abort);
    test_wait_status(job, JOB_STATUS_STANDBY);
}

static void test_background(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = ready_mirror(&m, MIRROR_COPY_MODE_BACKGROUND);
    MemState *t = mem_state(m.target);
    unsigned writes = t->calls[MEM_WRITE];

    pause_wait(job);
    guest_write(&m, 100, 5000, 2);
    g_assert_cmpuint(t->calls[MEM_WRITE], ==, writes);
    g_assert_cmpint(bdrv_get_dirty_count(mirror_of(job)->copy.dirty), ==, 64 * KiB);
    block_job_user_resume(job, &error_abort);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* All kinds of writes on both sides at once; nothing becomes dirty. */
static void test_write_blocking(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = ready_mirror(&m, MIRROR_COPY_MODE_WRITE_BLOCKING);
    BlockJobInfo *info = block_job_query(job, &error_abort);

    g_assert_true(info->u.mirror.actively_synced);
    qapi_free_BlockJobInfo(info);
    pause_wait(job);
    guest_write(&m, 100, 5000, 2);
    g_assert_cmpint(blk_pwrite_zeroes(m.guest, 64 * KiB, 70000, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_pdiscard(m.guest, 512 * KiB, 64 * KiB), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(mirror_of(job)->copy.dirty), ==, 0);
    mirror_expect_equal(&m);
    g_assert_true(buffer_is_zero(mem_state(m.target)->data + 512 * KiB, 64 * KiB));
    block_job_user_resume(job, &error_abort);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_end(&m);
}

static void test_change(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = ready_mirror(&m, MIRROR_COPY_MODE_BACKGROUND);
    Error *err = NULL;

    pause_wait(job);
    change_mode(job, MIRROR_COPY_MODE_BACKGROUND, &error_abort);        /* as it is: nothing */
    guest_write(&m, 0, 512, 2);
    g_assert_cmpint(bdrv_get_dirty_count(mirror_of(job)->copy.dirty), ==, 64 * KiB);
    change_mode(job, MIRROR_COPY_MODE_WRITE_BLOCKING, &error_abort);
    guest_write(&m, 512 * KiB, 512, 2);
    g_assert_cmpint(bdrv_get_dirty_count(mirror_of(job)->copy.dirty), ==, 64 * KiB);
    change_mode(job, MIRROR_COPY_MODE_BACKGROUND, &err);
    test_expect_error(err, "Change to copy mode 'background' is not implemented");
    block_job_user_resume(job, &error_abort);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* A target that is drained gets nothing from the guest either: it is copied afterwards. */
static void test_drained_target(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = ready_mirror(&m, MIRROR_COPY_MODE_WRITE_BLOCKING);
    MemState *t = mem_state(m.target);

    bdrv_drained_begin(m.target);
    unsigned writes = t->calls[MEM_WRITE], zeroes = t->calls[MEM_ZERO];

    guest_write(&m, 100, 5000, 2);
    g_assert_cmpint(blk_pwrite_zeroes(m.guest, 64 * KiB, 70000, 0), ==, 0);
    test_settle(20);
    g_assert_cmpuint(t->calls[MEM_WRITE], ==, writes);
    g_assert_cmpuint(t->calls[MEM_ZERO], ==, zeroes);
    bdrv_drained_end(m.target);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* A guest's discard goes through the filter, and to the target. */
static void test_discard(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = ready_mirror(&m, MIRROR_COPY_MODE_BACKGROUND);

    g_assert_cmpint(blk_pdiscard(m.guest, 128 * KiB, 128 * KiB), ==, 0);
    g_assert_cmpuint(mem_state(m.source)->calls[MEM_DISCARD], ==, 1);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_cmpuint(mem_state(m.target)->calls[MEM_ZERO], >, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* Parked means that none of its copies is in flight. */
static void test_pause_is_quiet(void)
{
    MemConfig slow = mib;

    slow.yield_percent = 100;
    slow.sleep_us_max = 2000;
    Mirror m = mirror_nodes(&slow, &slow);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .granularity = 4096, .buf_size = 64 * KiB });

    for (int i = 0; i < 5 && job->status == JOB_STATUS_RUNNING; i++) {
        test_settle(3);
        block_job_user_pause(job, &error_abort);
        if (job->status == JOB_STATUS_RUNNING) {
            test_wait_status(job, JOB_STATUS_PAUSED);
        }
        g_assert_cmpuint(mirror_of(job)->copy.in_flight, ==, 0);
        unsigned calls = mem_state(m.target)->calls[MEM_WRITE];

        test_settle(10);
        g_assert_cmpuint(mem_state(m.target)->calls[MEM_WRITE], ==, calls);
        block_job_user_resume(job, &error_abort);
    }
    bdrv_drained_begin(m.target);
    g_assert_cmpuint(mirror_of(job)->copy.in_flight, ==, 0);
    bdrv_drained_end(m.target);
    bdrv_drain_all_begin();
    g_assert_cmpuint(mirror_of(job)->copy.in_flight, ==, 0);
    bdrv_drain_all_end();
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* The limit holds, and lifting it works on a job that sleeps for long. */
static void test_speed(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    int64_t began = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .speed = 2 * MiB, .buf_size = 64 * KiB });

    test_wait_status(job, JOB_STATUS_READY);
    int64_t ms = (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - began) / 1000000;

    g_assert_cmpint(ms, >=, 300);       /* 1 MiB at 2 MiB/s, less one slice */
    g_assert_cmpint(ms, <, 5000);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    blk_remove_bs(m.guest);
    blk_insert_bs(m.guest, m.source, &error_abort);

    job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .speed = 1, .buf_size = 64 * KiB });
    test_settle(50);
    g_assert_cmpint(job->offset, <, 256 * KiB);
    block_job_set_speed(job, 0, &error_abort);
    test_wait_status(job, JOB_STATUS_READY);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_end(&m);
}

/* ---- files: the target's own backing chain is opened at the end ---- */

static void shell(const char *command)
{
    g_assert_cmpint(system(command), ==, 0);
}

static BlockDriverState *open_named(const char *name, const char *file, int flags)
{
    QDict *d = qdict_new();

    qdict_put_str(d, "driver", "qcow2");
    qdict_put_str(d, "node-name", name);
    return bdrv_open(file, NULL, d, BDRV_O_RDWR | flags, &error_abort);
}

static void test_open_backing(void)
{
    g_autofree char *program = g_find_program_in_path("qemu-img");

    if (!program) {
        g_test_skip("no program to make qcow2 images with a backing file");
        return;
    }
    g_autofree char *dir = g_dir_make_tmp("liveblk-unit-XXXXXX", NULL);
    g_autofree char *remove = g_strdup_printf("rm -rf '%s'", dir);
    g_autofree char *make = g_strdup_printf(
        "cd '%s' && head -c 1048576 /dev/urandom > base.raw && "
        "qemu-img create -q -f qcow2 -F raw -b base.raw source.qcow2 && "
        "qemu-img create -q -f qcow2 -F raw -b base.raw target.qcow2", dir);
    g_autofree char *source = g_build_filename(dir, "source.qcow2", NULL);
    g_autofree char *target = g_build_filename(dir, "target.qcow2", NULL);
    g_autofree char *base = g_build_filename(dir, "base.raw", NULL);
    g_autofree uint8_t *before = g_malloc(1 * MiB), *after = g_malloc(1 * MiB);
    Error *err = NULL;

    shell(make);
    Mirror m = { .source = open_named("source", source, 0),
                 .target = open_named("target", target, BDRV_O_NO_BACKING) };

    g_assert_null(m.target->backing);
    m.guest = blk_new_with_bs(m.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    guest_write(&m, 70000, 1000, 3);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { .sync = MIRROR_SYNC_MODE_TOP, .granularity = 512,
                                                     .backing = MIRROR_OPEN_BACKING_CHAIN });

    g_assert_cmpint(mirror_of(job)->copy.granularity, ==, 64 * KiB);        /* the target's cluster */
    test_wait_status(job, JOB_STATUS_READY);
    guest_write(&m, 300000, 10, 4);
    g_assert_cmpint(blk_pread(m.guest, 0, 1 * MiB, before, 0), ==, 0);

    /* Its backing is not there: the completion is refused, and can be tried again. */
    g_autofree char *away = g_strdup_printf("mv '%s' '%s.away'", base, base);
    g_autofree char *back = g_strdup_printf("mv '%s.away' '%s'", base, base);

    shell(away);
    block_job_complete(job, &err);
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(error_get_pretty(err), "base.raw"));
    error_free(err);
    g_assert_cmpint(job->status, ==, JOB_STATUS_READY);
    shell(back);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_true(blk_bs(m.guest) == m.target);
    g_assert_nonnull(m.target->backing);
    g_assert_cmpint(blk_pread(m.guest, 0, 1 * MiB, after, 0), ==, 0);
    g_assert_cmpmem(before, 1 * MiB, after, 1 * MiB);
    mirror_end(&m);
    shell(remove);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    bdrv_init();
    g_test_add_func("/mirror/modes/background", test_background);
    g_test_add_func("/mirror/modes/write-blocking", test_write_blocking);
    g_test_add_func("/mirror/modes/change", test_change);
    g_test_add_func("/mirror/modes/drained-target", test_drained_target);
    g_test_add_func("/mirror/modes/discard", test_discard);
    g_test_add_func("/mirror/modes/pause-is-quiet", test_pause_is_quiet);
    g_test_add_func("/mirror/modes/speed", test_speed);
    g_test_add_func("/mirror/modes/open-backing", test_open_backing);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

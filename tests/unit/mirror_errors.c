/* SPDX-License-Identifier: MIT */
/* mirror_errors.c: source and target fail, fill up and hang; the job ends, or waits, as asked.
 *
 * Goal: each policy on either side, then a cancel in each state, also of a target that never answers.
 * Method: nodes in memory whose operations fail or hang when told to.
 */
#include "mirror_util.h"

static const MemConfig mib = { .size = 1 * MiB };

/* ---- policies ---- */

static bool no_event_yet(void *opaque)
{
    return !strstr(test_events->str, opaque);
}

static void expect_event(const char *event)
{
    if (!test_wait(no_event_yet, (void *)event, 5000)) {
        g_error("no %s in %s", event, test_events->str);
    }
}

static void test_report(void)
{
    for (int on_read = 0; on_read < 2; on_read++) {
        Mirror m = mirror_nodes(&mib, &mib);
        MemState *bad = mem_state(on_read ? m.source : m.target);

        bad->error[on_read ? MEM_READ : MEM_WRITE] = -EIO;
        bad->error_after[on_read ? MEM_READ : MEM_WRITE] = 3;
        test_events_begin();
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .buf_size = 64 * KiB });

        g_assert_cmpint(mirror_wait_end(job, 5000), ==, -EIO);
        g_autofree char *text = g_strdup_printf("m:created m:running m:BLOCK_JOB_ERROR(%s,report) m:aborting "
            "m:BLOCK_JOB_COMPLETED(Input/output error) m:concluded m:null", on_read ? "read" : "write");

        test_expect_events(text);
        g_assert_true(blk_bs(m.guest) == m.source);
        guest_write(&m, 0, 512, 3);
        mirror_end(&m);
    }
}

/* Stopped, mended, resumed: nothing is missing. */
static void test_stop(void)
{
    static const struct { bool on_read; int error; BlockdevOnError policy; BlockDeviceIoStatus status; } cases[] = {
        { false, EIO, BLOCKDEV_ON_ERROR_STOP, BLOCK_DEVICE_IO_STATUS_FAILED },
        { false, ENOSPC, BLOCKDEV_ON_ERROR_STOP, BLOCK_DEVICE_IO_STATUS_NOSPACE },
        { false, ENOSPC, BLOCKDEV_ON_ERROR_ENOSPC, BLOCK_DEVICE_IO_STATUS_NOSPACE },
        { true, EIO, BLOCKDEV_ON_ERROR_STOP, BLOCK_DEVICE_IO_STATUS_FAILED },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        Mirror m = mirror_nodes(&mib, &mib);
        MemState *bad = mem_state(cases[i].on_read ? m.source : m.target);
        int op = cases[i].on_read ? MEM_READ : MEM_WRITE;

        bad->error[op] = -cases[i].error;
        bad->error_after[op] = 2;
        test_events_begin();
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .buf_size = 64 * KiB,
                                                         .on_source = cases[i].policy, .on_target = cases[i].policy });

        for (int again = 0; again < 2; again++) {
            test_wait_status(job, JOB_STATUS_PAUSED);
            g_assert_cmpint(job->iostatus, ==, cases[i].status);
            g_assert_true(block_job_user_paused(job));
            g_assert_cmpuint(mirror_of(job)->copy.in_flight, ==, 0);
            expect_event(cases[i].on_read ? "(read,stop)" : "(write,stop)");
            test_events_begin();
            if (again) {
                bad->error[op] = 0;
            }
            block_job_user_resume(job, &error_abort);     /* which fails at once again, or works */
        }
        g_assert_cmpint(job->iostatus, ==, BLOCK_DEVICE_IO_STATUS_OK);
        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        mirror_expect_equal(&m);
        mirror_end(&m);
    }
}

/* enospc: anything else is reported. */
static void test_enospc_reports_others(void)
{
    Mirror m = mirror_nodes(&mib, &mib);

    mem_state(m.target)->error[MEM_WRITE] = -EIO;
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .on_target = BLOCKDEV_ON_ERROR_ENOSPC });

    g_assert_cmpint(mirror_wait_end(job, 5000), ==, -EIO);
    mirror_end(&m);
}

/* Ignored: tried again, slowly, until it works; never ready before. */
static void test_ignore(void)
{
    for (int on_read = 0; on_read < 2; on_read++) {
        Mirror m = mirror_nodes(&mib, &mib);
        MemState *bad = mem_state(on_read ? m.source : m.target);
        int op = on_read ? MEM_READ : MEM_WRITE;

        bad->error[op] = -EIO;
        bad->error_after[op] = 2;
        test_events_begin();
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .buf_size = 64 * KiB,
                                                         .on_source = BLOCKDEV_ON_ERROR_IGNORE,
                                                         .on_target = BLOCKDEV_ON_ERROR_IGNORE });

        expect_event(on_read ? "(read,ignore)" : "(write,ignore)");
        test_settle(200);
        g_assert_cmpint(job->status, ==, JOB_STATUS_RUNNING);
        g_assert_cmpint(job->iostatus, ==, BLOCK_DEVICE_IO_STATUS_OK);
        g_assert_cmpuint(bad->calls[op], <, 30);        /* no storm of attempts */
        bad->error[op] = 0;
        g_assert_cmpint(mirror_complete_wait(job), ==, 0);
        mirror_expect_equal(&m);
        mirror_end(&m);
    }
}

/* The guest's write goes to both sides and fails on the target: the guest does not notice, the job
 * does; after the resume both agree. */
static void test_write_through_fails(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .mode = MIRROR_COPY_MODE_WRITE_BLOCKING,
                                                     .on_target = BLOCKDEV_ON_ERROR_STOP });

    test_wait_status(job, JOB_STATUS_READY);
    mem_state(m.target)->error[MEM_WRITE] = -ENOSPC;
    guest_write(&m, 4096, 4096, 6);
    test_wait_status(job, JOB_STATUS_STANDBY);
    g_assert_cmpint(job->iostatus, ==, BLOCK_DEVICE_IO_STATUS_NOSPACE);
    mem_state(m.target)->error[MEM_WRITE] = 0;
    block_job_user_resume(job, &error_abort);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* Errors of the flush before ready, and of the last moment. */
static void test_flush_fails(void)
{
    Mirror m = mirror_nodes(&mib, &mib);

    mem_state(m.target)->error[MEM_FLUSH] = -EIO;
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    g_assert_cmpint(mirror_wait_end(job, 5000), ==, -EIO);
    mem_state(m.target)->error[MEM_FLUSH] = 0;

    job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .flags = BLOCK_JOB_MANUAL_DISMISS });
    test_wait_status(job, JOB_STATUS_READY);
    guest_write(&m, 0, 512, 9);
    mem_state(m.target)->error[MEM_FLUSH] = -ENOSPC;
    block_job_ref(job);
    block_job_complete(job, &error_abort);
    g_assert_cmpint(mirror_wait_end(job, 5000), ==, -ENOSPC);
    g_assert_cmpstr(error_get_pretty(job->err), ==,
                    "Could not bring the target up to date: No space left on device");
    g_assert_true(blk_bs(m.guest) == m.source);         /* no pivot to what may not be there */
    block_job_unref(job);
    block_job_dismiss(&job, &error_abort);
    mirror_end(&m);
}

/* ---- ends ---- */

static void test_cancel_states(void)
{
    for (int state = 0; state < 5; state++) {
        Mirror m = mirror_nodes(&mib, &mib);
        bool ready = state == 2 || state == 3;
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .speed = ready || state == 4 ? 0 : 64 * KiB,
                                                         .buf_size = 64 * KiB, .flags = BLOCK_JOB_MANUAL_FINALIZE });

        if (ready || state == 4) {
            test_wait_status(job, JOB_STATUS_READY);
        }
        if (state == 1 || state == 3) {
            block_job_user_pause(job, &error_abort);
            test_wait_status(job, state == 1 ? JOB_STATUS_PAUSED : JOB_STATUS_STANDBY);
        }
        if (state == 4) {
            block_job_complete(job, &error_abort);
            test_wait_status(job, JOB_STATUS_PENDING);
        }
        g_assert_cmpint(block_job_cancel_sync(job), ==, -ECANCELED);
        block_job_unref(job);
        g_assert_true(blk_bs(m.guest) == m.source);
        guest_write(&m, 0, 512, 3);
        mirror_end(&m);
    }
}

/* Ready and cancelled softly: the target is a copy of that moment, the guest stays. */
static void test_cancel_soft(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    test_wait_status(job, JOB_STATUS_READY);
    guest_write(&m, 1000, 100000, 8);
    block_job_user_cancel(job, false, &error_abort);
    g_assert_cmpint(mirror_wait_end(job, 5000), ==, 0);
    g_assert_true(blk_bs(m.guest) == m.source);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* Pending: the guest goes on writing; what it wrote is there after the finalize. */
static void test_finalize(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .flags = BLOCK_JOB_MANUAL_FINALIZE });

    test_wait_status(job, JOB_STATUS_READY);
    block_job_complete(job, &error_abort);
    test_wait_status(job, JOB_STATUS_PENDING);
    guest_write(&m, 5000, 300000, 11);
    g_assert_true(blk_bs(m.guest) != m.target);
    block_job_finalize(job, &error_abort);
    g_assert_true(blk_bs(m.guest) == m.target);
    g_assert_cmpint(job->offset, ==, job->len);
    block_job_unref(job);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* ---- hanging ---- */

typedef struct GuestWrite {
    Mirror *m;
    int64_t offset;
    int ret;
    bool done;
    uint8_t buf[4096];
} GuestWrite;

static void coroutine_fn guest_write_co(void *opaque)
{
    GuestWrite *w = opaque;

    memset(w->buf, 0x77, sizeof(w->buf));
    w->ret = blk_co_pwrite(w->m->guest, w->offset, sizeof(w->buf), w->buf, 0);
    w->done = true;
    memset(w->buf, 0, sizeof(w->buf));      /* the guest uses its buffer again */
}

static bool write_not_done(void *opaque)
{
    return !((GuestWrite *)opaque)->done;
}

/* The target hangs, in a copy, in a flush, in a guest's own write: a forced cancel ends the job in
 * bounded time, the guest goes on, and the target is let go when it answers. */
static void test_hang(void)
{
    for (int where = 0; where < 5; where++) {
        Mirror m = mirror_nodes(&mib, &mib);
        MemState *t = mem_state(m.target);
        bool through = where == 2 || where == 3;
        GuestWrite w = { .m = &m, .offset = 8192 };

        if (where == 4) {       /* asked whether it is zero already */
            g_assert_cmpint(blk_pwrite_zeroes(m.guest, 0, 1 * MiB, 0), ==, 0);
        }
        t->hang[MEM_STATUS] = where == 4;

        t->hang[MEM_WRITE] = where == 0;
        t->hang[MEM_FLUSH] = where == 1;
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL,
                                     .mode = through ? MIRROR_COPY_MODE_WRITE_BLOCKING : MIRROR_COPY_MODE_BACKGROUND });

        if (through) {
            test_wait_status(job, JOB_STATUS_READY);
            t->hang[MEM_WRITE] = true;
        }
        qemu_coroutine_enter(qemu_coroutine_create(guest_write_co, &w));
        test_settle(20);
        g_assert_cmpint(w.done, ==, !through);
        if (where == 3) {
            block_job_user_pause(job, &error_abort);
        }
        block_job_cancel(job, true);
        g_assert_cmpint(mirror_wait_end(job, 3000), ==, -ECANCELED);
        g_assert_true(test_wait(write_not_done, &w, 3000));
        g_assert_cmpint(w.ret, ==, 0);
        g_assert_null(block_job_get("m"));
        g_assert_true(blk_bs(m.guest) == m.source);
        g_assert_cmphex(mem_state(m.source)->data[8192], ==, 0x77);
        guest_write(&m, 4096, 4096, 2);
        g_assert_true(!LIST_EMPTY(&m.target->parents));
        t->hang[MEM_WRITE] = t->hang[MEM_FLUSH] = t->hang[MEM_STATUS] = false;
        test_settle(50);
        g_assert_true(LIST_EMPTY(&m.target->parents));
        if (through) {
            g_assert_cmphex(t->data[8192], ==, 0x77);       /* its data, not what the buffer became */
        }
        mirror_end(&m);
    }
}

/* A guest's own write hangs on the target: the loop waits for it, and does not spin. */
static void test_hang_beside_dirt(void)
{
    Mirror m = mirror_nodes(&mib, &mib);
    GuestWrite w = { .m = &m, .offset = 64 * KiB };
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .mode = MIRROR_COPY_MODE_WRITE_BLOCKING });

    test_wait_status(job, JOB_STATUS_READY);
    mem_state(m.target)->hang[MEM_WRITE] = true;
    qemu_coroutine_enter(qemu_coroutine_create(guest_write_co, &w));
    copy_mark_dirty(&mirror_of(job)->copy, 64 * KiB, 64 * KiB);     /* all of it is that write's */
    test_settle(100);                                               /* which comes back */
    mem_state(m.target)->hang[MEM_WRITE] = false;
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_true(w.done && w.ret == 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* Hanging for a while only: nothing is lost, and meanwhile no more is in flight than allowed. */
static void test_stall(void)
{
    Mirror m = mirror_nodes(&mib, &mib);

    mem_state(m.target)->hang[MEM_WRITE] = true;
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .buf_size = 128 * KiB });

    test_settle(50);
    for (int i = 0; i < 10; i++) {
        guest_write(&m, i * 50000, 1000, 4);
    }
    g_assert_cmpint(mirror_of(job)->copy.in_flight_bytes, <=, 128 * KiB);
    g_assert_cmpint(job->status, ==, JOB_STATUS_RUNNING);
    mem_state(m.target)->hang[MEM_WRITE] = false;
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    mirror_expect_equal(&m);
    mirror_end(&m);
}

/* All jobs end at quit, also a ready and a paused one. */
static void test_quit(void)
{
    for (int ready = 0; ready < 2; ready++) {
        Mirror m = mirror_nodes(&mib, &mib);
        BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL, .speed = ready ? 0 : 1 });

        if (ready) {
            test_wait_status(job, JOB_STATUS_READY);
        }
        block_job_user_pause(job, &error_abort);
        block_job_cancel_sync_all();
        block_job_unref(job);
        g_assert_null(block_job_next(NULL));
        g_assert_true(blk_bs(m.guest) == m.source);
        mirror_end(&m);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/mirror/errors/report", test_report);
    g_test_add_func("/mirror/errors/stop", test_stop);
    g_test_add_func("/mirror/errors/enospc-reports-others", test_enospc_reports_others);
    g_test_add_func("/mirror/errors/ignore", test_ignore);
    g_test_add_func("/mirror/errors/write-through-fails", test_write_through_fails);
    g_test_add_func("/mirror/errors/flush-fails", test_flush_fails);
    g_test_add_func("/mirror/errors/cancel-states", test_cancel_states);
    g_test_add_func("/mirror/errors/cancel-soft", test_cancel_soft);
    g_test_add_func("/mirror/errors/finalize", test_finalize);
    g_test_add_func("/mirror/errors/hang", test_hang);
    g_test_add_func("/mirror/errors/hang-beside-dirt", test_hang_beside_dirt);
    g_test_add_func("/mirror/errors/stall", test_stall);
    g_test_add_func("/mirror/errors/quit", test_quit);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* mirror_util.h: for the tests of the mirror: a source and a target in memory, with a guest's
 * backend on the source. Main thread. */
#ifndef TESTS_MIRROR_UTIL_H
#define TESTS_MIRROR_UTIL_H

#include "job_util.h"
#include "job/mirror.h"

typedef struct MirrorArgs {
    const char *replaces, *filter;
    int flags;
    int64_t speed, buf_size;
    uint32_t granularity;
    MirrorSyncMode sync;                /* 0 is not FULL: always say it */
    BlockMirrorBackingMode backing;
    bool target_is_zero, keep_zeroes;   /* the opposite of zero_target and unmap */
    BlockdevOnError on_source, on_target;
    MirrorCopyMode mode;
} MirrorArgs;

/* What most tests start with. */
#define MIRROR_FULL .sync = MIRROR_SYNC_MODE_FULL, .backing = MIRROR_LEAVE_BACKING_CHAIN

typedef struct Mirror {
    BlockDriverState *source, *target;
    BlockBackend *guest;                /* on the source; follows the pivot */
} Mirror;

/* 1 MiB unless @config says otherwise; the source filled. */
static G_GNUC_UNUSED Mirror mirror_nodes(const MemConfig *source, const MemConfig *target)
{
    Mirror m = { .source = mem_node_new("source", source), .target = mem_node_new("target", target) };

    mem_fill(m.source, 0, source->size, 1);
    m.guest = blk_new_with_bs(m.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    return m;
}

static G_GNUC_UNUSED BlockJob *mirror_try(Mirror *m, const MirrorArgs *a, Error **errp)
{
    mirror_start("m", m->source, m->target, a->replaces, a->flags, a->speed, a->granularity, a->buf_size, a->sync,
                 a->backing, !a->target_is_zero, a->on_source, a->on_target, !a->keep_zeroes, a->filter, a->mode,
                 errp);
    return block_job_get("m");
}

/* Started; our reference. */
static G_GNUC_UNUSED BlockJob *mirror_begin(Mirror *m, const MirrorArgs *a)
{
    BlockJob *job = mirror_try(m, a, &error_abort);

    block_job_ref(job);
    return job;
}

static G_GNUC_UNUSED MirrorJob *mirror_of(BlockJob *job)
{
    return container_of(job, MirrorJob, common);
}

static G_GNUC_UNUSED void mirror_end(Mirror *m)
{
    test_no_jobs();
    blk_unref(m->guest);
    bdrv_unref(m->source);
    bdrv_unref(m->target);
    g_assert_null(bdrv_find_node("source"));
    g_assert_null(bdrv_find_node("target"));
}

/* Both nodes hold the same bytes. */
static G_GNUC_UNUSED void mirror_expect_equal(Mirror *m)
{
    MemState *s = mem_state(m->source), *t = mem_state(m->target);

    g_assert_cmpint(s->size, ==, t->size);
    for (int64_t i = 0; i < s->size; i++) {
        if (s->data[i] != t->data[i]) {
            g_error("at %" PRId64 ": source %02x, target %02x", i, s->data[i], t->data[i]);
        }
    }
}

static bool mirror_not_ended(void *opaque)
{
    BlockJob *job = opaque;

    return job->status != JOB_STATUS_NULL && job->status != JOB_STATUS_CONCLUDED;
}

/* Wait for the end, at most @ms, and give up our reference. The result. */
static G_GNUC_UNUSED int mirror_wait_end(BlockJob *job, int64_t ms)
{
    if (!test_wait(mirror_not_ended, job, ms)) {
        g_error("job is %s after %d ms", JobStatus_str(job->status), (int)ms);
    }
    int ret = job->ret;

    block_job_unref(job);
    return ret;
}

static G_GNUC_UNUSED int mirror_complete_wait(BlockJob *job)
{
    test_wait_status(job, JOB_STATUS_READY);
    g_assert_cmpint(job->offset, <=, job->len);
    block_job_complete(job, &error_abort);
    return mirror_wait_end(job, 20000);
}

static G_GNUC_UNUSED void guest_write(Mirror *m, int64_t offset, int64_t bytes, unsigned seed)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    for (int64_t i = 0; i < bytes; i++) {
        buf[i] = mem_pattern(offset + i, seed);
    }
    g_assert_cmpint(blk_pwrite(m->guest, offset, bytes, buf, 0), ==, 0);
}

#endif

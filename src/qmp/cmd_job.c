/* SPDX-License-Identifier: MIT */
/* cmd_job.c: commands on jobs. */
#include "base/osdep.h"
#include "block/block_int-global-state.h"
#include "block/blockjob_int.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

/* job-* know every job; block-job-* those on block devices, and say so in another way. */
static BlockJob *find_job(const char *id, Error **errp)
{
    BlockJob *job = block_job_get(id);

    if (!job) {
        error_setg(errp, "Job not found");
    }
    return job;
}

static BlockJob *find_block_job(const char *id, Error **errp)
{
    BlockJob *job = block_job_get(id);

    if (!job || !block_job_is_block(job)) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id);
        return NULL;
    }
    return job;
}

#define JOB_VERB(name, find, arg, call)             \
    void qmp_##name(const char *arg, Error **errp)  \
    {                                               \
        BlockJob *job = find(arg, errp);            \
                                                    \
        if (job) {                                  \
            call;                                   \
        }                                           \
    }

JOB_VERB(job_pause, find_job, id, block_job_user_pause(job, errp))
JOB_VERB(job_resume, find_job, id, block_job_user_resume(job, errp))
JOB_VERB(job_cancel, find_job, id, block_job_user_cancel(job, true, errp))
JOB_VERB(job_complete, find_job, id, block_job_complete(job, errp))
JOB_VERB(job_dismiss, find_job, id, block_job_dismiss(&job, errp))
JOB_VERB(job_finalize, find_job, id, block_job_finalize(job, errp))
JOB_VERB(block_job_pause, find_block_job, device, block_job_user_pause(job, errp))
JOB_VERB(block_job_resume, find_block_job, device, block_job_user_resume(job, errp))
JOB_VERB(block_job_complete, find_block_job, device, block_job_complete(job, errp))
JOB_VERB(block_job_dismiss, find_block_job, id, block_job_dismiss(&job, errp))
JOB_VERB(block_job_finalize, find_block_job, id, block_job_finalize(job, errp))

void qmp_block_job_set_speed(const char *device, int64_t speed, Error **errp)
{
    BlockJob *job = find_block_job(device, errp);

    if (job) {
        block_job_set_speed(job, speed, errp);
    }
}

void qmp_block_job_cancel(const char *device, bool has_force, bool force, Error **errp)
{
    BlockJob *job = find_block_job(device, errp);

    force = has_force && force;
    if (!job) {
        return;
    }
    if (block_job_user_paused(job) && !force) {
        error_setg(errp, "The block job for device '%s' is currently paused", device);
        return;
    }
    block_job_user_cancel(job, force, errp);
}

void qmp_block_job_change(BlockJobChangeOptions *arg, Error **errp)
{
    BlockJob *job = find_block_job(arg->id, errp);

    if (job) {
        job_change(job, arg, errp);
    }
}

JobInfoList *qmp_query_jobs(Error **errp)
{
    JobInfoList *list = NULL, **tail = &list;

    for (BlockJob *job = block_job_next(NULL); job; job = block_job_next(job)) {
        if (!block_job_is_internal(job)) {
            *tail = g_new0(JobInfoList, 1);
            (*tail)->value = job_query(job);
            tail = &(*tail)->next;
        }
    }
    return list;
}

BlockJobInfoList *qmp_query_block_jobs(Error **errp)
{
    BlockJobInfoList *list = NULL, **tail = &list;

    for (BlockJob *job = block_job_next(NULL); job; job = block_job_next(job)) {
        if (!block_job_is_internal(job) && block_job_is_block(job)) {
            *tail = g_new0(BlockJobInfoList, 1);
            (*tail)->value = block_job_query(job, errp);
            tail = &(*tail)->next;
        }
    }
    return list;
}

/* ---- blockdev-mirror ---- */

static bool check_granularity(uint32_t granularity, Error **errp)
{
    if (granularity && (granularity < 512 || granularity > 64 * MiB)) {
        error_setg(errp, "Parameter 'granularity' expects a value in range [512B, 64MB]");
        return false;
    }
    if (granularity && !is_power_of_2(granularity)) {
        error_setg(errp, "Parameter 'granularity' expects a power of 2");
        return false;
    }
    return true;
}

/* A source must be a root: nothing in the graph above it but users of devices. */
static bool check_root_node(BlockDriverState *bs, Error **errp)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds || c->klass->stay_at_node) {
            error_setg(errp, "Need a root block node");
            return false;
        }
    }
    return true;
}

void qmp_blockdev_mirror(const char *job_id, const char *device, const char *target_name, const char *replaces,
                         MirrorSyncMode sync, bool has_speed, int64_t speed, bool has_granularity,
                         uint32_t granularity, bool has_buf_size, int64_t buf_size,
                         bool has_on_source_error, BlockdevOnError on_source_error,
                         bool has_on_target_error, BlockdevOnError on_target_error,
                         const char *filter_node_name, bool has_copy_mode, MirrorCopyMode copy_mode,
                         bool has_auto_finalize, bool auto_finalize, bool has_auto_dismiss, bool auto_dismiss,
                         Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(device, device, errp), *target;
    int flags = BLOCK_JOB_DEFAULT;

    if (!bs || !check_root_node(bs, errp)) {
        return;
    }
    target = bdrv_lookup_bs(target_name, target_name, errp);
    if (!target) {
        return;
    }
    if (bs == target) {
        error_setg(errp, "Can't mirror node into itself");
        return;
    }
    if (sync == MIRROR_SYNC_MODE_INCREMENTAL || sync == MIRROR_SYNC_MODE_BITMAP) {
        error_setg(errp, "Sync mode '%s' not supported", MirrorSyncMode_str(sync));
        return;
    }
    if (!check_granularity(has_granularity ? granularity : 0, errp) || qmp_node_is_busy(target, true, errp)) {
        return;
    }
    if (has_buf_size && buf_size < 0) {
        error_setg(errp, "Invalid parameter 'buf-size'");
        return;
    }
    if (!bdrv_backing_chain_next(bs) && sync == MIRROR_SYNC_MODE_TOP) {
        sync = MIRROR_SYNC_MODE_FULL;
    }
    if (replaces) {
        BlockDriverState *r = bdrv_find_node(replaces);

        if (!r) {
            error_setg(errp, "Failed to find node with node-name='%s'", replaces);
            return;
        }
        if (!bdrv_recurse_can_replace(bs, r)) {
            error_setg(errp, "Cannot replace '%s' by a node mirrored from '%s', because it cannot be guaranteed "
                       "that doing so would not lead to an abrupt change of visible data", replaces, device);
            return;
        }
    }
    if (bdrv_try_drain(bs, errp) < 0) {
        return;
    }
    flags |= has_auto_finalize && !auto_finalize ? BLOCK_JOB_MANUAL_FINALIZE : 0;
    flags |= has_auto_dismiss && !auto_dismiss ? BLOCK_JOB_MANUAL_DISMISS : 0;
    mirror_start(job_id, bs, target, replaces, flags, has_speed ? speed : 0,
                 has_granularity ? granularity : 0, has_buf_size ? buf_size : 0, sync,
                 MIRROR_LEAVE_BACKING_CHAIN, true,
                 has_on_source_error ? on_source_error : BLOCKDEV_ON_ERROR_REPORT,
                 has_on_target_error ? on_target_error : BLOCKDEV_ON_ERROR_REPORT,
                 true, filter_node_name, has_copy_mode ? copy_mode : MIRROR_COPY_MODE_BACKGROUND, errp);
}

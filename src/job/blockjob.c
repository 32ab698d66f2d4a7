/* SPDX-License-Identifier: MIT */
/* blockjob.c: the nodes a job holds, its error policy, its events, its query.
 */
#include "base/osdep.h"
#include "job/job_private.h"
#include "block/block_int-global-state.h"
#include "qapi-events.h"

/* ---- nodes ---- */

static char *blockjob_parent_desc(BdrvChild *c)
{
    BlockJob *job = c->opaque;

    return g_strdup_printf("%s job '%s'", JobType_str(job->driver->job_type),
                           job->id ? job->id : "");
}

static void blockjob_drained_begin(BdrvChild *c)
{
    job_drained_begin(c->opaque);
}

static bool blockjob_drained_poll(BdrvChild *c)
{
    return job_drained_poll(c->opaque);
}

static void blockjob_drained_end(BdrvChild *c)
{
    job_drained_end(c->opaque);
}

/* A job does its I/O in the main thread, wherever its nodes live. */
static bool blockjob_change_aio_ctx(BdrvChild *c, AioContext *ctx, GHashTable *visited,
                                    Transaction *tran, Error **errp)
{
    return true;
}

static const BdrvChildClass child_job = {
    .stay_at_node   = true,
    .get_parent_desc = blockjob_parent_desc,
    .drained_begin  = blockjob_drained_begin,
    .drained_poll   = blockjob_drained_poll,
    .drained_end    = blockjob_drained_end,
    .change_aio_ctx = blockjob_change_aio_ctx,
};

int block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs,
                       uint64_t perm, uint64_t shared_perm, Error **errp)
{
    BdrvChild *c;

    bdrv_ref(bs);
    c = bdrv_root_attach_child(bs, name, &child_job, 0, perm, shared_perm, job, errp);
    if (!c) {
        return -EPERM;
    }
    job->nodes = g_slist_prepend(job->nodes, c);
    return 0;
}

void block_job_remove_all_bdrv(BlockJob *job)
{
    while (job->nodes) {
        BdrvChild *c = job->nodes->data;

        job->nodes = g_slist_delete_link(job->nodes, job->nodes);
        bdrv_root_unref_child(c);
    }
}

void *block_job_create(const char *job_id, const BlockJobDriver *driver, JobTxn *txn,
                       BlockDriverState *bs, uint64_t perm, uint64_t shared_perm,
                       int64_t speed, int flags, BlockCompletionFunc *cb, void *opaque,
                       Error **errp)
{
    Error *local_err = NULL;
    BlockJob *job;

    if (!job_id && bs && !(flags & BLOCK_JOB_INTERNAL)) {
        const char *device = bdrv_get_device_name(bs);

        job_id = *device ? device : NULL;
    }
    job = job_new(job_id, driver, txn, flags, cb, opaque, errp);
    if (!job) {
        return NULL;
    }
    job->iostatus = BLOCK_DEVICE_IO_STATUS_OK;
    if (bs && block_job_add_bdrv(job, "main node", bs, perm, shared_perm, errp) < 0) {
        block_job_early_fail(job);
        return NULL;
    }
    if (speed) {
        block_job_set_speed(job, speed, &local_err);
        if (local_err) {
            error_propagate(errp, local_err);
            block_job_early_fail(job);
            return NULL;
        }
    }
    return job;
}

/* ---- errors ---- */

void block_job_iostatus_reset(BlockJob *job)
{
    job->iostatus = BLOCK_DEVICE_IO_STATUS_OK;
}

static BlockErrorAction blockjob_policy(BlockdevOnError on_err, int error)
{
    switch (on_err) {
    case BLOCKDEV_ON_ERROR_ENOSPC:
    case BLOCKDEV_ON_ERROR_AUTO:
        return error == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    default:
        return BLOCK_ERROR_ACTION_REPORT;
    }
}

BlockErrorAction block_job_error_action(BlockJob *job, BlockdevOnError on_err,
                                        bool is_read, int error)
{
    BlockErrorAction action = blockjob_policy(on_err, error);

    if (!block_job_is_internal(job)) {
        qapi_event_send_block_job_error(job->id,
                                        is_read ? IO_OPERATION_TYPE_READ : IO_OPERATION_TYPE_WRITE,
                                        action);
    }
    if (action == BLOCK_ERROR_ACTION_STOP) {
        if (!job->user_paused) {
            /* As if the user had paused it: a resume, by the user, tries again. */
            job->user_paused = true;
            job->pause_count++;
        }
        if (job->iostatus == BLOCK_DEVICE_IO_STATUS_OK) {
            job->iostatus = error == ENOSPC ? BLOCK_DEVICE_IO_STATUS_NOSPACE
                                            : BLOCK_DEVICE_IO_STATUS_FAILED;
        }
    }
    return action;
}

/* ---- events ---- */

void blockjob_event_ready(BlockJob *job)
{
    if (!block_job_is_internal(job) && block_job_is_block(job)) {
        qapi_event_send_block_job_ready(job->driver->job_type, job->id, job->len,
                                        job->offset, job->speed);
    }
}

void blockjob_event_pending(BlockJob *job)
{
    if (!block_job_is_internal(job) && block_job_is_block(job)) {
        qapi_event_send_block_job_pending(job->driver->job_type, job->id);
    }
}

void blockjob_event_completed(BlockJob *job)
{
    if (!block_job_is_internal(job) && block_job_is_block(job)) {
        qapi_event_send_block_job_completed(job->driver->job_type, job->id, job->len, job->offset,
                                            job->speed, job->err ? error_get_pretty(job->err) : NULL);
    }
}

void blockjob_event_cancelled(BlockJob *job)
{
    if (!block_job_is_internal(job) && block_job_is_block(job)) {
        qapi_event_send_block_job_cancelled(job->driver->job_type, job->id, job->len, job->offset,
                                            job->speed);
    }
}

/* ---- query ---- */

BlockJobInfo *block_job_query(BlockJob *job, Error **errp)
{
    BlockJobInfo *info;

    if (block_job_is_internal(job)) {
        error_setg(errp, "Cannot query QEMU internal jobs");
        return NULL;
    }
    info = g_new0(BlockJobInfo, 1);
    info->type = job->driver->job_type;
    info->device = g_strdup(job->id);
    info->busy = job->busy;
    info->paused = job->pause_count > 0 || job->status == JOB_STATUS_PENDING;  /* as clients know it */
    info->offset = job->offset;
    info->len = job->len;
    info->speed = job->speed;
    info->io_status = job->iostatus;
    info->ready = job_is_ready(job);
    info->status = job->status;
    info->auto_finalize = job->auto_finalize;
    info->auto_dismiss = job->auto_dismiss;
    info->error = job->err ? g_strdup(error_get_pretty(job->err)) : NULL;
    if (job->driver->query) {
        job->driver->query(job, info);
    }
    return info;
}

/* SPDX-License-Identifier: MIT */
/* cmd_block.c: commands that open, close and resize nodes. Each runs in a coroutine that holds
 * the control lock. */
#include "base/osdep.h"
#include "block/block_int-global-state.h"
#include "block/block-backend.h"
#include "block/blockjob_int.h"
#include "block/qapi-visit.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

void qmp_blockdev_add(BlockdevOptions *arg, Error **errp)
{
    if (!arg->node_name) {
        error_setg(errp, "'node-name' must be specified for the root node");
        return;
    }
    BlockDriverState *bs = bds_tree_init(qapi_to_json(&qapi_type_BlockdevOptions, arg), errp);

    if (bs) {
        bdrv_set_monitor_owned(bs);
    }
}

static BdrvChild *child_of(BlockDriverState *bs, const char *name)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (!strcmp(c->name, name)) {
            return c;
        }
    }
    return NULL;
}

static void change_child(BlockDriverState *bs, const char *child, const char *node, Error **errp)
{
    BdrvChild *c = child ? child_of(bs, child) : NULL;
    BlockDriverState *add = node ? bdrv_find_node(node) : NULL;

    if (child && !c) {
        error_setg(errp, "Node '%s' does not have child '%s'", bdrv_get_node_name(bs), child);
    } else if (node && !add) {
        error_setg(errp, "Node '%s' not found", node);
    } else if (node && !bs->drv->add_child) {
        error_setg(errp, "The node %s does not support adding a child", bdrv_get_device_or_node_name(bs));
    } else if (child && !bs->drv->del_child) {
        error_setg(errp, "The node %s does not support removing a child", bdrv_get_device_or_node_name(bs));
    } else if (bdrv_try_drain(bs, errp) == 0) {
        bdrv_drained_begin(bs);
        if (node) {
            bs->drv->add_child(bs, add, errp);
        } else {
            bs->drv->del_child(bs, c, errp);
        }
        bdrv_drained_end(bs);
        bdrv_refresh_filename(bs);
    }
}

void qmp_x_blockdev_change(const char *parent, const char *child, const char *node, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(parent, parent, errp);

    if (!bs) {
        return;
    }
    if (!child == !node) {
        error_setg(errp, child ? "The parameters child and node are in conflict" : "Either child or node must be specified");
        return;
    }
    bdrv_ref(bs);
    change_child(bs, child, node, errp);
    bdrv_unref(bs);
}

/* The job that works on @bs, or NULL; as a target only if asked. */
static BlockJob *job_on_node(BlockDriverState *bs, bool targets)
{
    for (BlockJob *job = block_job_next(NULL); job; job = block_job_next(job)) {
        for (GSList *l = job->nodes; l; l = l->next) {
            BdrvChild *c = l->data;

            if (c->bs == bs && (targets || strcmp(c->name, "target"))) {
                return job;
            }
        }
    }
    return NULL;
}

bool qmp_node_is_busy(BlockDriverState *bs, bool targets, Error **errp)
{
    BlockJob *job = job_on_node(bs, targets);

    if (job) {
        error_setg(errp, "Node '%s' is busy: block device is in use by block job: %s", bs->node_name,
                   JobType_str(job->driver->job_type));
        return true;
    }
    return false;
}

void qmp_blockdev_del(const char *node_name, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(node_name);
    BdrvChild *c;

    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", node_name);
        return;
    }
    if (qmp_node_is_busy(bs, false, errp)) {
        return;
    }
    LIST_FOREACH(c, &bs->parents, next_parent) {
        BlockDriverState *parent = bdrv_child_parent_bs(c);

        if (parent && (c->role & BDRV_CHILD_COW)) {
            error_setg(errp, "Node '%s' is busy: node is used as backing hd of '%s'", node_name,
                       bdrv_get_device_or_node_name(parent));
            return;
        }
        if (!parent) {
            error_setg(errp, "Node %s is in use", node_name);
            return;
        }
    }
    if (!bs->monitor_owned) {
        error_setg(errp, "Node %s is not owned by the monitor", node_name);
        return;
    }
    if (!LIST_EMPTY(&bs->parents)) {
        error_setg(errp, "Block device %s is in use", node_name);
        return;
    }
    bdrv_release_monitor(bs);
}

void qmp_block_resize(const char *device, const char *node_name, int64_t size, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(device, node_name, errp);

    if (!bs) {
        return;
    }
    if (size < 0) {
        error_setg(errp, "Parameter 'size' expects a >0 size");
        return;
    }
    if (qmp_node_is_busy(bs, true, errp) || bdrv_try_drain(bs, errp) < 0) {
        return;
    }
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_RESIZE, BLK_PERM_ALL, errp);

    if (!blk) {
        return;
    }
    blk_co_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);
    blk_unref(blk);
}

/* ---- blockdev-create: a job that is not a block job ---- */

typedef struct CreateJob {
    BlockJob common;
    const BlockDriver *drv;
    BlockdevCreateOptions *opts;
} CreateJob;

static int coroutine_fn create_run(BlockJob *job, Error **errp)
{
    CreateJob *s = container_of(job, CreateJob, common);
    int ret;

    job_progress_set_remaining(job, 1);
    ret = s->drv->co_create(s->opts, errp);
    job_progress_update(job, 1);
    qapi_free_BlockdevCreateOptions(s->opts);
    s->opts = NULL;
    return ret;
}

static void create_free(BlockJob *job)
{
    qapi_free_BlockdevCreateOptions(container_of(job, CreateJob, common)->opts);
}

static const BlockJobDriver create_job_driver = {
    .instance_size = sizeof(CreateJob),
    .job_type = JOB_TYPE_CREATE,
    .run = create_run,
    .free = create_free,
};

void qmp_blockdev_create(const char *job_id, BlockdevCreateOptions *options, Error **errp)
{
    const BlockDriver *drv = bdrv_find_format(BlockdevDriver_str(options->driver));

    if (!drv || !drv->co_create) {
        error_setg(errp, "Driver does not support blockdev-create");
        return;
    }
    CreateJob *s = block_job_create(job_id, &create_job_driver, NULL, NULL, 0, 0, 0,
                                    BLOCK_JOB_MANUAL_DISMISS, NULL, NULL, errp);

    if (!s) {
        return;
    }
    s->drv = drv;
    s->opts = qapi_clone(&qapi_type_BlockdevCreateOptions, options);
    block_job_start(&s->common);
}

/* ---- x-blockdev-amend: another ---- */

typedef struct AmendJob {
    BlockJob common;
    BlockDriverState *bs;
    BlockdevAmendOptions *opts;
    bool force;
} AmendJob;

static int coroutine_fn amend_keys(AmendJob *s, Error **errp)
{
    const QCryptoBlockAmendOptionsLUKS *luks = &s->opts->u.luks;
    BdrvAmendOptions o = { .refcount_bits = -1, .size = -1, .only_encrypt = true, .force = s->force };
    int ret;

    if (s->opts->driver == BLOCKDEV_DRIVER_QCOW2) {
        QCryptoBlockAmendOptions *encrypt = s->opts->u.qcow2.encrypt;

        if (!encrypt) {
            return 0;
        }
        if (encrypt->format != Q_CRYPTO_BLOCK_FORMAT_LUKS) {
            error_setg(errp, "Amend can't be used to change the qcow2 encryption format");
            return -ENOTSUP;
        }
        luks = &encrypt->u.luks;
    }
    o.encrypt = qapi_to_json(&qapi_type_QCryptoBlockAmendOptionsLUKS, luks);
    ret = bdrv_co_amend(s->bs, &o, errp);
    qdict_unref(o.encrypt);
    return ret;
}

static int coroutine_fn amend_run(BlockJob *job, Error **errp)
{
    AmendJob *s = container_of(job, AmendJob, common);
    int ret;

    job_progress_set_remaining(job, 1);
    ret = amend_keys(s, errp);
    job_progress_update(job, 1);
    return ret;
}

static void amend_free(BlockJob *job)
{
    AmendJob *s = container_of(job, AmendJob, common);

    qapi_free_BlockdevAmendOptions(s->opts);
    bdrv_unref(s->bs);
}

static const BlockJobDriver amend_job_driver = {
    .instance_size = sizeof(AmendJob),
    .job_type = JOB_TYPE_AMEND,
    .run = amend_run,
    .free = amend_free,
};

void qmp_x_blockdev_amend(const char *job_id, const char *node_name, BlockdevAmendOptions *options, bool has_force,
                          bool force, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(NULL, node_name, errp);
    const BlockDriver *drv = bdrv_find_format(BlockdevDriver_str(options->driver));

    if (!bs) {
        return;
    }
    if (!drv) {
        error_setg(errp, "Block driver '%s' not found or not supported", BlockdevDriver_str(options->driver));
        return;
    }
    if (bs->drv != drv) {
        error_setg(errp, "x-blockdev-amend doesn't support changing the block driver");
        return;
    }
    if (!drv->co_amend_keys) {
        error_setg(errp, "Driver does not support x-blockdev-amend");
        return;
    }
    AmendJob *s = block_job_create(job_id, &amend_job_driver, NULL, NULL, 0, 0, 0, BLOCK_JOB_MANUAL_DISMISS, NULL, NULL,
                                   errp);

    if (!s) {
        return;
    }
    s->bs = bs;
    bdrv_ref(bs);
    s->opts = qapi_clone(&qapi_type_BlockdevAmendOptions, options);
    s->force = force;
    block_job_start(&s->common);
}

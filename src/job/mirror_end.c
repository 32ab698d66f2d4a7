/* SPDX-License-Identifier: MIT */
/* mirror_end.c: how a mirror job ends; see mirror.h. Main thread, in a coroutine that holds the
 * control lock (but for cancel and the opening of a backing chain, which are verbs).
 */
#include "job/mirror.h"

#define GRACE_NS    (500 * 1000 * 1000LL)           /* a cancelled job waits that long for its target */
#define PATIENCE_NS (30 * 1000 * 1000 * 1000LL)     /* and one that completes, with its guests, that long */

/* ---- a target that hangs ---- */

static bool has_orphans(void *opaque)
{
    return copy_orphans(opaque) > 0;
}

/* The target goes when its last request has ended. */
static void coroutine_fn release_target_late_co(void *opaque)
{
    MirrorJob *s = opaque;

    aio_wait_while(has_orphans, &s->copy);
    control_co_lock();
    bdrv_root_unref_child(s->lost_target);
    blk_unref(s->copy.target);
    s->copy.target = NULL;
    control_co_unlock();
    block_job_unref(&s->common);
}

/* To detach from a node is to wait for what is in flight on it: keep the job's edge to the target
 * as it is, and the job in memory, for as long as that takes. */
static void release_target_late(MirrorJob *s)
{
    BlockJob *job = &s->common;
    BlockDriverState *target = blk_bs(s->copy.target);

    for (GSList *l = job->nodes; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->bs == target && !strcmp(c->name, "target")) {
            s->lost_target = c;
            job->nodes = g_slist_delete_link(job->nodes, l);
            break;
        }
    }
    g_assert(s->lost_target);
    block_job_ref(job);
    qemu_coroutine_enter(qemu_coroutine_create(release_target_late_co, s));
}

/* ---- taking the filter out ---- */

/* What `replaces` names, if that is still the source's data. */
static BlockDriverState *find_replaced(MirrorJob *s, Error **errp)
{
    BlockDriverState *replaced = bdrv_find_node(s->replaces);

    if (!replaced) {
        error_setg(errp, "Failed to find node with node-name='%s'", s->replaces);
    } else if (!bdrv_recurse_can_replace(s->source, replaced)) {
        error_setg(errp, "Cannot replace '%s' any more: it no longer shows the data of '%s'",
                   s->replaces, s->source->node_name);
        replaced = NULL;
    }
    return replaced;
}

/* Parents of the source become the target's. The filter still is between them. */
static int mirror_pivot(MirrorJob *s, BlockDriverState *target, Error **errp)
{
    BlockDriverState *replaced = s->replaces ? find_replaced(s, errp) : s->source;
    int ret = 0;

    if (!replaced) {
        return -EINVAL;
    }
    if (s->backing_mode == MIRROR_SOURCE_BACKING_CHAIN) {
        /* What the target does not hold itself, it shows from below: with sync=none that is all
         * that was there before. */
        ret = bdrv_set_backing_hd(target, s->sync == MIRROR_SYNC_MODE_NONE ? s->source : s->copy.base, errp);
    }
    if (ret == 0) {
        ret = bdrv_replace_node(replaced == s->source ? s->top : replaced, target, errp);
    }
    return ret;
}

static void mirror_release(MirrorJob *s)
{
    __atomic_store_n(&blk_bs(s->copy.target)->backing_awaited, false, __ATOMIC_RELAXED);
    mirror_top_set_job(s->top, NULL);
    bdrv_release_dirty_bitmap(s->copy.dirty);
    s->copy.dirty = NULL;
    copy_set_deadline(&s->copy, 0, 0);
    if (copy_orphans(&s->copy)) {
        release_target_late(s);
        block_job_remove_all_bdrv(&s->common);
    } else {
        block_job_remove_all_bdrv(&s->common);
        blk_unref(s->copy.target);
        s->copy.target = NULL;
    }
}

/* The graph is as before the job then, but for @pivot. */
static int coroutine_fn mirror_exit(MirrorJob *s, bool pivot, Error **errp)
{
    BlockDriverState *target = blk_bs(s->copy.target), *source = s->source, *top = s->top;
    bool drain_target;
    int ret = 0;

    if (s->filter_gone) {
        return 0;
    }
    s->filter_gone = true;
    bdrv_ref(target);
    bdrv_ref(source);
    bdrv_ref(top);
    bdrv_drained_begin(top);
    aio_wait_while(copy_kick_pending, &s->copy);
    drain_target = copy_orphans(&s->copy) == 0;
    if (drain_target) {
        bdrv_drained_begin(target);
    }
    mirror_release(s);
    if (pivot) {
        ret = mirror_pivot(s, target, errp);
    }
    if (bdrv_drop_filter(top, ret < 0 ? NULL : errp) < 0 && ret == 0) {
        ret = -EPERM;
    }
    if (drain_target) {
        bdrv_drained_end(target);
    }
    bdrv_drained_end(top);
    bdrv_unref(top);            /* ours */
    bdrv_unref(top);            /* the job's: it closes */
    bdrv_unref(source);
    bdrv_unref(target);
    return ret;
}

/* ---- the callbacks ---- */

int coroutine_fn mirror_prepare(BlockJob *job, Error **errp)
{
    MirrorJob *s = container_of(job, MirrorJob, common);
    BlockDriverState *top = s->top;
    int ret;

    /* Guests wait from here on: what became dirty since run() ended is little. */
    copy_set_deadline(&s->copy, PATIENCE_NS, ETIMEDOUT);
    bdrv_ref(top);
    bdrv_drained_begin(top);
    while ((ret = copy_now(&s->copy)) > 0) {
    }
    if (ret == 0) {
        ret = copy_target_request(&s->copy, COPY_FLUSH, 0, 0, NULL, 0);
    }
    if (ret == 0 && s->should_complete && s->sync == MIRROR_SYNC_MODE_NONE) {
        /* What was written before stays in the source, below the target, where guests' flushes
         * will not reach it any more. */
        ret = bdrv_co_flush(s->source);
    }
    copy_progress(&s->copy);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not bring the target up to date");
    } else {
        ret = mirror_exit(s, s->should_complete && !job_cancel_requested(job), errp);
    }
    bdrv_drained_end(top);
    bdrv_unref(top);
    return ret;
}

void coroutine_fn mirror_abort(BlockJob *job)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    if (!s->filter_gone) {
        copy_set_deadline(&s->copy, GRACE_NS, ECANCELED);   /* guests may be waiting for it */
        mirror_exit(s, false, NULL);
    }
}

bool mirror_cancel(BlockJob *job, bool force)
{
    MirrorJob *s = container_of(job, MirrorJob, common);

    force |= !job_is_ready(job);
    if (force && !s->filter_gone) {
        copy_set_deadline(&s->copy, GRACE_NS, ECANCELED);
    }
    return force;
}

bool mirror_open_backing(MirrorJob *s, Error **errp)
{
    BlockDriverState *target = blk_bs(s->copy.target);

    return s->backing_mode != MIRROR_OPEN_BACKING_CHAIN || target->backing ||
           bdrv_open_backing_file(target, errp) == 0;
}

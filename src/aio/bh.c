/* SPDX-License-Identifier: MIT */
/* bh.c: bottom halves: functions run by the loop of a context soon, in the order of
 * scheduling, whoever scheduled them; see block/aio.h.
 *
 * A turn takes the whole list first: what a bottom half schedules runs in the next turn,
 * so that descriptors and timers get theirs.
 */
#include "aio/aio_private.h"

enum {
    BH_QUEUED    = 1 << 0,      /* on bh_stack, or taken and not yet looked at */
    BH_SCHEDULED = 1 << 1,      /* to be called when looked at */
    BH_DELETED   = 1 << 2,      /* to be freed when looked at */
    BH_ONESHOT   = 1 << 3,      /* to be freed before the call */
};

struct QEMUBH {
    AioNode node;
    AioContext *ctx;
    QEMUBHFunc *cb;
    void *opaque;
    unsigned state;             /* atomic: BH_* */
};

QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    QEMUBH *bh = g_new(QEMUBH, 1);

    *bh = (QEMUBH) { .ctx = ctx, .cb = cb, .opaque = opaque };
    return bh;
}

void qemu_bh_schedule(QEMUBH *bh)
{
    AioContext *ctx = bh->ctx;
    unsigned old = __atomic_fetch_or(&bh->state, BH_QUEUED | BH_SCHEDULED, __ATOMIC_SEQ_CST);

    if (!(old & BH_QUEUED)) {
        aio_stack_push(&ctx->bh_stack, &bh->node);
        aio_kick(ctx);
    }
}

void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    QEMUBH *bh = g_new(QEMUBH, 1);

    *bh = (QEMUBH) {
        .ctx = ctx, .cb = cb, .opaque = opaque,
        .state = BH_QUEUED | BH_SCHEDULED | BH_ONESHOT,
    };
    aio_stack_push(&ctx->bh_stack, &bh->node);
    aio_kick(ctx);
}

void qemu_bh_cancel(QEMUBH *bh)
{
    __atomic_fetch_and(&bh->state, ~BH_SCHEDULED, __ATOMIC_SEQ_CST);
}

void qemu_bh_delete(QEMUBH *bh)
{
    unsigned old;

    if (!bh) {
        return;
    }
    old = __atomic_fetch_or(&bh->state, BH_DELETED, __ATOMIC_SEQ_CST);
    if (!(old & BH_QUEUED)) {
        g_free(bh);             /* else by the turn that finds it */
    }
}

static bool bh_run(QEMUBH *bh)
{
    QEMUBHFunc *cb = bh->cb;
    void *opaque = bh->opaque;
    unsigned old = __atomic_fetch_and(&bh->state, ~(BH_QUEUED | BH_SCHEDULED), __ATOMIC_SEQ_CST);

    if (old & (BH_DELETED | BH_ONESHOT)) {
        g_free(bh);
    }
    if ((old & BH_DELETED) || !(old & BH_SCHEDULED)) {
        return false;
    }
    cb(opaque);                 /* may delete its bottom half */
    return true;
}

bool aio_run_bh_stack(AioContext *ctx)
{
    AioNode *node = aio_stack_take(&ctx->bh_stack);
    bool progress = false;

    while (node) {
        AioNode *next = node->next;

        progress |= bh_run(container_of(node, QEMUBH, node));
        node = next;
    }
    return progress;
}

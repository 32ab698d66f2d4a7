/* SPDX-License-Identifier: MIT */
/* timer.c: timers of a context: a binary heap by time, then by order of arming; see
 * block/aio.h. Home thread only.
 */
#include "aio/aio_private.h"

static bool timer_before(const QEMUTimer *a, const QEMUTimer *b)
{
    return a->expire_ns != b->expire_ns ? a->expire_ns < b->expire_ns : a->sequence < b->sequence;
}

static void heap_put(AioContext *ctx, unsigned i, QEMUTimer *t)
{
    ctx->heap[i] = t;
    t->heap_index = i;
}

/* Move the timer at @i towards the root as far as it belongs. */
static void heap_up(AioContext *ctx, unsigned i)
{
    QEMUTimer *t = ctx->heap[i];

    for (unsigned parent; i > 0 && timer_before(t, ctx->heap[parent = (i - 1) / 2]); i = parent) {
        heap_put(ctx, i, ctx->heap[parent]);
    }
    heap_put(ctx, i, t);
}

static void heap_down(AioContext *ctx, unsigned i)
{
    QEMUTimer *t = ctx->heap[i];

    for (unsigned child; (child = 2 * i + 1) < ctx->heap_len; i = child) {
        if (child + 1 < ctx->heap_len && timer_before(ctx->heap[child + 1], ctx->heap[child])) {
            child++;
        }
        if (!timer_before(ctx->heap[child], t)) {
            break;
        }
        heap_put(ctx, i, ctx->heap[child]);
    }
    heap_put(ctx, i, t);
}

void timer_init_ns(QEMUTimer *t, AioContext *ctx, QEMUTimerCB *cb, void *opaque)
{
    *t = (QEMUTimer) { .ctx = ctx, .expire_ns = -1, .cb = cb, .opaque = opaque };
}

bool timer_pending(const QEMUTimer *t)
{
    return t->expire_ns >= 0;
}

void timer_del(QEMUTimer *t)
{
    AioContext *ctx = t->ctx;

    if (!timer_pending(t)) {
        return;
    }
    g_assert(qemu_get_current_aio_context() == ctx);
    unsigned i = t->heap_index;
    QEMUTimer *last = ctx->heap[--ctx->heap_len];

    t->expire_ns = -1;
    if (last != t) {
        heap_put(ctx, i, last);
        heap_up(ctx, i);
        heap_down(ctx, last->heap_index);
    }
}

void timer_mod_ns(QEMUTimer *t, int64_t expire_virtual_ns)
{
    AioContext *ctx = t->ctx;

    g_assert(qemu_get_current_aio_context() == ctx);
    timer_del(t);
    t->expire_ns = MAX(expire_virtual_ns, 0);
    t->sequence = ctx->timer_sequence++;
    if (ctx->heap_len == ctx->heap_alloc) {
        ctx->heap_alloc = ctx->heap_alloc * 2 + 8;
        ctx->heap = g_renew(QEMUTimer *, ctx->heap, ctx->heap_alloc);
    }
    heap_put(ctx, ctx->heap_len++, t);
    heap_up(ctx, ctx->heap_len - 1);
}

int64_t aio_next_timer_ns(AioContext *ctx)
{
    if (!ctx->heap_len) {
        return -1;
    }
    /* Into a variable: MAX evaluates twice, and time passes between. */
    int64_t left_ns = ctx->heap[0]->expire_ns - qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    return MAX(left_ns, 0);
}

bool aio_run_timers(AioContext *ctx)
{
    bool progress = false;

    if (!ctx->heap_len) {
        return false;
    }
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    uint64_t end = ctx->timer_sequence;

    /* One that a callback arms for a time that has passed waits for the next turn. */
    while (ctx->heap_len && ctx->heap[0]->expire_ns <= now && ctx->heap[0]->sequence < end) {
        QEMUTimer *t = ctx->heap[0];

        timer_del(t);
        t->cb(t->opaque);       /* may free the timer */
        progress = true;
    }
    return progress;
}

/* SPDX-License-Identifier: MIT */
/* iothread.c: threads that run an AioContext; see block/aio.h.
 *
 * Busy polling: after a turn with work the loop looks at its events for up to poll_ns before it
 * sleeps. When it slept although an event came soon after, poll_ns grows (up to poll_max_ns);
 * when polling found nothing it shrinks.
 */
#include "aio/aio_private.h"

struct IOThread {
    char *id;
    AioContext *ctx;
    IOThreadParams params;
    void *thread;
    unsigned stopping;              /* atomic */
    int pins;
    TAILQ_ENTRY(IOThread) link;
};

static TAILQ_HEAD(, IOThread) iothreads = TAILQ_HEAD_INITIALIZER(iothreads);

void coroutine_thread_cleanup(void);

static void iothread_busy_poll(AioContext *ctx)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), end = start + ctx->poll_ns;

    while (!aio_poll(ctx, false)) {
        if (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) >= end) {
            ctx->poll_ns = ctx->poll_shrink ? ctx->poll_ns / ctx->poll_shrink : 0;
            return;
        }
    }
}

static void iothread_run(void *opaque)
{
    IOThread *t = opaque;
    AioContext *ctx = t->ctx;

    aio_set_current(ctx);
    while (!__atomic_load_n(&t->stopping, __ATOMIC_ACQUIRE)) {
        if (ctx->poll_ns > 0) {
            iothread_busy_poll(ctx);
        }
        int64_t before = ctx->poll_max_ns ? qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) : 0;

        if (aio_poll(ctx, true) && before) {
            int64_t slept = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - before;

            if (slept < ctx->poll_max_ns && ctx->poll_ns < ctx->poll_max_ns) {
                ctx->poll_ns = MIN(ctx->poll_ns ? ctx->poll_ns * ctx->poll_grow : 4000, ctx->poll_max_ns);
            }
        }
    }
    while (aio_poll(ctx, false)) {
    }
    aio_set_current(NULL);
    coroutine_thread_cleanup();
}

IOThread *iothread_by_id(const char *id)
{
    IOThread *t;

    TAILQ_FOREACH(t, &iothreads, link) {
        if (!strcmp(t->id, id)) {
            return t;
        }
    }
    return NULL;
}

IOThread *iothread_next(IOThread *iothread)
{
    return iothread ? TAILQ_NEXT(iothread, link) : TAILQ_FIRST(&iothreads);
}

IOThread *iothread_create(const char *id, const IOThreadParams *params, Error **errp)
{
    if (iothread_by_id(id)) {
        error_setg(errp, "attempt to add duplicate property '%s' to object (type 'container')", id);
        return NULL;
    }
    IOThread *t = g_new0(IOThread, 1);

    t->ctx = aio_context_new(errp);
    if (!t->ctx) {
        g_free(t);
        return NULL;
    }
    t->id = g_strdup(id);
    t->params = params ? *params : (IOThreadParams) { 0 };
    t->ctx->iothread = t;
    t->ctx->poll_max_ns = t->params.poll_max_ns;
    t->ctx->poll_grow = t->params.poll_grow ? t->params.poll_grow : 2;
    t->ctx->poll_shrink = t->params.poll_shrink;
    TAILQ_INSERT_TAIL(&iothreads, t, link);
    t->thread = host_ops->thread_start(id, iothread_run, t, t->ctx);
    if (!t->thread) {
        error_setg(errp, "Could not start the thread of iothread '%s'", id);
        TAILQ_REMOVE(&iothreads, t, link);
        aio_context_unref(t->ctx);
        g_free(t->id);
        g_free(t);
        return NULL;
    }
    return t;
}

AioContext *iothread_get_aio_context(IOThread *iothread)
{
    return iothread->ctx;
}

const char *iothread_get_id(IOThread *iothread)
{
    return iothread->id;
}

void iothread_get_params(IOThread *iothread, IOThreadParams *params)
{
    *params = iothread->params;
}

void iothread_ref(IOThread *iothread)
{
    iothread->pins++;
}

void iothread_unref(IOThread *iothread)
{
    g_assert(iothread->pins > 0);
    iothread->pins--;
}

int iothread_destroy(IOThread *t, Error **errp)
{
    if (t->pins) {
        error_setg(errp, "object '%s' is in use, can not be deleted", t->id);
        return -EBUSY;
    }
    TAILQ_REMOVE(&iothreads, t, link);
    __atomic_store_n(&t->stopping, 1, __ATOMIC_RELEASE);
    host_ops->notify(t->ctx->loop);
    host_ops->thread_join(t->thread);
    aio_context_unref(t->ctx);
    g_free(t->id);
    g_free(t);
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* iothread.c: threads that run an AioContext; see block/aio.h. Main thread, but for
 * what the threads themselves run.
 */
#include "aio/aio_private.h"

struct IOThread {
    char *id;
    AioContext *ctx;
    void *thread;
    bool stopping;                  /* atomic */
    unsigned pins;                  /* atomic */
    TAILQ_ENTRY(IOThread) link;
};

static TAILQ_HEAD(, IOThread) iothreads = TAILQ_HEAD_INITIALIZER(iothreads);

static void iothread_run(void *opaque)
{
    IOThread *t = opaque;

    aio_set_current(t->ctx);
    while (!__atomic_load_n(&t->stopping, __ATOMIC_ACQUIRE)) {
        aio_poll(t->ctx, true);
    }
    while (aio_poll(t->ctx, false)) {
        /* what was still on its way */
    }
    aio_set_current(NULL);
    co_pool_free_thread();
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

static void iothread_free(IOThread *t)
{
    aio_context_unref(t->ctx);
    g_free(t->id);
    g_free(t);
}

IOThread *iothread_create(const char *id, const IOThreadParams *params, Error **errp)
{
    AioContext *ctx;
    IOThread *t;

    g_assert(qemu_in_main_thread());
    if (iothread_by_id(id)) {
        error_setg(errp, "attempt to add duplicate property '%s' to object (type 'container')", id);
        return NULL;
    }
    ctx = aio_context_new(params, errp);
    if (!ctx) {
        error_prepend(errp, "Could not create iothread '%s': ", id);
        return NULL;
    }
    t = g_new0(IOThread, 1);
    t->id = g_strdup(id);
    t->ctx = ctx;
    t->thread = host_ops->thread_start(id, iothread_run, t, ctx);
    if (!t->thread) {
        error_setg(errp, "Could not create iothread '%s': no more threads", id);
        iothread_free(t);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&iothreads, t, link);
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
    *params = iothread->ctx->params;
}

void iothread_ref(IOThread *iothread)
{
    __atomic_fetch_add(&iothread->pins, 1, __ATOMIC_RELAXED);
}

void iothread_unref(IOThread *iothread)
{
    unsigned was = __atomic_fetch_sub(&iothread->pins, 1, __ATOMIC_RELEASE);

    g_assert(was > 0);
}

int iothread_destroy(IOThread *t, Error **errp)
{
    g_assert(qemu_in_main_thread());
    if (__atomic_load_n(&t->pins, __ATOMIC_ACQUIRE)) {
        error_setg(errp, "object '%s' is in use, can not be deleted", t->id);
        return -EBUSY;
    }
    TAILQ_REMOVE(&iothreads, t, link);
    __atomic_store_n(&t->stopping, true, __ATOMIC_RELEASE);
    aio_notify(t->ctx);
    host_ops->thread_join(t->thread);
    iothread_free(t);
    return 0;
}

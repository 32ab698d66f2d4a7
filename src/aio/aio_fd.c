/* SPDX-License-Identifier: MIT */
/* aio_fd.c: waiting for descriptors: coroutines on top of the host's handlers; see
 * block/aio.h. A descriptor has either handlers or waiting coroutines. Home thread.
 */
#include "aio/aio_private.h"

/* One coroutine in aio_co_wait_fd(), on its stack. */
typedef struct FdWaiter {
    Coroutine *co;
    int ret;
} FdWaiter;

typedef struct AioFdWait {
    AioContext *ctx;
    int fd;
    FdWaiter *waiter[2];        /* to read, to write */
} AioFdWait;

void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read, IOHandler *io_write, void *opaque)
{
    g_assert(qemu_get_current_aio_context() == ctx);
    host_ops->fd_set(ctx->loop, fd, io_read, io_write, opaque);
}

static AioFdWait *fd_wait_find(AioContext *ctx, int fd)
{
    return fd >= 0 && fd < ctx->fd_waits_len ? ctx->fd_waits[fd] : NULL;
}

static AioFdWait *fd_wait_get(AioContext *ctx, int fd)
{
    AioFdWait *w;

    g_assert(fd >= 0);
    if (fd >= ctx->fd_waits_len) {
        unsigned len = MAX(2 * ctx->fd_waits_len, fd + 16);

        ctx->fd_waits = g_renew(AioFdWait *, ctx->fd_waits, len);
        memset(ctx->fd_waits + ctx->fd_waits_len, 0,
               (len - ctx->fd_waits_len) * sizeof(*ctx->fd_waits));
        ctx->fd_waits_len = len;
    }
    w = ctx->fd_waits[fd];
    if (!w) {
        w = ctx->fd_waits[fd] = g_new0(AioFdWait, 1);
        w->ctx = ctx;
        w->fd = fd;
    }
    return w;
}

static void fd_wait_read(void *opaque);
static void fd_wait_write(void *opaque);

static void fd_wait_update(AioFdWait *w)
{
    host_ops->fd_set(w->ctx->loop, w->fd, w->waiter[0] ? fd_wait_read : NULL,
                     w->waiter[1] ? fd_wait_write : NULL, w);
}

/* One direction is over: the descriptor is ready or (@ret < 0) given up. The record may be
 * gone when this returns. */
static void fd_wait_finish(AioFdWait *w, bool for_write, int ret)
{
    FdWaiter *waiter = w->waiter[for_write];

    if (waiter) {
        w->waiter[for_write] = NULL;
        fd_wait_update(w);
        waiter->ret = ret;
        aio_co_wake(waiter->co);
    }
}

static void fd_wait_read(void *opaque)
{
    fd_wait_finish(opaque, false, 0);
}

static void fd_wait_write(void *opaque)
{
    fd_wait_finish(opaque, true, 0);
}

int coroutine_fn aio_co_wait_fd(int fd, bool for_write)
{
    AioFdWait *w = fd_wait_get(qemu_get_current_aio_context(), fd);
    FdWaiter me = { .co = qemu_coroutine_self() };

    g_assert(!w->waiter[for_write]);
    w->waiter[for_write] = &me;
    fd_wait_update(w);
    qemu_coroutine_yield();
    return me.ret;
}

void aio_co_fd_cancel(int fd)
{
    AioContext *ctx = qemu_get_current_aio_context();
    AioFdWait *w = fd_wait_find(ctx, fd);
    FdWaiter *waiter[2];

    if (!w) {
        return;
    }
    waiter[0] = w->waiter[0];
    waiter[1] = w->waiter[1];
    w->waiter[0] = w->waiter[1] = NULL;
    fd_wait_update(w);
    ctx->fd_waits[fd] = NULL;
    g_free(w);
    /* Queued, not run here: the caller is about to close the descriptor. */
    for (int i = 0; i < 2; i++) {
        if (waiter[i]) {
            waiter[i]->ret = -ECANCELED;
            co_wake_queued(waiter[i]->co);
        }
    }
}

void aio_fd_waits_free(AioContext *ctx)
{
    for (unsigned i = 0; i < ctx->fd_waits_len; i++) {
        AioFdWait *w = ctx->fd_waits[i];

        g_assert(!w || (!w->waiter[0] && !w->waiter[1]));
        g_free(w);
    }
    g_free(ctx->fd_waits);
    ctx->fd_waits = NULL;
    ctx->fd_waits_len = 0;
}

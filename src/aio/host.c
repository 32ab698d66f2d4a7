/* SPDX-License-Identifier: MIT */
/* host.c: choosing the host back end, and requests from coroutines; see host.h. */
#include "aio/aio_private.h"
#include "aio/host_posix.h"

const HostOps *host_ops;
static const HostOps *host_registered;

void host_register(const HostOps *ops)
{
    host_registered = ops;
}

int host_select(const char *name, Error **errp)
{
    if (host_registered) {
        host_ops = host_registered;
        return 0;
    }
    if (!name) {
        name = getenv("LIVEBLK_HOST");
    }
    if (name && strcmp(name, "threads") && strcmp(name, "io_uring")) {
        error_setg(errp, "Unknown host back end '%s'", name);
        error_append_hint(errp, "It is 'io_uring' or 'threads'.\n");
        return -EINVAL;
    }
    bool uring = (!name || !strcmp(name, "io_uring")) && host_uring_available();

    if (name && !strcmp(name, "io_uring") && !uring) {
        error_setg(errp, "io_uring is not available here");
        error_append_hint(errp, "The kernel or a policy refuses it; 'threads' always works.\n");
        return -ENOSYS;
    }
#ifdef CONFIG_IO_URING
    host_ops = uring ? &host_ops_uring : &host_ops_threads;
#else
    host_ops = &host_ops_threads;
#endif
    return 0;
}

void host_unselect(void)
{
    host_pool_exit();
    host_ops = NULL;
}

static void host_co_complete(HostRequest *req)
{
    aio_co_wake(req->opaque);
}

int64_t coroutine_fn host_co_submit(HostRequest *req)
{
    req->ctx = qemu_get_current_aio_context();
    req->complete = host_co_complete;
    req->opaque = qemu_coroutine_self();
    if (!host_ops->submit(req->ctx->loop, req)) {
        qemu_coroutine_yield();
    }
    return req->ret;
}

/* After a short transfer: the rest of @iov from @skip on; the caller frees. */
static struct iovec *iov_rest(const struct iovec *iov, int niov, int64_t skip, int *nrest)
{
    while (niov && skip >= (int64_t)iov->iov_len) {
        skip -= iov->iov_len;
        iov++;
        niov--;
    }
    struct iovec *rest = g_new(struct iovec, MAX(niov, 1));

    memcpy(rest, iov, niov * sizeof(*iov));
    if (niov) {
        rest[0].iov_base = (char *)rest[0].iov_base + skip;
        rest[0].iov_len -= skip;
    }
    *nrest = niov;
    return rest;
}

static void iov_zero_from(const struct iovec *iov, int niov, int64_t skip)
{
    for (int i = 0; i < niov; i++) {
        if (skip < (int64_t)iov[i].iov_len) {
            memset((char *)iov[i].iov_base + skip, 0, iov[i].iov_len - skip);
            skip = 0;
        } else {
            skip -= iov[i].iov_len;
        }
    }
}

int coroutine_fn host_co_rw(HostFile *file, bool is_write, int64_t offset,
                            const struct iovec *iov, int niov, int64_t bytes, unsigned flags)
{
    HostRequest req = {
        .op = is_write ? HOST_WRITE : HOST_READ, .flags = flags, .file = file,
        .offset = offset, .bytes = bytes, .iov = iov, .niov = niov,
    };
    int64_t done = 0, n = host_co_submit(&req);

    if (likely(n == bytes)) {
        return 0;
    }
    for (;;) {
        if (n < 0) {
            return n;
        }
        done += n;
        if (done == bytes) {
            return 0;
        }
        if (n == 0) {
            if (is_write) {
                return -EIO;
            }
            iov_zero_from(iov, niov, done);
            return 0;
        }
        g_autofree struct iovec *rest = NULL;

        rest = iov_rest(iov, niov, done, &req.niov);
        req.iov = rest;
        req.offset = offset + done;
        req.bytes = bytes - done;
        n = host_co_submit(&req);
    }
}

/* ---- worker pool for coroutines ---- */

typedef struct PoolCall {
    Coroutine *co;
    int ret;
} PoolCall;

static void pool_call_done(void *opaque, int ret)
{
    PoolCall *call = opaque;

    call->ret = ret;
    aio_co_wake(call->co);
}

int coroutine_fn thread_pool_submit_co(int (*func)(void *arg), void *arg)
{
    PoolCall call = { .co = qemu_coroutine_self() };

    host_ops->work(qemu_get_current_aio_context(), func, arg, pool_call_done, &call);
    qemu_coroutine_yield();
    return call.ret;
}

/* SPDX-License-Identifier: MIT */
/* host.c: choosing the host back end, and requests from coroutines; see host.h. */
#include "base/trace.h"
#include "aio/aio_private.h"
#ifdef CONFIG_IO_URING
#include "aio/host_uring.h"
#endif
#ifdef CONFIG_VALGRIND
#include <valgrind/valgrind.h>
#endif

const HostOps *host_ops;
static const HostOps *host_registered;
bool host_serves_nobody;

void host_serve_nobody(void)
{
    host_serves_nobody = true;
}

void host_register(const HostOps *ops)
{
    host_registered = ops;
}

/* Valgrind runs one thread at a time and does not let others run while one waits in a ring: with
 * two threads nothing goes on. */
static bool on_valgrind(void)
{
#ifdef CONFIG_VALGRIND
    return RUNNING_ON_VALGRIND;
#else
    return false;
#endif
}

static int host_choose(const char *name, Error **errp)
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
    host_ops = &host_ops_threads;
    if ((name && !strcmp(name, "threads")) || (!name && (host_serves_nobody || on_valgrind()))) {
        return 0;
    }
#ifdef CONFIG_IO_URING
    int ret = host_uring_probe();

    if (ret == 0) {
        host_ops = &host_ops_uring;
    } else if (name) {
        error_setg_errno(errp, -ret, "io_uring does not work here");
        error_append_hint(errp, ret == -EPERM ?
                          "A policy forbids it (seccomp, or the sysctl kernel.io_uring_disabled); "
                          "the back end 'threads' works everywhere.\n" :
                          "The kernel or a limit refuses it; the back end 'threads' works everywhere.\n");
        return ret;
    }
#else
    if (name) {
        error_setg(errp, "This build has no io_uring");
        error_append_hint(errp, "Use the back end 'threads', or build with liburing.\n");
        return -ENOSYS;
    }
#endif
    return 0;
}

int host_select(const char *name, Error **errp)
{
    int ret = host_choose(name, errp);

    if (ret == 0) {
        TRACE(host, "back end: %s", host_ops->name);
    }
    return ret;
}

void host_unselect(void)
{
    host_ops = NULL;
}

bool host_uring_available(void)
{
#ifdef CONFIG_IO_URING
    return host_uring_probe() == 0;
#else
    return false;
#endif
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
                            const struct iovec *iov, int niov, int64_t bytes, unsigned flags,
                            uint32_t align_bytes)
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
        if (done + n == bytes) {
            return 0;
        }
        /* Go on at a whole block: where the file ended inside one, it may be longer by now. */
        int64_t next = QEMU_ALIGN_DOWN(done + n, (int64_t)align_bytes);

        if (next == done) {
            if (is_write) {
                return -EIO;
            }
            iov_zero_from(iov, niov, done + n);
            return 0;
        }
        done = next;
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

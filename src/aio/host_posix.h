/* SPDX-License-Identifier: MIT */
/* host_posix.h: what the two real back ends share: files, clocks, blocking execution of a
 * request, and doing small requests at once.
 */
#ifndef LIVEBLK_AIO_HOST_POSIX_H
#define LIVEBLK_AIO_HOST_POSIX_H

#include "aio/host.h"

struct HostFile {
    int fd;
    bool direct;
    bool regular, block_device;
    bool in_memory;                     /* on tmpfs: there is no device to wait for */
    /* Adaptive, see host_inline.c. Atomic, relaxed: a race costs a wrong guess. */
    unsigned read_misses, read_skip;
    unsigned flushing;              /* flushes in flight */
    int64_t inline_backoff_until_ns, inline_backoff_ns;
};

int64_t host_posix_clock_ns(QEMUClockType type);
void host_posix_random(void *buf, size_t len);
HostFile *host_posix_open(const char *path, int flags, unsigned mode, int *ret);
void host_posix_close(HostFile *file);
int host_posix_unlink(const char *path);
bool host_posix_path_is_device(const char *path);
int host_posix_lock(HostFile *file, int64_t start, int64_t len, HostLockType type, bool test);
int host_posix_stat(HostFile *file, HostStat *stat);
int host_posix_fd(HostFile *file);
void *host_posix_thread_start(const char *name, void (*run)(void *), void *opaque, AioContext *ctx);
void host_posix_thread_join(void *thread);

/* Run @req in the calling thread, blocking; sets req->ret. Worker threads. */
void host_posix_execute(HostRequest *req);
/* Whether the kernel's ring is the better place for a read or write than a worker. (On a
 * tmpfs it has a thread of its own do it, one wake-up more than ours.) */
static inline bool host_uring_suits(const HostRequest *req)
{
    return (req->op == HOST_READ || req->file->direct) && !req->file->in_memory;
}
extern bool host_serves_nobody;         /* host_serve_nobody() was called */
/* Try to do a small request at once without blocking for long; true: done. The thread
 * of req->ctx. */
bool host_inline_try(HostRequest *req);

/* The worker pool of a context; both back ends make one with each loop. */
typedef struct HostPool HostPool;
HostPool *host_pool_new(AioContext *ctx);
/* Nothing may be queued any more; joins the workers. */
void host_pool_free(HostPool *pool);
/* Execute @req on a worker, then complete it in its context. That context's thread. */
void host_pool_submit(HostRequest *req);
/* HostOps.work. */
void host_pool_work(AioContext *ctx, int (*func)(void *), void *arg,
                    void (*done)(void *opaque, int ret), void *opaque);
#endif

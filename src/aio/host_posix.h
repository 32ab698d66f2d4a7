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
    /* Adaptive, see host_inline.c; any thread, races cost nothing but a guess. */
    unsigned read_misses, read_skip;
    int64_t write_backoff_until_ns;
};

int64_t host_posix_clock_ns(QEMUClockType type);
void host_posix_random(void *buf, size_t len);
HostFile *host_posix_open(const char *path, int flags, unsigned mode, int *ret);
void host_posix_close(HostFile *file);
int host_posix_unlink(const char *path);
int host_posix_lock(HostFile *file, int64_t start, int64_t len, HostLockType type, bool test);
int host_posix_stat(HostFile *file, HostStat *stat);
int host_posix_fd(HostFile *file);
void *host_posix_thread_start(const char *name, void (*run)(void *), void *opaque, AioContext *ctx);
void host_posix_thread_join(void *thread);

/* Run @req in the calling thread, blocking; sets req->ret. Worker threads. */
void host_posix_execute(HostRequest *req);
/* Try to do a small request at once without blocking for long; true: done. */
bool host_inline_try(HostRequest *req);

/* The worker pool. */
void host_pool_init(void);
void host_pool_exit(void);
/* Execute @req on a worker, then complete it in its context. */
void host_pool_submit(HostRequest *req);
void host_pool_work(AioContext *ctx, int (*func)(void *), void *arg,
                    void (*done)(void *opaque, int ret), void *opaque);
#endif

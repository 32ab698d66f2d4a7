/* SPDX-License-Identifier: MIT */
/* host_inline.c: small requests done at once, where the page cache answers.
 *
 * A hop to a worker thread and back costs several times what copying 4 KiB does. So:
 *   reads   preadv2(RWF_NOWAIT): never blocks. After misses in a row it is tried more rarely, so
 *           that a cold disk does not pay for it.
 *   writes  a buffered pwritev of a guest's small request. It may block (dirty page
 *           throttling, a journal that commits), which an event loop must not. So each one is
 *           timed: after one that took long, writes take the asynchronous way for a time in
 *           proportion (100 times as long, at most a second). The loop can be held up by one
 *           such write in each period: at most about one per cent of its time.
 * Bulk requests (large, or not HOST_FLAG_GUEST) never come here.
 */
#include "base/osdep.h"
#include "aio/host_posix.h"

#define INLINE_MAX      (64 * KiB)
#define SLOW_NS         (500 * 1000)
#define BACKOFF_FACTOR  100

static bool inline_read(HostRequest *req)
{
    HostFile *f = req->file;
    unsigned skip = __atomic_load_n(&f->read_skip, __ATOMIC_RELAXED);

    if (skip) {
        __atomic_store_n(&f->read_skip, skip - 1, __ATOMIC_RELAXED);
        return false;
    }
    ssize_t n = preadv2(f->fd, req->iov, MIN(req->niov, IOV_MAX), req->offset, RWF_NOWAIT);

    if (n >= 0) {
        __atomic_store_n(&f->read_misses, 0, __ATOMIC_RELAXED);
        req->ret = n;
        return true;
    }
    unsigned misses = __atomic_load_n(&f->read_misses, __ATOMIC_RELAXED);

    misses = errno == EOPNOTSUPP ? 20 : MIN(misses + 1, 6);
    __atomic_store_n(&f->read_misses, misses, __ATOMIC_RELAXED);
    __atomic_store_n(&f->read_skip, (1u << misses) - 1, __ATOMIC_RELAXED);
    return false;
}

static bool inline_write(HostRequest *req)
{
    HostFile *f = req->file;
    int64_t start = host_posix_clock_ns(QEMU_CLOCK_VIRTUAL);

    if (start < __atomic_load_n(&f->write_backoff_until_ns, __ATOMIC_RELAXED)) {
        return false;
    }
    ssize_t n = pwritev(f->fd, req->iov, MIN(req->niov, IOV_MAX), req->offset);
    int err = errno;
    int64_t end = host_posix_clock_ns(QEMU_CLOCK_VIRTUAL);

    if (end - start > SLOW_NS) {
        __atomic_store_n(&f->write_backoff_until_ns,
                         end + MIN((end - start) * BACKOFF_FACTOR, NANOSECONDS_PER_SECOND),
                         __ATOMIC_RELAXED);
    }
    if (n < 0 && err == EINTR) {
        return false;
    }
    req->ret = n < 0 ? -err : n;
    return true;
}

bool host_inline_try(HostRequest *req)
{
    if (!(req->flags & HOST_FLAG_GUEST) || req->bytes > INLINE_MAX ||
        req->file->direct || !req->file->regular) {
        return false;
    }
    if (req->op == HOST_READ) {
        return inline_read(req);
    }
    return req->op == HOST_WRITE && !(req->flags & HOST_FLAG_FUA) && inline_write(req);
}

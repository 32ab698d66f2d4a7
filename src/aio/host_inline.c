/* SPDX-License-Identifier: MIT */
/* host_inline.c: small requests of guests done at once, where the page cache answers.
 *
 * Handing 4 KiB to another thread and back costs many times the copy. Nothing may block
 * an event loop, though; so:
 *
 * Reads:   preadv2(RWF_NOWAIT), which never blocks. After misses in a row it is tried more
 *          and more rarely, so that a cold disk does not pay for it.
 *
 * Writes:  a buffered write goes to memory and takes a microsecond or two. It has no form
 *          that never blocks on the usual file systems, and io_uring gives it to a kernel
 *          thread for that reason. It blocks when (a) the kernel throttles writers because
 *          too much is dirty, (b) the journal commits, mostly on behalf of a flush, or (c)
 *          the page is being written back or must be read first. So: none while a flush of
 *          the file is in flight (b); each is timed, and after one that took over SLOW_NS all
 *          writes to the file take the asynchronous way for BACKOFF_FACTOR times as
 *          long, doubled with each slow one in a row (a, c). The loop thus loses at most
 *          about 1 / BACKOFF_FACTOR of its time to slow ones, and much less when they
 *          persist, as they do while writers are throttled.
 *
 * tmpfs:   does not know RWF_NOWAIT and needs none of this: a file there is memory, and costs
 *          what other memory of the process costs (a page swapped out, too).
 *
 * Never:   O_DIRECT, devices, writes with FUA, requests above INLINE_MAX or not of a guest.
 *
 * Programs that serve nobody (qemu-img and its like): the same for work that is not a guest's, and so is what
 * the file system answers from its own memory: lengths, where data lies, new lengths, small holes on tmpfs.
 */
#include "aio/aio_private.h"
#include "aio/host_posix.h"

#define INLINE_MAX      (64 * KiB)
#define SLOW_NS         (200 * 1000)
#define BACKOFF_FACTOR  100
#define BACKOFF_NS_MIN  (10 * 1000 * 1000)
#define BACKOFF_NS_MAX  NANOSECONDS_PER_SECOND
#define MISSES_MAX      6       /* at worst one read in 2^6 is tried */
#define MISSES_NEVER    31      /* the file system does not know RWF_NOWAIT */

/* A request took @ns: stay away for a while, longer if the last time did not help. */
static void was_slow(HostFile *f, int64_t now_ns, int64_t ns)
{
    int64_t last = __atomic_load_n(&f->inline_backoff_ns, __ATOMIC_RELAXED);
    int64_t backoff = MAX(MAX(ns * BACKOFF_FACTOR, 2 * last), BACKOFF_NS_MIN);

    backoff = MIN(backoff, BACKOFF_NS_MAX);
    __atomic_store_n(&f->inline_backoff_ns, backoff, __ATOMIC_RELAXED);
    __atomic_store_n(&f->inline_backoff_until_ns, now_ns + backoff, __ATOMIC_RELAXED);
}

/* False: interrupted. */
static bool inline_rw(HostRequest *req)
{
    int fd = req->file->fd, niov = MIN(req->niov, IOV_MAX);
    ssize_t n = req->op == HOST_READ ? preadv(fd, req->iov, niov, req->offset)
                                     : pwritev(fd, req->iov, niov, req->offset);

    req->ret = n < 0 ? -errno : n;
    return req->ret != -EINTR;
}

static bool inline_write(HostRequest *req)
{
    HostFile *f = req->file;
    int64_t start = host_posix_clock_ns(QEMU_CLOCK_VIRTUAL), end, backoff;
    bool done;

    if (__atomic_load_n(&f->flushing, __ATOMIC_RELAXED) ||
        start < __atomic_load_n(&f->inline_backoff_until_ns, __ATOMIC_RELAXED)) {
        return false;
    }
    AIO_COUNT(req->ctx, inline_writes);
    done = inline_rw(req);
    end = host_posix_clock_ns(QEMU_CLOCK_VIRTUAL);
    backoff = __atomic_load_n(&f->inline_backoff_ns, __ATOMIC_RELAXED);
    if (unlikely(end - start > SLOW_NS)) {
        AIO_COUNT(req->ctx, inline_slow);
        was_slow(f, end, end - start);
    } else if (unlikely(backoff) && end - __atomic_load_n(&f->inline_backoff_until_ns, __ATOMIC_RELAXED) > backoff) {
        /* Fast for as long as it had been avoided: forget it. */
        __atomic_store_n(&f->inline_backoff_ns, 0, __ATOMIC_RELAXED);
    }
    return done;
}

static bool inline_read(HostRequest *req)
{
    HostFile *f = req->file;
    unsigned skip = __atomic_load_n(&f->read_skip, __ATOMIC_RELAXED), misses;
    ssize_t n;

    if (skip) {
        __atomic_store_n(&f->read_skip, skip - 1, __ATOMIC_RELAXED);
        return false;
    }
    n = preadv2(f->fd, req->iov, MIN(req->niov, IOV_MAX), req->offset, RWF_NOWAIT);
    if (likely(n >= 0)) {
        if (unlikely(__atomic_load_n(&f->read_misses, __ATOMIC_RELAXED))) {
            __atomic_store_n(&f->read_misses, 0, __ATOMIC_RELAXED);
        }
        AIO_COUNT(req->ctx, inline_reads);
        req->ret = n;           /* perhaps short: host_co_rw() goes on with the rest */
        return true;
    }
    AIO_COUNT(req->ctx, inline_read_misses);
    misses = __atomic_load_n(&f->read_misses, __ATOMIC_RELAXED);
    misses = errno == EOPNOTSUPP ? MISSES_NEVER : MIN(misses + 1, MISSES_MAX);
    __atomic_store_n(&f->read_misses, misses, __ATOMIC_RELAXED);
    __atomic_store_n(&f->read_skip, (1u << misses) - 1, __ATOMIC_RELAXED);
    return false;
}

/* What is neither a read nor a write. */
static bool inline_other(HostRequest *req)
{
    bool now;

    switch (req->op) {
    case HOST_STAT:
    case HOST_STATUS:
        now = true;
        break;
    case HOST_TRUNCATE:
        now = req->file->regular;
        break;
    case HOST_FLUSH:
        now = req->file->in_memory;
        break;
    case HOST_ZERO:
    case HOST_DISCARD:
    case HOST_ALLOCATE:
        now = req->file->in_memory && req->bytes <= INLINE_MAX;
        break;
    default:
        now = false;
        break;
    }
    if (now) {
        host_posix_execute(req);
    }
    return now;
}

bool host_inline_try(HostRequest *req)
{
    HostFile *f = req->file;
    bool is_write = req->op == HOST_WRITE;

    if (!is_write && req->op != HOST_READ) {
        return host_serves_nobody && inline_other(req);
    }
    if ((!(req->flags & HOST_FLAG_GUEST) && !host_serves_nobody) || req->bytes > INLINE_MAX) {
        return false;
    }
    if (f->in_memory) {
        if (is_write) {
            AIO_COUNT(req->ctx, inline_writes);
        } else {
            AIO_COUNT(req->ctx, inline_reads);
        }
        return inline_rw(req);
    }
    if (f->direct || !f->regular) {
        return false;
    }
    return is_write ? !(req->flags & HOST_FLAG_FUA) && inline_write(req) : inline_read(req);
}

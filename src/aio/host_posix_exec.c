/* SPDX-License-Identifier: MIT */
/* host_posix_exec.c: run one request with blocking system calls; see host_posix.h.
 * Worker threads.
 */
#include "base/osdep.h"
#include "aio/host_posix.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int64_t sys(int64_t r)
{
    return r < 0 ? -errno : r;
}

/* File systems and devices say "not supported" in many ways. */
static int64_t notsup(int64_t r)
{
    switch (r) {
    case -EOPNOTSUPP:
    case -ENOSYS:
    case -ENOTTY:
    case -EINVAL:
    case -ENODEV:
    case -EPERM:
        return -ENOTSUP;
    default:
        return r;
    }
}

static int64_t file_allocate(int fd, int mode, int64_t offset, int64_t bytes)
{
    return notsup(sys(fallocate(fd, mode, offset, bytes)));
}

/* Zero, and give the space back. A hole does not make a file longer: what lies
 * beyond the end is zeroed the other way, which does. */
static int64_t zero_unmap(int fd, int64_t offset, int64_t bytes)
{
    struct stat st;
    int64_t inside, r;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    inside = MIN(MAX(st.st_size - offset, 0), bytes);
    r = inside ? file_allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, inside) : 0;
    if (r == 0 && inside < bytes) {
        r = file_allocate(fd, FALLOC_FL_ZERO_RANGE, offset + inside, bytes - inside);
    }
    return r;
}

/* Zero and keep the space, where a file system knows only holes (tmpfs): a hole first,
 * then space for it. */
static int64_t zero_by_hole(int fd, int64_t offset, int64_t bytes)
{
    int64_t r = file_allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);

    return r ? r : file_allocate(fd, 0, offset, bytes);
}

static int64_t do_zero(HostRequest *req)
{
    int fd = req->file->fd;
    int64_t r = -ENOTSUP;

    if (req->file->block_device) {
        uint64_t range[2] = { req->offset, req->bytes };

        if (req->flags & HOST_FLAG_MAY_UNMAP) {
            r = file_allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, req->offset, req->bytes);
        }
        /* A device that cannot do it has the kernel write: still no data crosses to us. */
        return r == -ENOTSUP ? notsup(sys(ioctl(fd, BLKZEROOUT, range))) : r;
    }
    if (req->flags & HOST_FLAG_MAY_UNMAP) {
        r = zero_unmap(fd, req->offset, req->bytes);
    }
    if (r == -ENOTSUP) {
        r = file_allocate(fd, FALLOC_FL_ZERO_RANGE, req->offset, req->bytes);
    }
    return r == -ENOTSUP ? zero_by_hole(fd, req->offset, req->bytes) : r;
}

static int64_t do_discard(HostRequest *req)
{
    if (req->file->block_device) {
        uint64_t range[2] = { req->offset, req->bytes };

        return notsup(sys(ioctl(req->file->fd, BLKDISCARD, range)));
    }
    return file_allocate(req->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, req->offset, req->bytes);
}

/* The run of data or of hole at the offset; not cut at the end of the request, so that a
 * caller may remember all of it. At or beyond the end of the file: a hole of 0 bytes. */
static int64_t do_status(HostRequest *req)
{
    int fd = req->file->fd;
    int64_t data = lseek(fd, req->offset, SEEK_DATA), end;

    if (data > req->offset) {
        req->status.data = false;
        req->status.bytes = data - req->offset;
        return 0;
    }
    if (data < 0 && errno == ENXIO) {           /* no more data */
        end = sys(lseek(fd, 0, SEEK_END));
        req->status.data = false;
        /* What is behind the end reads as zeroes: the last sector of a file of odd length. */
        req->status.bytes = MAX(end - req->offset, req->bytes);
        return MIN(end, 0);
    }
    end = data < 0 ? -1 : lseek(fd, req->offset, SEEK_HOLE);
    if (end <= req->offset) {                   /* cannot tell, or it has changed just now */
        end = req->offset + req->bytes;
    }
    req->status.data = true;
    req->status.bytes = end - req->offset;
    return 0;
}

static int64_t do_rw(HostRequest *req)
{
    int n = MIN(req->niov, IOV_MAX), fd = req->file->fd;

    if (req->op == HOST_READ) {
        return sys(preadv(fd, req->iov, n, req->offset));
    }
    if (req->flags & HOST_FLAG_FUA) {
        return sys(pwritev2(fd, req->iov, n, req->offset, RWF_DSYNC));
    }
    return sys(pwritev(fd, req->iov, n, req->offset));
}

static int64_t do_flush(HostRequest *req)
{
    int64_t r;

    /* Writes at once stay away meanwhile, see host_inline.c. */
    __atomic_fetch_add(&req->file->flushing, 1, __ATOMIC_RELAXED);
    r = sys(fdatasync(req->file->fd));
    __atomic_fetch_sub(&req->file->flushing, 1, __ATOMIC_RELAXED);
    return r;
}

static int64_t do_copy_range(HostRequest *req)
{
    off_t in = req->offset, out = req->offset2;
    int64_t r = sys(copy_file_range(req->file->fd, &in, req->file2->fd, &out, req->bytes, 0));

    /* Different file systems, not regular files, overlapping ranges. */
    return r == -EXDEV || r == -EBADF || r == -EISDIR || r == -ETXTBSY ? -ENOTSUP : notsup(r);
}

static int64_t execute(HostRequest *req)
{
    switch (req->op) {
    case HOST_READ:
    case HOST_WRITE:
        return do_rw(req);
    case HOST_FLUSH:
        return do_flush(req);
    case HOST_ZERO:
        return do_zero(req);
    case HOST_DISCARD:
        return do_discard(req);
    case HOST_ALLOCATE:
        return file_allocate(req->file->fd, 0, req->offset, req->bytes);
    case HOST_TRUNCATE:
        return sys(ftruncate(req->file->fd, req->offset));
    case HOST_STATUS:
        return do_status(req);
    case HOST_COPY_RANGE:
        return do_copy_range(req);
    case HOST_STAT:
        return host_posix_stat(req->file, &req->stat);
    }
    return -ENOTSUP;
}

void host_posix_execute(HostRequest *req)
{
    do {
        req->ret = execute(req);
    } while (req->ret == -EINTR);
}

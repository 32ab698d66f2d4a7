/* SPDX-License-Identifier: MIT */
/* host_posix.c: files by system calls; see host_posix.h. */
#include "base/osdep.h"
#include "aio/host_posix.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

int64_t host_posix_clock_ns(QEMUClockType type)
{
    struct timespec ts;

    clock_gettime(type == QEMU_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

void host_posix_random(void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom((char *)buf + done, len - done, 0);

        if (n > 0) {
            done += n;
        }
    }
}

HostFile *host_posix_open(const char *path, int flags, unsigned mode, int *ret)
{
    int fd = open(path, flags | O_CLOEXEC, mode);
    struct stat st;

    if (fd < 0) {
        *ret = -errno;
        return NULL;
    }
    if (fstat(fd, &st) < 0) {
        *ret = -errno;
        close(fd);
        return NULL;
    }
    HostFile *file = g_new0(HostFile, 1);

    file->fd = fd;
    file->direct = flags & O_DIRECT;
    file->regular = S_ISREG(st.st_mode);
    file->block_device = S_ISBLK(st.st_mode);
    *ret = 0;
    return file;
}

void host_posix_close(HostFile *file)
{
    close(file->fd);
    g_free(file);
}

int host_posix_unlink(const char *path)
{
    return unlink(path) < 0 ? -errno : 0;
}

int host_posix_fd(HostFile *file)
{
    return file->fd;
}

int host_posix_lock(HostFile *file, int64_t start, int64_t len, HostLockType type, bool test)
{
    struct flock fl = {
        .l_whence = SEEK_SET, .l_start = start, .l_len = len,
        .l_type = type == HOST_UNLOCK ? F_UNLCK : type == HOST_LOCK_SHARED ? F_RDLCK : F_WRLCK,
    };

    if (fcntl(file->fd, test ? F_OFD_GETLK : F_OFD_SETLK, &fl) < 0) {
        return errno == EACCES ? -EAGAIN : -errno;
    }
    return test && fl.l_type != F_UNLCK ? -EAGAIN : 0;
}

int host_posix_stat(HostFile *file, HostStat *out)
{
    struct stat st;

    if (fstat(file->fd, &st) < 0) {
        return -errno;
    }
    memset(out, 0, sizeof(*out));
    out->is_regular = S_ISREG(st.st_mode);
    out->is_block_device = S_ISBLK(st.st_mode);
    out->is_char_device = S_ISCHR(st.st_mode);
    out->length_bytes = st.st_size;
    out->allocated_bytes = (int64_t)st.st_blocks * 512;
    out->direct_align_bytes = out->direct_mem_align_bytes = 1;
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
    if (out->is_block_device) {
        uint64_t size;
        unsigned sector = 512, physical = 512;

        if (ioctl(file->fd, BLKGETSIZE64, &size) < 0) {
            return -errno;
        }
        ioctl(file->fd, BLKSSZGET, &sector);
        ioctl(file->fd, BLKPBSZGET, &physical);
        out->length_bytes = size;
        out->logical_block_bytes = sector;
        out->physical_block_bytes = physical;
    }
    if (file->direct) {
        out->direct_align_bytes = out->direct_mem_align_bytes = MAX(out->logical_block_bytes, 512);
#ifdef STATX_DIOALIGN
        struct statx stx;

        if (!statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
            (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
            out->direct_align_bytes = stx.stx_dio_offset_align;
            out->direct_mem_align_bytes = stx.stx_dio_mem_align;
        }
#else
        if (out->is_regular) {
            out->direct_align_bytes = out->direct_mem_align_bytes = 4096;
        }
#endif
    }
    return 0;
}

/* ---- blocking execution ---- */

static int64_t sys(int64_t r)
{
    return r < 0 ? -errno : r;
}

static int64_t notsup(int64_t r)
{
    /* What file systems and devices say instead of "not supported". */
    if (r == -EOPNOTSUPP || r == -ENOSYS || r == -ENOTTY || r == -EINVAL || r == -ENODEV || r == -EPERM) {
        return -ENOTSUP;
    }
    return r;
}

static int64_t do_zero(HostRequest *req)
{
    int fd = req->file->fd;

    if (req->file->block_device) {
        uint64_t range[2] = { req->offset, req->bytes };

        /* The kernel's own fall-back to writing is what "not free of charge" would be; it is
         * still better than ours, since no data crosses the boundary. */
        return notsup(sys(ioctl(fd, BLKZEROOUT, range)));
    }
    if (req->flags & HOST_FLAG_MAY_UNMAP) {
        int64_t r = notsup(sys(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                         req->offset, req->bytes)));

        if (r != -ENOTSUP) {
            return r;
        }
    }
    return notsup(sys(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, req->offset, req->bytes)));
}

static int64_t do_discard(HostRequest *req)
{
    if (req->file->block_device) {
        uint64_t range[2] = { req->offset, req->bytes };

        return notsup(sys(ioctl(req->file->fd, BLKDISCARD, range)));
    }
    return notsup(sys(fallocate(req->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                req->offset, req->bytes)));
}

static int64_t do_status(HostRequest *req)
{
    int fd = req->file->fd;
    off_t data = lseek(fd, req->offset, SEEK_DATA), hole;

    req->status.data = true;
    req->status.bytes = req->bytes;
    if (data < 0) {
        if (errno == ENXIO) {   /* a hole up to the end, or beyond it */
            req->status.data = false;
            return 0;
        }
        return 0;               /* cannot tell: all data */
    }
    if (data > req->offset) {
        req->status.data = false;
        req->status.bytes = MIN(data - req->offset, req->bytes);
        return 0;
    }
    hole = lseek(fd, req->offset, SEEK_HOLE);
    if (hole > req->offset) {
        req->status.bytes = MIN(hole - req->offset, req->bytes);
    }
    return 0;
}

static int64_t do_rw(HostRequest *req)
{
    int rwf = req->flags & HOST_FLAG_FUA ? RWF_DSYNC : 0;
    int n = MIN(req->niov, IOV_MAX);

    if (req->op == HOST_READ) {
        return sys(preadv(req->file->fd, req->iov, n, req->offset));
    }
    return sys(rwf ? pwritev2(req->file->fd, req->iov, n, req->offset, rwf)
                   : pwritev(req->file->fd, req->iov, n, req->offset));
}

void host_posix_execute(HostRequest *req)
{
    off_t in = req->offset, out = req->offset2;

    do {
        switch (req->op) {
        case HOST_READ:
        case HOST_WRITE:
            req->ret = do_rw(req);
            break;
        case HOST_FLUSH:
            req->ret = sys(fdatasync(req->file->fd));
            break;
        case HOST_ZERO:
            req->ret = do_zero(req);
            break;
        case HOST_DISCARD:
            req->ret = do_discard(req);
            break;
        case HOST_ALLOCATE:
            req->ret = notsup(sys(fallocate(req->file->fd, 0, req->offset, req->bytes)));
            break;
        case HOST_TRUNCATE:
            req->ret = sys(ftruncate(req->file->fd, req->offset));
            break;
        case HOST_STATUS:
            req->ret = do_status(req);
            break;
        case HOST_COPY_RANGE:
            req->ret = sys(copy_file_range(req->file->fd, &in, req->file2->fd, &out, req->bytes, 0));
            if (req->ret == -EXDEV || req->ret == -EBADF) {
                req->ret = -ENOTSUP;
            }
            req->ret = req->ret < 0 ? notsup(req->ret) : req->ret;
            break;
        case HOST_STAT:
            req->ret = host_posix_stat(req->file, &req->stat);
            break;
        }
    } while (req->ret == -EINTR);
}

/* ---- threads ---- */

typedef struct HostThread {
    pthread_t id;
    char name[16];
    void (*run)(void *);
    void *opaque;
} HostThread;

static void *host_thread_main(void *opaque)
{
    HostThread *t = opaque;

    pthread_setname_np(pthread_self(), t->name);
    t->run(t->opaque);
    return NULL;
}

void *host_posix_thread_start(const char *name, void (*run)(void *), void *opaque, AioContext *ctx)
{
    HostThread *t = g_new0(HostThread, 1);

    g_strlcpy(t->name, name, sizeof(t->name));
    t->run = run;
    t->opaque = opaque;
    if (pthread_create(&t->id, NULL, host_thread_main, t)) {
        g_free(t);
        return NULL;
    }
    return t;
}

void host_posix_thread_join(void *thread)
{
    HostThread *t = thread;

    pthread_join(t->id, NULL);
    g_free(t);
}

bool host_path_is_device(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
}

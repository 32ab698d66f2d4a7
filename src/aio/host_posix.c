/* SPDX-License-Identifier: MIT */
/* host_posix.c: opening, asking, locking files; clocks, random numbers, threads, by system
 * calls; see host_posix.h. */
#include "base/osdep.h"
#include "aio/host_posix.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
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

/* Opening a FIFO for reading would wait for a writer, for ever perhaps. */
static int open_file(const char *path, int flags, unsigned mode)
{
    struct stat st;
    bool wait = !stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
    int fd;

    do {
        fd = open(path, flags | O_CLOEXEC | (wait ? O_NONBLOCK : 0), mode);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0 && wait) {
        fcntl(fd, F_SETFL, flags & ~(O_CREAT | O_EXCL | O_TRUNC));
    }
    return fd;
}

HostFile *host_posix_open(const char *path, int flags, unsigned mode, int *ret)
{
    int fd = open_file(path, flags, mode);
    struct stat st;
    struct statfs fs;

    if (fd < 0 || fstat(fd, &st) < 0) {
        *ret = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    HostFile *file = g_new0(HostFile, 1);

    file->fd = fd;
    file->direct = flags & O_DIRECT;
    file->regular = S_ISREG(st.st_mode);
    file->block_device = S_ISBLK(st.st_mode);
    file->in_memory = file->regular && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
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
    int ret;

    do {
        ret = fcntl(file->fd, test ? F_OFD_GETLK : F_OFD_SETLK, &fl);
    } while (ret < 0 && errno == EINTR);
    if (ret < 0) {
        return errno == EACCES ? -EAGAIN : -errno;
    }
    return test && fl.l_type != F_UNLCK ? -EAGAIN : 0;
}

static int stat_device(int fd, HostStat *out)
{
    uint64_t size;
    int sector = 512;
    unsigned physical = 512;

    if (ioctl(fd, BLKGETSIZE64, &size) < 0) {
        return -errno;
    }
    if (ioctl(fd, BLKSSZGET, &sector) < 0 || sector <= 0) {
        sector = 512;
    }
    if (ioctl(fd, BLKPBSZGET, &physical) < 0 || physical < (unsigned)sector) {
        physical = sector;
    }
    out->length_bytes = size;
    out->logical_block_bytes = sector;
    out->physical_block_bytes = physical;
    return 0;
}

/* What O_DIRECT asks for: the kernel knows; older ones do not tell, then what is always
 * enough. */
static void stat_direct(int fd, HostStat *out)
{
    uint32_t safe = out->is_block_device ? out->logical_block_bytes : 4096;

    out->direct_align_bytes = safe;
    out->direct_mem_align_bytes = safe;
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
        (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
        out->direct_align_bytes = stx.stx_dio_offset_align;
        out->direct_mem_align_bytes = MAX(stx.stx_dio_mem_align, 1);
    }
#endif
}

int host_posix_stat(HostFile *file, HostStat *out)
{
    struct stat st;
    int ret = 0;

    if (fstat(file->fd, &st) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
    *out = (HostStat) {
        .is_regular = S_ISREG(st.st_mode), .is_block_device = S_ISBLK(st.st_mode),
        .is_char_device = S_ISCHR(st.st_mode), .length_bytes = st.st_size,
        .allocated_bytes = (int64_t)st.st_blocks * 512,
        .direct_align_bytes = 1, .direct_mem_align_bytes = 1,
    };
    if (out->is_block_device) {
        ret = stat_device(file->fd, out);
    }
    if (ret == 0 && file->direct) {
        stat_direct(file->fd, out);
    }
    return ret;
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
    sigset_t all, old;
    int ret;

    g_strlcpy(t->name, name, sizeof(t->name));
    t->run = run;
    t->opaque = opaque;
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    ret = pthread_create(&t->id, NULL, host_thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret) {
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

bool host_posix_path_is_device(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
}

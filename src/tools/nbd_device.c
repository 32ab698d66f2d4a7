/* SPDX-License-Identifier: MIT */
/* nbd_device.c: NBD devices of the kernel; see nbd_device.h. */
#include "nbd_device.h"
#include "base/osdep.h"
#include "block/aio.h"
#include "export/nbd_protocol.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Of <linux/nbd.h>, which has other names in common with the protocol's numbers. */
#define NBD_SET_SOCK        _IO(0xab, 0)
#define NBD_SET_BLKSIZE     _IO(0xab, 1)
#define NBD_DO_IT           _IO(0xab, 3)
#define NBD_CLEAR_SOCK      _IO(0xab, 4)
#define NBD_CLEAR_QUE       _IO(0xab, 5)
#define NBD_SET_SIZE_BLOCKS _IO(0xab, 7)
#define NBD_DISCONNECT      _IO(0xab, 8)
#define NBD_SET_FLAGS       _IO(0xab, 10)

#define SECTOR_BYTES        512
#define PAGE_BYTES          4096        /* the kernel takes no larger blocks */
#define HANDSHAKE_SECONDS   30
#define APPEAR_MS_MAX       5000        /* from NBD_DO_IT on, until the disk shows */
#define FLUSH_SECONDS_MAX   30          /* what is cached of it, when it is disconnected */
#define PART_SECONDS_MAX    10          /* after that */
#define LET_GO_MS_MAX       5000
#define STEP_US             2000

struct NbdDevice {
    char *device, *path, *name;
    void (*ended)(void *);              /* NULL: nobody asks any more; main thread */
    void *opaque;
    int fd, sock;                       /* -1: none; of the serving thread while it runs */
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint16_t flags;
    pthread_t serve, watch, part;
    bool parting;                       /* `part` runs */
    int refs;                           /* main thread: the caller, and the bottom half that tells of the end */
    /* Atomic. */
    bool doing;                         /* the kernel is about to take over */
    bool shown;                         /* the disk is there */
    bool over;                          /* `serve` has ended */
    bool watched;                       /* `watch` has */
    bool parted;
    Error *err;                         /* `serve`'s, before `over` */
};

/* ---- the handshake; serving thread ---- */

static int read_all(int fd, void *buf, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t got = recv(fd, (char *)buf + n, len - n, 0);

        if (got <= 0) {
            return got == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
        }
        n += got;
    }
    return 0;
}

static int write_all(int fd, const void *buf, size_t len)
{
    ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

static uint64_t get_be(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    while (n--) {
        v = v << 8 | *p++;
    }
    return v;
}

static uint8_t *put_be(uint8_t *p, size_t n, uint64_t v)
{
    for (size_t i = n; i--; v >>= 8) {
        p[i] = v;
    }
    return p + n;
}

static int connect_unix(NbdDevice *d, Error **errp)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = HANDSHAKE_SECONDS };
    int err = ENAMETOOLONG;

    if (strlen(d->path) < sizeof(un.sun_path)) {
        strcpy(un.sun_path, d->path);
        d->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (d->sock >= 0 && connect(d->sock, (struct sockaddr *)&un, sizeof(un)) == 0) {
            setsockopt(d->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
            return 0;
        }
        err = errno;
    }
    error_setg_errno(errp, err, "Failed to connect to '%s'", d->path);
    return -err;
}

/* One reply to NBD_OPT_GO. 1: more come; 0: the last one; -errno. */
static int take_reply(NbdDevice *d, Error **errp)
{
    uint8_t head[20];
    int ret = read_all(d->sock, head, sizeof(head));
    uint32_t type = get_be(head + 12, 4), len = get_be(head + 16, 4);

    if (ret == 0 && (get_be(head, 8) != NBD_REP_MAGIC || get_be(head + 8, 4) != NBD_OPT_GO || len > 64 * KiB)) {
        ret = -EPROTO;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "No answer from the NBD server at '%s'", d->path);
        return ret;
    }
    g_autofree uint8_t *data = g_malloc0(len + 1);

    ret = read_all(d->sock, data, len);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "No answer from the NBD server at '%s'", d->path);
        return ret;
    }
    if (type & 0x80000000u) {
        error_setg(errp, "The NBD server at '%s' refuses the export '%s': %s", d->path, d->name, (char *)data);
        return -EINVAL;
    }
    uint16_t info = len >= 2 ? get_be(data, 2) : UINT16_MAX;

    if (type == NBD_REP_INFO && info == NBD_INFO_EXPORT && len == 12) {
        d->size_bytes = get_be(data + 2, 8);
        d->flags = get_be(data + 10, 2);
    } else if (type == NBD_REP_INFO && info == NBD_INFO_BLOCK_SIZE && len == 14) {
        d->block_bytes = get_be(data + 2, 4);
    }
    return type != NBD_REP_ACK;
}

static int handshake(NbdDevice *d, Error **errp)
{
    uint8_t hello[18], ask[64], *p = ask;
    size_t name_bytes = strlen(d->name);
    int ret = read_all(d->sock, hello, sizeof(hello));

    if (ret == 0 && (get_be(hello, 8) != NBD_INIT_MAGIC || get_be(hello + 8, 8) != NBD_OPTS_MAGIC)) {
        ret = -EPROTO;
    }
    p = put_be(p, 4, get_be(hello + 16, 2) & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
    p = put_be(p, 8, NBD_OPTS_MAGIC);
    p = put_be(p, 4, NBD_OPT_GO);
    p = put_be(p, 4, 4 + name_bytes + 4);
    p = put_be(p, 4, name_bytes);
    ret = ret < 0 ? ret : write_all(d->sock, ask, p - ask);
    ret = ret < 0 ? ret : write_all(d->sock, d->name, name_bytes);
    p = put_be(put_be(ask, 2, 1), 2, NBD_INFO_BLOCK_SIZE);
    ret = ret < 0 ? ret : write_all(d->sock, ask, p - ask);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "No NBD server answers at '%s'", d->path);
        return ret;
    }
    while ((ret = take_reply(d, errp)) > 0) {
    }
    return ret;
}

/* ---- the device; serving thread ---- */

static int device_open(const char *device, const char *verb, int *fd, Error **errp)
{
    *fd = open(device, O_RDWR | O_CLOEXEC);
    if (*fd < 0) {
        int err = errno;

        error_setg_errno(errp, err, "%s %s", verb, device);
        if (err == ENOENT && g_str_has_prefix(device, "/dev/nbd")) {
            error_append_hint(errp, "The kernel's module makes these devices: modprobe nbd\n");
        }
        return -err;
    }
    return 0;
}

static int fail(const char *what, Error **errp)
{
    int err = errno;

    error_setg_errno(errp, err, "%s", what);
    return -err;
}

/* Give the kernel what it has to know. What somebody else has set up is left alone. */
static int device_set_up(NbdDevice *d, Error **errp)
{
    unsigned long block = MIN(MAX(d->block_bytes, SECTOR_BYTES), PAGE_BYTES);
    int read_only = !!(d->flags & NBD_FLAG_READ_ONLY);

    if (ioctl(d->fd, NBD_SET_SOCK, (unsigned long)d->sock) < 0) {
        return fail("Failed to set NBD socket", errp);
    }
    if (ioctl(d->fd, NBD_SET_BLKSIZE, block) < 0) {
        return fail("Failed setting NBD block size", errp);
    }
    if (ioctl(d->fd, NBD_SET_SIZE_BLOCKS, (unsigned long)(d->size_bytes / block)) < 0) {
        return fail("Failed setting size (in blocks)", errp);
    }
    if (ioctl(d->fd, NBD_SET_FLAGS, (unsigned long)d->flags) < 0 && errno != ENOTTY) {
        return fail("Failed setting flags", errp);
    }
    if (ioctl(d->fd, BLKROSET, &read_only) < 0) {
        return fail(read_only ? "Failed to mark the device read-only" : "Failed to mark the device writable", errp);
    }
    return 0;
}

static void tell_end(void *opaque)
{
    NbdDevice *d = opaque;

    if (d->ended) {
        d->ended(d->opaque);
    }
    nbd_device_free(d);
}

static void *serve_thread(void *opaque)
{
    NbdDevice *d = opaque;
    struct timeval none = { 0 };
    int ret = device_open(d->device, "Failed to open", &d->fd, &d->err);

    ret = ret < 0 ? ret : connect_unix(d, &d->err);
    ret = ret < 0 ? ret : handshake(d, &d->err);
    if (ret == 0) {
        setsockopt(d->sock, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
        ret = device_set_up(d, &d->err);
        if (ret == 0) {
            __atomic_store_n(&d->doing, true, __ATOMIC_SEQ_CST);
            if (ioctl(d->fd, NBD_DO_IT) < 0 && !__atomic_load_n(&d->shown, __ATOMIC_SEQ_CST)) {
                ret = fail("The kernel does not take the NBD socket", &d->err);
            }
            ioctl(d->fd, NBD_CLEAR_QUE);
            ioctl(d->fd, NBD_CLEAR_SOCK);
        } else if (ret != -EBUSY && ret != -ENOTTY) {
            ioctl(d->fd, NBD_CLEAR_SOCK);
        }
    }
    if (d->sock >= 0) {
        shutdown(d->sock, SHUT_RDWR);
        close(d->sock);
    }
    __atomic_store_n(&d->over, true, __ATOMIC_SEQ_CST);
    aio_wait_kick();
    aio_bh_schedule_oneshot(qemu_get_aio_context(), tell_end, d);
    return NULL;
}

/* ---- waiting for the disk; watching thread ---- */

/* "/sys/block/nbd0/pid", which is there while the device is in use. The caller frees. */
static char *pid_path(const char *device)
{
    g_autofree char *real = realpath(device, NULL);
    g_autofree char *base = g_path_get_basename(real ? real : device);

    return g_strdup_printf("/sys/block/%s/pid", base);
}

static void *watch_thread(void *opaque)
{
    NbdDevice *d = opaque;
    g_autofree char *pid = pid_path(d->device);
    uint64_t bytes = 0, after_us = 0;

    while (!__atomic_load_n(&d->over, __ATOMIC_SEQ_CST)) {
        if (__atomic_load_n(&d->doing, __ATOMIC_SEQ_CST)) {
            ioctl(d->fd, BLKGETSIZE64, &bytes);
            after_us += STEP_US;
            if (bytes || (d->size_bytes < SECTOR_BYTES && (!access(pid, F_OK) || after_us > APPEAR_MS_MAX * 1000))) {
                break;
            }
        }
        g_usleep(STEP_US);
    }
    if (!__atomic_load_n(&d->over, __ATOMIC_SEQ_CST)) {
        /* The kernel looks for partitions when a device that has changed is opened. */
        int fd = open(d->device, O_RDONLY | O_CLOEXEC);

        if (fd >= 0) {
            close(fd);
        }
        __atomic_store_n(&d->shown, true, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&d->watched, true, __ATOMIC_SEQ_CST);
    aio_wait_kick();
    return NULL;
}

/* ---- connecting ---- */

/* With all signals blocked, so that they reach the main thread. */
static bool start(pthread_t *t, void *(*fn)(void *), NbdDevice *d)
{
    sigset_t all, before;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = pthread_create(t, NULL, fn, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ret == 0;
}

static bool not_watched(void *opaque)
{
    return !__atomic_load_n(&((NbdDevice *)opaque)->watched, __ATOMIC_SEQ_CST);
}

static bool not_over(void *opaque)
{
    return !__atomic_load_n(&((NbdDevice *)opaque)->over, __ATOMIC_SEQ_CST);
}

NbdDevice *nbd_device_connect(const char *device, const char *path, const char *name, void (*ended)(void *), void *opaque,
                              Error **errp)
{
    NbdDevice *d = g_new0(NbdDevice, 1);

    *d = (NbdDevice) { .device = g_strdup(device), .path = g_strdup(path), .name = g_strdup(name), .fd = -1, .sock = -1,
                       .refs = 2 };
    if (!start(&d->serve, serve_thread, d)) {
        error_setg(errp, "Cannot start a thread for '%s'", device);
        g_free(d->device);
        g_free(d->path);
        g_free(d->name);
        g_free(d);
        return NULL;
    }
    if (!start(&d->watch, watch_thread, d)) {
        /* It may be anywhere; the program is about to fail. */
        error_setg(errp, "Cannot start a thread for '%s'", device);
        return NULL;
    }
    aio_wait_while(not_watched, d);
    pthread_join(d->watch, NULL);
    if (!d->shown) {
        aio_wait_while(not_over, d);
        if (d->err) {
            error_propagate(errp, g_steal_pointer(&d->err));
        } else {
            error_setg(errp, "'%s' was disconnected before it could be used", device);
        }
        nbd_device_free(d);
        return NULL;
    }
    d->ended = ended;
    d->opaque = opaque;
    return d;
}

/* ---- disconnecting ---- */

typedef struct Flush {
    int fd;
    sem_t done;
    int refs;                   /* atomic */
} Flush;

static void flush_unref(Flush *f)
{
    if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        sem_destroy(&f->done);
        close(f->fd);
        g_free(f);
    }
}

static void *flush_thread(void *opaque)
{
    Flush *f = opaque;

    fsync(f->fd);
    sem_post(&f->done);
    flush_unref(f);
    return NULL;
}

/* Write what the kernel has cached of it; but a server that does not answer must not keep us. */
static void flush_device(const char *device, int fd)
{
    Flush *f = g_new0(Flush, 1);
    uint64_t bytes = 0;
    struct timespec end;
    pthread_t t;

    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0 || !bytes) {
        g_free(f);              /* not connected: the kernel would complain */
        return;
    }
    f->refs = 2;
    f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    sem_init(&f->done, 0, 0);
    if (f->fd < 0 || pthread_create(&t, NULL, flush_thread, f)) {
        f->refs = 1;
        flush_unref(f);
        fsync(fd);
        return;
    }
    pthread_detach(t);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += FLUSH_SECONDS_MAX;
    while (sem_timedwait(&f->done, &end) < 0) {
        if (errno == ETIMEDOUT) {
            error_report("What was written to %s could not be flushed within %d seconds: disconnecting it nevertheless",
                         device, FLUSH_SECONDS_MAX);
            break;
        }
    }
    flush_unref(f);
}

static void *part_thread(void *opaque)
{
    NbdDevice *d = opaque;

    flush_device(d->device, d->fd);
    ioctl(d->fd, NBD_DISCONNECT);
    __atomic_store_n(&d->parted, true, __ATOMIC_SEQ_CST);
    aio_wait_kick();
    return NULL;
}

typedef struct Parting {
    NbdDevice *d;
    bool passed;
} Parting;

static void limit_passed(void *opaque)
{
    ((Parting *)opaque)->passed = true;
    aio_wait_kick();
}

static bool parting_waits(void *opaque)
{
    Parting *p = opaque;

    return !p->passed && (not_over(p->d) || !__atomic_load_n(&p->d->parted, __ATOMIC_SEQ_CST));
}

void nbd_device_disconnect(NbdDevice *d)
{
    Parting p = { .d = d };
    QEMUTimer timer;

    d->ended = NULL;
    if (d->parting || !not_over(d)) {
        return;
    }
    d->parting = start(&d->part, part_thread, d);
    if (!d->parting) {
        ioctl(d->fd, NBD_DISCONNECT);
        __atomic_store_n(&d->parted, true, __ATOMIC_SEQ_CST);
    }
    timer_init_ns(&timer, qemu_get_aio_context(), limit_passed, &p);
    timer_mod_ns(&timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + (FLUSH_SECONDS_MAX + PART_SECONDS_MAX) * NANOSECONDS_PER_SECOND);
    aio_wait_while(parting_waits, &p);
    timer_del(&timer);
}

void nbd_device_free(NbdDevice *d)
{
    if (!d || --d->refs) {
        return;
    }
    if (not_over(d) || (d->parting && !__atomic_load_n(&d->parted, __ATOMIC_SEQ_CST))) {
        return;         /* a thread hangs in the kernel: it ends with the program */
    }
    pthread_join(d->serve, NULL);
    if (d->parting) {
        pthread_join(d->part, NULL);
    }
    if (d->fd >= 0) {
        close(d->fd);
    }
    error_free(d->err);
    g_free(d->device);
    g_free(d->path);
    g_free(d->name);
    g_free(d);
}

int nbd_device_detach(const char *device, Error **errp)
{
    g_autofree char *pid = pid_path(device);
    int fd, ret = device_open(device, "Cannot open", &fd, errp);

    if (ret < 0) {
        return ret;
    }
    flush_device(device, fd);
    ret = ioctl(fd, NBD_DISCONNECT) < 0 ? -errno : 0;
    if (ret == 0 || ret == -EINVAL) {       /* EINVAL: of older kernels, there is nothing to disconnect */
        ioctl(fd, NBD_CLEAR_QUE);
        ret = ioctl(fd, NBD_CLEAR_SOCK) < 0 ? -errno : 0;
    }
    close(fd);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot disconnect %s", device);
        return ret;
    }
    for (int ms = 0; ms < LET_GO_MS_MAX && !access(pid, F_OK); ms += STEP_US / 1000) {
        g_usleep(STEP_US);
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* host_threads.c: the back end for kernels and containers without io_uring: epoll and an
 * eventfd to wait, the worker pool to do I/O; see host.h.
 *
 * Descriptors are armed one-shot: a coroutine that waits wants one event, and the
 * kernel then forgets the interest without being told. What we believe of the epoll set is
 * never trusted (a descriptor closed elsewhere leaves it silently): arming is MOD, then
 * ADD if it was not there.
 */
#include "aio/aio_private.h"
#include "aio/host_posix.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define EVENTS_MAX 128

typedef struct EpollFd {
    IOHandler *handler[2];      /* to read, to write */
    void *opaque;
    bool in_set;                /* as far as we know */
    bool armed;                 /* and with interest in an event */
    bool always_ready;          /* epoll does not take it: a regular file */
} EpollFd;

struct HostLoop {
    AioContext *ctx;
    int epfd, evfd;
    EpollFd **fds;              /* by number */
    unsigned fds_len;
    unsigned num_always;        /* of those that are always_ready */
};

/* ---- descriptors ---- */

static EpollFd *fd_find(HostLoop *l, int fd)
{
    return fd < l->fds_len ? l->fds[fd] : NULL;
}

static EpollFd *fd_get(HostLoop *l, int fd)
{
    if (fd >= l->fds_len) {
        unsigned len = MAX(2 * l->fds_len, fd + 16);

        l->fds = g_renew(EpollFd *, l->fds, len);
        memset(l->fds + l->fds_len, 0, (len - l->fds_len) * sizeof(*l->fds));
        l->fds_len = len;
    }
    if (!l->fds[fd]) {
        l->fds[fd] = g_new0(EpollFd, 1);
    }
    return l->fds[fd];
}

static void fd_arm(HostLoop *l, int fd, EpollFd *e)
{
    struct epoll_event ev = {
        .events = (e->handler[0] ? EPOLLIN | EPOLLRDHUP : 0) | (e->handler[1] ? EPOLLOUT : 0) | EPOLLONESHOT,
        .data.fd = fd,
    };
    int ret = e->in_set ? epoll_ctl(l->epfd, EPOLL_CTL_MOD, fd, &ev) : -1;

    if (ret < 0) {
        ret = epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev);
    }
    if (ret < 0 && errno == EEXIST) {
        ret = epoll_ctl(l->epfd, EPOLL_CTL_MOD, fd, &ev);
    }
    e->in_set = e->armed = ret == 0;
    /* EPERM: a regular file, always ready. Whatever else: its handler shall find out. */
    if (ret < 0 && !e->always_ready) {
        e->always_ready = true;
        l->num_always++;
    }
}

static void fd_disarm(HostLoop *l, int fd, EpollFd *e)
{
    if (e->always_ready) {
        e->always_ready = false;
        l->num_always--;
    }
    if (e->armed) {
        epoll_ctl(l->epfd, EPOLL_CTL_DEL, fd, NULL);
        e->armed = e->in_set = false;
    }
}

static void threads_fd_set(HostLoop *l, int fd, IOHandler *rd, IOHandler *wr, void *opaque)
{
    EpollFd *e = fd_get(l, fd);

    e->handler[0] = rd;
    e->handler[1] = wr;
    e->opaque = opaque;
    if (rd || wr) {
        fd_arm(l, fd, e);
    } else {
        fd_disarm(l, fd, e);
    }
}

static bool fd_fire(HostLoop *l, int fd, bool for_write)
{
    EpollFd *e = fd_find(l, fd);

    if (!e || !e->handler[for_write]) {
        return false;
    }
    e->handler[for_write](e->opaque);
    return true;
}

static bool fd_ready(HostLoop *l, int fd, uint32_t events)
{
    const uint32_t any = EPOLLHUP | EPOLLERR;
    EpollFd *e = fd_find(l, fd);
    bool progress = false;

    if (!e) {
        return false;
    }
    e->armed = false;               /* one-shot */
    if (events & (EPOLLIN | EPOLLRDHUP | any)) {
        progress |= fd_fire(l, fd, false);
    }
    if (events & (EPOLLOUT | any)) {
        progress |= fd_fire(l, fd, true);
    }
    if (!e->armed && (e->handler[0] || e->handler[1])) {
        fd_arm(l, fd, e);           /* handlers that stay */
    }
    return progress;
}

static bool fds_always_ready(HostLoop *l)
{
    bool progress = false;

    for (unsigned fd = 0; fd < l->fds_len; fd++) {
        if (l->fds[fd] && l->fds[fd]->always_ready) {
            progress |= fd_ready(l, fd, EPOLLIN | EPOLLOUT);
        }
    }
    return progress;
}

/* ---- the loop ---- */

static HostLoop *threads_loop_new(AioContext *ctx, Error **errp)
{
    HostLoop *l = g_new0(HostLoop, 1);
    struct epoll_event ev = { .events = EPOLLIN };

    l->ctx = ctx;
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ev.data.fd = l->evfd;
    if (l->epfd < 0 || l->evfd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->evfd, &ev) < 0) {
        error_setg_errno(errp, errno, "Could not make an event loop");
        if (l->epfd >= 0) {
            close(l->epfd);
        }
        if (l->evfd >= 0) {
            close(l->evfd);
        }
        g_free(l);
        return NULL;
    }
    ctx->pool = host_pool_new(ctx);
    return l;
}

static void threads_loop_free(HostLoop *l)
{
    host_pool_free(l->ctx->pool);
    l->ctx->pool = NULL;
    close(l->epfd);
    close(l->evfd);
    for (unsigned fd = 0; fd < l->fds_len; fd++) {
        g_free(l->fds[fd]);
    }
    g_free(l->fds);
    g_free(l);
}

static void threads_notify(HostLoop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->evfd, &one, sizeof(one));

    (void)n;                        /* full: it is being woken already */
}

/* Timers have nanoseconds. epoll_pwait2 takes them (Linux 5.11); without it
 * milliseconds, rounded up. */
static int epoll_wait_ns(HostLoop *l, struct epoll_event *ev, int max, int64_t timeout_ns)
{
    static bool no_pwait2;          /* atomic */

    if (timeout_ns > 0 && !__atomic_load_n(&no_pwait2, __ATOMIC_RELAXED)) {
        struct timespec ts = {
            .tv_sec = timeout_ns / NANOSECONDS_PER_SECOND,
            .tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND,
        };
        int n = epoll_pwait2(l->epfd, ev, max, &ts, NULL);

        if (n >= 0 || errno != ENOSYS) {
            return n;
        }
        __atomic_store_n(&no_pwait2, true, __ATOMIC_RELAXED);
    }
    return epoll_wait(l->epfd, ev, max,
                      timeout_ns < 0 ? -1 : MIN(DIV_ROUND_UP(timeout_ns, 1000000), INT_MAX));
}

static bool threads_wait(HostLoop *l, int64_t timeout_ns)
{
    struct epoll_event ev[EVENTS_MAX];
    int n = epoll_wait_ns(l, ev, EVENTS_MAX, l->num_always ? 0 : timeout_ns);
    bool progress = false;

    aio_woken(l->ctx);
    for (int i = 0; i < n; i++) {
        int fd = ev[i].data.fd;

        if (fd == l->evfd) {
            uint64_t count;
            ssize_t r = read(fd, &count, sizeof(count));

            (void)r;
        } else {
            progress |= fd_ready(l, fd, ev[i].events);
        }
    }
    if (l->num_always) {
        progress |= fds_always_ready(l);
    }
    return progress;
}

static bool threads_submit(HostLoop *l, HostRequest *req)
{
    req->ctx = l->ctx;
    if (host_inline_try(req)) {
        return true;
    }
    AIO_COUNT(l->ctx, queued);
    host_pool_submit(req);
    return false;
}

const HostOps host_ops_threads = {
    .name = "threads",
    .clock_ns = host_posix_clock_ns, .random_bytes = host_posix_random,
    .loop_new = threads_loop_new, .loop_free = threads_loop_free, .wait = threads_wait,
    .notify = threads_notify, .fd_set = threads_fd_set,
    .thread_start = host_posix_thread_start, .thread_join = host_posix_thread_join,
    .submit = threads_submit, .work = host_pool_work,
    .file_open = host_posix_open, .file_close = host_posix_close, .file_unlink = host_posix_unlink,
    .path_is_device = host_posix_path_is_device,
    .file_lock = host_posix_lock, .file_stat = host_posix_stat, .file_fd = host_posix_fd,
};

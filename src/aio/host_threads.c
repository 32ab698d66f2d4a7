/* SPDX-License-Identifier: MIT */
/* host_threads.c: the worker pool, and the back end that does all I/O with it, for kernels
 * and containers without io_uring. Waiting is epoll. */
#include "aio/aio_private.h"
#include "aio/host_posix.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define POOL_THREADS_MAX 16

/* ---- the pool: GLib's, with a record for each piece of work ---- */

typedef struct PoolWork {
    HostRequest *req;           /* or: */
    int (*func)(void *);
    void *arg;
    void (*done)(void *opaque, int ret);
    void *opaque;
    AioContext *ctx;
    int ret;
} PoolWork;

static GThreadPool *pool;

static void pool_done_bh(void *opaque)
{
    PoolWork *w = opaque;

    if (w->req) {
        HostRequest *req = w->req;

        g_free(w);
        req->complete(req);
    } else {
        w->done(w->opaque, w->ret);
        g_free(w);
    }
}

static void pool_run(gpointer data, gpointer unused)
{
    PoolWork *w = data;

    if (w->req) {
        host_posix_execute(w->req);
    } else {
        w->ret = w->func(w->arg);
    }
    aio_bh_schedule_oneshot(w->ctx, pool_done_bh, w);
}

void host_pool_init(void)
{
    if (!pool) {
        pool = g_thread_pool_new(pool_run, NULL, POOL_THREADS_MAX, FALSE, NULL);
    }
}

void host_pool_exit(void)
{
    if (pool) {
        g_thread_pool_free(pool, FALSE, TRUE);
        g_thread_pool_stop_unused_threads();
        pool = NULL;
    }
}

void host_pool_submit(HostRequest *req)
{
    PoolWork *w = g_new0(PoolWork, 1);

    w->req = req;
    w->ctx = req->ctx;
    g_thread_pool_push(pool, w, NULL);
}

void host_pool_work(AioContext *ctx, int (*func)(void *), void *arg,
                    void (*done)(void *opaque, int ret), void *opaque)
{
    PoolWork *w = g_new0(PoolWork, 1);

    *w = (PoolWork) { .func = func, .arg = arg, .done = done, .opaque = opaque, .ctx = ctx };
    g_thread_pool_push(pool, w, NULL);
}

/* ---- loop ---- */

typedef struct EpollFd {
    int fd;
    IOHandler *rd, *wr;
    void *opaque;
    bool registered;
} EpollFd;

struct HostLoop {
    int epfd, evfd;
    GHashTable *fds;            /* fd -> EpollFd; events carry the number, looked up anew */
};

static HostLoop *threads_loop_new(AioContext *ctx, Error **errp)
{
    HostLoop *l = g_new0(HostLoop, 1);
    struct epoll_event ev = { .events = EPOLLIN };

    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epfd < 0 || l->evfd < 0) {
        error_setg_errno(errp, errno, "Could not make an event loop");
        g_free(l);
        return NULL;
    }
    ev.data.fd = l->evfd;
    epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->evfd, &ev);
    l->fds = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    host_pool_init();
    return l;
}

static void threads_loop_free(HostLoop *l)
{
    close(l->epfd);
    close(l->evfd);
    g_hash_table_destroy(l->fds);
    g_free(l);
}

static void threads_notify(HostLoop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->evfd, &one, sizeof(one));

    (void)n;                    /* full means: it is awake anyway */
}

static void threads_fd_set(HostLoop *l, int fd, IOHandler *rd, IOHandler *wr, void *opaque)
{
    EpollFd *e = g_hash_table_lookup(l->fds, GINT_TO_POINTER(fd));
    struct epoll_event ev = { .events = (rd ? EPOLLIN : 0) | (wr ? EPOLLOUT : 0), .data.fd = fd };

    if (!rd && !wr) {
        if (e) {
            epoll_ctl(l->epfd, EPOLL_CTL_DEL, fd, NULL);
            g_hash_table_remove(l->fds, GINT_TO_POINTER(fd));
        }
        return;
    }
    if (!e) {
        e = g_new0(EpollFd, 1);
        e->fd = fd;
        g_hash_table_insert(l->fds, GINT_TO_POINTER(fd), e);
    }
    e->rd = rd;
    e->wr = wr;
    e->opaque = opaque;
    if (epoll_ctl(l->epfd, e->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) == 0) {
        e->registered = true;
    }
}

static bool threads_wait(HostLoop *l, int64_t timeout_ns)
{
    struct epoll_event ev[64];
    int ms = timeout_ns < 0 ? -1 : (int)MIN(DIV_ROUND_UP(timeout_ns, 1000000), 1 << 30);
    int n = epoll_wait(l->epfd, ev, G_N_ELEMENTS(ev), ms);
    bool progress = false;

    for (int i = 0; i < n; i++) {
        int fd = ev[i].data.fd;
        EpollFd *e;

        if (fd == l->evfd) {
            uint64_t v;
            ssize_t r = read(fd, &v, sizeof(v));

            (void)r;
            continue;
        }
        e = g_hash_table_lookup(l->fds, GINT_TO_POINTER(fd));
        if (e && e->rd && (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
            e->rd(e->opaque);
            progress = true;
        }
        e = g_hash_table_lookup(l->fds, GINT_TO_POINTER(fd));
        if (e && e->wr && (ev[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) {
            e->wr(e->opaque);
            progress = true;
        }
    }
    return progress;
}

static bool threads_submit(HostLoop *loop, HostRequest *req)
{
    if (host_inline_try(req)) {
        return true;
    }
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
    .file_lock = host_posix_lock, .file_stat = host_posix_stat, .file_fd = host_posix_fd,
};

/* SPDX-License-Identifier: MIT */
/* host_uring.c: the io_uring back end. One ring is a context's I/O and its event loop: a turn
 * is one system call that submits what was asked for and waits for completions, readiness
 * of file descriptors (one-shot polls), the wake-up eventfd, or the time.
 *
 * The ring is made by the thread that uses it (single issuer). Requests that the kernel would
 * punt to its own workers for long anyway (truncate, hole search, ioctls) go to the pool.
 */
#include "aio/aio_private.h"
#include "aio/host_posix.h"

#ifdef CONFIG_IO_URING
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/eventfd.h>

#define RING_ENTRIES 256

typedef struct FdWatch {
    HostLoop *loop;
    int fd;
    IOHandler *rd, *wr;
    void *opaque;
    bool armed_rd, armed_wr, dead;
} FdWatch;

struct HostLoop {
    struct io_uring ring;
    bool ready;                 /* made, by its thread */
    bool ev_armed;
    int evfd;
    uint64_t ev_value;
    GHashTable *fds;            /* fd -> FdWatch */
};

/* Kinds of completions, in the low bits of user_data. */
enum { UD_REQUEST = 0, UD_POLL_RD = 1, UD_POLL_WR = 2, UD_NONE = 3, UD_MASK = 3 };

static int ring_init(struct io_uring *ring)
{
    static const unsigned tries[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CLAMP,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP,
        0,
    };
    int ret = -ENOSYS;

    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        struct io_uring_params p = { .flags = tries[i] };

        ret = io_uring_queue_init_params(RING_ENTRIES, ring, &p);
        if (ret == 0) {
            if (!(p.features & IORING_FEAT_EXT_ARG) || !(p.features & IORING_FEAT_NODROP)) {
                io_uring_queue_exit(ring);
                return -ENOSYS;
            }
            return 0;
        }
        if (ret != -EINVAL) {
            return ret;
        }
    }
    return ret;
}

bool host_uring_available(void)
{
    struct io_uring ring;

    if (ring_init(&ring) < 0) {
        return false;
    }
    io_uring_queue_exit(&ring);
    return true;
}

static HostLoop *uring_loop_new(AioContext *ctx, Error **errp)
{
    HostLoop *l = g_new0(HostLoop, 1);

    l->evfd = eventfd(0, EFD_CLOEXEC);
    if (l->evfd < 0) {
        error_setg_errno(errp, errno, "Could not make an event loop");
        g_free(l);
        return NULL;
    }
    l->fds = g_hash_table_new(NULL, NULL);
    host_pool_init();
    return l;
}

static void ring_need(HostLoop *l)
{
    if (likely(l->ready)) {
        return;
    }
    int ret = ring_init(&l->ring);

    if (ret < 0) {
        fprintf(stderr, "liveblk: no more io_uring rings: %s (LIVEBLK_HOST=threads does without)\n",
                strerror(-ret));
        abort();
    }
    l->ready = true;
}

static void uring_loop_free(HostLoop *l)
{
    GHashTableIter it;
    gpointer w;

    if (l->ready) {
        io_uring_queue_exit(&l->ring);
    }
    close(l->evfd);
    g_hash_table_iter_init(&it, l->fds);
    while (g_hash_table_iter_next(&it, NULL, &w)) {
        g_free(w);
    }
    g_hash_table_destroy(l->fds);
    g_free(l);
}

static struct io_uring_sqe *get_sqe(HostLoop *l)
{
    struct io_uring_sqe *sqe;

    ring_need(l);
    while (!(sqe = io_uring_get_sqe(&l->ring))) {
        io_uring_submit(&l->ring);      /* the queue is full: hand it over and go on */
    }
    return sqe;
}

static void sqe_tag(struct io_uring_sqe *sqe, void *p, unsigned kind)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)p | kind);
}

/* ---- descriptors ---- */

static void watch_arm(FdWatch *w)
{
    if (w->rd && !w->armed_rd) {
        struct io_uring_sqe *sqe = get_sqe(w->loop);

        io_uring_prep_poll_add(sqe, w->fd, POLLIN | POLLRDHUP);
        sqe_tag(sqe, w, UD_POLL_RD);
        w->armed_rd = true;
    }
    if (w->wr && !w->armed_wr) {
        struct io_uring_sqe *sqe = get_sqe(w->loop);

        io_uring_prep_poll_add(sqe, w->fd, POLLOUT);
        sqe_tag(sqe, w, UD_POLL_WR);
        w->armed_wr = true;
    }
}

static void watch_disarm(FdWatch *w, unsigned kind)
{
    struct io_uring_sqe *sqe = get_sqe(w->loop);

    io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)w | kind);
    sqe_tag(sqe, NULL, UD_NONE);
}

static void uring_fd_set(HostLoop *l, int fd, IOHandler *rd, IOHandler *wr, void *opaque)
{
    FdWatch *w = g_hash_table_lookup(l->fds, GINT_TO_POINTER(fd));

    if (!rd && !wr) {
        if (!w) {
            return;
        }
        g_hash_table_remove(l->fds, GINT_TO_POINTER(fd));
        w->rd = w->wr = NULL;
        w->dead = true;
        if (w->armed_rd) {
            watch_disarm(w, UD_POLL_RD);
        }
        if (w->armed_wr) {
            watch_disarm(w, UD_POLL_WR);
        }
        if (!w->armed_rd && !w->armed_wr) {
            g_free(w);
        } else {
            io_uring_submit(&l->ring);  /* before the caller closes the descriptor */
        }
        return;
    }
    if (!w) {
        w = g_new0(FdWatch, 1);
        w->loop = l;
        w->fd = fd;
        g_hash_table_insert(l->fds, GINT_TO_POINTER(fd), w);
    }
    w->rd = rd;
    w->wr = wr;
    w->opaque = opaque;
    watch_arm(w);
}

static void watch_ready(FdWatch *w, bool for_write)
{
    HostLoop *l = w->loop;
    int fd = w->fd;

    if (for_write) {
        w->armed_wr = false;
    } else {
        w->armed_rd = false;
    }
    if (w->dead) {
        if (!w->armed_rd && !w->armed_wr) {
            g_free(w);
        }
        return;
    }
    IOHandler *h = for_write ? w->wr : w->rd;

    if (h) {
        h(w->opaque);
        w = g_hash_table_lookup(l->fds, GINT_TO_POINTER(fd));   /* may be gone */
    }
    if (w) {
        watch_arm(w);
    }
}

/* ---- requests ---- */

static bool uring_submit(HostLoop *l, HostRequest *req)
{
    struct io_uring_sqe *sqe;

    if (host_inline_try(req)) {
        return true;
    }
    switch (req->op) {
    case HOST_READ:
        sqe = get_sqe(l);
        io_uring_prep_readv(sqe, req->file->fd, req->iov, MIN(req->niov, IOV_MAX), req->offset);
        break;
    case HOST_WRITE:
        sqe = get_sqe(l);
        io_uring_prep_writev2(sqe, req->file->fd, req->iov, MIN(req->niov, IOV_MAX), req->offset,
                              req->flags & HOST_FLAG_FUA ? RWF_DSYNC : 0);
        break;
    case HOST_FLUSH:
        sqe = get_sqe(l);
        io_uring_prep_fsync(sqe, req->file->fd, IORING_FSYNC_DATASYNC);
        break;
    default:
        host_pool_submit(req);
        return false;
    }
    if (!(req->flags & HOST_FLAG_GUEST) && !req->file->direct && req->bytes > 64 * KiB) {
        /* A large copy out of the page cache would hold up the loop. */
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    }
    sqe_tag(sqe, req, UD_REQUEST);
    return false;
}

/* ---- waiting ---- */

static void uring_notify(HostLoop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->evfd, &one, sizeof(one));

    (void)n;
}

static bool completion(HostLoop *l, uint64_t user_data, int res)
{
    void *p = (void *)(uintptr_t)(user_data & ~(uint64_t)UD_MASK);

    switch (user_data & UD_MASK) {
    case UD_REQUEST: {
        HostRequest *req = p;

        req->ret = res;
        if (res == -EINTR || res == -EAGAIN) {
            host_pool_submit(req);
            return false;
        }
        req->complete(req);
        return true;
    }
    case UD_POLL_RD:
        watch_ready(p, false);
        return true;
    case UD_POLL_WR:
        watch_ready(p, true);
        return true;
    default:
        if (p == l) {
            l->ev_armed = false;
        }
        return false;
    }
}

static bool uring_wait(HostLoop *l, int64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    bool progress = false;

    ring_need(l);
    if (!l->ev_armed) {
        struct io_uring_sqe *sqe = get_sqe(l);

        io_uring_prep_read(sqe, l->evfd, &l->ev_value, sizeof(l->ev_value), 0);
        sqe_tag(sqe, l, UD_NONE);
        l->ev_armed = true;
    }
    if (timeout_ns < 0) {
        io_uring_submit_and_wait(&l->ring, 1);
    } else if (timeout_ns == 0) {
        io_uring_submit_and_get_events(&l->ring);
    } else {
        struct __kernel_timespec ts = {
            .tv_sec = timeout_ns / NANOSECONDS_PER_SECOND, .tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND,
        };

        io_uring_submit_and_wait_timeout(&l->ring, &cqe, 1, &ts, NULL);
    }
    /* Take a bounded number: handlers submit more, and others want their turn. */
    for (unsigned n = 0; n < 2 * RING_ENTRIES && io_uring_peek_cqe(&l->ring, &cqe) == 0; n++) {
        uint64_t ud = io_uring_cqe_get_data64(cqe);
        int res = cqe->res;

        io_uring_cqe_seen(&l->ring, cqe);
        progress |= completion(l, ud, res);
    }
    return progress;
}

const HostOps host_ops_uring = {
    .name = "io_uring",
    .clock_ns = host_posix_clock_ns, .random_bytes = host_posix_random,
    .loop_new = uring_loop_new, .loop_free = uring_loop_free, .wait = uring_wait,
    .notify = uring_notify, .fd_set = uring_fd_set,
    .thread_start = host_posix_thread_start, .thread_join = host_posix_thread_join,
    .submit = uring_submit, .work = host_pool_work,
    .file_open = host_posix_open, .file_close = host_posix_close, .file_unlink = host_posix_unlink,
    .file_lock = host_posix_lock, .file_stat = host_posix_stat, .file_fd = host_posix_fd,
};
#else
bool host_uring_available(void)
{
    return false;
}
#endif

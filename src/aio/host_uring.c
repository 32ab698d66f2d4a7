/* SPDX-License-Identifier: MIT */
/* host_uring.c: the io_uring back end; see host.h. One ring is a context's I/O and its event
 * loop: a turn is one system call that submits what was asked for and waits for
 * completions, descriptors, the wake-up eventfd, or the time.
 *
 * The ring is made with the context, so that a failure is an error and not a surprise, but
 * disabled: the thread that runs the context enables it and so becomes its only user, which
 * lets the kernel leave out locks and hand completions over only when asked.
 * Requests that the kernel would give to a thread of its own anyway, and those it has no
 * operation for, go to the worker pool.
 */
#include "aio/host_uring.h"
#include "aio/host_posix.h"
#include <sys/eventfd.h>
#include <sys/syscall.h>

#define RING_ENTRIES    256
/* Completions looked at in one turn: their handlers submit more, others want their turn. */
#define TURN_MAX        512

/* ---- the ring ---- */

static int ring_init(struct io_uring *ring)
{
    /* Newer kernels do better; older ones refuse what they do not know. */
    static const unsigned flags[] = {
        IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
            IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_R_DISABLED,
    };
    int ret = -EINVAL;

    for (size_t i = 0; i < G_N_ELEMENTS(flags) && ret == -EINVAL; i++) {
        struct io_uring_params p = { .flags = flags[i] };

        ret = io_uring_queue_init_params(RING_ENTRIES, ring, &p);
        if (ret == 0 && !((p.features & IORING_FEAT_EXT_ARG) && (p.features & IORING_FEAT_NODROP))) {
            io_uring_queue_exit(ring);
            return -ENOSYS;         /* before Linux 5.11: waiting needs more than it has */
        }
    }
    return ret;
}

int host_uring_probe(void)
{
    struct io_uring ring;
    int ret = ring_init(&ring);

    if (ret == 0) {
        io_uring_queue_exit(&ring);
    }
    return ret;
}

static HostLoop *uring_loop_new(AioContext *ctx, Error **errp)
{
    HostLoop *l = g_new0(HostLoop, 1);
    int ret;

    l->ctx = ctx;
    LIST_INIT(&l->polls);
    l->batch_max = MIN(MAX(aio_context_params(ctx)->aio_max_batch, 0), RING_ENTRIES);
    l->evfd = eventfd(0, EFD_CLOEXEC);
    if (l->evfd < 0) {
        error_setg_errno(errp, errno, "Could not make an event loop");
        g_free(l);
        return NULL;
    }
    ret = ring_init(&l->ring);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not make an io_uring");
        error_append_hint(errp, "LIVEBLK_HOST=threads in the environment does without.\n");
        close(l->evfd);
        g_free(l);
        return NULL;
    }
    ctx->pool = host_pool_new(ctx);
    return l;
}

static void uring_loop_free(HostLoop *l)
{
    host_pool_free(l->ctx->pool);
    l->ctx->pool = NULL;
    io_uring_queue_exit(&l->ring);
    close(l->evfd);
    uring_fds_free(l);
    g_free(l);
}

static void ring_enable(HostLoop *l)
{
    /* By number: some releases of liburing declare the wrapper without exporting it. */
    if (syscall(__NR_io_uring_register, l->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0) {
        fprintf(stderr, "liveblk: cannot start an io_uring: %s\n", strerror(errno));
        abort();
    }
    l->enabled = true;
}

static void ring_flush(HostLoop *l)
{
    int ret = io_uring_submit(&l->ring);

    /* Too many completions wait to be seen: make room for them. */
    if (ret == -EBUSY || ret == -EAGAIN) {
        io_uring_get_events(&l->ring);
    }
}

struct io_uring_sqe *uring_get_sqe(HostLoop *l)
{
    struct io_uring_sqe *sqe;

    if (unlikely(!l->enabled)) {
        ring_enable(l);
    }
    if (l->batch_max && io_uring_sq_ready(&l->ring) >= l->batch_max) {
        ring_flush(l);
    }
    while (unlikely(!(sqe = io_uring_get_sqe(&l->ring)))) {
        ring_flush(l);
    }
    return sqe;
}

/* ---- requests ---- */

static void prep_rw(struct io_uring_sqe *sqe, HostRequest *req)
{
    int fd = req->file->fd;

    /* One vector: the operation without vectors spares the kernel their import. */
    if (req->op == HOST_READ) {
        if (req->niov == 1) {
            io_uring_prep_read(sqe, fd, req->iov->iov_base, MIN(req->iov->iov_len, INT_MAX), req->offset);
        } else {
            io_uring_prep_readv(sqe, fd, req->iov, MIN(req->niov, IOV_MAX), req->offset);
        }
        return;
    }
    if (req->niov == 1) {
        io_uring_prep_write(sqe, fd, req->iov->iov_base, MIN(req->iov->iov_len, INT_MAX), req->offset);
    } else {
        io_uring_prep_writev(sqe, fd, req->iov, MIN(req->niov, IOV_MAX), req->offset);
    }
    sqe->rw_flags = req->flags & HOST_FLAG_FUA ? RWF_DSYNC : 0;
}

static bool uring_submit(HostLoop *l, HostRequest *req)
{
    struct io_uring_sqe *sqe;

    req->ctx = l->ctx;
    if (host_inline_try(req)) {
        return true;
    }
    AIO_COUNT(l->ctx, queued);
    if ((req->op != HOST_READ && req->op != HOST_WRITE) || !host_uring_suits(req)) {
        host_pool_submit(req);
        return false;
    }
    sqe = uring_get_sqe(l);
    prep_rw(sqe, req);
    uring_tag(sqe, req, UD_REQUEST);
    return false;
}

/* ---- waiting ---- */

static void uring_notify(HostLoop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->evfd, &one, sizeof(one));

    (void)n;
}

static void event_arm(HostLoop *l)
{
    struct io_uring_sqe *sqe = uring_get_sqe(l);

    io_uring_prep_read(sqe, l->evfd, &l->event_value, sizeof(l->event_value), 0);
    uring_tag(sqe, l, UD_EVENT);
    l->event_armed = true;
}

static bool request_done(HostRequest *req, int res)
{
    if (unlikely(res == -EINTR || res == -EAGAIN)) {
        host_pool_submit(req);      /* the kernel would rather not: the blocking way */
        return false;
    }
    req->ret = res;
    req->complete(req);
    return true;
}

static bool completion(HostLoop *l, uint64_t user_data, int res)
{
    void *p = (void *)(uintptr_t)(user_data & ~(uint64_t)UD_MASK);

    switch (user_data & UD_MASK) {
    case UD_REQUEST:
        return request_done(p, res);
    case UD_POLL:
        return uring_fd_ready(l, p);
    case UD_EVENT:
        l->event_armed = false;
        return false;
    default:
        return false;
    }
}

/* Hand over what is queued and, with a time-out, wait for one completion. */
static void ring_enter(HostLoop *l, int64_t timeout_ns)
{
    struct io_uring_cqe *cqe;

    if (timeout_ns < 0) {
        io_uring_submit_and_wait(&l->ring, 1);
    } else if (timeout_ns > 0) {
        struct __kernel_timespec ts = {
            .tv_sec = timeout_ns / NANOSECONDS_PER_SECOND,
            .tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND,
        };

        io_uring_submit_and_wait_timeout(&l->ring, &cqe, 1, &ts, NULL);
    } else if (io_uring_sq_ready(&l->ring) ||
               (__atomic_load_n(l->ring.sq.kflags, __ATOMIC_RELAXED) &
                (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))) {
        io_uring_submit_and_get_events(&l->ring);
    }
}

static bool uring_wait(HostLoop *l, int64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    bool progress = false;

    if (unlikely(!l->event_armed)) {
        event_arm(l);
    }
    if (timeout_ns && io_uring_cq_ready(&l->ring)) {
        timeout_ns = 0;             /* left over from the last turn */
    }
    ring_enter(l, timeout_ns);
    aio_woken(l->ctx);
    for (unsigned n = 0; n < TURN_MAX && io_uring_peek_cqe(&l->ring, &cqe) == 0; n++) {
        uint64_t user_data = cqe->user_data;
        int res = cqe->res;

        io_uring_cqe_seen(&l->ring, cqe);
        progress |= completion(l, user_data, res);
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
    .path_is_device = host_posix_path_is_device,
    .file_lock = host_posix_lock, .file_stat = host_posix_stat, .file_fd = host_posix_fd,
};

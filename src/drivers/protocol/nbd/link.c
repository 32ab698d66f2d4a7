/* SPDX-License-Identifier: MIT */
/* link.c: the link to a server, and requests over it; see nbd.h. */
#include "base/trace.h"
#include "drivers/protocol/nbd/nbd.h"
#include <sys/socket.h>

#define HANDSHAKE_NS        (30 * NANOSECONDS_PER_SECOND)
#define ATTEMPT_NS_MIN      (1 * NANOSECONDS_PER_SECOND)
#define RETRY_NS            (50 * 1000 * 1000)      /* between attempts when somebody waits */
#define BACKOFF_NS_MAX      (16 * NANOSECONDS_PER_SECOND)
#define OPEN_RETRY_NS       (100 * 1000 * 1000)
#define READS_MAX           64          /* in one go: others want the thread, too */

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static bool told(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_SEQ_CST);
}

/* ---- completions ---- */

/* Release the lock, and wake whose replies came while it was held. */
static void unlock_and_wake(NbdLink *link)
{
    STAILQ_HEAD(, NbdRequest) done = STAILQ_HEAD_INITIALIZER(done);
    NbdRequest *r;

    STAILQ_CONCAT(&done, &link->done);
    pthread_mutex_unlock(&link->lock);
    while ((r = STAILQ_FIRST(&done))) {
        STAILQ_REMOVE_HEAD(&done, next);
        aio_co_wake(r->co);
    }
}

/* Locked. */
static void end(NbdRequest *r, int ret)
{
    r->ret = ret;
    r->given = false;
    LIST_REMOVE(r, link_given);
    STAILQ_INSERT_TAIL(&r->link->done, r, next);
}

/* From libnbd, within one of our calls, locked. */
static int on_complete(void *opaque, int *error)
{
    NbdRequest *r = opaque;

    end(r, -*error);
    return 1;           /* nothing of the command is left to ask for */
}

static int on_extent(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    NbdRequest *r = opaque;

    if (n >= 2 && !r->status[0] && !strcmp(context, r->link->context)) {
        r->status[0] = entries[0];
        r->status[1] = entries[1];
    }
    return 0;
}

/* ---- the connection is lost ---- */

/* Locked. The handle goes with link_co, which is told. */
static void lose(NbdLink *link)
{
    if (link->up) {
        link->up = false;
        link->lost_ns = now_ns();
        TRACE(nbd_client, "connection lost");
    }
}

static bool is_lost(NbdLink *link)
{
    return !link->up || libnbd.aio_is_dead(link->nbd) || libnbd.aio_is_closed(link->nbd);
}

static void kick_bh(void *opaque)
{
    NbdLink *link = opaque;

    if (link->fd >= 0) {
        aio_co_fd_cancel(link->fd);
    }
    if (link->connect_fd >= 0) {
        aio_co_fd_cancel(link->connect_fd);
    }
    co_sleep_wake(&link->sleep);
    __atomic_fetch_sub(&link->kicks, 1, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

/* Have link_co look at its orders. Any thread. */
static void kick(NbdLink *link)
{
    __atomic_fetch_add(&link->kicks, 1, __ATOMIC_SEQ_CST);
    aio_bh_schedule_oneshot(link->ctx, kick_bh, link);
}

/* ---- sending what did not go at once ---- */

static void coroutine_fn writer_co(void *opaque)
{
    NbdLink *link = opaque;

    for (;;) {
        pthread_mutex_lock(&link->lock);
        if (is_lost(link) || !(libnbd.aio_get_direction(link->nbd) & LIBNBD_AIO_DIRECTION_WRITE)) {
            break;
        }
        int fd = link->fd;

        unlock_and_wake(link);
        int ret = aio_co_wait_fd(fd, true);

        pthread_mutex_lock(&link->lock);
        if (is_lost(link) || ret < 0) {
            break;
        }
        if (libnbd.aio_get_direction(link->nbd) & LIBNBD_AIO_DIRECTION_WRITE) {
            libnbd.aio_notify_write(link->nbd);    /* a failure shows in is_lost() */
        }
        unlock_and_wake(link);
    }
    link->writing = false;
    unlock_and_wake(link);
    aio_wait_kick();
}

static void writer_bh(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_create(writer_co, opaque));
}

/* Locked. */
static void want_writer(NbdLink *link)
{
    if (!link->writing && !is_lost(link) && (libnbd.aio_get_direction(link->nbd) & LIBNBD_AIO_DIRECTION_WRITE)) {
        link->writing = true;
        aio_bh_schedule_oneshot(link->ctx, writer_bh, link);
    }
}

/* ---- the link's own coroutine ---- */

/* libnbd must only be told of input that is there: it puts off what it is sending to read it.
 * Asking the socket is cheaper than the loop. */
static bool has_input(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* Read replies until the connection is lost or we shall stop. */
static void coroutine_fn co_read_replies(NbdLink *link)
{
    int fd = link->fd;

    while (!told(&link->stop)) {
        int ret = aio_co_wait_fd(fd, false);

        pthread_mutex_lock(&link->lock);
        if (ret < 0 && ret != -ECANCELED) {
            lose(link);
        }
        for (unsigned n = 0; ret == 0 && n < READS_MAX && !is_lost(link); n++) {
            libnbd.aio_notify_read(link->nbd);
            if (!has_input(fd)) {
                break;
            }
        }
        if (is_lost(link)) {
            lose(link);
            unlock_and_wake(link);
            return;
        }
        want_writer(link);
        unlock_and_wake(link);
    }
}

/* Free the lost connection's handle: commands in flight fail with ENOTCONN, and are sent again.
 * libnbd has told of most of them; of those that it still meant to send it does not. */
static void coroutine_fn co_drop_handle(NbdLink *link)
{
    struct nbd_handle *nbd;
    NbdTunnel *tunnel;

    pthread_mutex_lock(&link->lock);
    while (link->writing) {
        pthread_mutex_unlock(&link->lock);
        aio_co_fd_cancel(link->fd);
        aio_co_yield_fair();
        pthread_mutex_lock(&link->lock);
    }
    nbd = link->nbd;
    if (nbd) {
        aio_co_fd_cancel(link->fd);
        libnbd.close(nbd);      /* ends commands, so it is done locked */
    }
    tunnel = link->tunnel;
    link->tunnel = NULL;
    while (!LIST_EMPTY(&link->given)) {
        end(LIST_FIRST(&link->given), -ENOTCONN);
    }
    link->nbd = NULL;
    link->fd = -1;
    unlock_and_wake(link);
    nbd_tunnel_free(tunnel);
}

/* Has the server become another one? */
static int same_export(const NbdExportInfo *was, const NbdExportInfo *is, Error **errp)
{
    if (is->size_bytes != was->size_bytes) {
        error_setg(errp, "Export length changed during reconnect");
        return -EINVAL;
    }
    if ((is->read_only && !was->read_only) || (was->can_fua && !is->can_fua) || (was->can_zero && !is->can_zero) ||
        (was->can_fast_zero && !is->can_fast_zero) || (was->can_flush && !is->can_flush) ||
        (was->can_trim && !is->can_trim) || (was->can_status && !is->can_status) ||
        is->block_min_bytes > MAX(was->block_min_bytes, 1) ||
        (is->block_max_bytes && is->block_max_bytes < was->block_max_bytes)) {
        error_setg(errp, "The export can do less than before the reconnect");
        return -EINVAL;
    }
    return 0;
}

static bool coroutine_fn co_attempt(NbdLink *link)
{
    int64_t now = now_ns(), left = link->lost_ns + link->reconnect_delay_ns - now;
    NbdTunnel *tunnel = NULL;
    struct nbd_handle *nbd;
    NbdExportInfo info;
    Error *err = NULL;
    int ret;

    nbd = nbd_co_connect(link, now + MIN(MAX(left, ATTEMPT_NS_MIN), HANDSHAKE_NS), &info, &tunnel, &ret, &err);
    if (nbd && same_export(&link->info, &info, &err) < 0) {
        aio_co_fd_cancel(libnbd.aio_get_fd(nbd));
        nbd_connection_close(nbd, tunnel);
        nbd = NULL;
    }
    TRACE(nbd_client, "attempt to connect: %s", nbd ? "up again" : err ? error_get_pretty(err) : "failed");
    error_free(err);            /* requests fail with -EIO; the next attempt may succeed */
    pthread_mutex_lock(&link->lock);
    link->attempts++;
    if (nbd) {
        link->nbd = nbd;
        link->tunnel = tunnel;
        link->fd = libnbd.aio_get_fd(nbd);
        link->up = true;
    }
    qemu_co_queue_restart_all(&link->waiters);
    unlock_and_wake(link);
    return nbd != NULL;
}

static void link_set_connecting(NbdLink *link, bool connecting)
{
    pthread_mutex_lock(&link->lock);
    link->connecting = connecting;
    pthread_mutex_unlock(&link->lock);
}

static void coroutine_fn co_reconnect(NbdLink *link)
{
    int64_t backoff_ns = RETRY_NS;

    while (!told(&link->stop) && !co_attempt(link)) {
        int64_t tried_ns = now_ns();
        bool waited_for = false;

        link_set_connecting(link, false);
        /* With nobody waiting it may take its time; but never more often than this. */
        while (!told(&link->stop) && now_ns() < tried_ns + (waited_for ? RETRY_NS : backoff_ns)) {
            co_sleep_ns_wakeable(&link->sleep, tried_ns + (waited_for ? RETRY_NS : backoff_ns) - now_ns());
            pthread_mutex_lock(&link->lock);
            waited_for = !qemu_co_queue_empty(&link->waiters);
            pthread_mutex_unlock(&link->lock);
        }
        backoff_ns = waited_for ? RETRY_NS : MIN(2 * backoff_ns, BACKOFF_NS_MAX);
        link_set_connecting(link, true);
    }
    link_set_connecting(link, false);
}

static bool is_up(NbdLink *link)
{
    pthread_mutex_lock(&link->lock);
    bool up = link->up;

    link->connecting = !up;
    pthread_mutex_unlock(&link->lock);
    return up;
}

static void coroutine_fn link_co(void *opaque)
{
    NbdLink *link = opaque;

    while (!told(&link->stop)) {
        if (is_up(link)) {
            co_read_replies(link);
        } else {
            co_drop_handle(link);
            co_reconnect(link);
        }
    }
    __atomic_store_n(&link->running, false, __ATOMIC_SEQ_CST);
    aio_wait_kick();
}

static void link_bh(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_create(link_co, opaque));
}

static void start(NbdLink *link, AioContext *ctx)
{
    link->ctx = ctx;
    link->stop = false;
    link->running = true;
    aio_bh_schedule_oneshot(ctx, link_bh, link);
}

static bool is_busy(void *opaque)
{
    NbdLink *link = opaque;

    pthread_mutex_lock(&link->lock);
    bool writing = link->writing;

    pthread_mutex_unlock(&link->lock);
    return told(&link->running) || writing || __atomic_load_n(&link->kicks, __ATOMIC_SEQ_CST);
}

/* Main thread. */
static void stop(NbdLink *link)
{
    __atomic_store_n(&link->closing, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&link->stop, true, __ATOMIC_SEQ_CST);
    kick(link);
    aio_wait_while(is_busy, link);
    link->closing = false;
}

void nbd_link_leave(NbdLink *link)
{
    stop(link);
}

void nbd_link_enter(NbdLink *link, AioContext *ctx)
{
    start(link, ctx);
}

/* ---- opening and closing ---- */

int coroutine_fn nbd_link_co_open(NbdLink *link, int64_t open_timeout_ns, Error **errp)
{
    int64_t start_ns = now_ns();
    int ret = nbd_library_load(errp);

    if (ret < 0) {
        return ret;
    }
    pthread_mutex_init(&link->lock, NULL);
    qemu_co_queue_init(&link->waiters);
    STAILQ_INIT(&link->done);
    LIST_INIT(&link->given);
    link->fd = link->connect_fd = -1;
    for (;;) {
        Error *err = NULL;
        int64_t end_ns = open_timeout_ns ? start_ns + open_timeout_ns : now_ns() + HANDSHAKE_NS;

        link->nbd = nbd_co_connect(link, end_ns, &link->info, &link->tunnel, &ret, &err);
        if (link->nbd) {
            break;
        }
        if (now_ns() + OPEN_RETRY_NS >= start_ns + open_timeout_ns) {
            error_propagate(errp, err);
            pthread_mutex_destroy(&link->lock);
            return ret;
        }
        error_free(err);
        co_sleep_ns(OPEN_RETRY_NS);
    }
    link->fd = libnbd.aio_get_fd(link->nbd);
    link->up = true;
    start(link, qemu_get_current_aio_context());
    return 0;
}

void coroutine_fn nbd_link_co_close(NbdLink *link)
{
    stop(link);
    if (link->nbd) {
        if (link->up) {
            libnbd.aio_disconnect(link->nbd, 0);
        }
        nbd_connection_close(link->nbd, link->tunnel);
    }
    pthread_mutex_destroy(&link->lock);
}

/* ---- requests ---- */

/* Locked; false: the link is down and shall not be waited for any longer. */
static bool coroutine_fn co_wait_up(NbdLink *link)
{
    uint64_t attempts = link->attempts;

    if (!link->up && !link->connecting) {
        kick(link);
    }
    while (!link->up) {
        if (link->attempts > attempts && now_ns() >= link->lost_ns + link->reconnect_delay_ns) {
            return false;
        }
        qemu_co_queue_wait_plain(&link->waiters, &link->lock);
    }
    return true;
}

/* Locked. < 0: not accepted, see libnbd.get_errno(). */
static int64_t give(NbdLink *link, NbdRequest *r)
{
    nbd_completion_callback done = { .callback = on_complete, .user_data = r };
    struct nbd_handle *nbd = link->nbd;

    switch (r->op) {
    case NBD_READ:
        return libnbd.aio_pread(nbd, r->buf, r->bytes, r->offset, done, r->flags);
    case NBD_WRITE:
        return libnbd.aio_pwrite(nbd, r->buf, r->bytes, r->offset, done, r->flags);
    case NBD_ZERO:
        return libnbd.aio_zero(nbd, r->bytes, r->offset, done, r->flags);
    case NBD_TRIM:
        return libnbd.aio_trim(nbd, r->bytes, r->offset, done, r->flags);
    case NBD_FLUSH:
        return libnbd.aio_flush(nbd, done, r->flags);
    default:
        return libnbd.aio_block_status(nbd, r->bytes, r->offset,
                                    (nbd_extent_callback) { .callback = on_extent, .user_data = r }, done, r->flags);
    }
}

int coroutine_fn nbd_link_co_request(NbdLink *link, NbdRequest *r)
{
    r->link = link;
    r->co = qemu_coroutine_self();
    for (;;) {
        r->status[0] = 0;
        pthread_mutex_lock(&link->lock);
        if (!link->up && !co_wait_up(link)) {
            pthread_mutex_unlock(&link->lock);
            return -EIO;
        }
        r->given = true;
        LIST_INSERT_HEAD(&link->given, r, link_given);
        if (give(link, r) < 0 && r->given) {
            int err = libnbd.get_errno();

            end(r, is_lost(link) ? -ENOTCONN : -err);
        }
        if (is_lost(link) && link->up) {
            lose(link);
            kick(link);
        } else {
            want_writer(link);
        }
        if (r->given) {
            unlock_and_wake(link);
            qemu_coroutine_yield();
        } else {
            STAILQ_REMOVE(&link->done, r, NbdRequest, next);
            unlock_and_wake(link);
        }
        if (r->ret != -ENOTCONN) {
            return r->ret;
        }
    }
}

/* SPDX-License-Identifier: MIT */
/* host_uring_fd.c: waiting for descriptors with the ring: one-shot polls, which go with
 * the next submission and need no system call of their own; see host_uring.h.
 *
 * A poll that is under way belongs to the kernel until its completion came. When its
 * descriptor is forgotten it is cancelled and left an orphan; its completion frees it.
 */
#include "aio/host_uring.h"
#include <poll.h>

struct UringPoll {
    UringFd *owner;             /* NULL: orphan */
    bool for_write;
    bool armed;
    LIST_ENTRY(UringPoll) link;
};

struct UringFd {
    int fd;
    IOHandler *handler[2];      /* to read, to write */
    void *opaque;
    UringPoll *poll[2];         /* made when first needed */
};

static UringFd *fd_get(HostLoop *l, int fd)
{
    if (fd >= l->fds_len) {
        unsigned len = MAX(2 * l->fds_len, fd + 16);

        l->fds = g_renew(UringFd *, l->fds, len);
        memset(l->fds + l->fds_len, 0, (len - l->fds_len) * sizeof(*l->fds));
        l->fds_len = len;
    }
    if (!l->fds[fd]) {
        l->fds[fd] = g_new0(UringFd, 1);
        l->fds[fd]->fd = fd;
    }
    return l->fds[fd];
}

static void poll_arm(HostLoop *l, UringFd *f, bool for_write)
{
    UringPoll *poll = f->poll[for_write];
    struct io_uring_sqe *sqe;

    if (!poll) {
        poll = f->poll[for_write] = g_new0(UringPoll, 1);
        poll->owner = f;
        poll->for_write = for_write;
        LIST_INSERT_HEAD(&l->polls, poll, link);
    }
    if (!poll->armed) {
        sqe = uring_get_sqe(l);
        io_uring_prep_poll_add(sqe, f->fd, for_write ? POLLOUT : POLLIN | POLLRDHUP);
        uring_tag(sqe, poll, UD_POLL);
        poll->armed = true;
    }
}

/* Give up an armed poll. */
static void poll_cancel(HostLoop *l, UringFd *f, bool for_write)
{
    UringPoll *poll = f->poll[for_write];
    struct io_uring_sqe *sqe = uring_get_sqe(l);

    io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)poll | UD_POLL);
    uring_tag(sqe, NULL, UD_NONE);
    poll->owner = NULL;
    f->poll[for_write] = NULL;
}

void uring_fd_set(HostLoop *l, int fd, IOHandler *rd, IOHandler *wr, void *opaque)
{
    UringFd *f = fd_get(l, fd);
    bool cancelled = false;

    f->handler[0] = rd;
    f->handler[1] = wr;
    f->opaque = opaque;
    for (int dir = 0; dir < 2; dir++) {
        if (f->handler[dir]) {
            poll_arm(l, f, dir);
        } else if (f->poll[dir] && f->poll[dir]->armed) {
            poll_cancel(l, f, dir);
            cancelled = true;
        }
    }
    /* At once: the poll keeps the file open, and the caller is perhaps about to close it. */
    if (cancelled) {
        io_uring_submit(&l->ring);
    }
}

bool uring_fd_ready(HostLoop *l, UringPoll *poll)
{
    UringFd *f = poll->owner;
    bool for_write = poll->for_write;

    poll->armed = false;
    if (!f) {
        LIST_REMOVE(poll, link);
        g_free(poll);
        return false;
    }
    if (!f->handler[for_write]) {
        return false;
    }
    f->handler[for_write](f->opaque);
    if (f->handler[for_write]) {
        poll_arm(l, f, for_write);      /* a handler that stays */
    }
    return true;
}

void uring_fds_free(HostLoop *l)
{
    UringPoll *poll, *next;

    LIST_FOREACH_SAFE(poll, &l->polls, link, next) {
        g_free(poll);
    }
    for (unsigned fd = 0; fd < l->fds_len; fd++) {
        g_free(l->fds[fd]);
    }
    g_free(l->fds);
}

/* SPDX-License-Identifier: MIT */
/* host_uring.h: inside the io_uring back end. */
#ifndef LIVEBLK_AIO_HOST_URING_H
#define LIVEBLK_AIO_HOST_URING_H

#include "aio/aio_private.h"
#include <liburing.h>

typedef struct UringFd UringFd;
typedef struct UringPoll UringPoll;

struct HostLoop {
    AioContext *ctx;
    struct io_uring ring;
    bool enabled;                   /* by its own thread, at first use */
    bool event_armed;               /* a read of evfd is under way */
    int evfd;
    uint64_t event_value;
    unsigned batch_max;             /* submit when this many are queued; 0: when full */
    UringFd **fds;                  /* by number */
    unsigned fds_len;
    LIST_HEAD(, UringPoll) polls;   /* all, for freeing */
};

/* What a completion belongs to, in the low bits of user_data; the rest is a pointer. */
enum { UD_REQUEST, UD_POLL, UD_EVENT, UD_NONE, UD_MASK = 3 };

/* A free submission entry; hands the queue over when it is full. Never NULL. */
struct io_uring_sqe *uring_get_sqe(HostLoop *l);

static inline void uring_tag(struct io_uring_sqe *sqe, void *p, unsigned kind)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)p | kind);
}

/* 0: io_uring works here; else -errno. */
int host_uring_probe(void);

/* Descriptors: host_uring_fd.c. */
void uring_fd_set(HostLoop *l, int fd, IOHandler *rd, IOHandler *wr, void *opaque);
bool uring_fd_ready(HostLoop *l, UringPoll *poll);
void uring_fds_free(HostLoop *l);

#endif

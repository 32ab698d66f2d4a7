/* SPDX-License-Identifier: MIT */
/* nbd_socket.c: the bytes of one connection, in plain text or encrypted; see nbd_server.h. All in the export's context.
 */
#include "base/osdep.h"
#include "export/nbd_server.h"
#include <sys/socket.h>

#define RBUF_BYTES      (64 * KiB)

static int coroutine_fn wait_socket(NbdConnection *c, bool for_write)
{
    return aio_co_wait_fd(c->fd, for_write);
}

/* Receive something into [buf, +len). > 0, or -errno. */
static ssize_t coroutine_fn co_recv(NbdConnection *c, void *buf, size_t len)
{
    for (;;) {
        if (c->socket_drained) {
            c->socket_drained = false;
            int ret = wait_socket(c, false);

            if (ret < 0) {
                return ret;
            }
        }
        ssize_t n = c->tls ? tls_session_recv(c->tls, buf, len) : recv(c->fd, buf, len, MSG_DONTWAIT);

        if (n > 0) {
            c->socket_drained = !c->tls && (size_t)n < len;     /* a TLS record is one of many */
            return n;
        }
        if (n == 0) {
            return -ECONNRESET;
        }
        if (c->tls && n != -EAGAIN) {
            return n;
        }
        if (c->tls || errno == EAGAIN) {
            c->socket_drained = true;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

ssize_t nbd_socket_send(NbdConnection *c, struct iovec *iov, size_t n)
{
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };

    if (c->tls) {
        return tls_session_send(c->tls, iov, n);
    }
    ssize_t sent = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    return sent < 0 ? -errno : sent;
}

/* Before the reader waits for input, what is done goes out. */
static ssize_t coroutine_fn fill(NbdConnection *c)
{
    if (c->rstart == c->rend) {
        c->rstart = c->rend = 0;
    } else if (c->rstart) {
        memmove(c->rbuf, c->rbuf + c->rstart, c->rend - c->rstart);
        c->rend -= c->rstart;
        c->rstart = 0;
    }
    nbd_out_flush(c);
    ssize_t n = co_recv(c, c->rbuf + c->rend, RBUF_BYTES - c->rend);

    if (n > 0) {
        c->rend += n;
    }
    return n;
}

int coroutine_fn nbd_co_read(NbdConnection *c, void *buf, size_t len)
{
    uint8_t *p = buf;

    if (!c->rbuf) {
        c->rbuf = g_malloc(RBUF_BYTES);
    }
    while (len) {
        size_t have = MIN(c->rend - c->rstart, len);

        memcpy(p, c->rbuf + c->rstart, have);
        c->rstart += have;
        p += have;
        len -= have;
        if (!len) {
            break;
        }
        ssize_t n;

        if (len >= RBUF_BYTES / 2) {    /* straight to its place */
            nbd_out_flush(c);
            n = co_recv(c, p, len);
            if (n > 0) {
                p += n;
                len -= n;
            }
        } else {
            n = fill(c);
        }
        if (n < 0) {
            return n;
        }
    }
    return 0;
}

int coroutine_fn nbd_co_skip(NbdConnection *c, uint64_t len)
{
    uint8_t scratch[4096];

    while (len) {
        size_t n = MIN(len, sizeof(scratch));
        int ret = nbd_co_read(c, scratch, n);

        if (ret < 0) {
            return ret;
        }
        len -= n;
    }
    return 0;
}

int coroutine_fn nbd_co_write(NbdConnection *c, const void *buf, size_t len)
{
    const uint8_t *p = buf;

    while (len) {
        struct iovec iov = { (void *)p, len };
        ssize_t n = nbd_socket_send(c, &iov, 1);

        if (n > 0) {
            p += n;
            len -= n;
        } else if (n == -EAGAIN) {
            int ret = wait_socket(c, true);

            if (ret < 0) {
                return ret;
            }
        } else if (n < 0 && n != -EINTR) {
            return n;
        }
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* nbd_transmit.c: requests and replies of one connection; see nbd_server.h. All in the
 * export's context.
 *
 * Reading: one buffer takes what the socket has; headers are parsed there, a write's data goes
 *   on into the request's own buffer, from which it is written without another copy.
 * Running: each request is a coroutine; what the page cache answers ends within its first
 *   entry. No fixed number of requests, but a bound on the bytes they hold.
 * Sending: finished requests queue up; the queue is sent by one sendmsg when the input is used
 *   up, or at the end of the loop's turn. Data goes out from the buffer it was read into.
 */
#include "base/osdep.h"
#include "export/nbd_server.h"
#include <sys/socket.h>

#define RBUF_BYTES      (64 * KiB)
#define SMALL_BYTES     (64 * KiB)
#define LARGE_BYTES     (1 * MiB)
#define FREE_SMALL_MAX  64
#define FREE_LARGE_MAX  4
/* Of one connection; less where many share what all may have. And always at least one request. */
#define IN_FLIGHT_BYTES_MAX (16 * MiB)
#define IN_FLIGHT_BYTES_MIN (1 * MiB)
#define IN_FLIGHT_BYTES_ALL (128 * MiB)
#define IN_FLIGHT_MAX   1024
#define REQUEST_COST    512             /* what a request without data counts for */
#define SEND_IOV_MAX    128

struct NbdRequest {
    NbdConnection *c;
    NbdRequestHeader h;                 /* host byte order */
    uint8_t *buf;                       /* data, page aligned */
    size_t buf_bytes;
    size_t cost;
    /* the reply */
    uint8_t head[32];
    size_t head_bytes;
    const uint8_t *data;                /* NULL: none */
    size_t data_bytes;
    STAILQ_ENTRY(NbdRequest) next;
};

/* ---- raw socket ---- */

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
        ssize_t n = recv(c->fd, buf, len, MSG_DONTWAIT);

        if (n > 0) {
            c->socket_drained = (size_t)n < len;
            return n;
        }
        if (n == 0) {
            return -ECONNRESET;
        }
        if (errno == EAGAIN) {
            c->socket_drained = true;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

static void out_flush(NbdConnection *c);

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
    out_flush(c);
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
            out_flush(c);
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
        ssize_t n = send(c->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            p += n;
            len -= n;
        } else if (n < 0 && errno == EAGAIN) {
            int ret = wait_socket(c, true);

            if (ret < 0) {
                return ret;
            }
        } else if (n < 0 && errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* ---- requests and their memory ---- */

static NbdRequest *request_get(NbdConnection *c, size_t bytes)
{
    NbdRequest *r = NULL;

    if (bytes <= SMALL_BYTES) {
        if ((r = STAILQ_FIRST(&c->free_small))) {
            STAILQ_REMOVE_HEAD(&c->free_small, next);
            c->n_free_small--;
        }
    } else if (bytes <= LARGE_BYTES && (r = STAILQ_FIRST(&c->free_large))) {
        STAILQ_REMOVE_HEAD(&c->free_large, next);
        c->n_free_large--;
    }
    if (!r) {
        r = g_new0(NbdRequest, 1);
        r->c = c;
    }
    if (r->buf_bytes < bytes) {
        qemu_vfree(r->buf);
        /* Sizes of few kinds, so that what is kept fits the next one. */
        r->buf_bytes = bytes <= 4096 ? 4096 : bytes <= SMALL_BYTES ? SMALL_BYTES : MAX(bytes, LARGE_BYTES);
        r->buf = qemu_try_blockalign(NULL, r->buf_bytes);
        if (!r->buf) {
            r->buf_bytes = 0;
        }
    }
    r->data = NULL;
    r->data_bytes = 0;
    r->cost = bytes + REQUEST_COST;
    c->in_flight++;
    c->in_flight_bytes += r->cost;
    return r;
}

static void request_free(NbdRequest *r)
{
    qemu_vfree(r->buf);
    g_free(r);
}

/* The reader goes on later, not now: it may send, and who kicks it is perhaps sending. */
static void reader_kick(NbdConnection *c)
{
    if (c->reader_waits) {
        c->reader_waits = false;
        aio_co_enter(qemu_coroutine_get_aio_context(c->reader), c->reader);
    }
}

static void request_put(NbdRequest *r)
{
    NbdConnection *c = r->c;

    c->in_flight--;
    c->in_flight_bytes -= r->cost;
    if (r->buf_bytes <= SMALL_BYTES && c->n_free_small < FREE_SMALL_MAX) {
        STAILQ_INSERT_HEAD(&c->free_small, r, next);
        c->n_free_small++;
    } else if (r->buf_bytes == LARGE_BYTES && c->n_free_large < FREE_LARGE_MAX) {
        STAILQ_INSERT_HEAD(&c->free_large, r, next);
        c->n_free_large++;
    } else {
        request_free(r);
    }
    reader_kick(c);
}

/* ---- sending ---- */

/* One sendmsg of what is queued. > 0 bytes, 0 nothing queued, -errno. */
static ssize_t send_some(NbdConnection *c)
{
    struct iovec iov[SEND_IOV_MAX];
    struct msghdr msg = { .msg_iov = iov };
    size_t skip = c->out_sent;
    NbdRequest *r;

    STAILQ_FOREACH(r, &c->out, next) {
        if (msg.msg_iovlen + 2 > SEND_IOV_MAX) {
            break;
        }
        if (skip < r->head_bytes) {
            iov[msg.msg_iovlen++] = (struct iovec) { r->head + skip, r->head_bytes - skip };
            skip = 0;
        } else {
            skip -= r->head_bytes;
        }
        if (r->data_bytes > skip) {
            iov[msg.msg_iovlen++] = (struct iovec) { (void *)(r->data + skip), r->data_bytes - skip };
        }
        skip = 0;
    }
    if (!msg.msg_iovlen) {
        return 0;
    }
    ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0) {
        return -errno;
    }
    c->out_sent += n;
    while ((r = STAILQ_FIRST(&c->out)) && c->out_sent >= r->head_bytes + r->data_bytes) {
        c->out_sent -= r->head_bytes + r->data_bytes;
        STAILQ_REMOVE_HEAD(&c->out, next);
        request_put(r);
    }
    return n;
}

/* The client does not read, or is gone: nothing more goes out, requests end unanswered. */
static void connection_die(NbdConnection *c)
{
    NbdRequest *r;

    c->dead = true;
    shutdown(c->fd, SHUT_RDWR);
    while ((r = STAILQ_FIRST(&c->out))) {
        STAILQ_REMOVE_HEAD(&c->out, next);
        request_put(r);
    }
    c->out_sent = 0;
}

/* Send while the socket takes it. False: it is full. */
static bool send_all(NbdConnection *c)
{
    while (!STAILQ_EMPTY(&c->out)) {
        ssize_t n = send_some(c);

        if (n == -EAGAIN) {
            return false;
        }
        if (n < 0 && n != -EINTR) {
            connection_die(c);
        }
    }
    return true;
}

static void coroutine_fn sender_co(void *opaque)
{
    NbdConnection *c = opaque;

    while (!send_all(c)) {
        if (wait_socket(c, true) < 0) {
            connection_die(c);
        }
    }
    c->sending = false;
    reader_kick(c);
}

static void out_flush(NbdConnection *c)
{
    if (c->sending || STAILQ_EMPTY(&c->out)) {
        return;
    }
    if (!send_all(c)) {
        c->sending = true;
        qemu_coroutine_enter(qemu_coroutine_create(sender_co, c));
    }
}

static void flush_bh(void *opaque)
{
    NbdConnection *c = opaque;

    c->flush_scheduled = false;
    out_flush(c);
    reader_kick(c);
}

static void request_reply(NbdRequest *r)
{
    NbdConnection *c = r->c;

    if (c->dead) {
        request_put(r);
        return;
    }
    STAILQ_INSERT_TAIL(&c->out, r, next);
    /* When the reader runs it will flush before it waits; otherwise at the turn's end. */
    if (!c->flush_scheduled && !c->sending) {
        c->flush_scheduled = true;
        aio_bh_schedule_oneshot(qemu_get_current_aio_context(), flush_bh, c);
    }
}

/* ---- replies ---- */

static uint32_t nbd_errno(int err)
{
    switch (err) {
    case 0: return 0;
    case EPERM: case EROFS: return 1;
    case EIO: return 5;
    case ENOMEM: return 12;
    case ENOSPC: case EFBIG: case EDQUOT: return 28;
    case EOVERFLOW: return 75;
    case ENOTSUP: return 95;
    case ESHUTDOWN: return 108;
    default: return 22;
    }
}

static void reply_chunk(NbdRequest *r, unsigned type, const void *extra, size_t extra_bytes,
                        const uint8_t *data, size_t data_bytes)
{
    NbdChunk chunk = {
        .magic = htobe32(NBD_CHUNK_MAGIC), .flags = htobe16(NBD_CHUNK_FLAG_DONE), .type = htobe16(type),
        .cookie = r->h.cookie, .length = htobe32(extra_bytes + data_bytes),
    };

    memcpy(r->head, &chunk, sizeof(chunk));
    if (extra_bytes) {
        memcpy(r->head + sizeof(chunk), extra, extra_bytes);
    }
    r->head_bytes = sizeof(chunk) + extra_bytes;
    r->data = data;
    r->data_bytes = data_bytes;
    request_reply(r);
}

static void reply_simple(NbdRequest *r, int err)
{
    NbdSimpleReply s = {
        .magic = htobe32(NBD_SIMPLE_MAGIC), .error = htobe32(nbd_errno(err)), .cookie = r->h.cookie,
    };

    memcpy(r->head, &s, sizeof(s));
    r->head_bytes = sizeof(s);
    request_reply(r);
}

static void reply_error(NbdRequest *r, int err, const char *text)
{
    if (!r->c->structured) {
        reply_simple(r, err);
        return;
    }
    struct __attribute__((packed)) { uint32_t error; uint16_t len; } e = {
        htobe32(nbd_errno(err)), htobe16(strlen(text)),
    };

    reply_chunk(r, NBD_CHUNK_ERROR, &e, sizeof(e), (const uint8_t *)text, strlen(text));
}

static void reply_done(NbdRequest *r, int ret, const char *what)
{
    if (ret < 0) {
        reply_error(r, -ret, what);
    } else if (r->c->structured && r->h.type == NBD_CMD_BLOCK_STATUS) {
        reply_chunk(r, NBD_CHUNK_NONE, NULL, 0, NULL, 0);
    } else {
        reply_simple(r, 0);
    }
}

/* ---- commands ---- */

static void coroutine_fn cmd_read(NbdRequest *r)
{
    NbdConnection *c = r->c;
    int ret = blk_co_pread(c->exp->common.blk, r->h.offset, r->h.length, r->buf, 0);

    if (ret < 0) {
        reply_error(r, -ret, "reading from file failed");
    } else if (c->structured) {
        uint64_t be = htobe64(r->h.offset);

        if (r->h.length) {
            reply_chunk(r, NBD_CHUNK_OFFSET_DATA, &be, sizeof(be), r->buf, r->h.length);
        } else {
            reply_chunk(r, NBD_CHUNK_NONE, NULL, 0, NULL, 0);
        }
    } else {
        r->data = r->buf;
        r->data_bytes = r->h.length;
        reply_simple(r, 0);
    }
}

static void coroutine_fn cmd_block_status(NbdRequest *r)
{
    NbdExport *exp = r->c->exp;
    int64_t bytes = nbd_co_status(&exp->offer, exp->common.blk, &r->c->choice, r->h.offset, r->h.length,
                                  r->h.flags & NBD_CMD_FLAG_REQ_ONE, r->h.cookie, r->buf);

    if (bytes < 0) {
        reply_error(r, -bytes, "can't get block status");
        return;
    }
    r->head_bytes = 0;          /* the heads of the chunks are among the data */
    r->data = r->buf;
    r->data_bytes = bytes;
    request_reply(r);
}

static void coroutine_fn request_co(void *opaque)
{
    NbdRequest *r = opaque;
    NbdExport *exp = r->c->exp;
    BlockBackend *blk = exp->common.blk;
    BdrvRequestFlags flags = (r->h.flags & NBD_CMD_FLAG_FUA) || exp->writethrough ? BDRV_REQ_FUA : 0;
    int ret;

    switch (r->h.type) {
    case NBD_CMD_READ:
        cmd_read(r);
        return;
    case NBD_CMD_BLOCK_STATUS:
        cmd_block_status(r);
        return;
    case NBD_CMD_WRITE:
        ret = blk_co_pwrite(blk, r->h.offset, r->h.length, r->buf, flags);
        reply_done(r, ret, "writing to file failed");
        return;
    case NBD_CMD_WRITE_ZEROES:
        flags |= r->h.flags & NBD_CMD_FLAG_NO_HOLE ? 0 : BDRV_REQ_MAY_UNMAP;
        flags |= r->h.flags & NBD_CMD_FLAG_FAST_ZERO ? BDRV_REQ_NO_FALLBACK : 0;
        ret = blk_co_pwrite_zeroes(blk, r->h.offset, r->h.length, flags);
        reply_done(r, ret, "writing to file failed");
        return;
    case NBD_CMD_TRIM:
        ret = blk_co_pdiscard(blk, r->h.offset, r->h.length);
        if (ret == 0 && (flags & BDRV_REQ_FUA)) {
            ret = blk_co_flush(blk);
        }
        reply_done(r, ret, "discard failed");
        return;
    case NBD_CMD_FLUSH:
        reply_done(r, blk_co_flush(blk), "flush failed");
        return;
    case NBD_CMD_CACHE:
        reply_done(r, blk_co_preadv(blk, r->h.offset, r->h.length, NULL, BDRV_REQ_PREFETCH), "caching data failed");
        return;
    }
}

/* What the client may not ask: 0, or the error to answer. */
static int request_check(NbdConnection *c, const NbdRequestHeader *h, const char **why)
{
    NbdExport *exp = c->exp;
    int64_t size = blk_getlength_cached(exp->common.blk);
    unsigned valid = NBD_CMD_FLAG_FUA;
    bool writes = h->type == NBD_CMD_WRITE || h->type == NBD_CMD_TRIM || h->type == NBD_CMD_WRITE_ZEROES;

    switch (h->type) {
    case NBD_CMD_READ:
        valid |= c->structured ? NBD_CMD_FLAG_DF : 0;
        break;
    case NBD_CMD_WRITE_ZEROES:
        valid |= NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
        break;
    case NBD_CMD_BLOCK_STATUS:
        valid |= NBD_CMD_FLAG_REQ_ONE;
        if (!c->structured || !c->choice.n || !h->length) {
            *why = c->choice.n ? "need non-zero length" : "CMD_BLOCK_STATUS not negotiated";
            return EINVAL;
        }
        break;
    case NBD_CMD_WRITE: case NBD_CMD_FLUSH: case NBD_CMD_TRIM: case NBD_CMD_CACHE:
        break;
    default:
        *why = "invalid request type received";
        return EINVAL;
    }
    if (h->flags & ~valid) {
        *why = "unsupported flags for command";
        return EINVAL;
    }
    if (writes && !exp->writable) {
        *why = "Export is read-only";
        return EROFS;
    }
    if ((h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE) && h->length > NBD_MAX_BUFFER) {
        *why = "request is larger than max len";
        return EINVAL;
    }
    if (h->type != NBD_CMD_FLUSH &&
        (h->offset > (uint64_t)size || h->length > (uint64_t)size - h->offset)) {
        *why = "operation past EOF";
        return h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES ? ENOSPC : EINVAL;
    }
    return 0;
}

static size_t in_flight_bytes_max(void)
{
    size_t share = IN_FLIGHT_BYTES_ALL / MAX(nbd_server_connections(), 1);

    return MIN(MAX(share, IN_FLIGHT_BYTES_MIN), IN_FLIGHT_BYTES_MAX);
}

static void coroutine_fn wait_for_room(NbdConnection *c, size_t bytes)
{
    while (c->in_flight && (c->in_flight_bytes + bytes > in_flight_bytes_max() || c->in_flight >= IN_FLIGHT_MAX)) {
        out_flush(c);
        c->reader_waits = true;
        qemu_coroutine_yield();
    }
}

/* Read one request and start it. 0, 1 the client says good-bye, -errno. */
static int coroutine_fn next_request(NbdConnection *c)
{
    const char *why = NULL;
    NbdRequestHeader h;
    int ret = nbd_co_read(c, &h, sizeof(h));

    if (ret < 0) {
        return ret;
    }
    if (be32toh(h.magic) != NBD_REQUEST_MAGIC) {
        return -EINVAL;
    }
    h.flags = be16toh(h.flags);
    h.type = be16toh(h.type);
    h.offset = be64toh(h.offset);
    h.length = be32toh(h.length);
    if (h.type == NBD_CMD_DISC) {
        return 1;
    }
    if (h.type == NBD_CMD_WRITE && h.length > NBD_MAX_BUFFER) {
        return -EINVAL;         /* not worth reading through */
    }
    int err = request_check(c, &h, &why);
    size_t bytes = err ? 0 : h.type == NBD_CMD_READ || h.type == NBD_CMD_WRITE ? h.length
                           : h.type == NBD_CMD_BLOCK_STATUS ? nbd_status_bytes_max(c->choice.n) : 0;

    wait_for_room(c, bytes);
    NbdRequest *r = request_get(c, bytes);

    r->h = h;
    if (!err && bytes && !r->buf) {
        err = ENOMEM;
        why = "No memory";
    }
    if (h.type == NBD_CMD_WRITE) {
        ret = err ? nbd_co_skip(c, h.length) : nbd_co_read(c, r->buf, h.length);
        if (ret < 0) {
            request_put(r);
            return ret;
        }
    }
    if (err) {
        reply_error(r, err, why);
    } else {
        qemu_coroutine_enter(qemu_coroutine_create(request_co, r));
    }
    return 0;
}

void coroutine_fn nbd_co_transmit(NbdConnection *c)
{
    NbdRequest *r;

    while (!c->dead && next_request(c) == 0) {
    }
    out_flush(c);
    /* Whatever was begun ends; then nothing refers to us. */
    while (c->in_flight || c->sending || c->flush_scheduled) {
        if (c->dead || __atomic_load_n(&c->closing, __ATOMIC_ACQUIRE)) {
            connection_die(c);
            if (!c->in_flight && !c->sending && !c->flush_scheduled) {
                break;
            }
        }
        c->reader_waits = true;
        qemu_coroutine_yield();
    }
    while ((r = STAILQ_FIRST(&c->free_small))) {
        STAILQ_REMOVE_HEAD(&c->free_small, next);
        request_free(r);
    }
    while ((r = STAILQ_FIRST(&c->free_large))) {
        STAILQ_REMOVE_HEAD(&c->free_large, next);
        request_free(r);
    }
}

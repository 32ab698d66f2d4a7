/* SPDX-License-Identifier: MIT */
/* nbd_transmit.c: requests and replies of one connection; see nbd_server.h. All in the
 * export's context.
 *
 * Reading: one buffer takes what the socket has; headers are parsed there, a write's data goes
 *   on into the request's own buffer, from which it is written without another copy.
 * Running: each request is a coroutine; what the page cache answers ends within its first
 *   entry. No fixed number of requests, but a bound on the bytes they hold.
 * Memory: all connections share IN_FLIGHT_BYTES_ALL, none takes more than an equal part of it, and
 *   IN_FLIGHT_BYTES_OWN each has though others hold all the rest. What is large goes in pieces: a write's are written while the next ones come in, a read's are
 *   sent as they are read, each a chunk of its own. Where the protocol wants a read's data in one go (no
 *   structured replies, or the flag DF) there are WHOLE_BYTES_ALL for all of them together; who
 *   finds nothing left is sent the pieces one by one, and nothing else meanwhile (an error in the
 *   middle can then be told only by hanging up), or, with DF, is asked to ask for less.
 * Sending: finished requests queue up; the queue is sent by one sendmsg when the input is used
 *   up, or at the end of the loop's turn. Data goes out from the buffer it was read into.
 */
#include "base/osdep.h"
#include "export/nbd_server.h"
#include <sys/socket.h>

#define SMALL_BYTES     (64 * KiB)
#define LARGE_BYTES     (1 * MiB)
#define FREE_SMALL_MAX  64
#define FREE_LARGE_MAX  32
/* Of one connection; less where many share what all may have. And always at least one request. */
#define IN_FLIGHT_BYTES_MAX (16 * MiB)
#define IN_FLIGHT_BYTES_MIN (64 * KiB)
#define IN_FLIGHT_BYTES_ALL (128 * MiB)
#define IN_FLIGHT_BYTES_OWN (256 * KiB)
#define WHOLE_BYTES_ALL (64 * MiB)
#define IN_FLIGHT_MAX   1024
#define REQUEST_COST    512             /* what a request without data counts for */
#define SEND_IOV_MAX    128

/* A read or a write in pieces. It ends with its last piece. */
typedef struct NbdPieces {
    unsigned left;                      /* that have not ended */
    int err;                            /* of the first that failed, > 0; 0: none */
} NbdPieces;

struct NbdRequest {
    NbdConnection *c;
    NbdRequestHeader h;                 /* host byte order; a piece's offset and length are its own */
    NbdPieces *pieces;                  /* it is one of these; NULL: it is a whole request */
    size_t whole_bytes;                 /* what it took of WHOLE_BYTES_ALL */
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

/* ---- requests and their memory ---- */

/* What a connection may hold now. */
static size_t in_flight_bytes_max(void)
{
    size_t share = IN_FLIGHT_BYTES_ALL / MAX(nbd_server_connections(), 1);

    return MIN(MAX(share, IN_FLIGHT_BYTES_MIN), IN_FLIGHT_BYTES_MAX);
}

/* Of requests that are larger than this each piece is one. */
static size_t piece_bytes_max(void)
{
    size_t bytes = LARGE_BYTES;

    while (bytes > in_flight_bytes_max() / 4 && bytes > IN_FLIGHT_BYTES_MIN) {
        bytes /= 2;
    }
    return bytes;
}

/* Sizes of few kinds, so that what is kept fits the next one. */
static size_t buffer_bytes(size_t bytes)
{
    size_t kind = bytes ? 4096 : 0;

    while (kind < bytes && kind < LARGE_BYTES) {
        kind *= 2;
    }
    return MAX(kind, bytes);
}

/* Of all connections: what requests cost, and buffers that are kept. Atomic. */
static size_t held_bytes;

static void held_add(size_t bytes)
{
    __atomic_fetch_add(&held_bytes, bytes, __ATOMIC_RELAXED);
}

static void held_sub(size_t bytes)
{
    __atomic_fetch_sub(&held_bytes, bytes, __ATOMIC_RELAXED);
}

static size_t held_now(void)
{
    return __atomic_load_n(&held_bytes, __ATOMIC_RELAXED);
}

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
    } else {
        c->kept_bytes -= r->buf_bytes;
        held_sub(r->buf_bytes);
    }
    if (r->buf_bytes < bytes || r->buf_bytes > 4 * buffer_bytes(bytes)) {
        qemu_vfree(r->buf);
        r->buf_bytes = buffer_bytes(bytes);
        r->buf = bytes ? qemu_try_blockalign(NULL, r->buf_bytes) : NULL;
        if (!r->buf) {
            r->buf_bytes = 0;
        }
    }
    r->data = NULL;
    r->data_bytes = 0;
    r->pieces = NULL;
    r->whole_bytes = 0;
    r->cost = buffer_bytes(bytes) + REQUEST_COST;
    c->in_flight++;
    c->in_flight_bytes += r->cost;
    held_add(r->cost);
    return r;
}

/* ---- reads that must go in one go, of all connections ---- */

static size_t whole_bytes;      /* atomic */

static bool whole_get(size_t bytes)
{
    if (__atomic_add_fetch(&whole_bytes, bytes, __ATOMIC_RELAXED) <= WHOLE_BYTES_ALL) {
        return true;
    }
    __atomic_fetch_sub(&whole_bytes, bytes, __ATOMIC_RELAXED);
    return false;
}

static void whole_put(size_t bytes)
{
    if (bytes) {
        __atomic_fetch_sub(&whole_bytes, bytes, __ATOMIC_RELAXED);
    }
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
    held_sub(r->cost);

    bool keep = c->kept_bytes + r->buf_bytes <= in_flight_bytes_max() / 2 &&
                held_now() + r->buf_bytes <= IN_FLIGHT_BYTES_ALL / 2;
    whole_put(r->whole_bytes);
    if (keep && r->buf_bytes <= SMALL_BYTES && c->n_free_small < FREE_SMALL_MAX) {
        STAILQ_INSERT_HEAD(&c->free_small, r, next);
        c->n_free_small++;
        c->kept_bytes += r->buf_bytes;
        held_add(r->buf_bytes);
    } else if (keep && r->buf_bytes > SMALL_BYTES && r->buf_bytes <= LARGE_BYTES && c->n_free_large < FREE_LARGE_MAX) {
        STAILQ_INSERT_HEAD(&c->free_large, r, next);
        c->n_free_large++;
        c->kept_bytes += r->buf_bytes;
        held_add(r->buf_bytes);
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
    size_t skip = c->out_sent, n_iov = 0;
    NbdRequest *r;

    STAILQ_FOREACH(r, &c->out, next) {
        if (n_iov + 2 > SEND_IOV_MAX) {
            break;
        }
        if (skip < r->head_bytes) {
            iov[n_iov++] = (struct iovec) { r->head + skip, r->head_bytes - skip };
            skip = 0;
        } else {
            skip -= r->head_bytes;
        }
        if (r->data_bytes > skip) {
            iov[n_iov++] = (struct iovec) { (void *)(r->data + skip), r->data_bytes - skip };
        }
        skip = 0;
    }
    if (!n_iov) {
        return 0;
    }
    ssize_t n = nbd_socket_send(c, iov, n_iov);

    if (n < 0) {
        return n;
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
        if (aio_co_wait_fd(c->fd, true) < 0) {
            connection_die(c);
        }
    }
    c->sending = false;
    reader_kick(c);
}

void nbd_out_flush(NbdConnection *c)
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
    nbd_out_flush(c);
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

/* More chunks follow for a request in pieces that has pieces left: they are sent in the order in which they end. */
static void reply_chunk(NbdRequest *r, unsigned type, const void *extra, size_t extra_bytes,
                        const uint8_t *data, size_t data_bytes)
{
    bool done = !r->pieces || !r->pieces->left;
    NbdChunk chunk = {
        .magic = htobe32(NBD_CHUNK_MAGIC), .flags = htobe16(done ? NBD_CHUNK_FLAG_DONE : 0), .type = htobe16(type),
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

/* ---- requests in pieces ---- */

/* One piece has ended; *@last: it was the last one. The first error counts: returns whether this is it. */
static bool piece_end(NbdPieces *p, int ret, bool *last)
{
    bool first_error = ret < 0 && !p->err;

    if (first_error) {
        p->err = -ret;
    }
    *last = --p->left == 0;
    return first_error;
}

static void coroutine_fn piece_read(NbdRequest *r)
{
    NbdPieces *p = r->pieces;
    int ret = r->buf ? blk_co_pread(r->c->exp->common.blk, r->h.offset, r->h.length, r->buf, 0) : -ENOMEM;
    bool last, first_error = piece_end(p, ret, &last);

    if (first_error) {
        reply_error(r, -ret, "reading from file failed");
    } else if (ret == 0) {
        uint64_t be = htobe64(r->h.offset);

        reply_chunk(r, NBD_CHUNK_OFFSET_DATA, &be, sizeof(be), r->buf, r->h.length);
    } else if (last) {
        reply_chunk(r, NBD_CHUNK_NONE, NULL, 0, NULL, 0);
    } else {
        request_put(r);         /* the client has been told of the first error */
    }
    if (last) {
        g_free(p);
    }
}

static void coroutine_fn piece_write(NbdRequest *r, BdrvRequestFlags flags)
{
    BlockBackend *blk = r->c->exp->common.blk;
    NbdPieces *p = r->pieces;
    bool last;
    int ret = p->err ? 0 : r->buf ? blk_co_pwrite(blk, r->h.offset, r->h.length, r->buf, 0) : -ENOMEM;

    piece_end(p, ret, &last);
    if (!last) {
        request_put(r);
        return;
    }
    ret = p->err ? -p->err : flags & BDRV_REQ_FUA ? blk_co_flush(blk) : 0;
    r->pieces = NULL;
    g_free(p);
    reply_done(r, ret, "writing to file failed");
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
        if (r->pieces) {
            piece_read(r);
        } else {
            cmd_read(r);
        }
        return;
    case NBD_CMD_BLOCK_STATUS:
        cmd_block_status(r);
        return;
    case NBD_CMD_WRITE:
        if (r->pieces) {
            piece_write(r, flags);
            return;
        }
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

static bool has_room(const NbdConnection *c, size_t bytes)
{
    size_t own = c->in_flight_bytes + bytes;

    return !c->in_flight || (c->in_flight < IN_FLIGHT_MAX && own <= in_flight_bytes_max() &&
                             (own <= IN_FLIGHT_BYTES_OWN || held_now() + bytes <= IN_FLIGHT_BYTES_ALL));
}

/* Until the next request may have @bytes. Whoever waits has requests, whose ends wake it. */
static void coroutine_fn wait_for_room(NbdConnection *c, size_t bytes)
{
    bytes = buffer_bytes(bytes) + REQUEST_COST;
    while (!has_room(c, bytes)) {
        nbd_out_flush(c);
        c->reader_waits = true;
        qemu_coroutine_yield();
    }
}

/* Start a request in pieces, each within one of @piece aligned bytes; of a write, read the data. 0 or -errno. */
static int coroutine_fn begin_pieces(NbdConnection *c, const NbdRequestHeader *h, uint64_t piece)
{
    uint64_t at = h->offset, end = at + h->length;
    NbdPieces *p = g_new0(NbdPieces, 1);
    int ret = 0;

    p->left = (end - 1) / piece - at / piece + 1;
    while (at < end) {
        uint64_t n = MIN(end, (at / piece + 1) * piece) - at;

        wait_for_room(c, n);
        if (c->dead) {
            ret = -ECONNRESET;
            break;
        }
        NbdRequest *r = request_get(c, n);

        r->h = *h;
        r->h.offset = at;
        r->h.length = n;
        r->pieces = p;
        if (h->type == NBD_CMD_WRITE) {
            ret = r->buf ? nbd_co_read(c, r->buf, n) : nbd_co_skip(c, n);
        }
        if (ret < 0) {
            request_put(r);
            break;
        }
        at += n;
        qemu_coroutine_enter(qemu_coroutine_create(request_co, r));
    }
    if (at < end) {
        /* Should the client still listen: this has not been done. */
        p->err = EIO;
        p->left -= (end - 1) / piece - at / piece + 1;
        if (!p->left) {
            g_free(p);
        }
    }
    return ret;
}

/* A read whose data must go out in one go, of which just one piece at a time is held. An error behind the first
 * piece can not be told any more: it ends the connection. 0 or -errno. */
static int coroutine_fn read_serially(NbdConnection *c, const NbdRequestHeader *h, size_t piece)
{
    NbdSimpleReply s = { .magic = htobe32(NBD_SIMPLE_MAGIC), .cookie = h->cookie };
    uint64_t at = h->offset, end = at + h->length;
    int ret = 0;

    while ((c->in_flight || c->sending) && !c->dead) {
        nbd_out_flush(c);
        c->reader_waits = true;
        qemu_coroutine_yield();
    }
    NbdRequest *r = request_get(c, piece);

    r->h = *h;
    while (at < end && ret == 0) {
        size_t n = MIN(end, (at / piece + 1) * piece) - at;

        ret = r->buf ? blk_co_pread(c->exp->common.blk, at, n, r->buf, 0) : -ENOMEM;
        if (ret < 0 && at == h->offset) {
            reply_error(r, -ret, "reading from file failed");
            return 0;
        }
        if (ret == 0 && at == h->offset) {
            ret = nbd_co_write(c, &s, sizeof(s));
        }
        if (ret == 0) {
            ret = nbd_co_write(c, r->buf, n);
        }
        at += n;
    }
    request_put(r);
    return ret;
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

    size_t piece = piece_bytes_max(), whole = 0;
    bool in_one_go = h.type == NBD_CMD_READ && (!c->structured || (h.flags & NBD_CMD_FLAG_DF));

    if (bytes > piece && h.type != NBD_CMD_BLOCK_STATUS && !in_one_go) {
        return begin_pieces(c, &h, piece);
    }
    wait_for_room(c, bytes);
    if (bytes > piece && in_one_go) {
        whole = whole_get(bytes) ? bytes : 0;
        if (!whole && !(h.flags & NBD_CMD_FLAG_DF)) {
            return read_serially(c, &h, piece);
        }
        if (!whole) {
            err = EOVERFLOW;
            why = "too much to be sent unfragmented now";
            bytes = 0;
        }
    }
    NbdRequest *r = request_get(c, bytes);

    r->h = h;
    r->whole_bytes = whole;
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
    nbd_out_flush(c);
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
        held_sub(r->buf_bytes);
        request_free(r);
    }
    while ((r = STAILQ_FIRST(&c->free_large))) {
        STAILQ_REMOVE_HEAD(&c->free_large, next);
        held_sub(r->buf_bytes);
        request_free(r);
    }
}

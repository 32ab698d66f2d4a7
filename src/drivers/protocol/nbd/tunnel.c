/* SPDX-License-Identifier: MIT */
/* tunnel.c: TLS between libnbd and a server; see nbd.h.
 *
 * TLS is ours, not libnbd's: that of the version in use today cannot be told which name a certificate has to have,
 * believes any name on a socket it did not connect itself, and knows neither priorities nor keys with a password.
 *
 *   libnbd <-- plain text, a pair of sockets --> thread of the tunnel <-- TLS --> server
 *
 * Before that the tunnel asks the server for TLS, as NBD has it (NBD_OPT_STARTTLS), and shakes hands, in steps that
 * do not wait. libnbd then gets the server's greeting once more, and its answer to that goes nowhere: we have given
 * the same one already.
 *
 * STEPS          what is awaited
 *   GREETING     magic numbers and flags of the server
 *   ASK          room in the socket for our flags and the request
 *   ANSWER       the head of the reply
 *   TEXT         the reason of a refusal
 *   HANDSHAKE    TLS, and a look at who the server is
 *   READY        the thread runs, or may
 *
 * The thread ends when either side does. Encryption so has a processor of its own; whoever uses the node
 * pays for two copies only.
 */
#include "drivers/protocol/nbd/nbd.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#define MAGIC               0x4e42444d41474943ull   /* "NBDMAGIC" */
#define OPTION_MAGIC        0x49484156454f5054ull   /* "IHAVEOPT" */
#define OLD_STYLE_MAGIC     0x0000420281861253ull
#define REPLY_MAGIC         0x0003e889045565a9ull
#define OPTION_STARTTLS     5
#define REPLY_ACK           1
#define REPLY_ERROR         0x80000000u
#define ERROR_UNSUPPORTED   0x80000001u
#define ERROR_POLICY        0x80000002u
#define ERROR_INVALID       0x80000003u
#define ERROR_PLATFORM      0x80000004u
#define FLAG_FIXED          1
#define FLAG_NO_ZEROES      2

#define GREETING_BYTES      18
#define ASK_BYTES           20      /* flags, and an option without data */
#define ANSWER_BYTES        20
#define TEXT_BYTES_MAX      4096
#define FLAGS_BYTES         4       /* libnbd's answer to the greeting */
#define BUFFER_BYTES        (256 * KiB)
#define RECORD_BYTES        (16 * KiB)
#define LINGER_MS           200     /* for what libnbd said last, if the server does not read */

typedef struct Buffer {
    size_t begin, end;
    uint8_t bytes[BUFFER_BYTES];
} Buffer;

struct NbdTunnel {
    enum { GREETING, ASK, ANSWER, TEXT, HANDSHAKE, READY } step;
    int fd;                         /* to the server */
    int near;                       /* to libnbd; -1 */
    TlsSession *tls;
    size_t have;                    /* of the step's bytes in `message` */
    uint16_t flags;                 /* the server's */
    uint32_t refusal, text_bytes;
    uint8_t message[TEXT_BYTES_MAX];
    /* The thread's while it runs. */
    bool running, near_ended;
    size_t skip;                    /* of libnbd's answer to the greeting */
    pthread_t thread;
    Buffer *up, *down;
};

static uint64_t get_be(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    while (n--) {
        v = v << 8 | *p++;
    }
    return v;
}

static void put_be(uint8_t *p, size_t n, uint64_t v)
{
    while (n--) {
        p[n] = v;
        v >>= 8;
    }
}

NbdTunnel *nbd_tunnel_new(int fd, TlsCreds *creds, const char *hostname, Error **errp)
{
    NbdTunnel *t = g_new0(NbdTunnel, 1);

    t->fd = fd;
    t->near = -1;
    t->tls = tls_session_new(creds, fd, hostname, errp);
    if (!t->tls) {
        close(fd);
        g_clear_pointer(&t, g_free);
    }
    return t;
}

const char *nbd_tls_hostname(const SocketAddress *server, const char *tls_hostname)
{
    return tls_hostname ? tls_hostname : server->type == SOCKET_ADDRESS_TYPE_INET ? server->u.inet.host : NULL;
}

/* ---- asking for TLS ---- */

/* Have @n bytes in t->message. 0, -EAGAIN, other -errno and *errp. */
static int receive(NbdTunnel *t, size_t n, Error **errp)
{
    while (t->have < n) {
        ssize_t got = recv(t->fd, t->message + t->have, n - t->have, MSG_DONTWAIT);

        if (got < 0 && errno == EAGAIN) {
            return -EAGAIN;
        }
        if (got < 0) {
            int err = errno;

            error_setg_errno(errp, err, "Unable to read from socket");
            return -err;
        }
        if (got == 0) {
            error_setg(errp, "The NBD server has closed the connection before TLS");
            return -ECONNRESET;
        }
        t->have += got;
    }
    t->have = 0;
    return 0;
}

static int step_greeting(NbdTunnel *t, Error **errp)
{
    int ret = receive(t, GREETING_BYTES, errp);

    if (ret < 0) {
        return ret;
    }
    uint64_t magic = get_be(t->message, 8), more = get_be(t->message + 8, 8);

    if (magic != MAGIC) {
        error_setg(errp, "Bad initial magic received: 0x%016" PRIx64, magic);
        return -EINVAL;
    }
    t->flags = get_be(t->message + 16, 2);
    if (more == OLD_STYLE_MAGIC || (more == OPTION_MAGIC && !(t->flags & FLAG_FIXED))) {
        error_setg(errp, "Server does not support STARTTLS");
        return -EINVAL;
    }
    if (more != OPTION_MAGIC) {
        error_setg(errp, "Bad server magic received: 0x%016" PRIx64, more);
        return -EINVAL;
    }
    put_be(t->message, 4, t->flags & (FLAG_FIXED | FLAG_NO_ZEROES));
    put_be(t->message + 4, 8, OPTION_MAGIC);
    put_be(t->message + 12, 4, OPTION_STARTTLS);
    put_be(t->message + 16, 4, 0);
    t->step = ASK;
    return 0;
}

static int step_ask(NbdTunnel *t, Error **errp)
{
    while (t->have < ASK_BYTES) {
        ssize_t n = send(t->fd, t->message + t->have, ASK_BYTES - t->have, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            int err = errno;

            if (err != EAGAIN) {
                error_setg_errno(errp, err, "Unable to write to socket");
            }
            return -err;
        }
        t->have += n;
    }
    t->have = 0;
    t->step = ANSWER;
    return 0;
}

static int step_answer(NbdTunnel *t, Error **errp)
{
    int ret = receive(t, ANSWER_BYTES, errp);

    if (ret < 0) {
        return ret;
    }
    uint32_t option = get_be(t->message + 8, 4), type = get_be(t->message + 12, 4), bytes = get_be(t->message + 16, 4);

    if (get_be(t->message, 8) != REPLY_MAGIC || option != OPTION_STARTTLS) {
        error_setg(errp, "The NBD server answers the request for TLS with something else");
        return -EINVAL;
    }
    if (type & REPLY_ERROR) {
        t->refusal = type;
        t->text_bytes = bytes;
        t->step = TEXT;
        if (bytes >= TEXT_BYTES_MAX) {
            error_setg(errp, "server error 0x%" PRIx32 " (starttls) message is too long", type);
            return -EINVAL;
        }
        return 0;
    }
    if (type != REPLY_ACK || bytes) {
        error_setg(errp, "Server answered the request for TLS with %s 0x%" PRIx32, bytes ? "data, type" : "type", type);
        return -EINVAL;
    }
    t->step = HANDSHAKE;
    return 0;
}

static int step_text(NbdTunnel *t, Error **errp)
{
    static const struct { uint32_t type; const char *text; } known[] = {
        { ERROR_UNSUPPORTED, "Unsupported option type" }, { ERROR_POLICY, "Denied by server for option" },
        { ERROR_INVALID, "Invalid parameters for option" }, { ERROR_PLATFORM, "Server lacks support for option" },
    };
    const char *text = NULL;
    int ret = receive(t, t->text_bytes, errp);

    if (ret < 0) {
        return ret;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        text = known[i].type == t->refusal ? known[i].text : text;
    }
    if (text) {
        error_setg(errp, "%s %d (starttls)", text, OPTION_STARTTLS);
    } else {
        error_setg(errp, "Unknown error code when asking for option %d (starttls): 0x%" PRIx32, OPTION_STARTTLS, t->refusal);
    }
    if (t->text_bytes && g_utf8_validate((char *)t->message, t->text_bytes, NULL)) {
        error_append_hint(errp, "server reported: %.*s\n", (int)t->text_bytes, t->message);
    }
    return t->refusal == ERROR_UNSUPPORTED || t->refusal == ERROR_PLATFORM ? -ENOTSUP : -EACCES;
}

static int step_handshake(NbdTunnel *t, bool *for_write, Error **errp)
{
    int ret = tls_session_handshake(t->tls, for_write, errp);

    if (ret == 0) {
        ret = tls_session_check(t->tls, NULL, errp);
    }
    if (ret == 0) {
        t->step = READY;
    }
    return ret;
}

int nbd_tunnel_step(NbdTunnel *t, bool *for_write, Error **errp)
{
    int ret = 0;

    while (ret == 0 && t->step != READY) {
        *for_write = t->step == ASK;
        switch (t->step) {
        case GREETING: ret = step_greeting(t, errp); break;
        case ASK: ret = step_ask(t, errp); break;
        case ANSWER: ret = step_answer(t, errp); break;
        case TEXT: ret = step_text(t, errp); break;
        default: ret = step_handshake(t, for_write, errp); break;
        }
    }
    return ret;
}

/* ---- the thread ---- */

typedef enum { MOVED, STUCK, ENDED } Motion;

static bool is_empty(const Buffer *b)
{
    return b->begin == b->end;
}

/* From the server. */
static Motion take_down(NbdTunnel *t)
{
    Buffer *b = t->down;
    Motion m = STUCK;

    if (is_empty(b)) {
        b->begin = b->end = 0;
        while (b->end + RECORD_BYTES <= BUFFER_BYTES) {
            ssize_t n = tls_session_recv(t->tls, b->bytes + b->end, BUFFER_BYTES - b->end);

            if (n == -EAGAIN) {
                break;
            }
            if (n <= 0) {
                m = ENDED;          /* but give what came before */
                break;
            }
            b->end += n;
            m = MOVED;
        }
    }
    if (!is_empty(b)) {
        ssize_t n = send(t->near, b->bytes + b->begin, b->end - b->begin, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN) {
            return ENDED;
        }
        if (n > 0) {
            b->begin += n;
            m = m == ENDED ? m : MOVED;
        }
    }
    return m;
}

/* From libnbd. */
static Motion take_up(NbdTunnel *t)
{
    Buffer *b = t->up;
    Motion m = STUCK;

    if (is_empty(b) && !t->near_ended) {
        ssize_t n = recv(t->near, b->bytes, BUFFER_BYTES, MSG_DONTWAIT);

        b->begin = b->end = 0;
        if (n > 0) {
            b->end = n;
            b->begin = MIN(t->skip, b->end);
            t->skip -= b->begin;
            m = MOVED;
        } else if (n == 0 || errno != EAGAIN) {
            return ENDED;
        }
    }
    while (!is_empty(b)) {
        struct iovec iov = { b->bytes + b->begin, b->end - b->begin };
        ssize_t n = tls_session_send(t->tls, &iov, 1);

        if (n == -EAGAIN) {
            break;
        }
        if (n < 0) {
            return ENDED;
        }
        b->begin += n;
        m = MOVED;
    }
    return t->near_ended && is_empty(b) ? ENDED : m;
}

/* False: it took too long. */
static bool wait_for_either(NbdTunnel *t)
{
    struct pollfd p[] = {
        { .fd = t->fd, .events = (is_empty(t->down) ? POLLIN : 0) | (is_empty(t->up) ? 0 : POLLOUT) },
        { .fd = t->near_ended ? -1 : t->near, .events = (is_empty(t->up) ? POLLIN : 0) | (is_empty(t->down) ? 0 : POLLOUT) },
    };
    int n = poll(p, G_N_ELEMENTS(p), t->near_ended ? LINGER_MS : -1);

    /* While something is left to send up, libnbd's end shows here and not in what is read. */
    t->near_ended |= n > 0 && !is_empty(t->up) && (p[1].revents & (POLLHUP | POLLERR));
    return n != 0;
}

static void *tunnel_thread(void *opaque)
{
    NbdTunnel *t = opaque;

    for (;;) {
        Motion down = take_down(t), up = down == ENDED ? ENDED : take_up(t);

        if (down == ENDED || up == ENDED) {
            take_down(t);           /* who does not take our words may have said why */
            break;
        }
        if (down == STUCK && up == STUCK && !wait_for_either(t)) {
            break;
        }
    }
    shutdown(t->near, SHUT_RDWR);
    return NULL;
}

/* 0 or -errno. */
static int start_thread(NbdTunnel *t)
{
    sigset_t all, before;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = -pthread_create(&t->thread, NULL, tunnel_thread, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    t->running = ret == 0;
    return ret;
}

int nbd_tunnel_start(NbdTunnel *t, Error **errp)
{
    uint8_t greeting[GREETING_BYTES];
    int pair[2], ret = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Cannot make a pair of sockets");
        return ret;
    }
    t->near = pair[0];
    t->up = g_new(Buffer, 1);
    t->down = g_new(Buffer, 1);
    t->up->begin = t->up->end = t->down->begin = t->down->end = 0;
    t->skip = FLAGS_BYTES;
    put_be(greeting, 8, MAGIC);
    put_be(greeting + 8, 8, OPTION_MAGIC);
    put_be(greeting + 16, 2, t->flags);
    if (send(t->near, greeting, sizeof(greeting), MSG_NOSIGNAL) != sizeof(greeting)) {
        ret = -EIO;
    }
    ret = ret < 0 ? ret : start_thread(t);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot start a thread for TLS");
        close(pair[1]);
        return ret;
    }
    return pair[1];
}

const char *nbd_tunnel_free(NbdTunnel *t)
{
    const char *why;

    if (!t) {
        return NULL;
    }
    if (t->running) {
        pthread_join(t->thread, NULL);
    }
    why = tls_session_alert(t->tls);
    tls_session_free(t->tls);
    if (t->near >= 0) {
        close(t->near);
    }
    close(t->fd);
    if (t->up) {
        explicit_bzero(t->up, sizeof(*t->up));
        explicit_bzero(t->down, sizeof(*t->down));
    }
    g_free(t->up);
    g_free(t->down);
    g_free(t);
    return why;
}

/* SPDX-License-Identifier: MIT */
/* nbdmin.c: the least that serves a file over NBD, in one thread: the yardstick of a server.
 *
 * nbdmin SOCKET FILE: one client after the other, until it is killed. Reads and writes go
 * straight to the file; the answers to all requests of one recv go out in one sendmsg.
 */
#include "bench.h"
#include <fcntl.h>

#define IN_BYTES    (256 * 1024)
#define DATA_BYTES  (4 * 1024 * 1024)
#define BATCH_MAX   256

static bool hello(int fd, uint64_t size)
{
    struct nbd_greeting g = { htobe64(NBD_MAGIC), htobe64(NBD_OPTION_MAGIC), htobe16(3) };
    struct nbd_option o;
    uint32_t flags;
    char body[4096];

    if (!send_all(fd, &g, sizeof(g)) || !read_all(fd, &flags, 4) || !read_all(fd, &o, sizeof(o)) ||
        be32toh(o.option) != NBD_GO || be32toh(o.length) > sizeof(body) || !read_all(fd, body, be32toh(o.length))) {
        return false;
    }
    struct nbd_info info = { 0, htobe64(size), htobe16(1 | 4) };
    struct nbd_option_reply r = { htobe64(NBD_REPLY_MAGIC), htobe32(NBD_GO), htobe32(NBD_INFO), htobe32(sizeof(info)) };
    struct nbd_option_reply ack = { htobe64(NBD_REPLY_MAGIC), htobe32(NBD_GO), htobe32(NBD_ACK), 0 };

    return send_all(fd, &r, sizeof(r)) && send_all(fd, &info, sizeof(info)) && send_all(fd, &ack, sizeof(ack));
}

typedef struct Batch {
    struct nbd_answer head[BATCH_MAX];
    struct iovec iov[2 * BATCH_MAX];
    unsigned n, n_iov;
    size_t used;            /* of data[] */
    uint8_t *data;
} Batch;

static bool batch_send(Batch *b, int fd)
{
    bool ok = !b->n_iov || send_vec(fd, b->iov, b->n_iov);

    b->n = b->n_iov = b->used = 0;
    return ok;
}

static void batch_add(Batch *b, uint64_t cookie, bool failed, void *data, size_t bytes)
{
    b->head[b->n] = (struct nbd_answer) { htobe32(NBD_ANSWER_MAGIC), htobe32(failed ? 5 : 0), cookie };
    b->iov[b->n_iov++] = (struct iovec) { &b->head[b->n++], sizeof(b->head[0]) };
    if (bytes && !failed) {
        b->iov[b->n_iov++] = (struct iovec) { data, bytes };
    }
}

static void serve(int fd, int file, uint8_t *in, uint8_t *big, Batch *b)
{
    size_t have = 0;

    for (;;) {
        ssize_t n = recv(fd, in + have, IN_BYTES - have, 0);
        size_t at = 0;

        if (n <= 0) {
            return;
        }
        have += n;
        while (have - at >= sizeof(struct nbd_ask)) {
            struct nbd_ask a;

            memcpy(&a, in + at, sizeof(a));
            uint32_t length = be32toh(a.length), type = be16toh(a.type);

            if (a.magic != htobe32(NBD_ASK_MAGIC) || type == NBD_DISC || length > DATA_BYTES) {
                return;
            }
            if (b->n == BATCH_MAX || b->used + length > DATA_BYTES) {
                if (!batch_send(b, fd)) {
                    return;
                }
            }
            if (type == NBD_READ) {
                bool bad = pread(file, b->data + b->used, length, be64toh(a.offset)) != (ssize_t)length;

                batch_add(b, a.cookie, bad, b->data + b->used, length);
                b->used += length;
            } else if (type == NBD_WRITE) {
                uint8_t *from = in + at + sizeof(a);
                size_t there = have - at - sizeof(a);

                if (there < length && sizeof(a) + length <= IN_BYTES) {
                    break;          /* the rest comes with the next recv */
                }
                if (there < length) {
                    memcpy(big, from, there);
                    if (!read_all(fd, big + there, length - there)) {
                        return;
                    }
                    from = big;
                    at += there;
                } else {
                    at += length;
                }
                batch_add(b, a.cookie, pwrite(file, from, length, be64toh(a.offset)) != (ssize_t)length, NULL, 0);
            } else {
                batch_add(b, a.cookie, type == NBD_FLUSH && fdatasync(file) < 0, NULL, 0);
            }
            at += sizeof(a);
        }
        memmove(in, in + at, have - at);
        have -= at;
        if (!batch_send(b, fd)) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    static Batch b;

    if (argc != 3) {
        die("usage: nbdmin SOCKET FILE");
    }
    int file = open(argv[2], O_RDWR | O_CLOEXEC);
    struct sockaddr_un addr = unix_address(argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t *in = malloc(IN_BYTES), *big = malloc(DATA_BYTES);

    b.data = malloc(DATA_BYTES);
    if (file < 0 || listener < 0 || !in || !big || !b.data) {
        die("%s: %s", argv[2], strerror(errno));
    }
    off_t size = lseek(file, 0, SEEK_END);

    unlink(argv[1]);
    if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listener, 4) < 0) {
        die("%s: %s", argv[1], strerror(errno));
    }
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0) {
            die("accept: %s", strerror(errno));
        }
        b.n = b.n_iov = b.used = 0;
        if (hello(fd, size)) {
            serve(fd, file, in, big, &b);
        }
        close(fd);
    }
}

/* SPDX-License-Identifier: MIT */
/* bench.h: what the measuring programs share: a clock, whole reads and writes, connecting.
 *
 * The programs stand alone: none of the engine's code is in them, so that what they measure
 * is the same for every server. Any fault ends the program with a message and exit code 1.
 */
#ifndef LIVEBLK_BENCH_H
#define LIVEBLK_BENCH_H

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

/* The whole buffer; false where the other side ends first. */
static inline bool read_all(int fd, void *buf, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, (char *)buf + done, bytes - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += n;
    }
    return true;
}

/* Everything in the vectors, which are used up; false where the other side is gone. */
static inline bool send_vec(int fd, struct iovec *iov, size_t n_iov)
{
    while (n_iov) {
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n_iov < 1000 ? n_iov : 1000 };
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return false;
        }
        while (n_iov && (size_t)n >= iov->iov_len) {
            n -= iov->iov_len;
            iov++;
            n_iov--;
        }
        if (n_iov) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= n;
        }
    }
    return true;
}

static inline bool send_all(int fd, const void *buf, size_t bytes)
{
    struct iovec iov = { (void *)buf, bytes };

    return send_vec(fd, &iov, 1);
}

static inline struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(a.sun_path)) {
        die("%s: too long for a socket's path", path);
    }
    strcpy(a.sun_path, path);
    return a;
}

static inline int unix_connect(const char *path)
{
    struct sockaddr_un a = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        die("%s: %s", path, strerror(errno));
    }
    return fd;
}

/* The NBD wire, as far as it is used here; numbers are big endian on it. */
#define NBD_MAGIC           0x4e42444d41474943ULL
#define NBD_OPTION_MAGIC    0x49484156454f5054ULL
#define NBD_REPLY_MAGIC     0x0003e889045565a9ULL
#define NBD_ASK_MAGIC       0x25609513u
#define NBD_ANSWER_MAGIC    0x67446698u
enum { NBD_READ = 0, NBD_WRITE = 1, NBD_DISC = 2, NBD_FLUSH = 3 };
enum { NBD_GO = 7, NBD_ACK = 1, NBD_INFO = 3 };

struct __attribute__((packed)) nbd_greeting { uint64_t magic, option_magic; uint16_t flags; };
struct __attribute__((packed)) nbd_option { uint64_t magic; uint32_t option, length; };
struct __attribute__((packed)) nbd_option_reply { uint64_t magic; uint32_t option, type, length; };
struct __attribute__((packed)) nbd_info { uint16_t type; uint64_t size; uint16_t flags; };
struct __attribute__((packed)) nbd_ask { uint32_t magic; uint16_t flags, type; uint64_t cookie, offset; uint32_t length; };
struct __attribute__((packed)) nbd_answer { uint32_t magic, error; uint64_t cookie; };

#endif

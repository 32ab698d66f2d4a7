/* SPDX-License-Identifier: MIT */
/* nbdload.c: an NBD client that keeps a number of requests in flight and counts.
 *
 * nbdload [-w] [-s] [-b BYTES] [-d DEPTH] [-t SECONDS] [-n COUNT] [-r PER_SECOND] [-x SEED] SOCKET EXPORT
 *   -w write instead of read   -s sequential instead of random
 *   -r paced: requests fall due at this rate, and their latency counts from when they were due
 * Stops after SECONDS or COUNT requests, or at SIGTERM. SIGUSR1 begins a new segment; the one
 * line of JSON it prints has rate and latencies of the whole and of each segment.
 */
#include "bench.h"
#include <poll.h>
#include <signal.h>

#define DEPTH_MAX       256
#define SEGMENTS_MAX    8
#define BUCKET_BITS     5                   /* 32 buckets for each power of two: 3 per cent */
#define BUCKETS         (64 << BUCKET_BITS)

typedef struct Segment {
    int64_t start_ns, end_ns, count, max_ns;
    uint32_t bucket[BUCKETS];
} Segment;

static Segment segment[SEGMENTS_MAX], whole;
static volatile sig_atomic_t marks, stop;

static void on_mark(int sig)
{
    marks++;
}

static void on_stop(int sig)
{
    stop = 1;
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns < (1 << BUCKET_BITS)) {
        return ns;
    }
    unsigned shift = 63 - __builtin_clzll(ns) - BUCKET_BITS;

    return ((shift + 1) << BUCKET_BITS) + (ns >> shift) - (1 << BUCKET_BITS);
}

static double bucket_us(unsigned b)
{
    if (b < (1 << BUCKET_BITS)) {
        return b / 1e3;
    }
    unsigned shift = (b >> BUCKET_BITS) - 1;

    return ((uint64_t)((b & ((1 << BUCKET_BITS) - 1)) + (1 << BUCKET_BITS)) << shift) / 1e3;
}

static double percentile_us(const Segment *s, double part)
{
    int64_t want = s->count * part, seen = 0;

    for (unsigned b = 0; b < BUCKETS; b++) {
        seen += s->bucket[b];
        if (seen > want) {
            return bucket_us(b);
        }
    }
    return s->max_ns / 1e3;
}

static void segment_add(Segment *s, int64_t ns)
{
    s->count++;
    s->max_ns = ns > s->max_ns ? ns : s->max_ns;
    s->bucket[bucket_of(ns)]++;
}

static void segment_print(const Segment *s)
{
    double seconds = (s->end_ns - s->start_ns) / 1e9;

    printf("\"seconds\": %.3f, \"count\": %lld, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f",
           seconds, (long long)s->count, seconds > 0 ? s->count / seconds : 0, percentile_us(s, 0.5),
           percentile_us(s, 0.99), s->max_ns / 1e3);
}

/* Negotiate; the export's size. */
static uint64_t nbd_hello(int fd, const char *name)
{
    struct nbd_greeting g;
    struct nbd_option_reply rep;
    uint32_t flags = htobe32(3), name_bytes = htobe32(strlen(name));        /* fixed, no zeroes */
    struct nbd_option go = { htobe64(NBD_OPTION_MAGIC), htobe32(NBD_GO), htobe32(strlen(name) + 6) };
    uint16_t none = 0;
    uint64_t size = 0;
    struct iovec iov[] = {
        { &flags, 4 }, { &go, sizeof(go) }, { &name_bytes, 4 }, { (void *)name, strlen(name) }, { &none, 2 },
    };

    if (!read_all(fd, &g, sizeof(g)) || g.magic != htobe64(NBD_MAGIC) || !send_vec(fd, iov, 5)) {
        die("no NBD server");
    }
    for (;;) {
        char body[4096];

        if (!read_all(fd, &rep, sizeof(rep)) || be32toh(rep.length) > sizeof(body) ||
            !read_all(fd, body, be32toh(rep.length))) {
            die("the server ended the negotiation");
        }
        if (be32toh(rep.type) == NBD_ACK) {
            return size;
        }
        if (be32toh(rep.type) != NBD_INFO) {
            die("export '%s': refused (%#x)", name, be32toh(rep.type));
        }
        struct nbd_info info;

        if (be32toh(rep.length) >= sizeof(info)) {
            memcpy(&info, body, sizeof(info));
            size = info.type == 0 ? be64toh(info.size) : size;
        }
    }
}

typedef struct Load {
    int fd;
    bool write, sequential;
    uint32_t block;
    unsigned depth;
    int64_t count_max, end_ns, period_ns, due_ns, sent, done;
    uint64_t blocks, next_block, random;
    unsigned free[DEPTH_MAX], n_free;
    int64_t began_ns[DEPTH_MAX];
    struct nbd_ask ask[DEPTH_MAX];
    uint8_t *data, *in;
    size_t in_bytes, skip;      /* parsed input: rest of a header, and data still to skip */
    bool answered;              /* the header of request @cookie is here, its data in part */
    unsigned cookie;
    unsigned seg;
} Load;

static bool more_wanted(const Load *l)
{
    return !stop && (!l->count_max || l->sent < l->count_max) && (!l->end_ns || now_ns() < l->end_ns);
}

static uint64_t next_offset(Load *l)
{
    uint64_t b;

    if (l->sequential) {
        b = l->next_block++ % l->blocks;
    } else {
        l->random ^= l->random << 13;
        l->random ^= l->random >> 7;
        l->random ^= l->random << 17;
        b = l->random % l->blocks;
    }
    return b * l->block;
}

/* Ask for as much as depth and pace allow, in one batch. */
static void ask_more(Load *l)
{
    struct iovec iov[2 * DEPTH_MAX];
    size_t n = 0;
    int64_t now = now_ns();

    while (l->n_free && more_wanted(l)) {
        if (l->period_ns && l->due_ns > now) {
            break;
        }
        unsigned i = l->free[--l->n_free];

        l->began_ns[i] = l->period_ns ? l->due_ns : now;
        l->due_ns += l->period_ns;
        l->ask[i] = (struct nbd_ask) {
            .magic = htobe32(NBD_ASK_MAGIC), .type = htobe16(l->write ? NBD_WRITE : NBD_READ),
            .cookie = i, .offset = htobe64(next_offset(l)), .length = htobe32(l->block),
        };
        iov[n++] = (struct iovec) { &l->ask[i], sizeof(l->ask[i]) };
        if (l->write) {
            iov[n++] = (struct iovec) { l->data, l->block };
        }
        l->sent++;
    }
    if (n && !send_vec(l->fd, iov, n)) {
        die("the server is gone");
    }
}

static void mark_segments(Load *l)
{
    while (l->seg < (unsigned)marks && l->seg + 1 < SEGMENTS_MAX) {
        segment[l->seg].end_ns = now_ns();
        l->seg++;
        segment[l->seg].start_ns = segment[l->seg - 1].end_ns;
    }
}

/* One recv, and all the answers in it. */
static void take_answers(Load *l, size_t room)
{
    ssize_t n = recv(l->fd, l->in + l->in_bytes, room - l->in_bytes, 0);

    if (n < 0 && errno == EINTR) {
        return;
    }
    if (n <= 0) {
        die("the server is gone");
    }
    size_t at = 0, have = l->in_bytes + n;
    int64_t now = now_ns();

    mark_segments(l);
    for (;;) {
        size_t step = l->skip < have - at ? l->skip : have - at;
        struct nbd_answer a;

        at += step;
        l->skip -= step;
        if (l->skip) {
            break;
        }
        if (l->answered) {
            l->answered = false;
            l->done++;
            segment_add(&segment[l->seg], now - l->began_ns[l->cookie]);
            segment_add(&whole, now - l->began_ns[l->cookie]);
            l->free[l->n_free++] = l->cookie;
        }
        if (have - at < sizeof(a)) {
            break;
        }
        memcpy(&a, l->in + at, sizeof(a));
        if (a.magic != htobe32(NBD_ANSWER_MAGIC) || a.cookie >= l->depth || a.error) {
            die("a wrong answer: magic %#x error %u", be32toh(a.magic), be32toh(a.error));
        }
        at += sizeof(a);
        l->skip = l->write ? 0 : l->block;
        l->answered = true;
        l->cookie = a.cookie;
    }
    memmove(l->in, l->in + at, have - at);
    l->in_bytes = have - at;
}

static void run(Load *l, size_t room)
{
    whole.start_ns = segment[0].start_ns = l->due_ns = now_ns();
    for (;;) {
        ask_more(l);
        if (l->done < l->sent) {
            struct pollfd p = { l->fd, POLLIN, 0 };
            int64_t left = l->due_ns - now_ns();

            if (l->period_ns && l->n_free && more_wanted(l)) {
                struct timespec t = { left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0 };

                if (ppoll(&p, 1, &t, NULL) <= 0) {
                    continue;
                }
            }
            take_answers(l, room);
        } else if (!more_wanted(l)) {
            break;
        } else {
            struct timespec t = { 0, l->due_ns > now_ns() ? (l->due_ns - now_ns()) % 1000000000 : 0 };

            nanosleep(&t, NULL);
        }
    }
    mark_segments(l);
    whole.end_ns = segment[l->seg].end_ns = now_ns();
}

int main(int argc, char **argv)
{
    static Load l = { .block = 4096, .depth = 1, .random = 88172645463325252ULL };
    size_t room = 512 * 1024;
    double seconds = 0;
    int opt;

    while ((opt = getopt(argc, argv, "wsb:d:t:n:r:x:")) != -1) {
        switch (opt) {
        case 'w': l.write = true; break;
        case 's': l.sequential = true; break;
        case 'b': l.block = strtoul(optarg, NULL, 0); break;
        case 'd': l.depth = strtoul(optarg, NULL, 0); break;
        case 't': seconds = strtod(optarg, NULL); break;
        case 'n': l.count_max = strtoll(optarg, NULL, 0); break;
        case 'r': l.period_ns = 1e9 / strtod(optarg, NULL); break;
        case 'x': l.random ^= strtoull(optarg, NULL, 0) << 1; break;
        default: die("usage: nbdload [-w] [-s] [-b BYTES] [-d DEPTH] [-t SECONDS] [-n COUNT] [-r RATE] SOCKET EXPORT");
        }
    }
    if (optind + 2 != argc || !l.block || !l.depth || l.depth > DEPTH_MAX) {
        die("nbdload: SOCKET and EXPORT, a block above 0, a depth from 1 to %d", DEPTH_MAX);
    }
    struct sigaction mark = { .sa_handler = on_mark }, halt = { .sa_handler = on_stop };

    sigaction(SIGUSR1, &mark, NULL);
    sigaction(SIGTERM, &halt, NULL);
    l.fd = unix_connect(argv[optind]);
    l.blocks = nbd_hello(l.fd, argv[optind + 1]) / l.block;
    l.data = malloc(l.block);
    l.in = malloc(room);
    if (!l.blocks || !l.data || !l.in) {
        die("the export is smaller than a block, or memory is short");
    }
    for (uint32_t i = 0; i < l.block; i++) {
        l.data[i] = i * 2654435761u >> 13 | 1;      /* no zeroes: nothing to leave out */
    }
    while (l.n_free < l.depth) {
        l.free[l.n_free] = l.n_free;
        l.n_free++;
    }
    l.end_ns = seconds > 0 ? now_ns() + (int64_t)(seconds * 1e9) : 0;
    run(&l, room);
    struct nbd_ask bye = { .magic = htobe32(NBD_ASK_MAGIC), .type = htobe16(NBD_DISC) };

    send_all(l.fd, &bye, sizeof(bye));
    printf("{");
    segment_print(&whole);
    printf(", \"segments\": [");
    for (unsigned i = 0; i <= l.seg; i++) {
        printf("%s{", i ? ", " : "");
        segment_print(&segment[i]);
        printf("}");
    }
    printf("]}\n");
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* qmpload.c: round trips a second of a control socket.
 *
 * qmpload [-n COUNT] [-p IN_FLIGHT] [-c COMMAND] SOCKET: sends COMMAND (without arguments),
 * IN_FLIGHT at a time in one write, and waits for that many lines. Prints JSON.
 */
#include "bench.h"

/* Read until n lines have ended; 'error' in any of them ends the program. */
static void take_lines(int fd, unsigned n)
{
    static char buf[256 * 1024];
    size_t have = 0;

    while (n) {
        ssize_t got = read(fd, buf + have, sizeof(buf) - 1 - have);

        if (got <= 0) {
            die("the control socket is gone, or a reply is too long");
        }
        have += got;
        buf[have] = 0;

        char *line = buf, *end;

        while (n && (end = memchr(line, '\n', have - (line - buf)))) {
            *end = 0;
            if (strstr(line, "\"error\"")) {
                die("refused: %s", line);
            }
            line = end + 1;
            n--;
        }
        have -= line - buf;
        memmove(buf, line, have);
    }
}

int main(int argc, char **argv)
{
    const char *command = "query-block-jobs";
    unsigned count = 20000, batch = 1;
    int opt;

    while ((opt = getopt(argc, argv, "n:p:c:")) != -1) {
        switch (opt) {
        case 'n': count = strtoul(optarg, NULL, 0); break;
        case 'p': batch = strtoul(optarg, NULL, 0); break;
        case 'c': command = optarg; break;
        default: die("usage: qmpload [-n COUNT] [-p IN_FLIGHT] [-c COMMAND] SOCKET");
        }
    }
    if (optind + 1 != argc || !batch || batch > 4096) {
        die("qmpload: one SOCKET, and 1 to 4096 in flight");
    }
    static const char hello[] = "{\"execute\": \"qmp_capabilities\"}\n";
    char one[256];
    int fd = unix_connect(argv[optind]), len = snprintf(one, sizeof(one), "{\"execute\": \"%s\"}\n", command);
    char *all = malloc((size_t)len * batch);
    int64_t begin, sent = 0;

    if (len >= (int)sizeof(one) || !all) {
        die("the command is too long");
    }
    for (unsigned i = 0; i < batch; i++) {
        memcpy(all + (size_t)i * len, one, len);
    }
    take_lines(fd, 1);
    if (!send_all(fd, hello, strlen(hello))) {
        die("the control socket is gone");
    }
    take_lines(fd, 1);
    for (begin = now_ns(); sent < count; sent += batch) {
        if (!send_all(fd, all, (size_t)len * batch)) {
            die("the control socket is gone");
        }
        take_lines(fd, batch);
    }
    double seconds = (now_ns() - begin) / 1e9;

    printf("{\"seconds\": %.6f, \"count\": %lld, \"rate\": %.1f}\n", seconds, (long long)sent, sent / seconds);
    return 0;
}

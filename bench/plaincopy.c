/* SPDX-License-Identifier: MIT */
/* plaincopy.c: copy the data of a file in pieces of 1 MiB: the yardstick of a mirror.
 *
 * plaincopy SOURCE TARGET: holes are found with SEEK_DATA and left out. Prints JSON.
 */
#include "bench.h"
#include <fcntl.h>

#define PIECE   (1024 * 1024)

int main(int argc, char **argv)
{
    if (argc != 3) {
        die("usage: plaincopy SOURCE TARGET");
    }
    int64_t begin = now_ns(), copied = 0;
    int in = open(argv[1], O_RDONLY), out = open(argv[2], O_WRONLY | O_CREAT, 0600);
    uint8_t *buf = aligned_alloc(4096, PIECE);
    off_t size = in < 0 ? 0 : lseek(in, 0, SEEK_END), at = 0;

    if (in < 0 || out < 0 || !buf || size < 0 || ftruncate(out, size) < 0) {
        die("%s to %s: %s", argv[1], argv[2], strerror(errno));
    }
    while (at < size && (at = lseek(in, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(in, at, SEEK_HOLE);

        while (at < end) {
            size_t want = end - at < PIECE ? end - at : PIECE;
            ssize_t n = pread(in, buf, want, at);

            if (n <= 0 || pwrite(out, buf, n, at) != n) {
                die("copying failed at %lld: %s", (long long)at, strerror(errno));
            }
            at += n;
            copied += n;
        }
    }
    if (fdatasync(out) < 0) {
        die("fdatasync: %s", strerror(errno));
    }
    printf("{\"seconds\": %.6f, \"bytes\": %lld}\n", (now_ns() - begin) / 1e9, (long long)copied);
    return 0;
}

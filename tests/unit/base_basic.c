/* SPDX-License-Identifier: MIT */
/* The base layer against naive models: bitmap, vectors, sizes, pace, names. */
#include "base/osdep.h"
#include "base/hbitmap.h"
#include "base/prng.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "block/error.h"
#include "block/iov.h"

/* Random changes of a bitmap and of an array of flags, then the same questions to both. */
static void test_hbitmap(void)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        Prng p = { seed };
        unsigned shift = 9 + prng_below(&p, 4);
        int64_t g = 1LL << shift, size = (1 + prng_below(&p, 90000)) * g - (seed & 1 ? 100 : 0);
        size_t n = DIV_ROUND_UP(size, g);
        g_autofree bool *model = g_new0(bool, n);
        HBitmap *hb = hbitmap_alloc(size, shift);

        for (int i = 0; i < 300; i++) {
            int64_t at = prng_below(&p, n), len = 1 + prng_below(&p, prng_below(&p, 3) ? 100 : n);
            bool on = prng_below(&p, 2);

            len = MIN(len, (int64_t)n - at);
            int64_t end = MIN((at + len) * g, size);

            if (on) {       /* a ragged range dirties every bit that it touches */
                int64_t from = at * g + prng_below(&p, MIN(g, end - at * g));

                hbitmap_set(hb, from, (end - from) - (len > 1 ? prng_below(&p, MIN(g, 500)) : 0));
                hbitmap_set(hb, end - 1, 1);
            } else {
                hbitmap_reset(hb, at * g, end - at * g);
            }
            memset(model + at, on, len);
        }
        for (size_t b = 0; b < n; b++) {
            g_assert(hbitmap_get(hb, b * g) == model[b]);
        }
        int64_t count = 0;
        for (size_t b = 0; b < n; b++) {
            count += model[b] ? MIN(g, size - (int64_t)b * g) : 0;
        }
        g_assert_cmpint(hbitmap_count(hb), ==, count);
        for (int i = 0; i < 200; i++) {
            int64_t from = prng_below(&p, size), bytes = 1 + prng_below(&p, size - from), d = -1, z = -1;
            for (int64_t b = from / g; b < (int64_t)n && b * g < from + bytes; b++) {
                if (model[b] && d < 0) {
                    d = MAX(from, b * g);
                }
                if (!model[b] && z < 0) {
                    z = MAX(from, b * g);
                }
            }
            g_assert_cmpint(hbitmap_next_dirty(hb, from, bytes), ==, d);
            g_assert_cmpint(hbitmap_next_zero(hb, from, bytes), ==, z);
        }
        HBitmap *c = hbitmap_copy(hb);
        g_assert_cmpint(hbitmap_count(c), ==, count);
        hbitmap_truncate(c, size / 2);
        hbitmap_truncate(c, size);
        g_assert_cmpint(hbitmap_next_dirty(c, ROUND_UP(size / 2, g), size), ==, -1);
        hbitmap_reset_all(hb);
        g_assert_true(hbitmap_empty(hb));
        hbitmap_free(hb);
        hbitmap_free(c);
    }
}

static void test_hbitmap_sparse(void)
{
    HBitmap *hb = hbitmap_alloc(1LL << 40, 12);

    hbitmap_set(hb, 1LL << 39, 4096);
    g_assert_cmpint(hbitmap_next_dirty(hb, 0, 1LL << 40), ==, 1LL << 39);
    g_assert_cmpuint(hbitmap_memory(hb), <, 256 * 1024);
    hbitmap_set(hb, 0, 1LL << 40);
    g_assert_cmpint(hbitmap_count(hb), ==, 1LL << 40);
    g_assert_cmpuint(hbitmap_memory(hb), <, 256 * 1024);
    hbitmap_free(hb);
}

static void test_iov(void)
{
    char a[10], b[7], c[13], flat[30], back[30];
    QEMUIOVector q, part;

    for (int i = 0; i < 30; i++) {
        flat[i] = i;
    }
    qemu_iovec_init(&q, 1);
    qemu_iovec_add(&q, a, sizeof(a));
    qemu_iovec_add(&q, b, sizeof(b));
    qemu_iovec_add(&q, c, sizeof(c));
    g_assert_cmpuint(qemu_iovec_from_buf(&q, 0, flat, 30), ==, 30);
    for (int off = 0; off < 30; off++) {
        for (int len = 0; off + len <= 30; len++) {
            qemu_iovec_init(&part, 1);
            qemu_iovec_concat(&part, &q, off, len);
            g_assert_cmpuint(part.size, ==, len);
            g_assert_cmpuint(qemu_iovec_to_buf(&part, 0, back, len), ==, len);
            g_assert(!memcmp(back, flat + off, len));
            qemu_iovec_destroy(&part);
        }
    }
    qemu_iovec_memset(&q, 5, 0, 20);
    g_assert_true(qemu_iovec_is_zero(&q, 5, 20));
    g_assert_false(qemu_iovec_is_zero(&q, 4, 20));
    qemu_iovec_destroy(&q);
}

static void test_zero(void)
{
    g_autofree char *buf = g_malloc0(5000);

    for (int i = 0; i < 5000; i += 7) {
        g_assert_true(buffer_is_zero(buf + i % 13, 4900));
        buf[i] = 1;
        g_assert_true(buffer_is_zero(buf, i));
        g_assert_false(buffer_is_zero(buf, i + 1));
        buf[i] = 0;
    }
}

static void test_sizes(void)
{
    uint64_t v;

    g_assert_cmpint(size_parse("64k", 1, &v), ==, 0);
    g_assert_cmpuint(v, ==, 65536);
    g_assert_cmpint(size_parse("1.5G", 1, &v), ==, 0);
    g_assert_cmpuint(v, ==, 3ULL << 29);
    g_assert_cmpint(size_parse("0x1000", 1, &v), ==, 0);
    g_assert_cmpuint(v, ==, 4096);
    g_assert_cmpint(size_parse("16E", 1, &v), ==, -ERANGE);
    g_assert_cmpint(size_parse("-1", 1, &v), ==, -EINVAL);
    g_assert_cmpint(size_parse("1kk", 1, &v), ==, -EINVAL);
    g_assert_cmpint(size_parse("", 1, &v), ==, -EINVAL);
    g_autofree char *s = size_to_str(1ULL << 30);
    g_assert_cmpstr(s, ==, "1 GiB");
}

static void test_pace(void)
{
    RateLimit rl;
    int64_t now = 1, slept = 0;

    ratelimit_set_speed(&rl, 1000000, 100000000);
    for (int i = 0; i < 100; i++) {
        int64_t d = ratelimit_calculate_delay(&rl, 65536, now);

        g_assert_cmpint(d, >=, 0);
        now += d;
        slept += d;
    }
    /* 6.5 MB at 1 MB/s */
    g_assert_cmpint(slept, >, 6000000000LL);
    g_assert_cmpint(slept, <, 7200000000LL);
    ratelimit_set_speed(&rl, 0, 100000000);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1 << 30, now), ==, 0);
}

static void test_words(void)
{
    const char *const list[] = { "mirror", "backup", "commit", NULL };

    g_assert_true(id_wellformed("job-0.a_b"));
    g_assert_false(id_wellformed("0job"));
    g_assert_false(id_wellformed("a b"));
    g_assert_cmpstr(str_closest("miror", list), ==, "mirror");
    g_assert_null(str_closest("xyzzyx", list));
}

static void test_error(void)
{
    Error *err = NULL;

    error_setg_errno(&err, ENOENT, "Could not open '%s'", "x");
    error_prepend(&err, "disk: ");
    error_append_hint(&err, "Is it there?\n");
    g_assert_cmpstr(error_get_pretty(err), ==, "disk: Could not open 'x': No such file or directory");
    g_assert_cmpstr(error_get_hint(err), ==, "Is it there?\n");
    error_free(err);
    error_setg(NULL, "nobody wants it");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hbitmap/model", test_hbitmap);
    g_test_add_func("/hbitmap/sparse", test_hbitmap_sparse);
    g_test_add_func("/iov", test_iov);
    g_test_add_func("/zero", test_zero);
    g_test_add_func("/sizes", test_sizes);
    g_test_add_func("/pace", test_pace);
    g_test_add_func("/words", test_words);
    g_test_add_func("/error", test_error);
    return g_test_run();
}

/* SPDX-License-Identifier: MIT */
/* base_hbitmap: the bitmap against an array with a flag for each granule, under random
 * changes with fixed seeds; and what it takes in memory. */
#include "base/osdep.h"
#include "base/hbitmap.h"
#include "base/prng.h"

typedef struct Pair {
    HBitmap *hb;
    uint8_t *model;         /* a flag for each granule */
    int64_t size, gran, n;  /* n: granules */
} Pair;

static Pair pair_new(int64_t size, unsigned granularity)
{
    Pair p = {
        .hb = hbitmap_alloc(size, granularity),
        .size = size,
        .gran = 1LL << granularity,
        .n = (size + (1LL << granularity) - 1) >> granularity,
    };

    p.model = g_malloc0(p.n + 1);
    return p;
}

static void pair_free(Pair *p)
{
    hbitmap_free(p->hb);
    g_free(p->model);
}

/* A range with some liking for edges of words, leaves and nodes, and for all lengths. */
static void random_granules(Prng *prng, int64_t n, int64_t *first, int64_t *count)
{
    static const int64_t edges[] = { 1, 64, 4096, 262144 };
    int64_t edge = edges[prng_below(prng, 4)];
    int64_t max = 1LL << prng_below(prng, 21);

    *first = prng_below(prng, n);
    if (prng_below(prng, 2)) {
        *first -= *first % edge;
    }
    *count = 1 + prng_below(prng, MIN(max, n - *first));
    if (prng_below(prng, 4) == 0) {
        *count = MIN(edge, n - *first);
    }
}

static void pair_set(Pair *p, Prng *prng)
{
    int64_t first, count, from, end;

    random_granules(prng, p->n, &first, &count);
    /* ragged: any byte of the first and of the last granule will do */
    from = first * p->gran;
    end = MIN((first + count) * p->gran, p->size);
    if (end - from > 1) {
        int64_t head = prng_below(prng, MIN(p->gran, end - from));
        int64_t last = (first + count - 1) * p->gran;

        from += head;
        end -= prng_below(prng, end - MAX(last, from));
    }
    hbitmap_set(p->hb, from, end - from);
    memset(p->model + first, 1, count);
}

static void pair_reset(Pair *p, Prng *prng)
{
    int64_t first, count;

    random_granules(prng, p->n, &first, &count);
    hbitmap_reset(p->hb, first * p->gran, MIN(count * p->gran, p->size - first * p->gran));
    memset(p->model + first, 0, count);
}

static int64_t model_find(Pair *p, int64_t start, int64_t bytes, int value)
{
    int64_t end = MIN(bytes, p->size - start) + start;

    for (int64_t i = start / p->gran; i < p->n && i * p->gran < end; i++) {
        if (p->model[i] == value) {
            return MAX(start, i * p->gran);
        }
    }
    return -1;
}

static void check_questions(Pair *p, Prng *prng)
{
    for (int i = 0; i < 20; i++) {
        int64_t start = prng_below(prng, p->size), got_start, got_bytes, pnum;
        int64_t bytes = 1 + prng_below(prng, prng_below(prng, 2) ? 3000 * p->gran : p->size);
        int64_t max = 1 + prng_below(prng, 10000 * p->gran), end = MIN(bytes, p->size - start) + start;
        int64_t dirty = model_find(p, start, bytes, 1), zero = model_find(p, start, bytes, 0);
        int value = p->model[start / p->gran];

        g_assert_cmpint(hbitmap_next_dirty(p->hb, start, bytes), ==, dirty);
        g_assert_cmpint(hbitmap_next_zero(p->hb, start, bytes), ==, zero);
        g_assert_cmpint(hbitmap_get(p->hb, start), ==, value);
        g_assert_cmpint(hbitmap_status(p->hb, start, bytes, &pnum), ==, value);
        g_assert_cmpint(pnum, ==, (value ? zero : dirty) < 0 ? end - start : (value ? zero : dirty) - start);
        if (hbitmap_next_dirty_area(p->hb, start, end, max, &got_start, &got_bytes)) {
            int64_t stop = model_find(p, dirty, MIN(max, end - dirty), 0);

            g_assert_cmpint(got_start, ==, dirty);
            g_assert_cmpint(got_bytes, ==, stop < 0 ? MIN(max, end - dirty) : stop - dirty);
        } else {
            g_assert_cmpint(dirty, ==, -1);
        }
    }
}

/* The whole content, by areas; and the counts. */
static void check_equal(Pair *p)
{
    int64_t at = 0, start, bytes, i = 0, set = 0, count = 0;

    while (hbitmap_next_dirty_area(p->hb, at, p->size, INT64_MAX, &start, &bytes)) {
        for (; i < start / p->gran; i++) {
            g_assert_cmpint(p->model[i], ==, 0);
        }
        for (; i * p->gran < start + bytes; i++) {
            g_assert_cmpint(p->model[i], ==, 1);
            set++;
            count += MIN(p->gran, p->size - i * p->gran);
        }
        at = start + bytes;
    }
    for (; i < p->n; i++) {
        g_assert_cmpint(p->model[i], ==, 0);
    }
    g_assert_cmpint(hbitmap_count(p->hb), ==, count);
    g_assert_cmpuint(hbitmap_count_granules(p->hb), ==, set);
    g_assert_true(hbitmap_empty(p->hb) == !set);
}

static Pair random_pair(Prng *prng, int changes)
{
    static const int64_t limits[] = { 3, 64, 5000, 70000, 600000 };
    unsigned granularity = prng_below(prng, 17);
    int64_t n = 1 + prng_below(prng, limits[prng_below(prng, 5)]);
    int64_t gran = 1LL << granularity;
    Pair p = pair_new(n * gran - prng_below(prng, gran), granularity);

    for (int i = 0; i < changes; i++) {
        prng_below(prng, 5) < 3 ? pair_set(&p, prng) : pair_reset(&p, prng);
    }
    return p;
}

static void test_model(void)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        Prng prng = { seed };
        Pair p = random_pair(&prng, 0);

        for (int i = 0; i < 60; i++) {
            prng_below(&prng, 5) < 3 ? pair_set(&p, &prng) : pair_reset(&p, &prng);
            if (i % 20 == 0) {
                check_questions(&p, &prng);
            }
        }
        check_equal(&p);
        hbitmap_reset_all(p.hb);
        memset(p.model, 0, p.n);
        check_equal(&p);
        pair_free(&p);
    }
}

/* Small changes near each other, which take the short way through the last leaf. */
static void test_small_and_near(void)
{
    Prng prng = { 99 };
    Pair p = pair_new(3 * 4096, 0);

    for (int i = 0; i < 60000; i++) {
        int64_t first = 4096 * prng_below(&prng, 3) + prng_below(&prng, 4096);
        int64_t count = 1 + prng_below(&prng, prng_below(&prng, 50) ? 3 : 5000);
        bool on = prng_below(&prng, 2);

        count = MIN(count, p.n - first);
        on ? hbitmap_set(p.hb, first, count) : hbitmap_reset(p.hb, first, count);
        memset(p.model + first, on, count);
        if (i % 1000 == 0) {
            check_equal(&p);
        }
    }
    check_equal(&p);
    pair_free(&p);
}

static void test_copy_and_truncate(void)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        Prng prng = { seed + 100 };
        Pair p = random_pair(&prng, 30), q = p;

        q.hb = hbitmap_copy(p.hb);
        check_equal(&q);
        for (int i = 0; i < 8; i++) {
            int64_t size = prng_below(&prng, prng_below(&prng, 2) ? 2 * q.size + 10 : 700000);
            int64_t n = (size + q.gran - 1) / q.gran;
            uint8_t *model = g_malloc0(n + 1);

            memcpy(model, q.model, MIN(n, q.n));
            hbitmap_truncate(q.hb, size);
            if (q.model != p.model) {
                g_free(q.model);
            }
            q = (Pair) { q.hb, model, size, q.gran, n };
            g_assert_cmpint(hbitmap_size(q.hb), ==, size);
            check_equal(&q);
            if (size) {
                pair_set(&q, &prng);
                check_equal(&q);
            }
        }
        check_equal(&p);        /* the original has not noticed */
        pair_free(&q);
        pair_free(&p);
    }
}

/* Every granule of @src sets what it touches in @dst, whatever the two granularities. */
static void model_merge(Pair *dst, const Pair *src)
{
    for (int64_t i = 0; i < src->n; i++) {
        if (src->model[i]) {
            int64_t first = i * src->gran / dst->gran;
            int64_t end = MIN((i + 1) * src->gran, src->size);

            memset(dst->model + first, 1, (end - 1) / dst->gran - first + 1);
        }
    }
}

static void test_merge(void)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        Prng prng = { seed + 200 };
        Pair dst = random_pair(&prng, 20);
        unsigned granularity = hbitmap_granularity(dst.hb);
        Pair src;

        if (seed % 2) {
            granularity = MAX((int)granularity - 3, 0) + prng_below(&prng, 6);
        }
        src = pair_new(dst.size, granularity);
        for (int i = 0; i < 20; i++) {
            pair_set(&src, &prng);
            if (i % 3) {
                pair_reset(&src, &prng);
            }
        }
        g_assert_true(hbitmap_merge(dst.hb, src.hb));
        model_merge(&dst, &src);
        check_equal(&dst);
        check_equal(&src);
        g_assert_true(hbitmap_merge(dst.hb, dst.hb));
        check_equal(&dst);
        hbitmap_truncate(src.hb, src.size + 1);
        g_assert_false(hbitmap_merge(dst.hb, src.hb));
        check_equal(&dst);
        pair_free(&dst);
        pair_free(&src);
    }
}

static void test_iterate(void)
{
    Prng prng = { 300 };

    for (int round = 0; round < 20; round++) {
        Pair p = random_pair(&prng, 15);
        int64_t first = prng_below(&prng, p.size + 1), i = first / p.gran, at;
        HBitmapIter iter;

        hbitmap_iter_init(&iter, p.hb, first);
        while ((at = hbitmap_iter_next(&iter)) >= 0) {
            g_assert_cmpint(at % p.gran, ==, 0);
            for (; i < at / p.gran; i++) {
                g_assert_cmpint(p.model[i], ==, 0);
            }
            g_assert_cmpint(p.model[i++], ==, 1);
        }
        for (; i < p.n; i++) {
            g_assert_cmpint(p.model[i], ==, 0);
        }
        g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
        pair_free(&p);
    }
}

/* The user cleans what it is given, and something ahead of it gets dirty. */
static void test_iterate_while_changing(void)
{
    HBitmap *hb = hbitmap_alloc(100, 0);
    HBitmapIter iter;

    hbitmap_set(hb, 10, 30);
    hbitmap_iter_init(&iter, hb, 0);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 10);
    hbitmap_reset(hb, 10, 20);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 30);
    hbitmap_reset_all(hb);
    hbitmap_set(hb, 99, 1);
    hbitmap_set(hb, 5, 1);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 99);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    hbitmap_free(hb);
}

/* ---- the stream ---- */

static void check_stream(Pair *p, const uint8_t *buf, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        g_assert_cmpint(buf[i / 8] >> (i % 8) & 1, ==, p->model[first + i]);
    }
    if (n % 8) {
        g_assert_cmpint(buf[n / 8] >> (n % 8), ==, 0);
    }
}

/* Stored in random parts and loaded, in other parts, over what another bitmap held. */
static void test_stream(void)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        Prng prng = { seed + 400 };
        Pair p = random_pair(&prng, 25), q = pair_new(p.size, hbitmap_granularity(p.hb));
        int64_t align = hbitmap_serialization_align(p.hb), part;

        g_assert_cmpint(align, ==, 64 * p.gran);
        for (int i = 0; i < 10; i++) {
            pair_set(&q, &prng);
        }
        for (int64_t at = 0; at < p.size; at += part) {
            part = align * (1 + prng_below(&prng, prng_below(&prng, 2) ? 3 : 2000));
            size_t bytes = hbitmap_serialization_bytes(p.hb, at, part);
            int64_t n = MIN(part / p.gran, p.n - at / p.gran);
            uint8_t *buf = g_malloc(bytes);     /* exact: a sanitizer sees any excess */

            g_assert_cmpuint(bytes, ==, (n + 7) / 8);
            hbitmap_serialize_part(p.hb, buf, at, part);
            check_stream(&p, buf, at / p.gran, n);
            if (n % 8) {
                buf[bytes - 1] |= 0xff << n % 8;        /* to be ignored */
            }
            hbitmap_deserialize_part(q.hb, buf, at, part);
            memcpy(q.model + at / p.gran, p.model + at / p.gran, n);
            if (prng_below(&prng, 10) == 0) {
                check_equal(&q);
            }
            g_free(buf);
        }
        check_equal(&q);
        pair_free(&p);
        pair_free(&q);
    }
}

static void test_stream_bit_order(void)
{
    HBitmap *hb = hbitmap_alloc(80 * 512, 9);
    uint8_t buf[10];

    hbitmap_set(hb, 0, 512);
    hbitmap_set(hb, 9 * 512, 512);
    hbitmap_set(hb, 79 * 512, 512);
    hbitmap_serialize_part(hb, buf, 0, 80 * 512);
    g_assert_cmpmem(buf, 10, "\x01\x02\0\0\0\0\0\0\0\x80", 10);
    hbitmap_free(hb);
}

/* ---- extremes ---- */

static void test_empty_size(void)
{
    HBitmap *hb = hbitmap_alloc(0, 16), *copy = hbitmap_copy(hb);
    int64_t start, bytes;

    hbitmap_set(hb, 0, 100);
    hbitmap_reset(hb, 0, 100);
    g_assert_true(hbitmap_empty(hb));
    g_assert_cmpint(hbitmap_next_dirty(hb, 0, 1), ==, -1);
    g_assert_cmpint(hbitmap_next_zero(hb, 0, 1), ==, -1);
    g_assert_false(hbitmap_next_dirty_area(hb, 0, 10, 1, &start, &bytes));
    g_assert_true(hbitmap_merge(hb, copy));
    g_assert_cmpuint(hbitmap_serialization_bytes(hb, 0, 0), ==, 0);
    hbitmap_truncate(hb, 1);
    g_assert_cmpint(hbitmap_next_zero(hb, 0, 1), ==, 0);
    hbitmap_free(hb);
    hbitmap_free(copy);
    hbitmap_free(NULL);
}

/* A bit for each byte of the largest size: ten levels. */
static void test_largest(void)
{
    HBitmap *hb = hbitmap_alloc(INT64_MAX, 0), *copy;
    int64_t start, bytes;

    hbitmap_set(hb, 0, INT64_MAX);
    g_assert_cmpint(hbitmap_count(hb), ==, INT64_MAX);
    g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, -1);
    hbitmap_reset(hb, INT64_MAX - 1, 1);
    hbitmap_reset(hb, 1LL << 62, 1);
    g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, 1LL << 62);
    g_assert_true(hbitmap_next_dirty_area(hb, 1LL << 62, INT64_MAX, INT64_MAX, &start, &bytes));
    g_assert_cmpint(start, ==, (1LL << 62) + 1);
    g_assert_cmpint(bytes, ==, INT64_MAX - 1 - start);
    copy = hbitmap_copy(hb);
    g_assert_cmpint(hbitmap_count(copy), ==, INT64_MAX - 2);
    hbitmap_reset_all(hb);
    hbitmap_set(hb, INT64_MAX - 1, 1);
    g_assert_cmpint(hbitmap_next_dirty(hb, 0, INT64_MAX), ==, INT64_MAX - 1);
    hbitmap_truncate(hb, 100);
    g_assert_true(hbitmap_empty(hb));
    hbitmap_free(hb);
    hbitmap_free(copy);

    hb = hbitmap_alloc(INT64_MAX, HBITMAP_GRANULARITY_MAX);
    hbitmap_set(hb, INT64_MAX - 1, 1);
    g_assert_cmpint(hbitmap_next_dirty(hb, 0, INT64_MAX), ==, 127LL << 56);
    g_assert_cmpint(hbitmap_count(hb), ==, (1LL << 56) - 1);
    hbitmap_free(hb);
}

/* Ranges that reach behind the end stop there, also where the sum would wrap. */
static void test_stops_at_the_end(void)
{
    HBitmap *hb = hbitmap_alloc(1000, 6);

    hbitmap_set(hb, 990, INT64_MAX);
    g_assert_cmpint(hbitmap_count(hb), ==, 40);     /* 960 .. 999 */
    hbitmap_set(hb, 1000, 5);
    hbitmap_set(hb, INT64_MAX, INT64_MAX);
    g_assert_cmpint(hbitmap_count_granules(hb), ==, 1);
    g_assert_cmpint(hbitmap_next_dirty(hb, 0, INT64_MAX), ==, 960);
    g_assert_cmpint(hbitmap_next_dirty(hb, 2000, 10), ==, -1);
    hbitmap_truncate(hb, 1024);
    g_assert_cmpint(hbitmap_count(hb), ==, 64);
    hbitmap_reset(hb, 960, INT64_MAX);
    g_assert_true(hbitmap_empty(hb));
    hbitmap_free(hb);
}

static void test_partial_reset_aborts(void)
{
    if (g_test_subprocess()) {
        HBitmap *hb = hbitmap_alloc(1000, 6);

        hbitmap_reset(hb, 0, 63);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

/* ---- memory ---- */

static void test_uniform_costs_nothing(void)
{
    HBitmap *hb = hbitmap_alloc(1LL << 40, 12);
    size_t least = hbitmap_memory(hb);

    g_assert_cmpuint(least, <, 200);
    hbitmap_set(hb, 0, 1LL << 40);
    g_assert_cmpint(hbitmap_count(hb), ==, 1LL << 40);
    g_assert_cmpuint(hbitmap_memory(hb), <, 4096);
    /* The half that is clean and the half that is dirty meet at one place. */
    hbitmap_reset(hb, 0, (1LL << 39) + 4096);
    g_assert_cmpuint(hbitmap_memory(hb), <, 8192);
    hbitmap_reset(hb, 0, 1LL << 40);
    g_assert_cmpuint(hbitmap_memory(hb), ==, least);
    hbitmap_free(hb);
}

static void test_memory_follows_dirt(void)
{
    Prng prng = { 500 };
    HBitmap *hb = hbitmap_alloc(1LL << 40, 12);
    size_t least = hbitmap_memory(hb);
    int64_t at;

    for (int i = 0; i < 1000; i++) {
        hbitmap_set(hb, prng_below(&prng, 1LL << 40), 1);
    }
    g_assert_cmpuint(hbitmap_memory(hb), <, 1200 * KiB);
    while ((at = hbitmap_next_dirty(hb, 0, INT64_MAX)) >= 0) {
        hbitmap_reset(hb, at, 4096);
    }
    g_assert_cmpuint(hbitmap_memory(hb), ==, least);
    /* One after the other, a part at a time becomes all dirty and is given back. */
    for (at = 0; at < 40 * GiB; at += 4096) {
        hbitmap_set(hb, at, 4096);
    }
    g_assert_cmpuint(hbitmap_memory(hb), <, 8192);
    hbitmap_free(hb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hbitmap/model", test_model);
    g_test_add_func("/hbitmap/small-and-near", test_small_and_near);
    g_test_add_func("/hbitmap/copy-and-truncate", test_copy_and_truncate);
    g_test_add_func("/hbitmap/merge", test_merge);
    g_test_add_func("/hbitmap/iterate", test_iterate);
    g_test_add_func("/hbitmap/iterate-while-changing", test_iterate_while_changing);
    g_test_add_func("/hbitmap/stream", test_stream);
    g_test_add_func("/hbitmap/stream-bit-order", test_stream_bit_order);
    g_test_add_func("/hbitmap/empty-size", test_empty_size);
    g_test_add_func("/hbitmap/largest", test_largest);
    g_test_add_func("/hbitmap/stops-at-the-end", test_stops_at_the_end);
    g_test_add_func("/hbitmap/partial-reset-aborts", test_partial_reset_aborts);
    g_test_add_func("/hbitmap/uniform-costs-nothing", test_uniform_costs_nothing);
    g_test_add_func("/hbitmap/memory-follows-dirt", test_memory_follows_dirt);
    return g_test_run();
}

/* SPDX-License-Identifier: MIT */
/* base_iov: vectors of every shape against a flat buffer, and the zero test against
 * a loop over bytes. */
#include "base/osdep.h"
#include "base/iov.h"
#include "base/prng.h"

#define FLAT 60

/* A vector over @flat cut at random places, with empty buffers among them. */
static void cut_randomly(Prng *prng, QEMUIOVector *qiov, char *flat)
{
    size_t at = 0;

    qemu_iovec_init(qiov, prng_below(prng, 4));
    while (at < FLAT) {
        size_t len = prng_below(prng, 9);

        len = MIN(len, FLAT - at);
        qemu_iovec_add(qiov, flat + at, len);
        at += len;
    }
    g_assert_cmpuint(qiov->size, ==, FLAT);
}

static void check_same(QEMUIOVector *part, const char *expected, size_t bytes)
{
    char back[FLAT + 40] = { 0 };

    g_assert_cmpuint(part->size, ==, bytes);
    g_assert_cmpuint(iov_size(part->iov, part->niov), ==, bytes);
    g_assert_cmpuint(qemu_iovec_to_buf(part, 0, back, sizeof(back)), ==, bytes);
    g_assert_cmpmem(back, bytes, expected, bytes);
}

static void check_slice(QEMUIOVector *qiov, const char *flat, size_t off, size_t len)
{
    size_t head, tail;
    int niov;
    struct iovec *v = qemu_iovec_slice(qiov, off, len, &head, &tail, &niov);

    g_assert_cmpint(niov, ==, qemu_iovec_subvec_niov(qiov, off, len));
    g_assert_cmpuint(iov_size(v, niov), ==, head + len + tail);
    if (len) {
        g_assert_true((char *)v[0].iov_base + head == flat + off);
        g_assert_cmpuint(head, <, v[0].iov_len);
        g_assert_cmpuint(tail, <, v[niov - 1].iov_len);
    } else {
        g_assert_cmpint(niov, ==, 0);
    }
}

/* Every range of vectors cut in many ways, by each of the ways to take a part. */
static void test_parts(void)
{
    Prng prng = { 42 };
    char flat[FLAT], head[3] = "HHH", tail[2] = "TT", both[FLAT + 5];

    for (int i = 0; i < FLAT; i++) {
        flat[i] = 'a' + i % 26;
    }
    for (int round = 0; round < 20; round++) {
        QEMUIOVector qiov, part;

        cut_randomly(&prng, &qiov, flat);
        for (size_t off = 0; off <= FLAT; off++) {
            for (size_t len = 0; len <= FLAT - off; len++) {
                check_slice(&qiov, flat, off, len);
                qemu_iovec_init_slice(&part, &qiov, off, len);
                check_same(&part, flat + off, len);
                qemu_iovec_destroy(&part);

                qemu_iovec_init(&part, 0);
                qemu_iovec_concat(&part, &qiov, off, len);
                check_same(&part, flat + off, len);
                qemu_iovec_destroy(&part);

                memcpy(both, head, 3);
                memcpy(both + 3, flat + off, len);
                memcpy(both + 3 + len, tail, 2);
                qemu_iovec_init_extended(&part, head, 3, &qiov, off, len, tail, 2);
                check_same(&part, both, len + 5);
                qemu_iovec_destroy(&part);
            }
        }
        qemu_iovec_destroy(&qiov);
    }
}

/* from_buf and memset touch the range and nothing else. */
static void test_writes(void)
{
    Prng prng = { 43 };

    for (int round = 0; round < 3000; round++) {
        char flat[FLAT] = { 0 }, model[FLAT] = { 0 }, data[FLAT];
        size_t off = prng_below(&prng, FLAT + 1), len = prng_below(&prng, FLAT - off + 1);
        QEMUIOVector qiov;

        cut_randomly(&prng, &qiov, flat);
        memset(data, 1 + round % 100, FLAT);
        memcpy(model + off, data, len);
        g_assert_cmpuint(qemu_iovec_from_buf(&qiov, off, data, len), ==, len);
        g_assert_cmpmem(flat, FLAT, model, FLAT);
        g_assert_true(qemu_iovec_is_zero(&qiov, 0, off));
        g_assert_true(qemu_iovec_is_zero(&qiov, off, len) == !len);
        g_assert_true(qemu_iovec_is_zero(&qiov, off + len, FLAT - off - len));
        g_assert_cmpuint(qemu_iovec_memset(&qiov, off, 0, len), ==, len);
        g_assert_true(qemu_iovec_is_zero(&qiov, 0, FLAT));
        qemu_iovec_destroy(&qiov);
    }
}

static void test_copies_stop_at_the_end(void)
{
    char a[4] = "abc", back[10] = { 0 };
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, a, 4);
    g_assert_cmpuint(qemu_iovec_to_buf(&qiov, 2, back, SIZE_MAX), ==, 2);
    g_assert_cmpuint(qemu_iovec_to_buf(&qiov, 4, back, 1), ==, 0);
    g_assert_cmpuint(qemu_iovec_to_buf(&qiov, SIZE_MAX, back, SIZE_MAX), ==, 0);
    g_assert_cmpuint(qemu_iovec_memset(&qiov, 3, 7, 100), ==, 1);
    g_assert_cmpint(a[3], ==, 7);
}

/* What allocates nothing must not look like it did. */
static void test_slices_without_copy(void)
{
    char a[8] = { 0 }, b[8];
    QEMUIOVector qiov, part;

    qemu_iovec_init(&qiov, 2);
    qemu_iovec_add(&qiov, a, 8);
    qemu_iovec_add(&qiov, b, 8);
    qemu_iovec_init_slice(&part, &qiov, 0, 16);
    g_assert_true(part.iov == qiov.iov);
    qemu_iovec_destroy(&part);
    qemu_iovec_init_slice(&part, &qiov, 9, 3);
    g_assert_true(part.iov == &part.local);
    qemu_iovec_destroy(&part);
    qemu_iovec_init_slice(&part, &qiov, 1, 15);
    g_assert_cmpint(part.nalloc, >=, 2);
    qemu_iovec_destroy(&part);
    qemu_iovec_reset(&qiov);
    g_assert_cmpuint(qiov.size, ==, 0);
    qemu_iovec_add(&qiov, a, 1);
    check_same(&qiov, a, 1);
    qemu_iovec_destroy(&qiov);

    qemu_iovec_init(&qiov, 1);
    qemu_iovec_add(&qiov, a, 1);
    g_assert_true(qiov.iov == &qiov.local);
    qemu_iovec_add(&qiov, a + 1, 1);
    g_assert_true(qiov.iov != &qiov.local);
    check_same(&qiov, a, 2);
    qemu_iovec_destroy(&qiov);

    qemu_iovec_init_extended(&part, NULL, 0, NULL, 0, 0, b, 4);
    g_assert_true(part.iov == &part.local && part.iov[0].iov_base == b);
    qemu_iovec_destroy(&part);
}

static void test_empty_vector(void)
{
    QEMUIOVector none, part;
    size_t head, tail;
    int niov;

    qemu_iovec_init_external(&none, NULL, 0);
    qemu_iovec_slice(&none, 0, 0, &head, &tail, &niov);
    g_assert_cmpint(niov, ==, 0);
    g_assert_true(qemu_iovec_is_zero(&none, 0, 0));
    qemu_iovec_init_slice(&part, &none, 0, 0);
    g_assert_cmpuint(part.size, ==, 0);
    qemu_iovec_destroy(&part);
    qemu_iovec_destroy(&none);
}

static void test_overflow_aborts(void)
{
    if (g_test_subprocess()) {
        char a;
        QEMUIOVector qiov;

        qemu_iovec_init(&qiov, 2);
        qemu_iovec_add(&qiov, &a, SIZE_MAX);
        qemu_iovec_add(&qiov, &a, 1);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

/* A sum of offset and length that wraps round is not a range within the vector. */
static void test_wrapping_range_aborts(void)
{
    if (g_test_subprocess()) {
        char a[8] = { 0 };
        QEMUIOVector qiov, part;

        qemu_iovec_init_buf(&qiov, a, 8);
        qemu_iovec_init_slice(&part, &qiov, 4, SIZE_MAX - 1);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

/* Short I/O: the array is consumed in random steps, and what is left stays right. */
static void test_discard_front(void)
{
    Prng prng = { 44 };
    char flat[FLAT], rest[FLAT];

    for (int i = 0; i < FLAT; i++) {
        flat[i] = i;
    }
    for (int round = 0; round < 300; round++) {
        QEMUIOVector qiov;
        struct iovec *iov;
        int niov;
        size_t done = 0;

        cut_randomly(&prng, &qiov, flat);
        iov = qiov.iov;
        niov = qiov.niov;
        while (done < FLAT) {
            size_t step = prng_below(&prng, 12), expected = MIN(step, FLAT - done);

            g_assert_cmpuint(iov_discard_front(&iov, &niov, step), ==, expected);
            done += expected;
            g_assert_cmpuint(iov_to_buf(iov, niov, 0, rest, FLAT), ==, FLAT - done);
            g_assert_cmpmem(rest, FLAT - done, flat + done, FLAT - done);
        }
        g_assert_cmpint(niov, ==, 0);
        g_assert_cmpuint(iov_discard_front(&iov, &niov, 1), ==, 0);
        qemu_iovec_destroy(&qiov);
    }
}

/* One byte set, at each place, of buffers of many lengths and alignments; the bytes
 * just outside are set throughout and must not be seen. */
static void test_zero_finds_any_byte(void)
{
    static const size_t lengths[] = { 0, 1, 7, 8, 9, 15, 16, 31, 63, 64, 255, 256, 257,
                                      287, 288, 289, 319, 511, 513, 1030 };
    g_autofree unsigned char *area = g_malloc(1200);

    for (unsigned l = 0; l < G_N_ELEMENTS(lengths); l++) {
        for (size_t align = 0; align < 33; align++) {
            unsigned char *buf = area + 1 + align;
            size_t len = lengths[l];

            memset(area, 0xff, 1200);
            memset(buf, 0, len);
            g_assert_true(buffer_is_zero(buf, len));
            for (size_t i = 0; i < len; i++) {
                buf[i] = 0x80;
                g_assert_false(buffer_is_zero(buf, len));
                buf[i] = 0;
            }
        }
    }
}

/* No bytes: nothing of the pointer is looked at, which may be NULL. */
static void test_zero_nothing(void)
{
    g_assert_true(buffer_is_zero(NULL, 0));
}

/* Exactly sized allocations, so that a sanitizer sees any read past either end. */
static void test_zero_reads_within(void)
{
    for (size_t len = 1; len < 700; len++) {
        unsigned char *buf = g_malloc0(len);

        g_assert_true(buffer_is_zero(buf, len));
        g_free(buf);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iov/parts", test_parts);
    g_test_add_func("/iov/writes", test_writes);
    g_test_add_func("/iov/copies-stop-at-the-end", test_copies_stop_at_the_end);
    g_test_add_func("/iov/slices-without-copy", test_slices_without_copy);
    g_test_add_func("/iov/empty-vector", test_empty_vector);
    g_test_add_func("/iov/overflow-aborts", test_overflow_aborts);
    g_test_add_func("/iov/wrapping-range-aborts", test_wrapping_range_aborts);
    g_test_add_func("/iov/discard-front", test_discard_front);
    g_test_add_func("/bufzero/finds-any-byte", test_zero_finds_any_byte);
    g_test_add_func("/bufzero/nothing", test_zero_nothing);
    g_test_add_func("/bufzero/reads-within", test_zero_reads_within);
    return g_test_run();
}

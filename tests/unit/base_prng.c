/* SPDX-License-Identifier: MIT */
/* base_prng: the sequence is fixed for ever (seeds of failures are kept), and what is
 * drawn from it lies within its bounds and is spread evenly. */
#include "base/osdep.h"
#include "base/prng.h"

static void test_sequence_is_fixed(void)
{
    Prng p = { 1234567 };

    /* The published values of splitmix64 for this seed. */
    g_assert_cmpuint(prng_u64(&p), ==, 6457827717110365317ULL);
    g_assert_cmpuint(prng_u64(&p), ==, 3203168211198807973ULL);
    g_assert_cmpuint(prng_u64(&p), ==, 9817491932198370423ULL);
}

static void test_below_is_even(void)
{
    Prng p = { 1 };
    int hits[6] = { 0 };
    uint64_t large = 3ULL << 62, upper = 0;

    for (int i = 0; i < 60000; i++) {
        hits[prng_below(&p, 6)]++;
    }
    for (int i = 0; i < 6; i++) {
        g_assert_cmpint(hits[i], >, 9600);
        g_assert_cmpint(hits[i], <, 10400);
    }
    /* A plain remainder would give the first third twice as often. */
    for (int i = 0; i < 30000; i++) {
        upper += prng_below(&p, large) >= large / 3;
    }
    g_assert_cmpuint(upper, >, 19600);
    g_assert_cmpuint(upper, <, 20400);
    g_assert_cmpuint(prng_below(&p, 1), ==, 0);
}

static void test_range(void)
{
    Prng p = { 2 };
    bool least = false, most = false;

    for (int i = 0; i < 1000; i++) {
        int64_t x = prng_range(&p, -3, 4);

        g_assert_cmpint(x, >=, -3);
        g_assert_cmpint(x, <=, 4);
        least |= x == -3;
        most |= x == 4;
    }
    g_assert_true(least && most);
    g_assert_cmpint(prng_range(&p, 7, 7), ==, 7);
    g_assert_cmpint(prng_range(&p, INT64_MIN, INT64_MIN + 1), <, INT64_MIN + 2);
    least = most = false;
    for (int i = 0; i < 64; i++) {
        int64_t x = prng_range(&p, INT64_MIN, INT64_MAX);

        least |= x < 0;
        most |= x > 0;
    }
    g_assert_true(least && most);
}

static void test_chance_and_double(void)
{
    Prng p = { 3 };
    int hits = 0;
    double sum = 0;

    for (int i = 0; i < 10000; i++) {
        double x = prng_double(&p);

        g_assert_true(x >= 0 && x < 1);
        sum += x;
        hits += prng_chance(&p, 1, 4);
        g_assert_false(prng_chance(&p, 0, 9));
        g_assert_true(prng_chance(&p, 9, 9));
    }
    g_assert_cmpint(hits, >, 2300);
    g_assert_cmpint(hits, <, 2700);
    g_assert_cmpfloat(sum, >, 4800);
    g_assert_cmpfloat(sum, <, 5200);
}

/* The same bytes on any machine, and none outside. */
static void test_fill(void)
{
    Prng p = { 4 }, q = { 4 };
    unsigned char buf[21];
    uint64_t word;

    memset(buf, 0xee, sizeof(buf));
    prng_fill(&p, buf, 20);
    word = prng_u64(&q);
    for (int i = 0; i < 8; i++) {
        g_assert_cmpint(buf[i], ==, (word >> (8 * i)) & 0xff);
    }
    g_assert_cmpint(buf[20], ==, 0xee);
}

/* What the child draws does not change what the parent does. */
static void test_split(void)
{
    Prng p = { 5 }, q = { 5 }, child = prng_split(&p);

    prng_u64(&q);
    g_assert_cmpuint(prng_u64(&child), !=, prng_u64(&p));
    prng_u64(&child);
    prng_u64(&q);
    g_assert_cmpuint(prng_u64(&p), ==, prng_u64(&q));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/prng/sequence-is-fixed", test_sequence_is_fixed);
    g_test_add_func("/prng/below-is-even", test_below_is_even);
    g_test_add_func("/prng/range", test_range);
    g_test_add_func("/prng/chance-and-double", test_chance_and_double);
    g_test_add_func("/prng/fill", test_fill);
    g_test_add_func("/prng/split", test_split);
    return g_test_run();
}

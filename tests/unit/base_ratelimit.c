/* SPDX-License-Identifier: MIT */
/* base_ratelimit: the pace kept by a worker that does as it is told, on a clock
 * that only its sleeps move. */
#include "base/osdep.h"
#include "base/prng.h"
#include "base/ratelimit.h"

#define SLICE_NS (NANOSECONDS_PER_SECOND / 10)

/* Random pieces for a while: the rate is the one asked for, to within a slice. */
static void test_keeps_the_rate(void)
{
    static const uint64_t speeds[] = { 1000, 1000000, 123456789, 100 * (uint64_t)GiB };

    for (unsigned i = 0; i < G_N_ELEMENTS(speeds); i++) {
        Prng prng = { 7 + i };
        RateLimit rl;
        int64_t now = 12345;
        uint64_t sent = 0, last = 0;

        ratelimit_set_speed(&rl, speeds[i], SLICE_NS);
        for (int n = 0; n < 20000; n++) {
            last = 1 + prng_below(&prng, 65536);
            sent += last;
            now += ratelimit_calculate_delay(&rl, last, now);
        }
        double ideal_ns = (double)sent / speeds[i] * 1e9;

        g_assert_cmpfloat(now - 12345, <=, ideal_ns + 1000);
        g_assert_cmpfloat(now - 12345, >=, ideal_ns - SLICE_NS - 1000);
    }
}

static void test_unlimited(void)
{
    RateLimit rl;

    ratelimit_set_speed(&rl, 0, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX, 0), ==, 0);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX, INT64_MAX), ==, 0);
}

/* Less than a slice's worth passes without a wait; then all of it is waited for. */
static void test_batches_small_pieces(void)
{
    RateLimit rl;

    ratelimit_set_speed(&rl, 1000000, SLICE_NS);    /* 100,000 bytes a slice */
    for (int i = 0; i < 99; i++) {
        g_assert_cmpint(ratelimit_calculate_delay(&rl, 1000, 50), ==, 0);
    }
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1000, 50), ==, SLICE_NS);
}

static void test_no_credit_for_idling(void)
{
    RateLimit rl;
    int64_t now = 1000 * NANOSECONDS_PER_SECOND;

    ratelimit_set_speed(&rl, 1000000, SLICE_NS);
    ratelimit_calculate_delay(&rl, 1, 0);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 99999, now), ==, 0);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1, now), ==, SLICE_NS);
}

static void test_new_speed_counts_at_once(void)
{
    RateLimit rl;

    ratelimit_set_speed(&rl, 1, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1000, 0), ==, 1000 * NANOSECONDS_PER_SECOND);
    ratelimit_set_speed(&rl, 1000000, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1000, 0), ==, 0);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 199000, 0), ==, 2 * SLICE_NS);
    /* ... nor is a slow new speed charged for what the fast one let pass. */
    ratelimit_set_speed(&rl, 10, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 10, 0), ==, NANOSECONDS_PER_SECOND);
}

/* Workers that share one limit: each hears of what all have begun. */
static void test_shared(void)
{
    RateLimit rl;

    ratelimit_set_speed(&rl, 1000000, SLICE_NS);
    for (int i = 1; i <= 4; i++) {
        g_assert_cmpint(ratelimit_calculate_delay(&rl, 100000, 0), ==, i * SLICE_NS);
    }
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 100000, 4 * SLICE_NS), ==, SLICE_NS);
}

static void test_extremes(void)
{
    RateLimit rl;

    ratelimit_set_speed(&rl, 1, 1);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX, 0), ==, INT64_MAX);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX, 5), ==, INT64_MAX - 5);
    ratelimit_set_speed(&rl, UINT64_MAX, 1000);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1 << 30, 0), ==, 0);
    ratelimit_set_speed(&rl, 1, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 0, 77), ==, 0);
}

/* A clock that steps back never yields a negative wait or an early end. */
static void test_clock_steps_back(void)
{
    RateLimit rl;

    ratelimit_set_speed(&rl, 1000000, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 200000, 1000), ==, 2 * SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 0, 400), ==, 2 * SLICE_NS + 600);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ratelimit/keeps-the-rate", test_keeps_the_rate);
    g_test_add_func("/ratelimit/unlimited", test_unlimited);
    g_test_add_func("/ratelimit/batches-small-pieces", test_batches_small_pieces);
    g_test_add_func("/ratelimit/no-credit-for-idling", test_no_credit_for_idling);
    g_test_add_func("/ratelimit/new-speed-counts-at-once", test_new_speed_counts_at_once);
    g_test_add_func("/ratelimit/shared", test_shared);
    g_test_add_func("/ratelimit/extremes", test_extremes);
    g_test_add_func("/ratelimit/clock-steps-back", test_clock_steps_back);
    return g_test_run();
}

/* SPDX-License-Identifier: MIT */
/* base_throttle.c: rates and bursts come out as asked for, on a clock of the test's own. */
#include "base/osdep.h"
#include "base/throttle.h"

static ThrottleState state_new(ThrottleKind kind, uint64_t avg, uint64_t max, uint64_t seconds)
{
    ThrottleState s = { .last_ns = 0 };

    for (int i = 0; i < THROTTLE_KINDS; i++) {
        s.buckets[i].burst_seconds = 1;
    }
    s.buckets[kind] = (ThrottleBucket) { .avg = avg, .max = max, .burst_seconds = seconds };
    return s;
}

/* Requests one after the other, as soon as they may; how many have gone on by @until_ns. */
static int count_until(ThrottleState *s, bool is_write, int64_t bytes, int64_t until_ns)
{
    int64_t now = 0;
    int n = 0;

    for (;;) {
        now += throttle_wait_ns(s, is_write, now);
        if (now >= until_ns) {
            return n;
        }
        throttle_account(s, is_write, bytes);
        n++;
        g_assert_cmpint(n, <, 1000000);
    }
}

static void assert_near(int n, int wanted)
{
    g_assert_cmpint(n, >=, wanted - wanted / 50 - 2);
    g_assert_cmpint(n, <=, wanted + wanted / 50 + 2);
}

#define SECOND 1000000000LL

static void test_rates(void)
{
    ThrottleState s = state_new(THROTTLE_IOPS_TOTAL, 100, 0, 1);

    assert_near(count_until(&s, false, 512, 10 * SECOND), 1010);        /* and a tenth of a second's worth at first */
    s = state_new(THROTTLE_BPS_WRITE, 1000000, 0, 1);
    assert_near(count_until(&s, true, 1000, 10 * SECOND), 10100);
    s = state_new(THROTTLE_BPS_WRITE, 1000000, 0, 1);
    g_assert_cmpint(throttle_wait_ns(&s, false, 0), ==, 0);
    throttle_account(&s, false, 1 << 30);
    g_assert_cmpint(throttle_wait_ns(&s, false, 0), ==, 0);     /* reads are not limited */
}

static void test_bursts(void)
{
    ThrottleState s = state_new(THROTTLE_IOPS_READ, 100, 1000, 1);

    assert_near(count_until(&s, false, 512, SECOND / 100), 1001);       /* all at once */
    s = state_new(THROTTLE_IOPS_READ, 100, 1000, 1);
    assert_near(count_until(&s, false, 512, 10 * SECOND), 2000);
    /* Of several seconds: not faster than max in any. */
    s = state_new(THROTTLE_IOPS_READ, 100, 1000, 5);
    assert_near(count_until(&s, false, 512, SECOND), 1100);
    s = state_new(THROTTLE_IOPS_READ, 100, 1000, 5);
    assert_near(count_until(&s, false, 512, 4 * SECOND), 4100);
    s = state_new(THROTTLE_IOPS_READ, 100, 1000, 5);
    assert_near(count_until(&s, false, 512, 20 * SECOND), 7000);
}

static void test_large_requests_count_more(void)
{
    ThrottleState s = state_new(THROTTLE_IOPS_TOTAL, 100, 0, 1);

    s.iops_size = 4096;
    assert_near(count_until(&s, true, 16384, 10 * SECOND), 253);
    s = state_new(THROTTLE_IOPS_TOTAL, 100, 0, 1);
    s.iops_size = 4096;
    assert_near(count_until(&s, true, 512, 10 * SECOND), 1010);
}

static void assert_fault(ThrottleState s, const char *text)
{
    Error *err = NULL;

    g_assert_false(throttle_is_valid(&s, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static void test_settings_must_agree(void)
{
    ThrottleState s = state_new(THROTTLE_IOPS_TOTAL, 100, 200, 3);

    g_assert_true(throttle_is_valid(&s, NULL));
    s.buckets[THROTTLE_IOPS_READ].avg = 5;
    assert_fault(s, "bps/iops/max total values and read/write values cannot be used at the same time");
    s.buckets[THROTTLE_IOPS_READ].avg = 0;
    s.buckets[THROTTLE_BPS_READ].avg = 5;
    g_assert_true(throttle_is_valid(&s, NULL));
    assert_fault(state_new(THROTTLE_BPS_READ, 0, 5, 1), "bps_max/iops_max require corresponding bps/iops values");
    assert_fault(state_new(THROTTLE_BPS_READ, 10, 5, 1), "bps_max/iops_max cannot be lower than bps/iops");
    assert_fault(state_new(THROTTLE_BPS_READ, 10, 0, 0), "the burst length cannot be 0");
    assert_fault(state_new(THROTTLE_BPS_READ, 10, 0, 5), "burst length set without burst rate");
    assert_fault(state_new(THROTTLE_BPS_READ, 10, 1000000000, 1000000000), "burst length too high for this burst rate");
    assert_fault(state_new(THROTTLE_BPS_READ, THROTTLE_VALUE_MAX + 1, 0, 1),
                 "bps/iops/max values must be within [0, 1000000000000000]");
    s = state_new(THROTTLE_BPS_READ, 10, 0, 1);
    s.iops_size = 10;
    assert_fault(s, "iops size requires an iops value to be set");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/throttle/rates", test_rates);
    g_test_add_func("/throttle/bursts", test_bursts);
    g_test_add_func("/throttle/large-requests-count-more", test_large_requests_count_more);
    g_test_add_func("/throttle/settings-must-agree", test_settings_must_agree);
    return g_test_run();
}

/* SPDX-License-Identifier: MIT */
/* ratelimit.c: see ratelimit.h. The only state is the time at which the work
 * accounted so far is paid; if that lies in the past, there is no credit for it. */
#include "base/osdep.h"
#include "base/ratelimit.h"

void ratelimit_set_speed(RateLimit *rl, uint64_t bytes_per_s, int64_t slice_ns)
{
    assert(slice_ns > 0);
    rl->speed = bytes_per_s;
    rl->slice_ns = slice_ns;
    rl->paid_at_ns = INT64_MIN;
    rl->remainder = 0;
}

int64_t ratelimit_calculate_delay(RateLimit *rl, uint64_t bytes, int64_t now_ns)
{
    int64_t unpaid_ns;

    if (!rl->speed) {
        return 0;
    }
    if (rl->paid_at_ns <= now_ns) {
        rl->paid_at_ns = now_ns;
        rl->remainder = 0;
    }
    unsigned __int128 cost = (unsigned __int128)bytes * NANOSECONDS_PER_SECOND + rl->remainder;
    unsigned __int128 cost_ns = cost / rl->speed;

    rl->remainder = cost % rl->speed;
    /* A piece that takes 292 years is as good as one that takes for ever. */
    if (cost_ns > INT64_MAX ||
        __builtin_add_overflow(rl->paid_at_ns, (int64_t)cost_ns, &rl->paid_at_ns)) {
        rl->paid_at_ns = INT64_MAX;
    }
    if (__builtin_sub_overflow(rl->paid_at_ns, now_ns, &unpaid_ns)) {
        unpaid_ns = INT64_MAX;
    }
    return unpaid_ns < rl->slice_ns ? 0 : unpaid_ns;
}

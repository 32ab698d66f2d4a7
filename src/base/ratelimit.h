/* SPDX-License-Identifier: MIT */
/* ratelimit.h: pace work to a number of bytes a second.
 *
 * Time is cut into slices. Work is accounted when it is begun; when a slice's quota is used
 * up the answer is how long to wait. A change of speed counts from now on, also for whoever
 * waits (it asks again). Unused quota is not saved up: no burst after idling.
 * Time is passed in, so the simulator rules. Not thread safe: one owner.
 */
#ifndef LIVEBLK_BASE_RATELIMIT_H
#define LIVEBLK_BASE_RATELIMIT_H

#include <stdint.h>

typedef struct RateLimit {
    int64_t slice_start_ns, slice_ns;
    uint64_t quota;             /* bytes a slice; 0 unlimited */
    uint64_t used;              /* in this slice, may exceed the quota by one piece */
} RateLimit;

static inline void ratelimit_set_speed(RateLimit *rl, uint64_t bytes_per_s, int64_t slice_ns)
{
    rl->slice_ns = slice_ns;
    rl->quota = bytes_per_s ? (uint64_t)((double)bytes_per_s * slice_ns / 1e9 + 0.999) : 0;
    rl->used = 0;
    rl->slice_start_ns = 0;
}

/* Account for @bytes at @now_ns; returns how many ns to wait before more. */
static inline int64_t ratelimit_calculate_delay(RateLimit *rl, uint64_t bytes, int64_t now_ns)
{
    if (!rl->quota) {
        return 0;
    }
    if (!rl->slice_start_ns || now_ns >= rl->slice_start_ns + rl->slice_ns) {
        /* Whole slices that passed pay for what was taken too much. */
        uint64_t passed = rl->slice_start_ns ? (now_ns - rl->slice_start_ns) / rl->slice_ns : 0;
        double paid = (double)passed * rl->quota;

        rl->used = paid >= rl->used ? 0 : rl->used - (uint64_t)paid;
        rl->slice_start_ns = now_ns;
    }
    rl->used += bytes;
    if (rl->used < rl->quota) {
        return 0;
    }
    double slices = (double)rl->used / rl->quota;

    return (int64_t)((slices > 1e6 ? 1e6 : slices) * rl->slice_ns) - (now_ns - rl->slice_start_ns);
}
#endif

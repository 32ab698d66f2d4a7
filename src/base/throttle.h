/* SPDX-License-Identifier: MIT */
/* throttle.h: rates with bursts: buckets, without clocks and without waiting. Any thread, one at a time. */
#ifndef LIVEBLK_BASE_THROTTLE_H
#define LIVEBLK_BASE_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>
#include "block/error.h"

/* Bytes, or requests. */
typedef struct ThrottleBucket {
    uint64_t avg;               /* units a second; 0: no limit */
    uint64_t max;               /* units a second in a burst; 0: bursts of avg / 10 */
    uint64_t burst_seconds;     /* how long a burst may be; at least 1 */
    double level, burst_level;  /* units that have not run out yet */
} ThrottleBucket;

typedef enum ThrottleKind {
    THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ, THROTTLE_BPS_WRITE,
    THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_READ, THROTTLE_IOPS_WRITE,
    THROTTLE_KINDS,
} ThrottleKind;

typedef struct ThrottleState {
    ThrottleBucket buckets[THROTTLE_KINDS];
    uint64_t iops_size;         /* bytes that count as a request of their own; 0: each counts as one */
    int64_t last_ns;            /* when the levels were right */
} ThrottleState;

#define THROTTLE_VALUE_MAX 1000000000000000LL

/* Do the settings agree? Else *errp. */
bool throttle_is_valid(const ThrottleState *s, Error **errp);
/* How long until a request may go on, ns; 0: now. */
int64_t throttle_wait_ns(ThrottleState *s, bool is_write, int64_t now_ns);
/* One has gone on. */
void throttle_account(ThrottleState *s, bool is_write, int64_t bytes);

#endif

/* SPDX-License-Identifier: MIT */
/* throttle.c: see throttle.h. */
#include "base/osdep.h"
#include "base/throttle.h"

static bool kinds_agree(const ThrottleState *s)
{
    for (int base = THROTTLE_BPS_TOTAL; base <= THROTTLE_IOPS_TOTAL; base += THROTTLE_IOPS_TOTAL - THROTTLE_BPS_TOTAL) {
        const ThrottleBucket *total = &s->buckets[base], *read = total + 1, *write = total + 2;

        if ((total->avg && (read->avg || write->avg)) || (total->max && (read->max || write->max))) {
            return false;
        }
    }
    return true;
}

static const char *bucket_fault(const ThrottleBucket *b)
{
    if (b->avg > THROTTLE_VALUE_MAX || b->max > THROTTLE_VALUE_MAX) {
        return "bps/iops/max values must be within [0, 1000000000000000]";
    }
    if (!b->burst_seconds) {
        return "the burst length cannot be 0";
    }
    if (b->burst_seconds > 1 && !b->max) {
        return "burst length set without burst rate";
    }
    if (b->max && b->burst_seconds > THROTTLE_VALUE_MAX / b->max) {
        return "burst length too high for this burst rate";
    }
    if (b->max && !b->avg) {
        return "bps_max/iops_max require corresponding bps/iops values";
    }
    if (b->max && b->max < b->avg) {
        return "bps_max/iops_max cannot be lower than bps/iops";
    }
    return NULL;
}

bool throttle_is_valid(const ThrottleState *s, Error **errp)
{
    const char *fault = NULL;

    if (!kinds_agree(s)) {
        fault = "bps/iops/max total values and read/write values cannot be used at the same time";
    } else if (s->iops_size && !s->buckets[THROTTLE_IOPS_TOTAL].avg && !s->buckets[THROTTLE_IOPS_READ].avg &&
               !s->buckets[THROTTLE_IOPS_WRITE].avg) {
        fault = "iops size requires an iops value to be set";
    }
    for (int i = 0; i < THROTTLE_KINDS && !fault; i++) {
        fault = bucket_fault(&s->buckets[i]);
    }
    if (fault) {
        error_setg(errp, "%s", fault);
    }
    return !fault;
}

static void bucket_leak(ThrottleBucket *b, double seconds)
{
    b->level = MAX(b->level - b->avg * seconds, 0);
    b->burst_level = MAX(b->burst_level - b->max * seconds, 0);
}

/* Seconds until it is no longer over full. */
static double bucket_wait(const ThrottleBucket *b)
{
    double room = b->max ? (double)b->max * b->burst_seconds : b->avg / 10.0, seconds = 0;

    if (!b->avg) {
        return 0;
    }
    if (b->level > room) {
        seconds = (b->level - room) / b->avg;
    }
    if (b->burst_seconds > 1 && b->burst_level > b->max / 10.0) {
        seconds = MAX(seconds, (b->burst_level - b->max / 10.0) / b->max);
    }
    return seconds;
}

/* Buckets that a request goes through: the totals, and those of its direction. */
static bool applies(int kind, bool is_write)
{
    return kind == THROTTLE_BPS_TOTAL || kind == THROTTLE_IOPS_TOTAL ||
           (kind == THROTTLE_BPS_WRITE || kind == THROTTLE_IOPS_WRITE) == is_write;
}

int64_t throttle_wait_ns(ThrottleState *s, bool is_write, int64_t now_ns)
{
    double seconds = MAX(now_ns - s->last_ns, 0) / 1e9, wait = 0;

    s->last_ns = now_ns;
    for (int i = 0; i < THROTTLE_KINDS; i++) {
        bucket_leak(&s->buckets[i], seconds);
        if (applies(i, is_write)) {
            wait = MAX(wait, bucket_wait(&s->buckets[i]));
        }
    }
    return wait > 0 ? (int64_t)(wait * 1e9) + 1 : 0;
}

void throttle_account(ThrottleState *s, bool is_write, int64_t bytes)
{
    double requests = s->iops_size && (uint64_t)bytes > s->iops_size ? (double)bytes / s->iops_size : 1;

    for (int i = 0; i < THROTTLE_KINDS; i++) {
        double units = i < THROTTLE_IOPS_TOTAL ? bytes : requests;

        if (applies(i, is_write)) {
            s->buckets[i].level += units;
            s->buckets[i].burst_level += units;
        }
    }
}

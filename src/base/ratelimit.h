/* SPDX-License-Identifier: MIT */
/* ratelimit.h: pace work to a number of bytes a second.
 *
 * Work is accounted when it is begun, and pays for itself as time passes. What is
 * not paid yet may grow to one slice's worth before anybody is told to wait, so
 * that small pieces go in batches; then the wait is until all of it is paid.
 *
 * Use:       ratelimit_set_speed(&rl, speed, slice);
 *            delay = ratelimit_calculate_delay(&rl, bytes, now); sleep for delay; more.
 *            Several workers may share one: each sleeps what it was told.
 * Speed:     a change counts from the next piece on, and forgives what is unpaid, so
 *            that a new speed is never held up by the old one; who sleeps on an old
 *            answer must be woken by the caller.
 * Idling:    saves nothing up: after any pause at most one slice's worth goes at once.
 * Time:      nanoseconds of one monotonic clock, passed in; one that steps back only
 *            makes the waits longer.
 * Runs on:   any thread, but no lock inside: calls on one object by one at a time.
 * Fails:     never. Never suspends.
 */
#ifndef LIVEBLK_BASE_RATELIMIT_H
#define LIVEBLK_BASE_RATELIMIT_H

#include <stdint.h>

typedef struct RateLimit {
    uint64_t speed;         /* bytes a second; 0: unlimited */
    int64_t slice_ns;
    int64_t paid_at_ns;     /* when all that was accounted is paid */
    uint64_t remainder;     /* of the division by speed, so that no ns is lost */
} RateLimit;

/* Start, or change, the pace. Needs no other initialisation. @slice_ns > 0. */
void ratelimit_set_speed(RateLimit *rl, uint64_t bytes_per_s, int64_t slice_ns);

/* Account for @bytes at @now_ns; returns how many ns to wait before the next
 * piece: 0 as long as less than a slice is unpaid. */
int64_t ratelimit_calculate_delay(RateLimit *rl, uint64_t bytes, int64_t now_ns);

#endif

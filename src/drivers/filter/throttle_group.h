/* SPDX-License-Identifier: MIT */
/* throttle_group.h: groups of nodes that share limits: bytes and requests a second.
 *
 * A limit is a bucket that requests fill and time empties, at the rate of the limit; while it is over full, the next
 * request waits. How much it holds is how much may pass in a burst: what the limit lets through in a tenth of a second, or
 * what `max` says. With a burst length of several seconds a second bucket keeps the burst at `max` a second.
 * Requests wait in a queue of their node, reads and writes apart; nodes of a group take turns.
 *
 * Runs on:  groups are made, found and freed by the main thread; requests in any thread.
 * Suspends: throttle_co_wait() only.
 */
#ifndef LIVEBLK_DRIVERS_THROTTLE_GROUP_H
#define LIVEBLK_DRIVERS_THROTTLE_GROUP_H

#include "base/osdep.h"
#include "base/throttle.h"
#include "block/block.h"

typedef struct ThrottleGroup ThrottleGroup;
typedef struct ThrottleMember ThrottleMember;

/* NULL and *errp: the limits do not agree. @id is free. The registry holds it. */
ThrottleGroup *throttle_group_create(const char *id, const ThrottleGroupProperties *props, Error **errp);
ThrottleGroup *throttle_group_by_id(const char *id);
/* -EBUSY: it has members. */
int throttle_group_destroy(ThrottleGroup *g, Error **errp);

ThrottleMember *throttle_member_new(ThrottleGroup *g);
/* Nothing waits. */
void throttle_member_free(ThrottleMember *m);
/* @unlimited: requests that wait go on, others do not wait: for a drain. */
void throttle_member_set_unlimited(ThrottleMember *m, bool unlimited);
/* Wait until a request of @bytes may go on, and count it. Any thread. */
void coroutine_fn throttle_co_wait(ThrottleMember *m, int64_t bytes, bool is_write);

#endif

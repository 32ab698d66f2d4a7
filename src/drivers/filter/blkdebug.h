/* SPDX-License-Identifier: MIT */
/* blkdebug.h: inside blkdebug: its rules, and reading them.
 *
 * A rule waits for an event. Then it injects an error into the requests that follow, or makes another
 * state of the node, or suspends who raised the event. Rules may be bound to one state.
 */
#ifndef LIVEBLK_DRIVERS_BLKDEBUG_H
#define LIVEBLK_DRIVERS_BLKDEBUG_H

#include "base/osdep.h"
#include "block/block.h"

typedef enum BlkdebugAction {
    BLKDEBUG_INJECT_ERROR,
    BLKDEBUG_SET_STATE,
    BLKDEBUG_SUSPEND,
} BlkdebugAction;

typedef struct BlkdebugRule {
    BlkdebugEvent event;
    BlkdebugAction action;
    int64_t state;              /* 0: any */
    /* inject error */
    int64_t error;              /* errno, positive; else nothing is injected */
    unsigned iotypes;           /* 1 << BlkdebugIOType */
    int64_t offset;             /* only requests over this byte; -1: any */
    bool once, immediately;
    /* set state */
    int64_t new_state;
    /* suspend */
    char *tag;
    TAILQ_ENTRY(BlkdebugRule) next;             /* those of one event, newest first */
    TAILQ_ENTRY(BlkdebugRule) next_active;      /* those that fit requests now, newest last */
    bool active;
} BlkdebugRule;

/* Told of each rule, in their order; takes it over. */
typedef void BlkdebugAdd(void *opaque, BlkdebugRule *rule);

void blkdebug_rule_free(BlkdebugRule *rule);
BlkdebugRule *blkdebug_rule_inject(const BlkdebugInjectErrorOptions *o);
BlkdebugRule *blkdebug_rule_set_state(const BlkdebugSetStateOptions *o);
/* Read the rules in @filename. 0 or -errno and *errp; what was told before stays. Blocks. */
int blkdebug_read_config(const char *filename, BlkdebugAdd *add, void *opaque, Error **errp);

#endif

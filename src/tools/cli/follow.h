/* SPDX-License-Identifier: MIT */
/* follow.h: watch one job of a server, with a progress bar, until something happens to it. */
#ifndef LIVEBLK_CLI_FOLLOW_H
#define LIVEBLK_CLI_FOLLOW_H

#include "cli/client.h"

typedef enum FollowEnd {
    FOLLOW_FAILED,      /* *errp says why: the job's error, bare, or the connection's */
    FOLLOW_READY,
    FOLLOW_CANCELLED,
    FOLLOW_COMPLETED,
} FollowEnd;

/* Wait for the job's end, or (@until_ready) until it is ready. A job that has gone: completed,
 * unless its event said otherwise; one that waits to be dismissed is looked at and left. */
FollowEnd follow_job(Client *c, const CliArgs *a, const char *id, bool until_ready, Error **errp);

#endif

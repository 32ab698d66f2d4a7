/* SPDX-License-Identifier: MIT */
/* job_private.h: between the files of the job core only. All main thread. */
#ifndef LIVEBLK_JOB_PRIVATE_H
#define LIVEBLK_JOB_PRIVATE_H

#include "block/blockjob_int.h"

typedef LIST_HEAD(JobList, BlockJob) JobList;
extern JobList job_list;

struct BlockJobTxn {
    int refcnt;                 /* the creator and each job */
    bool aborting;              /* one failed: the others are being cancelled */
    LIST_HEAD(, BlockJob) jobs;
};

/* job.c */
BlockJob *job_new(const char *id, const BlockJobDriver *driver, JobTxn *txn, int flags,
                  BlockCompletionFunc *cb, void *opaque, Error **errp);
bool job_may_follow(JobStatus from, JobStatus to);      /* the table of states */
void job_set_status(BlockJob *job, JobStatus to);       /* asserts that it is allowed */
void job_drained_begin(BlockJob *job);
bool job_drained_poll(BlockJob *job);
void job_drained_end(BlockJob *job);

/* job_end.c */
void job_schedule_end(BlockJob *job);                   /* run() returned */
void job_dismiss_now(BlockJob *job);                    /* leave the list; drops a reference */

/* blockjob.c */
void blockjob_event_ready(BlockJob *job);
void blockjob_event_pending(BlockJob *job);
void blockjob_event_completed(BlockJob *job);
void blockjob_event_cancelled(BlockJob *job);

#endif

/* SPDX-License-Identifier: MIT */
/* copy.h: the copy engine that jobs share: brings a target up to date with a source.
 *
 * What to copy is a dirty bitmap; whoever changes the source marks it (copy_mark_dirty). One call
 * of copy_start() takes the next dirty piece, neighbouring granules together, out of the bitmap and
 * into the list of operations in one step, and copies it extent by extent in a coroutine of its
 * own: what is known to be zero is not read, and not written where the target reads as zero
 * already; data that turns out to be zero is written as zero; what the target's backing image
 * shows as well (`base`) is left out. A piece that fails goes back into the bitmap and to the error
 * policy. How many pieces at once, and how large, is the job's decision.
 *
 * Use:       fill in the first group of fields, copy_init(e); then in run(): copy_start() until
 *            enough is in flight, copy_idle() when there is nothing to start, copy_wait_idle() at
 *            the end; copy_destroy(e).
 * Invariant: whenever `lock` is free, for every granule either its bit is set, or an operation on
 *            it is in the list, or source and target agree.
 * Threads:   copies run in the main context. Marking, copy_op_* and copy_target_* in any; what they
 *            share is `ops` and `requests` (under `lock`), the bitmap (locks itself), atomic fields.
 * Ends:      requests to the target can be given up (copy_abandon): whoever waits for them goes on
 *            at once with -ECANCELED, while a target that hangs keeps only the request and its
 *            buffer. See copy_target.c.
 * Tests:     tests/unit/mirror_*.c
 */
#ifndef LIVEBLK_JOB_COPY_H
#define LIVEBLK_JOB_COPY_H

#include "base/osdep.h"
#include "base/ratelimit.h"
#include "block/blockjob_int.h"
#include "block/dirty-bitmap.h"

typedef struct CopyOp {
    int64_t offset, bytes;
    LIST_ENTRY(CopyOp) link;
} CopyOp;

typedef struct CopyRequest CopyRequest;

typedef struct CopyEngine {
    /* set by the job before the first copy, and not changed while one runs */
    BlockJob *job;
    BdrvChild *read;                    /* where data is read */
    BlockDriverState *source, *base;    /* the chain whose status counts: from source to base (exclusive) */
    BlockDriverState *counted;          /* a drain of this node waits for copies */
    BlockBackend *target;
    BdrvDirtyBitmap *dirty;
    int64_t length, granularity, buf_size;
    BlockdevOnError on_read_error, on_write_error;
    bool unmap;                         /* zeroes may become holes */
    /* The target is a layer whose lower ones are not there yet: a granule that is touched at all is
     * copied whole, zeroes are written as such. Granules are no smaller than its clusters. */
    bool opaque_granules;

    pthread_mutex_t lock;               /* over the next four; held for instants */
    LIST_HEAD(, CopyOp) ops;
    CoQueue ops_ended;
    LIST_HEAD(, CopyRequest) requests;  /* to the target, that somebody waits for */
    unsigned orphans;                   /* and those that were given up and have not ended */
    int abandoned;                      /* atomic: 0, or the errno that all of them get */
    unsigned idle;                      /* atomic: the job waits for dirt or for an operation's end */
    unsigned kick_scheduled;            /* atomic */

    /* main context */
    unsigned in_flight;
    int64_t in_flight_bytes;
    int64_t cursor;
    int64_t last_copy_ns, last_copy_end_ns;     /* how long the last copy took; when it ended */
    int ret;                            /* first error that the policy reports */
    RateLimit limit;
    int64_t pace_until_ns;              /* begin nothing before: the speed limit */
    QEMUTimer deadline;
    int deadline_error;
} CopyEngine;

void copy_init(CopyEngine *e);
void copy_destroy(CopyEngine *e);       /* nothing in flight, no orphans */

/* ---- copy.c ---- */
/* Start copying the next dirty piece, at most @max bytes. Bytes begun; 0: nothing to start.
 * @flags: of its reads and writes. Main context. */
int64_t coroutine_fn copy_start(CopyEngine *e, int64_t max, BdrvRequestFlags flags);
/* Copy one dirty piece and wait; no policy. 1 copied, 0 nothing dirty, -errno. Main context. */
int coroutine_fn copy_now(CopyEngine *e);
/* Nothing is dirty, or operations work on all that is. */
bool copy_must_wait(CopyEngine *e);
bool copy_is_clean(CopyEngine *e);
/* Wait for the end of all copies. run() and pause() only. */
void coroutine_fn copy_wait_idle(CopyEngine *e);
/* Wait while @still: for a copy's end, a verb, dirt or the end of an operation. A pause point. */
void coroutine_fn copy_idle(CopyEngine *e, bool (*still)(CopyEngine *));
/* Bring progress up to date with what is dirty and in flight. */
void copy_progress(CopyEngine *e);
/* The limit that set-speed sets. Account for @bytes: begin nothing before pace_until_ns. */
void copy_set_speed(CopyEngine *e, int64_t speed);
void copy_pace(CopyEngine *e, int64_t bytes);

/* ---- for whoever changes the source; any thread, on a node whose drain the job waits for ---- */
void copy_mark_dirty(CopyEngine *e, int64_t offset, int64_t bytes);
/* Enter @op. Where something overlaps: wait for its end if @wait says so each time, else false. */
bool coroutine_fn copy_op_begin(CopyEngine *e, CopyOp *op, const unsigned *wait);
void copy_op_end(CopyEngine *e, CopyOp *op);
/* A wake-up of the job is on the way; false: none will be used any more (counted node drained). */
bool copy_kick_pending(void *engine);

/* ---- copy_target.c: requests to the target that can be given up; any thread ---- */
typedef enum CopyRequestKind { COPY_WRITE, COPY_ZERO, COPY_FLUSH, COPY_IS_ZERO } CopyRequestKind;

/* 0 or -errno; COPY_IS_ZERO: 1 if the range is known to read as zeroes. @buf (COPY_WRITE; from
 * qemu_try_blockalign) belongs to the call. */
int coroutine_fn copy_target_request(CopyEngine *e, CopyRequestKind kind, int64_t offset, int64_t bytes,
                                     void *buf, BdrvRequestFlags flags);
/* Whoever is not the job asks before it sends requests: not while the target is drained. If so, a drain
 * waits for the end. */
bool copy_target_begin(CopyEngine *e);
void copy_target_end(CopyEngine *e);
/* Give up all requests, also future ones: they return -@error. Main thread. */
void copy_abandon(CopyEngine *e, int error);
/* Abandon with @error @ns from now, whatever was set before; 0: not any more. Main thread. */
void copy_set_deadline(CopyEngine *e, int64_t ns, int error);
/* How many requests were given up and have not ended. */
unsigned copy_orphans(CopyEngine *e);

#endif

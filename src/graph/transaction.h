/* SPDX-License-Identifier: MIT */
/* transaction.h: several steps that take effect together or not at all.
 *
 * Each step is carried out at once and registers how to make it final (commit), how
 * to undo it (abort), and what to free in either case (clean). The end runs these
 * in reverse order of registration, all commits or all aborts first, then all cleans.
 *
 * Use:      Transaction *tran = tran_new();
 *           ret = step_one(..., tran, errp); if (!ret) { ret = step_two(..., tran, errp); }
 *           tran_finalize(tran, ret);
 * Runs on:  the main thread. Suspends: never by itself; a commit or clean may, where
 *           its owner runs the transaction in a coroutine.
 * Fails:    never: what can fail belongs before the registration.
 */
#ifndef LIVEBLK_GRAPH_TRANSACTION_H
#define LIVEBLK_GRAPH_TRANSACTION_H

typedef struct Transaction Transaction;

/* NULL: nothing to do. */
typedef struct TransactionActionDrv {
    void (*abort)(void *opaque);
    void (*commit)(void *opaque);
    void (*clean)(void *opaque);
} TransactionActionDrv;

Transaction *tran_new(void);
/* Register @drv (static) with @opaque for the step just done. */
void tran_add(Transaction *tran, const TransactionActionDrv *drv, void *opaque);
/* Both free @tran. */
void tran_commit(Transaction *tran);
void tran_abort(Transaction *tran);
/* Abort if @ret is negative, else commit. */
void tran_finalize(Transaction *tran, int ret);

#endif

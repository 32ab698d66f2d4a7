/* SPDX-License-Identifier: MIT */
/* transaction.h: several steps that are done together or not at all.
 *
 * Each step, once done, registers how to take it back (abort), what makes it final (commit)
 * and what to free either way (clean). tran_commit runs the commits, tran_abort the aborts,
 * both in reverse order; then the cleans. Main thread. NULL: nothing to do.
 */
#ifndef LIVEBLK_GRAPH_TRANSACTION_H
#define LIVEBLK_GRAPH_TRANSACTION_H

#include "block/block-common.h"

typedef struct TransactionActionDrv {
    void (*abort)(void *opaque);
    void (*commit)(void *opaque);
    void (*clean)(void *opaque);
} TransactionActionDrv;

Transaction *tran_new(void);
void tran_add(Transaction *tran, const TransactionActionDrv *drv, void *opaque);
void tran_commit(Transaction *tran);
void tran_abort(Transaction *tran);
/* Commit when @ret >= 0, else abort. */
static inline void tran_finalize(Transaction *tran, int ret)
{
    if (ret < 0) {
        tran_abort(tran);
    } else {
        tran_commit(tran);
    }
}
#endif

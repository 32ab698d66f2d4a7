/* SPDX-License-Identifier: MIT */
/* transaction.c: see transaction.h. */
#include "base/osdep.h"
#include "graph/transaction.h"

typedef struct TransactionStep {
    const TransactionActionDrv *drv;
    void *opaque;
} TransactionStep;

struct Transaction {
    GArray *steps;      /* TransactionStep, in order of registration */
};

Transaction *tran_new(void)
{
    Transaction *tran = g_new(Transaction, 1);

    tran->steps = g_array_new(FALSE, FALSE, sizeof(TransactionStep));
    return tran;
}

void tran_add(Transaction *tran, const TransactionActionDrv *drv, void *opaque)
{
    TransactionStep step = { drv, opaque };

    g_array_append_val(tran->steps, step);
}

static void tran_end(Transaction *tran, bool commit)
{
    /* By index each time: an action may register no further step, but must not be
     * able to pull the array away under us either. */
    guint n = tran->steps->len;

    for (guint i = n; i-- > 0;) {
        TransactionStep *step = &g_array_index(tran->steps, TransactionStep, i);
        void (*action)(void *) = commit ? step->drv->commit : step->drv->abort;

        if (action) {
            action(step->opaque);
        }
    }
    g_assert(tran->steps->len == n);
    for (guint i = n; i-- > 0;) {
        TransactionStep *step = &g_array_index(tran->steps, TransactionStep, i);

        if (step->drv->clean) {
            step->drv->clean(step->opaque);
        }
    }
    g_array_free(tran->steps, TRUE);
    g_free(tran);
}

void tran_commit(Transaction *tran)
{
    tran_end(tran, true);
}

void tran_abort(Transaction *tran)
{
    tran_end(tran, false);
}

void tran_finalize(Transaction *tran, int ret)
{
    tran_end(tran, ret >= 0);
}

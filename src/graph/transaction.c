/* SPDX-License-Identifier: MIT */
/* transaction.c: see transaction.h. */
#include "base/osdep.h"
#include "graph/transaction.h"

typedef struct Step {
    const TransactionActionDrv *drv;
    void *opaque;
    struct Step *next;
} Step;

struct Transaction {
    Step *steps;                /* newest first */
};

Transaction *tran_new(void)
{
    return g_new0(Transaction, 1);
}

void tran_add(Transaction *tran, const TransactionActionDrv *drv, void *opaque)
{
    Step *s = g_new0(Step, 1);

    *s = (Step) { drv, opaque, tran->steps };
    tran->steps = s;
}

static void tran_end(Transaction *tran, bool commit)
{
    for (Step *s = tran->steps; s; s = s->next) {
        void (*f)(void *) = commit ? s->drv->commit : s->drv->abort;

        if (f) {
            f(s->opaque);
        }
    }
    while (tran->steps) {
        Step *s = tran->steps;

        tran->steps = s->next;
        if (s->drv->clean) {
            s->drv->clean(s->opaque);
        }
        g_free(s);
    }
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

/* SPDX-License-Identifier: MIT */
/* aio.c: the event loop: bottom halves, ready coroutines, timers, waiting; see block/aio.h.
 *
 * Bottom halves and coroutines are pushed on atomic stacks by any thread and taken, turned
 * round, by the home thread. A pusher wakes the loop only if it sleeps or is about to: it
 * pushes, then looks at `sleeping`; the loop sets `sleeping`, then looks at the stacks.
 */
#include "aio/aio_private.h"

struct BHItem {
    BHItem *next;
    QEMUBHFunc *cb;
    void *opaque;
    QEMUBH *bh;                 /* NULL: one shot */
};

struct QEMUBH {
    BHItem item;
    AioContext *ctx;
    unsigned state;             /* atomic: bits below */
};

enum { BH_QUEUED = 1, BH_SCHEDULED = 2, BH_DELETED = 4 };

static AioContext *main_context;

/* ---- contexts ---- */

AioContext *aio_context_new(Error **errp)
{
    AioContext *ctx = g_new0(AioContext, 1);

    ctx->refcnt = 1;
    ctx->fd_waits = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    ctx->loop = host_ops->loop_new(ctx, errp);
    if (!ctx->loop) {
        g_hash_table_destroy(ctx->fd_waits);
        g_free(ctx);
        return NULL;
    }
    return ctx;
}

void aio_context_ref(AioContext *ctx)
{
    __atomic_fetch_add(&ctx->refcnt, 1, __ATOMIC_RELAXED);
}

void aio_context_unref(AioContext *ctx)
{
    if (__atomic_sub_fetch(&ctx->refcnt, 1, __ATOMIC_ACQ_REL)) {
        return;
    }
    g_assert(!aio_has_bhs(ctx));
    host_ops->loop_free(ctx->loop);
    g_hash_table_destroy(ctx->fd_waits);
    g_free(ctx->heap);
    g_free(ctx);
}

HostLoop *aio_host_loop(AioContext *ctx)
{
    return ctx->loop;
}

AioContext *qemu_get_aio_context(void)
{
    return main_context;
}

bool qemu_in_main_thread(void)
{
    return qemu_get_current_aio_context() == main_context;
}

int aio_init_main(const char *host, Error **errp)
{
    g_assert(!main_context);
    if (host_select(host, errp) < 0) {
        return -EINVAL;
    }
    main_context = aio_context_new(errp);
    if (!main_context) {
        return -ENOMEM;
    }
    main_context->is_main = true;
    aio_set_current(main_context);
    return 0;
}

void coroutine_thread_cleanup(void);

void aio_cleanup_main(void)
{
    while (aio_poll(main_context, false)) {
    }
    aio_context_unref(main_context);
    main_context = NULL;
    aio_set_current(NULL);
    coroutine_thread_cleanup();
    host_unselect();
}

const char *aio_host_name(void)
{
    return host_ops->name;
}

int64_t qemu_clock_get_ns(QEMUClockType type)
{
    return host_ops->clock_ns(type);
}

/* ---- pushing ---- */

void aio_notify(AioContext *ctx)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&ctx->sleeping, __ATOMIC_RELAXED)) {
        host_ops->notify(ctx->loop);
    }
}

static void bh_push(AioContext *ctx, BHItem *item)
{
    BHItem *old = __atomic_load_n(&ctx->bh_stack, __ATOMIC_RELAXED);

    do {
        item->next = old;
    } while (!__atomic_compare_exchange_n(&ctx->bh_stack, &old, item, true,
                                          __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    aio_notify(ctx);
}

void aio_co_push(AioContext *ctx, Coroutine *co)
{
    Coroutine **next = coroutine_next_ref(co);
    Coroutine *old = __atomic_load_n(&ctx->co_stack, __ATOMIC_RELAXED);

    do {
        *next = old;
    } while (!__atomic_compare_exchange_n(&ctx->co_stack, &old, co, true,
                                          __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    aio_notify(ctx);
}

void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    BHItem *item = g_new0(BHItem, 1);

    item->cb = cb;
    item->opaque = opaque;
    bh_push(ctx, item);
}

QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    QEMUBH *bh = g_new0(QEMUBH, 1);

    bh->item.cb = cb;
    bh->item.opaque = opaque;
    bh->item.bh = bh;
    bh->ctx = ctx;
    return bh;
}

void qemu_bh_schedule(QEMUBH *bh)
{
    unsigned old = __atomic_fetch_or(&bh->state, BH_QUEUED | BH_SCHEDULED, __ATOMIC_SEQ_CST);

    if (!(old & BH_QUEUED)) {
        bh_push(bh->ctx, &bh->item);
    }
}

void qemu_bh_cancel(QEMUBH *bh)
{
    __atomic_fetch_and(&bh->state, ~BH_SCHEDULED, __ATOMIC_SEQ_CST);
}

void qemu_bh_delete(QEMUBH *bh)
{
    qemu_bh_cancel(bh);
    unsigned old = __atomic_fetch_or(&bh->state, BH_DELETED, __ATOMIC_SEQ_CST);

    if (!(old & BH_QUEUED)) {
        g_free(bh);
    }
}

/* ---- taking ---- */

static void bh_run(BHItem *item)
{
    QEMUBH *bh = item->bh;

    if (!bh) {
        QEMUBHFunc *cb = item->cb;
        void *opaque = item->opaque;

        g_free(item);
        cb(opaque);
        return;
    }
    unsigned old = __atomic_fetch_and(&bh->state, ~(BH_QUEUED | BH_SCHEDULED), __ATOMIC_SEQ_CST);

    if (old & BH_DELETED) {
        g_free(bh);
    } else if (old & BH_SCHEDULED) {
        item->cb(item->opaque);
    }
}

bool aio_has_bhs(AioContext *ctx)
{
    return __atomic_load_n(&ctx->bh_stack, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&ctx->co_stack, __ATOMIC_SEQ_CST);
}

bool aio_run_bhs(AioContext *ctx)
{
    BHItem *bhs = __atomic_exchange_n(&ctx->bh_stack, NULL, __ATOMIC_SEQ_CST), *fifo = NULL;
    Coroutine *cos = __atomic_exchange_n(&ctx->co_stack, NULL, __ATOMIC_SEQ_CST), *co_fifo = NULL;
    bool progress = bhs || cos;

    while (bhs) {
        BHItem *next = bhs->next;

        bhs->next = fifo;
        fifo = bhs;
        bhs = next;
    }
    while (cos) {
        Coroutine **link = coroutine_next_ref(cos), *next = *link;

        *link = co_fifo;
        co_fifo = cos;
        cos = next;
    }
    while (co_fifo) {
        Coroutine *co = co_fifo;

        co_fifo = *coroutine_next_ref(co);
        *coroutine_next_ref(co) = NULL;
        qemu_coroutine_enter(co);
    }
    while (fifo) {
        BHItem *item = fifo;

        fifo = item->next;
        bh_run(item);
    }
    return progress;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    g_assert(qemu_get_current_aio_context() == ctx);
    g_assert(!qemu_in_coroutine());
    g_assert(!ctx->polling);
    ctx->polling = true;

    bool progress = aio_run_bhs(ctx);

    progress |= aio_run_timers(ctx);
    /* The host is asked now and then even when there is always something to run. */
    if (!progress || ++ctx->turns_without_host >= 8) {
        int64_t timeout = 0;

        ctx->turns_without_host = 0;
        if (blocking && !progress) {
            __atomic_store_n(&ctx->sleeping, 1, __ATOMIC_SEQ_CST);
            timeout = aio_has_bhs(ctx) ? 0 : aio_next_timer_ns(ctx);
        }
        progress |= host_ops->wait(ctx->loop, timeout);
        __atomic_store_n(&ctx->sleeping, 0, __ATOMIC_RELEASE);
        progress |= aio_run_bhs(ctx);
        progress |= aio_run_timers(ctx);
    }
    ctx->polling = false;
    return progress;
}

/* ---- timers: a binary heap by (time, order of arming) ---- */

static bool timer_before(const QEMUTimer *a, const QEMUTimer *b)
{
    return a->expire_ns != b->expire_ns ? a->expire_ns < b->expire_ns : a->sequence < b->sequence;
}

static void heap_put(AioContext *ctx, unsigned i, QEMUTimer *t)
{
    ctx->heap[i] = t;
    t->heap_index = i;
}

static void heap_up(AioContext *ctx, unsigned i)
{
    QEMUTimer *t = ctx->heap[i];

    while (i > 0 && timer_before(t, ctx->heap[(i - 1) / 2])) {
        heap_put(ctx, i, ctx->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(ctx, i, t);
}

static void heap_down(AioContext *ctx, unsigned i)
{
    QEMUTimer *t = ctx->heap[i];

    for (unsigned child; (child = 2 * i + 1) < ctx->heap_len; i = child) {
        if (child + 1 < ctx->heap_len && timer_before(ctx->heap[child + 1], ctx->heap[child])) {
            child++;
        }
        if (!timer_before(ctx->heap[child], t)) {
            break;
        }
        heap_put(ctx, i, ctx->heap[child]);
    }
    heap_put(ctx, i, t);
}

void timer_init_ns(QEMUTimer *t, AioContext *ctx, QEMUTimerCB *cb, void *opaque)
{
    memset(t, 0, sizeof(*t));
    t->ctx = ctx;
    t->cb = cb;
    t->opaque = opaque;
    t->expire_ns = -1;
}

bool timer_pending(const QEMUTimer *t)
{
    return t->expire_ns >= 0;
}

void timer_del(QEMUTimer *t)
{
    AioContext *ctx = t->ctx;

    if (!timer_pending(t)) {
        return;
    }
    unsigned i = t->heap_index;
    QEMUTimer *last = ctx->heap[--ctx->heap_len];

    t->expire_ns = -1;
    if (last != t) {
        heap_put(ctx, i, last);
        heap_up(ctx, i);
        heap_down(ctx, last->heap_index);
    }
}

void timer_mod_ns(QEMUTimer *t, int64_t expire_virtual_ns)
{
    AioContext *ctx = t->ctx;

    g_assert(qemu_get_current_aio_context() == ctx);
    timer_del(t);
    t->expire_ns = MAX(expire_virtual_ns, 0);
    t->sequence = ctx->timer_sequence++;
    if (ctx->heap_len == ctx->heap_alloc) {
        ctx->heap_alloc = ctx->heap_alloc * 2 + 8;
        ctx->heap = g_renew(QEMUTimer *, ctx->heap, ctx->heap_alloc);
    }
    heap_put(ctx, ctx->heap_len++, t);
    heap_up(ctx, ctx->heap_len - 1);
}

int64_t aio_next_timer_ns(AioContext *ctx)
{
    if (!ctx->heap_len) {
        return -1;
    }
    return MAX(ctx->heap[0]->expire_ns - qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), 0);
}

bool aio_run_timers(AioContext *ctx)
{
    bool progress = false;

    if (!ctx->heap_len) {
        return false;
    }
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    while (ctx->heap_len && ctx->heap[0]->expire_ns <= now) {
        QEMUTimer *t = ctx->heap[0];

        timer_del(t);
        t->cb(t->opaque);
        progress = true;
    }
    return progress;
}

/* ---- waiting for a condition in the main thread ---- */

typedef struct AioWaiter {
    Coroutine *co;
    LIST_ENTRY(AioWaiter) link;
} AioWaiter;

static LIST_HEAD(, AioWaiter) waiters = LIST_HEAD_INITIALIZER(waiters);
static unsigned num_waiters;        /* atomic */
static unsigned kick_pending;       /* atomic */

static void aio_kick_bh(void *opaque)
{
    AioWaiter *w, *next;

    __atomic_store_n(&kick_pending, 0, __ATOMIC_SEQ_CST);
    LIST_FOREACH_SAFE(w, &waiters, link, next) {
        aio_co_push(main_context, w->co);
        LIST_REMOVE(w, link);
        w->co = NULL;
    }
}

void aio_wait_kick(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&num_waiters, __ATOMIC_RELAXED) &&
        !__atomic_exchange_n(&kick_pending, 1, __ATOMIC_SEQ_CST)) {
        aio_bh_schedule_oneshot(main_context, aio_kick_bh, NULL);
    }
}

void aio_wait_while(bool (*cond)(void *opaque), void *opaque)
{
    g_assert(qemu_in_main_thread());
    __atomic_fetch_add(&num_waiters, 1, __ATOMIC_SEQ_CST);
    if (qemu_in_coroutine()) {
        AioWaiter w = { .co = qemu_coroutine_self() };

        while (cond(opaque)) {
            w.co = qemu_coroutine_self();
            LIST_INSERT_HEAD(&waiters, &w, link);
            qemu_coroutine_yield();
        }
    } else {
        while (cond(opaque)) {
            aio_poll(main_context, true);
        }
    }
    __atomic_fetch_sub(&num_waiters, 1, __ATOMIC_SEQ_CST);
}

typedef struct CoRun {
    CoroutineEntry *entry;
    void *opaque;
    bool done;
} CoRun;

static void coroutine_fn co_run_entry(void *opaque)
{
    CoRun *run = opaque;

    run->entry(run->opaque);
    run->done = true;
    aio_wait_kick();
}

static bool co_run_busy(void *opaque)
{
    return !((CoRun *)opaque)->done;
}

void aio_co_run(CoroutineEntry *entry, void *opaque)
{
    CoRun run = { entry, opaque, false };

    if (qemu_in_coroutine()) {
        entry(opaque);
        return;
    }
    g_assert(qemu_in_main_thread());
    qemu_coroutine_enter(qemu_coroutine_create(co_run_entry, &run));
    aio_wait_while(co_run_busy, &run);
}

/* ---- file descriptors ---- */

typedef struct FdWait {
    AioContext *ctx;
    int fd;
    Coroutine *reader, *writer;
    bool cancelled;
} FdWait;

void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read, IOHandler *io_write, void *opaque)
{
    host_ops->fd_set(ctx->loop, fd, io_read, io_write, opaque);
}

static void fd_wait_ready(void *opaque, bool for_write)
{
    FdWait *w = opaque;
    Coroutine **slot = for_write ? &w->writer : &w->reader, *co = *slot;

    *slot = NULL;
    if (co) {
        aio_co_push(w->ctx, co);
    }
}

static void fd_wait_update(FdWait *w);

static void fd_wait_read(void *opaque)
{
    fd_wait_ready(opaque, false);
    fd_wait_update(opaque);
}

static void fd_wait_write(void *opaque)
{
    fd_wait_ready(opaque, true);
    fd_wait_update(opaque);
}

static void fd_wait_update(FdWait *w)
{
    host_ops->fd_set(w->ctx->loop, w->fd, w->reader ? fd_wait_read : NULL,
                     w->writer ? fd_wait_write : NULL, w);
}

int coroutine_fn aio_co_wait_fd(int fd, bool for_write)
{
    AioContext *ctx = qemu_get_current_aio_context();
    FdWait *w = g_hash_table_lookup(ctx->fd_waits, GINT_TO_POINTER(fd));

    if (!w) {
        w = g_new0(FdWait, 1);
        w->ctx = ctx;
        w->fd = fd;
        g_hash_table_insert(ctx->fd_waits, GINT_TO_POINTER(fd), w);
    }
    if (w->cancelled) {
        return -ECANCELED;
    }
    Coroutine **slot = for_write ? &w->writer : &w->reader;

    g_assert(!*slot);
    *slot = qemu_coroutine_self();
    fd_wait_update(w);
    qemu_coroutine_yield();
    w = g_hash_table_lookup(ctx->fd_waits, GINT_TO_POINTER(fd));
    return !w || w->cancelled ? -ECANCELED : 0;
}

void aio_co_fd_cancel(int fd)
{
    AioContext *ctx = qemu_get_current_aio_context();
    FdWait *w = g_hash_table_lookup(ctx->fd_waits, GINT_TO_POINTER(fd));

    if (w) {
        fd_wait_ready(w, false);
        fd_wait_ready(w, true);
        fd_wait_update(w);
        g_hash_table_remove(ctx->fd_waits, GINT_TO_POINTER(fd));
    }
}

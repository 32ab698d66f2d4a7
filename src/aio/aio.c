/* SPDX-License-Identifier: MIT */
/* aio.c: contexts and their loop; see block/aio.h. A turn:
 *   1. the host hands over submitted requests and waits (not at all if something is
 *      ready), then completions and descriptor handlers run;
 *   2. requests that workers finished, woken coroutines, bottom halves;
 *   3. timers that are due;
 *   4. in the main thread, conditions that coroutines wait for.
 */
#include "aio/aio_private.h"
#include <sched.h>

/* First length of busy polling once it looks worth while. */
#define POLL_FIRST_NS 4000

static AioContext *main_context;
static unsigned contexts_guard;
static LIST_HEAD(, AioContext) contexts = LIST_HEAD_INITIALIZER(contexts);
/* Dead ones, kept for reuse: another thread may just have pushed its last wake and look at
 * `sleeping` when the context dies. */
static LIST_HEAD(, AioContext) dead_contexts = LIST_HEAD_INITIALIZER(dead_contexts);
static HostStats dead_stats;

void aio_spin_lock_slow(unsigned *guard)
{
    unsigned spins = 0;

    do {
        while (__atomic_load_n(guard, __ATOMIC_RELAXED)) {
            if (++spins % 64 == 0) {
                sched_yield();      /* the holder may not have a processor */
            } else {
#if defined(__x86_64__)
                __builtin_ia32_pause();
#elif defined(__aarch64__)
                __asm__ volatile("yield");
#endif
            }
        }
    } while (__atomic_exchange_n(guard, 1, __ATOMIC_ACQUIRE));
}

/* ---- contexts ---- */

static AioContext *context_alloc(void)
{
    AioContext *ctx;

    aio_spin_lock(&contexts_guard);
    ctx = LIST_FIRST(&dead_contexts);
    if (ctx) {
        LIST_REMOVE(ctx, link);
    }
    aio_spin_unlock(&contexts_guard);
    if (!ctx) {
        if (posix_memalign((void **)&ctx, 64, sizeof(*ctx))) {
            abort();
        }
        memset(ctx, 0, sizeof(*ctx));
    }
    return ctx;
}

/* Add @from to @to. */
static void stats_add(HostStats *to, HostStats *from)
{
    uint64_t *a = (uint64_t *)to, *b = (uint64_t *)from;

    for (size_t i = 0; i < sizeof(*to) / sizeof(*a); i++) {
        a[i] += __atomic_load_n(&b[i], __ATOMIC_RELAXED);
    }
}

static void context_bury(AioContext *ctx)
{
    aio_spin_lock(&contexts_guard);
    stats_add(&dead_stats, &ctx->stats);
    LIST_INSERT_HEAD(&dead_contexts, ctx, link);
    aio_spin_unlock(&contexts_guard);
}

AioContext *aio_context_new(const IOThreadParams *params, Error **errp)
{
    AioContext *ctx = context_alloc();

    ctx->refcnt = 1;
    ctx->is_main = ctx->polling = false;
    ctx->params = params ? *params : (IOThreadParams) { 0 };
    ctx->ready_first = NULL;
    ctx->ready_last = &ctx->ready_first;
    ctx->timer_sequence = 0;
    ctx->poll_ns = 0;
    memset(&ctx->stats, 0, sizeof(ctx->stats));
    ctx->loop = host_ops->loop_new(ctx, errp);
    if (!ctx->loop) {
        context_bury(ctx);
        return NULL;
    }
    aio_spin_lock(&contexts_guard);
    LIST_INSERT_HEAD(&contexts, ctx, link);
    aio_spin_unlock(&contexts_guard);
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
    g_assert(!ctx->ready_first && aio_stack_empty(&ctx->co_stack));
    g_assert(!ctx->heap_len);
    /* Who has begun to wake this loop is about to use it. */
    while (__atomic_load_n(&ctx->wakes_begun, __ATOMIC_ACQUIRE) !=
           __atomic_load_n(&ctx->wakes_done, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
    host_ops->loop_free(ctx->loop);
    ctx->loop = NULL;
    aio_run_bh_stack(ctx);          /* those deleted while queued */
    aio_fd_waits_free(ctx);
    g_free(ctx->heap);
    ctx->heap = NULL;
    ctx->heap_alloc = 0;
    aio_spin_lock(&contexts_guard);
    LIST_REMOVE(ctx, link);
    aio_spin_unlock(&contexts_guard);
    context_bury(ctx);
}

HostLoop *aio_host_loop(AioContext *ctx)
{
    return ctx->loop;
}

const IOThreadParams *aio_context_params(AioContext *ctx)
{
    return &ctx->params;
}

void host_stats_get(HostStats *out)
{
    AioContext *ctx;

    aio_spin_lock(&contexts_guard);
    *out = dead_stats;
    LIST_FOREACH(ctx, &contexts, link) {
        stats_add(out, &ctx->stats);
    }
    aio_spin_unlock(&contexts_guard);
}

/* ---- the main context ---- */

int aio_init_main(const char *host, Error **errp)
{
    g_assert(!main_context);
    int ret = host_select(host, errp);

    if (ret < 0) {
        return ret;
    }
    main_context = aio_context_new(NULL, errp);
    if (!main_context) {
        host_unselect();
        return -ENOMEM;
    }
    main_context->is_main = true;
    aio_set_current(main_context);
    aio_wait_init();
    return 0;
}

void aio_cleanup_main(void)
{
    AioContext *ctx = main_context, *next;

    g_assert(qemu_in_main_thread() && !qemu_in_coroutine());
    while (aio_poll(ctx, false)) {
    }
    aio_wait_exit();
    aio_context_unref(ctx);
    main_context = NULL;
    aio_set_current(NULL);
    co_pool_free_thread();
    co_pool_free_shared();
    host_unselect();
    LIST_FOREACH_SAFE(ctx, &dead_contexts, link, next) {
        LIST_REMOVE(ctx, link);
        free(ctx);
    }
    memset(&dead_stats, 0, sizeof(dead_stats));
}

AioContext *qemu_get_aio_context(void)
{
    return main_context;
}

bool qemu_in_main_thread(void)
{
    AioContext *ctx = qemu_get_current_aio_context();

    return ctx && ctx == main_context;
}

/* ---- waking a loop ---- */

void aio_kick(AioContext *ctx)
{
    unsigned expected = SLEEP_YES;

    aio_mb();
    if (__atomic_load_n(&ctx->sleeping, __ATOMIC_RELAXED) == SLEEP_YES &&
        __atomic_compare_exchange_n(&ctx->sleeping, &expected, SLEEP_WAKING, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        host_ops->notify(ctx->loop);
        __atomic_fetch_add(&ctx->wakes_done, 1, __ATOMIC_RELEASE);
    }
}

void aio_notify(AioContext *ctx)
{
    __atomic_store_n(&ctx->notified, 1, __ATOMIC_SEQ_CST);
    aio_kick(ctx);
}

void aio_push_done(HostRequest *req)
{
    AioContext *ctx = req->ctx;

    G_STATIC_ASSERT(sizeof(AioNode) <= sizeof(req->private_));
    aio_stack_push(&ctx->done_stack, (AioNode *)req->private_);
    aio_kick(ctx);
}

/* ---- a turn ---- */

bool aio_has_bhs(AioContext *ctx)
{
    return ctx->ready_first || !aio_stack_empty(&ctx->bh_stack) ||
           !aio_stack_empty(&ctx->co_stack) || !aio_stack_empty(&ctx->done_stack);
}

static bool aio_ready(AioContext *ctx)
{
    return aio_has_bhs(ctx) || __atomic_load_n(&ctx->notified, __ATOMIC_SEQ_CST);
}

static bool run_done(AioContext *ctx)
{
    AioNode *node = aio_stack_take(&ctx->done_stack);
    bool progress = node != NULL;

    while (node) {
        AioNode *next = node->next;
        HostRequest *req = container_of((uint64_t (*)[4])node, HostRequest, private_);

        req->complete(req);
        node = next;
    }
    return progress;
}

bool aio_run_bhs(AioContext *ctx)
{
    bool progress = run_done(ctx);

    progress |= co_run_remote(ctx);
    progress |= co_run_ready(ctx);
    progress |= aio_run_bh_stack(ctx);
    return progress;
}

void aio_woken(AioContext *ctx)
{
    if (__atomic_load_n(&ctx->sleeping, __ATOMIC_RELAXED) != SLEEP_NO &&
        __atomic_exchange_n(&ctx->sleeping, SLEEP_NO, __ATOMIC_SEQ_CST) == SLEEP_WAKING) {
        __atomic_store_n(&ctx->wakes_begun, ctx->wakes_begun + 1, __ATOMIC_RELEASE);
    }
}

/* Look for events without sleeping, for as long as it paid lately. */
static bool aio_busy_poll(AioContext *ctx, int64_t start_ns, bool *progress)
{
    int64_t timer_ns = aio_next_timer_ns(ctx);
    int64_t end_ns = start_ns + (timer_ns < 0 ? ctx->poll_ns : MIN(ctx->poll_ns, timer_ns));

    do {
        if (host_ops->wait(ctx->loop, 0)) {
            *progress = true;
        }
        if (*progress || aio_ready(ctx)) {
            return true;
        }
    } while (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) < end_ns);
    return false;
}

/* The next event came after @waited_ns: would polling longer have caught it, or was it
 * a waste? */
static void aio_adapt_poll(AioContext *ctx, int64_t waited_ns)
{
    const IOThreadParams *p = &ctx->params;

    if (waited_ns <= ctx->poll_ns) {
        return;
    }
    if (waited_ns > p->poll_max_ns) {
        ctx->poll_ns = p->poll_shrink ? ctx->poll_ns / p->poll_shrink : 0;
    } else {
        int64_t grow = p->poll_grow ? p->poll_grow : 2;

        ctx->poll_ns = ctx->poll_ns ? ctx->poll_ns * grow : POLL_FIRST_NS;
        ctx->poll_ns = MIN(ctx->poll_ns, p->poll_max_ns);
    }
}

/* Wait until something happens. */
static bool aio_wait_event(AioContext *ctx)
{
    int64_t start_ns = 0, timeout_ns;
    bool progress = false;

    if (ctx->params.poll_max_ns > 0) {
        start_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
        if (ctx->poll_ns > 0 && aio_busy_poll(ctx, start_ns, &progress)) {
            return progress;
        }
    }
    /* From here on who pushes something wakes us; look again for what came before. */
    __atomic_store_n(&ctx->sleeping, SLEEP_YES, __ATOMIC_SEQ_CST);
    timeout_ns = aio_ready(ctx) ? 0 : aio_next_timer_ns(ctx);
    if (timeout_ns) {
        AIO_COUNT(ctx, sleeps);
    }
    progress = host_ops->wait(ctx->loop, timeout_ns);
    aio_woken(ctx);
    if (start_ns) {
        aio_adapt_poll(ctx, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - start_ns);
    }
    return progress;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    bool progress;

    g_assert(qemu_get_current_aio_context() == ctx);
    g_assert(!qemu_in_coroutine());
    g_assert(!ctx->polling);
    ctx->polling = true;
    if (blocking && !aio_ready(ctx)) {
        progress = aio_wait_event(ctx);
    } else {
        progress = host_ops->wait(ctx->loop, 0);
    }
    if (__atomic_load_n(&ctx->notified, __ATOMIC_RELAXED)) {
        __atomic_exchange_n(&ctx->notified, 0, __ATOMIC_SEQ_CST);
    }
    progress |= aio_run_bhs(ctx);
    progress |= aio_run_timers(ctx);
    if (ctx->is_main) {
        aio_wait_check();
    }
    ctx->polling = false;
    return progress;
}

const char *aio_host_name(void)
{
    return host_ops->name;
}

int64_t qemu_clock_get_ns(QEMUClockType type)
{
    return host_ops->clock_ns(type);
}

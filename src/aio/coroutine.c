/* SPDX-License-Identifier: MIT */
/* coroutine.c: stackful coroutines: enter, yield, wake, move; see block/coroutine.h.
 *
 * A coroutine that is woken while another runs is queued and runs as soon as control is
 * back on the thread's own stack, not on top of the waker: depth stays bounded and the
 * waker's invariants are not looked at in the middle. A wake from another thread always goes
 * over the home context's list. It may come before the coroutine has suspended; since
 * only the home thread takes from that list, and not before it left the coroutine, that is fine.
 *
 * Moving to another context: whoever entered the coroutine hands it over once it is off its
 * stack, since from then on the other thread may run it.
 */
#include "aio/aio_private.h"
#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Ready coroutines run at most this many in a row before the loop looks elsewhere. */
#define READY_BUDGET 64

static __thread CoThread co_thread __attribute__((tls_model("initial-exec")));

/* Not inlined and opaque to the compiler, which else may keep the address of a thread's
 * variable over a switch, after which the coroutine may run in another thread. */
__attribute__((noinline)) CoThread *co_thread_get(void)
{
    CoThread *t = &co_thread;

    __asm__ volatile("" : "+r"(t));
    return t;
}

AioContext *qemu_get_current_aio_context(void)
{
    return co_thread_get()->ctx;
}

AioContext *aio_set_current(AioContext *ctx)
{
    CoThread *t = co_thread_get();
    AioContext *old = t->ctx;

    t->ctx = ctx;
    return old;
}

/* ---- switching ---- */

#ifdef CO_ASAN
/* Arrived on a stack. ASan tells the bounds of the one we came from: the only way
 * to learn those of a thread's own. */
static void asan_arrived(void *fake_stack)
{
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    Coroutine *from = co_thread_get()->switched_from;

    if (from && !from->stack_bytes) {
        from->stack = (void *)bottom;
        from->stack_bytes = size;
    }
}
#endif

static void co_switch(CoThread *t, Coroutine *from, Coroutine *to)
{
#ifdef CO_ASAN
    t->switched_from = from;
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef CO_TSAN
    if (!from->fiber) {
        from->fiber = __tsan_get_current_fiber();       /* a thread's own */
    }
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    co_switch_to(&from->sw, &to->sw);
#ifdef CO_ASAN
    asan_arrived(from->fake_stack);
#endif
}

/* Leave the running coroutine for the one that entered it. */
static void co_leave(unsigned char why)
{
    CoThread *t = co_thread_get();
    Coroutine *self = t->current, *to = self->caller;

    self->caller = NULL;
    self->left = why;
    t->current = to == &t->leader ? NULL : to;
    co_switch(t, self, to);
}

void co_main(void *opaque)
{
    Coroutine *co = opaque;

#ifdef CO_ASAN
    asan_arrived(NULL);
#endif
    for (;;) {
        co->entry(co->opaque);
        co_leave(CO_ENDED);     /* to the pool; entered again with another function */
    }
}

/* Run @co until it leaves. */
static void co_run(CoThread *t, Coroutine *co)
{
    Coroutine *self = t->current ? t->current : &t->leader;

    g_assert(!co->caller);
    if (!co->ctx) {
        co->ctx = t->ctx;
    }
    g_assert(co->ctx == t->ctx);    /* it may be entered in its home only */
    co->entered = true;
    co->caller = self;
    t->current = co;
    co_switch(t, self, co);
    /* The thread is the same as before: who has entered another does not move. */
    if (co->left == CO_ENDED) {
        co->entered = false;
        co_pool_put(t, co);
    } else if (co->left == CO_MOVING) {
        co->left = CO_YIELDED;
        __atomic_store_n(&co->ctx, co->move_to, __ATOMIC_RELEASE);
        co_wake_queued(co);
    }
}

/* ---- the interface ---- */

Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque)
{
    Coroutine *co = co_pool_get(co_thread_get());

    co->entry = entry;
    co->opaque = opaque;
    co->ctx = NULL;
    co->left = CO_YIELDED;
    return co;
}

void qemu_coroutine_enter(Coroutine *co)
{
    CoThread *t = co_thread_get();

    g_assert(!__atomic_load_n(&co->queued, __ATOMIC_RELAXED));
    co_run(t, co);
    if (!t->current && t->ctx) {
        co_run_ready(t->ctx);
    }
}

void coroutine_fn qemu_coroutine_yield(void)
{
    g_assert(co_thread_get()->current);
    co_leave(CO_YIELDED);
}

Coroutine *qemu_coroutine_self(void)
{
    return co_thread_get()->current;
}

bool qemu_in_coroutine(void)
{
    return co_thread_get()->current != NULL;
}

bool qemu_coroutine_entered(Coroutine *co)
{
    return co->entered;
}

AioContext *qemu_coroutine_get_aio_context(Coroutine *co)
{
    return __atomic_load_n(&co->ctx, __ATOMIC_ACQUIRE);
}

/* ---- waking ---- */

void co_wake_queued(Coroutine *co)
{
    CoThread *t = co_thread_get();
    AioContext *ctx = qemu_coroutine_get_aio_context(co);
    unsigned was = __atomic_exchange_n(&co->queued, 1, __ATOMIC_RELAXED);

    g_assert(ctx);
    g_assert(!was);             /* exactly one wake a yield */
    if (ctx == t->ctx) {
        co->node.next = NULL;
        *ctx->ready_last = &co->node;
        ctx->ready_last = &co->node.next;
    } else {
        aio_stack_push(&ctx->co_stack, &co->node);
        aio_kick(ctx);
    }
}

void aio_co_wake(Coroutine *co)
{
    CoThread *t = co_thread_get();
    AioContext *ctx = qemu_coroutine_get_aio_context(co);

    if (!t->current && t->ctx && (!ctx || ctx == t->ctx)) {
        qemu_coroutine_enter(co);
        return;
    }
    if (!ctx) {
        co->ctx = t->ctx;
    }
    co_wake_queued(co);
}

void aio_co_enter(AioContext *ctx, Coroutine *co)
{
    g_assert(!co->ctx || co->ctx == ctx);
    co->ctx = ctx;
    co_wake_queued(co);
}

void coroutine_fn aio_co_reschedule_self(AioContext *ctx)
{
    Coroutine *self = qemu_coroutine_self();

    if (self->ctx != ctx) {
        self->move_to = ctx;
        co_leave(CO_MOVING);
    }
}

static void co_wake_bh(void *opaque)
{
    aio_co_wake(opaque);
}

void coroutine_fn aio_co_yield_fair(void)
{
    Coroutine *self = qemu_coroutine_self();

    /* A bottom half, not the ready list: the next turn of the loop. */
    aio_bh_schedule_oneshot(self->ctx, co_wake_bh, self);
    co_leave(CO_YIELDED);
}

/* Run @co, taken from a list of wakes. */
static void co_run_woken(CoThread *t, AioNode *node)
{
    Coroutine *co = container_of(node, Coroutine, node);

    __atomic_store_n(&co->queued, 0, __ATOMIC_RELAXED);
    co_run(t, co);
}

bool co_run_ready(AioContext *ctx)
{
    CoThread *t = co_thread_get();
    unsigned n = 0;

    for (; ctx->ready_first && n < READY_BUDGET; n++) {
        AioNode *node = ctx->ready_first;

        ctx->ready_first = node->next;
        if (!ctx->ready_first) {
            ctx->ready_last = &ctx->ready_first;
        }
        co_run_woken(t, node);
    }
    return n > 0;
}

bool co_run_remote(AioContext *ctx)
{
    CoThread *t = co_thread_get();
    AioNode *node = aio_stack_take(&ctx->co_stack);
    bool progress = node != NULL;

    while (node) {
        AioNode *next = node->next;

        co_run_woken(t, node);
        node = next;
    }
    return progress;
}

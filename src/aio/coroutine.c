/* SPDX-License-Identifier: MIT */
/* coroutine.c: stackful coroutines; see block/coroutine.h.
 *
 * A switch saves the callee-saved registers on the stack and exchanges stack pointers
 * (x86-64; elsewhere swapcontext). Finished coroutines keep their stack and go to a pool of
 * the thread, then to a shared one.
 */
#include "aio/aio_private.h"
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#ifdef CONFIG_VALGRIND
#include <valgrind/valgrind.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(CO_ASAN)
#define CO_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#if __has_feature(thread_sanitizer) && !defined(CO_TSAN)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif
#endif

#define STACK_BYTES     (256 * KiB)
#define POOL_THREAD_MAX 64
#define POOL_SHARED_MAX 256

struct Coroutine {
    CoroutineEntry *entry;
    void *opaque;
    Coroutine *caller;          /* who entered it; NULL: suspended */
    AioContext *ctx;
    Coroutine *next;            /* in co_stack or a pool */
    void *stack;                /* lowest address, guard page included; NULL: a thread's own */
    size_t stack_bytes;
    bool finished;
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t uc;
#endif
#ifdef CO_ASAN
    void *fake_stack;
    const void *asan_bottom;
    size_t asan_size;
#endif
#ifdef CO_TSAN
    void *fiber;
#endif
#ifdef CONFIG_VALGRIND
    unsigned valgrind_id;
#endif
};

typedef struct CoThread {
    Coroutine leader;           /* the thread's own stack */
    Coroutine *current;
    Coroutine *pool;
    unsigned pool_len;
    Coroutine *moving;          /* asked for another context in its last run */
    AioContext *move_to;
    AioContext *ctx;            /* this thread's context */
} CoThread;

static __thread CoThread co_thread;
static Coroutine *pool_shared;
static unsigned pool_shared_len, pool_guard;

/* Not inlined: a compiler may keep the address of a thread's variable over a switch, after
 * which the coroutine may run in another thread. */
static __attribute__((noinline)) CoThread *co_thread_get(void)
{
    CoThread *t = &co_thread;

    __asm__ volatile("" : "+r"(t));
    if (unlikely(!t->current)) {
        t->current = &t->leader;
#ifdef CO_TSAN
        t->leader.fiber = __tsan_get_current_fiber();
#endif
    }
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

#if defined(__x86_64__)
/* Save registers and *from_sp, go on at to_sp. System V ABI callee-saved set. */
void co_switch_stack(void **from_sp, void *to_sp);
__asm__(
    ".text\n.globl co_switch_stack\n.hidden co_switch_stack\n"
    ".type co_switch_stack,@function\n"
    "co_switch_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size co_switch_stack,.-co_switch_stack\n");
#endif

/* @suspends: @from gives way to its caller and will be entered again, perhaps by another. */
static void co_switch(Coroutine *from, Coroutine *to, bool suspends)
{
#ifdef CO_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->asan_bottom, to->asan_size);
#endif
#ifdef CO_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
#if defined(__x86_64__)
    co_switch_stack(&from->sp, to->sp);
#else
    swapcontext(&from->uc, &to->uc);
#endif
#ifdef CO_ASAN
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(from->fake_stack, &bottom, &size);
    if (suspends) {
        from->caller->asan_bottom = bottom;
        from->caller->asan_size = size;
    }
#endif
}

static void co_trampoline(void)
{
    Coroutine *co = co_thread_get()->current;

#ifdef CO_ASAN
    __sanitizer_finish_switch_fiber(NULL, &co->caller->asan_bottom, &co->caller->asan_size);
#endif
    for (;;) {
        co->entry(co->opaque);
        Coroutine *to = co->caller;

        co->finished = true;
        co_thread_get()->current = to;
        co_switch(co, to, true);    /* reused: comes back here with a new entry */
    }
}

static Coroutine *co_alloc(void)
{
    size_t page = sysconf(_SC_PAGESIZE), bytes = STACK_BYTES + page;
    Coroutine *co = g_new0(Coroutine, 1);
    void *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE)) {
        fprintf(stderr, "liveblk: no memory for a coroutine stack: %s\n", strerror(errno));
        abort();
    }
    co->stack = stack;
    co->stack_bytes = bytes;
#ifdef CO_ASAN
    co->asan_bottom = (char *)stack + page;
    co->asan_size = STACK_BYTES;
#endif
#ifdef CO_TSAN
    co->fiber = __tsan_create_fiber(0);
#endif
#ifdef CONFIG_VALGRIND
    co->valgrind_id = VALGRIND_STACK_REGISTER((char *)stack + page, (char *)stack + bytes);
#endif
#if defined(__x86_64__)
    void **sp = (void **)((char *)stack + bytes);

    *--sp = NULL;                       /* keeps the ABI's alignment at entry */
    *--sp = (void *)co_trampoline;      /* popped by ret */
    for (int i = 0; i < 6; i++) {
        *--sp = NULL;
    }
    co->sp = sp;
#else
    getcontext(&co->uc);
    co->uc.uc_stack.ss_sp = (char *)stack + page;
    co->uc.uc_stack.ss_size = STACK_BYTES;
    makecontext(&co->uc, co_trampoline, 0);
#endif
    return co;
}

static void co_free(Coroutine *co)
{
#ifdef CO_TSAN
    __tsan_destroy_fiber(co->fiber);
#endif
#ifdef CONFIG_VALGRIND
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#endif
    munmap(co->stack, co->stack_bytes);
    g_free(co);
}

static Coroutine *co_pool_get(CoThread *t)
{
    Coroutine *co = t->pool;

    if (co) {
        t->pool = co->next;
        t->pool_len--;
        return co;
    }
    if (!__atomic_load_n(&pool_shared_len, __ATOMIC_RELAXED)) {
        return NULL;
    }
    co_spin_lock(&pool_guard);
    co = pool_shared;
    if (co) {
        pool_shared = co->next;
        __atomic_store_n(&pool_shared_len, pool_shared_len - 1, __ATOMIC_RELAXED);
    }
    co_spin_unlock(&pool_guard);
    return co;
}

static void co_pool_put(CoThread *t, Coroutine *co)
{
    if (t->pool_len < POOL_THREAD_MAX) {
        co->next = t->pool;
        t->pool = co;
        t->pool_len++;
        return;
    }
    co_spin_lock(&pool_guard);
    bool keep = pool_shared_len < POOL_SHARED_MAX;

    if (keep) {
        co->next = pool_shared;
        pool_shared = co;
        __atomic_store_n(&pool_shared_len, pool_shared_len + 1, __ATOMIC_RELAXED);
    }
    co_spin_unlock(&pool_guard);
    if (!keep) {
        co_free(co);
    }
}

/* Give the pooled stacks of the calling thread back; when a thread ends. */
void coroutine_thread_cleanup(void);
void coroutine_thread_cleanup(void)
{
    CoThread *t = co_thread_get();

    while (t->pool) {
        Coroutine *co = t->pool;

        t->pool = co->next;
        co_free(co);
    }
    t->pool_len = 0;
}

Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque)
{
    Coroutine *co = co_pool_get(co_thread_get());

    if (!co) {
        co = co_alloc();
    }
    co->entry = entry;
    co->opaque = opaque;
    co->ctx = NULL;
    co->caller = NULL;
    co->next = NULL;
    co->finished = false;
    return co;
}

void qemu_coroutine_enter(Coroutine *co)
{
    CoThread *t = co_thread_get();
    Coroutine *self = t->current;

    g_assert(!co->caller);
    if (!co->ctx) {
        co->ctx = t->ctx;
    }
    g_assert(co->ctx == t->ctx);
    co->caller = self;
    t->current = co;
    co_switch(self, co, false);
    /* co yielded or ended; the thread is the same: only coroutines move. */
    if (co->finished) {
        co->caller = NULL;
        co_pool_put(t, co);
    } else if (t->moving) {
        AioContext *to = t->move_to;

        co = t->moving;
        t->moving = NULL;
        aio_co_push(to, co);
    }
}

void coroutine_fn qemu_coroutine_yield(void)
{
    CoThread *t = co_thread_get();
    Coroutine *self = t->current, *to = self->caller;

    g_assert(to);
    self->caller = NULL;
    t->current = to;
    co_switch(self, to, true);
}

Coroutine *qemu_coroutine_self(void)
{
    return co_thread_get()->current;
}

bool qemu_in_coroutine(void)
{
    CoThread *t = co_thread_get();

    return t->current != &t->leader;
}

bool qemu_coroutine_entered(Coroutine *co)
{
    return co->ctx != NULL && !co->finished;
}

AioContext *qemu_coroutine_get_aio_context(Coroutine *co)
{
    return co->ctx;
}

Coroutine **coroutine_next_ref(Coroutine *co)
{
    return &co->next;
}

void aio_co_wake(Coroutine *co)
{
    CoThread *t = co_thread_get();

    g_assert(co->ctx);
    if (co->ctx == t->ctx && t->current == &t->leader && !co->caller) {
        qemu_coroutine_enter(co);
    } else {
        aio_co_push(co->ctx, co);
    }
}

void aio_co_enter(AioContext *ctx, Coroutine *co)
{
    g_assert(!co->ctx || co->ctx == ctx);
    co->ctx = ctx;
    aio_co_push(ctx, co);
}

void coroutine_fn aio_co_reschedule_self(AioContext *ctx)
{
    CoThread *t = co_thread_get();
    Coroutine *self = t->current;

    if (self->ctx == ctx) {
        return;
    }
    /* Queued by whoever entered us, once we are off this stack. */
    self->ctx = ctx;
    t->moving = self;
    t->move_to = ctx;
    qemu_coroutine_yield();
}

void coroutine_fn aio_co_yield_fair(void)
{
    Coroutine *self = qemu_coroutine_self();

    aio_co_push(self->ctx, self);
    qemu_coroutine_yield();
}

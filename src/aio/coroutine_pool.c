/* SPDX-License-Identifier: MIT */
/* coroutine_pool.c: stacks, and ended coroutines kept for the next.
 *
 * Each thread keeps up to POOL_THREAD_MAX, used last in, first out, so that the warmest
 * stack is used next. What is more goes in batches to a pool all share, bounded as
 * well: coroutines often begin in one thread and end in another. The rest is unmapped.
 *
 * The Coroutine itself lies at the top of its stack, so that a run touches one page less.
 * The place of the first frame differs from stack to stack by some cache lines: stacks
 * all begin at the same offset of a page and would else fight for the same sets.
 */
#include "aio/aio_private.h"
#include <pthread.h>
#include <sys/mman.h>
#ifdef CO_ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef CONFIG_VALGRIND
#include <valgrind/valgrind.h>
#endif

#ifdef CO_ASAN
#define STACK_BYTES     (4 * MiB)   /* its frames are several times as large */
#else
/* Address space only: pages are given when touched. Enough for the deepest that input may ask
 * for by recursion: a chain of a thousand layers, a message nested a thousand times. */
#define STACK_BYTES     (1 * MiB)
#endif
#define COLOURS         16
#define POOL_THREAD_MAX 64
#define POOL_BATCH      32
#define POOL_SHARED_MAX 512

static AioNode *shared;
static unsigned shared_len, shared_guard;
static unsigned next_colour;            /* atomic */
static pthread_once_t cleanup_once = PTHREAD_ONCE_INIT;
static pthread_key_t cleanup_key;

/* ---- one stack ---- */

static Coroutine *co_alloc(void)
{
    size_t page = sysconf(_SC_PAGESIZE), bytes = STACK_BYTES + page;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    /* An overflow runs into the lowest page and dies there. */
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE)) {
        fprintf(stderr, "liveblk: no memory for a coroutine's stack: %s\n", strerror(errno));
        abort();
    }
    unsigned colour = __atomic_fetch_add(&next_colour, 1, __ATOMIC_RELAXED) % COLOURS;
    uintptr_t top = (uintptr_t)map + bytes - colour * 64 - sizeof(Coroutine);
    Coroutine *co = (Coroutine *)(top & ~(uintptr_t)63);

    memset(co, 0, sizeof(*co));
    co->stack = map + page;
    co->stack_bytes = (char *)co - (char *)co->stack;
#ifdef CO_TSAN
    co->fiber = __tsan_create_fiber(0);
#endif
#ifdef CONFIG_VALGRIND
    co->valgrind_id = VALGRIND_STACK_REGISTER(co->stack, co);
#endif
    co_switch_init(&co->sw, co->stack, co->stack_bytes, co_main, co);
    return co;
}

static void co_free(Coroutine *co)
{
    size_t page = sysconf(_SC_PAGESIZE);
    char *map = (char *)co->stack - page;

#ifdef CO_TSAN
    __tsan_destroy_fiber(co->fiber);
#endif
#ifdef CO_ASAN
    ASAN_UNPOISON_MEMORY_REGION(co->stack, STACK_BYTES);
#endif
#ifdef CONFIG_VALGRIND
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#endif
    munmap(map, STACK_BYTES + page);
}

/* ---- the pools ---- */

static void pool_push(AioNode **list, unsigned *len, AioNode *node)
{
    node->next = *list;
    *list = node;
    __atomic_store_n(len, *len + 1, __ATOMIC_RELAXED);
}

static AioNode *pool_pop(AioNode **list, unsigned *len)
{
    AioNode *node = *list;

    *list = node->next;
    __atomic_store_n(len, *len - 1, __ATOMIC_RELAXED);
    return node;
}

static void free_list(AioNode *node)
{
    while (node) {
        AioNode *next = node->next;

        co_free(container_of(node, Coroutine, node));
        node = next;
    }
}

static void cleanup_thread(void *unused)
{
    co_pool_free_thread();
}

static void cleanup_make_key(void)
{
    pthread_key_create(&cleanup_key, cleanup_thread);
}

/* See that the pool is freed when this thread ends. */
static void cleanup_register(CoThread *t)
{
    pthread_once(&cleanup_once, cleanup_make_key);
    pthread_setspecific(cleanup_key, t);
    t->cleanup_set = true;
}

static void refill_from_shared(CoThread *t)
{
    aio_spin_lock(&shared_guard);
    for (unsigned i = 0; i < POOL_BATCH && shared; i++) {
        pool_push(&t->pool, &t->pool_len, pool_pop(&shared, &shared_len));
    }
    aio_spin_unlock(&shared_guard);
}

Coroutine *co_pool_get(CoThread *t)
{
    if (unlikely(!t->pool)) {
        if (!t->cleanup_set) {
            cleanup_register(t);
        }
        if (__atomic_load_n(&shared_len, __ATOMIC_RELAXED)) {
            refill_from_shared(t);
        }
        if (!t->pool) {
            return co_alloc();
        }
    }
    return container_of(pool_pop(&t->pool, &t->pool_len), Coroutine, node);
}

/* The thread has plenty: give a batch away. */
static void spill_to_shared(CoThread *t)
{
    AioNode *surplus = NULL;
    unsigned surplus_len = 0;

    aio_spin_lock(&shared_guard);
    for (unsigned i = 0; i < POOL_BATCH; i++) {
        AioNode *node = pool_pop(&t->pool, &t->pool_len);

        if (shared_len < POOL_SHARED_MAX) {
            pool_push(&shared, &shared_len, node);
        } else {
            pool_push(&surplus, &surplus_len, node);
        }
    }
    aio_spin_unlock(&shared_guard);
    free_list(surplus);
}

void co_pool_put(CoThread *t, Coroutine *co)
{
    if (unlikely(t->pool_len >= POOL_THREAD_MAX)) {
        spill_to_shared(t);
    }
    if (unlikely(!t->cleanup_set)) {
        cleanup_register(t);
    }
    pool_push(&t->pool, &t->pool_len, &co->node);
}

void co_pool_free_thread(void)
{
    CoThread *t = co_thread_get();

    free_list(t->pool);
    t->pool = NULL;
    t->pool_len = 0;
}

void co_pool_free_shared(void)
{
    aio_spin_lock(&shared_guard);
    AioNode *list = shared;

    shared = NULL;
    __atomic_store_n(&shared_len, 0, __ATOMIC_RELAXED);
    aio_spin_unlock(&shared_guard);
    free_list(list);
}

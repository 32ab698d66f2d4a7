/* SPDX-License-Identifier: MIT */
/* align.c: memory for I/O.
 *
 * Each thread keeps a few buffers of each common size: a large fresh one costs a page fault for
 * each 4 KiB. A buffer may be freed in another thread than it was made in; it stays there. The size
 * of a buffer is asked of malloc. Under the address sanitizer nothing is kept, so that it
 * sees every use after free.
 */
#include "io/io_private.h"
#include <malloc.h>

#if defined(__SANITIZE_ADDRESS__)
#define POOLING 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOLING 0
#endif
#endif
#ifndef POOLING
#define POOLING 1
#endif

enum { POOL_ALIGNMENT = 4096, POOL_CLASSES = 3, POOL_DEPTH_MAX = 16 };

static const struct {
    size_t bytes;
    unsigned depth;             /* buffers kept */
} pool_class[POOL_CLASSES] = {
    { 8 * KiB, 16 }, { 64 * KiB, 8 }, { 1 * MiB, 2 },
};

typedef struct BufferPool {
    unsigned used[POOL_CLASSES];
    void *buf[POOL_CLASSES][POOL_DEPTH_MAX];
} BufferPool;

static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;
static __thread BufferPool *thread_pool;

static void pool_free(void *opaque)
{
    BufferPool *pool = opaque;

    for (int c = 0; c < POOL_CLASSES; c++) {
        while (pool->used[c]) {
            free(pool->buf[c][--pool->used[c]]);
        }
    }
    thread_pool = NULL;
    g_free(pool);
}

static void pool_key_make(void)
{
    pthread_key_create(&pool_key, pool_free);
}

static BufferPool *pool_get(void)
{
    if (unlikely(!thread_pool)) {
        pthread_once(&pool_once, pool_key_make);
        thread_pool = g_new0(BufferPool, 1);
        pthread_setspecific(pool_key, thread_pool);     /* freed when the thread ends */
    }
    return thread_pool;
}

void *qemu_try_blockalign(BlockDriverState *bs, size_t size)
{
    size_t align = bs ? MAX(bs->bl.min_mem_alignment, bs->bl.opt_mem_alignment) : 0;
    void *buf = NULL;

    align = MAX(align, POOL_ALIGNMENT);
    size = MAX(size, 1);
    for (int c = 0; POOLING && align == POOL_ALIGNMENT && c < POOL_CLASSES; c++) {
        if (size <= pool_class[c].bytes) {
            BufferPool *pool = pool_get();

            if (pool->used[c]) {
                return pool->buf[c][--pool->used[c]];
            }
            size = pool_class[c].bytes;
            break;
        }
    }
    return posix_memalign(&buf, align, size) ? NULL : buf;
}

void *qemu_blockalign(BlockDriverState *bs, size_t size)
{
    void *buf = qemu_try_blockalign(bs, size);

    if (!buf) {
        fprintf(stderr, "liveblk: no memory for a buffer of %zu bytes\n", size);
        abort();
    }
    return buf;
}

void qemu_vfree(void *ptr)
{
    if (!ptr) {
        return;
    }
    for (int c = POOL_CLASSES - 1; POOLING && c >= 0; c--) {
        if (malloc_usable_size(ptr) >= pool_class[c].bytes) {
            BufferPool *pool = pool_get();

            /* Larger ones than the largest class are not kept, however useful: memory. */
            if (pool->used[c] < pool_class[c].depth && (uintptr_t)ptr % POOL_ALIGNMENT == 0 &&
                malloc_usable_size(ptr) < 2 * pool_class[c].bytes) {
                pool->buf[c][pool->used[c]++] = ptr;
                return;
            }
            break;
        }
    }
    free(ptr);
}

/* SPDX-License-Identifier: MIT */
/* memdrv.c: nodes in memory for tests; see memdrv.h. */
#include "base/osdep.h"
#include "memdrv.h"

MemState *mem_state(BlockDriverState *bs)
{
    return bs->opaque;
}

uint8_t mem_pattern(int64_t offset, unsigned seed)
{
    uint64_t v = (offset + 1) * 0x9e3779b97f4a7c15ULL + seed * 0x85ebca6bULL;

    return (v >> 32) | 1;           /* never zero */
}

/* ---- delays and faults ---- */

static void coroutine_fn mem_pause(MemState *s)
{
    pthread_mutex_lock(&s->lock);
    bool yield = prng_below(&s->prng, 100) < s->config.yield_percent;
    int64_t sleep_us = yield && s->config.sleep_us_max ? prng_below(&s->prng, s->config.sleep_us_max) : 0;
    pthread_mutex_unlock(&s->lock);

    if (sleep_us) {
        co_sleep_ns(sleep_us * 1000);
    } else if (yield) {
        aio_co_yield_fair();
    }
}

static int coroutine_fn mem_begin(BlockDriverState *bs, int op, BdrvRequestFlags flags)
{
    MemState *s = bs->opaque;
    int ret = 0;

    g_assert(__atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST) > 0);
    pthread_mutex_lock(&s->lock);
    s->calls[op]++;
    s->in_driver[op]++;
    s->in_driver_max[op] = MAX(s->in_driver_max[op], s->in_driver[op]);
    s->last_flags[op] = flags;
    if (s->error[op]) {
        if (s->error_after[op]) {
            s->error_after[op]--;
        } else {
            ret = s->error[op];
        }
    }
    pthread_mutex_unlock(&s->lock);
    mem_pause(s);
    while (__atomic_load_n(&s->hang[op], __ATOMIC_RELAXED)) {
        co_sleep_ns(1000 * 1000);
    }
    return ret;
}

static int coroutine_fn mem_end(BlockDriverState *bs, int op, int ret)
{
    MemState *s = bs->opaque;

    mem_pause(s);
    pthread_mutex_lock(&s->lock);
    s->in_driver[op]--;
    pthread_mutex_unlock(&s->lock);
    return ret;
}

/* ---- storage; lock held ---- */

static void mem_reserve(MemState *s, int64_t size)
{
    int64_t capacity = ROUND_UP(size, MAX(s->block, 4096));

    if (capacity > s->capacity) {
        s->data = g_realloc(s->data, capacity);
        s->durable = g_realloc(s->durable, capacity);
        s->present = g_realloc(s->present, capacity / s->block);
        memset(s->data + s->capacity, 0, capacity - s->capacity);
        memset(s->durable + s->capacity, 0, capacity - s->capacity);
        memset(s->present + s->capacity / s->block, s->config.overlay ? 0 : 2,
               (capacity - s->capacity) / s->block);
        s->capacity = capacity;
    }
}

/* Data makes all blocks it touches data; only whole blocks become zero. */
static void mem_mark(MemState *s, int64_t offset, int64_t bytes, int state)
{
    bool data = state == 1;
    int64_t first = data ? offset / s->block : DIV_ROUND_UP(offset, s->block);
    int64_t end = data ? DIV_ROUND_UP(offset + bytes, s->block) : (offset + bytes) / s->block;

    for (int64_t b = first; b < end; b++) {
        s->present[b] = state;
    }
}

static void mem_check(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t max, int64_t align)
{
    g_assert_cmpint(bytes, >, 0);
    g_assert_cmpint(offset, >=, 0);
    g_assert_cmpint((offset | bytes) % bs->bl.request_alignment, ==, 0);
    g_assert(!max || bytes <= max);
    g_assert(!align || bytes <= align || (offset % align == 0 && bytes % align == 0) ||
             offset / align == (offset + bytes - 1) / align);
}

/* ---- operations ---- */

static int coroutine_fn mem_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    MemState *s = bs->opaque;

    pthread_mutex_init(&s->lock, NULL);
    s->block = 1;
    return 0;
}

static void coroutine_fn mem_co_close(BlockDriverState *bs)
{
    MemState *s = bs->opaque;

    pthread_mutex_destroy(&s->lock);
    g_free(s->data);
    g_free(s->durable);
    g_free(s->present);
}

static void mem_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    MemState *s = bs->opaque;

    *bl = s->config.bl;
    bl->request_alignment = MAX(bl->request_alignment, 1);
}

static int coroutine_fn mem_read_block(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset)
{
    MemState *s = bs->opaque;

    pthread_mutex_lock(&s->lock);
    int present = s->config.overlay ? s->present[offset / s->block] : 1;

    if (present) {
        qemu_iovec_from_buf(qiov, qiov_offset, s->data + offset, bytes);
    }
    pthread_mutex_unlock(&s->lock);
    if (present) {
        return 0;
    }
    if (bs->backing) {
        return bdrv_co_preadv_part(bs->backing, offset, bytes, qiov, qiov_offset, 0);
    }
    qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    return 0;
}

static int coroutine_fn mem_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    MemState *s = bs->opaque;
    int ret = mem_begin(bs, MEM_READ, flags);

    mem_check(bs, offset, bytes, bs->bl.max_transfer, 0);
    pthread_mutex_lock(&s->lock);
    g_assert_cmpint(offset + bytes, <=, ROUND_UP(ROUND_UP(s->size, 512), MAX(bs->bl.request_alignment, 1)));
    pthread_mutex_unlock(&s->lock);
    for (int64_t done = 0, n; done < bytes && !ret; done += n) {
        n = s->config.overlay ? MIN(bytes - done, s->block - (offset + done) % s->block) : bytes;
        ret = mem_read_block(bs, offset + done, n, qiov, qiov_offset + done);
    }
    return mem_end(bs, MEM_READ, ret);
}

static int coroutine_fn mem_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    MemState *s = bs->opaque;
    int ret = mem_begin(bs, MEM_WRITE, flags);

    mem_check(bs, offset, bytes, bs->bl.max_transfer, 0);
    g_assert(!(flags & BDRV_REQ_FUA) || (bs->supported_write_flags & BDRV_REQ_FUA));
    g_assert(!(flags & (BDRV_REQ_ZERO_WRITE | BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT)));
    if (bs->bl.max_iov) {
        size_t head, tail;
        int niov;

        qemu_iovec_slice(qiov, qiov_offset, bytes, &head, &tail, &niov);
        g_assert_cmpint(niov, <=, bs->bl.max_iov);
    }
    if (!ret) {
        pthread_mutex_lock(&s->lock);
        mem_reserve(s, offset + bytes);
        s->size = MAX(s->size, offset + bytes);
        qemu_iovec_to_buf(qiov, qiov_offset, s->data + offset, bytes);
        mem_mark(s, offset, bytes, 1);
        if (flags & BDRV_REQ_FUA) {
            memcpy(s->durable + offset, s->data + offset, bytes);
        }
        pthread_mutex_unlock(&s->lock);
    }
    return mem_end(bs, MEM_WRITE, ret);
}

static int coroutine_fn mem_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    MemState *s = bs->opaque;
    int ret = mem_begin(bs, MEM_ZERO, flags);

    mem_check(bs, offset, bytes, bs->bl.max_pwrite_zeroes, bs->bl.pwrite_zeroes_alignment);
    g_assert(!(flags & ~bs->supported_zero_flags & (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK)));
    g_assert(!(flags & BDRV_REQ_MAY_UNMAP) || (bs->open_flags & BDRV_O_UNMAP));
    if (!ret && bs->bl.pwrite_zeroes_alignment &&
        (offset | bytes) % bs->bl.pwrite_zeroes_alignment) {
        ret = -ENOTSUP;
    }
    if (!ret) {
        pthread_mutex_lock(&s->lock);
        mem_reserve(s, offset + bytes);
        s->size = MAX(s->size, offset + bytes);
        memset(s->data + offset, 0, bytes);
        mem_mark(s, offset, bytes, 2);
        if (flags & BDRV_REQ_FUA) {
            memset(s->durable + offset, 0, bytes);
        }
        pthread_mutex_unlock(&s->lock);
    }
    return mem_end(bs, MEM_ZERO, ret);
}

static int coroutine_fn mem_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    MemState *s = bs->opaque;
    int ret = mem_begin(bs, MEM_DISCARD, 0);

    mem_check(bs, offset, bytes, bs->bl.max_pdiscard, bs->bl.pdiscard_alignment);
    if (!ret && bs->bl.pdiscard_alignment && (offset | bytes) % bs->bl.pdiscard_alignment) {
        ret = -ENOTSUP;
    }
    if (!ret) {
        pthread_mutex_lock(&s->lock);
        bytes = MIN(bytes, s->capacity - offset);
        memset(s->data + offset, 0, bytes);
        mem_mark(s, offset, bytes, 2);
        pthread_mutex_unlock(&s->lock);
    }
    return mem_end(bs, MEM_DISCARD, ret);
}

/* What was there when the flush began is durable when it ends. */
static int coroutine_fn mem_co_flush(BlockDriverState *bs)
{
    MemState *s = bs->opaque;

    pthread_mutex_lock(&s->lock);
    int64_t bytes = s->capacity;
    uint8_t *then = g_memdup2(s->data, bytes);
    pthread_mutex_unlock(&s->lock);

    int ret = mem_begin(bs, MEM_FLUSH, 0);

    if (!ret) {
        pthread_mutex_lock(&s->lock);
        memcpy(s->durable, then, bytes);
        pthread_mutex_unlock(&s->lock);
    }
    g_free(then);
    return mem_end(bs, MEM_FLUSH, ret);
}

static int coroutine_fn mem_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    MemState *s = bs->opaque;

    mem_pause(s);
    if (s->error[MEM_TRUNCATE]) {
        error_setg_errno(errp, -s->error[MEM_TRUNCATE], "Failed to resize");
        return s->error[MEM_TRUNCATE];
    }
    pthread_mutex_lock(&s->lock);
    mem_reserve(s, offset);
    if (offset < s->size) {
        memset(s->data + offset, 0, s->capacity - offset);
        mem_mark(s, ROUND_UP(offset, s->block), s->capacity - ROUND_UP(offset, s->block),
                 s->config.overlay ? 0 : 2);
    }
    s->size = offset;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int64_t coroutine_fn mem_co_getlength(BlockDriverState *bs)
{
    MemState *s = bs->opaque;

    pthread_mutex_lock(&s->lock);
    int64_t size = s->size;
    pthread_mutex_unlock(&s->lock);
    return size;
}

static int coroutine_fn mem_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    MemState *s = bs->opaque;
    int ret = mem_begin(bs, MEM_STATUS, 0);

    mem_check(bs, offset, bytes, 0, 0);
    pthread_mutex_lock(&s->lock);
    int64_t b = offset / s->block, end = b + 1;
    int state = s->present[b];

    while (end * s->block < MIN(offset + bytes, s->capacity) && s->present[end] == state) {
        end++;
    }
    *pnum = MIN(end * s->block, offset + bytes) - offset;
    pthread_mutex_unlock(&s->lock);
    if (!s->config.overlay) {
        *map = offset;
        *file = bs;
        ret = ret ? ret : BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID |
              (state == 2 ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
    } else if (!ret) {
        ret = state == 0 ? 0 : BDRV_BLOCK_ALLOCATED | (state == 2 ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
    }
    return mem_end(bs, MEM_STATUS, ret);
}

static int coroutine_fn mem_co_copy_range(BlockDriverState *src, int64_t src_offset,
                                          BlockDriverState *dst, int64_t dst_offset,
                                          int64_t bytes, BdrvRequestFlags flags)
{
    MemState *from = src->opaque, *to = dst->opaque;

    if (src->drv->co_copy_range != mem_co_copy_range) {
        return -ENOTSUP;
    }
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret = mem_begin(dst, MEM_COPY, flags);

    if (!ret) {
        pthread_mutex_lock(&from->lock);
        g_assert_cmpint(src_offset + bytes, <=, from->capacity);
        memcpy(buf, from->data + src_offset, bytes);
        pthread_mutex_unlock(&from->lock);
        pthread_mutex_lock(&to->lock);
        mem_reserve(to, dst_offset + bytes);
        memcpy(to->data + dst_offset, buf, bytes);
        mem_mark(to, dst_offset, bytes, 1);
        pthread_mutex_unlock(&to->lock);
    }
    return mem_end(dst, MEM_COPY, ret);
}

#define MEM_COMMON                              \
    .instance_size = sizeof(MemState),          \
    .schema_driver = BLOCKDEV_DRIVER__MAX,      \
    .co_open = mem_co_open,                     \
    .co_close = mem_co_close,                   \
    .refresh_limits = mem_refresh_limits,       \
    .co_preadv = mem_co_preadv,                 \
    .co_pwritev = mem_co_pwritev,               \
    .co_pwrite_zeroes = mem_co_pwrite_zeroes,   \
    .co_pdiscard = mem_co_pdiscard,             \
    .co_flush = mem_co_flush,                   \
    .co_truncate = mem_co_truncate,             \
    .co_getlength = mem_co_getlength,           \
    .co_block_status = mem_co_block_status

static const BlockDriver mem_protocol = {
    .format_name = "mem",
    .kind = BLOCK_DRIVER_PROTOCOL,
    MEM_COMMON,
    .co_copy_range = mem_co_copy_range,
};

static const BlockDriver mem_overlay = {
    .format_name = "mem-overlay",
    .kind = BLOCK_DRIVER_FORMAT,
    .supports_backing = true,
    MEM_COMMON,
};

static int coroutine_fn pass_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    return 0;
}

static const BlockDriver pass_filter = {
    .format_name = "pass",
    .kind = BLOCK_DRIVER_FILTER,
    .schema_driver = BLOCKDEV_DRIVER__MAX,
    .co_open = pass_co_open,
};

/* ---- making ---- */

static void coroutine_fn mem_refresh_co(void *opaque)
{
    g_assert_cmpint(bdrv_co_refresh_length(opaque), ==, 0);
}

BlockDriverState *mem_node_new(const char *name, const MemConfig *config)
{
    BlockDriverState *bs = bdrv_new_open_driver(config->overlay ? &mem_overlay : &mem_protocol, name,
                                                BDRV_O_RDWR | config->flags, &error_abort);
    MemState *s = bs->opaque;

    s->config = *config;
    s->block = MAX(config->bl.request_alignment, 512);
    s->prng = (Prng) { config->seed };
    s->size = config->size;
    mem_reserve(s, config->size);
    bs->supported_write_flags = config->write_flags;
    bs->supported_zero_flags = config->zero_flags;
    bdrv_refresh_limits(bs);
    aio_co_run(mem_refresh_co, bs);
    return bs;
}

BlockDriverState *pass_node_new(const char *name, BlockDriverState *below)
{
    BlockDriverState *bs = bdrv_new_open_driver(&pass_filter, name,
                                                BDRV_O_RDWR | (below->open_flags & BDRV_O_UNMAP), &error_abort);

    bdrv_ref(below);            /* the edge's */
    bdrv_attach_child(bs, below, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, &error_abort);
    aio_co_run(mem_refresh_co, bs);
    return bs;
}

BlockBackend *mem_backend_new(BlockDriverState *bs)
{
    return blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL,
                           &error_abort);
}

void mem_fill(BlockDriverState *bs, int64_t offset, int64_t bytes, unsigned seed)
{
    MemState *s = bs->opaque;

    pthread_mutex_lock(&s->lock);
    for (int64_t i = offset; i < offset + bytes; i++) {
        s->data[i] = mem_pattern(i, seed);
    }
    mem_mark(s, offset, bytes, 1);
    pthread_mutex_unlock(&s->lock);
}

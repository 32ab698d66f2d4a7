/* SPDX-License-Identifier: MIT */
/* ops_bench.c: requests of one size, as many in flight as asked for. */
#include "ops/ops.h"

typedef struct Bench {
    const OpsBench *b;
    int64_t sent, offset, since_flush;
    int64_t length;
    unsigned in_flight;
    bool flushing;
    CoMutex lock;               /* over what is to be sent next */
    CoQueue idle;               /* nothing in flight; or a flush is over */
    int ret;
} Bench;

/* With drain, what is in flight ends before the flush, and the next begins after it. */
static int coroutine_fn bench_flush(Bench *s)
{
    int ret;

    s->flushing = true;
    while (s->b->drain_on_flush && s->in_flight) {
        qemu_co_queue_wait(&s->idle, &s->lock);
    }
    if (!s->b->drain_on_flush) {
        qemu_co_mutex_unlock(&s->lock);
    }
    ret = blk_co_flush(s->b->blk);
    if (!s->b->drain_on_flush) {
        qemu_co_mutex_lock(&s->lock);
    }
    s->flushing = false;
    return ret;
}

/* True: *offset is to be sent. */
static bool coroutine_fn bench_next(Bench *s, int64_t *offset)
{
    bool any;

    qemu_co_mutex_lock(&s->lock);
    if (s->b->flush_interval && s->since_flush >= s->b->flush_interval && s->ret == 0 && !s->flushing) {
        s->since_flush = 0;
        int ret = bench_flush(s);

        s->ret = s->ret ? s->ret : ret;
    }
    any = s->sent < s->b->count && s->ret == 0;
    if (any) {
        *offset = s->offset;
        s->offset += s->b->step;
        if (s->length > 0) {
            s->offset %= s->length;
        }
        s->sent++;
        s->since_flush++;
        s->in_flight++;
    }
    qemu_co_mutex_unlock(&s->lock);
    return any;
}

static void coroutine_fn bench_worker(void *opaque)
{
    Bench *s = opaque;
    const OpsBench *b = s->b;
    uint8_t *buf = qemu_blockalign(blk_bs(b->blk), b->bytes);
    int64_t offset;

    memset(buf, b->pattern, b->bytes);
    while (bench_next(s, &offset)) {
        int ret = b->write ? blk_co_pwrite(b->blk, offset, b->bytes, buf, b->durable ? BDRV_REQ_FUA : 0)
                           : blk_co_pread(b->blk, offset, b->bytes, buf, 0);

        qemu_co_mutex_lock(&s->lock);
        s->in_flight--;
        s->ret = ret < 0 && s->ret == 0 ? ret : s->ret;
        if (s->in_flight == 0) {
            qemu_co_queue_restart_all(&s->idle);
        }
        qemu_co_mutex_unlock(&s->lock);
    }
    qemu_vfree(buf);
}

int coroutine_fn ops_bench(const OpsBench *b)
{
    Bench s = { .b = b, .offset = b->offset };

    s.length = blk_co_getlength(b->blk);
    qemu_co_mutex_init(&s.lock);
    qemu_co_queue_init(&s.idle);
    ops_run_workers(MIN(b->depth, b->count), bench_worker, &s);
    return s.ret;
}

/* SPDX-License-Identifier: MIT */
/* copy_target.c: requests to a copy's target that can be given up; see copy.h.
 *
 * A target may hang for ever: a server that is gone, a disk that does not answer. A job that is
 * cancelled then, and the guest whose write goes to both sides, must not. So each request runs in a
 * coroutine of its own and owns its data; whoever asked for it waits until it ends or is
 * abandoned, whatever comes first. One that was abandoned is an orphan: it frees itself when it
 * ends, and the target stays open until then.
 *
 * Threads: a request runs where it was made. Who wakes the waiter is settled under the lock: the
 * one that takes `waiter` out.
 */
#include "job/copy.h"

struct CopyRequest {
    CopyEngine *e;
    CopyRequestKind kind;
    int64_t offset, bytes;
    void *buf;
    BdrvRequestFlags flags;
    int ret;
    int refcnt;                 /* its own coroutine's and the waiter's; atomic */
    bool done, orphan;
    Coroutine *waiter;
    LIST_ENTRY(CopyRequest) link;
};

static void request_unref(CopyRequest *r)
{
    if (__atomic_sub_fetch(&r->refcnt, 1, __ATOMIC_ACQ_REL) == 0) {
        qemu_vfree(r->buf);
        g_free(r);
    }
}

static void coroutine_fn request_co(void *opaque)
{
    CopyRequest *r = opaque;
    CopyEngine *e = r->e;
    int ret;

    switch (r->kind) {
    case COPY_WRITE:
        ret = blk_co_pwrite(e->target, r->offset, r->bytes, r->buf, r->flags);
        break;
    case COPY_ZERO:
        ret = blk_co_pwrite_zeroes(e->target, r->offset, r->bytes, r->flags);
        break;
    case COPY_IS_ZERO:
        ret = bdrv_co_is_zero_fast(blk_bs(e->target), r->offset, r->bytes);
        break;
    default:
        ret = blk_co_flush(e->target);
        break;
    }
    pthread_mutex_lock(&e->lock);
    Coroutine *waiter = r->waiter;
    bool orphan = r->orphan;

    r->ret = ret;
    r->done = true;
    r->waiter = NULL;
    if (orphan) {
        e->orphans--;
    } else {
        LIST_REMOVE(r, link);
    }
    pthread_mutex_unlock(&e->lock);
    if (orphan) {
        aio_wait_kick();        /* the engine may be gone from here on */
    } else if (waiter) {
        aio_co_wake(waiter);
    }
    request_unref(r);
}

int coroutine_fn copy_target_request(CopyEngine *e, CopyRequestKind kind, int64_t offset, int64_t bytes,
                                     void *buf, BdrvRequestFlags flags)
{
    CopyRequest *r = g_new(CopyRequest, 1);

    *r = (CopyRequest) { .e = e, .kind = kind, .offset = offset, .bytes = bytes, .buf = buf,
                        .flags = flags, .refcnt = 2 };
    pthread_mutex_lock(&e->lock);
    int error = __atomic_load_n(&e->abandoned, __ATOMIC_RELAXED);

    if (error) {
        pthread_mutex_unlock(&e->lock);
        qemu_vfree(buf);
        g_free(r);
        return -error;
    }
    LIST_INSERT_HEAD(&e->requests, r, link);
    pthread_mutex_unlock(&e->lock);
    qemu_coroutine_enter(qemu_coroutine_create(request_co, r));

    pthread_mutex_lock(&e->lock);
    bool wait = !r->done && !r->orphan;

    if (wait) {
        r->waiter = qemu_coroutine_self();
    }
    pthread_mutex_unlock(&e->lock);
    if (wait) {
        qemu_coroutine_yield();
    }
    pthread_mutex_lock(&e->lock);
    bool orphan = r->orphan;
    int ret = orphan ? -__atomic_load_n(&e->abandoned, __ATOMIC_RELAXED) : r->ret;
    pthread_mutex_unlock(&e->lock);
    request_unref(r);
    return ret;
}

bool copy_target_begin(CopyEngine *e)
{
    BlockDriverState *target = blk_bs(e->target);

    /* Counted first, then the look; a drain does it the other way round. */
    bdrv_inc_in_flight(target);
    if (!__atomic_load_n(&target->quiesce_counter, __ATOMIC_SEQ_CST)) {
        return true;
    }
    bdrv_dec_in_flight(target);
    return false;
}

void copy_target_end(CopyEngine *e)
{
    bdrv_dec_in_flight(blk_bs(e->target));
}

void copy_abandon(CopyEngine *e, int error)
{
    g_autoptr(GPtrArray) waiters = g_ptr_array_new();
    CopyRequest *r;

    g_assert(qemu_in_main_thread() && error > 0);
    pthread_mutex_lock(&e->lock);
    if (!e->abandoned) {
        __atomic_store_n(&e->abandoned, error, __ATOMIC_SEQ_CST);
    }
    while ((r = LIST_FIRST(&e->requests))) {
        LIST_REMOVE(r, link);
        r->orphan = true;
        e->orphans++;
        if (r->waiter) {
            g_ptr_array_add(waiters, r->waiter);
            r->waiter = NULL;
        }
    }
    pthread_mutex_unlock(&e->lock);
    for (guint i = 0; i < waiters->len; i++) {
        aio_co_wake(g_ptr_array_index(waiters, i));
    }
}

unsigned copy_orphans(CopyEngine *e)
{
    pthread_mutex_lock(&e->lock);       /* not before the last one has let go of it */
    unsigned orphans = e->orphans;
    pthread_mutex_unlock(&e->lock);

    return orphans;
}

static void copy_deadline_cb(void *opaque)
{
    CopyEngine *e = opaque;

    copy_abandon(e, e->deadline_error);
}

void copy_set_deadline(CopyEngine *e, int64_t ns, int error)
{
    e->deadline_error = error;
    if (ns) {
        timer_mod_ns(&e->deadline, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + ns);
    } else {
        timer_del(&e->deadline);
    }
}

void copy_init(CopyEngine *e)
{
    pthread_mutex_init(&e->lock, NULL);
    LIST_INIT(&e->ops);
    LIST_INIT(&e->requests);
    qemu_co_queue_init(&e->ops_ended);
    timer_init_ns(&e->deadline, qemu_get_aio_context(), copy_deadline_cb, e);
}

void copy_destroy(CopyEngine *e)
{
    g_assert(!e->in_flight && LIST_EMPTY(&e->ops) && LIST_EMPTY(&e->requests) && !copy_orphans(e));
    timer_del(&e->deadline);
    pthread_mutex_destroy(&e->lock);
}

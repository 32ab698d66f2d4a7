/* SPDX-License-Identifier: MIT */
/* host_pool.c: worker threads of a context, for what would block its loop: system calls
 * that have no asynchronous form here, and work that burns CPU; see host_posix.h.
 *
 * Workers are started as needed, up to thread_pool_max, and end after some idle seconds
 * (thread_pool_min stay). Requests of guests go first, and bulk work never takes the last
 * quarter of the workers: a guest does not wait for a job's megabytes.
 */
#include "aio/aio_private.h"
#include "aio/host_posix.h"
#include <pthread.h>
#include <signal.h>

#define THREADS_MAX_DEFAULT 64
#define IDLE_SECONDS        10

typedef struct Worker {
    HostPool *pool;
    pthread_t thread;
    SLIST_ENTRY(Worker) link;       /* of those that were stopped */
} Worker;

typedef STAILQ_HEAD(, HostRequest) RequestList;

struct HostPool {
    AioContext *ctx;
    unsigned min, max, bulk_max;
    pthread_mutex_t mutex;          /* all below */
    pthread_cond_t work, changed;   /* something to do; a worker has ended */
    RequestList guest, bulk;
    unsigned threads, bulk_running;
    unsigned idle, called;          /* asleep; called to work and not yet awake */
    bool stopping;
    SLIST_HEAD(, Worker) ended;     /* as the pool stops; to be joined */
};

/* What a queued request says to a worker; private_[0] is the link of done_stack. */
enum { PRIVATE_RUN = 1 };

typedef void PoolRun(HostRequest *req);

/* ---- workers ---- */

/* The next request, or NULL if none may run now. Mutex held. */
static HostRequest *pool_take(HostPool *pool, bool *bulk)
{
    HostRequest *req = STAILQ_FIRST(&pool->guest);

    *bulk = !req;
    if (req) {
        STAILQ_REMOVE_HEAD(&pool->guest, next);
        return req;
    }
    req = STAILQ_FIRST(&pool->bulk);
    if (!req || pool->bulk_running >= pool->bulk_max) {
        return NULL;
    }
    STAILQ_REMOVE_HEAD(&pool->bulk, next);
    pool->bulk_running++;
    return req;
}

/* Wait to be called; false: end, after a long time without. Mutex held. */
static bool pool_idle(HostPool *pool)
{
    struct timespec until;
    int ret = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    pool->idle++;
    while (!pool->called && !pool->stopping && ret != ETIMEDOUT) {
        ret = pthread_cond_timedwait(&pool->work, &pool->mutex, &until);
        if (ret == ETIMEDOUT && pool->threads <= pool->min) {
            until.tv_sec += IDLE_SECONDS;
            ret = 0;
        }
    }
    if (pool->called) {
        pool->called--;             /* the caller has counted us out of `idle` */
        return true;
    }
    pool->idle--;
    return false;
}

static void *worker_main(void *opaque)
{
    Worker *worker = opaque;
    HostPool *pool = worker->pool;
    HostRequest *req;
    bool bulk;

    pthread_setname_np(pthread_self(), "liveblk-worker");
    pthread_mutex_lock(&pool->mutex);
    do {
        while ((req = pool_take(pool, &bulk))) {
            pthread_mutex_unlock(&pool->mutex);
            ((PoolRun *)(uintptr_t)req->private_[PRIVATE_RUN])(req);
            aio_push_done(req);
            pthread_mutex_lock(&pool->mutex);
            pool->bulk_running -= bulk;
        }
    } while (pool_idle(pool));
    pool->threads--;
    if (pool->stopping) {
        SLIST_INSERT_HEAD(&pool->ended, worker, link);
        pthread_cond_signal(&pool->changed);
    } else {
        pthread_detach(worker->thread);     /* nobody may come for long who would join it */
        g_free(worker);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* Mutex held. */
static void pool_join_ended(HostPool *pool)
{
    Worker *worker;

    while ((worker = SLIST_FIRST(&pool->ended))) {
        SLIST_REMOVE_HEAD(&pool->ended, link);
        pthread_join(worker->thread, NULL);
        g_free(worker);
    }
}

/* Start one more worker; signals are for the program's own threads. Mutex held. */
static void pool_grow(HostPool *pool)
{
    Worker *worker = g_new0(Worker, 1);
    sigset_t all, old;
    int ret;

    worker->pool = pool;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    ret = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret == 0) {
        pool->threads++;
        return;
    }
    g_free(worker);
    if (!pool->threads) {
        fprintf(stderr, "liveblk: no thread for file I/O: %s\n", strerror(ret));
        abort();
    }
}

/* ---- queueing ---- */

static void pool_push(HostRequest *req, PoolRun *run, bool guest)
{
    HostPool *pool = req->ctx->pool;

    req->private_[PRIVATE_RUN] = (uintptr_t)run;
    pthread_mutex_lock(&pool->mutex);
    if (guest) {
        STAILQ_INSERT_TAIL(&pool->guest, req, next);
    } else {
        STAILQ_INSERT_TAIL(&pool->bulk, req, next);
    }
    if (pool->idle) {
        pool->idle--;
        pool->called++;
        pthread_cond_signal(&pool->work);
    } else if (pool->threads < pool->max && (guest || pool->bulk_running < pool->bulk_max)) {
        pool_grow(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
}

void host_pool_submit(HostRequest *req)
{
    AIO_COUNT(req->ctx, pooled);
    pool_push(req, host_posix_execute, req->flags & HOST_FLAG_GUEST);
}

typedef struct PoolWork {
    HostRequest req;
    int (*func)(void *arg);
    void *arg;
    void (*done)(void *opaque, int ret);
    void *opaque;
} PoolWork;

static void work_run(HostRequest *req)
{
    PoolWork *work = container_of(req, PoolWork, req);

    req->ret = work->func(work->arg);
}

static void work_complete(HostRequest *req)
{
    PoolWork *work = container_of(req, PoolWork, req);
    void (*done)(void *opaque, int ret) = work->done;
    void *opaque = work->opaque;
    int ret = req->ret;

    g_free(work);
    done(opaque, ret);
}

void host_pool_work(AioContext *ctx, int (*func)(void *), void *arg,
                    void (*done)(void *opaque, int ret), void *opaque)
{
    PoolWork *work = g_new(PoolWork, 1);

    *work = (PoolWork) {
        .req = { .ctx = ctx, .complete = work_complete },
        .func = func, .arg = arg, .done = done, .opaque = opaque,
    };
    pool_push(&work->req, work_run, false);
}

/* ---- life ---- */

HostPool *host_pool_new(AioContext *ctx)
{
    const IOThreadParams *params = aio_context_params(ctx);
    HostPool *pool = g_new0(HostPool, 1);
    pthread_condattr_t attr;

    pool->ctx = ctx;
    pool->max = params->thread_pool_max > 0 ? params->thread_pool_max : THREADS_MAX_DEFAULT;
    pool->min = MIN(MAX(params->thread_pool_min, 0), pool->max);
    pool->bulk_max = MAX(pool->max - pool->max / 4, 1);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &attr);
    pthread_cond_init(&pool->changed, &attr);
    pthread_condattr_destroy(&attr);
    STAILQ_INIT(&pool->guest);
    STAILQ_INIT(&pool->bulk);
    SLIST_INIT(&pool->ended);
    pthread_mutex_lock(&pool->mutex);
    while (pool->threads < pool->min) {
        pool_grow(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return pool;
}

void host_pool_free(HostPool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    g_assert(STAILQ_EMPTY(&pool->guest) && STAILQ_EMPTY(&pool->bulk));
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads) {
        pthread_cond_wait(&pool->changed, &pool->mutex);
    }
    pool_join_ended(pool);
    pthread_mutex_unlock(&pool->mutex);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->mutex);
    g_free(pool);
}

/* SPDX-License-Identifier: MIT */
/* co_lock.c: locks that coroutines wait in; see block/coroutine.h.
 *
 * Each lock has a guard (a spin lock, held for a few instructions) over its list of
 * waiters. Ownership is handed to the first waiter directly: FIFO, no thundering. A waiter may
 * be woken before it has yielded: the wake is queued in its own thread, and so comes after.
 */
#include "aio/aio_private.h"
#include <pthread.h>

struct CoWaitRecord {
    Coroutine *co;
    bool write;                 /* rwlock */
    STAILQ_ENTRY(CoWaitRecord) next;
};

static CoWaitRecord *wait_pop(CoWaitList *list)
{
    CoWaitRecord *w = STAILQ_FIRST(list);

    if (w) {
        STAILQ_REMOVE_HEAD(list, next);
    }
    return w;
}

/* ---- mutex: 0 free, 1 held, 2 held and perhaps waited for ---- */

void qemu_co_mutex_init(CoMutex *mutex)
{
    memset(mutex, 0, sizeof(*mutex));
    STAILQ_INIT(&mutex->waiters);
}

bool coroutine_fn qemu_co_mutex_trylock(CoMutex *mutex)
{
    unsigned expected = 0;

    if (!__atomic_compare_exchange_n(&mutex->locked, &expected, 1, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return false;
    }
    __atomic_store_n(&mutex->holder, qemu_coroutine_self(), __ATOMIC_RELAXED);
    return true;
}

void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex)
{
    if (qemu_co_mutex_trylock(mutex)) {
        return;
    }
    CoWaitRecord w = { .co = qemu_coroutine_self() };

    g_assert(__atomic_load_n(&mutex->holder, __ATOMIC_RELAXED) != w.co);
    aio_spin_lock(&mutex->guard);
    if (__atomic_exchange_n(&mutex->locked, 2, __ATOMIC_ACQ_REL) == 0) {
        aio_spin_unlock(&mutex->guard);
    } else {
        STAILQ_INSERT_TAIL(&mutex->waiters, &w, next);
        aio_spin_unlock(&mutex->guard);
        qemu_coroutine_yield();
    }
    __atomic_store_n(&mutex->holder, w.co, __ATOMIC_RELAXED);
}

void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex)
{
    unsigned expected = 1;

    qemu_co_mutex_assert_locked(mutex);
    __atomic_store_n(&mutex->holder, NULL, __ATOMIC_RELAXED);
    if (__atomic_compare_exchange_n(&mutex->locked, &expected, 0, false,
                                    __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        return;
    }
    aio_spin_lock(&mutex->guard);
    CoWaitRecord *w = wait_pop(&mutex->waiters);
    Coroutine *co = w ? w->co : NULL;

    if (!w) {
        __atomic_store_n(&mutex->locked, 0, __ATOMIC_RELEASE);
    }
    aio_spin_unlock(&mutex->guard);
    if (co) {
        co_wake_queued(co);     /* it holds the mutex now */
    }
}

void coroutine_fn qemu_co_mutex_assert_locked(CoMutex *mutex)
{
    g_assert(__atomic_load_n(&mutex->holder, __ATOMIC_RELAXED) == qemu_coroutine_self());
}

/* ---- queue ---- */

void qemu_co_queue_init(CoQueue *queue)
{
    STAILQ_INIT(&queue->entries);
}

void coroutine_fn qemu_co_queue_wait(CoQueue *queue, CoMutex *mutex)
{
    CoWaitRecord w = { .co = qemu_coroutine_self() };

    STAILQ_INSERT_TAIL(&queue->entries, &w, next);
    if (mutex) {
        qemu_co_mutex_unlock(mutex);
    }
    qemu_coroutine_yield();
    if (mutex) {
        qemu_co_mutex_lock(mutex);
    }
}

void coroutine_fn qemu_co_queue_wait_plain(CoQueue *queue, void *pthread_mutex)
{
    CoWaitRecord w = { .co = qemu_coroutine_self() };

    STAILQ_INSERT_TAIL(&queue->entries, &w, next);
    if (pthread_mutex) {
        pthread_mutex_unlock(pthread_mutex);
    }
    qemu_coroutine_yield();
    if (pthread_mutex) {
        pthread_mutex_lock(pthread_mutex);
    }
}

bool qemu_co_enter_next(CoQueue *queue)
{
    CoWaitRecord *w = wait_pop(&queue->entries);

    if (!w) {
        return false;
    }
    /* Always queued, never run here: the caller holds the lock of the queue. */
    Coroutine *co = w->co;

    co_wake_queued(co);
    return true;
}

void qemu_co_queue_restart_all(CoQueue *queue)
{
    while (qemu_co_enter_next(queue)) {
    }
}

bool qemu_co_queue_empty(CoQueue *queue)
{
    return STAILQ_EMPTY(&queue->entries);
}

/* ---- readers and writers ---- */

void qemu_co_rwlock_init(CoRwlock *lock)
{
    memset(lock, 0, sizeof(*lock));
    STAILQ_INIT(&lock->tickets);
}

/* Let in whoever is first, and the readers behind a reader. Guard held; leaves it. */
static void rwlock_wake(CoRwlock *lock)
{
    CoWaitList go = STAILQ_HEAD_INITIALIZER(go);
    CoWaitRecord *w;

    while ((w = STAILQ_FIRST(&lock->tickets))) {
        if (w->write ? lock->owners != 0 : lock->owners < 0) {
            break;
        }
        lock->owners += w->write ? -1 : 1;
        STAILQ_REMOVE_HEAD(&lock->tickets, next);
        STAILQ_INSERT_TAIL(&go, w, next);
        if (w->write) {
            break;
        }
    }
    aio_spin_unlock(&lock->guard);
    while ((w = wait_pop(&go))) {
        co_wake_queued(w->co);
    }
}

static void coroutine_fn rwlock_lock(CoRwlock *lock, bool write)
{
    CoWaitRecord w = { .co = qemu_coroutine_self(), .write = write };

    aio_spin_lock(&lock->guard);
    if (STAILQ_EMPTY(&lock->tickets) && (write ? lock->owners == 0 : lock->owners >= 0)) {
        lock->owners += write ? -1 : 1;
        aio_spin_unlock(&lock->guard);
        return;
    }
    STAILQ_INSERT_TAIL(&lock->tickets, &w, next);
    aio_spin_unlock(&lock->guard);
    qemu_coroutine_yield();
}

void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock)
{
    rwlock_lock(lock, false);
}

void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock)
{
    rwlock_lock(lock, true);
}

void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock)
{
    aio_spin_lock(&lock->guard);
    g_assert(lock->owners != 0);
    lock->owners += lock->owners < 0 ? 1 : -1;
    rwlock_wake(lock);
}

void coroutine_fn qemu_co_rwlock_downgrade(CoRwlock *lock)
{
    aio_spin_lock(&lock->guard);
    g_assert(lock->owners == -1);
    lock->owners = 1;
    rwlock_wake(lock);
}

void coroutine_fn qemu_co_rwlock_upgrade(CoRwlock *lock)
{
    aio_spin_lock(&lock->guard);
    g_assert(lock->owners > 0);
    if (lock->owners == 1 && STAILQ_EMPTY(&lock->tickets)) {
        lock->owners = -1;
        aio_spin_unlock(&lock->guard);
        return;
    }
    /* Others are there: queue as a writer, giving up the read lock. What was read before may
     * have changed when this returns. */
    CoWaitRecord w = { .co = qemu_coroutine_self(), .write = true };

    lock->owners--;
    STAILQ_INSERT_TAIL(&lock->tickets, &w, next);
    rwlock_wake(lock);
    qemu_coroutine_yield();
}

/* ---- semaphore ---- */

void qemu_co_sem_init(CoSemaphore *sem, int count)
{
    memset(sem, 0, sizeof(*sem));
    sem->count = count;
    STAILQ_INIT(&sem->waiters);
}

void coroutine_fn qemu_co_sem_wait(CoSemaphore *sem)
{
    CoWaitRecord w = { .co = qemu_coroutine_self() };

    aio_spin_lock(&sem->guard);
    if (sem->count > 0) {
        sem->count--;
        aio_spin_unlock(&sem->guard);
        return;
    }
    STAILQ_INSERT_TAIL(&sem->waiters, &w, next);
    aio_spin_unlock(&sem->guard);
    qemu_coroutine_yield();
}

void qemu_co_sem_post(CoSemaphore *sem)
{
    aio_spin_lock(&sem->guard);
    CoWaitRecord *w = wait_pop(&sem->waiters);
    Coroutine *co = w ? w->co : NULL;

    if (!w) {
        sem->count++;
    }
    aio_spin_unlock(&sem->guard);
    if (co) {
        co_wake_queued(co);
    }
}

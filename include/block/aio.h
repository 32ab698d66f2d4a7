/* SPDX-License-Identifier: MIT */
/* aio.h: AioContext, the event loop; iothreads; the worker pool.
 *
 * An AioContext runs bottom halves, timers, file descriptor handlers and the
 * completions of host I/O, in one thread. The main context belongs to the
 * thread that called aio_init_main(); each iothread object has one more.
 *
 * Use:       embedders call aio_init_main() once, then aio_poll() in a loop, or
 *            let a *_sync function do so.
 * Nesting:   aio_poll() is called by the outermost edge only (programs, tests,
 *            *_sync functions); it asserts that it is not already running in
 *            this context. Code that must wait inside is a coroutine.
 * Time:      QEMU_CLOCK_VIRTUAL is monotonic; under the simulator both clocks are
 *            virtual. Never call the C library's clocks.
 */
#ifndef LIVEBLK_BLOCK_AIO_H
#define LIVEBLK_BLOCK_AIO_H

#include "block/coroutine.h"
#include "block/error.h"

typedef struct QEMUBH QEMUBH;
typedef struct QEMUTimer QEMUTimer;
typedef struct IOThread IOThread;
typedef void QEMUBHFunc(void *opaque);
typedef void QEMUTimerCB(void *opaque);
typedef void IOHandler(void *opaque);

typedef enum QEMUClockType {
    QEMU_CLOCK_REALTIME,   /* wall clock, for time stamps only */
    QEMU_CLOCK_VIRTUAL,    /* monotonic, for timers and measuring */
} QEMUClockType;

/* ---- main context ---- */

/* Make the main context on the calling thread, with the host back end that
 * @host names: "io_uring", "threads", or NULL for the best that works here (the
 * environment variable LIVEBLK_HOST overrides NULL). Once per process. */
LIVEBLK_PUBLIC int aio_init_main(const char *host, Error **errp);
/* Free the main context; everything must have been closed. */
LIVEBLK_PUBLIC void aio_cleanup_main(void);

LIVEBLK_PUBLIC AioContext *qemu_get_aio_context(void);          /* main; any thread */
LIVEBLK_PUBLIC AioContext *qemu_get_current_aio_context(void);  /* this thread's, or NULL */
LIVEBLK_PUBLIC bool qemu_in_main_thread(void);
/* The host back end in use: "io_uring", "threads" or "sim". */
LIVEBLK_PUBLIC const char *aio_host_name(void);

/* ---- the loop ---- */

/* Run what is ready; with @blocking wait for something first. Returns whether
 * anything ran. The context's own thread, not nested. */
LIVEBLK_PUBLIC bool aio_poll(AioContext *ctx, bool blocking);
/* Make a blocking aio_poll(@ctx) return soon. Any thread. */
LIVEBLK_PUBLIC void aio_notify(AioContext *ctx);
LIVEBLK_PUBLIC void aio_context_ref(AioContext *ctx);
LIVEBLK_PUBLIC void aio_context_unref(AioContext *ctx);

/* Wait, in the main thread, until @cond(@opaque) is false: suspends when called
 * in a coroutine, runs the main loop when called outside (outermost edge only).
 * @cond is evaluated again after each aio_wait_kick() and each loop turn. */
LIVEBLK_PUBLIC void aio_wait_while(bool (*cond)(void *opaque), void *opaque);
/* The same for what may never end: give up when @look(@opaque), which changes with whatever moves, was the same
 * for AIO_PATIENCE_SECONDS. True: @cond is false; false: it was given up. */
#define AIO_PATIENCE_SECONDS 8
LIVEBLK_PUBLIC bool aio_wait_while_moving(bool (*cond)(void *opaque), uint64_t (*look)(void *opaque), void *opaque);
/* Run @entry(@opaque) in a coroutine of the main context to its end: at once when called
 * in a coroutine, else by running the main loop (outermost edge only). */
LIVEBLK_PUBLIC void aio_co_run(CoroutineEntry *entry, void *opaque);
/* What a waiter waits for may have changed. Any thread; cheap when nobody waits. */
LIVEBLK_PUBLIC void aio_wait_kick(void);

/* ---- bottom halves: run soon, in @ctx. All but _bh_delete: any thread ---- */
LIVEBLK_PUBLIC void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque);
LIVEBLK_PUBLIC QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque);
LIVEBLK_PUBLIC void qemu_bh_schedule(QEMUBH *bh);
LIVEBLK_PUBLIC void qemu_bh_cancel(QEMUBH *bh);
LIVEBLK_PUBLIC void qemu_bh_delete(QEMUBH *bh);   /* home thread */

/* ---- timers: fire in their context; all calls from that thread ---- */
struct QEMUTimer {
    AioContext *ctx;
    int64_t expire_ns;      /* -1: not armed */
    QEMUTimerCB *cb;
    void *opaque;
    unsigned heap_index;    /* place in the context's heap */
    uint64_t sequence;      /* order among equal times: first armed, first fired */
};
LIVEBLK_PUBLIC void timer_init_ns(QEMUTimer *t, AioContext *ctx, QEMUTimerCB *cb, void *opaque);
LIVEBLK_PUBLIC void timer_mod_ns(QEMUTimer *t, int64_t expire_virtual_ns);
LIVEBLK_PUBLIC void timer_del(QEMUTimer *t);
LIVEBLK_PUBLIC bool timer_pending(const QEMUTimer *t);
LIVEBLK_PUBLIC int64_t qemu_clock_get_ns(QEMUClockType type);   /* any thread */

/* ---- file descriptors (sockets, pipes); home thread; NULL handlers remove ---- */
LIVEBLK_PUBLIC void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read,
                                       IOHandler *io_write, void *opaque);
/* Suspend until @fd is readable (@for_write: writable), or until
 * aio_co_fd_cancel(). Returns 0 or -ECANCELED. One waiter a direction. */
LIVEBLK_PUBLIC int coroutine_fn aio_co_wait_fd(int fd, bool for_write);
/* Wake whoever waits on @fd in the current context, with -ECANCELED. To be
 * called before closing it. Home thread of the waiters. */
LIVEBLK_PUBLIC void aio_co_fd_cancel(int fd);

/* ---- iothreads: a thread that runs an AioContext; main thread ---- */
typedef struct IOThreadParams {
    int64_t poll_max_ns;    /* busy-poll at most this long before sleeping; 0: never */
    int64_t poll_grow;      /* factor; 0: 2 */
    int64_t poll_shrink;    /* divisor; 0: back to 0 at once */
    int64_t aio_max_batch;  /* requests per submission; 0: the back end's choice */
    int64_t thread_pool_min, thread_pool_max;
} IOThreadParams;
LIVEBLK_PUBLIC IOThread *iothread_create(const char *id, const IOThreadParams *params, Error **errp);
LIVEBLK_PUBLIC IOThread *iothread_by_id(const char *id);
LIVEBLK_PUBLIC AioContext *iothread_get_aio_context(IOThread *iothread);
LIVEBLK_PUBLIC const char *iothread_get_id(IOThread *iothread);
LIVEBLK_PUBLIC void iothread_get_params(IOThread *iothread, IOThreadParams *params);
/* Users pin an iothread; one that is pinned cannot be destroyed (-EBUSY). */
LIVEBLK_PUBLIC void iothread_ref(IOThread *iothread);
LIVEBLK_PUBLIC void iothread_unref(IOThread *iothread);
LIVEBLK_PUBLIC int iothread_destroy(IOThread *iothread, Error **errp);
LIVEBLK_PUBLIC IOThread *iothread_next(IOThread *iothread);    /* NULL: first */

/* ---- worker pool: work that blocks or burns CPU ---- */
/* Run @func(@arg) on a worker thread and suspend until it returned. */
LIVEBLK_PUBLIC int coroutine_fn thread_pool_submit_co(int (*func)(void *arg), void *arg);

#endif

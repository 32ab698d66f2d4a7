/* SPDX-License-Identifier: MIT */
/* host.h: the host seam. Everything outside the process goes through it: file
 * I/O, flush, clocks, random numbers, waiting, threads.
 *
 * Three implementations of HostOps: io_uring (host_uring.c), threads
 * (host_threads.c), sim (tests/sim, registered by the simulator before
 * aio_init_main). The engine never calls read, write, open, clock_gettime,
 * pthread_create or getrandom itself. Sockets are the exception: their data
 * passes by recv/send in the exports, woken by aio_co_wait_fd(); the simulator
 * has no sockets.
 *
 * Requests:  the caller owns a HostRequest (on its coroutine stack) until it is
 *            complete. Submission is batched: what is submitted in one turn of the
 *            loop goes to the kernel in one system call at the latest when the loop
 *            goes to wait. Completion runs in the context that submitted.
 * Results:   bytes moved (0 at end of file) or 0 where there is nothing to count,
 *            or -errno. Short reads and writes are continued by host_co_rw(), not
 *            by the implementation; the simulator produces them on purpose.
 */
#ifndef LIVEBLK_AIO_HOST_H
#define LIVEBLK_AIO_HOST_H

#include "block/aio.h"
#include <sys/uio.h>

typedef struct HostLoop HostLoop;       /* one per AioContext, the implementation's */
typedef struct HostFile HostFile;       /* an open file or device, any thread */

typedef enum HostOp {
    HOST_READ,          /* iov at offset */
    HOST_WRITE,         /* iov at offset; HOST_FLAG_FUA: durable before completion */
    HOST_FLUSH,         /* all completed writes durable (fdatasync) */
    HOST_ZERO,          /* range reads as zeroes, space kept allocated
                         * (FALLOC_FL_ZERO_RANGE / BLKZEROOUT); HOST_FLAG_MAY_UNMAP: may
                         * give the space back; never falls back to writing: -ENOTSUP */
    HOST_DISCARD,       /* give space back (PUNCH_HOLE / BLKDISCARD); -ENOTSUP */
    HOST_ALLOCATE,      /* allocate space without changing contents (fallocate mode 0) */
    HOST_TRUNCATE,      /* set the length to offset */
    HOST_STATUS,        /* extent at offset: see HostRequest.status */
    HOST_COPY_RANGE,    /* from file/offset to file2/offset2: copy_file_range; -ENOTSUP */
    HOST_STAT,          /* fill .stat */
} HostOp;

enum {
    HOST_FLAG_FUA       = 1 << 0,
    HOST_FLAG_MAY_UNMAP = 1 << 1,
    HOST_FLAG_GUEST     = 1 << 2,   /* latency matters more than throughput */
};

typedef struct HostStat {
    int64_t length_bytes;       /* file size, or device capacity */
    int64_t allocated_bytes;    /* st_blocks * 512 */
    bool is_block_device, is_regular, is_char_device;
    uint32_t logical_block_bytes, physical_block_bytes;  /* devices; else 0 */
    uint32_t direct_align_bytes, direct_mem_align_bytes; /* with O_DIRECT; 1 else */
} HostStat;

typedef struct HostRequest HostRequest;
struct HostRequest {
    HostOp op;
    unsigned flags;
    HostFile *file, *file2;
    int64_t offset, offset2, bytes;
    const struct iovec *iov;    /* READ, WRITE; not changed, valid until completion */
    int niov;
    int64_t ret;
    struct { bool data; int64_t bytes; } status;   /* out: kind and length of the run */
    HostStat stat;                                  /* out */
    void (*complete)(HostRequest *req);             /* in the submitting context */
    void *opaque;
    /* The implementation's: */
    AioContext *ctx;
    struct iovec one;
    STAILQ_ENTRY(HostRequest) next;
    uint64_t private_[4];
};

typedef enum HostLockType { HOST_UNLOCK, HOST_LOCK_SHARED, HOST_LOCK_EXCLUSIVE } HostLockType;

typedef struct HostOps {
    const char *name;
    int64_t (*clock_ns)(QEMUClockType type);
    void (*random_bytes)(void *buf, size_t len);

    /* Loops. wait(): flush the submission batch, sleep until something happens,
     * notify() is called or @timeout_ns passed (-1: forever, 0: only look), then run
     * completions and fd handlers. Returns whether anything ran. */
    HostLoop *(*loop_new)(AioContext *ctx, Error **errp);
    void (*loop_free)(HostLoop *loop);
    bool (*wait)(HostLoop *loop, int64_t timeout_ns);
    void (*notify)(HostLoop *loop);                     /* any thread */
    void (*fd_set)(HostLoop *loop, int fd, IOHandler *rd, IOHandler *wr, void *opaque);
    /* Start a thread that runs @run(@opaque) (an iothread's loop); the simulator
     * drives the loop itself and returns a token only. */
    void *(*thread_start)(const char *name, void (*run)(void *), void *opaque, AioContext *ctx);
    void (*thread_join)(void *thread);

    /* I/O. Returns true when the request completed at once: req->ret is valid and
     * complete() is not called. */
    bool (*submit)(HostLoop *loop, HostRequest *req);
    /* Run @func on a worker; @done(@arg) then runs in @ctx. */
    void (*work)(AioContext *ctx, int (*func)(void *), void *arg,
                 void (*done)(void *opaque, int ret), void *opaque);

    /* Files, main thread, quick. flags: O_RDONLY or O_RDWR | O_DIRECT | O_CREAT |
     * O_EXCL | O_TRUNC ... Returns NULL and sets *ret to -errno. */
    HostFile *(*file_open)(const char *path, int flags, unsigned mode, int *ret);
    void (*file_close)(HostFile *file);
    int (*file_unlink)(const char *path);
    /* Is there a block or character device at @path? A hint for choosing a driver. */
    bool (*path_is_device)(const char *path);
    /* Non-blocking byte-range lock of the open file description; -EAGAIN when
     * another holds it. test: only ask. */
    int (*file_lock)(HostFile *file, int64_t start, int64_t len, HostLockType type, bool test);
    int (*file_stat)(HostFile *file, HostStat *stat);
    int (*file_fd)(HostFile *file);                     /* -1 in the simulator */
} HostOps;

/* The implementation in use; set by aio_init_main() (or by the simulator before). */
extern const HostOps *host_ops;
extern const HostOps host_ops_uring, host_ops_threads;
/* Called before aio_init_main(): use @ops whatever is asked for there. */
void host_register(const HostOps *ops);
/* Choose the implementation, see aio_init_main(). */
int host_select(const char *name, Error **errp);
void host_unselect(void);
/* This program serves nobody: nothing waits for its loop but the work it does itself. What mostly needs no
 * device is then done at once, without a thread (host_inline.c), and no ring is made, which costs more than
 * short work does: the back end is the threads', if nobody asks for the other. Before aio_init_main(). */
void host_serve_nobody(void);
/* True if io_uring works here (kernel, seccomp, limits). */
bool host_uring_available(void);

/* Submit and suspend until complete. Coroutine. Returns req->ret. */
int64_t coroutine_fn host_co_submit(HostRequest *req);
/* Read or write all of @iov at @offset, continuing after short transfers; a read
 * past the end of file gives zeroes. 0 or -errno (-EIO when a write makes no
 * progress). @flags: HOST_FLAG_*. @align_bytes: what the file needs of requests, and this
 * one is (1: nothing); so are those that continue. */
int coroutine_fn host_co_rw(HostFile *file, bool is_write, int64_t offset,
                            const struct iovec *iov, int niov, int64_t bytes, unsigned flags,
                            uint32_t align_bytes);

/* What the host layer did so far, all contexts together, including past ones. */
typedef struct HostStats {
    uint64_t inline_reads;          /* done at once from the page cache */
    uint64_t inline_read_misses;    /* tried at once, not there */
    uint64_t inline_writes;         /* done at once */
    uint64_t inline_slow;           /* of these, those that took so long that we back off */
    uint64_t queued;                /* requests that took the asynchronous way */
    uint64_t pooled;                /* of these, those run by worker threads */
    uint64_t sleeps;                /* turns of a loop that waited */
} HostStats;
void host_stats_get(HostStats *out);

/* Inside the aio layer: */
HostLoop *aio_host_loop(AioContext *ctx);
const IOThreadParams *aio_context_params(AioContext *ctx);
/* Next timer of @ctx in ns from now (-1: none), run due timers, run bottom halves and
 * woken coroutines; the simulator uses them to drive a context by hand. */
int64_t aio_next_timer_ns(AioContext *ctx);
bool aio_run_timers(AioContext *ctx);
bool aio_run_bhs(AioContext *ctx);
bool aio_has_bhs(AioContext *ctx);
/* Make @ctx the current thread's context (the simulator's switch); returns the
 * one before. */
AioContext *aio_set_current(AioContext *ctx);

#endif

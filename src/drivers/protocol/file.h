/* SPDX-License-Identifier: MIT */
/* file.h: the state of a `file` or `host_device` node, for the files file*.c only.
 *
 *   file.c         open, close, reopen, permissions, limits, names
 *   file_io.c      requests
 *   file_lock.c    byte-range locks against other processes
 *   file_create.c  blockdev-create
 *
 * Descriptors. Without auto-read-only one descriptor serves everything. With it, the
 * file is opened for reading only, and a second descriptor for writing while any
 * parent may write: `file` is where I/O goes, `ro_file` stays open beside it. The
 * locks are always on `lock_file`, which is whichever was opened first.
 */
#ifndef LIVEBLK_DRIVERS_FILE_H
#define LIVEBLK_DRIVERS_FILE_H

#include <pthread.h>
#include "aio/host.h"
#include "block/block.h"

typedef struct FileState {
    /* Constant while requests run. */
    char *path;
    HostFile *file;             /* where I/O goes; atomic: see file_use_writable() */
    HostFile *ro_file;          /* auto-read-only: the one for reading; else NULL */
    HostFile *lock_file;        /* not owned: file or ro_file */
    HostFile *pending_file;     /* between check_perm and set_perm/abort: to write with */
    bool is_device;             /* host_device */
    bool writable;              /* `file` was opened for writing */
    bool direct;                /* O_DIRECT */
    bool auto_rdonly;           /* follow the parents: see above */
    bool use_locks;
    uint32_t align_bytes, mem_align_bytes;      /* of requests and buffers; 1: none */
    BlockdevAioOptions aio;
    OnOffAuto locking;

    /* What the parents have (perm_set, shared_set) and the locks held on lock_file, as
     * BLK_PERM_* sets. Main thread. */
    uint64_t perm_set, shared_set;
    uint64_t locked_perm, locked_unshared;

    /* What the file system turned out not to support; atomic, only ever set. */
    bool no_discard, no_zero_unmap, no_zero_keep;
    uint64_t discards_done, discards_failed, discarded_bytes;  /* atomic */
    int flush_error;            /* atomic: -errno of a failed flush; sticks */

    /* The last run of data seen by block status. Holes are not kept, so that a write
     * never makes it wrong: data is always a true answer. */
    pthread_mutex_t extent_lock;
    int64_t data_start, data_end;
} FileState;

/* ---- file_lock.c; main thread ---- */
/* Take the locks for (@perm, @shared) beside those held, and see that no other process
 * holds one that excludes them. On failure nothing is changed. */
int file_lock_prepare(FileState *s, uint64_t perm, uint64_t shared, Error **errp);
/* Hold exactly the locks for (@perm, @shared); only drops what is held too much. */
void file_lock_settle(FileState *s, uint64_t perm, uint64_t shared);
/* Take what is held on lock_file on @file too, for a reopen. */
int file_lock_copy(FileState *s, HostFile *file);

/* ---- file_io.c ---- */
int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags);
int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn file_co_flush(BlockDriverState *bs);
int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
int64_t coroutine_fn file_co_getlength(BlockDriverState *bs);
int64_t coroutine_fn file_co_get_allocated_file_size(BlockDriverState *bs);
int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file);
int coroutine_fn file_co_copy_range(BlockDriverState *src, int64_t src_offset,
                                    BlockDriverState *dst, int64_t dst_offset,
                                    int64_t bytes, BdrvRequestFlags flags);
/* Grow or shrink @file from @old_bytes to @bytes, making the new space as @prealloc says. */
int coroutine_fn file_co_resize(HostFile *file, int64_t old_bytes, int64_t bytes,
                                PreallocMode prealloc, Error **errp);

/* ---- file_create.c ---- */
int coroutine_fn file_co_create(BlockdevCreateOptions *opts, Error **errp);

#endif

/* SPDX-License-Identifier: MIT */
/* file.c: `file` (regular files) and `host_device` (block and character devices).
 *
 * All access goes through the host seam. This file opens, reopens and closes; requests
 * are in file_io.c, locks against other processes in file_lock.c; file.h says how the
 * descriptors are used.
 *
 * Runs on: the main thread. Suspends: file_co_open() only, to find the alignment that
 * O_DIRECT asks for.
 *
 * The `aio` option is checked as the peer does. How requests are submitted is decided
 * once per process (host.h), since one loop serves all nodes.
 */
#include "base/osdep.h"
#include <fcntl.h>
#include "drivers/drivers.h"
#include "drivers/protocol/file.h"

#define DIRECT_ALIGN_MAX 4096

/* ---- opening ---- */

static HostFile *file_open_host(const char *path, bool writable, bool direct, Error **errp)
{
    int flags = (writable ? O_RDWR : O_RDONLY) | (direct ? O_DIRECT : 0);
    int ret, fd;
    /* O_NONBLOCK: opening a FIFO must not hang the main thread. */
    HostFile *file = host_ops->file_open(path, flags | O_NONBLOCK, 0, &ret);

    if (!file) {
        if (direct && ret == -EINVAL) {
            error_setg(errp, "Could not open '%s': filesystem does not support O_DIRECT", path);
        } else {
            error_setg_errno(errp, -ret, "Could not open '%s'", path);
        }
        errno = -ret;
        return NULL;
    }
    fd = host_ops->file_fd(file);
    if (fd >= 0) {
        fcntl(fd, F_SETFL, flags & O_DIRECT);
    }
    return file;
}

/* Is it the kind of file the driver is for? */
static int file_check_kind(FileState *s, HostFile *file, HostStat *stat, Error **errp)
{
    int ret = host_ops->file_stat(file, stat);

    if (ret < 0 && ret != -EISDIR) {
        error_setg_errno(errp, -ret, "Could not stat file");
        return ret;
    }
    if (ret == -EISDIR) {
        stat->is_regular = stat->is_block_device = stat->is_char_device = false;
    }
    if (!s->is_device && !stat->is_regular) {
        error_setg(errp, "'file' driver requires '%s' to be a regular file", s->path);
        return -EINVAL;
    }
    if (s->is_device && !stat->is_block_device && !stat->is_char_device) {
        error_setg(errp, "'host_device' driver requires '%s' to be either a character or "
                   "block device", s->path);
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn file_co_try_read(HostFile *file, void *buf, uint32_t bytes)
{
    struct iovec iov = { buf, bytes };
    HostRequest req = {
        .op = HOST_READ, .file = file, .bytes = bytes, .iov = &iov, .niov = 1,
    };

    return host_co_submit(&req);
}

/* The smallest request that O_DIRECT accepts. An empty file accepts everything for
 * now, so there the largest is taken. */
static void coroutine_fn file_co_probe_alignment(FileState *s, HostFile *file,
                                                 const HostStat *stat, uint32_t *align,
                                                 uint32_t *mem_align)
{
    *align = *mem_align = 1;
    if (!s->direct) {
        return;
    }
    void *buf = g_aligned_alloc(1, DIRECT_ALIGN_MAX, DIRECT_ALIGN_MAX);

    *align = MAX(stat->direct_align_bytes, 512);
    while (*align < DIRECT_ALIGN_MAX && file_co_try_read(file, buf, *align) <= 0) {
        *align *= 2;
    }
    *mem_align = MAX(stat->direct_mem_align_bytes, 512);
    g_aligned_free(buf);
}

static int file_check_aio(BlockdevAioOptions aio, bool direct, Error **errp)
{
    if (aio == BLOCKDEV_AIO_OPTIONS_NATIVE && !direct) {
        error_setg(errp, "aio=native was specified, but it requires "
                   "cache.direct=on, which was not specified.");
        return -EINVAL;
    }
    return 0;
}

static const BlockdevOptionsFile *file_options(const BlockdevOptions *opts)
{
    return opts->driver == BLOCKDEV_DRIVER_HOST_DEVICE ? &opts->u.host_device : &opts->u.file;
}

static int coroutine_fn file_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     int flags, Error **errp)
{
    const BlockdevOptionsFile *o = file_options(opts);
    FileState *s = bs->opaque;
    HostStat stat;
    int ret;

    if (!o->filename || !*o->filename) {
        error_setg(errp, "The '%s' block driver requires a file name", bs->drv->format_name);
        return -EINVAL;
    }
    s->is_device = opts->driver == BLOCKDEV_DRIVER_HOST_DEVICE;
    s->direct = flags & BDRV_O_NOCACHE;
    s->auto_rdonly = (flags & BDRV_O_RDWR) && (flags & BDRV_O_AUTO_RDONLY);
    s->writable = (flags & BDRV_O_RDWR) && !s->auto_rdonly;
    s->locking = o->has_locking ? o->locking : ON_OFF_AUTO_AUTO;
    s->use_locks = s->locking != ON_OFF_AUTO_OFF && !(flags & BDRV_O_FORCE_SHARE);
    s->aio = o->has_aio ? o->aio : BLOCKDEV_AIO_OPTIONS_THREADS;
    ret = file_check_aio(s->aio, s->direct, errp);
    if (ret < 0) {
        return ret;
    }
    s->path = g_strdup(o->filename);
    s->file = file_open_host(s->path, s->writable, s->direct, errp);
    if (!s->file) {
        ret = -errno;
        g_free(s->path);
        return ret;
    }
    ret = file_check_kind(s, s->file, &stat, errp);
    if (ret < 0) {
        host_ops->file_close(s->file);
        g_free(s->path);
        return ret;
    }
    file_co_probe_alignment(s, s->file, &stat, &s->align_bytes, &s->mem_align_bytes);
    bs->supported_write_flags = bs->drv->supported_write_flags;
    bs->supported_zero_flags = bs->drv->supported_zero_flags;
    s->lock_file = s->file;
    s->shared_set = BLK_PERM_ALL;
    pthread_mutex_init(&s->extent_lock, NULL);
    return 0;
}

static void coroutine_fn file_co_close(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    if (s->pending_file) {
        host_ops->file_close(s->pending_file);
    }
    if (s->ro_file && s->ro_file != s->file) {
        host_ops->file_close(s->ro_file);
    }
    host_ops->file_close(s->file);
    pthread_mutex_destroy(&s->extent_lock);
    g_free(s->path);
}

/* ---- permissions ---- */

#define PERMS_THAT_WRITE (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE)

static int file_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    FileState *s = bs->opaque;

    if (s->auto_rdonly && !s->writable && !s->pending_file && (perm & PERMS_THAT_WRITE)) {
        s->pending_file = file_open_host(s->path, true, s->direct, errp);
        if (!s->pending_file) {
            return -errno;
        }
    }
    return file_lock_prepare(s, perm, shared, errp);
}

static void file_drop_pending(FileState *s)
{
    if (s->pending_file) {
        host_ops->file_close(s->pending_file);
        s->pending_file = NULL;
    }
}

static void file_abort_perm_update(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    file_drop_pending(s);
    file_lock_settle(s, s->perm_set, s->shared_set);
}

/* I/O goes to @file from now on. The one for reading stays open: requests in other
 * threads may be using it. */
static void file_use_writable(FileState *s, HostFile *file)
{
    s->ro_file = s->file;
    s->writable = true;
    __atomic_store_n(&s->file, file, __ATOMIC_RELEASE);
}

/* The last writer has gone. Only where no request can be using the descriptor; else it
 * stays open until the next change. */
static void file_stop_writable(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    HostFile *file = s->file;

    if (!__atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST) ||
        __atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST)) {
        return;
    }
    s->writable = false;
    __atomic_store_n(&s->file, s->ro_file, __ATOMIC_RELEASE);
    s->ro_file = NULL;
    host_ops->file_close(file);
}

static void file_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    FileState *s = bs->opaque;

    if (s->auto_rdonly && (perm & PERMS_THAT_WRITE) && s->pending_file) {
        file_use_writable(s, s->pending_file);
        s->pending_file = NULL;
    }
    file_drop_pending(s);
    s->perm_set = perm;
    s->shared_set = shared;
    file_lock_settle(s, perm, shared);
    if (s->auto_rdonly && s->writable && !(perm & PERMS_THAT_WRITE)) {
        file_stop_writable(bs);
    }
}

/* ---- reopen ---- */

typedef struct FileReopen {
    HostFile *file;             /* NULL: the descriptors stay */
    HostFile *ro_file;          /* auto-read-only with a writer: beside `file` */
    bool auto_rdonly, writable, direct;
    uint32_t align_bytes, mem_align_bytes;
} FileReopen;

static int file_reopen_check_options(FileState *s, const BlockdevOptionsFile *o, Error **errp)
{
    const char *name = NULL;

    if (strcmp(o->filename, s->path)) {
        name = "filename";
    } else if ((o->has_locking ? o->locking : ON_OFF_AUTO_AUTO) != s->locking) {
        name = "locking";
    } else if ((o->has_aio ? o->aio : BLOCKDEV_AIO_OPTIONS_THREADS) != s->aio) {
        name = "aio";
    }
    if (name) {
        error_setg(errp, "Cannot change the option '%s'", name);
        return -EINVAL;
    }
    return 0;
}

/* Open what @r asks for. */
static int file_reopen_open(FileState *s, FileReopen *r, bool has_writer, Error **errp)
{
    HostFile *base = file_open_host(s->path, r->writable, r->direct, errp);
    HostFile *rw;

    if (!base) {
        return -errno;
    }
    r->file = base;
    if (!r->auto_rdonly) {
        return 0;
    }
    /* A parent may get the right to write in this same transaction: be ready. Where that
     * fails and nobody writes yet, stay read-only. */
    rw = file_open_host(s->path, true, r->direct, has_writer ? errp : NULL);
    if (rw) {
        r->ro_file = base;
        r->file = rw;
        r->writable = true;
    } else if (has_writer) {
        host_ops->file_close(base);
        return -errno;
    }
    return 0;
}

static int coroutine_fn file_co_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    FileState *s = state->bs->opaque;
    g_autofree FileReopen *r = g_new0(FileReopen, 1);
    FileState probe;
    HostStat stat;
    int ret = file_reopen_check_options(s, file_options(state->opts), errp);

    r->direct = state->flags & BDRV_O_NOCACHE;
    if (!ret) {
        ret = file_check_aio(s->aio, r->direct, errp);
    }
    if (ret < 0) {
        return ret;
    }
    r->auto_rdonly = (state->flags & BDRV_O_RDWR) && (state->flags & BDRV_O_AUTO_RDONLY);
    r->writable = (state->flags & BDRV_O_RDWR) && !r->auto_rdonly;
    r->align_bytes = s->align_bytes;
    r->mem_align_bytes = s->mem_align_bytes;
    if (r->direct != s->direct || r->auto_rdonly != s->auto_rdonly ||
        (!r->auto_rdonly && r->writable != s->writable)) {
        ret = file_reopen_open(s, r, s->perm_set & PERMS_THAT_WRITE, errp);
        if (ret < 0) {
            return ret;
        }
        probe = (FileState) { .direct = r->direct };
        host_ops->file_stat(r->file, &stat);
        file_co_probe_alignment(&probe, r->file, &stat, &r->align_bytes, &r->mem_align_bytes);
    }
    state->opaque = g_steal_pointer(&r);
    return 0;
}

static void coroutine_fn file_co_reopen_commit(BDRVReopenState *state)
{
    FileState *s = state->bs->opaque;
    g_autofree FileReopen *r = g_steal_pointer(&state->opaque);
    HostFile *base;

    if (!r->file) {
        return;
    }
    base = r->ro_file ? r->ro_file : r->file;
    if (s->use_locks && file_lock_copy(s, base) < 0) {
        warn_report("Could not keep the locks of '%s' while reopening it", s->path);
    }
    if (s->ro_file && s->ro_file != s->file) {
        host_ops->file_close(s->ro_file);
    }
    host_ops->file_close(s->file);
    s->lock_file = base;
    s->file = r->file;
    s->ro_file = r->ro_file;
    s->writable = r->writable;
    s->direct = r->direct;
    s->auto_rdonly = r->auto_rdonly;
    s->align_bytes = r->align_bytes;
    s->mem_align_bytes = r->mem_align_bytes;
    s->flush_error = 0;
}

static void coroutine_fn file_co_reopen_abort(BDRVReopenState *state)
{
    FileReopen *r = state->opaque;

    state->opaque = NULL;
    if (!r) {
        return;
    }
    if (r->ro_file) {
        host_ops->file_close(r->ro_file);
    }
    if (r->file) {
        host_ops->file_close(r->file);
    }
    g_free(r);
}

/* ---- limits and information ---- */

static void file_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    FileState *s = bs->opaque;
    HostStat stat;

    bl->request_alignment = s->align_bytes;
    bl->min_mem_alignment = s->mem_align_bytes;
    bl->opt_mem_alignment = MAX(s->mem_align_bytes, 4096);
    bl->max_iov = IOV_MAX;
    if (s->is_device && !host_ops->file_stat(s->file, &stat) && stat.is_block_device) {
        /* The kernel refuses to zero or discard parts of a sector. */
        bl->pdiscard_alignment = bl->pwrite_zeroes_alignment =
            MAX(stat.logical_block_bytes, s->align_bytes);
    }
}

static void file_refresh_filename(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    g_free(bs->exact_filename);
    bs->exact_filename = g_strdup(s->path);
}

static BlockStatsSpecific *file_get_specific_stats(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    BlockStatsSpecific *stats = g_new0(BlockStatsSpecific, 1);
    BlockStatsSpecificFile *f = &stats->u.file;

    stats->driver = bs->drv->schema_driver;     /* both cases are of one type */
    f->discard_nb_ok = __atomic_load_n(&s->discards_done, __ATOMIC_RELAXED);
    f->discard_nb_failed = __atomic_load_n(&s->discards_failed, __ATOMIC_RELAXED);
    f->discard_bytes_ok = __atomic_load_n(&s->discarded_bytes, __ATOMIC_RELAXED);
    return stats;
}

static ImageInfoSpecific *file_get_specific_info(BlockDriverState *bs, Error **errp)
{
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);

    info->type = IMAGE_INFO_SPECIFIC_KIND_FILE;
    info->u.file.data = g_new0(ImageInfoSpecificFile, 1);
    return info;
}

static int file_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return 0;
}

#define FILE_DRIVER                                                         \
    .kind = BLOCK_DRIVER_PROTOCOL,                                          \
    .instance_size = sizeof(FileState),                                     \
    .supported_write_flags = BDRV_REQ_FUA | BDRV_REQ_REGISTERED_BUF,        \
    .supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK,      \
    .co_open = file_co_open,                                                \
    .co_close = file_co_close,                                              \
    .co_reopen_prepare = file_co_reopen_prepare,                            \
    .co_reopen_commit = file_co_reopen_commit,                              \
    .co_reopen_abort = file_co_reopen_abort,                                \
    .check_perm = file_check_perm,                                          \
    .set_perm = file_set_perm,                                              \
    .abort_perm_update = file_abort_perm_update,                            \
    .refresh_limits = file_refresh_limits,                                  \
    .refresh_filename = file_refresh_filename,                              \
    .get_info = file_get_info,                                              \
    .get_specific_info = file_get_specific_info,                            \
    .get_specific_stats = file_get_specific_stats,                          \
    .co_preadv = file_co_preadv,                                            \
    .co_pwritev = file_co_pwritev,                                          \
    .co_pwrite_zeroes = file_co_pwrite_zeroes,                              \
    .co_pdiscard = file_co_pdiscard,                                        \
    .co_flush = file_co_flush,                                              \
    .co_truncate = file_co_truncate,                                        \
    .co_getlength = file_co_getlength,                                      \
    .co_get_allocated_file_size = file_co_get_allocated_file_size,          \
    .co_block_status = file_co_block_status,                                \
    .co_copy_range = file_co_copy_range

const BlockDriver bdrv_file = {
    .format_name = "file",
    .protocol_name = "file",
    .schema_driver = BLOCKDEV_DRIVER_FILE,
    .co_create = file_co_create,
    FILE_DRIVER
};

const BlockDriver bdrv_host_device = {
    .format_name = "host_device",
    .protocol_name = "host_device",
    .fixed_length = true,
    .schema_driver = BLOCKDEV_DRIVER_HOST_DEVICE,
    FILE_DRIVER
};

/* SPDX-License-Identifier: MIT */
/* file_io.c: requests on `file` and `host_device`; see file.h.
 *
 * Runs on: the request's thread, several at once. What a file system cannot do is found
 * out by trying, once, and remembered in the node.
 */
#include "base/osdep.h"
#include "drivers/protocol/file.h"

#define INLINE_IOV 16

static inline HostFile *file_current(FileState *s)
{
    return __atomic_load_n(&s->file, __ATOMIC_ACQUIRE);
}

static inline bool flag_is_set(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static inline void flag_set(bool *flag)
{
    __atomic_store_n(flag, true, __ATOMIC_RELAXED);
}

static int64_t coroutine_fn file_co_range_op(HostFile *file, HostOp op, int64_t offset,
                                             int64_t bytes, unsigned flags)
{
    HostRequest req = {
        .op = op, .flags = flags, .file = file, .offset = offset, .bytes = bytes,
    };

    return host_co_submit(&req);
}

/* ---- read and write ---- */

/* O_DIRECT is particular about the memory too. */
static bool iov_is_aligned(const struct iovec *iov, int niov, uint32_t align)
{
    for (int i = 0; i < niov; i++) {
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (align - 1)) {
            return false;
        }
    }
    return true;
}

static int coroutine_fn file_co_rw_bounce(FileState *s, bool is_write, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov,
                                          size_t qiov_offset, unsigned flags)
{
    void *buf = g_aligned_alloc(1, bytes, MAX(s->mem_align_bytes, 4096));
    struct iovec iov = { buf, bytes };
    int ret;

    if (is_write) {
        qemu_iovec_to_buf(qiov, qiov_offset, buf, bytes);
    }
    ret = host_co_rw(file_current(s), is_write, offset, &iov, 1, bytes, flags, s->align_bytes);
    if (!ret && !is_write) {
        qemu_iovec_from_buf(qiov, qiov_offset, buf, bytes);
    }
    g_aligned_free(buf);
    return ret;
}

static int coroutine_fn file_co_rw(FileState *s, bool is_write, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset,
                                   BdrvRequestFlags bdrv_flags)
{
    unsigned flags = (bdrv_flags & BDRV_REQ_FUA ? HOST_FLAG_FUA : 0) |
                     (bdrv_flags & BDRV_REQ_BULK ? 0 : HOST_FLAG_GUEST);
    size_t head, tail;
    int niov, ret;
    struct iovec *iov = qemu_iovec_slice(qiov, qiov_offset, bytes, &head, &tail, &niov);

    if (likely(!head && !tail)) {
        if (unlikely(s->direct) && !iov_is_aligned(iov, niov, s->mem_align_bytes)) {
            return file_co_rw_bounce(s, is_write, offset, bytes, qiov, qiov_offset, flags);
        }
        return host_co_rw(file_current(s), is_write, offset, iov, niov, bytes, flags, s->align_bytes);
    }

    struct iovec few[INLINE_IOV];
    struct iovec *part = niov <= INLINE_IOV ? few : g_new(struct iovec, niov);

    memcpy(part, iov, niov * sizeof(*iov));
    part[0].iov_base = (char *)part[0].iov_base + head;
    part[0].iov_len -= head;
    part[niov - 1].iov_len -= tail;
    if (s->direct && !iov_is_aligned(part, niov, s->mem_align_bytes)) {
        ret = file_co_rw_bounce(s, is_write, offset, bytes, qiov, qiov_offset, flags);
    } else {
        ret = host_co_rw(file_current(s), is_write, offset, part, niov, bytes, flags, s->align_bytes);
    }
    if (part != few) {
        g_free(part);
    }
    return ret;
}

int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return file_co_rw(bs->opaque, false, offset, bytes, qiov, qiov_offset,
                      flags & ~BDRV_REQ_FUA);
}

int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return file_co_rw(bs->opaque, true, offset, bytes, qiov, qiov_offset, flags);
}

int coroutine_fn file_co_flush(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    int ret = __atomic_load_n(&s->flush_error, __ATOMIC_RELAXED);

    /* After a failed fsync the kernel may have dropped the dirty pages, and the next one
     * would succeed without the data. So never claim success again. */
    if (ret) {
        return ret;
    }
    ret = file_co_range_op(file_current(s), HOST_FLUSH, 0, 0, 0);
    if (ret < 0 && !s->direct) {
        __atomic_store_n(&s->flush_error, ret, __ATOMIC_RELAXED);
    }
    return ret;
}

/* ---- zeroes and discard ---- */

static void file_forget_extent(FileState *s)
{
    pthread_mutex_lock(&s->extent_lock);
    s->data_start = s->data_end = 0;
    pthread_mutex_unlock(&s->extent_lock);
}

/* Zeroing keeps the length of the file. Where the range ends behind it, write the last
 * block: setting the length instead could undo what another request appended. */
static int coroutine_fn file_co_extend_to(BlockDriverState *bs, int64_t offset, int64_t end)
{
    FileState *s = bs->opaque;
    int64_t bytes = MIN(end - offset, s->align_bytes);

    if (end <= __atomic_load_n(&bs->total_bytes, __ATOMIC_ACQUIRE)) {
        return 0;
    }
    void *buf = g_aligned_alloc0(1, MAX(bytes, 512), MAX(s->mem_align_bytes, 512));
    struct iovec iov = { buf, bytes };
    int ret = host_co_rw(file_current(s), true, end - bytes, &iov, 1, bytes, HOST_FLAG_GUEST, s->align_bytes);

    g_aligned_free(buf);
    return ret;
}

/* Where zeroing in place is not supported: a hole, allocated again. */
static int coroutine_fn file_co_zero_by_hole(FileState *s, HostFile *file, int64_t offset,
                                             int64_t bytes)
{
    int ret;

    if (s->is_device || flag_is_set(&s->no_discard)) {
        return -ENOTSUP;
    }
    ret = file_co_range_op(file, HOST_DISCARD, offset, bytes, 0);
    return ret < 0 ? ret : file_co_range_op(file, HOST_ALLOCATE, offset, bytes, 0);
}

int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags)
{
    FileState *s = bs->opaque;
    HostFile *file = file_current(s);
    bool unmap = flags & BDRV_REQ_MAY_UNMAP;
    bool *unsupported = unmap ? &s->no_zero_unmap : &s->no_zero_keep;
    int ret = -ENOTSUP;

    if (!flag_is_set(unsupported)) {
        ret = file_co_range_op(file, HOST_ZERO, offset, bytes, unmap ? HOST_FLAG_MAY_UNMAP : 0);
        if (ret == -ENOTSUP) {
            flag_set(unsupported);
        }
    }
    if (ret == -ENOTSUP) {
        ret = file_co_zero_by_hole(s, file, offset, bytes);
    }
    file_forget_extent(s);
    return ret < 0 ? ret : file_co_extend_to(bs, offset, offset + bytes);
}

int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FileState *s = bs->opaque;
    int ret;

    ret = flag_is_set(&s->no_discard) ? -ENOTSUP
        : file_co_range_op(file_current(s), HOST_DISCARD, offset, bytes, 0);
    if (ret == -ENOTSUP) {
        flag_set(&s->no_discard);
    }
    file_forget_extent(s);
    if (ret < 0) {
        __atomic_fetch_add(&s->discards_failed, 1, __ATOMIC_RELAXED);
        return ret;
    }
    __atomic_fetch_add(&s->discards_done, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&s->discarded_bytes, bytes, __ATOMIC_RELAXED);
    return ret;
}

/* ---- length ---- */

int64_t coroutine_fn file_co_getlength(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    HostRequest req = { .op = HOST_STAT, .file = file_current(s) };
    int64_t ret = host_co_submit(&req);

    return ret < 0 ? ret : req.stat.length_bytes;
}

int64_t coroutine_fn file_co_get_allocated_file_size(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    HostRequest req = { .op = HOST_STAT, .file = file_current(s) };
    int64_t ret = host_co_submit(&req);

    return ret < 0 ? ret : req.stat.allocated_bytes;
}

static int coroutine_fn file_co_write_zero_data(HostFile *file, int64_t offset, int64_t end)
{
    size_t chunk = 1 * MiB;
    void *buf = g_aligned_alloc0(1, chunk, 4096);
    int ret = 0;

    while (!ret && offset < end) {
        struct iovec iov = { buf, MIN((int64_t)chunk, end - offset) };

        ret = host_co_rw(file, true, offset, &iov, 1, iov.iov_len, 0, 1);
        offset += iov.iov_len;
    }
    g_aligned_free(buf);
    return ret;
}

static int coroutine_fn file_co_grow(HostFile *file, int64_t old_bytes, int64_t bytes,
                                     PreallocMode prealloc, Error **errp)
{
    int ret;

    if (prealloc == PREALLOC_MODE_OFF) {
        ret = file_co_range_op(file, HOST_TRUNCATE, bytes, 0, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not resize file");
        }
        return ret;
    }
    if (prealloc == PREALLOC_MODE_FALLOC) {
        ret = bytes == old_bytes ? 0 : file_co_range_op(file, HOST_ALLOCATE, old_bytes, bytes - old_bytes, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not preallocate new data");
        }
    } else {
        ret = file_co_range_op(file, HOST_TRUNCATE, bytes, 0, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not resize file");
            return ret;
        }
        ret = file_co_write_zero_data(file, old_bytes, bytes);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write zeros for preallocation");
        } else {
            ret = file_co_range_op(file, HOST_FLUSH, 0, 0, 0);
            if (ret < 0) {
                error_setg_errno(errp, -ret, "Could not flush file to disk");
            }
        }
    }
    if (ret < 0) {
        /* Half grown is no use to anybody; if this fails too, the first error says it. */
        file_co_range_op(file, HOST_TRUNCATE, old_bytes, 0, 0);
    }
    return ret;
}

int coroutine_fn file_co_resize(HostFile *file, int64_t old_bytes, int64_t bytes,
                                PreallocMode prealloc, Error **errp)
{
    int ret;

    if (prealloc == PREALLOC_MODE_METADATA) {
        error_setg(errp, "Unsupported preallocation mode: %s", PreallocMode_str(prealloc));
        return -ENOTSUP;
    }
    if (bytes >= old_bytes) {
        return file_co_grow(file, old_bytes, bytes, prealloc, errp);
    }
    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation can't be used for shrinking files");
        return -EINVAL;
    }
    ret = file_co_range_op(file, HOST_TRUNCATE, bytes, 0, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not resize file");
    }
    return ret;
}

int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    FileState *s = bs->opaque;
    int64_t length = file_co_getlength(bs);

    if (length < 0) {
        error_setg_errno(errp, -length, "Failed to get the length of '%s'", s->path);
        return length;
    }
    file_forget_extent(s);
    if (!s->is_device) {
        return file_co_resize(file_current(s), length, offset, prealloc, errp);
    }
    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation mode '%s' unsupported for this device",
                   PreallocMode_str(prealloc));
        return -ENOTSUP;
    }
    if (offset != length && exact) {
        error_setg(errp, "Cannot resize device files");
        return -ENOTSUP;
    }
    if (offset > length) {
        error_setg(errp, "Cannot grow device files");
        return -EINVAL;
    }
    return 0;
}

/* ---- block status ---- */

static bool file_extent_known(FileState *s, int64_t offset, int64_t *end)
{
    bool known;

    pthread_mutex_lock(&s->extent_lock);
    known = offset >= s->data_start && offset < s->data_end;
    *end = s->data_end;
    pthread_mutex_unlock(&s->extent_lock);
    return known;
}

int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file)
{
    FileState *s = bs->opaque;
    HostRequest req = { .op = HOST_STATUS, .file = file_current(s), .offset = offset };
    const int data = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED;
    int64_t end;

    *map = offset;
    *file = bs;
    *pnum = bytes;
    if (!want_zero || s->is_device) {
        return data;
    }
    if (file_extent_known(s, offset, &end)) {
        *pnum = MIN(bytes, end - offset);
        return data;
    }
    req.bytes = MAX(bytes, __atomic_load_n(&bs->total_bytes, __ATOMIC_RELAXED) - offset);
    if (host_co_submit(&req) < 0) {
        return data;
    }
    if (!req.status.data) {
        /* Whole blocks only; the hole behind the end of the file ends with the node. */
        int64_t hole = QEMU_ALIGN_DOWN(req.status.bytes, s->align_bytes);

        if (hole > 0) {
            *pnum = MIN(bytes, hole);
            return BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED;
        }
        *pnum = MIN(bytes, s->align_bytes);
        return data;
    }
    end = offset + ROUND_UP(req.status.bytes, (int64_t)s->align_bytes);
    pthread_mutex_lock(&s->extent_lock);
    s->data_start = offset;
    s->data_end = end;
    pthread_mutex_unlock(&s->extent_lock);
    *pnum = MIN(bytes, end - offset);
    return data;
}

/* ---- copy offload ---- */

int coroutine_fn file_co_copy_range(BlockDriverState *src, int64_t src_offset,
                                    BlockDriverState *dst, int64_t dst_offset,
                                    int64_t bytes, BdrvRequestFlags flags)
{
    if (src->drv->co_copy_range != file_co_copy_range) {
        return -ENOTSUP;
    }
    FileState *from = src->opaque, *to = dst->opaque;
    HostRequest req = {
        .op = HOST_COPY_RANGE, .file = file_current(from), .file2 = file_current(to),
    };

    for (int64_t done = 0; done < bytes; done += req.ret) {
        req.offset = src_offset + done;
        req.offset2 = dst_offset + done;
        req.bytes = bytes - done;
        host_co_submit(&req);
        if (req.ret < 0) {
            return req.ret;
        }
        if (req.ret == 0) {     /* behind the end of the source: zeroes, which are not ours to make */
            return -ENOTSUP;
        }
    }
    return 0;
}

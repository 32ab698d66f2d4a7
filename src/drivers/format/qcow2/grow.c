/* SPDX-License-Identifier: MIT */
/* grow.c: the length of the disk.
 *
 * The header's new length is written last, when all that it makes visible is in order; a
 * larger L1 table is complete and durable before the header points to it.
 *
 * Runs on: the context of the caller; the wrapper lets no other request overlap what is
 * added or taken away.
 */
#include "drivers/format/qcow2/overlap.h"

/* ---- L1 ---- */

int coroutine_fn qcow2_co_write_l1(BlockDriverState *bs, uint64_t place, const uint64_t *table, uint32_t n)
{
    uint64_t bytes = n * 8ULL;
    uint64_t *copy = qemu_try_blockalign(bs->file->bs, bytes);

    if (!copy) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        copy[i] = GUINT64_TO_BE(table[i]);
    }

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L1_GROW_WRITE_TABLE);
    int ret = bdrv_co_pwrite(bs->file, place, bytes, copy, 0);

    qemu_vfree(copy);
    return ret ? ret : bdrv_co_flush(bs->file->bs);
}

/* Exchange the active table with (*table, *size, *place). `lock` held. */
static void l1_swap(Qcow2State *s, uint64_t **table, uint32_t *size, uint64_t *place)
{
    uint64_t *t = s->l1_table, p = s->l1_offset;
    uint32_t n = s->l1_size;

    s->l1_table = *table;
    s->l1_size = *size;
    s->l1_offset = *place;
    *table = t;
    *size = n;
    *place = p;
}

/* l1_lock and commit_lock held: no entry changes, and none is being written. */
static int coroutine_fn l1_co_move(BlockDriverState *bs, uint64_t place, uint32_t size)
{
    Qcow2State *s = bs->opaque;
    uint64_t *table = g_new0(uint64_t, size);
    int ret = qcow2_co_commit_locked(bs, false);

    if (!ret) {
        memcpy(table, s->l1_table, s->l1_size * 8ULL);
        ret = qcow2_co_write_l1(bs, place, table, size);
    }
    if (!ret) {
        qcow2_lock(s);
        l1_swap(s, &table, &size, &place);
        qcow2_unlock(s);
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L1_GROW_ACTIVATE_TABLE);
        ret = qcow2_co_write_header(bs);
        if (!ret) {
            ret = bdrv_co_flush(bs->file->bs);
        }
        qcow2_lock(s);
        if (ret < 0) {
            /* Either table is complete now; but which one the header has is not known. */
            l1_swap(s, &table, &size, &place);
            s->corrupt = s->header_lost = true;
        } else {
            qcow2_overlap_add(s, OVERLAP_ACTIVE_L1, s->l1_offset >> s->cluster_bits,
                              DIV_ROUND_UP(s->l1_size * 8ULL, s->cluster_size));
        }
        if (ret >= 0 && size) {
            qcow2_free_clusters(s, place >> s->cluster_bits,
                                DIV_ROUND_UP(size * 8ULL, s->cluster_size), false);
        }
        qcow2_unlock(s);
    }
    g_free(table);
    return ret;
}

int coroutine_fn qcow2_co_l1_grow(BlockDriverState *bs, uint64_t size)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster;
    int ret;

    if (size * 8 > QCOW2_MAX_L1_BYTES) {
        return -EFBIG;
    }
    qemu_co_mutex_lock(&s->l1_lock);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L1_GROW_ALLOC_TABLE);
    ret = qcow2_co_alloc_at_end(bs, DIV_ROUND_UP(size * 8, s->cluster_size), &cluster);
    if (!ret) {
        qemu_co_mutex_lock(&s->commit_lock);
        ret = l1_co_move(bs, cluster << s->cluster_bits, size);
        qemu_co_mutex_unlock(&s->commit_lock);
    }
    qemu_co_mutex_unlock(&s->l1_lock);
    return ret;
}

/* ---- zeroes in what is added ---- */

static int coroutine_fn zero_co_by_write(BlockDriverState *bs, uint64_t from, uint64_t to)
{
    void *buf = g_malloc0(to - from);
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, to - from);
    int ret = qcow2_co_pwritev(bs, from, to - from, &qiov, 0, 0);

    g_free(buf);
    return ret;
}

/* What comes behind the old end reads as zeroes: the rest of its last cluster, which may hold
 * anything after an earlier shrink, what a longer backing file would show, and clusters that are mapped there: of a shrink
 * that failed in the header and was followed by writes and a crash, or of a machine's state. But a raw data file is the
 * disk, whatever it holds. */
static int coroutine_fn zero_co_added(BlockDriverState *bs, uint64_t from, uint64_t to)
{
    Qcow2State *s = bs->opaque;
    uint64_t whole = MIN(to, ROUND_UP(from, (uint64_t)s->cluster_size)), end;
    int ret = 0;

    if (from < whole) {
        ret = qcow2_co_pwrite_zeroes(bs, from, whole - from, BDRV_REQ_MAY_UNMAP);
        if (ret == -ENOTSUP) {
            ret = zero_co_by_write(bs, from, whole);
        }
    }
    end = bs->backing ? MIN(to, (uint64_t)bdrv_getlength_cached(bs->backing->bs)) : 0;
    end = ROUND_UP(end, (uint64_t)s->cluster_size);
    while (!ret && whole < end) {
        uint64_t n = MIN(end - whole, (uint64_t)GiB);

        ret = qcow2_co_pwrite_zeroes(bs, whole, n, BDRV_REQ_MAY_UNMAP);
        for (uint64_t at = whole; ret == -ENOTSUP && at < whole + n; at += s->cluster_size) {
            int err = zero_co_by_write(bs, at, at + s->cluster_size);

            ret = err < 0 || at + s->cluster_size >= whole + n ? err : ret;
        }
        whole += n;
    }
    if (!ret && whole < to && !s->raw_data) {
        ret = qcow2_co_unmap(bs, whole, ROUND_UP(to, (uint64_t)s->cluster_size) - whole);
    }
    return ret;
}

/* ---- truncate ---- */

/* Let the external data file reach to @to, with space as @prealloc says for what comes behind @from. It may be longer than
 * the disk was, and hold what was cut off once. */
static int coroutine_fn data_file_co_grow(BlockDriverState *bs, uint64_t from, uint64_t to, PreallocMode prealloc,
                                          Error **errp)
{
    Qcow2State *s = bs->opaque;
    PreallocMode mode = prealloc == PREALLOC_MODE_METADATA ? PREALLOC_MODE_OFF : prealloc;
    uint64_t length = bdrv_getlength_cached(s->data_file->bs), end = MIN(to, length);
    int ret = length < to ? bdrv_co_truncate(s->data_file, to, false, mode, 0, errp) : 0;

    if (!ret && !s->raw_data && prealloc != PREALLOC_MODE_OFF && from < end) {
        ret = bdrv_co_pwrite_zeroes(s->data_file, from, end - from,
                                    mode == PREALLOC_MODE_OFF ? BDRV_REQ_MAY_UNMAP : 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to zero out the new area");
        }
    }
    return ret;
}

static int coroutine_fn co_grow(BlockDriverState *bs, uint64_t from, uint64_t to,
                                PreallocMode prealloc, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t l1_size = qcow2_l1_needed(s, to);
    int ret = 0;

    if (s->external) {
        ret = data_file_co_grow(bs, from, to, prealloc, errp);
        if (ret < 0) {
            return ret;
        }
    }
    /* Whoever writes to a raw data file directly should see it here. */
    prealloc = s->raw_data && prealloc == PREALLOC_MODE_OFF ? PREALLOC_MODE_METADATA : prealloc;

    if (l1_size > s->l1_size) {
        ret = qcow2_co_l1_grow(bs, l1_size);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to grow the L1 table");
            return ret;
        }
    }
    ret = zero_co_added(bs, from, to);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to zero out the new area");
        return ret;
    }
    if (prealloc != PREALLOC_MODE_OFF) {
        uint64_t start = ROUND_UP(from, (uint64_t)s->cluster_size);

        if (!s->ext_l2 && bs->backing && start < (uint64_t)bdrv_getlength_cached(bs->backing->bs)) {
            error_setg(errp, "Preallocation is not possible where the backing file is longer");
            return -ENOTSUP;
        }
        ret = start < to ? qcow2_co_preallocate(bs, start, to, prealloc, errp) : 0;
    }
    return ret;
}

/* What is cut off of the last cluster that stays, from @from to @end: another program that makes the
 * disk longer again may show what it finds there. */
static int coroutine_fn tail_co_clear(BlockDriverState *bs, uint64_t from, uint64_t end)
{
    g_autofree uint8_t *buf = g_try_malloc(end - from);
    QEMUIOVector qiov;

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, buf, end - from);
    int ret = qcow2_co_preadv(bs, from, end - from, &qiov, 0, 0);

    if (ret < 0 || buffer_is_zero(buf, end - from)) {
        return ret;
    }
    ret = qcow2_co_pwrite_zeroes(bs, from, end - from, BDRV_REQ_MAY_UNMAP);
    return ret == -ENOTSUP ? zero_co_by_write(bs, from, end) : ret;
}

static int coroutine_fn co_shrink(BlockDriverState *bs, uint64_t from, uint64_t to,
                                  PreallocMode prealloc, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t start = ROUND_UP(to, (uint64_t)s->cluster_size);
    int ret = 0;

    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation can't be used for shrinking an image");
        return -EINVAL;
    }
    if (to < MIN(start, from)) {
        ret = tail_co_clear(bs, to, MIN(start, from));
    }
    if (!ret && s->raw_data && to < from) {
        /* A disk that is made longer again shows what is in the file: that should not be what was cut off. */
        uint64_t end = MIN(from, (uint64_t)bdrv_getlength_cached(s->data_file->bs));

        ret = to < end ? bdrv_co_pwrite_zeroes(s->data_file, to, end - to, BDRV_REQ_MAY_UNMAP) : 0;
    }
    if (!ret && start < from) {
        /* Should the length not change after all, what was cut off is nothing, not what lies below. */
        bool shows_below = s->version >= 3 && qcow2_has_backing(bs);

        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L1_SHRINK_WRITE_TABLE);
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L1_SHRINK_FREE_L2_CLUSTERS);
        ret = shows_below ? qcow2_co_pwrite_zeroes(bs, start, from - start, BDRV_REQ_MAY_UNMAP)
                          : qcow2_co_unmap(bs, start, from - start);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to discard cropped clusters");
    }
    return ret;
}

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                   PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t old = s->length_bytes, new = offset;
    int ret;

    if (new & (BDRV_SECTOR_SIZE - 1)) {
        error_setg(errp, "The new size must be a multiple of %d", BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    if (new == old) {
        return 0;
    }
    ret = qcow2_bitmaps_check_resize(bs, errp);
    if (ret < 0) {
        return ret;
    }
    if (s->version < 3 && s->nb_snapshots) {
        /* Its snapshots may not say how long the disk was. */
        error_setg(errp, "Can't resize a v2 image which has snapshots");
        return -ENOTSUP;
    }
    ret = qcow2_co_before_change(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the image header");
        return ret;
    }
    ret = new > old ? co_grow(bs, old, new, prealloc, errp) : co_shrink(bs, old, new, prealloc, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_co_commit(bs, true);
    if (!ret) {
        ret = qcow2_co_flush_files(bs);
    }
    if (!ret) {
        qcow2_lock(s);
        s->length_bytes = new;
        qcow2_unlock(s);
        qemu_co_mutex_lock(&s->l1_lock);
        ret = qcow2_co_write_header(bs);
        qemu_co_mutex_unlock(&s->l1_lock);
        if (!ret) {
            ret = bdrv_co_flush(bs->file->bs);
        }
        if (ret < 0) {
            qcow2_lock(s);
            s->length_bytes = old;
            qcow2_unlock(s);
        }
    }
    if (!ret && s->external && new < old) {
        /* It is only space; but what was zeroed behind the end, under a cipher, is to be zero still when another program makes
         * the disk longer again. */
        uint64_t end = s->crypt_method ? ROUND_UP(new, (uint64_t)s->cluster_size) : new;

        bdrv_co_truncate(s->data_file, end, false, PREALLOC_MODE_OFF, 0, NULL);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the image size");
    }
    return ret;
}

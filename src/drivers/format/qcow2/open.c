/* SPDX-License-Identifier: MIT */
/* open.c: opening, closing and reopening images; options; the driver table.
 *
 * Runs on: the main thread; suspends to read the header, L1 and refcount tables.
 */
#include "drivers/drivers.h"
#include "drivers/format/qcow2/qcow2.h"
#include "drivers/format/qcow2/amend.h"
#include "drivers/format/qcow2/overlap.h"
#include "drivers/format/qcow2/snapshot.h"

#define DEFAULT_L2_CACHE_MAX    (32 * MiB)
#define DEFAULT_RB_CACHE        (256 * KiB)
#define MIN_RB_BLOCKS           4
#define DEFAULT_SLICE_BYTES     4096u

/* ---- options ---- */

typedef struct Qcow2Settings {
    uint64_t l2_cache_bytes, rb_cache_bytes;
    uint32_t slice_bytes;
    bool discard_request, discard_snapshot, discard_other, discard_no_unref;
    unsigned overlap_check;
    uint64_t clean_interval_s;
} Qcow2Settings;

static int check_size_option(bool has, int64_t value, const char *name, Error **errp)
{
    if (has && value < 0) {
        error_setg(errp, "Value '%" PRId64 "' is out of range for parameter '%s'", value, name);
        return -EINVAL;
    }
    return 0;
}

/* What it takes to have all L2 entries of the disk in memory. */
static uint64_t l2_bytes_of_disk(Qcow2State *s)
{
    return ROUND_UP(DIV_ROUND_UP(s->length_bytes, s->cluster_size) * (8 << s->ext_l2), (uint64_t)s->slice_bytes);
}

static int settings_caches(Qcow2State *s, const BlockdevOptionsQcow2 *o, Qcow2Settings *set,
                           Error **errp)
{
    uint64_t rb_min = (uint64_t)MIN_RB_BLOCKS * s->cluster_size;
    uint64_t l2_all = l2_bytes_of_disk(s);
    uint64_t combined = o->has_cache_size ? o->cache_size : 0;

    if (check_size_option(o->has_cache_size, o->cache_size, "cache-size", errp) < 0 ||
        check_size_option(o->has_l2_cache_size, o->l2_cache_size, "l2-cache-size", errp) < 0 ||
        check_size_option(o->has_refcount_cache_size, o->refcount_cache_size, "refcount-cache-size",
                          errp) < 0) {
        return -EINVAL;
    }
    if (o->has_cache_size && o->has_l2_cache_size && o->has_refcount_cache_size) {
        error_setg(errp, "cache-size, l2-cache-size and refcount-cache-size may not be set at the "
                   "same time");
        return -EINVAL;
    }
    if (o->has_cache_size && o->has_l2_cache_size && (uint64_t)o->l2_cache_size > combined) {
        error_setg(errp, "l2-cache-size may not exceed cache-size");
        return -EINVAL;
    }
    if (o->has_cache_size && o->has_refcount_cache_size &&
        (uint64_t)o->refcount_cache_size > combined) {
        error_setg(errp, "refcount-cache-size may not exceed cache-size");
        return -EINVAL;
    }
    set->l2_cache_bytes = o->has_l2_cache_size ? (uint64_t)o->l2_cache_size
                                               : MIN(l2_all, DEFAULT_L2_CACHE_MAX);
    set->rb_cache_bytes = o->has_refcount_cache_size ? (uint64_t)o->refcount_cache_size
                                                     : MAX(rb_min, DEFAULT_RB_CACHE);
    if (o->has_cache_size && o->has_l2_cache_size) {
        set->rb_cache_bytes = combined - set->l2_cache_bytes;
    } else if (o->has_cache_size && o->has_refcount_cache_size) {
        set->l2_cache_bytes = combined - set->rb_cache_bytes;
    } else if (o->has_cache_size) {
        /* L2 first: refcounts are looked at by allocations only, and in order. */
        set->l2_cache_bytes = MIN(l2_all, combined > rb_min ? combined - rb_min : combined);
        set->rb_cache_bytes = combined - set->l2_cache_bytes;
    }
    return 0;
}

static int settings_parse(Qcow2State *s, const BlockdevOptionsQcow2 *o, int flags,
                          Qcow2Settings *set, Error **errp)
{
    uint64_t slice = o->has_l2_cache_entry_size ? (uint64_t)o->l2_cache_entry_size
                                                : MIN(s->cluster_size, DEFAULT_SLICE_BYTES);

    if (check_size_option(o->has_l2_cache_entry_size, o->l2_cache_entry_size, "l2-cache-entry-size", errp) < 0) {
        return -EINVAL;
    }
    if (slice < 512 || slice > s->cluster_size || !is_power_of_2(slice)) {
        error_setg(errp, "L2 cache entry size must be a power of two between 512 and the cluster "
                   "size (%" PRIu32 ")", s->cluster_size);
        return -EINVAL;
    }
    if (o->has_lazy_refcounts && o->lazy_refcounts && s->version < 3) {
        error_setg(errp, "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility "
                   "level");
        return -EINVAL;
    }
    if (o->has_cache_clean_interval && (o->cache_clean_interval < 0 || o->cache_clean_interval > UINT_MAX)) {
        error_setg(errp, "Cache clean interval too big");
        return -EINVAL;
    }
    if (o->has_discard_no_unref && o->discard_no_unref && s->version < 3) {
        error_setg(errp, "discard-no-unref is only supported since qcow2 version 3");
        return -EINVAL;
    }
    set->clean_interval_s = o->has_cache_clean_interval ? o->cache_clean_interval : 0;
    set->discard_no_unref = o->has_discard_no_unref && o->discard_no_unref;
    set->overlap_check = qcow2_overlap_parse(o);
    set->slice_bytes = slice;
    s->slice_bytes = s->slice_bytes ? s->slice_bytes : slice;
    set->discard_request = o->has_pass_discard_request ? o->pass_discard_request
                                                       : (flags & BDRV_O_UNMAP) != 0;
    set->discard_snapshot = o->has_pass_discard_snapshot ? o->pass_discard_snapshot : true;
    set->discard_other = o->has_pass_discard_other ? o->pass_discard_other : false;
    return settings_caches(s, o, set, errp);
}

/* No table is in use or dirty. A little more than asked for, so that a cache that holds all
 * never looks full of dirty tables. */
static void settings_apply(Qcow2State *s, const Qcow2Settings *set)
{
    qcow2_lock(s);
    qcow2_cache_destroy(&s->l2);
    qcow2_cache_destroy(&s->rb);
    s->slice_bytes = set->slice_bytes;
    s->slice_entries = set->slice_bytes / (8 << s->ext_l2);
    s->discard_request = set->discard_request;
    s->discard_snapshot = set->discard_snapshot;
    s->discard_other = set->discard_other;
    s->discard_no_unref = set->discard_no_unref;
    s->overlap_check = set->overlap_check;
    qcow2_cache_init(&s->l2, s->slice_bytes, set->l2_cache_bytes + set->l2_cache_bytes / 7 +
                                             8ULL * s->slice_bytes);
    qcow2_cache_init(&s->rb, s->cluster_size, set->rb_cache_bytes);
    qcow2_unlock(s);
}

/* ---- open and close ---- */

/* Read a table of @n entries into memory, in host order. */
static int coroutine_fn co_read_table(BlockDriverState *bs, uint64_t offset, uint32_t n,
                                      uint64_t **table)
{
    QEMUIOVector qiov;
    uint64_t bytes = MAX(n, 1) * 8ULL;
    uint64_t *buf = qemu_try_blockalign(bs->file->bs, bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, buf, bytes);
    ret = qcow2_co_read_file(bs, offset, bytes, &qiov, 0, 0);
    if (!ret) {
        *table = g_new(uint64_t, MAX(n, 1));
        for (uint32_t i = 0; i < n; i++) {
            (*table)[i] = GUINT64_FROM_BE(buf[i]);
        }
    }
    qemu_vfree(buf);
    return ret;
}

/* Do writes behind its end make @bs longer? */
static bool can_grow(BlockDriverState *bs)
{
    while (bs->drv->kind != BLOCK_DRIVER_PROTOCOL) {
        BdrvChild *c = LIST_FIRST(&bs->children);

        if (!c) {
            return true;
        }
        bs = c->bs;
    }
    return !bs->drv->fixed_length;
}

static int coroutine_fn co_open_tables(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int64_t file_bytes = bdrv_co_getlength(bs->file->bs), allocated;
    int ret = file_bytes < 0 ? file_bytes : 0;

    if (!ret) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_REFTABLE_LOAD);
        ret = co_read_table(bs, s->reftable_offset, s->reftable_size, &s->reftable);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not initialize refcount handling");
        return ret;
    }
    /* Beyond the end a file reads as zeroes: a cut image would look empty, not broken. */
    if (s->l1_size && (s->l1_offset > (uint64_t)file_bytes ||
                       s->l1_size * 8ULL > (uint64_t)file_bytes - s->l1_offset)) {
        error_setg(errp, "Could not read L1 table: it lies beyond the end of the image file; is the file cut off?");
        return -EIO;
    }
    ret = co_read_table(bs, s->l1_offset, s->l1_size, &s->l1_table);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read L1 table");
        return ret;
    }
    /* Where a file ends whatever is in it, what is behind the last cluster in use is room, and not known to be zero. */
    s->fixed_length = !can_grow(bs->file->bs);
    s->fresh_from = s->fixed_length ? 0 : DIV_ROUND_UP(file_bytes, s->cluster_size);
    allocated = bdrv_co_get_allocated_file_size(bs->file->bs);
    s->sparse_data = s->external || (allocated >= 0 && allocated < file_bytes);
    return 0;
}

static void state_init(Qcow2State *s)
{
    pthread_mutex_init(&s->lock, NULL);
    qemu_co_mutex_init(&s->l1_lock);
    qemu_co_mutex_init(&s->alloc_lock);
    qemu_co_mutex_init(&s->commit_lock);
    LIST_INIT(&s->allocs);
    TAILQ_INIT(&s->unpacked);
    qemu_co_queue_init(&s->pack_waiters);
    s->freed_runs = g_array_new(false, false, sizeof(Qcow2Run));
    s->frees = g_array_new(false, false, sizeof(Qcow2Run));
    s->frees_durable = g_array_new(false, false, sizeof(Qcow2Run));
    s->scan_again = UINT64_MAX;
}

static void state_free(Qcow2State *s)
{
    qcow2_alloc_close_window(s);
    qcow2_crypt_free(s);
    qcow2_unpacked_forget(s, 0, UINT64_MAX);
    qcow2_pack_free(s);
    qcow2_cache_destroy(&s->l2);
    qcow2_cache_destroy(&s->rb);
    qcow2_clean_stop(s);
    qcow2_overlap_free(s);
    qcow2_free_header(s);
    g_clear_pointer(&s->snapshots, g_ptr_array_unref);
    g_free(s->damage);
    g_free(s->l1_table);
    g_free(s->reftable);
    g_array_free(s->freed_runs, true);
    g_array_free(s->frees, true);
    g_array_free(s->frees_durable, true);
    pthread_mutex_destroy(&s->lock);
}

void qcow2_forget_tables(Qcow2State *s)
{
    qcow2_lock(s);
    qcow2_alloc_close_window(s);
    qcow2_pack_close(s);
    qcow2_cache_forget_clean(&s->l2);
    qcow2_cache_forget_clean(&s->rb);
    qcow2_unlock(s);
}

int coroutine_fn qcow2_co_reload(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint64_t *l1 = NULL, *reftable = NULL;
    int ret;

    qcow2_forget_tables(s);
    qcow2_lock(s);
    /* What is there counts, also against what could not be written. */
    qcow2_cache_forget(&s->l2);
    qcow2_cache_forget(&s->rb);
    l1 = g_steal_pointer(&s->l1_table);
    reftable = g_steal_pointer(&s->reftable);
    g_array_set_size(s->freed_runs, 0);
    s->scan_next = 0;
    s->scan_again = UINT64_MAX;
    s->grown_to = 0;
    qcow2_unpacked_forget(s, 0, UINT64_MAX);
    qcow2_pack_close(s);
    qcow2_unlock(s);
    ret = co_open_tables(bs, NULL);
    qcow2_lock(s);
    /* Who reads goes on with what was known; nobody writes. */
    if (!s->l1_table) {
        s->l1_table = g_steal_pointer(&l1);
    }
    if (!s->reftable) {
        s->reftable = g_new0(uint64_t, MAX(s->reftable_size, 1));
    }
    s->corrupt = ret < 0;
    qcow2_unlock(s);
    qcow2_co_overlap_build(bs);
    qcow2_lock(s);
    s->corrupt = ret < 0 || s->header_lost || (s->incompatible & QCOW2_INCOMPAT_CORRUPT);
    qcow2_unlock(s);
    return ret;
}

/* With lazy refcounts an image that was not closed has refcounts that are too small. */
static int coroutine_fn co_replay_refcounts(BlockDriverState *bs, Error **errp)
{
    BdrvCheckResult res = { 0 };
    int ret = qcow2_co_check(bs, &res, BDRV_FIX_ERRORS | BDRV_FIX_LEAKS);

    if (ret >= 0 && (res.check_errors || res.corruptions)) {
        ret = -EIO;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not repair dirty image");
        error_append_hint(errp, "`liveblk check --repair all` tells what is wrong; reading works with read-only=on.\n");
    }
    return ret;
}

/* Find out where guest data lies. */
static int coroutine_fn co_open_data_file(BlockDriverState *bs, const BlockdevRef *ref, int flags, Error **errp)
{
    Qcow2State *s = bs->opaque;

    if (!s->external) {
        if (ref) {
            error_setg(errp, "'data-file' can only be set for images with an external data file");
            return -EINVAL;
        }
        s->data_file = bs->file;
        return 0;
    }
    bs->file->role &= ~BDRV_CHILD_DATA;
    if (ref) {
        s->data_file = bdrv_co_open_child(bs, ref, "data-file", BDRV_CHILD_DATA, errp);
    } else if (flags & BDRV_O_NO_IO) {
        return 0;
    } else if (s->data_file_name) {
        s->data_file = bdrv_co_open_child_named(bs, s->data_file_name, "data-file", BDRV_CHILD_DATA, errp);
    } else {
        error_setg(errp, "'data-file' is required for this image");
    }
    return s->data_file ? 0 : -EINVAL;
}

static int coroutine_fn qcow2_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                      int flags, Error **errp)
{
    const BlockdevOptionsQcow2 *o = &opts->u.qcow2;
    Qcow2State *s = bs->opaque;
    Qcow2Settings set;
    int ret;

    if (!bdrv_co_open_child(bs, o->file, "file",
                            BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY, errp)) {
        return -EINVAL;
    }
    ret = qcow2_co_read_header(bs, flags, errp);
    if (ret < 0) {
        return ret;
    }
    state_init(s);
    ret = co_open_data_file(bs, o->data_file, flags, errp);
    if (!ret) {
        ret = settings_parse(s, o, flags, &set, errp);
    }
    if (!ret) {
        settings_apply(s, &set);
        ret = co_open_tables(bs, errp);
    }
    if (!ret) {
        ret = qcow2_co_read_snapshots(bs, flags & BDRV_O_CHECK ? NULL : errp);
        ret = flags & BDRV_O_CHECK ? 0 : ret;   /* the check will tell */
    }
    if (ret < 0) {
        state_free(s);
        return ret;
    }
    ret = qcow2_co_crypt_open(bs, o->encrypt, flags, errp);
    if (ret >= 0) {
        ret = qcow2_co_bitmaps_open(bs, flags, errp);
    }
    if (ret < 0) {
        qcow2_bitmaps_free(bs);
        state_free(s);
        return ret;
    }
    s->autoclear_pending = (s->autoclear & ~QCOW2_AUTOCLEAR_KNOWN) != 0 || qcow2_bitmaps_to_mark(s);
    s->corrupt = s->incompatible & QCOW2_INCOMPAT_CORRUPT;
    if ((flags & BDRV_O_RDWR) && !(flags & BDRV_O_CHECK) && (s->incompatible & QCOW2_INCOMPAT_DIRTY)) {
        ret = co_replay_refcounts(bs, errp);
        if (ret < 0) {
            qcow2_bitmaps_free(bs);
            state_free(s);
            return ret;
        }
    }
    if (flags & BDRV_O_RDWR) {
        qcow2_co_overlap_build(bs);
    }
    qcow2_clean_start(bs, set.clean_interval_s);
    bs->supported_zero_flags = bs->drv->supported_zero_flags;
    return 0;
}

/* All that is in memory to the file, with what waits to be freed. */
static int coroutine_fn co_write_all(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (!s->data_file) {
        return 0;       /* nothing can have changed */
    }
    ret = qcow2_co_commit(bs, true);

    /* The second writes the refcounts of what the first has freed. */
    if (!ret) {
        ret = qcow2_co_commit(bs, true);
    }
    /* The file should end where the last cluster in use does: not inside it, nor behind what it was made
     * longer by in advance. */
    if (!ret && s->grown_to) {
        uint64_t end = s->fresh_from << s->cluster_bits;
        int64_t now = bdrv_co_getlength(bs->file->bs);

        if (now >= 0 && (end > (uint64_t)now || (end < (uint64_t)now && s->grown_to >= (uint64_t)now))) {
            s->grown_to = MIN(s->grown_to, end);
            bdrv_co_truncate(bs->file, end, false, PREALLOC_MODE_OFF, 0, NULL);
        }
    }
    return ret ? ret : qcow2_co_flush_files(bs);
}

int coroutine_fn qcow2_co_settle(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = s->corrupt ? 0 : co_write_all(bs);

    qcow2_lock(s);
    qcow2_alloc_close_window(s);
    qcow2_unlock(s);
    return ret;
}

static void coroutine_fn qcow2_co_close(BlockDriverState *bs)
{
    if (!bs->read_only && !((Qcow2State *)bs->opaque)->corrupt) {
        Error *err = NULL;
        int ret = qcow2_co_bitmaps_store(bs, &err);

        if (ret < 0) {
            error_reportf_err(err, "qcow2: Lost persistent bitmaps of '%s': ", bs->filename);
        }
        ret = co_write_all(bs);

        qcow2_co_note_damage(bs);
        if (ret < 0) {
            error_report("qcow2: could not write the last changes to '%s': %s", bs->filename,
                         strerror(-ret));
        }
    }
    qcow2_bitmaps_free(bs);
    state_free(bs->opaque);
}

/* ---- reopen ---- */

static int coroutine_fn qcow2_co_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    BlockDriverState *bs = state->bs;
    Qcow2State *s = bs->opaque;
    g_autofree Qcow2Settings *set = g_new0(Qcow2Settings, 1);
    int ret = settings_parse(s, &state->opts->u.qcow2, state->flags, set, errp);

    if (ret < 0) {
        return ret;
    }
    if ((state->flags & BDRV_O_RDWR) && s->viewing_snapshot) {
        error_setg(errp, "qcow2: A snapshot is shown; it cannot be written to");
        return -EACCES;
    }
    if (bs->read_only && (state->flags & BDRV_O_RDWR) &&
        (s->incompatible & (QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY))) {
        error_setg(errp, "qcow2: Image is %s; cannot be opened read/write",
                   s->incompatible & QCOW2_INCOMPAT_CORRUPT ? "corrupt" : "not closed cleanly");
        return -EACCES;
    }
    if (!bs->read_only) {
        ret = state->flags & BDRV_O_RDWR ? 0 : qcow2_co_bitmaps_store(bs, errp);
        if (ret < 0) {
            return ret;
        }
        ret = co_write_all(bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not flush the image");
            return ret;
        }
    }
    state->opaque = g_steal_pointer(&set);
    return 0;
}

static void coroutine_fn qcow2_co_reopen_commit(BDRVReopenState *state)
{
    Qcow2State *s = state->bs->opaque;

    qcow2_lock(s);
    qcow2_alloc_close_window(s);
    qcow2_unlock(s);
    settings_apply(s, state->opaque);
    qcow2_co_overlap_build(state->bs);
    qcow2_clean_start(state->bs, ((Qcow2Settings *)state->opaque)->clean_interval_s);
    g_clear_pointer(&state->opaque, g_free);
}

static void coroutine_fn qcow2_co_reopen_abort(BDRVReopenState *state)
{
    g_clear_pointer(&state->opaque, g_free);
}

/* ---- small callbacks ---- */

static int64_t coroutine_fn qcow2_co_getlength(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    return s->length_bytes;
}

static void qcow2_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    Qcow2State *s = bs->opaque;

    bl->request_alignment = s->crypt_method ? BDRV_SECTOR_SIZE : 1;
    bl->pdiscard_alignment = s->cluster_size;
    bl->pwrite_zeroes_alignment = s->subcluster_size;
    bl->max_transfer = bl->opt_transfer = 0;
    bl->max_pdiscard = bl->max_pwrite_zeroes = 0;
    bl->max_iov = IOV_MAX;
}

/* A plain name says all if the file below is a protocol with one, and the backing file is what
 * the header says. */
static void qcow2_refresh_filename(BlockDriverState *bs)
{
    json_object *backing = bs->options ? qdict_get(bs->options, "backing") : NULL;
    bool without = bs->options && qdict_haskey(bs->options, "backing") && !backing;
    bool other = (without && bs->backing_file && *bs->backing_file) ||
                 (bs->options && qdict_haskey(bs->options, "data-file"));

    g_free(bs->exact_filename);
    bs->exact_filename = g_strdup(bs->file->bs->drv->protocol_name && !other &&
                                  bs->file->bs->exact_filename ? bs->file->bs->exact_filename : "");
}

const BlockDriver bdrv_qcow2 = {
    .format_name = "qcow2",
    .kind = BLOCK_DRIVER_FORMAT,
    .instance_size = sizeof(Qcow2State),
    .schema_driver = BLOCKDEV_DRIVER_QCOW2,
    .supports_backing = true,
    .supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK,
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .co_reopen_prepare = qcow2_co_reopen_prepare,
    .co_reopen_commit = qcow2_co_reopen_commit,
    .co_reopen_abort = qcow2_co_reopen_abort,
    .refresh_limits = qcow2_refresh_limits,
    .refresh_filename = qcow2_refresh_filename,
    .probe = qcow2_probe,
    .co_create = qcow2_co_create,
    .get_info = qcow2_get_info,
    .get_specific_info = qcow2_get_specific_info,
    .co_change_backing_file = qcow2_co_change_backing_file,
    .co_load_vmstate = qcow2_co_load_vmstate,
    .co_save_vmstate = qcow2_co_save_vmstate,
    .co_amend = qcow2_co_amend,
    .co_amend_keys = qcow2_co_amend_keys,
    .snapshot_list = qcow2_snapshot_list,
    .co_snapshot_create = qcow2_co_snapshot_create,
    .co_snapshot_goto = qcow2_co_snapshot_goto,
    .co_snapshot_delete = qcow2_co_snapshot_delete,
    .co_snapshot_load = qcow2_co_snapshot_load,
    .co_preadv = qcow2_co_preadv,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwritev_compressed = qcow2_co_pwritev_compressed,
    .co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .co_pdiscard = qcow2_co_pdiscard,
    .co_flush = qcow2_co_flush,
    .co_check = qcow2_co_check,
    .co_make_empty = qcow2_co_make_empty,
    .co_can_store_new_dirty_bitmap = qcow2_co_can_store_new_dirty_bitmap,
    .co_remove_persistent_dirty_bitmap = qcow2_co_remove_persistent_dirty_bitmap,
    .co_truncate = qcow2_co_truncate,
    .co_getlength = qcow2_co_getlength,
    .co_block_status = qcow2_co_block_status,
};

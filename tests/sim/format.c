/* SPDX-License-Identifier: MIT */
/* format.c: what may be done to one qcow2 image, while guests write to it and power fails; see world.h.
 *
 * The operator makes, applies and deletes snapshots, adds and removes persistent bitmaps, changes the disk's length and
 * what the image is (version, width of refcounts, lazy refcounts), and lets the image be checked and repaired. The
 * guests rest meanwhile, so that what a snapshot or a bitmap begins with is known. Each step succeeds,
 * fails on a faulty disk, or is cut off by the end of power; then, when the image is opened again:
 *
 *   length      as before the step, or as after it
 *   snapshots   those that were made and not deleted, each with what the disk showed; of the last step, either
 *   bitmaps     one that is not called inconsistent marks whatever differs from when it was made; after an
 *               orderly end all are there, and mark only what was written
 *   check       finds no corruption, and repair leaves no leak
 */
#include "world.h"
#include "block/dirty-bitmap.h"

#define SNAPSHOTS_MAX 4
#define BITMAPS_MAX 3
#define SECTORS_MIN 64
#define GRANULE_MAX (512 << 5)

typedef struct Snap {
    char name[16];
    int64_t n;                          /* sectors */
    uint64_t *values;
    bool unsure;                        /* the step that makes or deletes it was not seen to end well */
} Snap;

typedef struct Marks {
    char name[16];
    int64_t n;
    uint64_t *values;                   /* when it was made */
    uint8_t *written;                   /* sectors that were, perhaps, written since */
    bool unsure;
} Marks;

static struct {
    GPtrArray *snaps, *marks;
    int64_t other_n;                    /* the length that the disk may have as well; 0: no other */
    unsigned names;
    uint64_t faults_before;             /* the step */
} format;

static void snap_free(gpointer p)
{
    g_free(((Snap *)p)->values);
    g_free(p);
}

static void marks_free(gpointer p)
{
    g_free(((Marks *)p)->values);
    g_free(((Marks *)p)->written);
    g_free(p);
}

void format_init(void)
{
    format.snaps = g_ptr_array_new_with_free_func(snap_free);
    format.marks = g_ptr_array_new_with_free_func(marks_free);
    format.names = 0;
    format.other_n = 0;
}

void format_free(void)
{
    g_ptr_array_free(format.snaps, true);
    g_ptr_array_free(format.marks, true);
}

void format_note_write(int64_t at, int64_t n)
{
    for (guint i = 0; i < format.marks->len; i++) {
        Marks *m = format.marks->pdata[i];

        for (int64_t k = at; k < MIN(at + n, m->n); k++) {
            m->written[k] = 1;
        }
    }
}

/* ---- steps ---- */

/* Did the step fail for no reason? */
static void step_end(const char *what, int ret, Error *err, const char *may_say)
{
    Layer *l = world.disks[0].layer;

    /* Version 2 has no bit that says that a repair is wanted; what only gives space back may fail quietly. */
    l->unsure_flags |= (ret < 0 || sim.faults_made > format.faults_before) && l->version < 3;
    sim_trace("%s: %d %s", what, ret, err ? error_get_pretty(err) : "");
    if (ret < 0 && !sim.off && !sim.faults_made && !(may_say && err && strstr(error_get_pretty(err), may_say))) {
        sim_fail("%s fails: %d %s", what, ret, err ? error_get_pretty(err) : "");
    }
    error_free(err);
}

/* What the disk shows, a value for each sector; NULL: it cannot be read. */
static uint64_t *coroutine_fn disk_co_values(Disk *d)
{
    g_autofree uint8_t *buf = guest_co_read_all(d, d->guest);
    uint64_t *values = buf ? g_new(uint64_t, d->model.n) : NULL;

    for (int64_t i = 0; buf && i < d->model.n; i++) {
        memcpy(&values[i], buf + i * SECTOR, 8);
    }
    return values;
}

static void coroutine_fn snapshot_co_make(Disk *d)
{
    QEMUSnapshotInfo info = { .date_sec = 1 };
    uint64_t *values = disk_co_values(d);
    Error *err = NULL;

    if (!values || format.snaps->len >= SNAPSHOTS_MAX || d->layer->data_file) {
        g_free(values);
        return;
    }
    Snap *s = g_new0(Snap, 1);

    *s = (Snap) { .n = d->model.n, .values = values, .unsure = true };
    snprintf(s->name, sizeof(s->name), "s%u", ++format.names);
    g_strlcpy(info.name, s->name, sizeof(info.name));
    g_ptr_array_add(format.snaps, s);
    int ret = bdrv_snapshot_create(d->source, &info, &err);

    s->unsure = ret < 0;
    step_end("snapshot is made", ret, err, "too narrow");
}

static void coroutine_fn snapshot_co_delete(Disk *d)
{
    Error *err = NULL;

    if (!format.snaps->len) {
        return;
    }
    Snap *s = format.snaps->pdata[world_below(format.snaps->len)];
    bool unsure = s->unsure;

    s->unsure = true;
    int ret = bdrv_snapshot_delete(d->source, NULL, s->name, &err);

    step_end("snapshot is deleted", ret, err, unsure ? "" : NULL);
    if (!ret) {
        g_ptr_array_remove(format.snaps, s);
    }
}

static void coroutine_fn snapshot_co_apply(Disk *d)
{
    Error *err = NULL;

    if (!format.snaps->len || format.marks->len) {
        return;
    }
    Snap *s = format.snaps->pdata[world_below(format.snaps->len)];

    if (s->unsure || s->n != d->model.n) {
        return;
    }
    g_autofree uint64_t *begun = g_new(uint64_t, s->n);

    for (int64_t i = 0; i < s->n; i++) {
        begun[i] = model_write_begin(&d->model, i, 1, s->values[i]);
    }
    int ret = bdrv_snapshot_goto(d->source, s->name, &err);

    for (int64_t i = 0; i < s->n; i++) {
        model_write_end(&d->model, i, 1, begun[i], ret == 0, true);
    }
    step_end("snapshot is applied", ret, err, "too narrow");
}

static void coroutine_fn bitmap_co_add(Disk *d)
{
    uint32_t granularity = GRANULE_MAX >> world_below(6);
    uint64_t *values = disk_co_values(d);
    Error *err = NULL;

    if (!values || format.marks->len >= BITMAPS_MAX || d->layer->version < 3) {
        g_free(values);
        return;
    }
    Marks *m = g_new0(Marks, 1);

    *m = (Marks) { .n = d->model.n, .values = values, .written = g_malloc0(d->model.n) };
    snprintf(m->name, sizeof(m->name), "b%u", ++format.names);
    BdrvDirtyBitmap *b = NULL;

    if (bdrv_can_store_new_dirty_bitmap(d->source, m->name, granularity, &err)) {
        b = bdrv_create_dirty_bitmap(d->source, granularity, m->name, &err);
    }
    step_end("bitmap is added", b ? 0 : -1, err, NULL);
    if (b) {
        bdrv_dirty_bitmap_set_persistence(b, true);
        g_ptr_array_add(format.marks, m);
    } else {
        marks_free(m);
    }
}

static void coroutine_fn bitmap_co_remove(Disk *d)
{
    Error *err = NULL;

    if (!format.marks->len) {
        return;
    }
    Marks *m = format.marks->pdata[world_below(format.marks->len)];
    BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(d->source, m->name);
    int ret = bdrv_remove_persistent_dirty_bitmap(d->source, m->name, &err);

    step_end("bitmap is removed", ret, err, NULL);
    m->unsure |= ret < 0;
    if (!ret) {
        if (b) {
            bdrv_release_dirty_bitmap(b);
        }
        g_ptr_array_remove(format.marks, m);
    }
}

/* The disk is @n sectors long now. */
static void disk_set_length(Disk *d, int64_t n)
{
    model_resize(&d->model, n);
    d->layer->bytes = n * SECTOR;
    d->hot = world_below(MAX(n - 48, 1));
    for (guint i = 0; i < format.marks->len; i++) {
        Marks *m = format.marks->pdata[i];

        /* Part of the last granule stays, and with it what was written to the rest. */
        for (int64_t k = n; k < MIN(m->n, ROUND_UP(n, GRANULE_MAX / SECTOR)); k++) {
            m->written[n - 1] |= m->written[k];
        }
        m->values = g_realloc_n(m->values, n, sizeof(uint64_t));
        m->written = g_realloc(m->written, n);
        for (int64_t k = m->n; k < n; k++) {
            m->values[k] = 0;
            m->written[k] = 0;
        }
        m->n = n;
    }
}

static bool has_inconsistent(Disk *d)
{
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(d->source); b; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_inconsistent(b)) {
            return true;
        }
    }
    return false;
}

static void coroutine_fn length_co_change(Disk *d)
{
    int64_t old = d->model.n, n = old + (int64_t)world_below(200) - 90;
    BlockBackend *blk = blk_new(bdrv_get_aio_context(d->source), BLK_PERM_RESIZE, BLK_PERM_ALL);

    n = MAX(n, d->layer->version < 3 && d->layer->backing ? old : SECTORS_MIN);     /* no zero clusters there */
    uint64_t begun = n < old ? model_write_begin(&d->model, n, old - n, 0) : 0;
    PreallocMode mode = n > old && !d->layer->backing && !world_below(3) ? PREALLOC_MODE_METADATA : PREALLOC_MODE_OFF;
    Error *err = NULL;
    int ret = blk_insert_bs(blk, d->source, &err);

    format.other_n = n;
    if (!ret) {
        ret = blk_co_truncate(blk, n * SECTOR, true, mode, 0, &err);
    }
    blk_unref(blk);
    if (begun) {
        model_write_end(&d->model, n, old - n, begun, false, false);
    }
    step_end("length is changed", ret, err, d->layer->version < 3 ? "v2 image" : has_inconsistent(d) ? "" : NULL);
    if (!ret && !sim.off) {
        disk_set_length(d, n);
        format.other_n = 0;
    } else if (!sim.off) {
        format.other_n = bdrv_getlength_cached(d->source) == old * SECTOR ? n : 0;
    }
}

static void coroutine_fn image_co_amend(Disk *d)
{
    BdrvAmendOptions o = { .refcount_bits = -1, .size = -1 };
    Layer *l = d->layer;
    unsigned version = l->version;
    Error *err = NULL;

    switch (world_below(3)) {
    case 0:
        o.refcount_bits = l->version < 3 ? 16 : 1 << world_below(7);
        break;
    case 1:
        o.has_lazy_refcounts = true;
        o.lazy_refcounts = l->version >= 3 && world_below(2);
        break;
    case 2:
        version = l->version == 2 ? 3 : 2;
        o.version = version;
        o.refcount_bits = version == 2 ? 16 : -1;
        o.has_lazy_refcounts = version == 2;
        break;
    }
    int ret = bdrv_co_amend(d->source, &o, &err);

    if (!ret) {
        l->version = version;
    }
    /* Snapshots of another length, bitmaps, features of version 3, counters that are needed. */
    step_end("image is amended", ret, err, version < 3 || o.refcount_bits >= 0 ? "" : NULL);
}

static void coroutine_fn image_co_check(Disk *d)
{
    BdrvCheckResult res = { 0 };
    int ret = bdrv_co_check(d->source, &res, world_below(2) ? BDRV_FIX_LEAKS | BDRV_FIX_ERRORS : 0);

    sim_trace("check: %d, %" PRId64 " corruptions, %" PRId64 " leaks", ret, res.corruptions, res.leaks);
    if ((ret < 0 || res.check_errors) && !sim.off && !sim.faults_made) {
        sim_fail("the image cannot be checked: %d", ret);
    }
    /* A step that failed leaves flags to be put in order, and the dirty bit that says so. */
    if (!ret && !res.check_errors && !sim.faults_made && !d->layer->unsure_flags && (res.corruptions || res.corruptions_fixed)) {
        sim_fail("check finds %" PRId64 " corruptions", res.corruptions + res.corruptions_fixed);
    }
}

void coroutine_fn format_co_act(Disk *d)
{
    static void (*const steps[])(Disk *) = {
        snapshot_co_make, snapshot_co_make, snapshot_co_delete, snapshot_co_apply, bitmap_co_add, bitmap_co_add,
        bitmap_co_remove, length_co_change, length_co_change, image_co_amend, image_co_amend, image_co_check,
    };

    control_co_unlock();
    guest_co_hold(d);
    control_co_lock();
    if (!sim.off && format.other_n == 0) {
        format.faults_before = sim.faults_made;
        steps[world_below(G_N_ELEMENTS(steps))](d);
    }
    guest_release(d);
}

/* ---- after it ---- */

/* Before the image is opened again: how long is it? */
void format_adopt_length(Disk *d)
{
    SimFile *f = sim_file_find(d->layer->name);
    uint64_t bytes = 0;

    for (int i = 24; i < 32; i++) {
        bytes = bytes << 8 | f->now->data[i];
    }
    if ((int64_t)bytes != d->layer->bytes) {
        if ((int64_t)bytes != format.other_n * SECTOR) {
            sim_fail("the disk is %" PRIu64 " bytes long, not %" PRId64 " or %" PRId64, bytes, d->layer->bytes,
                     format.other_n * SECTOR);
        }
        disk_set_length(d, bytes / SECTOR);
    }
    d->layer->version = f->now->data[7];
    format.other_n = 0;
}

static void coroutine_fn verify_co_snapshot(Disk *d, const Snap *s)
{
    BlockDriverState *bs = layer_open_to_read(d->layer);
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    g_autofree uint8_t *buf = g_malloc(s->n * SECTOR);

    bdrv_snapshot_load_tmp(bs, NULL, s->name, &error_abort);
    blk_insert_bs(blk, bs, &error_abort);
    if (blk_co_getlength(blk) != s->n * SECTOR || blk_co_pread(blk, 0, s->n * SECTOR, buf, 0) < 0) {
        sim_fail("snapshot %s cannot be read, or is %" PRId64 " bytes long, not %" PRId64, s->name,
                 blk_co_getlength(blk), s->n * SECTOR);
    }
    for (int64_t i = 0; i < s->n; i++) {
        if (memcmp(buf + i * SECTOR, &s->values[i], 8)) {
            sim_fail("snapshot %s: sector %" PRId64 " holds %" PRIu64 ", not %" PRIu64, s->name, i,
                     *(uint64_t *)(buf + i * SECTOR), s->values[i]);
        }
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Those that are there are those that should be, but for the one of the step that was cut off. */
static void verify_list(Disk *d)
{
    g_autofree QEMUSnapshotInfo *list = NULL;
    int n = bdrv_snapshot_list(d->source, &list), known = 0;

    for (guint i = format.snaps->len; i-- > 0;) {
        Snap *s = format.snaps->pdata[i];
        bool there = false;

        for (int k = 0; k < n; k++) {
            there |= !strcmp(list[k].name, s->name);
        }
        if (!there && !s->unsure) {
            sim_fail("snapshot %s is lost", s->name);
        } else if (!there) {
            g_ptr_array_remove_index(format.snaps, i);
        } else {
            s->unsure = false;
            known++;
        }
    }
    for (int k = 0; known != n && k < n; k++) {
        sim_trace("there is snapshot %s %s", list[k].id_str, list[k].name);
    }
    if (known != n) {
        sim_fail("%d snapshots, not %d", n, known);
    }
}

/* Is it right? @exact: it marks nothing that was not written. */
static void verify_marks(Disk *d, const Marks *m, BdrvDirtyBitmap *b, const uint64_t *values, bool exact)
{
    int64_t per = bdrv_dirty_bitmap_granularity(b) / SECTOR;

    for (int64_t i = 0; i < d->model.n; i++) {
        bool dirty = bdrv_dirty_bitmap_get(b, i * SECTOR), written = false;

        if (!dirty && values[i] != m->values[i]) {
            sim_fail("bitmap %s is not called inconsistent, but does not mark sector %" PRId64 ", which holds %" PRIu64
                     " now, and held %" PRIu64, m->name, i, values[i], m->values[i]);
        }
        for (int64_t k = i / per * per; dirty && exact && k < MIN((i / per + 1) * per, m->n); k++) {
            written |= m->written[k];
        }
        if (dirty && exact && !written) {
            sim_fail("bitmap %s marks sector %" PRId64 ", which was not written", m->name, i);
        }
    }
}

static void coroutine_fn verify_co_bitmaps(Disk *d, bool orderly)
{
    g_autofree uint64_t *values = disk_co_values(d);

    for (guint i = format.marks->len; i-- > 0;) {
        Marks *m = format.marks->pdata[i];
        BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(d->source, m->name);
        bool useful = b && !bdrv_dirty_bitmap_inconsistent(b);

        if (orderly && !useful && !m->unsure) {
            sim_fail("bitmap %s is %s after an orderly end", m->name, b ? "inconsistent" : "lost");
        }
        if (useful) {
            verify_marks(d, m, b, values, orderly);
        } else {
            if (b) {
                bdrv_remove_persistent_dirty_bitmap(d->source, m->name, &error_abort);
                bdrv_release_dirty_bitmap(b);
            }
            g_ptr_array_remove_index(format.marks, i);
        }
    }
    /* One whose removal was cut off may be there and not be known: it was taken for removed. */
    if (bdrv_dirty_bitmap_first(d->source) && !format.marks->len) {
        sim_fail("bitmap %s is back", bdrv_dirty_bitmap_name(bdrv_dirty_bitmap_first(d->source)));
    }
}

void coroutine_fn format_co_verify(Disk *d, bool orderly)
{
    BdrvCheckResult res = { 0 };
    int ret;

    verify_list(d);
    verify_co_bitmaps(d, orderly);
    d->layer->raw &= orderly;       /* else what was not acknowledged may be in the data file alone */
    if (d->layer->raw) {
        g_autofree uint64_t *values = disk_co_values(d);

        layer_check_raw(d->layer, values);
    }
    for (int pass = 0; pass < 2; pass++) {
        memset(&res, 0, sizeof(res));
        ret = bdrv_co_check(d->source, &res, pass ? 0 : d->layer->unsure_flags ? BDRV_FIX_LEAKS | BDRV_FIX_ERRORS
                                                                              : BDRV_FIX_LEAKS);
        if (ret < 0 || res.corruptions || (res.corruptions_fixed && !d->layer->unsure_flags) || res.check_errors || (pass && res.leaks)) {
            sim_fail("check: %d, %" PRId64 " corruptions, %" PRId64 " errors, %" PRId64 " leaks", ret,
                     res.corruptions + res.corruptions_fixed,
                     res.check_errors, res.leaks);
        }
    }
    d->layer->unsure_flags = false;
}

void coroutine_fn format_co_verify_snapshots(Disk *d)
{
    for (guint i = 0; i < format.snaps->len; i++) {
        verify_co_snapshot(d, format.snaps->pdata[i]);
    }
}

/* SPDX-License-Identifier: MIT */
/* snapshot.c: making, applying, deleting and showing snapshots inside an image; the order in which all
 * reaches the file is argued in snapshot.h.
 *
 * Runs on: the main thread, the node drained (for load: and read-only); suspends.
 */
#include "drivers/format/qcow2/overlap.h"
#include "drivers/format/qcow2/snapshot.h"

/* ---- steps that they share ---- */

/* Nothing is dirty or waits after this. */
static int coroutine_fn snapshot_co_begin(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = s->external || !s->data_file ? -ENOTSUP : s->corrupt || !s->snapshots ? -EIO : 0;

    if (!ret) {
        ret = qcow2_co_before_change(bs);
    }
    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    s->left_dirty = s->incompatible & QCOW2_INCOMPAT_DIRTY;
    if (ret < 0) {
        error_setg_errno(errp, -ret, ret == -ENOTSUP ? "Images with an external data file have no snapshots"
                                                     : "Could not write what is in memory of the image");
    }
    return ret;
}

/* From now on a crash leaves something that wants a repair (or no longer, unless an earlier step left it). Version 2 has no
 * such bit: there a check tells. */
static void mark_dirty(Qcow2State *s, bool dirty)
{
    if (s->version >= 3) {
        s->incompatible &= ~QCOW2_INCOMPAT_DIRTY;
        s->incompatible |= dirty || s->left_dirty ? QCOW2_INCOMPAT_DIRTY : 0;
    }
}

static int coroutine_fn header_co_write(BlockDriverState *bs)
{
    int ret = qcow2_co_write_header(bs);

    return ret ? ret : bdrv_co_flush(bs->file->bs);
}

/* The write of the header that decides failed: which one is there is not known. */
static void header_unknown(Qcow2State *s)
{
    qcow2_lock(s);
    s->corrupt = s->header_lost = true;
    qcow2_unlock(s);
}

/* Clusters for @bytes, in one piece. */
static int coroutine_fn place_co_alloc(BlockDriverState *bs, uint64_t bytes, uint64_t *place)
{
    Qcow2State *s = bs->opaque;
    uint64_t n = DIV_ROUND_UP(bytes, s->cluster_size), cluster, got;
    bool fresh;
    int ret = n == 1 ? qcow2_co_alloc(bs, 1, &cluster, &got, &fresh) : qcow2_co_alloc_at_end(bs, n, &cluster);

    *place = ret < 0 ? 0 : cluster << s->cluster_bits;
    return ret;
}

static void place_free(Qcow2State *s, uint64_t place, uint64_t bytes)
{
    if (place && bytes) {
        qcow2_lock(s);
        qcow2_free_clusters(s, place >> s->cluster_bits, DIV_ROUND_UP(bytes, s->cluster_size), false);
        qcow2_unlock(s);
    }
}

static int coroutine_fn table_co_write(BlockDriverState *bs, uint64_t place, const GByteArray *table)
{
    uint64_t bytes = ROUND_UP(table->len, BDRV_SECTOR_SIZE);
    uint8_t *buf = qemu_blockalign(bs->file->bs, bytes);

    memset(buf, 0, bytes);
    memcpy(buf, table->data, table->len);
    int ret = bdrv_co_pwrite(bs->file, place, bytes, buf, 0);

    qemu_vfree(buf);
    return ret;
}

/* What was freed goes back to the file's storage; if that fails it is only space. */
static void coroutine_fn freed_co_discard(BlockDriverState *bs, const Qcow2Refs *r)
{
    Qcow2State *s = bs->opaque;

    for (guint i = 0; s->discard_snapshot && i < r->freed->len; i++) {
        const Qcow2Run *run = &g_array_index(r->freed, Qcow2Run, i);
        uint64_t at = run->cluster << s->cluster_bits, end = at + (run->n << s->cluster_bits);

        end = MIN(end, (uint64_t)bdrv_getlength_cached(bs->file->bs));
        if (at < end) {
            bdrv_co_pdiscard(bs->file, at, end - at);
        }
    }
}

/* The step is done, but for what only concerns space. */
static void warn_leaks(BlockDriverState *bs)
{
    warn_report("qcow2: could not give back the space of a snapshot in '%s'; 'check --repair all' does it later",
                bs->filename);
}

/* The last step: all is in order again. */
static int coroutine_fn snapshot_co_clean(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = bdrv_co_flush(bs->file->bs);

    if (!ret && s->version >= 3) {
        mark_dirty(s, false);
        ret = header_co_write(bs);
    }
    return ret;
}

/* ---- create ---- */

typedef struct Create {
    Qcow2Snapshot *sn;
    GPtrArray *list;            /* with the new one */
    GByteArray *table;
    uint64_t table_place, table_bytes;
    Qcow2Refs refs;
} Create;

/* One more than the largest there is. */
static void new_id(Qcow2State *s, char *id, size_t bytes)
{
    uint64_t max = 0;

    for (guint i = 0; i < s->snapshots->len; i++) {
        max = MAX(max, g_ascii_strtoull(((Qcow2Snapshot *)g_ptr_array_index(s->snapshots, i))->id, NULL, 10));
    }
    snprintf(id, bytes, "%" PRIu64, max + 1);
}

static int create_plan(Qcow2State *s, Create *c, QEMUSnapshotInfo *info, Error **errp)
{
    if (s->snapshots->len >= QCOW2_MAX_SNAPSHOTS) {
        error_setg(errp, "There are %d snapshots already; an image cannot have more", QCOW2_MAX_SNAPSHOTS);
        return -EFBIG;
    }
    if (!*info->id_str) {
        new_id(s, info->id_str, sizeof(info->id_str));
    } else if (qcow2_snapshot_find(s, info->id_str, NULL) >= 0) {
        error_setg(errp, "There is a snapshot with id '%s' already", info->id_str);
        return -EEXIST;
    }
    *c->sn = (Qcow2Snapshot) {
        .l1_size = s->l1_size, .id = g_strdup(info->id_str), .name = g_strdup(info->name),
        .disk_bytes = s->length_bytes, .vm_state_bytes = info->vm_state_size, .vm_clock_ns = info->vm_clock_nsec,
        .icount = info->icount, .date_s = info->date_sec, .date_ns = info->date_nsec,
    };
    c->list = g_ptr_array_copy(s->snapshots, NULL, NULL);
    g_ptr_array_set_free_func(c->list, NULL);
    g_ptr_array_add(c->list, c->sn);
    return 0;
}

/* Write the copy of L1, and the table. Nothing refers to them yet: a disk that is full is found out before anything else
 * has changed. */
static int coroutine_fn create_co_fill(BlockDriverState *bs, Create *c, Error **errp)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint64_t *l1 = g_memdup2(s->l1_table, MAX(s->l1_size, 1) * 8ULL);
    int ret = 0;

    for (uint32_t i = 0; i < s->l1_size; i++) {
        l1[i] &= ~QCOW2_COPIED;
    }
    if (s->l1_size) {
        ret = qcow2_co_write_l1(bs, c->sn->l1_offset, l1, s->l1_size);
    }
    if (!ret) {
        ret = table_co_write(bs, c->table_place, c->table);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the tables of the snapshot");
    }
    return ret;
}

/* Room for the copy of L1 and for the table, counted on disk. */
static int coroutine_fn create_co_alloc(BlockDriverState *bs, Create *c, Error **errp)
{
    Qcow2State *s = bs->opaque;
    GByteArray *draft = qcow2_snapshot_table_build(c->list);
    int ret = 0;

    c->table_bytes = draft->len;
    g_byte_array_unref(draft);
    if (c->table_bytes > QCOW2_SNAPSHOT_TABLE_MAX) {
        error_setg(errp, "The table of snapshots would become too large");
        return -EFBIG;
    }
    if (s->l1_size) {
        ret = place_co_alloc(bs, s->l1_size * 8ULL, &c->sn->l1_offset);
    }
    if (!ret) {
        ret = place_co_alloc(bs, c->table_bytes, &c->table_place);
    }
    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not find room for the snapshot");
        return ret;
    }
    c->table = qcow2_snapshot_table_build(c->list);
    qcow2_forget_tables(s);
    return create_co_fill(bs, c, errp);
}

/* All up to the switch. */
static int coroutine_fn create_co_write(BlockDriverState *bs, Create *c)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    mark_dirty(s, true);
    if (s->version >= 3) {
        ret = header_co_write(bs);
    }
    if (!ret) {
        ret = qcow2_co_refs_step(bs, &c->refs, REFS_ADD, NULL);
    }
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (!ret && c->refs.flags_seen) {
        ret = qcow2_co_flags_clear(bs, s->l1_table, s->l1_size);
        if (!ret) {
            ret = qcow2_co_write_l1(bs, s->l1_offset, s->l1_table, s->l1_size);
        }
    }
    return ret;
}

static int coroutine_fn create_co_switch(BlockDriverState *bs, Create *c, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_place = s->snapshots_offset, old_bytes = s->snapshots_bytes;
    int ret = create_co_write(bs, c);

    if (ret < 0) {
        /* What was counted is a leak; flags that are gone only cost copies. The dirty bit stays. */
        header_unknown(s);
        error_setg_errno(errp, -ret, "Could not write the snapshot");
        return ret;
    }
    s->nb_snapshots = c->list->len;
    s->snapshots_offset = c->table_place;
    s->snapshots_bytes = c->table->len;
    mark_dirty(s, false);
    ret = header_co_write(bs);
    if (ret < 0) {
        header_unknown(s);
        error_setg_errno(errp, -ret, "Could not update the image header");
        return ret;
    }
    g_ptr_array_add(s->snapshots, g_steal_pointer(&c->sn));
    qcow2_forget_tables(s);
    qcow2_co_overlap_build(bs);
    place_free(s, old_place, old_bytes);
    return 0;
}

/* The machine's state goes with the snapshot; the active table would have to copy it. */
static int coroutine_fn drop_co_vmstate(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    unsigned shift = s->cluster_bits + s->l2_bits;
    uint64_t from = qcow2_l1_needed(s, s->length_bytes);

    for (uint64_t i = from; i < s->l1_size; i++) {
        if (s->l1_table[i] & QCOW2_OFFSET_MASK) {
            return qcow2_co_unmap(bs, i << shift, (s->l1_size - i) << shift);
        }
    }
    return 0;
}

int coroutine_fn qcow2_co_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Create c = { .sn = g_new0(Qcow2Snapshot, 1) };
    int ret = snapshot_co_begin(bs, errp);

    if (!ret) {
        ret = create_plan(s, &c, info, errp);
    }
    if (!ret) {
        qcow2_refs_init(s, &c.refs);
        ret = qcow2_co_refs_count_tree(bs, &c.refs, s->l1_table, s->l1_size, errp);
        if (!ret) {
            ret = qcow2_co_refs_step(bs, &c.refs, REFS_CAN_ADD, errp);
        }
        if (!ret) {
            ret = create_co_alloc(bs, &c, errp);
            if (!ret) {
                ret = create_co_switch(bs, &c, errp);
            }
            if (ret < 0 && !s->corrupt) {
                place_free(s, c.sn->l1_offset, c.sn->l1_size * 8ULL);
                place_free(s, c.table_place, c.table_bytes);
                qcow2_co_settle(bs);
            }
        }
        qcow2_refs_free(&c.refs);
    }
    if (!ret) {
        /* It is there; what follows is space. */
        drop_co_vmstate(bs);
        qcow2_co_settle(bs);
    }
    if (c.list) {
        g_ptr_array_unref(c.list);
    }
    if (c.table) {
        g_byte_array_unref(c.table);
    }
    if (c.sn) {
        qcow2_snapshot_free(c.sn);
    }
    return ret;
}

/* ---- goto ---- */

typedef struct Goto {
    const Qcow2Snapshot *sn;
    uint64_t *l1;               /* the snapshot's, without flags, to be the active one */
    uint32_t l1_size;
    uint64_t l1_place;
    Qcow2Refs up, down;         /* the snapshot's tree; the one that was active */
} Goto;

/* Everything that can be refused is looked at here. */
static int coroutine_fn goto_co_plan(BlockDriverState *bs, Goto *g, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t needed = qcow2_l1_needed(s, g->sn->disk_bytes);
    int ret;

    if (g->sn->disk_bytes > BDRV_MAX_LENGTH || (g->sn->disk_bytes & (BDRV_SECTOR_SIZE - 1)) ||
        needed * 8 > QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "The snapshot's size of the disk, %" PRIu64 " bytes, cannot be", g->sn->disk_bytes);
        return -EINVAL;
    }
    if (g->sn->disk_bytes != s->length_bytes && qcow2_bitmaps_check_resize(bs, errp) < 0) {
        return -ENOTSUP;
    }
    g->l1_size = MAX(g->sn->l1_size, needed);
    g->l1 = qcow2_co_snapshot_l1(bs, g->sn, g->l1_size, errp);
    if (!g->l1) {
        return -EIO;
    }
    ret = qcow2_co_refs_count_tree(bs, &g->up, g->l1, g->l1_size, errp);
    if (!ret) {
        ret = qcow2_co_refs_step(bs, &g->up, REFS_CAN_ADD, errp);
    }
    if (!ret) {
        ret = qcow2_co_refs_count_tree(bs, &g->down, s->l1_table, s->l1_size, errp);
    }
    if (!ret) {
        ret = qcow2_refs_count_range(s, &g->down, s->l1_offset, s->l1_size * 8ULL, "the L1 table", errp);
    }
    if (!ret) {
        ret = qcow2_co_refs_step(bs, &g->down, REFS_CAN_SUB, errp);
    }
    return ret;
}

static int coroutine_fn goto_co_alloc(BlockDriverState *bs, Goto *g, Error **errp)
{
    int ret = g->l1_size ? place_co_alloc(bs, g->l1_size * 8ULL, &g->l1_place) : 0;

    if (!ret) {
        ret = qcow2_co_settle(bs);
    }
    qcow2_forget_tables(bs->opaque);
    if (!ret && g->l1_size) {
        /* It may change once more; but there is space for it then. */
        ret = qcow2_co_write_l1(bs, g->l1_place, g->l1, g->l1_size);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not find room for the L1 table");
    }
    return ret;
}

/* Up to the switch, and the switch. */
static int coroutine_fn goto_co_switch(BlockDriverState *bs, Goto *g)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    mark_dirty(s, true);
    if (s->version >= 3) {
        ret = header_co_write(bs);
    }
    if (!ret) {
        ret = qcow2_co_refs_step(bs, &g->up, REFS_ADD, NULL);
    }
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (!ret && g->up.flags_seen) {
        ret = qcow2_co_flags_clear(bs, g->l1, g->l1_size);
    }
    if (!ret && g->l1_size) {
        ret = qcow2_co_write_l1(bs, g->l1_place, g->l1, g->l1_size);
    }
    if (!ret) {
        qcow2_lock(s);
        g_free(s->l1_table);
        s->l1_table = g_steal_pointer(&g->l1);
        s->l1_size = g->l1_size;
        s->l1_offset = g->l1_place;
        s->length_bytes = g->sn->disk_bytes;
        qcow2_unlock(s);
        ret = header_co_write(bs);
    }
    return ret;
}

int coroutine_fn qcow2_co_snapshot_goto(BlockDriverState *bs, const char *id_or_name, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Goto g = { 0 };
    int ret = snapshot_co_begin(bs, errp), i;

    if (ret < 0) {
        return ret;
    }
    i = qcow2_snapshot_find_by_id_or_name(s, id_or_name);
    if (i < 0) {
        error_setg_errno(errp, ENOENT, "Failed to load snapshot");
        return -ENOENT;
    }
    g.sn = g_ptr_array_index(s->snapshots, i);
    qcow2_refs_init(s, &g.up);
    qcow2_refs_init(s, &g.down);
    ret = goto_co_plan(bs, &g, errp);
    if (!ret) {
        ret = goto_co_alloc(bs, &g, errp);
        if (!ret) {
            ret = goto_co_switch(bs, &g);
            if (ret < 0) {
                header_unknown(s);
                error_setg_errno(errp, -ret, "Failed to load snapshot");
            }
        } else {
            place_free(s, g.l1_place, g.l1_size * 8ULL);
            qcow2_co_settle(bs);
        }
    }
    if (!ret) {
        /* The disk is the snapshot's now; failing here leaves leaks, and the dirty bit. */
        ret = qcow2_co_refs_step(bs, &g.down, REFS_SUB, NULL);
        if (!ret) {
            ret = bdrv_co_flush(bs->file->bs);
        }
        if (!ret) {
            freed_co_discard(bs, &g.down);
            ret = snapshot_co_clean(bs);
        }
        if (ret < 0) {
            warn_leaks(bs);
        }
        ret = qcow2_co_reload(bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read the tables again");
        }
    }
    qcow2_refs_free(&g.up);
    qcow2_refs_free(&g.down);
    g_free(g.l1);
    return ret;
}

/* ---- delete ---- */

/* All that goes with snapshot @i, in @r. */
static int coroutine_fn delete_co_plan(BlockDriverState *bs, const Qcow2Snapshot *sn, Qcow2Refs *r, Error **errp)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint64_t *l1 = qcow2_co_snapshot_l1(bs, sn, 0, errp);
    int ret = l1 ? qcow2_co_refs_count_tree(bs, r, l1, sn->l1_size, errp) : -EIO;

    if (!ret) {
        ret = qcow2_refs_count_range(s, r, sn->l1_offset, sn->l1_size * 8ULL, "the snapshot's L1 table", errp);
    }
    if (!ret) {
        ret = qcow2_refs_count_range(s, r, s->snapshots_offset, s->snapshots_bytes, "the table of snapshots", errp);
    }
    if (!ret) {
        ret = qcow2_co_refs_step(bs, r, REFS_CAN_SUB, errp);
    }
    return ret;
}

/* Write the table of @list, and let the header name it; from then on what the old one took is no longer right. */
static int coroutine_fn table_co_switch(BlockDriverState *bs, const GPtrArray *list, Error **errp)
{
    Qcow2State *s = bs->opaque;
    GByteArray *table = qcow2_snapshot_table_build(list);
    uint64_t place = 0;
    int ret = 0;

    if (table->len) {
        ret = place_co_alloc(bs, table->len, &place);
        if (!ret) {
            ret = qcow2_co_settle(bs);
        }
        if (!ret) {
            ret = table_co_write(bs, place, table);
        }
        if (!ret) {
            ret = bdrv_co_flush(bs->file->bs);
        }
    }
    qcow2_forget_tables(s);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the table of snapshots");
        place_free(s, place, table->len);
    } else {
        s->nb_snapshots = list->len;
        s->snapshots_offset = place;
        s->snapshots_bytes = table->len;
        mark_dirty(s, true);
        ret = header_co_write(bs);
        if (ret < 0) {
            header_unknown(s);
            error_setg_errno(errp, -ret, "Could not update the image header");
        }
    }
    g_byte_array_unref(table);
    return ret;
}

static int coroutine_fn delete_co_switch(BlockDriverState *bs, int i, Error **errp)
{
    Qcow2State *s = bs->opaque;
    GPtrArray *list = g_ptr_array_copy(s->snapshots, NULL, NULL);

    g_ptr_array_set_free_func(list, NULL);
    g_ptr_array_remove_index(list, i);
    int ret = table_co_switch(bs, list, errp);

    g_ptr_array_unref(list);
    return ret;
}

int coroutine_fn qcow2_co_snapshots_rewrite(BlockDriverState *bs, uint64_t old_bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_place = s->snapshots_offset;
    GPtrArray *list = qcow2_co_salvage_snapshots(bs);
    int ret;

    /* All else was found right, or mended. */
    qcow2_lock(s);
    s->corrupt = s->header_lost;
    qcow2_unlock(s);
    ret = table_co_switch(bs, list, NULL);
    if (ret < 0) {
        g_ptr_array_unref(list);
        return ret;
    }
    g_clear_pointer(&s->snapshots, g_ptr_array_unref);
    s->snapshots = list;
    place_free(s, old_place, old_bytes);
    ret = qcow2_co_settle(bs);
    return ret ? ret : snapshot_co_clean(bs);
}

/* The snapshot is gone: what was its own is free, what only the active table has is its own again. */
static int coroutine_fn delete_co_refs(BlockDriverState *bs, Qcow2Refs *r)
{
    Qcow2State *s = bs->opaque;
    bool changed = false;
    int ret = qcow2_co_refs_step(bs, r, REFS_SUB, NULL);

    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (!ret) {
        ret = qcow2_co_flags_set(bs, r, s->l1_table, s->l1_size, &changed);
    }
    if (!ret && changed) {
        ret = qcow2_co_write_l1(bs, s->l1_offset, s->l1_table, s->l1_size);
    }
    if (!ret) {
        freed_co_discard(bs, r);
        ret = snapshot_co_clean(bs);
    }
    return ret;
}

int coroutine_fn qcow2_co_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Refs refs;
    int ret = snapshot_co_begin(bs, errp), i;

    if (ret < 0) {
        return ret;
    }
    i = qcow2_snapshot_find(s, id, name);
    if (i < 0) {
        error_setg(errp, "Can't find the snapshot");
        return -ENOENT;
    }
    qcow2_refs_init(s, &refs);
    ret = delete_co_plan(bs, g_ptr_array_index(s->snapshots, i), &refs, errp);
    if (!ret) {
        ret = delete_co_switch(bs, i, errp);
    }
    if (!ret) {
        g_ptr_array_remove_index(s->snapshots, i);
        if (delete_co_refs(bs, &refs) < 0) {
            warn_leaks(bs);                     /* and the dirty bit stays */
        }
        ret = qcow2_co_reload(bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read the tables again");
        }
    }
    qcow2_refs_free(&refs);
    return ret;
}

/* ---- load ---- */

int coroutine_fn qcow2_co_snapshot_load(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int i = qcow2_snapshot_find(s, id, name);
    const Qcow2Snapshot *sn = i >= 0 ? g_ptr_array_index(s->snapshots, i) : NULL;
    uint64_t needed = sn ? qcow2_l1_needed(s, sn->disk_bytes) : 0;
    uint64_t *l1;

    if (!sn) {
        error_setg(errp, "Can't find snapshot");
        return -ENOENT;
    }
    if (sn->disk_bytes > BDRV_MAX_LENGTH || needed * 8 > QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "The snapshot's size of the disk, %" PRIu64 " bytes, cannot be", sn->disk_bytes);
        return -EINVAL;
    }
    l1 = qcow2_co_snapshot_l1(bs, sn, needed, errp);
    if (!l1) {
        return -EIO;
    }
    qcow2_lock(s);
    g_free(s->l1_table);
    s->l1_table = l1;
    s->l1_size = MAX(sn->l1_size, needed);
    s->length_bytes = sn->disk_bytes;
    s->viewing_snapshot = true;
    qcow2_unlock(s);
    return 0;
}

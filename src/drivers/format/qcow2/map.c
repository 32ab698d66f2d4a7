/* SPDX-License-Identifier: MIT */
/* map.c: from the guest's offset to the place in the file.
 *
 * L1 is in memory as a whole; L2 tables are cached in slices. A look-up takes `lock` for
 * an instant, if its slice is in memory. What it found stays true until `lock` is
 * dropped; after that, only qcow2_use_begin() keeps the clusters from being given to
 * somebody else.
 */
#include "base/trace.h"
#include "drivers/format/qcow2/overlap.h"
#include "qapi-events.h"

/* ---- entries ---- */

Qcow2Kind qcow2_entry_kind(Qcow2State *s, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED) {
        return QCOW2_PACKED;
    }
    if (s->version >= 3 && !s->ext_l2 && (entry & QCOW2_ZERO)) {
        return qcow2_entry_has_cluster(s, entry) ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return qcow2_entry_has_cluster(s, entry) ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

Qcow2Kind qcow2_sub_kind(Qcow2State *s, uint64_t entry, uint64_t bits, unsigned i)
{
    Qcow2Kind kind = qcow2_entry_kind(s, entry);

    if (!s->ext_l2 || kind == QCOW2_PACKED) {
        return kind;
    }
    if (bits & (1ULL << (QCOW2_SUBCLUSTERS + i))) {
        return kind == QCOW2_NORMAL ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return kind == QCOW2_NORMAL && (bits & (1ULL << i)) ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

void qcow2_packed_place(Qcow2State *s, uint64_t entry, uint64_t *host, uint32_t *bytes)
{
    unsigned shift = 62 - (s->cluster_bits - 8);
    uint64_t sectors = (entry & ~(QCOW2_COPIED | QCOW2_COMPRESSED)) >> shift;

    *host = entry & ((1ULL << shift) - 1);
    *bytes = (sectors + 1) * 512 - (*host & 511);
}

void qcow2_damaged(BlockDriverState *bs, const char *fmt, ...)
{
    Qcow2State *s = bs->opaque;
    va_list ap;

    if (s->corrupt) {
        return;
    }
    va_start(ap, fmt);
    s->damage = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    s->corrupt = true;
}

void qcow2_found_cut_off(BlockDriverState *bs, uint64_t host)
{
    Qcow2State *s = bs->opaque;

    if (!s->corrupt && !s->cut_off) {
        s->cut_off = true;
        s->damage = g_strdup_printf("Cluster at offset %#" PRIx64 " lies behind the end of the image file; is "
                                    "the file cut off?", host);
    }
}

typedef struct DamageEvent {
    char *node_name, *what;
    uint64_t offset, bytes;
    bool fatal;
} DamageEvent;

/* Main thread: listeners are there. */
static void damage_tell(void *opaque)
{
    DamageEvent *e = opaque;

    qapi_event_send_block_image_corrupted("", e->node_name, e->what, e->bytes != 0, e->offset, e->bytes != 0,
                                           e->bytes, e->fatal);
    g_free(e->node_name);
    g_free(e->what);
    g_free(e);
}

void coroutine_fn qcow2_co_note_damage(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    bool mark;
    uint64_t features;
    char *what;

    qcow2_lock(s);
    mark = !bs->read_only && s->corrupt;
    what = g_steal_pointer(&s->damage);
    s->incompatible |= what && mark ? QCOW2_INCOMPAT_CORRUPT : 0;
    features = GUINT64_TO_BE(s->incompatible);
    qcow2_unlock(s);
    if (!what) {
        return;
    }
    TRACE(qcow2, "%s: damage: %s", bs->node_name, what);
    fprintf(stderr, "qcow2: %s: %s; further %scorruption events will be suppressed\n",
            mark ? "Marking image as corrupt" : "Image is corrupt", what, mark ? "" : "non-fatal ");
    DamageEvent *e = g_new(DamageEvent, 1);

    *e = (DamageEvent) { g_strdup(bs->node_name), what, s->damage_offset, s->damage_bytes, mark };
    if (qemu_in_main_thread()) {
        damage_tell(e);
    } else {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), damage_tell, e);
    }
    if (mark && s->version >= 3) {
        /* If this fails too there is nothing more that could be done. */
        bdrv_co_pwrite(bs->file, 72, sizeof(features), &features, 0);
        bdrv_co_flush(bs->file->bs);
    }
}

/* What bits cannot be set together. */
static bool bits_valid(Qcow2State *s, Qcow2Kind kind, uint64_t bits)
{
    return kind == QCOW2_PACKED || (!(bits & (bits >> QCOW2_SUBCLUSTERS)) &&
                                    (kind == QCOW2_NORMAL || !(bits & QCOW2_BITS_DATA)));
}

bool qcow2_entry_valid(BlockDriverState *bs, uint64_t guest, uint64_t entry, uint64_t bits)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    Qcow2Kind kind = qcow2_entry_kind(s, entry);
    bool has_cluster = kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC;

    if (has_cluster && qcow2_in_cluster(s, offset)) {
        qcow2_damaged(bs, "Cluster allocation offset %#" PRIx64 " unaligned (L2 offset: %#" PRIx64
                      ", L2 index: %#" PRIx64 ")", offset,
                      s->l1_table[qcow2_l1_index(s, guest)] & QCOW2_OFFSET_MASK,
                      qcow2_l2_index(s, guest));
        return false;
    }
    if (s->external && (kind == QCOW2_PACKED || (has_cluster && offset != guest - qcow2_in_cluster(s, guest)))) {
        qcow2_damaged(bs, "External data file host cluster offset %#" PRIx64 " does not match guest cluster "
                      "offset: %#" PRIx64 ", L2 index: %#" PRIx64, offset,
                      guest - qcow2_in_cluster(s, guest), qcow2_l2_index(s, guest));
        return false;
    }
    if (s->ext_l2 && !bits_valid(s, kind, bits)) {
        qcow2_damaged(bs, "Invalid subcluster bits %#" PRIx64 " (guest offset: %#" PRIx64
                      ", L2 index: %#" PRIx64 ")", bits, guest, qcow2_l2_index(s, guest));
        return false;
    }
    return true;
}

/* ---- looking up ---- */

/* The place of the slice for @offset in the file, by the L1 entry; 0: no L2 table. False:
 * the entry cannot be. */
static bool slice_place(BlockDriverState *bs, uint64_t offset, uint64_t *place)
{
    Qcow2State *s = bs->opaque;
    uint64_t i = qcow2_l1_index(s, offset);
    uint64_t entry = i < s->l1_size ? s->l1_table[i] : 0;
    uint64_t table = entry & QCOW2_OFFSET_MASK;

    *place = 0;
    if (entry == QCOW2_COPIED) {
        /* Nothing writes that: it is what is left of an entry in a file that was cut off within. */
        qcow2_damaged(bs, "L1 entry without an L2 table claims to own it (L1 index: %#" PRIx64 ")", i);
        return false;
    }
    if (!table) {
        return true;
    }
    if (qcow2_in_cluster(s, table)) {
        qcow2_damaged(bs, "L2 table offset %#" PRIx64 " unaligned (L1 index: %#" PRIx64 ")",
                      table, i);
        return false;
    }
    *place = table + qcow2_l2_index(s, offset) / s->slice_entries * s->slice_bytes;
    return true;
}

/* Guest bytes from @offset on that lie below L1 entries without an L2 table. */
static uint64_t hole_bytes(Qcow2State *s, uint64_t offset, uint64_t bytes)
{
    unsigned shift = s->cluster_bits + s->l2_bits;
    uint64_t i = qcow2_l1_index(s, offset);
    uint64_t last = qcow2_l1_index(s, offset + bytes - 1);

    while (i < last && (i + 1 >= s->l1_size || !(s->l1_table[i + 1] & QCOW2_OFFSET_MASK))) {
        i++;
    }
    return MIN(bytes, ((i + 1) << shift) - offset);
}

/* How many entries from @index on continue the first one: the same kind, and where there is
 * a host offset, in a row. */
static uint32_t slice_run(Qcow2State *s, const void *slice, uint32_t index, uint32_t max)
{
    uint64_t first = be64_at(slice, index);
    Qcow2Kind kind = qcow2_entry_kind(s, first);
    uint64_t step = kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC ? s->cluster_size : 0;
    uint64_t mask = kind == QCOW2_UNALLOCATED ? QCOW2_OFFSET_MASK | QCOW2_COMPRESSED | QCOW2_ZERO
                                              : ~0ULL;
    uint32_t n = 1;

    if (kind == QCOW2_PACKED) {
        return 1;
    }
    if (s->external) {
        mask |= QCOW2_COPIED;
    }
    while (n < max && !((be64_at(slice, index + n) ^ (first + n * step)) & mask)) {
        n++;
    }
    return n;
}

/* How many subclusters of one cluster, from @sub on, are alike. */
static unsigned sub_run(Qcow2State *s, uint64_t entry, uint64_t bits, unsigned sub, Qcow2Kind kind)
{
    unsigned n = 0;

    if (!sub && (bits == QCOW2_BITS_DATA || bits == QCOW2_BITS_ZERO || !bits)) {
        return qcow2_sub_kind(s, entry, bits, 0) == kind ? QCOW2_SUBCLUSTERS : 0;
    }
    while (sub + n < QCOW2_SUBCLUSTERS && qcow2_sub_kind(s, entry, bits, sub + n) == kind) {
        n++;
    }
    return n;
}

/* The same in subclusters, from @sub of entry @index on; @max of them. */
static uint32_t slice_run_subs(Qcow2State *s, const void *slice, uint32_t index, unsigned sub, uint32_t max)
{
    uint64_t first = qcow2_entry(s, slice, index);
    Qcow2Kind kind = qcow2_sub_kind(s, first, qcow2_bits(s, slice, index), sub);
    bool has_place = kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC;
    uint32_t n = 0;

    if (kind == QCOW2_PACKED) {
        return MIN(max, QCOW2_SUBCLUSTERS - sub);
    }
    for (uint32_t i = 0; n < max; i++, sub = 0) {
        uint64_t entry = qcow2_entry(s, slice, index + i);
        unsigned k;

        if (has_place && i && entry != first + (uint64_t)i * s->cluster_size) {
            break;
        }
        k = sub_run(s, entry, qcow2_bits(s, slice, index + i), sub, kind);
        n += k;
        if (sub + k < QCOW2_SUBCLUSTERS) {
            break;
        }
    }
    return MIN(n, max);
}

/* How many of the @n subclusters from @host on begin within the file. What lies behind would read
 * as zeroes, as if nothing were wrong. A raw data file is the user's own: it may be short. */
static uint32_t subs_in_file(BlockDriverState *bs, uint64_t host, uint32_t n)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = bdrv_getlength_cached(s->data_file->bs);
    uint64_t start = host & ~((uint64_t)s->cluster_size - 1);

    if (likely(start + (uint64_t)n * s->subcluster_size <= end) || s->raw_data) {
        return n;
    }
    if (start >= end) {
        qcow2_found_cut_off(bs, start);
        return 0;
    }
    end = ROUND_UP(end, (uint64_t)s->cluster_size);
    return MIN(n, (end - host) >> s->subcluster_bits);
}

/* Fill @e from @slice. `lock` held. */
static int extent_from_slice(BlockDriverState *bs, const Qcow2Table *slice, uint64_t offset,
                             uint64_t bytes, Qcow2Extent *e)
{
    Qcow2State *s = bs->opaque;
    uint32_t index = qcow2_l2_index(s, offset) % s->slice_entries;
    uint64_t within = qcow2_in_cluster(s, offset), in_sub = offset & (s->subcluster_size - 1);
    unsigned sub = within >> s->subcluster_bits, per_cluster = s->cluster_size >> s->subcluster_bits;
    uint64_t wanted = DIV_ROUND_UP(in_sub + bytes, s->subcluster_size);
    uint32_t max = MIN(wanted, (uint64_t)(s->slice_entries - index) * per_cluster - sub);
    uint64_t entry = qcow2_entry(s, slice->data, index), bits = qcow2_bits(s, slice->data, index);
    uint32_t n;

    if (!qcow2_entry_valid(bs, offset - within, entry, bits)) {
        return -EIO;
    }
    n = s->ext_l2 ? slice_run_subs(s, slice->data, index, sub, max)
                  : slice_run(s, slice->data, index, max);
    e->kind = qcow2_sub_kind(s, entry, bits, sub);
    if (e->kind == QCOW2_NORMAL) {
        n = subs_in_file(bs, (entry & QCOW2_OFFSET_MASK) + within - in_sub, n);
        if (!n) {
            return -EIO;
        }
    }
    e->bytes = MIN(bytes, (uint64_t)n * s->subcluster_size - in_sub);
    if (e->kind == QCOW2_PACKED) {
        qcow2_packed_place(s, entry, &e->host, &e->packed_bytes);
    } else {
        e->host = (entry & QCOW2_OFFSET_MASK) + within;
    }
    return 0;
}

/* Go on behind a slice's end while the next slices are in memory and continue it. */
static void extent_extend(BlockDriverState *bs, uint64_t offset, uint64_t bytes, Qcow2Extent *e)
{
    Qcow2State *s = bs->opaque;
    bool has_place = e->kind == QCOW2_NORMAL || e->kind == QCOW2_ZERO_ALLOC;

    while (e->kind != QCOW2_PACKED && e->bytes < bytes) {
        uint64_t at = offset + e->bytes, place;
        Qcow2Extent more;
        Qcow2Table *slice;

        if (qcow2_l2_index(s, at) % s->slice_entries || qcow2_in_cluster(s, at) ||
            !slice_place(bs, at, &place)) {
            return;
        }
        if (!place) {
            if (e->kind != QCOW2_UNALLOCATED) {
                return;
            }
            e->bytes += hole_bytes(s, at, bytes - e->bytes);
            continue;
        }
        slice = qcow2_cache_peek(&s->l2, place);
        if (!slice || extent_from_slice(bs, slice, at, bytes - e->bytes, &more) < 0 ||
            more.kind != e->kind || (has_place && more.host != e->host + e->bytes)) {
            return;
        }
        e->bytes += more.bytes;
    }
}

int coroutine_fn qcow2_co_map(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                              Qcow2Extent *e)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    if (unlikely(!s->data_file)) {
        return -EIO;        /* opened without it */
    }
    qcow2_lock(s);
    for (;;) {
        bool dropped = false;
        Qcow2Table *slice;
        uint64_t place;

        if (!slice_place(bs, offset, &place)) {
            ret = -EIO;
            break;
        }
        if (!place) {
            e->kind = QCOW2_UNALLOCATED;
            e->bytes = hole_bytes(s, offset, bytes);
            break;
        }
        ret = qcow2_co_cache_get(bs, &s->l2, place, &slice, &dropped);
        if (ret < 0) {
            break;
        }
        if (!dropped) {
            ret = extent_from_slice(bs, slice, offset, bytes, e);
            qcow2_cache_put(&s->l2, slice);
            break;
        }
        qcow2_cache_put(&s->l2, slice);
    }
    if (!ret) {
        extent_extend(bs, offset, bytes, e);
        if (e->kind == QCOW2_NORMAL || e->kind == QCOW2_PACKED) {
            e->epoch = qcow2_use_begin(s);
        }
    }
    qcow2_unlock(s);
    return ret;
}

/* ---- for writing ---- */

/* Fill the new table at @host: a copy of the one at @old, or zeroes. */
static int coroutine_fn l2_co_fill(BlockDriverState *bs, uint64_t host, uint64_t old, bool fresh)
{
    Qcow2State *s = bs->opaque;
    QEMUIOVector qiov;
    int ret;

    if (!old) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L2_ALLOC_WRITE);
    }
    if (!old && !fresh) {
        return bdrv_co_pwrite_zeroes(bs->file, host, s->cluster_size, 0);
    }
    if (!old) {
        /* Zero already, but the file should reach to its end. Nobody else writes here. */
        uint8_t *sector = qemu_blockalign(bs->file->bs, BDRV_SECTOR_SIZE);

        memset(sector, 0, BDRV_SECTOR_SIZE);
        ret = bdrv_co_pwrite(bs->file, host + s->cluster_size - BDRV_SECTOR_SIZE,
                             BDRV_SECTOR_SIZE, sector, 0);
        qemu_vfree(sector);
        return ret;
    }
    void *buf = qemu_blockalign(bs->file->bs, s->cluster_size);

    qemu_iovec_init_buf(&qiov, buf, s->cluster_size);
    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L2_ALLOC_COW_READ);
    ret = qcow2_co_read_file(bs, old, s->cluster_size, &qiov, 0, 0);
    if (!ret) {
        bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_L2_ALLOC_WRITE);
        ret = bdrv_co_pwritev(bs->file, host, s->cluster_size, &qiov, 0);
    }
    qemu_vfree(buf);
    return ret;
}

/* Give L1 entry @i a table of its own. A table that is shared with a snapshot is never
 * dirty: it is made private, here, before its first change. */
static int coroutine_fn l2_co_make(BlockDriverState *bs, uint64_t i)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster, n, old;
    bool fresh;
    int ret = 0;

    qemu_co_mutex_lock(&s->l1_lock);
    qcow2_lock(s);
    old = s->l1_table[i] & QCOW2_OFFSET_MASK;
    /* A damaged entry may say "ours alone" of no table. */
    bool done = old && s->l1_table[i] & QCOW2_COPIED;
    qcow2_unlock(s);
    if (!done) {
        ret = qcow2_co_alloc(bs, 1, &cluster, &n, &fresh);
    }
    if (done || ret < 0) {
        goto out;
    }
    ret = l2_co_fill(bs, cluster << s->cluster_bits, old, fresh);
    qcow2_lock(s);
    if (ret < 0) {
        qcow2_free_clusters(s, cluster, 1, false);
    } else {
        s->l1_table[i] = (cluster << s->cluster_bits) | QCOW2_COPIED;
        qcow2_overlap_add(s, OVERLAP_ACTIVE_L2, cluster, 1);
        if (old && s->nb_snapshots) {
            qcow2_overlap_add(s, OVERLAP_INACTIVE_L2, old >> s->cluster_bits, 1);
        }
        if (s->l1_dirty_from >= s->l1_dirty_to) {
            s->l1_dirty_from = i;
            s->l1_dirty_to = i + 1;
        }
        s->l1_dirty_from = MIN(s->l1_dirty_from, i);
        s->l1_dirty_to = MAX(s->l1_dirty_to, i + 1);
        if (old) {
            qcow2_free_clusters(s, old >> s->cluster_bits, 1, false);
        }
    }
    qcow2_unlock(s);
out:
    qemu_co_mutex_unlock(&s->l1_lock);
    return ret;
}

int coroutine_fn qcow2_co_slice_for_write(BlockDriverState *bs, uint64_t offset,
                                          Qcow2Table **slice, uint32_t *index, bool *dropped)
{
    Qcow2State *s = bs->opaque;
    uint64_t i = qcow2_l1_index(s, offset), place;

    if (s->corrupt || i >= s->l1_size || !slice_place(bs, offset, &place)) {
        return -EIO;
    }
    if (!place || !(s->l1_table[i] & QCOW2_COPIED)) {
        *dropped = true;
        qcow2_unlock(s);
        int ret = l2_co_make(bs, i);
        qcow2_lock(s);
        if (ret < 0) {
            return ret;
        }
        if (s->corrupt || !slice_place(bs, offset, &place)) {
            return -EIO;
        }
    }
    if (qcow2_overlap_table(bs, s->l1_table[i] & QCOW2_OFFSET_MASK, "active L2 table", OVERLAP_ACTIVE_L2)) {
        return -EIO;
    }
    *index = qcow2_l2_index(s, offset) % s->slice_entries;
    return qcow2_co_cache_get(bs, &s->l2, place, slice, dropped);
}

void qcow2_set_entries(Qcow2State *s, Qcow2Table *slice, uint32_t index, uint32_t n,
                       uint64_t first, uint64_t step, uint64_t bits)
{
    uint64_t *words = slice->data;
    unsigned shift = s->ext_l2;

    for (uint32_t i = index; i < index + n; i++) {
        words[i << shift] = GUINT64_TO_BE(first + (i - index) * step);
        if (s->ext_l2) {
            words[2 * i + 1] = GUINT64_TO_BE(bits);
        }
    }
    qcow2_cache_dirty(&s->l2, slice, index * 8 << shift, (index + n) * 8 << shift);
}

void qcow2_free_entry(Qcow2State *s, uint64_t entry, bool discard)
{
    uint64_t host;
    uint32_t bytes;

    switch (qcow2_entry_kind(s, entry)) {
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOC:
        if (s->external) {
            break;      /* not counted */
        }
        qcow2_free_clusters(s, (entry & QCOW2_OFFSET_MASK) >> s->cluster_bits, 1, discard);
        break;
    case QCOW2_PACKED:
        qcow2_packed_place(s, entry, &host, &bytes);
        qcow2_free_clusters(s, host >> s->cluster_bits,
                            ((host + bytes - 1) >> s->cluster_bits) - (host >> s->cluster_bits) + 1,
                            false);
        break;
    default:
        break;
    }
}

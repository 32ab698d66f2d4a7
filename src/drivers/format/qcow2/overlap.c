/* SPDX-License-Identifier: MIT */
/* overlap.c: what of the image is metadata, and what to do if something else is to be written there; see
 * overlap.h. */
#include "drivers/format/qcow2/bitmap.h"
#include "drivers/format/qcow2/overlap.h"
#include "drivers/format/qcow2/snapshot.h"

#define PAGE (1u << QCOW2_OVERLAP_PAGE_BITS)
#define PAGES_MAX (128 * 1024)          /* 128 MiB: tables may be scattered over any length, to harm us */

static const struct { unsigned what; const char *name; } sections[] = {
    { OVERLAP_HEADER, "qcow2_header" },
    { OVERLAP_ACTIVE_L1, "active L1 table" },
    { OVERLAP_ACTIVE_L2, "active L2 table" },
    { OVERLAP_REFBLOCK, "refcount block" },
    { OVERLAP_REFTABLE, "refcount table" },
    { OVERLAP_SNAPSHOTS, "snapshot table" },
    { OVERLAP_INACTIVE_L1, "inactive L1 table" },
    { OVERLAP_INACTIVE_L2, "inactive L2 table" },
    { OVERLAP_BITMAPS, "bitmap directory" },
};

/* ---- options ---- */

static unsigned of_template(Qcow2OverlapCheckMode mode)
{
    switch (mode) {
    case QCOW2_OVERLAP_CHECK_MODE_NONE:
        return 0;
    case QCOW2_OVERLAP_CHECK_MODE_CONSTANT:
        return OVERLAP_CONSTANT;
    case QCOW2_OVERLAP_CHECK_MODE_ALL:
        return OVERLAP_ALL;
    default:
        return OVERLAP_CACHED;
    }
}

unsigned qcow2_overlap_parse(const BlockdevOptionsQcow2 *o)
{
    const Qcow2OverlapChecks *checks = o->overlap_check;

    if (!checks) {
        return OVERLAP_CACHED;
    }
    if (checks->type == QTYPE_QSTRING) {
        return of_template(checks->u.mode);
    }
    const Qcow2OverlapCheckFlags *f = checks->u.flags;
    const struct { bool given, on; unsigned what; } flags[] = {
        { f->has_main_header, f->main_header, OVERLAP_HEADER },
        { f->has_active_l1, f->active_l1, OVERLAP_ACTIVE_L1 },
        { f->has_active_l2, f->active_l2, OVERLAP_ACTIVE_L2 },
        { f->has_refcount_table, f->refcount_table, OVERLAP_REFTABLE },
        { f->has_refcount_block, f->refcount_block, OVERLAP_REFBLOCK },
        { f->has_snapshot_table, f->snapshot_table, OVERLAP_SNAPSHOTS },
        { f->has_inactive_l1, f->inactive_l1, OVERLAP_INACTIVE_L1 },
        { f->has_inactive_l2, f->inactive_l2, OVERLAP_INACTIVE_L2 },
        { f->has_bitmap_directory, f->bitmap_directory, OVERLAP_BITMAPS },
    };
    unsigned what = f->has_template ? of_template(f->template) : OVERLAP_CACHED;

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (flags[i].given) {
            what = flags[i].on ? what | flags[i].what : what & ~flags[i].what;
        }
    }
    return what;
}

/* ---- the map ---- */

void qcow2_overlap_free(Qcow2State *s)
{
    for (uint64_t i = 0; i < s->overlap_n_pages; i++) {
        g_free(s->overlap_pages[i]);
    }
    g_clear_pointer(&s->overlap_pages, g_free);
    s->overlap_n_pages = s->overlap_n_made = 0;
}

/* NULL: there are PAGES_MAX already. */
static uint16_t *page_of(Qcow2State *s, uint64_t cluster)
{
    uint64_t i = cluster >> QCOW2_OVERLAP_PAGE_BITS;

    if (s->overlap_n_made >= PAGES_MAX && (i >= s->overlap_n_pages || !s->overlap_pages[i])) {
        return NULL;
    }
    if (i >= s->overlap_n_pages) {
        uint64_t n = MAX(i + 1, s->overlap_n_pages + s->overlap_n_pages / 2);

        s->overlap_pages = g_renew(uint16_t *, s->overlap_pages, n);
        memset(s->overlap_pages + s->overlap_n_pages, 0, (n - s->overlap_n_pages) * sizeof(uint16_t *));
        s->overlap_n_pages = n;
    }
    if (!s->overlap_pages[i]) {
        s->overlap_pages[i] = g_new0(uint16_t, PAGE);
        s->overlap_n_made++;
    }
    return s->overlap_pages[i];
}

void qcow2_overlap_add(Qcow2State *s, unsigned what, uint64_t cluster, uint64_t n)
{
    /* What a damaged table names may be anywhere; the map is for what the file can hold. */
    uint64_t limit = MIN(s->reftable_size * s->rb_entries, s->cluster_max);

    if (!(s->overlap_check & what)) {
        return;
    }
    for (uint64_t k = cluster; k < cluster + n && k < limit; k++) {
        uint16_t *page = page_of(s, k);

        if (page) {
            page[k & (PAGE - 1)] |= what;
        }
    }
}

void qcow2_overlap_clear(Qcow2State *s, uint64_t cluster, uint64_t n)
{
    for (uint64_t k = cluster; k < cluster + n; k++) {
        if (qcow2_overlap_hit(s, k, 0)) {
            page_of(s, k)[k & (PAGE - 1)] = 0;
        }
    }
}

static void add_bytes(Qcow2State *s, unsigned what, uint64_t offset, uint64_t bytes)
{
    if (bytes) {
        uint64_t first = offset >> s->cluster_bits, last = (offset + bytes - 1) >> s->cluster_bits;

        qcow2_overlap_add(s, what, first, last - first + 1);
    }
}

static void add_l2_tables(Qcow2State *s, unsigned what, const uint64_t *l1, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (l1[i] & QCOW2_OFFSET_MASK) {
            qcow2_overlap_add(s, what, (l1[i] & QCOW2_OFFSET_MASK) >> s->cluster_bits, 1);
        }
    }
}

static void coroutine_fn add_co_snapshots(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    add_bytes(s, OVERLAP_SNAPSHOTS, s->snapshots_offset, s->snapshots_bytes);
    for (guint i = 0; s->snapshots && i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        add_bytes(s, OVERLAP_INACTIVE_L1, sn->l1_offset, MIN(sn->l1_size * 8ULL, QCOW2_MAX_L1_BYTES));
        if (s->overlap_check & OVERLAP_INACTIVE_L2) {
            g_autofree uint64_t *l1 = qcow2_co_snapshot_l1(bs, sn, 0, NULL);

            if (l1) {
                add_l2_tables(s, OVERLAP_INACTIVE_L2, l1, sn->l1_size);
            }
        }
    }
}

void coroutine_fn qcow2_co_overlap_build(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    /* Nobody else is there: `lock` is not needed, and may not be held while snapshots are read. */
    qcow2_overlap_free(s);
    if (!s->overlap_check || !s->l1_table || !s->reftable) {
        return;
    }
    add_bytes(s, OVERLAP_HEADER, 0, s->cluster_size);
    add_bytes(s, OVERLAP_ACTIVE_L1, s->l1_offset, s->l1_size * 8ULL);
    add_bytes(s, OVERLAP_REFTABLE, s->reftable_offset, s->reftable_size * 8ULL);
    for (uint32_t r = 0; r < s->reftable_size; r++) {
        if (s->reftable[r]) {
            qcow2_overlap_add(s, OVERLAP_REFBLOCK, s->reftable[r] >> s->cluster_bits, 1);
        }
    }
    add_l2_tables(s, OVERLAP_ACTIVE_L2, s->l1_table, s->l1_size);
    add_co_snapshots(bs);
    if (s->bitmaps) {
        add_bytes(s, OVERLAP_BITMAPS, s->bitmaps->dir_offset, s->bitmaps->dir_bytes);
    }
}

/* ---- a bit was found ---- */

static bool bytes_hold(Qcow2State *s, uint64_t cluster, uint64_t offset, uint64_t bytes)
{
    return bytes && cluster >= offset >> s->cluster_bits && cluster <= (offset + bytes - 1) >> s->cluster_bits;
}

static bool table_names(const uint64_t *table, uint32_t n, uint64_t offset)
{
    for (uint32_t i = 0; i < n; i++) {
        if ((table[i] & QCOW2_OFFSET_MASK) == offset) {
            return true;
        }
    }
    return false;
}

static bool still_there(Qcow2State *s, unsigned what, uint64_t k)
{
    switch (what) {
    case OVERLAP_ACTIVE_L1:
        return bytes_hold(s, k, s->l1_offset, s->l1_size * 8ULL);
    case OVERLAP_ACTIVE_L2:
        return table_names(s->l1_table, s->l1_size, k << s->cluster_bits);
    case OVERLAP_REFTABLE:
        return bytes_hold(s, k, s->reftable_offset, s->reftable_size * 8ULL);
    case OVERLAP_REFBLOCK:
        return table_names(s->reftable, s->reftable_size, k << s->cluster_bits);
    case OVERLAP_SNAPSHOTS:
        return bytes_hold(s, k, s->snapshots_offset, s->snapshots_bytes);
    case OVERLAP_BITMAPS:
        return s->bitmaps && bytes_hold(s, k, s->bitmaps->dir_offset, s->bitmaps->dir_bytes);
    default:
        return true;        /* these change only when the map is built anew */
    }
}

bool qcow2_overlap_slow(BlockDriverState *bs, const char *what, unsigned except, uint64_t host, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;

    for (uint64_t k = host >> s->cluster_bits; k <= (host + bytes - 1) >> s->cluster_bits; k++) {
        if (!qcow2_overlap_hit(s, k, except)) {
            continue;
        }
        uint16_t *bits = &page_of(s, k)[k & (PAGE - 1)];

        for (size_t i = 0; i < G_N_ELEMENTS(sections); i++) {
            unsigned bit = sections[i].what & ~except;

            if (!(*bits & bit)) {
                continue;
            }
            if (still_there(s, bit, k)) {
                s->damage_offset = host;
                s->damage_bytes = bytes;
                qcow2_damaged(bs, "Preventing invalid write on %s (overlaps with %s)", what, sections[i].name);
                return true;
            }
            *bits &= ~bit;
        }
    }
    return false;
}

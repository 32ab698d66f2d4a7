/* SPDX-License-Identifier: MIT */
/* check_refs.c: the refcounts on disk and the references that were counted; COPIED flags; see
 * check.h. */
#include "drivers/format/qcow2/check.h"

bool check_refblock_valid(Qcow2Check *c, uint64_t r, bool tell)
{
    Qcow2State *s = c->s;
    uint64_t place = s->reftable[r];

    if (!(place & ~UINT64_C(0x1ff))) {
        return false;
    }
    if (place & 0x1ff) {
        if (tell) {
            check_say(c, "ERROR refcount table entry %" PRIu64 " has reserved bits set", r);
        }
    } else if (qcow2_in_cluster(s, place)) {
        if (tell) {
            check_say(c, "ERROR refcount block %" PRIu64 " is not cluster aligned; refcount table entry corrupted", r);
        }
    } else if (place >> s->cluster_bits >= c->clusters) {
        if (tell) {
            check_say(c, "ERROR refcount block %" PRIu64 " is outside image", r);
        }
    } else {
        return true;
    }
    if (tell) {
        c->res->corruptions++;
        c->structure_errors++;
        c->rebuild = true;
    }
    return false;
}

/* Clusters of [offset, +bytes) within the file. */
static void count_region(Qcow2Check *c, uint64_t offset, uint64_t bytes, bool add)
{
    unsigned bits = c->s->cluster_bits;

    for (uint64_t k = offset >> bits; k <= (offset + bytes - 1) >> bits && k < c->clusters; k++) {
        if (add && unlikely(c->refs.n_made > c->pages_max)) {
            c->scattered = true;
            return;
        }
        if (add) {
            check_counts_add(&c->refs, k, 1);
        } else {
            check_counts_sub(&c->refs, k, 1);
        }
    }
}

void check_refcount_structure(Qcow2Check *c, bool add)
{
    Qcow2State *s = c->s;

    if (s->reftable_size) {
        count_region(c, s->reftable_offset, s->reftable_size * 8ULL, add);
    }
    for (uint64_t r = 0; r < s->reftable_size; r++) {
        if (check_refblock_valid(c, r, add)) {
            count_region(c, s->reftable[r], s->cluster_size, add);
        }
    }
    if (!add || c->scattered) {
        return;
    }
    for (uint64_t r = 0; r < s->reftable_size; r++) {
        if (check_refblock_valid(c, r, false)) {
            uint32_t refs = check_counts_get(&c->refs, s->reftable[r] >> s->cluster_bits);

            if (refs != 1) {
                check_say(c, "ERROR refcount block %" PRIu64 " refcount=%" PRIu32, r, refs);
                c->res->corruptions++;
                c->structure_errors++;
                c->rebuild = true;
            }
        }
    }
}

/* ---- comparing ---- */

/* The COPIED flags that active entries have and @refs: do they agree? */
static inline bool flags_agree(const CheckPage *p, unsigned i, uint64_t refs)
{
    return !((refs == 1 ? p->plain : p->copied)[i / 8] & (1 << (i % 8)));
}

static void told_missing(Qcow2Check *c, uint64_t cluster, uint32_t refs)
{
    check_say(c, "ERROR cluster %" PRIu64 " refcount=0 reference=%" PRIu32, cluster, refs);
    if (c->fix & BDRV_FIX_ERRORS) {
        c->res->corruptions_fixed++;
    } else {
        c->res->corruptions++;
    }
}

/* References to clusters that no block counts. */
static void compare_uncounted(Qcow2Check *c, uint64_t from, uint64_t to)
{
    for (uint64_t k = from; k < to; k++) {
        const CheckPage *p = c->refs.pages[k >> CHECK_PAGE_BITS];
        uint32_t refs;

        if (!p) {
            k |= CHECK_PAGE - 1;
            continue;
        }
        refs = check_page_get(p, k & (CHECK_PAGE - 1));
        if (refs) {
            c->res->image_end_offset = MAX(c->res->image_end_offset, (int64_t)((k + 1) << c->s->cluster_bits));
            c->suspect_flags |= !flags_agree(p, k & (CHECK_PAGE - 1), c->fix & BDRV_FIX_ERRORS ? refs : 0);
            c->rebuild = true;
            told_missing(c, k, refs);
        }
    }
}

/* One that differs. The value that is to stand there now. */
static uint64_t compare_one(Qcow2Check *c, uint64_t k, uint64_t disk, uint64_t refs)
{
    uint64_t max = c->s->refcount_order == 6 ? UINT64_MAX : (1ULL << (1u << c->s->refcount_order)) - 1;
    bool leak = refs < disk, fix = c->fix & (leak ? BDRV_FIX_LEAKS : BDRV_FIX_ERRORS) && refs <= max;

    check_say(c, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
              fix ? "Repairing" : leak ? "Leaked" : "ERROR", k, disk, refs);
    if (leak) {
        *(fix ? &c->res->leaks_fixed : &c->res->leaks) += 1;
        c->downs |= fix;
        return disk;            /* goes down later */
    }
    *(fix ? &c->res->corruptions_fixed : &c->res->corruptions) += 1;
    return fix ? refs : disk;
}

typedef struct Compare {
    uint64_t *offsets, *indexes;
    size_t n;
    uint64_t next;              /* cluster: compared up to here */
    bool lower;
} Compare;

static int coroutine_fn write_block(Qcow2Check *c, uint64_t offset, void *block)
{
    return bdrv_co_pwrite(c->bs->file, offset, c->s->cluster_size, block, 0);
}

static int coroutine_fn compare_fn(Qcow2Check *c, size_t i, void *block, void *opaque)
{
    Compare *cmp = opaque;
    Qcow2State *s = c->s;
    uint64_t base = cmp->indexes[i] * s->rb_entries, end = MIN(base + s->rb_entries, c->clusters);
    bool changed = false;

    compare_uncounted(c, cmp->next, MIN(base, c->clusters));
    cmp->next = MAX(end, cmp->next);
    for (uint64_t k = base; k < end; k++) {
        const CheckPage *p = c->refs.pages[k >> CHECK_PAGE_BITS];
        unsigned in = k & (CHECK_PAGE - 1);
        uint64_t disk = qcow2_refcount_get(block, s->refcount_order, k - base), now = disk;
        uint64_t refs = p ? check_page_get(p, in) : 0;

        if (!(disk | refs)) {
            continue;
        }
        c->res->image_end_offset = MAX(c->res->image_end_offset, (int64_t)((k + 1) << s->cluster_bits));
        if (disk != refs) {
            now = compare_one(c, k, disk, refs);
            if (now != disk) {
                qcow2_refcount_set(block, s->refcount_order, k - base, now);
                changed = true;
            } else if (c->fix & BDRV_FIX_LEAKS) {
                now = MIN(refs, disk);          /* what it will be */
            }
        }
        c->suspect_flags |= p && !flags_agree(p, in, now);
    }
    return changed && !c->rebuild ? write_block(c, cmp->offsets[i], block) : 0;
}

static void compare_list(Qcow2Check *c, Compare *cmp)
{
    Qcow2State *s = c->s;

    cmp->offsets = g_new(uint64_t, MAX(s->reftable_size, 1));
    cmp->indexes = g_new(uint64_t, MAX(s->reftable_size, 1));
    for (uint64_t r = 0; r < s->reftable_size; r++) {
        if (check_refblock_valid(c, r, false)) {
            cmp->offsets[cmp->n] = s->reftable[r];
            cmp->indexes[cmp->n++] = r;
        }
    }
}

static void compare_free(Compare *cmp)
{
    g_free(cmp->offsets);
    g_free(cmp->indexes);
}

int coroutine_fn check_co_refcounts(Qcow2Check *c)
{
    Compare cmp = { 0 };
    int ret;

    compare_list(c, &cmp);
    ret = check_co_tables(c, cmp.offsets, cmp.n, compare_fn, &cmp);
    if (ret >= 0) {
        compare_uncounted(c, cmp.next, c->clusters);
    }
    compare_free(&cmp);
    if (ret >= 0 && c->fix) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    return ret;
}

/* ---- leaks ---- */

static int coroutine_fn lower_fn(Qcow2Check *c, size_t i, void *block, void *opaque)
{
    Compare *cmp = opaque;
    Qcow2State *s = c->s;
    uint64_t base = cmp->indexes[i] * s->rb_entries, end = MIN(base + s->rb_entries, c->clusters);
    bool changed = false;

    for (uint64_t k = base; k < end; k++) {
        uint64_t refs = check_counts_get(&c->refs, k);

        if (qcow2_refcount_get(block, s->refcount_order, k - base) > refs) {
            qcow2_refcount_set(block, s->refcount_order, k - base, refs);
            changed = true;
        }
    }
    return changed ? write_block(c, cmp->offsets[i], block) : 0;
}

int coroutine_fn check_co_lower(Qcow2Check *c)
{
    Compare cmp = { 0 };
    int ret = bdrv_co_flush(c->bs->file->bs);

    compare_list(c, &cmp);
    if (ret >= 0) {
        ret = check_co_tables(c, cmp.offsets, cmp.n, lower_fn, &cmp);
    }
    compare_free(&cmp);
    return ret;
}

/* ---- COPIED flags ---- */

/* The refcount that will be on disk at the end. */
static int coroutine_fn co_refcount(Qcow2Check *c, uint64_t offset, uint64_t *refs)
{
    Qcow2State *s = c->s;
    uint64_t cluster = offset >> s->cluster_bits, r = cluster / s->rb_entries;
    Qcow2Table *rb;
    bool dropped = false;
    int ret;

    *refs = 0;
    if (c->rebuild && !c->partial && (c->fix & BDRV_FIX_ERRORS)) {
        *refs = cluster < c->clusters ? check_counts_get(&c->refs, cluster) : 0;
        return 0;
    }
    if (r >= s->reftable_size || !check_refblock_valid(c, r, false)) {
        return 0;
    }
    qcow2_lock(s);
    ret = qcow2_co_refcount_block(c->bs, cluster, &rb, &dropped);
    if (ret >= 0 && rb) {
        *refs = qcow2_refcount_get(rb->data, s->refcount_order, cluster % s->rb_entries);
        qcow2_cache_put(&s->rb, rb);
    }
    qcow2_unlock(s);
    if (c->fix & BDRV_FIX_LEAKS && cluster < c->clusters) {
        *refs = MIN(*refs, check_counts_get(&c->refs, cluster));
    }
    return ret;
}

static void told_flag(Qcow2Check *c)
{
    *(c->fix_flags ? &c->res->corruptions_fixed : &c->res->corruptions) += 1;
}

typedef struct Flags {
    uint64_t *offsets;
} Flags;

static int coroutine_fn flags_fn(Qcow2Check *c, size_t i, void *table, void *opaque)
{
    const Flags *f = opaque;
    Qcow2State *s = c->s;
    unsigned step = s->incompatible & QCOW2_INCOMPAT_EXT_L2 ? 2 : 1;
    bool fix = c->fix_flags, changed = false;
    uint64_t *t = table, refs;

    for (uint64_t k = 0; k < s->cluster_size / 8; k += step) {
        uint64_t entry = GUINT64_FROM_BE(t[k]), offset = entry & QCOW2_OFFSET_MASK;

        if (entry & QCOW2_COMPRESSED) {
            if (fix && (entry & QCOW2_COPIED)) {
                told_flag(c);
                t[k] = GUINT64_TO_BE(entry & ~QCOW2_COPIED);
                changed = true;
            }
            continue;
        }
        if (!offset) {
            continue;
        }
        if (s->incompatible & QCOW2_INCOMPAT_DATA_FILE) {
            refs = 1;
        } else {
            int ret = co_refcount(c, offset, &refs);

            if (ret < 0) {
                c->res->check_errors++;
                continue;
            }
        }
        if ((refs == 1) != !!(entry & QCOW2_COPIED)) {
            check_say(c, "%s OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
                      fix ? "Repairing" : "ERROR", entry, refs);
            told_flag(c);
            if (fix) {
                t[k] = GUINT64_TO_BE(refs == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED);
                changed = true;
            }
        }
    }
    return changed ? write_block(c, f->offsets[i], table) : 0;
}

int coroutine_fn check_co_copied_flags(Qcow2Check *c)
{
    Qcow2State *s = c->s;
    Flags f = { g_new(uint64_t, MAX(s->l1_size, 1)) };
    bool fix = c->fix_flags, changed = false;
    size_t n = 0;
    int ret = 0;

    /* What is in memory was read before the mending. */
    qcow2_lock(s);
    qcow2_cache_forget(&s->rb);
    qcow2_unlock(s);
    for (uint32_t i = 0; i < s->l1_size && ret >= 0; i++) {
        uint64_t entry = s->l1_table[i], offset = entry & QCOW2_OFFSET_MASK, refs;

        if (!offset || qcow2_in_cluster(s, offset) || offset >> s->cluster_bits >= c->clusters) {
            continue;
        }
        f.offsets[n++] = offset;
        ret = co_refcount(c, offset, &refs);
        if (ret >= 0 && (refs == 1) != !!(entry & QCOW2_COPIED)) {
            check_say(c, "%s OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%" PRIx64 " refcount=%" PRIu64,
                      fix ? "Repairing" : "ERROR", i, entry, refs);
            told_flag(c);
            if (fix) {
                s->l1_table[i] = refs == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED;
                changed = true;
            }
        }
    }
    if (ret >= 0) {
        ret = check_co_tables(c, f.offsets, n, flags_fn, &f);
    }
    if (ret >= 0 && changed) {
        g_autofree uint64_t *be = g_new(uint64_t, s->l1_size);

        for (uint32_t i = 0; i < s->l1_size; i++) {
            be[i] = GUINT64_TO_BE(s->l1_table[i]);
        }
        ret = bdrv_co_pwrite(c->bs->file, s->l1_offset, s->l1_size * 8ULL, be, 0);
    }
    g_free(f.offsets);
    return ret;
}

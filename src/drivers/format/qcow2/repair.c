/* SPDX-License-Identifier: MIT */
/* repair.c: a new refcount structure behind everything, from what was counted; see check.h. */
#include "drivers/format/qcow2/check.h"

typedef struct Plan {
    uint64_t first;             /* cluster where the new structure begins */
    uint64_t blocks, table_clusters;
    uint64_t *reftable;         /* new; host byte order */
    uint64_t entries;
} Plan;

static bool range_is_used(Qcow2Check *c, uint64_t r, const Plan *p)
{
    uint64_t from = r * c->s->rb_entries, to = from + c->s->rb_entries;

    if (from < p->first + p->blocks + p->table_clusters && to > p->first) {
        return true;
    }
    for (uint64_t k = from; k < MIN(to, p->first); k++) {
        const CheckPage *page = c->refs.pages[k >> CHECK_PAGE_BITS];

        if (!page) {
            k |= CHECK_PAGE - 1;
        } else if (check_page_get(page, k & (CHECK_PAGE - 1))) {
            return true;
        }
    }
    return false;
}

/* How many blocks and clusters of table it takes, themselves included. */
static int plan_make(Qcow2Check *c, Plan *p)
{
    Qcow2State *s = c->s;
    uint64_t blocks, end;

    /* What is referred to may reach a little behind the end of the file. */
    for (p->first = c->clusters; check_counts_get(&c->refs, p->first); p->first++) {
    }
    for (;;) {
        end = p->first + p->blocks + p->table_clusters;
        if (end > s->cluster_max) {
            return -EFBIG;
        }
        p->entries = DIV_ROUND_UP(MAX(end, 1), s->rb_entries);
        blocks = 0;
        for (uint64_t r = 0; r < p->entries; r++) {
            blocks += range_is_used(c, r, p);
        }
        uint64_t clusters = DIV_ROUND_UP(p->entries * 8, s->cluster_size);

        if (clusters * s->cluster_size > QCOW2_MAX_REFTABLE_BYTES) {
            return -EFBIG;
        }
        if (blocks <= p->blocks && clusters <= p->table_clusters) {
            return 0;
        }
        p->blocks = MAX(blocks, p->blocks);
        p->table_clusters = MAX(clusters, p->table_clusters);
    }
}

static int coroutine_fn co_write_blocks(Qcow2Check *c, Plan *p)
{
    Qcow2State *s = c->s;
    uint64_t max = s->refcount_order == 6 ? UINT64_MAX : (1ULL << (1u << s->refcount_order)) - 1;
    uint64_t end = p->first + p->blocks + p->table_clusters, at = p->first;
    uint8_t *block = qemu_try_blockalign(c->bs->file->bs, s->cluster_size);
    int ret = block ? 0 : -ENOMEM;

    for (uint64_t r = 0; r < p->entries && ret >= 0; r++) {
        if (!range_is_used(c, r, p)) {
            continue;
        }
        memset(block, 0, s->cluster_size);
        for (uint64_t i = 0, k = r * s->rb_entries; i < s->rb_entries; i++, k++) {
            uint64_t refs = k < p->first ? check_counts_get(&c->refs, k) : k < end;

            if (refs > max) {
                check_say(c, "ERROR cluster %" PRIu64 " has %" PRIu64 " references, more than its refcount can say",
                          k, refs);
                c->res->corruptions++;
                refs = max;
            }
            qcow2_refcount_set(block, s->refcount_order, i, refs);
        }
        p->reftable[r] = at << s->cluster_bits;
        ret = bdrv_co_pwrite(c->bs->file, at++ << s->cluster_bits, s->cluster_size, block, 0);
    }
    qemu_vfree(block);
    return ret;
}

static int coroutine_fn co_write_table(Qcow2Check *c, Plan *p)
{
    Qcow2State *s = c->s;
    uint64_t place = (p->first + p->blocks) << s->cluster_bits, bytes = p->table_clusters * s->cluster_size;
    g_autofree uint64_t *be = g_malloc0(bytes);
    uint64_t be_place = GUINT64_TO_BE(place);
    uint32_t be_clusters = GUINT32_TO_BE(p->table_clusters);
    uint8_t fields[12];
    int ret;

    for (uint64_t r = 0; r < p->entries; r++) {
        be[r] = GUINT64_TO_BE(p->reftable[r]);
    }
    ret = bdrv_co_pwrite(c->bs->file, place, bytes, be, 0);
    if (ret >= 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    if (ret >= 0) {
        memcpy(fields, &be_place, 8);
        memcpy(fields + 8, &be_clusters, 4);
        ret = bdrv_co_pwrite(c->bs->file, 48, sizeof(fields), fields, 0);
    }
    if (ret >= 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    if (ret >= 0) {
        qcow2_lock(s);
        s->reftable_offset = place;
        s->reftable_size = bytes / 8;
        qcow2_unlock(s);
        c->res->image_end_offset = place + bytes;
    }
    return ret;
}

int coroutine_fn check_co_rebuild(Qcow2Check *c)
{
    Plan p = { 0 };
    int ret;

    check_say(c, "Rebuilding refcount structure");
    check_refcount_structure(c, false);
    ret = plan_make(c, &p);
    if (ret >= 0) {
        p.reftable = g_new0(uint64_t, p.entries);
        ret = co_write_blocks(c, &p);
    }
    if (ret >= 0) {
        ret = co_write_table(c, &p);
    }
    if (ret >= 0) {
        /* Whatever was wrong with the old one is gone with it. */
        c->res->corruptions_fixed += c->structure_errors;
        c->res->corruptions -= c->structure_errors;
        c->res->leaks_fixed += c->res->leaks;
        c->res->leaks = 0;
    }
    g_free(p.reftable);
    return ret;
}

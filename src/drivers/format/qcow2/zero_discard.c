/* SPDX-License-Identifier: MIT */
/* zero_discard.c: zeroes and discards change entries only; no data is written.
 *
 * Zeroes:   an entry becomes ZERO; the cluster stays with it (so that later writes find
 *           their place), unless the caller lets it go (MAY_UNMAP), it is shared, or a request
 *           may be using it.
 * Discard:  the cluster is freed. Where a backing file would show through the entry becomes
 *           ZERO instead of nothing.
 *
 * Runs on: the request's thread. Whole clusters only; the last one of the disk counts as
 * whole. Version 2 has no ZERO.
 */
#include "drivers/format/qcow2/qcow2.h"

/* What an entry becomes. True: what it had is to be freed. */
typedef bool EntryRule(BlockDriverState *bs, uint64_t guest, uint64_t old, uint64_t *new);

static bool rule_zero_keep(BlockDriverState *bs, uint64_t guest, uint64_t old, uint64_t *new)
{
    Qcow2Kind kind = qcow2_entry_kind(bs->opaque, old);

    if (kind == QCOW2_UNALLOCATED && qcow2_backing_is_zero(bs, guest, 1)) {
        *new = old;
        return false;
    }
    /* A write that found data here and is still on its way would land in what the next write has
     * made of the cluster. Once freed it is not used before such requests are gone. */
    bool quiet = kind == QCOW2_ZERO_ALLOC || !qcow2_in_use(bs->opaque);

    if ((kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC) && (old & QCOW2_COPIED) && quiet) {
        *new = old | QCOW2_ZERO;
        return false;
    }
    *new = QCOW2_ZERO;
    return true;
}

static bool rule_zero_unmap(BlockDriverState *bs, uint64_t guest, uint64_t old, uint64_t *new)
{
    bool nothing = qcow2_entry_kind(bs->opaque, old) == QCOW2_UNALLOCATED &&
                   qcow2_backing_is_zero(bs, guest, 1);

    *new = nothing ? old : QCOW2_ZERO;
    return true;
}

static bool rule_discard(BlockDriverState *bs, uint64_t guest, uint64_t old, uint64_t *new)
{
    Qcow2State *s = bs->opaque;

    if (!qcow2_has_backing(bs)) {
        *new = 0;
    } else if (s->version >= 3) {
        *new = QCOW2_ZERO;
    } else {
        *new = old;     /* the backing file would come to light */
        return false;
    }
    return true;
}

static bool rule_unmap(BlockDriverState *bs, uint64_t guest, uint64_t old, uint64_t *new)
{
    *new = 0;
    return true;
}

/* Change @n entries of one slice, the first at guest @offset. `lock` held. */
static void change_entries(BlockDriverState *bs, Qcow2Table *slice, uint32_t index, uint64_t offset,
                           uint32_t n, EntryRule *rule, bool discard)
{
    Qcow2State *s = bs->opaque;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t old = be64_at(slice->data, index + i), new;
        bool frees = rule(bs, offset + (uint64_t)i * s->cluster_size, old, &new);

        if (new == old) {
            continue;
        }
        qcow2_set_entries(s, slice, index + i, 1, new, 0);
        if (frees) {
            qcow2_free_entry(s, old, discard);
        }
    }
}

/* One slice's part of [offset, offset + *bytes); *bytes becomes what was done. */
static int coroutine_fn change_co_slice(BlockDriverState *bs, uint64_t offset, uint64_t *bytes,
                                        EntryRule *rule, bool discard, bool skip_holes)
{
    Qcow2State *s = bs->opaque;
    uint64_t slice_bytes = (uint64_t)s->slice_entries << s->cluster_bits;
    uint64_t n = MIN(*bytes, slice_bytes - offset % slice_bytes);
    uint32_t index, clusters = DIV_ROUND_UP(n, s->cluster_size);
    Qcow2Table *slice;
    bool dropped;
    int ret = 0;

    *bytes = n;
    qcow2_lock(s);
    do {
        uint64_t i = qcow2_l1_index(s, offset);

        if (skip_holes && i < s->l1_size && !(s->l1_table[i] & QCOW2_OFFSET_MASK)) {
            break;
        }
        dropped = false;
        ret = qcow2_co_slice_for_write(bs, offset, &slice, &index, &dropped);
        if (ret < 0) {
            break;
        }
        if (!dropped) {
            dropped = qcow2_co_wait_allocs(s, offset, offset + n);
        }
        for (uint32_t k = 0; k < clusters && !dropped && !ret; k++) {
            if (!qcow2_entry_valid(bs, offset, be64_at(slice->data, index + k))) {
                ret = -EIO;
            }
        }
        if (!dropped && !ret) {
            change_entries(bs, slice, index, offset, clusters, rule, discard);
        }
        qcow2_cache_put(&s->l2, slice);
    } while (dropped && !ret);
    qcow2_unlock(s);
    return ret;
}

static int coroutine_fn change_co_range(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                        EntryRule *rule, bool discard, bool skip_holes)
{
    int ret = 0;

    while (bytes && !ret) {
        uint64_t done = bytes;

        ret = qcow2_co_before_change(bs);
        if (!ret) {
            ret = change_co_slice(bs, offset, &done, rule, discard, skip_holes);
        }
        offset += done;
        bytes -= done;
    }
    if (ret < 0) {
        qcow2_co_note_damage(bs);
    }
    return ret;
}

int coroutine_fn qcow2_co_unmap(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;

    return change_co_range(bs, offset, bytes, rule_unmap, s->discard_request, true);
}

/* Does the range read as zeroes, by the tables of this image and its length of backing? */
static int coroutine_fn range_co_is_zero(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;

    while (bytes) {
        Qcow2Extent e;
        int ret = qcow2_co_map(bs, offset, bytes, &e);

        if (ret < 0) {
            return ret;
        }
        if (e.kind == QCOW2_NORMAL || e.kind == QCOW2_PACKED) {
            qcow2_use_end(s, e.epoch);
            return 0;
        }
        if (e.kind == QCOW2_UNALLOCATED && !qcow2_backing_is_zero(bs, offset, e.bytes)) {
            return 0;
        }
        offset += e.bytes;
        bytes -= e.bytes;
    }
    return 1;
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    bool to_end = offset + bytes == (int64_t)s->length_bytes;
    bool skip_holes;

    if (qcow2_in_cluster(s, offset) || (qcow2_in_cluster(s, bytes) && !to_end)) {
        int ret = range_co_is_zero(bs, offset, bytes);

        return ret < 0 ? ret : ret ? 0 : -ENOTSUP;
    }
    if (s->version < 3) {
        int ret = range_co_is_zero(bs, offset, bytes);

        if (ret) {
            return MIN(ret, 0);
        }
        if (qcow2_has_backing(bs) || !(flags & BDRV_REQ_MAY_UNMAP)) {
            return -ENOTSUP;
        }
        return change_co_range(bs, offset, bytes, rule_discard, s->discard_request, true);
    }
    skip_holes = qcow2_backing_is_zero(bs, offset, bytes);
    return change_co_range(bs, offset, bytes,
                           flags & BDRV_REQ_MAY_UNMAP ? rule_zero_unmap : rule_zero_keep,
                           s->discard_request, skip_holes);
}

int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Qcow2State *s = bs->opaque;
    bool to_end = offset + bytes == (int64_t)s->length_bytes;
    uint64_t from = ROUND_UP((uint64_t)offset, (uint64_t)s->cluster_size);
    uint64_t to = QEMU_ALIGN_DOWN((uint64_t)offset + bytes, (uint64_t)s->cluster_size);

    if (to_end) {
        to = s->length_bytes;
    }
    if (from >= to) {
        return -ENOTSUP;        /* less than a cluster: nothing to give back */
    }
    return change_co_range(bs, from, to - from, rule_discard, s->discard_request, !qcow2_has_backing(bs));
}

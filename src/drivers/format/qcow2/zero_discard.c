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
 * whole. Version 2 has no ZERO. With subclusters, zeroes may also be put into parts of a cluster
 * that has none or one of its own.
 *
 * Discard that keeps clusters (discard-no-unref): as zeroes; then the space is given back.
 *
 * A raw data file takes zeroes and discards itself, and the entries stay: then both always show the same,
 * whatever else is on its way there. In an external file that is not raw, discards punch holes before the entries change: what is lost then if power fails is what the guest
 * gave away, and no later write can be hit by it. Zeroes in place of what is encrypted would be
 * read as noise, though: there the holes come last, when no table says any more that there is data.
 */
#include "drivers/format/qcow2/qcow2.h"

typedef struct Entry {
    uint64_t word, bits;
} Entry;

/* What an entry becomes. True: what it had is to be freed. */
typedef bool EntryRule(BlockDriverState *bs, uint64_t guest, Entry old, Entry *new);

/* Zeroes, without a cluster. */
static Entry entry_zero(Qcow2State *s)
{
    return s->ext_l2 ? (Entry) { 0, QCOW2_BITS_ZERO } : (Entry) { QCOW2_ZERO, 0 };
}

/* Nothing here, and nothing below. */
static bool entry_is_nothing(BlockDriverState *bs, uint64_t guest, Entry e)
{
    return qcow2_entry_kind(bs->opaque, e.word) == QCOW2_UNALLOCATED && !e.bits &&
           qcow2_backing_is_zero(bs, guest, 1);
}

static bool rule_zero_keep(BlockDriverState *bs, uint64_t guest, Entry old, Entry *new)
{
    Qcow2State *s = bs->opaque;
    Qcow2Kind kind = qcow2_entry_kind(s, old.word);

    if (entry_is_nothing(bs, guest, old)) {
        *new = old;
        return false;
    }
    /* A write that found data here and is still on its way would land in what the next write has
     * made of the cluster. Once freed it is not used before such requests are gone. */
    bool quiet = kind == QCOW2_ZERO_ALLOC || !qcow2_in_use(s);

    if ((kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC) && qcow2_entry_is_own(s, old.word) && quiet) {
        *new = s->ext_l2 ? (Entry) { old.word, QCOW2_BITS_ZERO } : (Entry) { old.word | QCOW2_ZERO, 0 };
        return false;
    }
    *new = entry_zero(s);
    return true;
}

static bool rule_zero_unmap(BlockDriverState *bs, uint64_t guest, Entry old, Entry *new)
{
    *new = entry_is_nothing(bs, guest, old) ? old : entry_zero(bs->opaque);
    return true;
}

static bool rule_discard(BlockDriverState *bs, uint64_t guest, Entry old, Entry *new)
{
    Qcow2State *s = bs->opaque;

    if (!qcow2_has_backing(bs)) {
        *new = (Entry) { 0, 0 };
    } else if (s->version >= 3) {
        *new = entry_zero(s);
    } else {
        *new = old;     /* the backing file would come to light */
        return false;
    }
    return true;
}

static bool rule_unmap(BlockDriverState *bs, uint64_t guest, Entry old, Entry *new)
{
    *new = (Entry) { 0, 0 };
    return true;
}

/* Change @n entries of one slice, the first at guest @offset. `lock` held. */
static void change_entries(BlockDriverState *bs, Qcow2Table *slice, uint32_t index, uint64_t offset,
                           uint32_t n, EntryRule *rule, bool discard)
{
    Qcow2State *s = bs->opaque;

    for (uint32_t i = 0; i < n; i++) {
        Entry old = { qcow2_entry(s, slice->data, index + i), qcow2_bits(s, slice->data, index + i) }, new;
        bool frees = rule(bs, offset + (uint64_t)i * s->cluster_size, old, &new);

        if (new.word == old.word && new.bits == old.bits) {
            continue;
        }
        qcow2_set_entries(s, slice, index + i, 1, new.word, 0, new.bits);
        if (frees) {
            qcow2_free_entry(s, old.word, discard);
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
            if (!qcow2_entry_valid(bs, offset + (uint64_t)k * s->cluster_size,
                                   qcow2_entry(s, slice->data, index + k),
                                   qcow2_bits(s, slice->data, index + k))) {
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

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_co_before_change(bs);

    bdrv_co_debug_event(bs->file->bs, BLKDEBUG_EVENT_EMPTY_IMAGE_PREPARE);
    return ret < 0 ? ret : qcow2_co_unmap(bs, 0, QEMU_ALIGN_UP(s->length_bytes, s->cluster_size));
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

/* ---- parts of a cluster ---- */

/* Zeroes in subclusters @data of the entry, if it is enough to say so. `lock` held. */
static int zero_subs(Qcow2State *s, Qcow2Table *slice, uint32_t index, uint64_t data)
{
    uint64_t entry = qcow2_entry(s, slice->data, index), bits = qcow2_bits(s, slice->data, index);
    Qcow2Kind kind = qcow2_entry_kind(s, entry);

    if (kind == QCOW2_PACKED || (kind == QCOW2_NORMAL && !qcow2_entry_is_own(s, entry))) {
        return -ENOTSUP;
    }
    if ((bits & data) && qcow2_in_use(s)) {
        return -ENOTSUP;        /* see rule_zero_keep() */
    }
    if (((bits >> QCOW2_SUBCLUSTERS) & data) != data) {
        bits = (bits & ~data) | (data << QCOW2_SUBCLUSTERS);
        qcow2_set_entries(s, slice, index, 1, entry, 0, bits);
    }
    return 0;
}

/* [offset, +bytes) lies in one cluster and has whole subclusters. */
static int coroutine_fn zero_co_subs(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t within = qcow2_in_cluster(s, offset);
    uint64_t data = qcow2_bits_range(within >> s->subcluster_bits,
                                     DIV_ROUND_UP(within + bytes, s->subcluster_size));
    bool dropped;
    int ret = qcow2_co_before_change(bs);

    if (ret < 0) {
        return ret;
    }
    qcow2_lock(s);
    do {
        uint32_t index;
        Qcow2Table *slice;

        dropped = false;
        ret = qcow2_co_slice_for_write(bs, offset, &slice, &index, &dropped);
        if (ret < 0) {
            break;
        }
        if (!dropped) {
            dropped = qcow2_co_wait_allocs(s, offset, offset + bytes);
        }
        if (!dropped) {
            bool valid = qcow2_entry_valid(bs, offset - within, qcow2_entry(s, slice->data, index),
                                           qcow2_bits(s, slice->data, index));

            ret = valid ? zero_subs(s, slice, index, data) : -EIO;
        }
        qcow2_cache_put(&s->l2, slice);
    } while (dropped && !ret);
    qcow2_unlock(s);
    if (ret < 0) {
        qcow2_co_note_damage(bs);
    }
    return ret;
}

/* ---- zeroes and discards ---- */

static int coroutine_fn zero_co_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                         BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    bool unmap = (flags & BDRV_REQ_MAY_UNMAP) && !s->raw_data;

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
    return change_co_range(bs, offset, bytes, unmap ? rule_zero_unmap : rule_zero_keep,
                           s->discard_request, qcow2_backing_is_zero(bs, offset, bytes));
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = (uint64_t)offset + bytes, cluster = s->cluster_size;
    bool to_end = end == s->length_bytes;
    uint64_t unit = s->subcluster_size;
    int ret = 0;

    if (s->raw_data && !s->crypt && !qcow2_has_backing(bs)) {
        return bdrv_co_pwrite_zeroes(s->data_file, offset, bytes, flags);
    }
    if ((offset & (unit - 1)) || ((bytes & (unit - 1)) && !to_end)) {
        ret = range_co_is_zero(bs, offset, bytes);
        return ret < 0 ? ret : ret ? 0 : -ENOTSUP;
    }
    uint64_t from = MIN(end, ROUND_UP((uint64_t)offset, cluster));
    uint64_t to = to_end ? end : MAX(from, QEMU_ALIGN_DOWN(end, cluster));

    if ((uint64_t)offset < from) {
        ret = zero_co_subs(bs, offset, from - offset);
    }
    if (!ret && from < to) {
        ret = zero_co_clusters(bs, from, to - from, flags);
    }
    if (!ret && to < end) {
        ret = zero_co_subs(bs, to, end - to);
    }
    return ret;
}

/* No data of an encrypted image may become a hole while it can be found: on disk, or by a request that looked before. */
static bool coroutine_fn data_co_is_forgotten(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    if (qcow2_co_commit(bs, true) < 0 || qcow2_co_flush_files(bs) < 0) {
        return false;
    }
    qcow2_lock(s);
    bool quiet = !qcow2_in_use(s);

    qcow2_unlock(s);
    return quiet;
}

/* Clusters in [from, to) that have a place and no data: their space goes back to the file's storage. Meanwhile nobody begins
 * to fill them; who has begun is done first. If it fails it is only space. */
static void coroutine_fn punch_co_holes(BlockDriverState *bs, uint64_t from, uint64_t to)
{
    Qcow2State *s = bs->opaque;
    Qcow2Alloc alloc = { .guest_from = from, .guest_to = to };
    uint64_t length = bdrv_getlength_cached(s->data_file->bs);
    Qcow2Extent e;

    qemu_co_queue_init(&alloc.waiters);
    qcow2_lock(s);
    qcow2_co_wait_allocs(s, from, to);
    LIST_INSERT_HEAD(&s->allocs, &alloc, next);
    qcow2_unlock(s);
    uint64_t at = s->crypt && !data_co_is_forgotten(bs) ? to : from;

    for (; at < to && qcow2_co_map(bs, at, to - at, &e) >= 0; at += e.bytes) {
        if (e.kind == QCOW2_NORMAL || e.kind == QCOW2_PACKED) {
            qcow2_use_end(s, e.epoch);
        } else if (e.kind == QCOW2_ZERO_ALLOC || s->external) {
            uint64_t host = s->external ? at : e.host, end = s->external ? MIN(at + e.bytes, length) : host + e.bytes;

            if (host < end) {
                bdrv_co_pwrite_zeroes(s->data_file, host, end - host, BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK);
            }
        }
    }
    qcow2_lock(s);
    LIST_REMOVE(&alloc, next);
    qemu_co_queue_restart_all(&alloc.waiters);
    qcow2_unlock(s);
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
    if (s->raw_data) {
        return qcow2_co_pwrite_zeroes(bs, from, to - from, BDRV_REQ_MAY_UNMAP);
    }
    if (s->external && s->discard_request && !s->crypt) {
        uint64_t end = MIN(to, (uint64_t)bdrv_getlength_cached(s->data_file->bs));

        /* Not a discard: what the entries still show if power fails must be old, or zero. If it
         * fails, it is only space. */
        if (from < end) {
            bdrv_co_pwrite_zeroes(s->data_file, from, end - from, BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK);
        }
    }
    int ret = change_co_range(bs, from, to - from, s->discard_no_unref ? rule_zero_keep : rule_discard, s->discard_request,
                              !qcow2_has_backing(bs));

    if (!ret && s->discard_request && (s->external ? s->crypt != NULL : s->discard_no_unref)) {
        punch_co_holes(bs, from, to);
    }
    return ret;
}

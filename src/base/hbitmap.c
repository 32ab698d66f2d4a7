/* SPDX-License-Identifier: MIT */
/* hbitmap.c: bytes to bits, and the questions; see hbitmap.h. The bits lie in a tree:
 * hbitmap_private.h. */
#include "base/osdep.h"
#include "base/hbitmap_private.h"

/* ---- bytes and bits ---- */

/* Bits that cover [0, @bytes). */
static uint64_t bits_for(int64_t bytes, unsigned granularity)
{
    return bytes ? ((uint64_t)(bytes - 1) >> granularity) + 1 : 0;
}

static unsigned level_for(uint64_t bits)
{
    unsigned level = 0;

    while (bits && bits - 1 > level_last(level)) {
        level++;
    }
    return level;
}

static uint64_t bit_at(const HBitmap *hb, int64_t offset)
{
    return (uint64_t)offset >> hb->granularity;
}

/* The end of [@start, +@bytes), cut at the size. */
static int64_t range_end(const HBitmap *hb, int64_t start, int64_t bytes)
{
    assert(start >= 0 && bytes >= 0);
    return start >= hb->size || bytes > hb->size - start ? hb->size : start + bytes;
}

/* ---- life ---- */

HBitmap *hbitmap_alloc(int64_t size_bytes, unsigned granularity)
{
    HBitmap *hb = g_new0(HBitmap, 1);

    assert(size_bytes >= 0 && granularity <= HBITMAP_GRANULARITY_MAX);
    hb->granularity = granularity;
    hb->size = size_bytes;
    hb->bits = bits_for(size_bytes, granularity);
    hb->level = level_for(hb->bits);
    return hb;
}

void hbitmap_free(HBitmap *hb)
{
    if (hb) {
        hbitmap_tree_drop(hb, hb->root, hb->level);
        assert(hb->count == 0 && hb->memory == 0);
        g_free(hb);
    }
}

HBitmap *hbitmap_copy(const HBitmap *hb)
{
    HBitmap *copy = hbitmap_alloc(hb->size, hb->granularity);

    copy->root = hbitmap_tree_clone(copy, hb->root, hb->level);
    return copy;
}

void hbitmap_truncate(HBitmap *hb, int64_t size_bytes)
{
    uint64_t bits = bits_for(size_bytes, hb->granularity);

    assert(size_bytes >= 0);
    if (bits < hb->bits) {
        hb->root = hbitmap_tree_apply(hb, hb->root, hb->level, bits, hb->bits - 1,
                                      &(BitsOp) { .kind = BITS_RESET });
    }
    hbitmap_tree_set_level(hb, level_for(bits));
    hb->bits = bits;
    hb->size = size_bytes;
}

int64_t hbitmap_size(const HBitmap *hb)
{
    return hb->size;
}

unsigned hbitmap_granularity(const HBitmap *hb)
{
    return hb->granularity;
}

int64_t hbitmap_granularity_bytes(const HBitmap *hb)
{
    return 1LL << hb->granularity;
}

size_t hbitmap_memory(const HBitmap *hb)
{
    return sizeof(*hb) + hb->memory;
}

/* ---- changing ---- */

static void bits_apply(HBitmap *hb, uint64_t first, uint64_t last, const BitsOp *op)
{
    uint64_t leaf_index = first >> LEAF_SHIFT;

    /* The guest's path: a small range near the last one. A leaf that has become
     * uniform takes the long way once more, which gives it back. */
    if (hb->recent && leaf_index == hb->recent_index && leaf_index == last >> LEAF_SHIFT) {
        hbitmap_leaf_apply(hb, hb->recent, first, last, op);
        if (hb->recent->count && hb->recent->count < LEAF_BITS) {
            return;
        }
    }
    hb->root = hbitmap_tree_apply(hb, hb->root, hb->level, first, last, op);
}

void hbitmap_set(HBitmap *hb, int64_t offset, int64_t bytes)
{
    int64_t end = range_end(hb, offset, bytes);

    if (offset < end) {
        bits_apply(hb, bit_at(hb, offset), bit_at(hb, end - 1), &(BitsOp) { .kind = BITS_SET });
    }
}

void hbitmap_reset(HBitmap *hb, int64_t offset, int64_t bytes)
{
    int64_t end = range_end(hb, offset, bytes), inside = hbitmap_granularity_bytes(hb) - 1;

    if (offset < end) {
        assert(!(offset & inside) && (!(end & inside) || end == hb->size));
        bits_apply(hb, bit_at(hb, offset), bit_at(hb, end - 1), &(BitsOp) { .kind = BITS_RESET });
    }
}

void hbitmap_reset_all(HBitmap *hb)
{
    hb->root = hbitmap_tree_drop(hb, hb->root, hb->level);
}

bool hbitmap_merge(HBitmap *dst, const HBitmap *src)
{
    int64_t at = 0, start, bytes;

    if (dst->size != src->size) {
        return false;
    }
    if (dst == src) {
        return true;
    }
    if (dst->granularity == src->granularity) {
        dst->root = hbitmap_tree_merge(dst, dst->root, src->root, src->level);
        return true;
    }
    for (; hbitmap_next_dirty_area(src, at, src->size, INT64_MAX, &start, &bytes);
         at = start + bytes) {
        hbitmap_set(dst, start, bytes);
    }
    return true;
}

/* ---- asking ---- */

bool hbitmap_get(const HBitmap *hb, int64_t offset)
{
    uint64_t bit = bit_at(hb, offset);

    assert(offset >= 0 && offset < hb->size);
    Tree tree = tree_leaf_at(hb, bit);

    if (!tree_is_mixed(tree)) {
        return tree == TREE_FULL;
    }
    return ((Leaf *)tree)->word[bit >> 6 & (WORDS - 1)] >> (bit & 63) & 1;
}

bool hbitmap_empty(const HBitmap *hb)
{
    return hb->count == 0;
}

int64_t hbitmap_count(const HBitmap *hb)
{
    uint64_t bytes = hb->count << hb->granularity;

    if (hb->count && hbitmap_get(hb, hb->size - 1)) {
        bytes -= (hb->bits << hb->granularity) - hb->size;
    }
    return bytes;
}

uint64_t hbitmap_count_granules(const HBitmap *hb)
{
    return hb->count;
}

static int64_t find_bytes(const HBitmap *hb, int64_t start, int64_t bytes, bool on)
{
    int64_t end = range_end(hb, start, bytes);
    uint64_t bit;

    if (start >= end) {
        return -1;
    }
    bit = hbitmap_tree_find(hb->root, hb->level, bit_at(hb, start), on);
    if (bit == NO_BIT || bit > bit_at(hb, end - 1)) {
        return -1;
    }
    return MAX(start, (int64_t)(bit << hb->granularity));
}

int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t bytes)
{
    return find_bytes(hb, start, bytes, true);
}

int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t bytes)
{
    return find_bytes(hb, start, bytes, false);
}

bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max,
                             int64_t *dirty_start, int64_t *dirty_bytes)
{
    assert(max > 0);
    end = MIN(end, hb->size);
    if (start >= end) {
        return false;
    }
    int64_t from = hbitmap_next_dirty(hb, start, end - start);

    if (from < 0) {
        return false;
    }
    *dirty_start = from;
    hbitmap_status(hb, from, MIN(max, end - from), dirty_bytes);
    return true;
}

bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t bytes, int64_t *pnum)
{
    bool dirty = hbitmap_get(hb, start);
    int64_t end = range_end(hb, start, bytes);
    int64_t other = find_bytes(hb, start, bytes, !dirty);

    assert(bytes > 0);
    *pnum = (other < 0 ? end : other) - start;
    return dirty;
}

void hbitmap_iter_init(HBitmapIter *iter, const HBitmap *hb, int64_t first)
{
    assert(first >= 0 && first <= hb->size);
    iter->hb = hb;
    iter->next = first & ~(hbitmap_granularity_bytes(hb) - 1);
}

int64_t hbitmap_iter_next(HBitmapIter *iter)
{
    int64_t at = hbitmap_next_dirty(iter->hb, iter->next, INT64_MAX);

    if (at < 0) {
        return -1;
    }
    iter->next = range_end(iter->hb, at, hbitmap_granularity_bytes(iter->hb));
    return at;
}

/* ---- storing ---- */

int64_t hbitmap_serialization_align(const HBitmap *hb)
{
    return 64LL << hb->granularity;
}

size_t hbitmap_serialization_bytes(const HBitmap *hb, int64_t start, int64_t bytes)
{
    int64_t end = range_end(hb, start, bytes);

    assert(QEMU_IS_ALIGNED(start, hbitmap_serialization_align(hb)));
    return start < end ? (bit_at(hb, end - 1) - bit_at(hb, start)) / 8 + 1 : 0;
}

void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf, int64_t start, int64_t bytes)
{
    size_t buf_bytes = hbitmap_serialization_bytes(hb, start, bytes);
    uint64_t first = bit_at(hb, start), pos = first;

    for (size_t at = 0; at < buf_bytes; ) {
        Tree tree = tree_leaf_at(hb, pos);
        size_t skip = (pos & (LEAF_BITS - 1)) / 8;
        size_t n = MIN(LEAF_BITS / 8 - skip, buf_bytes - at);

        if (!tree_is_mixed(tree)) {
            memset(buf + at, tree ? 0xff : 0, n);
        } else {
            uint64_t *word = ((Leaf *)tree)->word + skip / 8;

            for (size_t i = 0; i < n; i += 8) {
                uint64_t le = GUINT64_TO_LE(word[i / 8]);
                memcpy(buf + at + i, &le, MIN(sizeof(le), n - i));
            }
        }
        at += n;
        pos += n * 8;
    }
    if (buf_bytes) {        /* what lies behind the range in the last byte */
        uint64_t last = bit_at(hb, range_end(hb, start, bytes) - 1);

        buf[buf_bytes - 1] &= 0xff >> (7 - (last - first) % 8);
    }
}

void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf, int64_t start, int64_t bytes)
{
    int64_t end = range_end(hb, start, bytes);
    BitsOp op = {
        .kind = BITS_LOAD,
        .buf = buf,
        .buf_bytes = hbitmap_serialization_bytes(hb, start, bytes),
        .buf_first = bit_at(hb, start),
    };

    if (start < end) {
        bits_apply(hb, bit_at(hb, start), bit_at(hb, end - 1), &op);
    }
}

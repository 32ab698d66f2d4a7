/* SPDX-License-Identifier: MIT */
/* hbitmap.c: sparse hierarchical bitmap; see hbitmap.h.
 *
 * leaf[i]: NULL all clear, LEAF_FULL all set, else LEAF_WORDS words and the number of
 * bits set (so that a leaf can be given back when it becomes uniform). any[]: bit i is set
 * when leaf i is not all clear.
 */
#include "base/osdep.h"
#include "base/hbitmap.h"

#define LEAF_BITS   32768
#define LEAF_WORDS  (LEAF_BITS / 64)

typedef struct Leaf {
    unsigned set;
    uint64_t word[LEAF_WORDS];
} Leaf;

static Leaf leaf_full;
#define LEAF_FULL (&leaf_full)

struct HBitmap {
    int64_t size;               /* bytes */
    unsigned shift;
    uint64_t bits;              /* number of bits that cover size */
    uint64_t count;             /* bits set */
    size_t leaves;
    Leaf **leaf;
    uint64_t *any;
    size_t allocated;           /* leaves with memory */
};

static uint64_t bits_for(int64_t size, unsigned shift)
{
    return size ? ((uint64_t)(size - 1) >> shift) + 1 : 0;
}

HBitmap *hbitmap_alloc(int64_t size_bytes, unsigned granularity_bits)
{
    HBitmap *hb = g_new0(HBitmap, 1);

    g_assert(size_bytes >= 0 && granularity_bits < 63);
    hb->shift = granularity_bits;
    hbitmap_truncate(hb, size_bytes);
    return hb;
}

static bool leaf_mixed(const Leaf *l)
{
    return l && l != LEAF_FULL;
}

static void leaf_set_state(HBitmap *hb, size_t i, Leaf *to)
{
    if (leaf_mixed(hb->leaf[i]) && to != hb->leaf[i]) {
        g_free(hb->leaf[i]);
        hb->allocated--;
    }
    hb->leaf[i] = to;
    if (to) {
        hb->any[i / 64] |= 1ULL << (i % 64);
    } else {
        hb->any[i / 64] &= ~(1ULL << (i % 64));
    }
}

void hbitmap_free(HBitmap *hb)
{
    if (!hb) {
        return;
    }
    for (size_t i = 0; i < hb->leaves; i++) {
        if (leaf_mixed(hb->leaf[i])) {
            g_free(hb->leaf[i]);
        }
    }
    g_free(hb->leaf);
    g_free(hb->any);
    g_free(hb);
}

int64_t hbitmap_size(const HBitmap *hb)
{
    return hb->size;
}

int64_t hbitmap_granularity_bytes(const HBitmap *hb)
{
    return 1LL << hb->shift;
}

/* A leaf with words of its own, whatever state it was in. */
static Leaf *leaf_mix(HBitmap *hb, size_t i)
{
    Leaf *l = hb->leaf[i];

    if (leaf_mixed(l)) {
        return l;
    }
    Leaf *n = g_new0(Leaf, 1);

    if (l == LEAF_FULL) {
        memset(n->word, 0xff, sizeof(n->word));
        n->set = LEAF_BITS;
    }
    hb->allocated++;
    hb->leaf[i] = n;
    hb->any[i / 64] |= 1ULL << (i % 64);
    return n;
}

static uint64_t word_mask(unsigned from, unsigned to)
{
    uint64_t m = ~0ULL << from;

    return to == 64 ? m : m & ~(~0ULL << to);
}

/* Set or clear bits [from, to) of one leaf. */
static void leaf_change(HBitmap *hb, size_t i, unsigned from, unsigned to, bool on)
{
    Leaf *l = hb->leaf[i];

    if (l == (on ? LEAF_FULL : NULL)) {
        return;
    }
    if (from == 0 && to == LEAF_BITS) {
        unsigned had = l == LEAF_FULL ? LEAF_BITS : l ? l->set : 0;

        hb->count += on ? LEAF_BITS - had : 0;
        hb->count -= on ? 0 : had;
        leaf_set_state(hb, i, on ? LEAF_FULL : NULL);
        return;
    }
    l = leaf_mix(hb, i);
    unsigned before = l->set;

    for (unsigned w = from / 64; w <= (to - 1) / 64; w++) {
        uint64_t m = word_mask(w == from / 64 ? from % 64 : 0, w == (to - 1) / 64 ? (to - 1) % 64 + 1 : 64);
        uint64_t old = l->word[w], new = on ? old | m : old & ~m;

        l->word[w] = new;
        l->set += __builtin_popcountll(new) - __builtin_popcountll(old);
    }
    hb->count += (int64_t)l->set - (int64_t)before;
    if (l->set == 0) {
        leaf_set_state(hb, i, NULL);
    } else if (l->set == LEAF_BITS) {
        leaf_set_state(hb, i, LEAF_FULL);
    }
}

static void bits_change(HBitmap *hb, uint64_t first, uint64_t end, bool on)
{
    end = MIN(end, hb->bits);
    while (first < end) {
        size_t i = first / LEAF_BITS;
        uint64_t stop = MIN(end, (i + 1) * (uint64_t)LEAF_BITS);

        leaf_change(hb, i, first % LEAF_BITS, stop - i * (uint64_t)LEAF_BITS, on);
        first = stop;
    }
}

void hbitmap_truncate(HBitmap *hb, int64_t size_bytes)
{
    uint64_t bits = bits_for(size_bytes, hb->shift);
    size_t leaves = DIV_ROUND_UP(bits, LEAF_BITS);

    if (bits < hb->bits) {
        bits_change(hb, bits, hb->bits, false);
    }
    for (size_t i = leaves; i < hb->leaves; i++) {
        leaf_set_state(hb, i, NULL);
    }
    hb->leaf = g_renew(Leaf *, hb->leaf, leaves + 1);
    size_t words = leaves / 64 + 1, had = hb->any ? hb->leaves / 64 + 1 : 0;

    hb->any = g_renew(uint64_t, hb->any, words);
    if (words > had) {
        memset(hb->any + had, 0, (words - had) * 8);
    }
    for (size_t i = hb->leaves; i < leaves; i++) {
        hb->leaf[i] = NULL;
    }
    hb->leaves = leaves;
    hb->bits = bits;
    hb->size = size_bytes;
}

bool hbitmap_get(const HBitmap *hb, int64_t offset)
{
    uint64_t bit = (uint64_t)offset >> hb->shift;

    g_assert(bit < hb->bits);
    const Leaf *l = hb->leaf[bit / LEAF_BITS];

    return l == LEAF_FULL || (l && (l->word[bit % LEAF_BITS / 64] >> (bit % 64) & 1));
}

void hbitmap_set(HBitmap *hb, int64_t offset, int64_t bytes)
{
    if (bytes > 0) {
        bits_change(hb, (uint64_t)offset >> hb->shift, ((uint64_t)(offset + bytes - 1) >> hb->shift) + 1, true);
    }
}

void hbitmap_reset(HBitmap *hb, int64_t offset, int64_t bytes)
{
    if (bytes <= 0) {
        return;
    }
    g_assert(QEMU_IS_ALIGNED(offset, 1LL << hb->shift));
    g_assert(QEMU_IS_ALIGNED(bytes, 1LL << hb->shift) || offset + bytes == hb->size);
    bits_change(hb, (uint64_t)offset >> hb->shift, bits_for(offset + bytes, hb->shift), false);
}

void hbitmap_reset_all(HBitmap *hb)
{
    bits_change(hb, 0, hb->bits, false);
}

bool hbitmap_empty(const HBitmap *hb)
{
    return hb->count == 0;
}

int64_t hbitmap_count(const HBitmap *hb)
{
    int64_t n = hb->count << hb->shift;

    if (hb->bits && hbitmap_get(hb, hb->size - 1)) {
        n -= (int64_t)(hb->bits << hb->shift) - hb->size;
    }
    return n;
}

/* First bit in [from, to) with value @on, or -1. */
static int64_t bits_find(const HBitmap *hb, uint64_t from, uint64_t to, bool on)
{
    to = MIN(to, hb->bits);
    while (from < to) {
        size_t i = from / LEAF_BITS;
        const Leaf *l = hb->leaf[i];

        if (!leaf_mixed(l)) {
            if ((l == LEAF_FULL) == on) {
                return from;
            }
            if (on && !hb->any[i / 64]) {
                from = (i / 64 + 1) * 64 * (uint64_t)LEAF_BITS;     /* 64 clear leaves at once */
            } else {
                from = (i + 1) * (uint64_t)LEAF_BITS;
            }
            continue;
        }
        unsigned w = from % LEAF_BITS / 64;
        uint64_t v = (on ? l->word[w] : ~l->word[w]) & (~0ULL << (from % 64));

        while (!v && ++w < LEAF_WORDS) {
            v = on ? l->word[w] : ~l->word[w];
        }
        if (v) {
            from = i * (uint64_t)LEAF_BITS + w * 64 + __builtin_ctzll(v);
            return from < to ? (int64_t)from : -1;
        }
        from = (i + 1) * (uint64_t)LEAF_BITS;
    }
    return -1;
}

static int64_t find_bytes(const HBitmap *hb, int64_t start, int64_t bytes, bool on)
{
    int64_t end = bytes > hb->size - start ? hb->size : start + bytes;

    if (start >= end) {
        return -1;
    }
    int64_t bit = bits_find(hb, (uint64_t)start >> hb->shift, bits_for(end, hb->shift), on);

    return bit < 0 ? -1 : MAX(start, bit << hb->shift);
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
    end = MIN(end, hb->size);
    int64_t from = hbitmap_next_dirty(hb, start, end - start);

    if (from < 0) {
        return false;
    }
    end = max > end - from ? end : from + max;
    int64_t to = hbitmap_next_zero(hb, from, end - from);

    *dirty_start = from;
    *dirty_bytes = (to < 0 ? end : to) - from;
    return true;
}

bool hbitmap_merge(HBitmap *dst, const HBitmap *src)
{
    int64_t at = 0, start, bytes;

    if (dst->size != src->size) {
        return false;
    }
    while (hbitmap_next_dirty_area(src, at, src->size, INT64_MAX, &start, &bytes)) {
        hbitmap_set(dst, start, bytes);
        at = start + bytes;
    }
    return true;
}

HBitmap *hbitmap_copy(const HBitmap *hb)
{
    HBitmap *c = hbitmap_alloc(hb->size, hb->shift);

    hbitmap_merge(c, hb);
    return c;
}

size_t hbitmap_memory(const HBitmap *hb)
{
    return hb->allocated * sizeof(Leaf) + hb->leaves * sizeof(Leaf *);
}

/* SPDX-License-Identifier: MIT */
/* qcow2_image.h: for tests: an independent reader of qcow2 images in memory.
 *
 * image_check() walks header, refcounts, L1 and L2 tables and says what is wrong: a reference
 * to a cluster whose refcount is lower than the references (corruption), a COPIED flag on a
 * shared one, an entry that points outside of what can be. Refcounts that are too high are
 * counted as leaks. image_sector() reads the guest's disk. Subclusters, an external data file and snapshots
 * are understood, and streams of deflate. While the dirty bit is set refcounts may be too high, and then flags
 * need not agree with them; but never may what two refer to have the flag.
 */
#ifndef LIVEBLK_TESTS_QCOW2_IMAGE_H
#define LIVEBLK_TESTS_QCOW2_IMAGE_H

#include "base/osdep.h"
#include <zlib.h>

typedef struct Image {
    const uint8_t *data;
    uint64_t bytes;
    const uint8_t *guest_data;          /* the external data file; or as `data` */
    uint64_t guest_bytes;
    bool external, ext_l2, dirty;
    uint64_t n_snapshots, snapshots_offset;
    unsigned cluster_bits, refcount_order;
    uint64_t size, l1_size, l1_offset, reftable_offset, reftable_entries;
    uint64_t errors, leaks;
    char first_error[200];
} Image;

static uint64_t image_be_in(const uint8_t *data, uint64_t bytes, uint64_t at, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++) {
        v = v << 8 | (at + i < bytes ? data[at + i] : 0);
    }
    return v;
}

static uint64_t image_be(const Image *im, uint64_t at, unsigned n)
{
    return image_be_in(im->data, im->bytes, at, n);
}

static G_GNUC_PRINTF(2, 3) void image_error(Image *im, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (!im->errors++) {
        vsnprintf(im->first_error, sizeof(im->first_error), fmt, ap);
    }
    va_end(ap);
}

static void image_init(Image *im, const uint8_t *data, uint64_t bytes)
{
    *im = (Image) { .data = data, .bytes = bytes, .guest_data = data, .guest_bytes = bytes };
    if (image_be(im, 4, 4) >= 3) {
        im->external = image_be(im, 72, 8) & 4;
        im->ext_l2 = image_be(im, 72, 8) & 16;
        im->dirty = image_be(im, 72, 8) & 1;
    }
    im->cluster_bits = image_be(im, 20, 4);
    im->size = image_be(im, 24, 8);
    im->l1_size = image_be(im, 36, 4);
    im->l1_offset = image_be(im, 40, 8);
    im->reftable_offset = image_be(im, 48, 8);
    im->n_snapshots = image_be(im, 60, 4);
    im->snapshots_offset = image_be(im, 64, 8);
    im->reftable_entries = image_be(im, 56, 4) << (im->cluster_bits - 3);
    im->refcount_order = image_be(im, 4, 4) == 2 ? 4 : image_be(im, 96, 4);
}

/* Entry @k of the table of snapshots: @view shows it; its number (the id, as a number); *at: where the table ends,
 * which is where it begins for entry 0. */
static uint64_t image_snapshot(const Image *im, uint64_t *at, Image *view)
{
    uint64_t e = (*at + 7) & ~7ULL, extra = image_be(im, e + 36, 4), id_bytes = image_be(im, e + 12, 2), id = 0;

    *view = *im;
    view->l1_offset = image_be(im, e, 8);
    view->l1_size = image_be(im, e + 8, 4);
    view->size = extra >= 16 ? image_be(im, e + 48, 8) : im->size;
    for (uint64_t i = 0; i < id_bytes; i++) {
        id = id * 10 + image_be(im, e + 40 + extra + i, 1) - '0';
    }
    *at = e + 40 + extra + id_bytes + image_be(im, e + 14, 2);
    return id;
}

static uint64_t image_refcount(const Image *im, uint64_t cluster)
{
    uint64_t per_block = (8ULL << im->cluster_bits) >> im->refcount_order, i = cluster % per_block;
    uint64_t r = cluster / per_block;
    uint64_t block = r < im->reftable_entries ? image_be(im, im->reftable_offset + r * 8, 8) : 0;
    unsigned bits = 1u << im->refcount_order;

    if (!block) {
        return 0;
    }
    if (bits >= 8) {
        return image_be(im, block + i * bits / 8, bits / 8);
    }
    return image_be(im, block + i * bits / 8, 1) >> (i * bits % 8) & ((1u << bits) - 1);
}

/* *bits: the second word; 0 if there is none. */
static uint64_t image_l2_entry(const Image *im, uint64_t offset, uint64_t *bits)
{
    uint64_t cluster = offset >> im->cluster_bits, per_table = 1ULL << (im->cluster_bits - 3 - im->ext_l2);
    uint64_t i = cluster / per_table;
    uint64_t l2 = i < im->l1_size ? image_be(im, im->l1_offset + i * 8, 8) & 0x00fffffffffffe00ULL : 0;

    l2 += cluster % per_table * (8 << im->ext_l2);
    *bits = l2 >= 1ULL << im->cluster_bits && im->ext_l2 ? image_be(im, l2 + 8, 8) : 0;
    return l2 >= 1ULL << im->cluster_bits ? image_be(im, l2, 8) : 0;
}

/* Where the stream of a compressed entry lies, to the end of its last sector. */
static void image_stream(const Image *im, uint64_t entry, uint64_t *host, uint64_t *bytes)
{
    unsigned shift = 62 - (im->cluster_bits - 8);

    *host = entry & ((1ULL << shift) - 1);
    *bytes = ((entry & ((1ULL << 62) - 1)) >> shift) * 512 + 512 - *host % 512;
}

/* The first 8 bytes at @within of a compressed cluster; all ones if the stream does not hold a cluster. */
static uint64_t image_unpack(const Image *im, uint64_t entry, uint64_t within)
{
    uint64_t host, bytes, cluster = 1ULL << im->cluster_bits, value = UINT64_MAX;
    g_autofree uint8_t *out = g_malloc(cluster);
    z_stream z = { .next_out = out, .avail_out = cluster };

    image_stream(im, entry, &host, &bytes);
    if (host >= im->bytes) {
        return value;
    }
    z.next_in = (uint8_t *)im->data + host;
    z.avail_in = MIN(bytes, im->bytes - host);
    g_assert(inflateInit2(&z, -15) == Z_OK);
    inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return z.avail_out ? value : image_be_in(out, cluster, within, 8);
}

/* The first 8 bytes of guest sector @sector; false: not decided here, see the backing file. */
static G_GNUC_UNUSED bool image_sector(const Image *im, uint64_t sector, uint64_t *value)
{
    uint64_t offset = sector * 512, bits, entry = image_l2_entry(im, offset, &bits);
    uint64_t host = entry & 0x00fffffffffffe00ULL, within = offset & ((1ULL << im->cluster_bits) - 1);
    unsigned sub = im->ext_l2 ? within >> (im->cluster_bits - 5) : 0;

    *value = 0;
    if (entry >> 62 & 1) {
        *value = image_unpack(im, entry, within);
        return true;
    }
    if ((entry & 1) || (bits >> (32 + sub) & 1)) {
        return true;
    }
    if ((!host && !(im->external && entry >> 63)) || (im->ext_l2 && !(bits >> sub & 1))) {
        return false;
    }
    *value = image_be_in(im->guest_data, im->guest_bytes, host + within, 8);
    return true;
}

static void image_ref(Image *im, GHashTable *refs, uint64_t from, uint64_t bytes, const char *what)
{
    uint64_t first = from >> im->cluster_bits, last = (from + MAX(bytes, 1) - 1) >> im->cluster_bits;

    if (strcmp(what, "stream") && (from & ((1ULL << im->cluster_bits) - 1))) {
        image_error(im, "%s at %#" PRIx64 " is not aligned", what, from);
    }
    for (uint64_t c = first; c <= last; c++) {
        g_hash_table_insert(refs, GSIZE_TO_POINTER(c),
                            GSIZE_TO_POINTER(GPOINTER_TO_SIZE(g_hash_table_lookup(refs, GSIZE_TO_POINTER(c))) + 1));
    }
}

static void image_check_copied(Image *im, GHashTable *refs, uint64_t entry, const char *what)
{
    uint64_t host = entry & 0x00fffffffffffe00ULL;
    bool copied = entry >> 63;

    if (host && im->dirty) {
        if (copied && GPOINTER_TO_SIZE(g_hash_table_lookup(refs, GSIZE_TO_POINTER(host >> im->cluster_bits))) > 1) {
            image_error(im, "%s entry %#" PRIx64 ": COPIED, but there is another reference", what, entry);
        }
    } else if (host && copied != (image_refcount(im, host >> im->cluster_bits) == 1)) {
        image_error(im, "%s entry %#" PRIx64 ": COPIED, but the refcount is %" PRIu64, what, entry,
                    image_refcount(im, host >> im->cluster_bits));
    }
}

static void image_check_bits(Image *im, uint64_t entry, uint64_t bits)
{
    bool has_cluster = (entry & 0x00fffffffffffe00ULL) || (im->external && entry >> 63);

    if (entry >> 62 & 1) {
        if (bits) {
            image_error(im, "L2 entry %#" PRIx64 " of a stream with bits %#" PRIx64, entry, bits);
        }
        return;
    }
    if ((bits & bits >> 32) || (!has_cluster && (uint32_t)bits) || (entry & 1)) {
        image_error(im, "L2 entry %#" PRIx64 " with bits %#" PRIx64, entry, bits);
    }
}

/* @k: number of the guest's cluster. */
static void image_check_data(Image *im, GHashTable *refs, uint64_t entry, uint64_t k)
{
    uint64_t host = entry & 0x00fffffffffffe00ULL, bytes;

    if (entry >> 62 & 1) {
        image_stream(im, entry, &host, &bytes);
        image_ref(im, refs, host, bytes, "stream");
        if (im->external || entry >> 63 || host >= im->bytes) {
            image_error(im, "L2 entry %#" PRIx64 " of a stream cannot be", entry);
        }
    } else if (im->external) {
        if ((host || entry >> 63) && host != k << im->cluster_bits) {
            image_error(im, "L2 entry %#" PRIx64 " of cluster %" PRIu64 " names another in the data file", entry, k);
        }
    } else if (host) {
        image_ref(im, refs, host, 1ULL << im->cluster_bits, "data");
        if (host >= im->bytes) {
            image_error(im, "L2 entry %#" PRIx64 " names a cluster behind the end of the file", entry);
        }
    }
}

/* All that an L1 table names. */
static void image_check_tree(Image *im, GHashTable *refs)
{
    uint64_t cluster = 1ULL << im->cluster_bits;

    if (im->l1_size) {
        image_ref(im, refs, im->l1_offset, im->l1_size * 8, "L1 table");
    }
    for (uint64_t i = 0; i < im->l1_size; i++) {
        uint64_t l2 = image_be(im, im->l1_offset + i * 8, 8) & 0x00fffffffffffe00ULL;

        if (!l2) {
            continue;
        }
        image_ref(im, refs, l2, cluster, "L2 table");
        for (uint64_t k = 0, n = cluster >> (3 + im->ext_l2); k < n; k++) {
            uint64_t entry = image_be(im, l2 + (k << (3 + im->ext_l2)), 8);

            if (im->ext_l2) {
                image_check_bits(im, entry, image_be(im, l2 + k * 16 + 8, 8));
            }
            image_check_data(im, refs, entry, i * n + k);
        }
    }
}

/* The flags of the active tables. */
static void image_check_flags(Image *im, GHashTable *refs)
{
    for (uint64_t i = 0; i < im->l1_size; i++) {
        uint64_t l1 = image_be(im, im->l1_offset + i * 8, 8), l2 = l1 & 0x00fffffffffffe00ULL;

        image_check_copied(im, refs, l1, "L1");
        for (uint64_t k = 0; l2 && k < 1ULL << (im->cluster_bits - 3); k += 1 + im->ext_l2) {
            uint64_t entry = image_be(im, l2 + k * 8, 8);

            if (!(entry >> 62 & 1) && !im->external) {
                image_check_copied(im, refs, entry, "L2");
            }
        }
    }
}

static void image_check_snapshots(Image *im, GHashTable *refs)
{
    uint64_t at = im->snapshots_offset;
    Image view;

    for (uint64_t k = 0; k < im->n_snapshots; k++) {
        image_snapshot(im, &at, &view);
        image_check_tree(&view, refs);
        if (view.errors > im->errors) {
            im->errors = view.errors;
            memcpy(im->first_error, view.first_error, sizeof(im->first_error));
        }
    }
    if (im->n_snapshots) {
        image_ref(im, refs, im->snapshots_offset, at - im->snapshots_offset, "table of snapshots");
    }
}

static void image_check(Image *im)
{
    GHashTable *refs = g_hash_table_new(NULL, NULL);
    uint64_t cluster = 1ULL << im->cluster_bits;

    image_ref(im, refs, 0, 1, "header");
    image_ref(im, refs, im->reftable_offset, im->reftable_entries * 8, "refcount table");
    for (uint64_t r = 0; r < im->reftable_entries; r++) {
        uint64_t block = image_be(im, im->reftable_offset + r * 8, 8);

        if (block) {
            image_ref(im, refs, block, cluster, "refcount block");
        }
    }
    image_check_tree(im, refs);
    image_check_snapshots(im, refs);
    image_check_flags(im, refs);
    GHashTableIter it;
    gpointer key, count;

    g_hash_table_iter_init(&it, refs);
    while (g_hash_table_iter_next(&it, &key, &count)) {
        uint64_t have = image_refcount(im, GPOINTER_TO_SIZE(key));

        if (have < GPOINTER_TO_SIZE(count)) {
            image_error(im, "cluster %#zx: refcount %" PRIu64 ", references %zu", GPOINTER_TO_SIZE(key), have,
                        GPOINTER_TO_SIZE(count));
        }
    }
    for (uint64_t c = 0; c < DIV_ROUND_UP(im->bytes, cluster); c++) {
        im->leaks += image_refcount(im, c) > GPOINTER_TO_SIZE(g_hash_table_lookup(refs, GSIZE_TO_POINTER(c)));
    }
    g_hash_table_destroy(refs);
}

#endif

/* SPDX-License-Identifier: MIT */
/* nbd_context.c: see nbd_context.h. */
#include "base/osdep.h"
#include "export/nbd_context.h"
#include "block/block_int-global-state.h"
#include "export/nbd_protocol.h"

#define BITMAP_PREFIX   "qemu:dirty-bitmap:"
/* Extents of one context in one reply; fewer where many contexts share a reply. */
#define EXTENTS_MAX     4096
#define EXTENTS_MIN     8
#define EXTENTS_ALL     (4 * EXTENTS_MAX)

/* ---- what is offered; main thread ---- */

/* The bitmap @name of @bs or of an image below it. */
static BdrvDirtyBitmap *find_below(BlockDriverState *bs, const char *name, BlockDriverState **pbs, Error **errp)
{
    for (; bs; bs = bdrv_filter_or_cow_bs(bs)) {
        BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(bs, name);

        if (b) {
            *pbs = bs;
            return b;
        }
    }
    error_setg(errp, "Bitmap '%s' is not found", name);
    return NULL;
}

static int offer_find(BlockDriverState *bs, bool writable, const BlockDirtyBitmapOrStr *which,
                      BdrvDirtyBitmap **pb, BlockDriverState **pbs, Error **errp)
{
    BdrvDirtyBitmap *b = which->type == QTYPE_QSTRING
        ? find_below(bs, which->u.local, pbs, errp)
        : block_dirty_bitmap_lookup(which->u.external->node, which->u.external->name, pbs, errp);

    if (!b) {
        return -ENOENT;
    }
    if (!writable && !bdrv_is_read_only(*pbs) && bdrv_dirty_bitmap_enabled(b)) {
        error_setg(errp, "Enabled bitmap '%s' incompatible with readonly export", bdrv_dirty_bitmap_name(b));
        return -EINVAL;
    }
    *pb = b;
    return bdrv_dirty_bitmap_check(b, false, errp);
}

static void offer_hold(NbdOffer *offer, BdrvDirtyBitmap *b, BlockDriverState *bs)
{
    char *name = g_strconcat(BITMAP_PREFIX, bdrv_dirty_bitmap_name(b), NULL);

    /* Two bitmaps of one name, of different nodes: clients could not tell them apart, the first is it. */
    if (!g_hash_table_contains(offer->by_name, name)) {
        g_hash_table_insert(offer->by_name, name, GUINT_TO_POINTER(NBD_CTX_BITMAP + offer->names->len));
        g_ptr_array_add(offer->names, name);
        g_ptr_array_add(offer->bitmaps, b);
        g_ptr_array_add(offer->nodes, bs);
        bdrv_ref(bs);
    } else {
        g_free(name);
    }
}

int nbd_offer_init(NbdOffer *offer, BlockDriverState *bs, bool writable, bool depth,
                   const BlockDirtyBitmapOrStrList *bitmaps, Error **errp)
{
    offer->depth = depth;
    offer->bitmaps = g_ptr_array_new();
    offer->nodes = g_ptr_array_new();
    offer->names = g_ptr_array_new();
    offer->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (; bitmaps; bitmaps = bitmaps->next) {
        BlockDriverState *owner;
        BdrvDirtyBitmap *b;
        int ret = offer_find(bs, writable, bitmaps->value, &b, &owner, errp);

        if (ret < 0) {
            nbd_offer_clear(offer);
            return ret;
        }
        offer_hold(offer, b, owner);
    }
    /* Only now, so that a bitmap may be named twice. */
    for (guint i = 0; i < offer->bitmaps->len; i++) {
        bdrv_dirty_bitmap_set_busy(g_ptr_array_index(offer->bitmaps, i), true);
    }
    return 0;
}

void nbd_offer_clear(NbdOffer *offer)
{
    for (guint i = 0; i < offer->bitmaps->len; i++) {
        bdrv_dirty_bitmap_set_busy(g_ptr_array_index(offer->bitmaps, i), false);
    }
    for (guint i = 0; i < offer->nodes->len; i++) {
        bdrv_unref(g_ptr_array_index(offer->nodes, i));
    }
    g_clear_pointer(&offer->bitmaps, g_ptr_array_unref);
    g_clear_pointer(&offer->nodes, g_ptr_array_unref);
    g_clear_pointer(&offer->names, g_ptr_array_unref);
    g_clear_pointer(&offer->by_name, g_hash_table_unref);
}

unsigned nbd_offer_end(const NbdOffer *offer)
{
    return NBD_CTX_BITMAP + offer->names->len;
}

const char *nbd_offer_name(const NbdOffer *offer, unsigned id)
{
    switch (id) {
    case NBD_CTX_BASE:
        return "base:allocation";
    case NBD_CTX_DEPTH:
        return offer->depth ? "qemu:allocation-depth" : NULL;
    default:
        return g_ptr_array_index(offer->names, id - NBD_CTX_BITMAP);
    }
}

static void match_beginning(const NbdOffer *offer, const char *query, bool *chosen)
{
    for (unsigned id = NBD_CTX_BASE; id < nbd_offer_end(offer); id++) {
        const char *name = nbd_offer_name(offer, id);

        if (name && g_str_has_prefix(name, query)) {
            chosen[id] = true;
        }
    }
}

void nbd_offer_match(const NbdOffer *offer, const char *query, bool list, bool *chosen)
{
    void *bitmap;

    /* Names end where a namespace ends: "qemu:dirty" is not one. */
    if (list && (!strcmp(query, "base:") || !strcmp(query, "qemu:") || !strcmp(query, BITMAP_PREFIX))) {
        match_beginning(offer, query, chosen);
    } else if (!strcmp(query, "base:allocation")) {
        chosen[NBD_CTX_BASE] = true;
    } else if (!strcmp(query, "qemu:allocation-depth")) {
        chosen[NBD_CTX_DEPTH] |= offer->depth;
    } else if ((bitmap = g_hash_table_lookup(offer->by_name, query))) {
        chosen[GPOINTER_TO_UINT(bitmap)] = true;
    }
}

/* ---- answers; the export's thread ---- */

static unsigned extents_max(unsigned n)
{
    return MAX(MIN(EXTENTS_ALL / MAX(n, 1), EXTENTS_MAX), EXTENTS_MIN);
}

size_t nbd_status_bytes_max(unsigned n)
{
    return n * (sizeof(NbdChunk) + 4 + 8 * (size_t)extents_max(n));
}

/* The state at @at, and for how many bytes (*@pnum) it holds at least. -errno. */
static int64_t coroutine_fn state_at(const NbdOffer *offer, BlockBackend *blk, unsigned id, int64_t at,
                                     int64_t bytes, int64_t *pnum)
{
    int depth = 0, ret;

    switch (id) {
    case NBD_CTX_BASE:
        ret = blk_co_block_status_above(blk, NULL, at, bytes, pnum, NULL, NULL);
        return ret < 0 ? ret : (ret & BDRV_BLOCK_DATA ? 0 : NBD_STATE_HOLE) |
                               (ret & BDRV_BLOCK_ZERO ? NBD_STATE_ZERO : 0);
    case NBD_CTX_DEPTH:
        ret = blk_co_is_allocated_above(blk, NULL, true, at, bytes, pnum, &depth);
        return ret <= 0 ? ret : MAX(depth, 1);
    default:
        return bdrv_dirty_bitmap_status(g_ptr_array_index(offer->bitmaps, id - NBD_CTX_BITMAP), at, bytes, pnum)
            ? NBD_STATE_DIRTY : 0;
    }
}

static void put_extent(uint8_t *out, uint64_t run, uint32_t state)
{
    uint32_t be[2] = { htobe32(run), htobe32(state) };

    memcpy(out, be, sizeof(be));
}

/* Extents of one context. Their number or -errno. */
static int64_t coroutine_fn collect(const NbdOffer *offer, BlockBackend *blk, unsigned id, int64_t offset,
                                    int64_t bytes, unsigned max, uint8_t *out)
{
    int64_t at = offset, end = offset + bytes, run = 0;
    uint32_t last = 0;
    unsigned n = 0;

    while (at < end) {
        int64_t pnum, state = state_at(offer, blk, id, at, end - at, &pnum);

        if (state < 0) {
            return state;
        }
        if (run && state != last) {
            if (n + 1 == max) {
                break;
            }
            put_extent(out + 8 * n++, run, last);
            run = 0;
        }
        last = state;
        run += pnum;
        at += pnum;
    }
    put_extent(out + 8 * n++, run, last);
    return n;
}

int64_t coroutine_fn nbd_co_status(const NbdOffer *offer, BlockBackend *blk, const NbdChoice *choice,
                                   int64_t offset, int64_t bytes, bool one, uint64_t cookie, uint8_t *buf)
{
    unsigned max = one ? 1 : extents_max(choice->n);
    uint8_t *out = buf;

    for (unsigned i = 0; i < choice->n; i++) {
        uint32_t id = htobe32(choice->ids[i]);
        int64_t n = collect(offer, blk, choice->ids[i], offset, bytes, max, out + sizeof(NbdChunk) + 4);

        if (n < 0) {
            return n;
        }
        NbdChunk chunk = {
            .magic = htobe32(NBD_CHUNK_MAGIC), .type = htobe16(NBD_CHUNK_BLOCK_STATUS), .cookie = cookie,
            .flags = htobe16(i + 1 == choice->n ? NBD_CHUNK_FLAG_DONE : 0), .length = htobe32(4 + 8 * n),
        };

        memcpy(out, &chunk, sizeof(chunk));
        memcpy(out + sizeof(chunk), &id, 4);
        out += sizeof(chunk) + 4 + 8 * n;
    }
    return out - buf;
}

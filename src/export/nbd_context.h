/* SPDX-License-Identifier: MIT */
/* nbd_context.h: metadata contexts: what clients may ask about an export besides its bytes.
 *
 *   base:allocation            what is data, what is zero
 *   qemu:allocation-depth      which image of the chain holds it; if the export was made so
 *   qemu:dirty-bitmap:NAME     what a bitmap marks; those that the export was made with
 *
 * On the wire a context is a number: NBD_CTX_BASE, NBD_CTX_DEPTH, NBD_CTX_BITMAP and up.
 */
#ifndef LIVEBLK_EXPORT_NBD_CONTEXT_H
#define LIVEBLK_EXPORT_NBD_CONTEXT_H

#include "block/dirty-bitmap.h"
#include "block/export.h"

enum { NBD_CTX_BASE = 1, NBD_CTX_DEPTH = 2, NBD_CTX_BITMAP = 3 };

/* What an export has to offer. Made and freed in the main thread, constant in between. */
typedef struct NbdOffer {
    bool depth;
    GPtrArray *bitmaps;         /* BdrvDirtyBitmap, marked as busy */
    GPtrArray *nodes;           /* theirs, a reference to each */
    GHashTable *by_name;        /* of a context of a bitmap, to its number; owns the names */
    GPtrArray *names;           /* the same names, by number - NBD_CTX_BITMAP */
} NbdOffer;

/* What a client has chosen; handshake: main thread, later the export's, which only reads. */
typedef struct NbdChoice {
    uint64_t serial;            /* of the export it is for */
    unsigned n;
    uint32_t *ids;              /* ascending */
} NbdChoice;

/* Offer @bitmaps to the clients of an export of @bs; names without a node are looked for from @bs downward.
 * 0, or -errno and nothing is held. A bitmap that is still recording is no offer to @writable == false,
 * since it would change while a client reads it. Main thread. */
int nbd_offer_init(NbdOffer *offer, BlockDriverState *bs, bool writable, bool depth,
                   const BlockDirtyBitmapOrStrList *bitmaps, Error **errp);
/* Let go of the bitmaps; may suspend, as the last reference to a node may be among them. */
void nbd_offer_clear(NbdOffer *offer);

/* Numbers go from NBD_CTX_BASE to here, without it. */
unsigned nbd_offer_end(const NbdOffer *offer);
/* NULL: it is not on offer. Lent. */
const char *nbd_offer_name(const NbdOffer *offer, unsigned id);
/* Set chosen[id] for what @query means; @list: a query may be the beginning of several names. */
void nbd_offer_match(const NbdOffer *offer, const char *query, bool list, bool *chosen);

/* The bytes that a reply on @n contexts may take, heads of the chunks included. */
size_t nbd_status_bytes_max(unsigned n);
/* Fill @buf with the chunks of a reply: the contexts of @choice on [@offset, +@bytes); @one: just one extent
 * each. @cookie as on the wire. Its length or -errno. The export's thread. */
int64_t coroutine_fn nbd_co_status(const NbdOffer *offer, BlockBackend *blk, const NbdChoice *choice,
                                   int64_t offset, int64_t bytes, bool one, uint64_t cookie, uint8_t *buf);

#endif

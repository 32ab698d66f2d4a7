/* SPDX-License-Identifier: MIT */
/* hbitmap_private.h: the tree under a bitmap, for hbitmap*.c only.
 *
 * A tree of level 0 covers LEAF_BITS bits, one of level n 64 trees of level n - 1. A tree
 * is NULL (all clear), TREE_FULL (all set), or a Leaf or Node: mixed. Invariants, between
 * calls: a Leaf or Node is really mixed (else it is given back), and bits behind the end
 * of the bitmap are clear. Bits are numbered absolutely on each level; since each
 * tree is aligned to its length, masks give the place inside.
 */
#ifndef LIVEBLK_BASE_HBITMAP_PRIVATE_H
#define LIVEBLK_BASE_HBITMAP_PRIVATE_H

#include "base/hbitmap.h"

#define LEAF_SHIFT  12
#define LEAF_BITS   (1u << LEAF_SHIFT)
#define NODE_SHIFT  6
#define WORDS       64      /* words of a leaf and children of a node alike */

typedef void *Tree;
extern char hbitmap_tree_full;
#define TREE_FULL   ((Tree)&hbitmap_tree_full)

typedef struct Leaf {
    uint64_t any;           /* bit i: word[i] is not 0 */
    uint64_t full;          /* bit i: word[i] is all ones */
    uint64_t count;         /* bits set */
    uint64_t word[WORDS];
} Leaf;

typedef struct Node {
    uint64_t any;           /* bit i: child[i] is not NULL */
    uint64_t full;          /* bit i: child[i] is TREE_FULL */
    Tree child[WORDS];
} Node;

struct HBitmap {
    int64_t size;           /* bytes */
    unsigned granularity;   /* log2 of the bytes for a bit */
    unsigned level;         /* of root: the least that covers bits */
    uint64_t bits;          /* bits that cover size */
    uint64_t count;         /* bits set */
    Tree root;
    Leaf *recent;           /* the leaf changed last, if still there: guests write near */
    uint64_t recent_index;  /* ... and its bit number >> LEAF_SHIFT */
    size_t memory;          /* bytes of all leaves and nodes */
};

/* A change of bits: what hbitmap_tree_apply() does to each word. */
typedef enum { BITS_SET, BITS_RESET, BITS_LOAD } BitsOpKind;

typedef struct BitsOp {
    BitsOpKind kind;
    /* BITS_LOAD only: the stream, its length, and the bit (a multiple of 64) it begins with */
    const uint8_t *buf;
    size_t buf_bytes;
    uint64_t buf_first;
} BitsOp;

/* Highest bit number inside a tree of @level that begins at 0. */
static inline uint64_t level_last(unsigned level)
{
    unsigned shift = LEAF_SHIFT + NODE_SHIFT * level;

    return shift >= 64 ? UINT64_MAX : (1ULL << shift) - 1;
}

/* Which child of a node of @level holds bit @pos. */
static inline unsigned child_index(unsigned level, uint64_t pos)
{
    return pos >> (LEAF_SHIFT + NODE_SHIFT * (level - 1)) & (WORDS - 1);
}

static inline bool tree_is_mixed(Tree tree)
{
    return tree && tree != TREE_FULL;
}

/* The leaf-sized tree that holds bit @pos: NULL, TREE_FULL or a Leaf. */
static inline Tree tree_leaf_at(const HBitmap *hb, uint64_t pos)
{
    Tree tree = hb->root;

    for (unsigned level = hb->level; level && tree_is_mixed(tree); level--) {
        tree = ((Node *)tree)->child[child_index(level, pos)];
    }
    return tree;
}

#define NO_BIT UINT64_MAX

/* hbitmap_tree.c. The first four return what stands in the place of the tree given,
 * and keep count and memory of @hb. */
Tree hbitmap_tree_apply(HBitmap *hb, Tree tree, unsigned level,
                        uint64_t first, uint64_t last, const BitsOp *op);
Tree hbitmap_tree_merge(HBitmap *hb, Tree dst, Tree src, unsigned level);
Tree hbitmap_tree_clone(HBitmap *hb, Tree src, unsigned level);
Tree hbitmap_tree_drop(HBitmap *hb, Tree tree, unsigned level);
/* Change bits [@first, @last] of @leaf; the caller gives it back if it is uniform then. */
void hbitmap_leaf_apply(HBitmap *hb, Leaf *leaf, uint64_t first, uint64_t last,
                        const BitsOp *op);
/* The first bit from @from on whose value is @on, or NO_BIT. May lie behind the end. */
uint64_t hbitmap_tree_find(Tree tree, unsigned level, uint64_t from, bool on);
/* Raise or lower the root to @level, which must do for what is set. */
void hbitmap_tree_set_level(HBitmap *hb, unsigned level);

#endif

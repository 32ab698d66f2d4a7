/* SPDX-License-Identifier: MIT */
/* hbitmap_tree.c: the tree under a bitmap; see hbitmap_private.h. The depth is at most
 * 10 (a bit for each byte of 2^63), so recursion is bounded. */
#include "base/osdep.h"
#include "base/hbitmap_private.h"

char hbitmap_tree_full;

/* ---- leaves and nodes come and go ---- */

static Leaf *leaf_new(HBitmap *hb)
{
    hb->memory += sizeof(Leaf);
    return g_new0(Leaf, 1);
}

static void leaf_free(HBitmap *hb, Leaf *leaf)
{
    if (hb->recent == leaf) {
        hb->recent = NULL;
    }
    hb->memory -= sizeof(Leaf);
    g_free(leaf);
}

static Node *node_new(HBitmap *hb)
{
    hb->memory += sizeof(Node);
    return g_new0(Node, 1);
}

static void node_free(HBitmap *hb, Node *node)
{
    hb->memory -= sizeof(Node);
    g_free(node);
}

/* A leaf with words of its own that shows what @tree does. */
static Leaf *leaf_from(HBitmap *hb, Tree tree)
{
    Leaf *leaf;

    if (tree_is_mixed(tree)) {
        return tree;
    }
    leaf = leaf_new(hb);
    if (tree == TREE_FULL) {
        leaf->any = leaf->full = UINT64_MAX;
        leaf->count = LEAF_BITS;
        memset(leaf->word, 0xff, sizeof(leaf->word));
    }
    return leaf;
}

static Node *node_from(HBitmap *hb, Tree tree)
{
    Node *node;

    if (tree_is_mixed(tree)) {
        return tree;
    }
    node = node_new(hb);
    if (tree == TREE_FULL) {
        node->any = node->full = UINT64_MAX;
        for (unsigned i = 0; i < WORDS; i++) {
            node->child[i] = TREE_FULL;
        }
    }
    return node;
}

/* Give the leaf or node back if it has become uniform. */
static Tree leaf_settle(HBitmap *hb, Leaf *leaf)
{
    if (leaf->count && leaf->count < LEAF_BITS) {
        return leaf;
    }
    Tree uniform = leaf->count ? TREE_FULL : NULL;

    leaf_free(hb, leaf);
    return uniform;
}

static Tree node_settle(HBitmap *hb, Node *node)
{
    if (node->any && node->full != UINT64_MAX) {
        return node;
    }
    Tree uniform = node->any ? TREE_FULL : NULL;

    node_free(hb, node);
    return uniform;
}

/* ---- single words and children ---- */

static void leaf_put_word(HBitmap *hb, Leaf *leaf, unsigned i, uint64_t value)
{
    uint64_t bit = 1ULL << i;
    int delta;

    if (value == leaf->word[i]) {
        return;
    }
    delta = __builtin_popcountll(value) - __builtin_popcountll(leaf->word[i]);
    leaf->word[i] = value;
    leaf->any = value ? leaf->any | bit : leaf->any & ~bit;
    leaf->full = value == UINT64_MAX ? leaf->full | bit : leaf->full & ~bit;
    leaf->count += delta;
    hb->count += delta;
}

static void node_put_child(Node *node, unsigned i, Tree child)
{
    uint64_t bit = 1ULL << i;

    if (child == node->child[i]) {
        return;     /* mixed it was and mixed it is: by far the most; touch nothing */
    }
    node->child[i] = child;
    node->any = child ? node->any | bit : node->any & ~bit;
    node->full = child == TREE_FULL ? node->full | bit : node->full & ~bit;
}

/* The word of the stream for bits @pos .. @pos + 63; behind its end zeroes. */
static uint64_t op_word(const BitsOp *op, uint64_t pos)
{
    size_t at = (pos - op->buf_first) / 8;
    uint64_t word = 0;

    memcpy(&word, op->buf + at, MIN(sizeof(word), op->buf_bytes - at));
    return GUINT64_FROM_LE(word);
}

void hbitmap_leaf_apply(HBitmap *hb, Leaf *leaf, uint64_t first, uint64_t last,
                        const BitsOp *op)
{
    for (uint64_t pos = first; ; ) {
        uint64_t end = MIN(last, pos | 63);
        uint64_t mask = UINT64_MAX << (pos & 63) & UINT64_MAX >> (63 - (end & 63));
        unsigned i = pos >> 6 & (WORDS - 1);
        uint64_t word = leaf->word[i] & ~mask;

        if (op->kind == BITS_SET) {
            word |= mask;
        } else if (op->kind == BITS_LOAD) {
            word |= op_word(op, pos) & mask;
        }
        leaf_put_word(hb, leaf, i, word);
        if (end == last) {
            return;
        }
        pos = end + 1;
    }
}

/* ---- trees ---- */

Tree hbitmap_tree_drop(HBitmap *hb, Tree tree, unsigned level)
{
    if (tree == TREE_FULL) {
        hb->count -= level_last(level) + 1;
    } else if (tree && level == 0) {
        hb->count -= ((Leaf *)tree)->count;
        leaf_free(hb, tree);
    } else if (tree) {
        Node *node = tree;

        for (uint64_t left = node->any; left; left &= left - 1) {
            hbitmap_tree_drop(hb, node->child[__builtin_ctzll(left)], level - 1);
        }
        node_free(hb, node);
    }
    return NULL;
}

static Tree tree_fill(HBitmap *hb, Tree tree, unsigned level)
{
    hbitmap_tree_drop(hb, tree, level);
    hb->count += level_last(level) + 1;
    return TREE_FULL;
}

Tree hbitmap_tree_apply(HBitmap *hb, Tree tree, unsigned level,
                        uint64_t first, uint64_t last, const BitsOp *op)
{
    bool whole = last - first == level_last(level);

    if (op->kind == BITS_SET && (whole || tree == TREE_FULL)) {
        return tree == TREE_FULL ? tree : tree_fill(hb, tree, level);
    }
    if (op->kind == BITS_RESET && (whole || !tree)) {
        return hbitmap_tree_drop(hb, tree, level);
    }
    if (level == 0) {
        Leaf *leaf = leaf_from(hb, tree);

        hb->recent = leaf;
        hb->recent_index = first >> LEAF_SHIFT;
        hbitmap_leaf_apply(hb, leaf, first, last, op);
        return leaf_settle(hb, leaf);
    }

    Node *node = node_from(hb, tree);

    for (uint64_t pos = first; ; ) {
        uint64_t end = MIN(last, pos | level_last(level - 1));
        unsigned i = child_index(level, pos);

        node_put_child(node, i, hbitmap_tree_apply(hb, node->child[i], level - 1, pos, end, op));
        if (end == last) {
            return node_settle(hb, node);
        }
        pos = end + 1;
    }
}

Tree hbitmap_tree_clone(HBitmap *hb, Tree src, unsigned level)
{
    if (src == TREE_FULL) {
        return tree_fill(hb, NULL, level);
    }
    if (src && level == 0) {
        Leaf *leaf = leaf_new(hb);

        *leaf = *(Leaf *)src;
        hb->count += leaf->count;
        return leaf;
    }
    if (src) {
        Node *node = node_new(hb), *from = src;

        for (uint64_t left = from->any; left; left &= left - 1) {
            unsigned i = __builtin_ctzll(left);

            node_put_child(node, i, hbitmap_tree_clone(hb, from->child[i], level - 1));
        }
        return node;
    }
    return NULL;
}

Tree hbitmap_tree_merge(HBitmap *hb, Tree dst, Tree src, unsigned level)
{
    if (!src || dst == TREE_FULL) {
        return dst;
    }
    if (src == TREE_FULL) {
        return tree_fill(hb, dst, level);
    }
    if (!dst) {
        return hbitmap_tree_clone(hb, src, level);
    }
    if (level == 0) {
        Leaf *leaf = dst, *from = src;

        for (uint64_t left = from->any; left; left &= left - 1) {
            unsigned i = __builtin_ctzll(left);

            leaf_put_word(hb, leaf, i, leaf->word[i] | from->word[i]);
        }
        return leaf_settle(hb, leaf);
    }

    Node *node = dst, *from = src;

    for (uint64_t left = from->any; left; left &= left - 1) {
        unsigned i = __builtin_ctzll(left);

        node_put_child(node, i, hbitmap_tree_merge(hb, node->child[i], from->child[i], level - 1));
    }
    return node_settle(hb, node);
}

static uint64_t leaf_find(const Leaf *leaf, uint64_t from, bool on)
{
    unsigned first = from >> 6 & (WORDS - 1);
    uint64_t left = (on ? leaf->any : ~leaf->full) & UINT64_MAX << first;

    for (; left; left &= left - 1) {
        unsigned i = __builtin_ctzll(left);
        uint64_t hits = on ? leaf->word[i] : ~leaf->word[i];

        if (i == first) {
            hits &= UINT64_MAX << (from & 63);
        }
        if (hits) {
            return (from & ~(uint64_t)(LEAF_BITS - 1)) + i * 64 + __builtin_ctzll(hits);
        }
    }
    return NO_BIT;
}

uint64_t hbitmap_tree_find(Tree tree, unsigned level, uint64_t from, bool on)
{
    if (!tree_is_mixed(tree)) {
        return (tree == TREE_FULL) == on ? from : NO_BIT;
    }
    if (level == 0) {
        return leaf_find(tree, from, on);
    }

    const Node *node = tree;
    unsigned first = child_index(level, from);
    uint64_t origin = from & ~level_last(level);
    uint64_t left = (on ? node->any : ~node->full) & UINT64_MAX << first;

    /* Only the first child can disappoint: it may have what is wanted before @from. */
    for (; left; left &= left - 1) {
        unsigned i = __builtin_ctzll(left);
        uint64_t start = i == first ? from : origin + i * (level_last(level - 1) + 1);
        uint64_t found = hbitmap_tree_find(node->child[i], level - 1, start, on);

        if (found != NO_BIT) {
            return found;
        }
    }
    return NO_BIT;
}

void hbitmap_tree_set_level(HBitmap *hb, unsigned level)
{
    for (; hb->level < level; hb->level++) {
        if (hb->root) {
            Node *node = node_new(hb);

            node_put_child(node, 0, hb->root);
            hb->root = node;
        }
    }
    for (; hb->level > level; hb->level--) {
        if (hb->root) {
            Node *node = hb->root;

            assert(tree_is_mixed(node) && !(node->any & ~1ULL));
            hb->root = node->child[0];
            node_free(hb, node);
        }
    }
}

/* SPDX-License-Identifier: MIT */
/* interval_tree.h: a set of intervals in which overlaps are found fast: requests in
 * flight, ranges locked.
 *
 * The caller embeds an IntervalNode in its own structure and keeps it alive while it is
 * in the tree. Intervals may overlap and be equal; they are kept in order of their
 * start, equal ones in the order of their insertion, so that a walk is reproducible.
 *
 * Use:       node.start = offset; node.end = offset + bytes; interval_tree_insert(&t, &node);
 *            for (n = interval_tree_first_overlap(&t, start, end); n;
 *                 n = interval_tree_next_overlap(n, start, end)) ...
 * Units:     bytes; [start, end), not empty.
 * Cost:      insert, remove and each step of a search O(log n), no allocation.
 * Runs on:   any thread. No lock inside: the caller's. Never suspends.
 * Fails:     never.
 */
#ifndef LIVEBLK_BASE_INTERVAL_TREE_H
#define LIVEBLK_BASE_INTERVAL_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct IntervalNode IntervalNode;

struct IntervalNode {
    int64_t start, end;     /* the caller's, unchanged while in a tree */
    /* The tree's own: */
    IntervalNode *parent, *child[2];
    int64_t max_end;        /* largest end at or below this node */
    int height;             /* of this subtree; 0: in no tree */
};

/* All zero: an empty tree. */
typedef struct IntervalTree {
    IntervalNode *root;
    size_t count;
} IntervalTree;

static inline bool interval_tree_empty(const IntervalTree *tree)
{
    return !tree->root;
}

/* @node->height must be 0, as it is in zeroed memory and after a removal. */
void interval_tree_insert(IntervalTree *tree, IntervalNode *node);
void interval_tree_remove(IntervalTree *tree, IntervalNode *node);

static inline bool interval_node_is_inserted(const IntervalNode *node)
{
    return node->height != 0;
}

/* In order; NULL: no more. */
IntervalNode *interval_tree_first(const IntervalTree *tree);
IntervalNode *interval_tree_next(const IntervalNode *node);

/* The first interval, in order, that has a byte in common with [@start, @end). */
IntervalNode *interval_tree_first_overlap(const IntervalTree *tree, int64_t start, int64_t end);
/* The first such one behind @node. */
IntervalNode *interval_tree_next_overlap(const IntervalNode *node, int64_t start, int64_t end);

#endif

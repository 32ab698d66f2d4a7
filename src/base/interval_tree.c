/* SPDX-License-Identifier: MIT */
/* interval_tree.c: see interval_tree.h. An AVL tree by start, in which each node also
 * knows the largest end below it: a subtree whose largest end lies before a range has
 * nothing in common with it, and need not be entered. */
#include "base/osdep.h"
#include "base/interval_tree.h"

enum { LEFT, RIGHT };

static int height(const IntervalNode *node)
{
    return node ? node->height : 0;
}

/* Height and largest end from the children; returns whether anything changed. */
static bool node_update(IntervalNode *node)
{
    const IntervalNode *left = node->child[LEFT], *right = node->child[RIGHT];
    int new_height = 1 + MAX(height(left), height(right));
    int64_t max_end = node->end;

    if (left) {
        max_end = MAX(max_end, left->max_end);
    }
    if (right) {
        max_end = MAX(max_end, right->max_end);
    }
    if (node->height == new_height && node->max_end == max_end) {
        return false;
    }
    node->height = new_height;
    node->max_end = max_end;
    return true;
}

/* Have what points down to @old point to @new. */
static void replace_child(IntervalTree *tree, IntervalNode *parent,
                          IntervalNode *old, IntervalNode *new)
{
    if (!parent) {
        tree->root = new;
    } else {
        parent->child[parent->child[RIGHT] == old] = new;
    }
    if (new) {
        new->parent = parent;
    }
}

/* Lift the child on @side of @node into its place; returns it. */
static IntervalNode *rotate(IntervalTree *tree, IntervalNode *node, int side)
{
    IntervalNode *up = node->child[side], *inner = up->child[!side];

    replace_child(tree, node->parent, node, up);
    up->child[!side] = node;
    node->parent = up;
    node->child[side] = inner;
    if (inner) {
        inner->parent = node;
    }
    node_update(node);
    node_update(up);
    return up;
}

/* Restore balance, heights and ends from @node up to where nothing changes. */
static void rebalance(IntervalTree *tree, IntervalNode *node)
{
    while (node) {
        bool changed = node_update(node);
        int lean = height(node->child[RIGHT]) - height(node->child[LEFT]);

        if (lean < -1 || lean > 1) {
            int side = lean > 0 ? RIGHT : LEFT;
            IntervalNode *child = node->child[side];

            if (height(child->child[!side]) > height(child->child[side])) {
                rotate(tree, child, !side);
            }
            node = rotate(tree, node, side);
        } else if (!changed) {
            return;
        }
        node = node->parent;
    }
}

void interval_tree_insert(IntervalTree *tree, IntervalNode *node)
{
    IntervalNode **link = &tree->root, *parent = NULL;

    assert(node->start < node->end && !interval_node_is_inserted(node));
    while (*link) {
        parent = *link;
        link = &parent->child[node->start >= parent->start];
    }
    *link = node;
    node->parent = parent;
    node->child[LEFT] = node->child[RIGHT] = NULL;
    node->height = 1;
    node->max_end = node->end;
    tree->count++;
    rebalance(tree, parent);
}

void interval_tree_remove(IntervalTree *tree, IntervalNode *node)
{
    IntervalNode *lowest;       /* where the tree has become lower */

    assert(interval_node_is_inserted(node) && tree->count > 0);
    if (node->child[LEFT] && node->child[RIGHT]) {
        /* The next in order takes the place; it has no left child. */
        IntervalNode *next = interval_tree_next(node);

        lowest = next->parent == node ? next : next->parent;
        replace_child(tree, next->parent, next, next->child[RIGHT]);
        next->child[LEFT] = node->child[LEFT];
        next->child[LEFT]->parent = next;
        next->child[RIGHT] = node->child[RIGHT];
        if (next->child[RIGHT]) {
            next->child[RIGHT]->parent = next;
        }
        replace_child(tree, node->parent, node, next);
        /* As the node was: rebalance() goes on while it sees a difference. */
        next->height = node->height;
        next->max_end = node->max_end;
        if (lowest != next) {
            rebalance(tree, lowest);
            lowest = next;
        }
    } else {
        lowest = node->parent;
        replace_child(tree, node->parent, node, node->child[!node->child[LEFT]]);
    }
    node->height = 0;
    tree->count--;
    rebalance(tree, lowest);
}

/* ---- walking ---- */

IntervalNode *interval_tree_first(const IntervalTree *tree)
{
    IntervalNode *node = tree->root;

    while (node && node->child[LEFT]) {
        node = node->child[LEFT];
    }
    return node;
}

/* The nearest ancestor that comes after the subtree of @node in order. */
static IntervalNode *next_ancestor(const IntervalNode *node)
{
    IntervalNode *parent = node->parent;

    while (parent && parent->child[RIGHT] == node) {
        node = parent;
        parent = node->parent;
    }
    return parent;
}

IntervalNode *interval_tree_next(const IntervalNode *node)
{
    IntervalNode *next = node->child[RIGHT];

    if (!next) {
        return next_ancestor(node);
    }
    while (next->child[LEFT]) {
        next = next->child[LEFT];
    }
    return next;
}

/* The first overlap in the subtree of @node, which may be NULL. */
static IntervalNode *subtree_first_overlap(IntervalNode *node, int64_t start, int64_t end)
{
    while (node && node->max_end > start) {
        /* If an interval on the left reaches behind @start, then either it overlaps, or it
         * begins at @end or later, and with it everything to the right. */
        if (node->child[LEFT] && node->child[LEFT]->max_end > start) {
            node = node->child[LEFT];
        } else if (node->start >= end) {
            return NULL;
        } else if (node->end > start) {
            return node;
        } else {
            node = node->child[RIGHT];
        }
    }
    return NULL;
}

IntervalNode *interval_tree_first_overlap(const IntervalTree *tree, int64_t start, int64_t end)
{
    assert(start < end);
    return subtree_first_overlap(tree->root, start, end);
}

IntervalNode *interval_tree_next_overlap(const IntervalNode *node, int64_t start, int64_t end)
{
    while (node) {
        IntervalNode *found = subtree_first_overlap(node->child[RIGHT], start, end);

        if (found) {
            return found;
        }
        node = next_ancestor(node);
        if (!node || node->start >= end) {
            return NULL;
        }
        if (node->end > start) {
            return (IntervalNode *)node;
        }
    }
    return NULL;
}

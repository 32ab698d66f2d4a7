/* SPDX-License-Identifier: MIT */
/* base_interval_tree: random insertions and removals against a plain array, with the
 * tree's own invariants checked on the way. */
#include "base/osdep.h"
#include "base/interval_tree.h"
#include "base/prng.h"

#define N 200

typedef struct Item {
    IntervalNode node;
    uint64_t inserted_at;   /* order among equals; 0: not in */
} Item;

/* Checks links, balance and largest ends; returns the number of nodes. */
static size_t check_subtree(const IntervalNode *node, const IntervalNode *parent)
{
    if (!node) {
        return 0;
    }
    const IntervalNode *left = node->child[0], *right = node->child[1];
    size_t n = 1 + check_subtree(left, node) + check_subtree(right, node);
    int lh = left ? left->height : 0, rh = right ? right->height : 0;
    int64_t max_end = node->end;

    max_end = left ? MAX(max_end, left->max_end) : max_end;
    max_end = right ? MAX(max_end, right->max_end) : max_end;
    g_assert_true(node->parent == parent);
    g_assert_cmpint(node->height, ==, 1 + MAX(lh, rh));
    g_assert_cmpint(ABS(lh - rh), <=, 1);
    g_assert_cmpint(node->max_end, ==, max_end);
    return n;
}

static int compare_items(const void *a, const void *b)
{
    const Item *x = *(Item **)a, *y = *(Item **)b;

    if (x->node.start != y->node.start) {
        return x->node.start < y->node.start ? -1 : 1;
    }
    return x->inserted_at < y->inserted_at ? -1 : 1;
}

static void check_order(IntervalTree *tree, Item *items)
{
    Item *sorted[N];
    IntervalNode *node = interval_tree_first(tree);
    size_t n = 0;

    for (int i = 0; i < N; i++) {
        g_assert_true(interval_node_is_inserted(&items[i].node) == (items[i].inserted_at != 0));
        if (items[i].inserted_at) {
            sorted[n++] = &items[i];
        }
    }
    g_assert_cmpuint(tree->count, ==, n);
    g_assert_cmpuint(check_subtree(tree->root, NULL), ==, n);
    qsort(sorted, n, sizeof(*sorted), compare_items);
    for (size_t i = 0; i < n; i++, node = interval_tree_next(node)) {
        g_assert_true(node == &sorted[i]->node);
    }
    g_assert_null(node);
}

/* All overlaps of a range, each once and in order. */
static void check_overlaps(IntervalTree *tree, int64_t start, int64_t end)
{
    IntervalNode *found = interval_tree_first_overlap(tree, start, end);

    for (IntervalNode *node = interval_tree_first(tree); node; node = interval_tree_next(node)) {
        if (node->start < end && start < node->end) {
            g_assert_true(found == node);
            found = interval_tree_next_overlap(found, start, end);
        }
    }
    g_assert_null(found);
}

static void test_model(void)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        Prng prng = { seed };
        Item items[N] = { 0 };
        IntervalTree tree = { 0 };
        int64_t space = 1 + (seed % 4) * 1000, longest = seed % 3 ? 20 : space;

        for (uint64_t step = 1; step <= 2000; step++) {
            Item *item = &items[prng_below(&prng, N)];
            int64_t start = prng_below(&prng, space);

            if (item->inserted_at) {
                interval_tree_remove(&tree, &item->node);
                item->inserted_at = 0;
            } else {
                item->node.start = start;
                item->node.end = start + 1 + prng_below(&prng, longest);
                interval_tree_insert(&tree, &item->node);
                item->inserted_at = step;
            }
            check_overlaps(&tree, start, start + 1 + prng_below(&prng, longest));
            if (step % 16 == 0) {
                check_order(&tree, items);
            }
        }
        for (int i = 0; i < N; i++) {
            if (items[i].inserted_at) {
                interval_tree_remove(&tree, &items[i].node);
                items[i].inserted_at = 0;
                check_order(&tree, items);
            }
        }
        g_assert_true(interval_tree_empty(&tree));
    }
}

static void test_neighbours_do_not_overlap(void)
{
    IntervalTree tree = { 0 };
    IntervalNode node = { .start = 10, .end = 20 };

    interval_tree_insert(&tree, &node);
    g_assert_null(interval_tree_first_overlap(&tree, 0, 10));
    g_assert_null(interval_tree_first_overlap(&tree, 20, 30));
    g_assert_true(interval_tree_first_overlap(&tree, 19, 20) == &node);
    g_assert_true(interval_tree_first_overlap(&tree, 0, 11) == &node);
    g_assert_true(interval_tree_first_overlap(&tree, INT64_MIN, INT64_MAX) == &node);
    interval_tree_remove(&tree, &node);
    g_assert_false(interval_node_is_inserted(&node));
}

/* Ascending, as a sequential writer makes them: the tree stays flat. */
static void test_ascending_stays_flat(void)
{
    enum { COUNT = 1 << 15 };
    IntervalNode *nodes = g_new0(IntervalNode, COUNT);
    IntervalTree tree = { 0 };

    for (int i = 0; i < COUNT; i++) {
        nodes[i].start = i * 4096LL;
        nodes[i].end = nodes[i].start + 4096;
        interval_tree_insert(&tree, &nodes[i]);
    }
    g_assert_cmpint(tree.root->height, <=, 16);
    g_assert_true(interval_tree_first_overlap(&tree, 777 * 4096LL + 1, 777 * 4096LL + 2) == &nodes[777]);
    for (int i = 0; i < COUNT - 1; i++) {
        interval_tree_remove(&tree, &nodes[i]);
    }
    g_assert_true(tree.root == &nodes[COUNT - 1]);
    g_assert_cmpint(tree.root->height, ==, 1);
    g_free(nodes);
}

static void test_empty_interval_aborts(void)
{
    if (g_test_subprocess()) {
        IntervalTree tree = { 0 };
        IntervalNode node = { .start = 5, .end = 5 };

        interval_tree_insert(&tree, &node);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/interval-tree/model", test_model);
    g_test_add_func("/interval-tree/neighbours-do-not-overlap", test_neighbours_do_not_overlap);
    g_test_add_func("/interval-tree/ascending-stays-flat", test_ascending_stays_flat);
    g_test_add_func("/interval-tree/empty-interval-aborts", test_empty_interval_aborts);
    return g_test_run();
}

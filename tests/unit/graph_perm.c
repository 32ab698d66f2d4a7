/* SPDX-License-Identifier: MIT */
/* Permissions: what children are asked for, which users go together, the words of a
 * refusal, and that a refused change leaves everything as it was. */
#include "graph_fake.h"
#include "graph/transaction.h"

enum { CR = BLK_PERM_CONSISTENT_READ, W = BLK_PERM_WRITE, WU = BLK_PERM_WRITE_UNCHANGED, RS = BLK_PERM_RESIZE };

static void expect_edge(BdrvChild *c, uint64_t perm, uint64_t shared)
{
    g_assert_cmpuint(c->perm, ==, perm);
    g_assert_cmpuint(c->shared_perm, ==, shared);
}

/* The rows were seen in x-debug-query-block-graph of the peer. */
static void test_defaults(void)
{
    static const struct {
        const BlockDriver *drv;
        int flags;
        BdrvChildRole role;
        uint64_t user_perm, user_shared, perm, shared;
    } rows[] = {
        { &fake_filter, BDRV_O_RDWR, BDRV_CHILD_FILTERED, 0, BLK_PERM_ALL, 0, BLK_PERM_ALL },
        { &fake_filter, BDRV_O_RDWR, BDRV_CHILD_FILTERED, CR | W, CR | W | WU, CR | W, CR | W | WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_DATA | BDRV_CHILD_METADATA, 0, BLK_PERM_ALL, CR | W | RS, CR | WU },
        { &fake_format, 0, BDRV_CHILD_DATA | BDRV_CHILD_METADATA, 0, BLK_PERM_ALL, CR, CR | WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_DATA | BDRV_CHILD_METADATA, W, WU, CR | W | RS, WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_METADATA, CR, CR | W | WU, CR | W | RS, CR | WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_DATA, 0, BLK_PERM_ALL, 0, CR | W | WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_DATA, CR, CR | W | WU, CR, CR | W | WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_DATA, CR | W, CR | W | WU, CR | W | RS, CR | W | WU },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_COW, 0, BLK_PERM_ALL, 0, BLK_PERM_ALL },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_COW, CR | W, CR | W | WU, CR, BLK_PERM_ALL },
        { &fake_format, BDRV_O_RDWR, BDRV_CHILD_COW, CR, CR | WU, CR, CR | WU },
        { &fake_format, BDRV_O_FORCE_SHARE, BDRV_CHILD_DATA | BDRV_CHILD_METADATA, 0, BLK_PERM_ALL, CR, BLK_PERM_ALL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        BlockDriverState *top = fake_node(rows[i].drv, "top", rows[i].flags);
        BlockDriverState *file = fake_node(&fake_protocol, "file", BDRV_O_RDWR);
        BdrvChild *c = fake_attach(top, file, "child", rows[i].role, &error_abort);
        FakeState *s = file->opaque;
        FakeParent p = { "p" };

        fake_root(&p, top, rows[i].user_perm, rows[i].user_shared, &error_abort);
        expect_edge(c, rows[i].perm, rows[i].shared);
        g_assert_cmpuint(s->perm, ==, rows[i].perm);
        g_assert_cmpuint(s->shared, ==, rows[i].perm || rows[i].shared != BLK_PERM_ALL ? rows[i].shared : s->shared);
        g_assert_cmpint(s->checks, ==, 0);
        fake_unroot(&p);
        bdrv_unref(top);
        bdrv_unref(file);
    }
    fake_expect_no_nodes();
}

/* Every pair of users: both fit exactly if each one's needs lie within the other's shares. */
static void test_pairs(void)
{
    for (unsigned i = 0; i < 0x10000; i += 7) {
        uint64_t ap = i & 15, as = i >> 4 & 15, bp = i >> 8 & 15, bs_ = i >> 12 & 15;
        bool fits = !(ap & ~bs_) && !(bp & ~as);
        BlockDriverState *bs = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
        FakeParent a = { "a" }, b = { "b" };
        uint64_t perm, shared;
        Error *err = NULL;

        g_assert_true(fake_root(&a, bs, ap, as, &error_abort));
        g_assert_true(fake_root(&b, bs, bp, bs_, &err) == fits);
        g_assert_true(!err == fits);
        error_free(err);
        bdrv_get_cumulative_perm(bs, &perm, &shared);
        g_assert_cmpuint(perm, ==, fits ? ap | bp : ap);
        g_assert_cmpuint(shared, ==, fits ? as & bs_ : as);
        fake_unroot(&a);
        if (b.root) {
            fake_unroot(&b);
        }
        bdrv_unref(bs);
    }
    fake_expect_no_nodes();
}

static void test_texts(void)
{
    BlockDriverState *n = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
    BlockDriverState *ro = fake_node(&fake_protocol, "ro", 0);
    BlockDriverState *q = fake_node(&fake_format, "q", BDRV_O_RDWR);
    BlockDriverState *r = fake_node(&fake_format, "r", BDRV_O_RDWR);
    FakeParent p = { "p" };
    Error *err = NULL;

    fake_attach(q, n, "file", role_image, &error_abort);
    g_assert_null(fake_attach(r, n, "file", role_image, &err));
    fake_expect_error(&err, "Permission conflict on node 'n': permissions 'write, resize' are both required by "
                      "node 'q' (uses node 'n' as 'file' child) and unshared by node 'r' (uses node 'n' as 'file' child).");
    g_assert_false(fake_root(&p, n, CR | W, BLK_PERM_ALL, &err));
    fake_expect_error(&err, "Permission conflict on node 'n': permissions 'write' are both required by "
                      "user 'p' (uses node 'n' as 'root' child) and unshared by node 'q' (uses node 'n' as 'file' child).");
    g_assert_false(fake_root(&p, n, CR, WU, &err));
    fake_expect_error(&err, "Permission conflict on node 'n': permissions 'consistent read, write, resize' are both "
                      "required by node 'q' (uses node 'n' as 'file' child) and unshared by user 'p' (uses node 'n' as 'root' child).");
    g_assert_false(fake_root(&p, ro, W, BLK_PERM_ALL, &err));
    fake_expect_error(&err, "Block node is read-only");
    g_assert_null(fake_attach(r, ro, "file", role_image, &err));
    fake_expect_error(&err, "Block node is read-only");
    g_assert_true(LIST_EMPTY(&r->children) && !r->file);
    bdrv_unref(q);
    bdrv_unref(r);
    bdrv_unref(n);
    bdrv_unref(ro);
    fake_expect_no_nodes();
}

/* A refusal far below: nothing above has changed, no check is left hanging. */
static void test_refusal_below(void)
{
    BlockDriverState *n[4];
    BdrvChild *c[4] = { NULL };
    FakeParent p = { "p" };
    Error *err = NULL;

    for (int i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("n%d", i);

        n[i] = fake_node(i ? &fake_filter : &fake_protocol, name, BDRV_O_RDWR);
        if (i) {
            c[i] = fake_attach(n[i], n[i - 1], "file", role_filtered, &error_abort);
        }
    }
    for (int at = 0; at < 4; at++) {
        g_autofree char *text = g_strdup_printf("node 'n%d' refuses", at);

        fake_refuses = n[at];
        g_assert_false(fake_root(&p, n[3], CR | W, CR, &err));
        fake_expect_error(&err, text);
        for (int i = 0; i < 4; i++) {
            g_assert_cmpint(((FakeState *)n[i]->opaque)->checks, ==, 0);
            g_assert_cmpint(n[i]->quiesce_counter, ==, 0);
            if (i) {
                expect_edge(c[i], 0, BLK_PERM_ALL);
            }
        }
    }
    fake_refuses = NULL;
    fake_root(&p, n[3], CR | W, CR, &error_abort);
    expect_edge(c[1], CR | W, CR);
    /* Asking for more can be refused; asking for less cannot. */
    fake_refuses = n[0];
    g_assert_cmpint(bdrv_child_try_set_perm(p.root, CR | W | RS, CR, &err), ==, -EBUSY);
    fake_expect_error(&err, "node 'n0' refuses");
    expect_edge(p.root, CR | W, CR);
    expect_edge(c[1], CR | W, CR);
    g_assert_cmpint(bdrv_child_try_set_perm(p.root, CR, BLK_PERM_ALL, &error_abort), ==, 0);
    fake_refuses = NULL;
    g_assert_cmpint(bdrv_child_try_set_perm(p.root, CR, BLK_PERM_ALL, &error_abort), ==, 0);
    expect_edge(c[1], CR, BLK_PERM_ALL);
    fake_unroot(&p);
    expect_edge(c[1], 0, BLK_PERM_ALL);
    for (int i = 3; i >= 0; i--) {
        bdrv_unref(n[i]);
    }
    fake_expect_no_nodes();
}

/* One node reached by two ways gets the sum of both, once. */
static void test_diamond(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR);
    BlockDriverState *l = fake_node(&fake_filter, "l", BDRV_O_RDWR), *r = fake_node(&fake_filter, "r", BDRV_O_RDWR);
    BlockDriverState *top = fake_node(&fake_format, "top", BDRV_O_RDWR);
    FakeState *s = base->opaque;
    FakeParent p = { "p" };

    fake_attach(l, base, "file", role_filtered, &error_abort);
    fake_attach(r, base, "file", role_filtered, &error_abort);
    fake_attach(top, l, "data", BDRV_CHILD_DATA, &error_abort);
    fake_attach(top, r, "backing", BDRV_CHILD_COW, &error_abort);
    fake_root(&p, top, CR | W, BLK_PERM_ALL, &error_abort);
    g_assert_cmpuint(s->perm, ==, CR | W | RS);
    g_assert_cmpuint(s->shared, ==, CR | W | WU);
    g_assert_cmpint(s->checks, ==, 0);
    fake_unroot(&p);
    g_assert_cmpuint(s->perm, ==, 0);
    bdrv_unref(top);
    bdrv_unref(l);
    bdrv_unref(r);
    bdrv_unref(base);
    fake_expect_no_nodes();
}

static void test_names(void)
{
    g_autofree char *all = bdrv_perm_names(BLK_PERM_ALL), *none = bdrv_perm_names(0);

    g_assert_cmpstr(all, ==, "consistent read, write, write unchanged, resize");
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpstr(bdrv_perm_name(CR), ==, "consistent-read");
    g_assert_cmpstr(bdrv_perm_name(WU), ==, "write-unchanged");
}

static GString *steps;
static void step_abort(void *o) { g_string_append_printf(steps, "a%s", (char *)o); }
static void step_commit(void *o) { g_string_append_printf(steps, "c%s", (char *)o); }
static void step_clean(void *o) { g_string_append_printf(steps, "x%s", (char *)o); }

static void test_transaction(void)
{
    static const TransactionActionDrv all = { step_abort, step_commit, step_clean }, only_abort = { .abort = step_abort };

    for (int ret = -1; ret <= 0; ret++) {
        Transaction *tran = tran_new();

        steps = g_string_new("");
        tran_add(tran, &all, (void *)"1");
        tran_add(tran, &only_abort, (void *)"2");
        tran_add(tran, &all, (void *)"3");
        tran_finalize(tran, ret);
        g_assert_cmpstr(steps->str, ==, ret ? "a3a2a1x3x1" : "c3c1x3x1");
        g_string_free(steps, TRUE);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/graph/transaction/order", test_transaction);
    g_test_add_func("/graph/perm/names", test_names);
    g_test_add_func("/graph/perm/defaults", test_defaults);
    g_test_add_func("/graph/perm/pairs", test_pairs);
    g_test_add_func("/graph/perm/texts", test_texts);
    g_test_add_func("/graph/perm/refusal-below", test_refusal_below);
    g_test_add_func("/graph/perm/diamond", test_diamond);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

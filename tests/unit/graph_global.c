/* SPDX-License-Identifier: MIT */
/* graph_global.c: functions of the global-state API that the other graph tests do not reach: parents
 * that are no nodes, derived permissions, what may replace what, nodes the control interface
 * holds, closing within a drain of all, and nodes that are put between others.
 */
#include "graph_fake.h"

/* ---- parents ---- */

static void test_root_child(void)
{
    BlockDriverState *bs = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
    FakeParent p = { "p" }, q = { "q" };
    uint64_t perm, shared;
    Error *err = NULL;

    g_assert_true(fake_root(&p, bs, BLK_PERM_WRITE, BLK_PERM_CONSISTENT_READ, &error_abort));
    g_assert_true(p.root->bs == bs && bs->refcnt == 2 && !strcmp(p.root->name, "root"));
    bdrv_get_cumulative_perm(bs, &perm, &shared);
    g_assert_true(perm == BLK_PERM_WRITE && shared == BLK_PERM_CONSISTENT_READ);
    /* Refused: the reference that was handed over is gone all the same. */
    bdrv_ref(bs);
    g_assert_null(bdrv_root_attach_child(bs, "other", &fake_parent_class, 0, BLK_PERM_WRITE, BLK_PERM_ALL, &q, &err));
    fake_expect_error(&err, "Permission conflict on node 'n': permissions 'write' are both required by user 'q' "
                      "(uses node 'n' as 'other' child) and unshared by user 'p' (uses node 'n' as 'root' child).");
    g_assert_true(bs->refcnt == 2 && q.quiet == 0);
    g_assert_cmpint(bdrv_child_try_set_perm(p.root, 0, BLK_PERM_ALL, &error_abort), ==, 0);
    g_assert_true(fake_root(&q, bs, BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort));
    bdrv_root_unref_child(q.root);
    bdrv_root_unref_child(p.root);
    g_assert_true(bs->refcnt == 1 && LIST_EMPTY(&bs->parents));
    bdrv_unref(bs);
    fake_expect_no_nodes();
}

/* ---- permissions ---- */

static void check_perms(BlockDriverState *bs, BdrvChildRole role, uint64_t perm, uint64_t shared,
                        uint64_t want_perm, uint64_t want_shared)
{
    uint64_t nperm, nshared;

    bdrv_default_perms(bs, NULL, role, NULL, perm, shared, &nperm, &nshared);
    g_assert_cmphex(nperm, ==, want_perm);
    g_assert_cmphex(nshared, ==, want_shared);
}

static void test_default_perms(void)
{
    enum { R = BLK_PERM_CONSISTENT_READ, W = BLK_PERM_WRITE, U = BLK_PERM_WRITE_UNCHANGED, S = BLK_PERM_RESIZE, ALL = BLK_PERM_ALL };
    BlockDriverState *rw = fake_node(&fake_format, "rw", BDRV_O_RDWR), *ro = fake_node(&fake_format, "ro", 0);

    /* Filters pass through. */
    check_perms(rw, role_filtered, R | W, R | U, R | W, R | U);
    check_perms(rw, role_filtered, 0, ALL, 0, ALL);
    /* Backing files are read, and may be written to only where contents may change. */
    check_perms(rw, BDRV_CHILD_COW, R | W | S, R | U, R, R | U);
    check_perms(rw, BDRV_CHILD_COW, W, ALL, 0, ALL);
    /* Data: growing may be needed; the length must stay ours. */
    check_perms(rw, BDRV_CHILD_DATA, R | W, ALL, R | W | S, ALL & ~S);
    check_perms(rw, BDRV_CHILD_DATA, R, R, R, R);
    /* Metadata of a writable format is written whatever the users do, and by nobody else. */
    check_perms(rw, BDRV_CHILD_METADATA, 0, ALL, R | W | S, R | U);
    check_perms(ro, BDRV_CHILD_METADATA, 0, ALL, R, R | U);
    check_perms(rw, role_image, W, ALL, R | W | S, R | U);
    bdrv_unref(rw);
    bdrv_unref(ro);
    fake_expect_no_nodes();
}

static uint64_t wish;       /* what the driver below asks of its child */

static void wishing_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                               uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = wish;
    *nshared = BLK_PERM_ALL;
}

static const BlockDriver wishing = {
    .format_name = "wishing", .kind = BLOCK_DRIVER_FORMAT, .schema_driver = BLOCKDEV_DRIVER__MAX,
    .child_perm = wishing_child_perm, .co_getlength = fake_co_getlength,
};

static void test_refresh_perms(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR), *top = fake_node(&wishing, "top", BDRV_O_RDWR);
    BdrvChild *c;
    FakeParent p = { "p" };
    Error *err = NULL;

    wish = BLK_PERM_CONSISTENT_READ;
    c = fake_attach(top, base, "file", BDRV_CHILD_DATA, &error_abort);
    g_assert_cmphex(c->perm, ==, BLK_PERM_CONSISTENT_READ);
    wish = BLK_PERM_WRITE;
    g_assert_cmpint(bdrv_child_refresh_perms(top, c, &error_abort), ==, 0);
    g_assert_cmphex(c->perm, ==, BLK_PERM_WRITE);
    g_assert_cmphex(((FakeState *)base->opaque)->perm, ==, BLK_PERM_WRITE);
    fake_root(&p, base, 0, BLK_PERM_WRITE, &error_abort);
    wish = BLK_PERM_WRITE | BLK_PERM_RESIZE;
    g_assert_cmpint(bdrv_child_refresh_perms(top, c, &err), ==, -EPERM);
    g_assert_nonnull(err);
    error_free(err);
    g_assert_cmphex(c->perm, ==, BLK_PERM_WRITE);       /* nothing has changed */
    g_assert_cmpint(((FakeState *)base->opaque)->checks, ==, 0);
    fake_unroot(&p);
    bdrv_unref(top);
    bdrv_unref(base);
    fake_expect_no_nodes();
}

/* ---- through filters ---- */

static bool never_replace(BlockDriverState *bs, BlockDriverState *to_replace)
{
    return false;
}

static const BlockDriver stubborn = {
    .format_name = "stubborn", .kind = BLOCK_DRIVER_FILTER, .schema_driver = BLOCKDEV_DRIVER__MAX,
    .recurse_can_replace = never_replace, .co_getlength = fake_co_getlength,
};

static void test_filters(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR), *fmt = fake_node(&fake_format, "fmt", BDRV_O_RDWR);
    BlockDriverState *named = fake_node(&fake_filter, "named", BDRV_O_RDWR), *hidden = fake_node(&fake_filter, NULL, BDRV_O_RDWR);
    BlockDriverState *no = fake_node(&stubborn, "no", BDRV_O_RDWR);

    fake_attach(fmt, base, "file", role_image, &error_abort);
    fake_attach(named, fmt, "file", role_filtered, &error_abort);
    fake_attach(hidden, named, "file", role_filtered, &error_abort);
    fake_attach(no, hidden, "file", role_filtered, &error_abort);
    g_assert_true(hidden->implicit && !named->implicit);
    g_assert_true(bdrv_skip_implicit_filters(hidden) == named);
    g_assert_true(bdrv_skip_implicit_filters(named) == named);
    g_assert_true(bdrv_skip_implicit_filters(no) == no);
    g_assert_null(bdrv_skip_implicit_filters(NULL));
    g_assert_true(bdrv_skip_filters(no) == fmt);
    /* A filter shows its child's data; a format does not show its file's. */
    g_assert_true(bdrv_recurse_can_replace(hidden, fmt));
    g_assert_true(bdrv_recurse_can_replace(fmt, fmt));
    g_assert_false(bdrv_recurse_can_replace(hidden, base));
    g_assert_false(bdrv_recurse_can_replace(fmt, hidden));
    g_assert_false(bdrv_recurse_can_replace(no, fmt));
    g_assert_true(bdrv_recurse_can_replace(no, no));
    g_assert_false(bdrv_recurse_can_replace(NULL, fmt));
    bdrv_unref(no);
    bdrv_unref(hidden);
    bdrv_unref(named);
    bdrv_unref(fmt);
    bdrv_unref(base);
    fake_expect_no_nodes();
}

/* ---- held by the control interface ---- */

static void test_monitor_owned(void)
{
    BlockDriverState *a = fake_node(&fake_protocol, "a", BDRV_O_RDWR), *b = fake_node(&fake_format, "b", BDRV_O_RDWR);
    int closed = fake_closed;

    g_assert_null(bdrv_next_monitor_owned(NULL));
    fake_attach(b, a, "file", role_image, &error_abort);
    bdrv_set_monitor_owned(a);
    bdrv_set_monitor_owned(b);
    g_assert_true(bdrv_next_monitor_owned(NULL) == a && bdrv_next_monitor_owned(a) == b && !bdrv_next_monitor_owned(b));
    bdrv_release_monitor(a);
    g_assert_true(bdrv_find_node("a") == a);        /* b holds it */
    bdrv_ref(a);
    bdrv_set_monitor_owned(a);
    blockdev_close_all_bdrv_states();
    g_assert_cmpint(fake_closed - closed, ==, 2);
    g_assert_null(bdrv_next_monitor_owned(NULL));
    blockdev_close_all_bdrv_states();               /* nothing left to do */
    fake_expect_no_nodes();
}

static void test_tree_init(void)
{
    QDict *opts = qdict_new();
    BlockDriverState *bs;
    Error *err = NULL;

    qdict_put_str(opts, "driver", "null-co");
    qdict_put_str(opts, "node-name", "tree");
    bs = bds_tree_init(opts, &error_abort);
    g_assert_true(bdrv_find_node("tree") == bs && bs->refcnt == 1 && !bdrv_is_read_only(bs));
    bdrv_unref(bs);
    opts = qdict_new();
    qdict_put_str(opts, "driver", "no-such-driver");
    g_assert_null(bds_tree_init(opts, &err));
    g_assert_nonnull(err);
    error_free(err);
    fake_expect_no_nodes();
}

/* ---- drain ---- */

/* Closing a node within sections that drain all ends its share of them; sections that others
 * opened on it are theirs. */
static void test_end_quiesce(void)
{
    BlockDriverState *bs, *other;

    bdrv_drain_all_begin();
    bdrv_drain_all_begin();
    bs = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
    other = fake_node(&fake_protocol, "o", BDRV_O_RDWR);
    bdrv_drained_begin(bs);
    g_assert_true(bs->quiesce_counter == 3 && other->quiesce_counter == 2);
    bdrv_drain_all_end_quiesce(bs);
    g_assert_true(bs->quiesce_counter == 1 && other->quiesce_counter == 2);
    bdrv_drained_begin(bs);     /* as it was, so that the sections can end */
    bdrv_drained_begin(bs);
    bdrv_drained_end(bs);
    bdrv_unref(other);          /* closes, and calls it */
    bdrv_drain_all_end();
    bdrv_drain_all_end();
    g_assert_cmpint(bs->quiesce_counter, ==, 0);
    bdrv_unref(bs);
    fake_expect_no_nodes();
}

/* A driver hears of a drain when it is open, and not before, though its opening drains the node
 * again and again to attach children. */
static int opening_quiet;

static void opening_drain_begin(BlockDriverState *bs)
{
    g_assert_true(bs->opened);
    opening_quiet++;
}

static void opening_drain_end(BlockDriverState *bs)
{
    g_assert_true(bs->opened);
    opening_quiet--;
}

static int coroutine_fn opening_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    BlockDriverState *child = bdrv_find_node("child");

    bdrv_ref(child);
    return bdrv_attach_child(bs, child, "file", BDRV_CHILD_DATA, errp) ? 0 : -EINVAL;
}

static const BlockDriver opening = {
    .format_name = "opening", .kind = BLOCK_DRIVER_FORMAT, .schema_driver = BLOCKDEV_DRIVER__MAX,
    .co_open = opening_co_open, .drain_begin = opening_drain_begin, .drain_end = opening_drain_end,
    .co_getlength = fake_co_getlength,
};

static void test_drain_opening(void)
{
    BlockDriverState *child = fake_node(&fake_protocol, "child", BDRV_O_RDWR), *bs;

    bs = fake_node(&opening, "n", BDRV_O_RDWR);
    g_assert_cmpint(opening_quiet, ==, 0);
    bdrv_drained_begin(child);
    g_assert_cmpint(opening_quiet, ==, 1);
    bdrv_unref(bs);
    opening_quiet = 0;          /* it was closed while quiet, and is not told of the end */
    bs = fake_node(&opening, "n", BDRV_O_RDWR);
    g_assert_cmpint(opening_quiet, ==, 1);
    bdrv_drained_end(child);
    g_assert_cmpint(opening_quiet, ==, 0);
    bdrv_unref(bs);
    bdrv_unref(child);
    fake_expect_no_nodes();
}

/* ---- between others ---- */

static int64_t coroutine_fn long_co_getlength(BlockDriverState *bs)
{
    return 4 * MiB;
}

static const BlockDriver overlay = {
    .format_name = "overlay", .kind = BLOCK_DRIVER_FORMAT, .schema_driver = BLOCKDEV_DRIVER__MAX,
    .supports_backing = true, .co_getlength = long_co_getlength,
};
static const BlockDriver plain_filter = {
    .format_name = "plainfilter", .kind = BLOCK_DRIVER_FILTER, .schema_driver = BLOCKDEV_DRIVER__MAX,
};

static void coroutine_fn refresh_length_co(void *opaque)
{
    g_assert_cmpint(bdrv_co_refresh_length(opaque), ==, 0);
}

/* A filter takes over the length of what it shows; an overlay keeps its own. */
static void test_append_length(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR);
    BlockDriverState *over = fake_node(&overlay, "over", BDRV_O_RDWR), *filter = fake_node(&plain_filter, "filter", BDRV_O_RDWR);
    FakeParent p = { "p" };

    aio_co_run(refresh_length_co, base);
    aio_co_run(refresh_length_co, over);
    fake_root(&p, base, 0, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(bdrv_append(over, base, &error_abort), ==, 0);
    g_assert_true(p.root->bs == over && over->backing->bs == base);
    g_assert_cmpint(over->total_bytes, ==, 4 * MiB);
    g_assert_cmpint(base->total_bytes, ==, 1 * MiB);
    g_assert_cmpint(bdrv_append(filter, over, &error_abort), ==, 0);
    g_assert_true(p.root->bs == filter);
    g_assert_cmpint(filter->total_bytes, ==, 4 * MiB);
    fake_unroot(&p);
    bdrv_unref(filter);
    bdrv_unref(over);
    bdrv_unref(base);
    fake_expect_no_nodes();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    bdrv_init();
    g_test_add_func("/graph/global/root-child", test_root_child);
    g_test_add_func("/graph/global/default-perms", test_default_perms);
    g_test_add_func("/graph/global/refresh-perms", test_refresh_perms);
    g_test_add_func("/graph/global/filters", test_filters);
    g_test_add_func("/graph/global/monitor-owned", test_monitor_owned);
    g_test_add_func("/graph/global/tree-init", test_tree_init);
    g_test_add_func("/graph/global/end-quiesce", test_end_quiesce);
    g_test_add_func("/graph/global/drain-opening", test_drain_opening);
    g_test_add_func("/graph/global/append-length", test_append_length);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

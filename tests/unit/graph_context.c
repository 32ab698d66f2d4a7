/* SPDX-License-Identifier: MIT */
/* graph_context.c: the home context of nodes: what is connected moves together or not at all, parents
 * may refuse, notifiers hear of it and may go away while they hear. And the guard of all changes of
 * the graph: assert_bdrv_graph_writable(), both halves, each in a process of its own that must trap.
 */
#include "graph_fake.h"
#include <signal.h>
#include "block/block-backend.h"
#include "graph/transaction.h"

/* ---- notifiers ---- */

typedef struct Listener Listener;
struct Listener {
    BlockDriverState *bs;
    int attached, detached;
    AioContext *ctx;
    Listener *removes;          /* when told of the leaving: this one (perhaps itself) is removed */
};

static void heard_attach(AioContext *ctx, void *opaque)
{
    Listener *l = opaque;

    l->attached++;
    l->ctx = ctx;
    g_assert_true(bdrv_get_aio_context(l->bs) == ctx);
}

static void heard_detach(void *opaque);

static void listener_remove(Listener *l)
{
    bdrv_remove_aio_context_notifier(l->bs, heard_attach, heard_detach, l);
}

static void heard_detach(void *opaque)
{
    Listener *l = opaque;

    l->detached++;
    if (l->removes) {
        listener_remove(l->removes);
        l->removes = NULL;
    }
}

static void listener_add(Listener *l, BlockDriverState *bs)
{
    *l = (Listener) { .bs = bs };
    bdrv_add_aio_context_notifier(bs, heard_attach, heard_detach, l);
}

static void test_notifiers(void)
{
    BlockDriverState *bs = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
    IOThread *t = iothread_create("t", NULL, &error_abort);
    AioContext *main_ctx = qemu_get_aio_context(), *ctx = iothread_get_aio_context(t);
    Listener a, b, twice;

    listener_add(&a, bs);
    listener_add(&b, bs);
    listener_add(&twice, bs);
    bdrv_add_aio_context_notifier(bs, heard_attach, heard_detach, &twice);
    g_assert_cmpint(bdrv_try_change_aio_context(bs, ctx, NULL, &error_abort), ==, 0);
    g_assert_true(a.attached == 1 && a.detached == 1 && a.ctx == ctx && b.attached == 1);
    g_assert_true(twice.attached == 2 && twice.detached == 2);
    /* Already there: nobody hears. */
    g_assert_cmpint(bdrv_try_change_aio_context(bs, ctx, NULL, &error_abort), ==, 0);
    g_assert_true(a.attached == 1 && a.detached == 1);
    /* The same three pointers remove one of two equal ones. */
    listener_remove(&twice);
    g_assert_cmpint(bdrv_try_change_aio_context(bs, main_ctx, NULL, &error_abort), ==, 0);
    g_assert_true(a.attached == 2 && a.ctx == main_ctx && twice.attached == 3 && twice.detached == 3);
    listener_remove(&twice);
    listener_remove(&a);
    g_assert_cmpint(bdrv_try_change_aio_context(bs, ctx, NULL, &error_abort), ==, 0);
    g_assert_true(a.attached == 2 && twice.attached == 3 && b.attached == 3);
    listener_remove(&b);
    bdrv_unref(bs);
    iothread_destroy(t, &error_abort);
    fake_expect_no_nodes();
}

/* Whoever is removed while they are called is not called any more; all others are. */
static void test_notifiers_remove(void)
{
    IOThread *t = iothread_create("t", NULL, &error_abort);

    for (int who = 0; who < 3; who++) {
        for (int whom = 0; whom < 3; whom++) {
            BlockDriverState *bs = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
            Listener *l = g_new0(Listener, 3);

            for (int i = 0; i < 3; i++) {
                listener_add(&l[i], bs);
            }
            l[who].removes = &l[whom];
            g_assert_cmpint(bdrv_try_change_aio_context(bs, iothread_get_aio_context(t), NULL, &error_abort), ==, 0);
            for (int i = 0; i < 3; i++) {
                g_assert_cmpint(l[i].attached, ==, i != whom);
                if (i != whom) {
                    g_assert_cmpint(l[i].detached, ==, 1);
                    listener_remove(&l[i]);
                }
            }
            g_free(l);
            bdrv_unref(bs);
        }
    }
    iothread_destroy(t, &error_abort);
    fake_expect_no_nodes();
}

/* ---- moving ---- */

static bool mover_change(BdrvChild *c, AioContext *ctx, GHashTable *visited, Transaction *tran, Error **errp)
{
    FakeParent *p = c->opaque;

    if (!p->may_move) {
        error_setg(errp, "user '%s' stays where it is", p->name);
        return false;
    }
    p->ctx = ctx;
    return true;
}

static const BdrvChildClass mover_class = {
    .get_parent_desc = fake_parent_desc, .drained_begin = fake_parent_begin,
    .drained_poll = fake_parent_poll, .drained_end = fake_parent_end, .change_aio_ctx = mover_change,
};

static void mover_root(FakeParent *p, BlockDriverState *bs)
{
    bdrv_ref(bs);
    p->root = bdrv_root_attach_child(bs, "root", &mover_class, 0, 0, BLK_PERM_ALL, p, &error_abort);
}

/* A node below two others with a parent each: all go, or, if one parent refuses, none. */
static void test_move_together(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR);
    BlockDriverState *a = fake_node(&fake_filter, "a", BDRV_O_RDWR), *b = fake_node(&fake_filter, "b", BDRV_O_RDWR);
    IOThread *t = iothread_create("t", NULL, &error_abort);
    AioContext *main_ctx = qemu_get_aio_context(), *ctx = iothread_get_aio_context(t);
    FakeParent p = { "p", .may_move = true }, q = { "q" }, fixed = { "f" };
    Error *err = NULL;

    fake_attach(a, base, "file", role_filtered, &error_abort);
    fake_attach(b, base, "file", role_filtered, &error_abort);
    mover_root(&p, a);
    mover_root(&q, b);
    g_assert_cmpint(bdrv_try_change_aio_context(base, ctx, NULL, &err), ==, -EPERM);
    fake_expect_error(&err, "user 'q' stays where it is");
    g_assert_true(bdrv_get_aio_context(a) == main_ctx && bdrv_get_aio_context(b) == main_ctx &&
                  bdrv_get_aio_context(base) == main_ctx);
    g_assert_cmpint(((FakeState *)a->opaque)->moves + ((FakeState *)base->opaque)->moves, ==, 0);
    g_assert_true(a->quiesce_counter == 0 && base->quiesce_counter == 0 && p.quiet == 0);
    /* It need not ask the one that asks. */
    g_assert_cmpint(bdrv_try_change_aio_context(a, ctx, q.root, &error_abort), ==, 0);
    g_assert_true(bdrv_get_aio_context(a) == ctx && bdrv_get_aio_context(b) == ctx &&
                  bdrv_get_aio_context(base) == ctx && p.ctx == ctx);
    g_assert_true(((FakeState *)b->opaque)->ctx == ctx && ((FakeState *)base->opaque)->moves == 1);
    /* A parent that has no opinion cannot move. */
    q.may_move = true;
    fake_root(&fixed, base, 0, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(bdrv_try_change_aio_context(b, main_ctx, NULL, &err), ==, -EPERM);
    fake_expect_error(&err, "Changing iothreads is not supported by user 'f'");
    g_assert_true(bdrv_get_aio_context(b) == ctx);
    fake_unroot(&fixed);
    g_assert_cmpint(bdrv_try_change_aio_context(b, main_ctx, NULL, &error_abort), ==, 0);
    g_assert_true(bdrv_get_aio_context(a) == main_ctx && q.ctx == main_ctx);
    fake_unroot(&p);
    fake_unroot(&q);
    bdrv_unref(a);
    bdrv_unref(b);
    bdrv_unref(base);
    iothread_destroy(t, &error_abort);
    fake_expect_no_nodes();
}

/* A BlockBackend moves only if its owner allows. */
static void test_backend_refuses(void)
{
    BlockDriverState *bs = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
    IOThread *t = iothread_create("t", NULL, &error_abort);
    AioContext *ctx = iothread_get_aio_context(t);
    BlockBackend *blk = blk_new_with_bs(bs, 0, BLK_PERM_ALL, &error_abort);
    Error *err = NULL;

    g_assert_cmpint(bdrv_try_change_aio_context(bs, ctx, NULL, &err), ==, -EPERM);
    fake_expect_error(&err, "Cannot change iothread of active block backend");
    g_assert_true(blk_get_aio_context(blk) == qemu_get_aio_context());
    blk_set_allow_aio_context_change(blk, true);
    g_assert_cmpint(bdrv_try_change_aio_context(bs, ctx, NULL, &error_abort), ==, 0);
    g_assert_true(blk_get_aio_context(blk) == ctx);
    g_assert_cmpint(blk_set_aio_context(blk, qemu_get_aio_context(), &error_abort), ==, 0);
    g_assert_true(bdrv_get_aio_context(bs) == qemu_get_aio_context());
    blk_unref(blk);
    bdrv_unref(bs);
    iothread_destroy(t, &error_abort);
    fake_expect_no_nodes();
}

/* ---- the guard ---- */

static BlockDriverState *guarded;

static int call_guard(void *opaque)
{
    assert_bdrv_graph_writable(guarded);
    return 0;
}

static void coroutine_fn guard_in_worker(void *opaque)
{
    thread_pool_submit_co(call_guard, NULL);
}

/* What the child process of the traps does. */
static void trapped(bool drained, bool main_thread)
{
    guarded = fake_node(&fake_protocol, "n", BDRV_O_RDWR);
    if (drained) {
        bdrv_drained_begin(guarded);
    }
    if (main_thread) {
        call_guard(NULL);
    } else {
        aio_co_run(guard_in_worker, NULL);
    }
    exit(0);
}

static void trap(const char *path, const char *message)
{
    g_test_trap_subprocess(path, 30 * G_USEC_PER_SEC, 0);
    if (message) {
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr(message);
    } else {
        g_test_trap_assert_passed();
    }
}

static void sub_both(void)
{
    trapped(true, true);
}

static void sub_not_drained(void)
{
    trapped(false, true);
}

static void sub_not_main(void)
{
    trapped(true, false);
}

static void test_guard(void)
{
    trap("/graph/guard/subprocess/both", NULL);
    trap("/graph/guard/subprocess/not-drained", "*assert_bdrv_graph_writable*quiesce_counter*");
    trap("/graph/guard/subprocess/not-main", "*assert_bdrv_graph_writable*qemu_in_main_thread*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/graph/context/notifiers", test_notifiers);
    g_test_add_func("/graph/context/notifiers-remove", test_notifiers_remove);
    g_test_add_func("/graph/context/together", test_move_together);
    g_test_add_func("/graph/context/backend", test_backend_refuses);
    g_test_add_func("/graph/guard/traps", test_guard);
    g_test_add_func("/graph/guard/subprocess/both", sub_both);
    g_test_add_func("/graph/guard/subprocess/not-drained", sub_not_drained);
    g_test_add_func("/graph/guard/subprocess/not-main", sub_not_main);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

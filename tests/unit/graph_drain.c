/* SPDX-License-Identifier: MIT */
/* Drain: every edge quiets its parent once, whatever the order in which sections, edges and
 * nodes come and go. The random test checks, after each of many edits, the counters of
 * every node against a model that knows only which sections are open and what is joined. */
#include "graph_fake.h"
#include "base/prng.h"

/* ---- by hand ---- */

static void test_nesting(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR), *mid = fake_node(&fake_filter, "mid", BDRV_O_RDWR);
    BlockDriverState *other = fake_node(&fake_protocol, "other", BDRV_O_RDWR);
    FakeParent p = { "p" };

    fake_attach(mid, base, "file", role_filtered, &error_abort);
    fake_root(&p, mid, 0, BLK_PERM_ALL, &error_abort);
    bdrv_drained_begin(base);
    g_assert_cmpint(p.quiet, ==, 1);
    g_assert_cmpint(mid->quiesce_counter, ==, 1);
    bdrv_drained_begin(base);
    bdrv_drained_begin(mid);
    g_assert_cmpint(p.quiet, ==, 1);
    g_assert_cmpint(mid->quiesce_counter, ==, 2);
    g_assert_cmpint(base->quiesce_counter, ==, 2);
    g_assert_cmpint(((FakeState *)mid->opaque)->quiet, ==, 1);
    bdrv_drained_end(base);
    bdrv_drained_end(base);
    g_assert_cmpint(p.quiet, ==, 1);
    g_assert_cmpint(mid->quiesce_counter, ==, 1);
    bdrv_drained_end(mid);
    g_assert_cmpint(p.quiet, ==, 0);
    /* Draining goes upward only. */
    bdrv_drained_begin(mid);
    g_assert_cmpint(base->quiesce_counter, ==, 0);
    bdrv_drained_end(mid);
    g_assert_cmpint(other->quiesce_counter, ==, 0);
    fake_unroot(&p);
    bdrv_unref(mid);
    bdrv_unref(base);
    bdrv_unref(other);
    fake_expect_no_nodes();
}

/* An edge that comes to a drained node takes the quiet over; one that leaves gives it back;
 * one that moves between drained nodes does not notice. */
static void test_edges(void)
{
    BlockDriverState *a = fake_node(&fake_protocol, "a", BDRV_O_RDWR), *b = fake_node(&fake_protocol, "b", BDRV_O_RDWR);
    BlockDriverState *f = fake_node(&fake_filter, "f", BDRV_O_RDWR);
    FakeParent p = { "p" };

    fake_root(&p, f, 0, BLK_PERM_ALL, &error_abort);
    bdrv_drained_begin(a);
    BdrvChild *c = fake_attach(f, a, "file", role_filtered, &error_abort);
    g_assert_true(c->quiesced_parent && f->quiesce_counter == 1 && p.quiet == 1);
    g_assert_cmpint(bdrv_replace_child_bs(c, b, &error_abort), ==, 0);
    g_assert_true(!c->quiesced_parent && f->quiesce_counter == 0 && p.quiet == 0);
    bdrv_drained_begin(b);
    g_assert_cmpint(p.quiet, ==, 1);
    g_assert_cmpint(bdrv_replace_child_bs(c, a, &error_abort), ==, 0);
    g_assert_true(c->quiesced_parent && f->quiesce_counter == 1 && p.quiet == 1);
    bdrv_unref_child(f, c);
    g_assert_true(f->quiesce_counter == 0 && p.quiet == 0);
    bdrv_drained_end(a);
    bdrv_drained_end(b);
    g_assert_true(a->quiesce_counter == 0 && b->quiesce_counter == 0);
    fake_unroot(&p);
    bdrv_unref(f);
    bdrv_unref(a);
    bdrv_unref(b);
    fake_expect_no_nodes();
}

/* Nodes made, joined and closed within a drain_all section. */
static void test_all(void)
{
    BlockDriverState *a = fake_node(&fake_protocol, "a", BDRV_O_RDWR), *b, *c, *d;
    FakeParent p = { "p" };
    int closed = fake_closed;

    fake_root(&p, a, 0, BLK_PERM_ALL, &error_abort);
    bdrv_drain_all_begin();
    bdrv_drain_all_begin();
    b = fake_node(&fake_protocol, "b", BDRV_O_RDWR);
    c = fake_node(&fake_filter, "c", BDRV_O_RDWR);
    d = fake_node(&fake_protocol, "d", BDRV_O_RDWR);
    g_assert_true(b->quiesce_counter == 2 && ((FakeState *)b->opaque)->quiet == 1);
    fake_attach(c, b, "file", role_filtered, &error_abort);
    g_assert_cmpint(c->quiesce_counter, ==, 3);
    bdrv_unref(d);
    bdrv_unref(c);      /* closes, and lets go of b */
    g_assert_cmpint(fake_closed - closed, ==, 2);
    g_assert_cmpint(b->quiesce_counter, ==, 2);
    fake_unroot(&p);
    bdrv_unref(a);
    bdrv_drain_all_end();
    g_assert_cmpint(b->quiesce_counter, ==, 1);
    bdrv_drain_all_end();
    g_assert_cmpint(b->quiesce_counter, ==, 0);
    g_assert_cmpint(((FakeState *)b->opaque)->quiet, ==, 0);
    bdrv_unref(b);
    fake_expect_no_nodes();
}

/* ---- waiting ---- */

typedef struct Waiter {
    BlockDriverState *bs;
    bool all, done;
} Waiter;

static void coroutine_fn drain_co(void *opaque)
{
    Waiter *w = opaque;

    if (w->all) {
        bdrv_drain_all_begin();
    } else {
        bdrv_drained_begin(w->bs);
    }
    g_assert_cmpuint(w->bs->in_flight, ==, 0);
    w->done = true;
    if (w->all) {
        bdrv_drain_all_end();
    } else {
        bdrv_drained_end(w->bs);
    }
}

static void turn(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
}

/* A request at the node, one on its way at a parent, one at a parent node: all are waited for. */
static void test_waits(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR), *top = fake_node(&fake_filter, "top", BDRV_O_RDWR);
    FakeParent p = { "p" };

    fake_attach(top, base, "file", role_filtered, &error_abort);
    fake_root(&p, top, 0, BLK_PERM_ALL, &error_abort);
    for (int all = 0; all < 2; all++) {
        Waiter w = { base, all };

        bdrv_inc_in_flight(base);
        bdrv_inc_in_flight(top);
        p.busy = 1;
        qemu_coroutine_enter(qemu_coroutine_create(drain_co, &w));
        g_assert_cmpint(p.quiet, ==, 1);
        turn();
        g_assert_false(w.done);
        bdrv_dec_in_flight(base);
        turn();
        g_assert_false(w.done);
        p.busy = 0;
        aio_wait_kick();
        turn();
        g_assert_false(w.done);
        bdrv_dec_in_flight(top);
        turn();
        g_assert_true(w.done && p.quiet == 0);
    }
    fake_unroot(&p);
    bdrv_unref(top);
    bdrv_unref(base);
    fake_expect_no_nodes();
}

static void coroutine_fn request_co(void *opaque)
{
    co_sleep_ns(2000000);
    bdrv_dec_in_flight(opaque);
}

/* A graph edit waits for what is in flight, in a coroutine and outside. */
static void coroutine_fn edit_co(void *opaque)
{
    BlockDriverState *a = bdrv_find_node("a"), *b = bdrv_find_node("b");
    FakeParent *p = opaque;

    bdrv_inc_in_flight(a);
    qemu_coroutine_enter(qemu_coroutine_create(request_co, a));
    g_assert_cmpint(bdrv_replace_node(a, b, &error_abort), ==, 0);
    g_assert_true(p->root->bs == b && a->in_flight == 0);
    bdrv_inc_in_flight(b);
    qemu_coroutine_enter(qemu_coroutine_create(request_co, b));
    g_assert_cmpint(bdrv_replace_node(b, a, &error_abort), ==, 0);
    g_assert_true(p->root->bs == a && b->in_flight == 0);
}

/* A drain that gives up: not while anything moves, then with an error, and the node goes on. */
static void move_cb(void *opaque)
{
    BlockDriverState *bs = opaque;

    bdrv_inc_in_flight(bs);
}

static void test_try(void)
{
    BlockDriverState *base = fake_node(&fake_protocol, "base", BDRV_O_RDWR), *top = fake_node(&fake_filter, "top", BDRV_O_RDWR);
    int64_t begin = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), seconds;
    QEMUTimer timer;
    Error *err = NULL;

    fake_attach(top, base, "file", role_filtered, &error_abort);
    g_assert_cmpint(bdrv_try_drain(base, &error_abort), ==, 0);
    bdrv_inc_in_flight(top);
    timer_init_ns(&timer, qemu_get_aio_context(), move_cb, top);
    timer_mod_ns(&timer, begin + 2500000000);
    g_assert_cmpint(bdrv_try_drain(base, &err), ==, -ETIMEDOUT);
    seconds = (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - begin) / NANOSECONDS_PER_SECOND;
    g_assert_cmpint(seconds, >=, AIO_PATIENCE_SECONDS + 2);
    g_assert_cmpstr(error_get_pretty(err), ==, "Requests to node 'base' do not end");
    error_free(err);
    g_assert_true(base->quiesce_counter == 0 && top->quiesce_counter == 0);
    bdrv_dec_in_flight(top);
    bdrv_dec_in_flight(top);
    g_assert_cmpint(bdrv_try_drain(base, &error_abort), ==, 0);
    bdrv_unref(top);
    bdrv_unref(base);
}

static void test_edit_waits(void)
{
    BlockDriverState *a = fake_node(&fake_protocol, "a", BDRV_O_RDWR), *b = fake_node(&fake_protocol, "b", BDRV_O_RDWR);
    FakeParent p = { "p" };

    fake_root(&p, a, 0, BLK_PERM_ALL, &error_abort);
    aio_co_run(edit_co, &p);
    edit_co(&p);
    fake_unroot(&p);
    bdrv_unref(a);
    bdrv_unref(b);
    fake_expect_no_nodes();
}

/* While one edit waits, another moves the edge it is about: it follows. */
typedef struct MoveCall {
    BdrvChild *c;
    BlockDriverState *to;
    bool done;
} MoveCall;

static void coroutine_fn move_co(void *opaque)
{
    MoveCall *m = opaque;

    g_assert_cmpint(bdrv_replace_child_bs(m->c, m->to, &error_abort), ==, 0);
    m->done = true;
}

static void test_edits_meet(void)
{
    BlockDriverState *n[3];
    FakeParent p = { "p" };
    MoveCall m[2];

    for (int i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("n%d", i);

        n[i] = fake_node(&fake_protocol, name, BDRV_O_RDWR);
    }
    fake_root(&p, n[0], 0, BLK_PERM_ALL, &error_abort);
    bdrv_inc_in_flight(n[0]);
    for (int i = 0; i < 2; i++) {
        m[i] = (MoveCall) { p.root, n[i + 1] };
        qemu_coroutine_enter(qemu_coroutine_create(move_co, &m[i]));
    }
    turn();
    g_assert_true(!m[0].done && !m[1].done && p.root->bs == n[0]);
    bdrv_dec_in_flight(n[0]);
    turn();
    g_assert_true(m[0].done && m[1].done && p.root->bs != n[0] && p.quiet == 0);
    fake_unroot(&p);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(n[i]->quiesce_counter, ==, 0);
        bdrv_unref(n[i]);
    }
    fake_expect_no_nodes();
}

/* ---- the control lock ---- */

static GString *order;

static void coroutine_fn control_user(void *opaque)
{
    control_co_lock();
    control_co_lock();
    g_string_append_printf(order, "%s(", (char *)opaque);
    co_sleep_ns(1000000);
    g_assert_true(control_is_locked_by_me());
    control_co_unlock();
    co_sleep_ns(1000000);
    g_string_append_c(order, ')');
    control_co_unlock();
}

static void test_control_lock(void)
{
    order = g_string_new("");
    qemu_coroutine_enter(qemu_coroutine_create(control_user, (void *)"a"));
    qemu_coroutine_enter(qemu_coroutine_create(control_user, (void *)"b"));
    g_assert_false(control_is_locked_by_me());
    control_co_lock();
    g_string_append(order, "out");
    qemu_coroutine_enter(qemu_coroutine_create(control_user, (void *)"c"));
    turn();
    g_string_append(order, "|");
    control_co_unlock();
    aio_co_run(control_user, (void *)"d");
    g_assert_cmpstr(order->str, ==, "a()b()out|c()d()");
    g_assert_false(control_is_locked_by_me());
    g_string_free(order, TRUE);
}

/* ---- at random ---- */

enum { NODES = 10, PARENTS = 6 };

typedef struct World {
    Prng rng;
    BlockDriverState *n[NODES];
    int sections[NODES];        /* opened by the test, one by one */
    int in_flight[NODES];
    FakeParent p[PARENTS];
    int all;
} World;

static int pick(World *w, int n)
{
    return prng_below(&w->rng, n);
}

/* Counters as they follow from what is joined, highest nodes last. */
static void check_world(World *w)
{
    for (int i = 0; i < NODES; i++) {
        BlockDriverState *bs = w->n[i];

        if (!bs) {
            continue;
        }
        g_assert_cmpint(bs->quiesce_counter, ==, w->sections[i] + w->all + fake_parent_edges_quiesced(bs));
        g_assert_cmpint(((FakeState *)bs->opaque)->quiet, ==, bs->quiesce_counter > 0);
        g_assert_cmpint(((FakeState *)bs->opaque)->checks, ==, 0);
    }
    for (int i = 0; i < PARENTS; i++) {
        g_assert_cmpint(w->p[i].quiet, ==, w->p[i].root && w->p[i].root->bs->quiesce_counter > 0);
    }
}

/* Requests end when their node is drained: each edit and section would wait for ever else. */
static void coroutine_fn end_requests_co(void *opaque)
{
    World *w = opaque;

    co_sleep_ns(1000 * (1 + pick(w, 50)));
    for (int i = 0; i < NODES; i++) {
        while (w->in_flight[i]) {
            w->in_flight[i]--;
            bdrv_dec_in_flight(w->n[i]);
        }
    }
}

static void start_requests(World *w)
{
    for (int k = pick(w, 4); k > 0; k--) {
        int i = pick(w, NODES);

        if (w->n[i] && !w->n[i]->quiesce_counter) {
            bdrv_inc_in_flight(w->n[i]);
            w->in_flight[i]++;
        }
    }
    qemu_coroutine_enter(qemu_coroutine_create(end_requests_co, w));
}

static void step_node(World *w)
{
    int i = pick(w, NODES);

    if (!w->n[i]) {
        g_autofree char *name = g_strdup_printf("n%d", i);

        w->n[i] = fake_node(pick(w, 2) ? &fake_format : &fake_protocol, name, BDRV_O_RDWR);
    } else if (LIST_EMPTY(&w->n[i]->parents) && !w->in_flight[i]) {
        while (w->sections[i]) {
            w->sections[i]--;
            bdrv_drained_end(w->n[i]);
        }
        bdrv_unref(g_steal_pointer(&w->n[i]));
    }
}

static void step_edge(World *w)
{
    BlockDriverState *a = w->n[pick(w, NODES)], *b = w->n[pick(w, NODES)];
    BdrvChild *c;

    if (!a || !b) {
        return;
    }
    c = LIST_FIRST(&a->children);
    switch (pick(w, 4)) {
    case 0:
        fake_attach(a, b, "child", BDRV_CHILD_DATA, NULL);      /* fails where a cycle would close */
        break;
    case 1:
        if (c) {
            bdrv_unref_child(a, c);
        }
        break;
    case 2:
        if (c) {
            bdrv_replace_child_bs(c, b, NULL);
        }
        break;
    case 3:
        if (a != b) {
            bdrv_replace_node(a, b, NULL);
        }
        break;
    }
}

static void step_root(World *w)
{
    FakeParent *p = &w->p[pick(w, PARENTS)];
    BlockDriverState *bs = w->n[pick(w, NODES)];

    if (p->root) {
        bdrv_root_unref_child(g_steal_pointer(&p->root));
    } else if (bs) {
        fake_refuses = pick(w, 5) ? NULL : bs;
        fake_root(p, bs, pick(w, 2) ? BLK_PERM_WRITE : 0, pick(w, 3) ? BLK_PERM_ALL : 0, NULL);
        fake_refuses = NULL;
    }
}

static void step_section(World *w)
{
    int i = pick(w, NODES);

    if (w->n[i] && pick(w, 2)) {
        w->sections[i]++;
        bdrv_drained_begin(w->n[i]);
        g_assert_cmpuint(w->n[i]->in_flight, ==, 0);
    } else if (w->n[i] && w->sections[i]) {
        w->sections[i]--;
        bdrv_drained_end(w->n[i]);
    } else if (!w->all && !pick(w, 4)) {
        w->all++;
        bdrv_drain_all_begin();
    } else if (w->all) {
        w->all--;
        bdrv_drain_all_end();
    }
}

static void end_world(World *w)
{
    while (w->all) {
        w->all--;
        bdrv_drain_all_end();
    }
    for (int i = 0; i < PARENTS; i++) {
        if (w->p[i].root) {
            fake_unroot(&w->p[i]);
        }
    }
    for (int i = 0; i < NODES; i++) {
        while (w->n[i] && w->sections[i]) {
            w->sections[i]--;
            bdrv_drained_end(w->n[i]);
        }
    }
    check_world(w);
    for (int i = 0; i < NODES; i++) {
        if (w->n[i]) {
            bdrv_unref(g_steal_pointer(&w->n[i]));
        }
    }
    fake_expect_no_nodes();
}

static void run_world(World *w)
{
    static void (*const steps[])(World *) = { step_node, step_edge, step_edge, step_root, step_section };

    for (int i = 0; i < 400; i++) {
        if (!pick(w, 6)) {
            start_requests(w);
        }
        steps[pick(w, G_N_ELEMENTS(steps))](w);
        check_world(w);
    }
    co_sleep_ns(100000);    /* the last requests */
    end_world(w);
}

static void coroutine_fn world_co(void *opaque)
{
    run_world(opaque);
}

static void test_random(void)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        World w = { .rng = { seed } };

        g_test_message("seed %" PRIu64, seed);
        aio_co_run(world_co, &w);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    g_test_add_func("/graph/drain/nesting", test_nesting);
    g_test_add_func("/graph/drain/edges", test_edges);
    g_test_add_func("/graph/drain/all", test_all);
    g_test_add_func("/graph/drain/waits", test_waits);
    g_test_add_func("/graph/drain/try", test_try);
    g_test_add_func("/graph/drain/edit-waits", test_edit_waits);
    g_test_add_func("/graph/drain/edits-meet", test_edits_meet);
    g_test_add_func("/graph/drain/random", test_random);
    g_test_add_func("/graph/control/lock", test_control_lock);
    int ret = g_test_run();

    aio_cleanup_main();
    return ret;
}

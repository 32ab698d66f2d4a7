/* SPDX-License-Identifier: MIT */
/* drain.c: make part of the graph quiet.
 *
 * While a node is drained no request enters it from above and none is in flight at it;
 * requests below that came through it are counted at it as well. Sections nest.
 *
 * The one invariant, at every moment between two calls of this file:
 *
 *     bs->quiesce_counter == sections open on bs
 *                          + open drain_all sections
 *                          + edges of bs, as parent, with quiesced_parent
 *     edge->quiesced_parent == (edge->bs && edge->bs->quiesce_counter > 0)
 *
 * So quiescing spreads upward, each edge passing it on once, and an edge that comes
 * to or leaves a drained node takes it over or gives it back (graph_drain_edge_sync).
 *
 * Use:      bdrv_drained_begin(bs); ...edit the graph...; bdrv_drained_end(bs);
 * Runs on:  the main thread.      Suspends: bdrv_drained_begin(), bdrv_drain*_begin().
 * Fails:    never; it can only take long.
 * Callbacks (drained_begin, drained_end of parents and drivers) must not change the
 * graph before they return; they schedule what would.
 */
#include "base/osdep.h"
#include "base/trace.h"
#include "graph/graph_private.h"

static int drain_all_count;     /* open drain_all sections */

static int quiesce_add(BlockDriverState *bs, int n)
{
    return __atomic_add_fetch(&bs->quiesce_counter, n, __ATOMIC_SEQ_CST);
}

/* Up through nodes the work goes over a list, not by recursion: a chain may be long, a
 * coroutine's stack is not. */

/* ---- begin ---- */

/* The edge's child is drained: the parent is told, or put on @todo if it is a node. */
static void edge_quiesce(BdrvChild *c, GPtrArray *todo)
{
    g_assert(!c->quiesced_parent);
    c->quiesced_parent = true;
    if (bdrv_child_parent_bs(c)) {
        g_ptr_array_add(todo, c->opaque);
    } else if (c->klass->drained_begin) {
        c->klass->drained_begin(c);
    }
}

static void node_quiesce(BlockDriverState *bs, GPtrArray *todo)
{
    BdrvChild *c;

    if (quiesce_add(bs, 1) > 1) {
        return;
    }
    LIST_FOREACH(c, &bs->parents, next_parent) {
        edge_quiesce(c, todo);
    }
    /* One that is still being opened hears of it when it is (graph_drain_driver_opened). */
    if (bs->opened && bs->drv->drain_begin) {
        bs->drv->drain_begin(bs);
    }
}

static void quiesce_all(GPtrArray *todo)
{
    while (todo->len) {
        node_quiesce(g_ptr_array_steal_index_fast(todo, todo->len - 1), todo);
    }
}

void bdrv_drained_begin_no_poll(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    g_assert(qemu_in_main_thread());
    g_ptr_array_add(todo, bs);
    quiesce_all(todo);
}

/* ---- end ---- */

static void edge_unquiesce(BdrvChild *c, GPtrArray *todo)
{
    g_assert(c->quiesced_parent);
    c->quiesced_parent = false;
    if (bdrv_child_parent_bs(c)) {
        g_ptr_array_add(todo, c->opaque);
    } else if (c->klass->drained_end) {
        c->klass->drained_end(c);
    }
}

static void node_unquiesce(BlockDriverState *bs, GPtrArray *todo)
{
    BdrvChild *c;
    int left = quiesce_add(bs, -1);

    g_assert(left >= 0);
    if (left > 0) {
        return;
    }
    if (bs->opened && bs->drv->drain_end) {
        bs->drv->drain_end(bs);
    }
    LIST_FOREACH(c, &bs->parents, next_parent) {
        edge_unquiesce(c, todo);
    }
}

static void unquiesce_all(GPtrArray *todo)
{
    while (todo->len) {
        node_unquiesce(g_ptr_array_steal_index_fast(todo, todo->len - 1), todo);
    }
}

void bdrv_drained_end(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    g_assert(qemu_in_main_thread());
    g_ptr_array_add(todo, bs);
    unquiesce_all(todo);
}

/* ---- edges that come and go ---- */

void graph_drain_edge_sync(BdrvChild *c)
{
    bool want = c->bs && __atomic_load_n(&c->bs->quiesce_counter, __ATOMIC_RELAXED) > 0;
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    if (want && !c->quiesced_parent) {
        edge_quiesce(c, todo);
        quiesce_all(todo);
    } else if (!want && c->quiesced_parent) {
        edge_unquiesce(c, todo);
        unquiesce_all(todo);
    }
}

/* ---- waiting ---- */

static bool node_is_busy(BlockDriverState *bs, GPtrArray *todo)
{
    BdrvChild *c;

    if (__atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST)) {
        return true;
    }
    LIST_FOREACH(c, &bs->parents, next_parent) {
        if (bdrv_child_parent_bs(c)) {
            g_ptr_array_add(todo, c->opaque);
        } else if (c->klass->drained_poll && c->klass->drained_poll(c)) {
            return true;
        }
    }
    return false;
}

bool graph_drain_poll_many(GPtrArray *nodes)
{
    /* Each node is asked once a round, however many ways lead up to it. */
    static unsigned round;
    g_autoptr(GPtrArray) todo = g_ptr_array_sized_new(nodes->len);

    round++;
    for (guint i = 0; i < nodes->len; i++) {
        g_ptr_array_add(todo, g_ptr_array_index(nodes, i));
    }
    while (todo->len) {
        BlockDriverState *bs = g_ptr_array_steal_index_fast(todo, todo->len - 1);

        if (bs->drain_poll_round != round) {
            bs->drain_poll_round = round;
            if (node_is_busy(bs, todo)) {
                return true;
            }
        }
    }
    return false;
}

bool bdrv_drain_poll(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_sized_new(1);

    g_ptr_array_add(nodes, bs);
    return graph_drain_poll_many(nodes);
}

static bool drain_poll_cb(void *opaque)
{
    return bdrv_drain_poll(opaque);
}

void bdrv_drained_begin(BlockDriverState *bs)
{
    TRACE(drain, "%s: begin, %" PRIu64 " in flight", bs->node_name, bs->in_flight & UINT32_MAX);
    bdrv_drained_begin_no_poll(bs);
    aio_wait_while(drain_poll_cb, bs);
    TRACE(drain, "%s: quiet", bs->node_name);
}

void bdrv_drain(BlockDriverState *bs)
{
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

/* What is in flight at @bs and above. */
static uint64_t drain_look(void *opaque)
{
    g_autoptr(GPtrArray) seen = g_ptr_array_new();
    uint64_t h = 0;
    BdrvChild *c;

    g_ptr_array_add(seen, opaque);
    for (guint i = 0; i < seen->len; i++) {
        BlockDriverState *bs = g_ptr_array_index(seen, i);

        h = h * 31 + __atomic_load_n(&bs->in_flight, __ATOMIC_RELAXED);
        LIST_FOREACH(c, &bs->parents, next_parent) {
            if (bdrv_child_parent_bs(c) && !g_ptr_array_find(seen, c->opaque, NULL)) {
                g_ptr_array_add(seen, c->opaque);
            }
        }
    }
    return h;
}

int bdrv_try_drain(BlockDriverState *bs, Error **errp)
{
    int ret = 0;

    bdrv_ref(bs);
    bdrv_drained_begin_no_poll(bs);
    if (!aio_wait_while_moving(drain_poll_cb, drain_look, bs)) {
        error_setg(errp, "Requests to node '%s' do not end", bs->node_name);
        ret = -ETIMEDOUT;
    }
    bdrv_drained_end(bs);
    bdrv_unref(bs);
    return ret;
}

void bdrv_dec_in_flight(BlockDriverState *bs)
{
    uint64_t left = __atomic_sub_fetch(&bs->in_flight, 1, __ATOMIC_SEQ_CST);

    /* @bs may be gone already: its closing waits for this counter alone. */
    g_assert(left != UINT64_MAX);
    if (!left) {
        aio_wait_kick();
    }
}

/* ---- all nodes ---- */

void graph_drain_init_node(BlockDriverState *bs)
{
    bs->quiesce_counter = drain_all_count;
}

void graph_drain_driver_opened(BlockDriverState *bs)
{
    if (bs->quiesce_counter > 0 && bs->drv->drain_begin) {
        bs->drv->drain_begin(bs);
    }
}

void bdrv_drain_all_end_quiesce(BlockDriverState *bs)
{
    g_assert(LIST_EMPTY(&bs->parents));
    for (int i = 0; i < drain_all_count; i++) {
        bdrv_drained_end(bs);
    }
}

static bool drain_all_poll(void *opaque)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    BlockDriverState *bs = NULL;

    while ((bs = bdrv_next_all_states(bs))) {
        g_ptr_array_add(nodes, bs);
    }
    return graph_drain_poll_many(nodes);
}

void bdrv_drain_all_begin(void)
{
    BlockDriverState *bs = NULL;

    g_assert(qemu_in_main_thread());
    drain_all_count++;
    while ((bs = bdrv_next_all_states(bs))) {
        bdrv_drained_begin_no_poll(bs);
    }
    aio_wait_while(drain_all_poll, NULL);
}

void bdrv_drain_all_end(void)
{
    BlockDriverState *bs = NULL;

    g_assert(drain_all_count > 0);
    drain_all_count--;
    while ((bs = bdrv_next_all_states(bs))) {
        bdrv_drained_end(bs);
    }
}

void bdrv_drain_all(void)
{
    bdrv_drain_all_begin();
    bdrv_drain_all_end();
}

/* SPDX-License-Identifier: MIT */
/* graph_fake.h: drivers and parents that only count what is asked of them, for the tests of
 * the graph. Include once a test program.
 */
#ifndef LIVEBLK_TESTS_GRAPH_FAKE_H
#define LIVEBLK_TESTS_GRAPH_FAKE_H

#include "base/osdep.h"
#include "block/block_int-global-state.h"

/* ---- drivers ---- */

typedef struct FakeState {
    int quiet;                  /* drain_begin without drain_end */
    uint64_t perm, shared;      /* what set_perm was told last */
    int checks;                 /* check_perm without set or abort */
    AioContext *ctx;            /* what attach_aio_context was told last */
    int moves;
} FakeState;

static int fake_closed;                     /* driver closes so far */
static BlockDriverState *fake_refuses;      /* its check_perm fails */

static void coroutine_fn fake_co_close(BlockDriverState *bs)
{
    fake_closed++;
}

static int fake_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    FakeState *s = bs->opaque;

    if (bs == fake_refuses) {
        error_setg(errp, "node '%s' refuses", bs->node_name);
        return -EBUSY;
    }
    s->checks++;
    return 0;
}

static void fake_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    FakeState *s = bs->opaque;

    g_assert_cmpint(s->checks--, >, 0);
    s->perm = perm;
    s->shared = shared;
}

static void fake_abort_perm(BlockDriverState *bs)
{
    FakeState *s = bs->opaque;

    g_assert_cmpint(s->checks--, >, 0);
}

static void fake_drain_begin(BlockDriverState *bs)
{
    g_assert_cmpint(((FakeState *)bs->opaque)->quiet++, ==, 0);
}

static void fake_drain_end(BlockDriverState *bs)
{
    g_assert_cmpint(((FakeState *)bs->opaque)->quiet--, ==, 1);
}

static void fake_attach_ctx(BlockDriverState *bs, AioContext *ctx)
{
    FakeState *s = bs->opaque;

    s->ctx = ctx;
    s->moves++;
}

static void fake_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    if (bs->drv->kind == BLOCK_DRIVER_PROTOCOL) {
        bl->request_alignment = bl->opt_mem_alignment = 512;
        bl->max_transfer = 1 * MiB;
    }
}

static int64_t coroutine_fn fake_co_getlength(BlockDriverState *bs)
{
    return 1 * MiB;
}

#define FAKE_DRIVER(driver_kind)                                            \
    .kind = driver_kind, .instance_size = sizeof(FakeState),                \
    .schema_driver = BLOCKDEV_DRIVER__MAX, .co_close = fake_co_close,       \
    .check_perm = fake_check_perm, .set_perm = fake_set_perm,               \
    .abort_perm_update = fake_abort_perm, .drain_begin = fake_drain_begin,  \
    .drain_end = fake_drain_end, .attach_aio_context = fake_attach_ctx,     \
    .refresh_limits = fake_refresh_limits, .co_getlength = fake_co_getlength

static const BlockDriver fake_protocol __attribute__((unused)) = {
    .format_name = "fake", FAKE_DRIVER(BLOCK_DRIVER_PROTOCOL),
};
static const BlockDriver fake_format __attribute__((unused)) = {
    .format_name = "fakefmt", FAKE_DRIVER(BLOCK_DRIVER_FORMAT), .supports_backing = true,
};
static const BlockDriver fake_filter __attribute__((unused)) = {
    .format_name = "fakefilter", FAKE_DRIVER(BLOCK_DRIVER_FILTER),
};

static const BdrvChildRole role_image __attribute__((unused)) =
    BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY;
static const BdrvChildRole role_filtered __attribute__((unused)) =
    BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY;

/* A node the caller has a reference to. */
static inline BlockDriverState *fake_node(const BlockDriver *drv, const char *name, int flags)
{
    return bdrv_new_open_driver(drv, name, flags, &error_abort);
}

/* Attach; the caller keeps its reference to @child. */
static inline BdrvChild *fake_attach(BlockDriverState *parent, BlockDriverState *child,
                                     const char *name, BdrvChildRole role, Error **errp)
{
    bdrv_ref(child);
    return bdrv_attach_child(parent, child, name, role, errp);
}

/* ---- parents that are no nodes ---- */

typedef struct FakeParent {
    const char *name;
    BdrvChild *root;
    int quiet;                  /* drained_begin without drained_end */
    int busy;                   /* "requests on their way" */
    AioContext *ctx;
    bool may_move;
} FakeParent;

static char *fake_parent_desc(BdrvChild *c)
{
    return g_strdup_printf("user '%s'", ((FakeParent *)c->opaque)->name);
}

static void fake_parent_begin(BdrvChild *c)
{
    ((FakeParent *)c->opaque)->quiet++;
}

static bool fake_parent_poll(BdrvChild *c)
{
    return ((FakeParent *)c->opaque)->busy > 0;
}

static void fake_parent_end(BdrvChild *c)
{
    g_assert_cmpint(((FakeParent *)c->opaque)->quiet--, >, 0);
}

static const BdrvChildClass fake_parent_class __attribute__((unused)) = {
    .get_parent_desc = fake_parent_desc,
    .drained_begin = fake_parent_begin,
    .drained_poll = fake_parent_poll,
    .drained_end = fake_parent_end,
};

static const BdrvChildClass fake_staying_class __attribute__((unused)) = {
    .stay_at_node = true,
    .get_parent_desc = fake_parent_desc,
    .drained_begin = fake_parent_begin,
    .drained_poll = fake_parent_poll,
    .drained_end = fake_parent_end,
};

static inline bool fake_root(FakeParent *p, BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    bdrv_ref(bs);
    p->root = bdrv_root_attach_child(bs, "root", &fake_parent_class, 0, perm, shared, p, errp);
    return p->root;
}

static inline void fake_unroot(FakeParent *p)
{
    bdrv_root_unref_child(g_steal_pointer(&p->root));
    g_assert_cmpint(p->quiet, ==, 0);
}

/* ---- what must hold between any two calls ---- */

static inline int fake_parent_edges_quiesced(BlockDriverState *bs)
{
    BdrvChild *c;
    int n = 0;

    LIST_FOREACH(c, &bs->children, next) {
        g_assert_true(c->quiesced_parent == (c->bs->quiesce_counter > 0));
        n += c->quiesced_parent;
    }
    return n;
}

static inline void fake_expect_error(Error **err, const char *text)
{
    g_assert_nonnull(*err);
    g_assert_cmpstr(error_get_pretty(*err), ==, text);
    error_free(*err);
    *err = NULL;
}

/* No node is left: to be called at the end of each test. */
static inline void fake_expect_no_nodes(void)
{
    g_assert_null(bdrv_next_all_states(NULL));
    g_assert_null(bdrv_next_node(NULL));
}

#endif

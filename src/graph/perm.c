/* SPDX-License-Identifier: MIT */
/* perm.c: who may do what with a node.
 *
 * Every edge says what its parent needs (perm) and what it lets the node's other
 * parents do (shared_perm). The rule, for every node: what each parent needs lies
 * within what all its other parents share.
 *
 * A node parent derives the permissions of its own edges from the sum of what its
 * parents want (BlockDriver.child_perm). So one change runs downward: an update takes
 * the nodes below the changed ones parents first, works out each node's sum, checks
 * it, and sets its edges, where anything differs. All of it is registered in a
 * transaction; on the first conflict the caller aborts and nothing has changed.
 *
 * Runs on: the main thread.  Suspends: never.  Fails: -EPERM, or the driver's error.
 * The transaction holds no locks; drained nodes are not needed, since requests read
 * no permission.
 */
#include "base/osdep.h"
#include "graph/graph_private.h"

/* ---- names ---- */

static const struct { uint64_t perm; const char *schema, *plain; } perm_names[] = {
    { BLK_PERM_CONSISTENT_READ, "consistent-read", "consistent read" },
    { BLK_PERM_WRITE,           "write",           "write" },
    { BLK_PERM_WRITE_UNCHANGED, "write-unchanged", "write unchanged" },
    { BLK_PERM_RESIZE,          "resize",          "resize" },
};

const char *bdrv_perm_name(uint64_t one_perm)
{
    for (size_t i = 0; i < G_N_ELEMENTS(perm_names); i++) {
        if (perm_names[i].perm == one_perm) {
            return perm_names[i].schema;
        }
    }
    g_assert_not_reached();
}

char *bdrv_perm_names(uint64_t perm)
{
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(perm_names); i++) {
        if (perm & perm_names[i].perm) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", perm_names[i].plain);
        }
    }
    return g_string_free(s, FALSE);
}

char *graph_parent_desc(BdrvChild *c)
{
    return c->klass->get_parent_desc ? c->klass->get_parent_desc(c)
                                     : g_strdup("another user");
}

/* ---- what children need ---- */

static bool node_writable(BlockDriverState *bs, BlockReopenQueue *queue)
{
    return graph_reopen_flags(bs, queue) & BDRV_O_RDWR;
}

/* Backing file: read where the parent has nothing. Others may write to it only if the
 * parent's own users can stand changing contents. */
static void perms_of_cow(uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm & BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    if (shared & BLK_PERM_WRITE) {
        *nshared |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
}

/* File that holds the guest's data, the format's tables, or both. */
static void perms_of_storage(BlockDriverState *bs, BdrvChildRole role, BlockReopenQueue *queue,
                             uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    bool writable = node_writable(bs, queue);

    if (role & BDRV_CHILD_DATA) {
        /* Writing may allocate, which grows the file. */
        if (perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) {
            perm |= BLK_PERM_RESIZE;
        }
        if (!(role & BDRV_CHILD_METADATA)) {
            shared &= ~(uint64_t)BLK_PERM_RESIZE;     /* what we make of its length must stay true */
        }
    } else {
        perm &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE);
    }
    if (role & BDRV_CHILD_METADATA) {
        /* The tables are read and written whatever the users do; and nobody else may
         * touch them, not even under a reader, whose cached copy would go stale. */
        perm |= BLK_PERM_CONSISTENT_READ;
        if (writable) {
            perm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
        }
        shared &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    *nperm = perm;
    *nshared = shared;
}

void bdrv_default_perms(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role,
                        BlockReopenQueue *reopen_queue, uint64_t perm, uint64_t shared,
                        uint64_t *nperm, uint64_t *nshared)
{
    if (role & BDRV_CHILD_FILTERED) {
        *nperm = perm;
        *nshared = shared;
    } else if (role & BDRV_CHILD_COW) {
        perms_of_cow(perm, shared, nperm, nshared);
    } else {
        g_assert(role & (BDRV_CHILD_DATA | BDRV_CHILD_METADATA));
        perms_of_storage(bs, role, reopen_queue, perm, shared, nperm, nshared);
    }
}

static void child_perms(BlockDriverState *bs, BdrvChild *c, BlockReopenQueue *queue,
                        uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    if (bs->drv->child_perm) {
        bs->drv->child_perm(bs, c, c->role, queue, perm, shared, nperm, nshared);
    } else {
        bdrv_default_perms(bs, c, c->role, queue, perm, shared, nperm, nshared);
    }
    if (graph_reopen_flags(bs, queue) & BDRV_O_FORCE_SHARE) {
        *nshared = BLK_PERM_ALL;    /* that is what the user asked for */
    }
}

/* ---- one node ---- */

void bdrv_get_cumulative_perm(BlockDriverState *bs, uint64_t *perm, uint64_t *shared_perm)
{
    BdrvChild *c;

    *perm = 0;
    *shared_perm = BLK_PERM_ALL;
    LIST_FOREACH(c, &bs->parents, next_parent) {
        *perm |= c->perm;
        *shared_perm &= c->shared_perm;
    }
}

static void report_conflict(BlockDriverState *bs, BdrvChild *needs, BdrvChild *refuses, Error **errp)
{
    g_autofree char *names = bdrv_perm_names(needs->perm & ~refuses->shared_perm);
    g_autofree char *user = graph_parent_desc(needs);
    g_autofree char *other = graph_parent_desc(refuses);
    const char *node = bdrv_get_node_name(bs);

    error_setg(errp, "Permission conflict on node '%s': permissions '%s' are both required by %s "
               "(uses node '%s' as '%s' child) and unshared by %s (uses node '%s' as '%s' child).",
               node, names, user, node, needs->name, other, node, refuses->name);
}

/* With many parents (a base image of hundreds) comparing each pair would be slow: the
 * pairs are looked at only where the sums do not rule out a conflict. */
static int check_parents_agree(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    uint64_t doubtful = perm & ~shared;
    BdrvChild *a, *b;

    if (!doubtful) {
        return 0;
    }
    LIST_FOREACH(a, &bs->parents, next_parent) {
        if (!(doubtful & ~a->shared_perm)) {
            continue;
        }
        LIST_FOREACH(b, &bs->parents, next_parent) {
            if (a != b && (b->perm & ~a->shared_perm)) {
                report_conflict(bs, b, a, errp);
                return -EPERM;
            }
        }
    }
    return 0;
}

static int check_read_only(BlockDriverState *bs, BlockReopenQueue *queue, uint64_t perm, Error **errp)
{
    if (!(perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) || node_writable(bs, queue)) {
        return 0;
    }
    if (bs->open_flags & BDRV_O_RDWR) {
        error_setg(errp, "Read-only block node '%s' cannot support read-write users",
                   bdrv_get_node_name(bs));
    } else {
        error_setg(errp, "Block node is read-only");
    }
    return -EPERM;
}

/* ---- steps of the transaction ---- */

typedef struct EdgePermStep {
    BdrvChild *c;
    uint64_t perm, shared_perm;     /* as they were */
} EdgePermStep;

static void edge_perm_store(BdrvChild *c, uint64_t perm, uint64_t shared)
{
    __atomic_store_n(&c->perm, perm, __ATOMIC_RELAXED);
    __atomic_store_n(&c->shared_perm, shared, __ATOMIC_RELAXED);
}

static void edge_perm_abort(void *opaque)
{
    EdgePermStep *s = opaque;

    edge_perm_store(s->c, s->perm, s->shared_perm);
}

static const TransactionActionDrv edge_perm_drv = { .abort = edge_perm_abort, .clean = g_free };

void graph_perm_set_edge(BdrvChild *c, uint64_t perm, uint64_t shared, Transaction *tran)
{
    EdgePermStep *s = g_new(EdgePermStep, 1);

    *s = (EdgePermStep) { c, c->perm, c->shared_perm };
    edge_perm_store(c, perm, shared);
    tran_add(tran, &edge_perm_drv, s);
}

typedef struct NodePermStep {
    BlockDriverState *bs;
    uint64_t perm, shared;          /* as they were */
} NodePermStep;

static void node_perm_commit(void *opaque)
{
    NodePermStep *s = opaque;

    if (s->bs->drv->set_perm) {
        /* Two updates in one transaction: both must end at the later one's result. */
        s->bs->drv->set_perm(s->bs, s->bs->cumulative_perm, s->bs->cumulative_shared);
    }
}

static void node_perm_abort(void *opaque)
{
    NodePermStep *s = opaque;

    s->bs->cumulative_perm = s->perm;
    s->bs->cumulative_shared = s->shared;
    if (s->bs->drv->abort_perm_update) {
        s->bs->drv->abort_perm_update(s->bs);
    }
}

static const TransactionActionDrv node_perm_drv = {
    .abort = node_perm_abort, .commit = node_perm_commit, .clean = g_free,
};

/* ---- the update ---- */

typedef struct OrderStep {
    BlockDriverState *bs;
    BdrvChild *next;        /* child edge to look at next */
} OrderStep;

/* Add @top and all below it to @reversed, each node after those below it: read backwards,
 * parents come before their children. Depth first, with the stack in an array. */
static void order_below(BlockDriverState *top, GHashTable *seen, GPtrArray *reversed)
{
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(OrderStep));
    OrderStep step = { top, LIST_FIRST(&top->children) };

    if (!g_hash_table_add(seen, top)) {
        return;
    }
    g_array_append_val(stack, step);
    while (stack->len) {
        OrderStep *s = &g_array_index(stack, OrderStep, stack->len - 1);
        BdrvChild *c = s->next;

        if (!c) {
            g_ptr_array_add(reversed, s->bs);
            g_array_set_size(stack, stack->len - 1);
            continue;
        }
        s->next = LIST_NEXT(c, next);
        if (g_hash_table_add(seen, c->bs)) {
            step = (OrderStep) { c->bs, LIST_FIRST(&c->bs->children) };
            g_array_append_val(stack, step);
        }
    }
}

typedef struct PermUpdate {
    BlockReopenQueue *queue;
    Transaction *tran;
    GHashTable *dirty;      /* nodes with an edge above that changed */
} PermUpdate;

static void update_children(PermUpdate *u, BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    uint64_t nperm, nshared;
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        child_perms(bs, c, u->queue, perm, shared, &nperm, &nshared);
        if (nperm != c->perm || nshared != c->shared_perm) {
            graph_perm_set_edge(c, nperm, nshared, u->tran);
            g_hash_table_add(u->dirty, c->bs);
        }
    }
}

static int update_node(PermUpdate *u, BlockDriverState *bs, Error **errp)
{
    uint64_t perm, shared;
    int ret;

    bdrv_get_cumulative_perm(bs, &perm, &shared);
    ret = check_parents_agree(bs, perm, shared, errp);
    if (!ret) {
        ret = check_read_only(bs, u->queue, perm, errp);
    }
    if (ret || !bs->drv) {
        return ret;
    }
    if (perm != bs->cumulative_perm || shared != bs->cumulative_shared) {
        NodePermStep *s;

        ret = bs->drv->check_perm ? bs->drv->check_perm(bs, perm, shared, errp) : 0;
        if (ret < 0) {
            return ret;
        }
        s = g_new(NodePermStep, 1);
        *s = (NodePermStep) { bs, bs->cumulative_perm, bs->cumulative_shared };
        bs->cumulative_perm = perm;
        bs->cumulative_shared = shared;
        tran_add(u->tran, &node_perm_drv, s);
    }
    update_children(u, bs, perm, shared);
    return 0;
}

int graph_perm_update(GPtrArray *nodes, BlockReopenQueue *queue, Transaction *tran, Error **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) dirty = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    PermUpdate u = { queue, tran, dirty };

    g_assert(qemu_in_main_thread());
    for (guint i = 0; i < nodes->len; i++) {
        order_below(g_ptr_array_index(nodes, i), seen, order);
        g_hash_table_add(dirty, g_ptr_array_index(nodes, i));
    }
    for (guint i = order->len; i-- > 0;) {
        BlockDriverState *bs = g_ptr_array_index(order, i);

        if (g_hash_table_contains(dirty, bs)) {
            int ret = update_node(&u, bs, errp);

            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

/* ---- single edges ---- */

static int perm_update_one(BlockDriverState *bs, Transaction *tran, Error **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    int ret;

    g_ptr_array_add(nodes, bs);
    ret = graph_perm_update(nodes, NULL, tran, errp);
    tran_finalize(tran, ret);
    return ret;
}

int bdrv_child_try_set_perm(BdrvChild *c, uint64_t perm, uint64_t shared, Error **errp)
{
    bool loosens = !(perm & ~c->perm) && !(c->shared_perm & ~shared);
    Transaction *tran = tran_new();
    int ret;

    g_assert(qemu_in_main_thread() && !c->klass->parent_is_bds);
    graph_perm_set_edge(c, perm, shared, tran);
    /* Asking for less cannot fail: at worst a driver keeps more than is needed. */
    ret = perm_update_one(c->bs, tran, loosens ? NULL : errp);
    return loosens ? 0 : ret;
}

int bdrv_child_refresh_perms(BlockDriverState *bs, BdrvChild *c, Error **errp)
{
    Transaction *tran = tran_new();

    g_assert(qemu_in_main_thread() && bdrv_child_parent_bs(c) == bs);
    return perm_update_one(bs, tran, errp);
}

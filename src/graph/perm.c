/* SPDX-License-Identifier: MIT */
/* perm.c: permissions: who needs what of a node, and who lets others have it.
 *
 * The rule, for every node: what one parent needs lies within what each other parent shares.
 * A change is worked out for the whole subgraph below it, parents before children, checked,
 * and only then kept; an error undoes all of it (through the transaction).
 */
#include "graph/graph_private.h"

static const struct { uint64_t bit; const char *name; } perm_names[] = {
    { BLK_PERM_CONSISTENT_READ, "consistent-read" },
    { BLK_PERM_WRITE, "write" },
    { BLK_PERM_WRITE_UNCHANGED, "write-unchanged" },
    { BLK_PERM_RESIZE, "resize" },
};

const char *bdrv_perm_name(uint64_t one_perm)
{
    for (size_t i = 0; i < G_N_ELEMENTS(perm_names); i++) {
        if (perm_names[i].bit == one_perm) {
            return perm_names[i].name;
        }
    }
    return NULL;
}

/* For messages: the words, with blanks. */
char *bdrv_perm_names(uint64_t perm)
{
    GString *s = g_string_new("");

    for (size_t i = 0; i < G_N_ELEMENTS(perm_names); i++) {
        if (perm & perm_names[i].bit) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", perm_names[i].name);
        }
    }
    return g_strdelimit(g_string_free(s, FALSE), "-", ' ');
}

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

static bool node_is_writable(BlockDriverState *bs)
{
    return !bs->read_only;
}

void bdrv_default_perms(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role,
                        BlockReopenQueue *reopen_queue, uint64_t perm, uint64_t shared,
                        uint64_t *nperm, uint64_t *nshared)
{
    if (role & BDRV_CHILD_FILTERED) {
        /* The child shows the same data: what is asked of us is asked of it. */
        *nperm = perm;
        *nshared = shared;
        return;
    }
    if (role & BDRV_CHILD_COW) {
        /* Read where we have nothing. It must not change under us, unless our own parents
         * put up with changing data. */
        *nperm = perm & BLK_PERM_CONSISTENT_READ;
        *nshared = (shared & BLK_PERM_WRITE ? BLK_PERM_WRITE | BLK_PERM_RESIZE : 0) |
                   BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
        if (bs->force_share) {
            *nshared = BLK_PERM_ALL;
        }
        return;
    }
    *nperm = perm;
    *nshared = shared;
    if (role & BDRV_CHILD_METADATA) {
        /* The tables are ours alone, and change with any write. */
        if (node_is_writable(bs)) {
            *nperm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
        }
        *nperm |= BLK_PERM_CONSISTENT_READ;
        *nshared &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    if (role & BDRV_CHILD_DATA) {
        if (perm & (BLK_PERM_WRITE_UNCHANGED | BLK_PERM_WRITE)) {
            *nperm |= BLK_PERM_WRITE;
        }
        if (!(role & BDRV_CHILD_METADATA) && (perm & BLK_PERM_RESIZE)) {
            *nperm |= BLK_PERM_RESIZE;
        }
        *nshared &= ~(uint64_t)BLK_PERM_RESIZE;     /* the window we show must stay */
    }
    *nshared |= BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    if (bs->force_share) {
        *nshared = BLK_PERM_ALL;
    }
}

/* ---- transactional changes ---- */

typedef struct PermChange {
    BdrvChild *c;
    uint64_t perm, shared;
} PermChange;

static void perm_store(BdrvChild *c, uint64_t perm, uint64_t shared)
{
    __atomic_store_n(&c->perm, perm, __ATOMIC_RELAXED);
    __atomic_store_n(&c->shared_perm, shared, __ATOMIC_RELAXED);
}

static void perm_change_abort(void *opaque)
{
    PermChange *ch = opaque;

    perm_store(ch->c, ch->perm, ch->shared);
}

static const TransactionActionDrv perm_change_drv = { .abort = perm_change_abort, .clean = g_free };

void perm_set_tran(BdrvChild *c, uint64_t perm, uint64_t shared, Transaction *tran)
{
    PermChange *ch = g_new0(PermChange, 1);

    *ch = (PermChange) { c, c->perm, c->shared_perm };
    tran_add(tran, &perm_change_drv, ch);
    perm_store(c, perm, shared);
}

typedef struct DriverPerm {
    BlockDriverState *bs;
    uint64_t perm, shared;
} DriverPerm;

static void driver_perm_commit(void *opaque)
{
    DriverPerm *p = opaque;

    if (p->bs->drv && p->bs->drv->set_perm) {
        p->bs->drv->set_perm(p->bs, p->perm, p->shared);
    }
}

static void driver_perm_abort(void *opaque)
{
    DriverPerm *p = opaque;

    if (p->bs->drv && p->bs->drv->abort_perm_update) {
        p->bs->drv->abort_perm_update(p->bs);
    }
}

static const TransactionActionDrv driver_perm_drv = {
    .commit = driver_perm_commit, .abort = driver_perm_abort, .clean = g_free,
};

/* ---- checking ---- */

static char *child_user(BdrvChild *c)
{
    g_autofree char *parent = c->klass->get_parent_desc ? c->klass->get_parent_desc(c)
                                                        : g_strdup("an unnamed user");

    return g_strdup_printf("%s (uses node '%s' as '%s' child)", parent, c->bs->node_name, c->name);
}

static int perm_check_conflicts(BlockDriverState *bs, Error **errp)
{
    BdrvChild *a, *b;

    /* Newest first, who denies before who needs: the pair that is told is the peer's. */
    LIST_FOREACH(b, &bs->parents, next_parent) {
        LIST_FOREACH(a, &bs->parents, next_parent) {
            uint64_t clash = a == b ? 0 : a->perm & ~b->shared_perm;

            if (clash) {
                g_autofree char *needs = child_user(a), *denies = child_user(b);
                g_autofree char *names = bdrv_perm_names(clash);

                error_setg(errp, "Permission conflict on node '%s': permissions '%s' are both required by %s "
                           "and unshared by %s.", bs->node_name, names, needs, denies);
                return -EPERM;
            }
        }
    }
    return 0;
}

static int perm_refresh_node(BlockDriverState *bs, Transaction *tran, Error **errp)
{
    uint64_t perm, shared;
    BdrvChild *c;

    if (perm_check_conflicts(bs, errp) < 0) {
        return -EPERM;
    }
    bdrv_get_cumulative_perm(bs, &perm, &shared);
    if (!bs->drv) {
        return 0;
    }
    if ((perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) && bs->read_only &&
        !(bs->open_flags & BDRV_O_AUTO_RDONLY)) {
        error_setg(errp, "Block node is read-only");
        return -EPERM;
    }
    if (bs->drv->check_perm || bs->drv->set_perm) {
        int ret = bs->drv->check_perm ? bs->drv->check_perm(bs, perm, shared, errp) : 0;

        if (ret < 0) {
            return ret;
        }
        DriverPerm *p = g_new0(DriverPerm, 1);

        *p = (DriverPerm) { bs, perm, shared };
        tran_add(tran, &driver_perm_drv, p);
    }
    LIST_FOREACH(c, &bs->children, next) {
        uint64_t np, ns;

        if (bs->drv->child_perm) {
            bs->drv->child_perm(bs, c, c->role, NULL, perm, shared, &np, &ns);
        } else {
            bdrv_default_perms(bs, c, c->role, NULL, perm, shared, &np, &ns);
        }
        if (np != c->perm || ns != c->shared_perm) {
            perm_set_tran(c, np, ns, tran);
        }
    }
    return 0;
}

/* Depth first, the node added after all below it: read backwards, parents come first. */
static void perm_collect(BlockDriverState *bs, GHashTable *seen, GPtrArray *order)
{
    BdrvChild *c;

    if (!g_hash_table_add(seen, bs)) {
        return;
    }
    LIST_FOREACH(c, &bs->children, next) {
        perm_collect(c->bs, seen, order);
    }
    g_ptr_array_add(order, bs);
}

int perm_refresh_tran(BlockDriverState **nodes, int n, Transaction *tran, Error **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) order = g_ptr_array_new();

    for (int i = 0; i < n; i++) {
        if (nodes[i]) {
            perm_collect(nodes[i], seen, order);
        }
    }
    for (guint i = order->len; i > 0; i--) {
        int ret = perm_refresh_node(g_ptr_array_index(order, i - 1), tran, errp);

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int bdrv_child_try_set_perm(BdrvChild *c, uint64_t perm, uint64_t shared, Error **errp)
{
    Transaction *tran = tran_new();
    int ret;

    g_assert(qemu_in_main_thread());
    perm_set_tran(c, perm, shared, tran);
    ret = perm_refresh_tran(&c->bs, 1, tran, errp);
    tran_finalize(tran, ret);
    return ret;
}

int bdrv_child_refresh_perms(BlockDriverState *bs, BdrvChild *c, Error **errp)
{
    Transaction *tran = tran_new();
    int ret;

    g_assert(qemu_in_main_thread() && c->opaque == bs);
    ret = perm_refresh_tran(&bs, 1, tran, errp);
    tran_finalize(tran, ret);
    return ret;
}

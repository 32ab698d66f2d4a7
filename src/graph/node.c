/* SPDX-License-Identifier: MIT */
/* node.c: the life of a node: creation, name, references, closing.
 *
 * A node lives from graph_node_new() until its last reference is dropped. Each edge
 * to it holds one reference, so a node that closes has no parents. Closing flushes,
 * lets the driver close, then gives the children up, which may close them in turn.
 *
 * Runs on: the main thread.  Suspends: dropping the last reference.
 */
#include "base/osdep.h"
#include "base/trace.h"
#include "aio/host.h"
#include "base/str.h"
#include "graph/graph_private.h"

static TAILQ_HEAD(, BlockDriverState) named_nodes = TAILQ_HEAD_INITIALIZER(named_nodes);
static TAILQ_HEAD(, BlockDriverState) all_nodes = TAILQ_HEAD_INITIALIZER(all_nodes);
static TAILQ_HEAD(, BlockDriverState) monitor_nodes = TAILQ_HEAD_INITIALIZER(monitor_nodes);
static GHashTable *nodes_by_name;           /* node_name -> node */
static BlockDriverState *(*device_by_name)(const char *name);
static const char *(*device_name_of)(const BlockDriverState *bs);
static void (*close_hooks[4])(BlockDriverState *bs);

/* ---- hooks of the layers above ---- */

void bdrv_set_device_lookup(BlockDriverState *(*by_name)(const char *name),
                            const char *(*name_of)(const BlockDriverState *bs))
{
    device_by_name = by_name;
    device_name_of = name_of;
}

void bdrv_add_close_hook(void (*hook)(BlockDriverState *bs))
{
    size_t i = 0;

    while (close_hooks[i]) {
        if (close_hooks[i] == hook) {
            return;
        }
        i++;
        g_assert(i < G_N_ELEMENTS(close_hooks));
    }
    close_hooks[i] = hook;
}

static void run_close_hooks(BlockDriverState *bs)
{
    for (size_t i = 0; i < G_N_ELEMENTS(close_hooks) && close_hooks[i]; i++) {
        close_hooks[i](bs);
    }
}

/* ---- creation ---- */

BlockDriverState *graph_node_new(void)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);

    g_assert(qemu_in_main_thread());
    bs->refcnt = 1;
    bs->read_only = true;
    bs->cumulative_shared = BLK_PERM_ALL;
    bs->aio_context = qemu_get_aio_context();
    bs->filename = g_strdup("");
    bs->exact_filename = g_strdup("");
    LIST_INIT(&bs->children);
    LIST_INIT(&bs->parents);
    LIST_INIT(&bs->aio_notifiers);
    bs->bl.request_alignment = 1;
    bdrv_io_init(bs);
    graph_drain_init_node(bs);
    TAILQ_INSERT_TAIL(&all_nodes, bs, all_list);
    return bs;
}

void graph_node_set_driver(BlockDriverState *bs, const BlockDriver *drv)
{
    g_assert(!bs->drv);
    bs->drv = drv;
    bs->opaque = g_malloc0(MAX(drv->instance_size, 1));
    bs->supported_write_flags = drv->supported_write_flags;
    bs->supported_zero_flags = drv->supported_zero_flags;
}

static void generate_name(char *buf, size_t size)
{
    static unsigned counter;
    uint8_t noise;

    /* No user can choose a name that begins like this. As the peer's, the number cannot be
     * foretold, so that nobody comes to rely on it. */
    host_ops->random_bytes(&noise, 1);
    snprintf(buf, size, "#block%u%02d", counter++, noise % 100);
}

static int check_name(const char *name, Error **errp)
{
    if (!id_wellformed(name)) {
        error_setg(errp, "Invalid node-name: '%s'", name);
        return -EINVAL;
    }
    if (device_by_name && device_by_name(name)) {
        error_setg(errp, "node-name=%s is conflicting with a device id", name);
        return -EINVAL;
    }
    if (bdrv_find_node(name)) {
        error_setg(errp, "Duplicate nodes with node-name='%s'", name);
        return -EINVAL;
    }
    if (strlen(name) >= sizeof(((BlockDriverState *)0)->node_name)) {
        error_setg(errp, "Node name too long");
        return -EINVAL;
    }
    return 0;
}

int graph_node_set_name(BlockDriverState *bs, const char *name, Error **errp)
{
    g_assert(!bs->node_name[0]);
    if (name) {
        int ret = check_name(name, errp);

        if (ret < 0) {
            return ret;
        }
        g_strlcpy(bs->node_name, name, sizeof(bs->node_name));
    } else {
        generate_name(bs->node_name, sizeof(bs->node_name));
    }
    if (!nodes_by_name) {
        nodes_by_name = g_hash_table_new(g_str_hash, g_str_equal);
    }
    g_hash_table_insert(nodes_by_name, bs->node_name, bs);
    TAILQ_INSERT_HEAD(&named_nodes, bs, node_list);
    /* Among all nodes too it counts from now: a node's files have their names before it. */
    TAILQ_REMOVE(&all_nodes, bs, all_list);
    TAILQ_INSERT_TAIL(&all_nodes, bs, all_list);
    return 0;
}

/* ---- closing ---- */

/* From now on nobody finds the node. */
static void node_unlist(BlockDriverState *bs)
{
    if (bs->monitor_owned) {
        TAILQ_REMOVE(&monitor_nodes, bs, monitor_list);
        bs->monitor_owned = false;
    }
    if (bs->node_name[0]) {
        g_hash_table_remove(nodes_by_name, bs->node_name);
        TAILQ_REMOVE(&named_nodes, bs, node_list);
        bs->node_name[0] = '\0';
    }
}

static void node_detach_children(BlockDriverState *bs)
{
    while (!LIST_EMPTY(&bs->children)) {
        bdrv_unref_child(bs, LIST_FIRST(&bs->children));
    }
}

static void node_free(BlockDriverState *bs)
{
    bdrv_drain_all_end_quiesce(bs);
    TAILQ_REMOVE(&all_nodes, bs, all_list);
    g_assert(bs->refcnt == 0 && LIST_EMPTY(&bs->parents));
    g_assert(bs->quiesce_counter == 0 && bs->in_flight == 0);
    g_assert(LIST_EMPTY(&bs->aio_notifiers) && LIST_EMPTY(&bs->dirty_bitmaps));
    bdrv_io_destroy(bs);
    g_free(bs->filename);
    g_free(bs->exact_filename);
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    g_free(bs->auto_backing_file);
    qdict_unref(bs->options);
    qdict_unref(bs->full_options);
    g_free(bs);
}

/* The driver's state goes with drv, so that nothing can call it any more. */
static void node_drop_driver(BlockDriverState *bs)
{
    bs->drv = NULL;
    g_free(bs->opaque);
    bs->opaque = NULL;
}

static void coroutine_fn node_co_close(BlockDriverState *bs)
{
    /* The edits below take and drop references of their own: this one is for them. */
    TRACE(graph, "close %s", bs->filename ? bs->filename : "");
    bs->refcnt = 1;
    bdrv_drained_begin(bs);
    if (bs->opened) {
        if (!bs->read_only) {
            bdrv_co_flush(bs);  /* nobody is left to tell of an error */
        }
        if (bs->drv->co_close) {
            bs->drv->co_close(bs);
        }
    }
    bs->opened = false;
    run_close_hooks(bs);
    node_detach_children(bs);
    node_drop_driver(bs);
    bdrv_drained_end(bs);
    bs->refcnt = 0;
    node_free(bs);
}

/* Closing a node gives its children up, whose last reference that may be, and so on
 * down a long chain: they are closed one after the other in a loop, not by recursion. */
typedef struct Closer {
    Coroutine *co;
    GQueue nodes;               /* BlockDriverState, last reference gone */
    LIST_ENTRY(Closer) link;
} Closer;

static LIST_HEAD(, Closer) closers = LIST_HEAD_INITIALIZER(closers);

static void coroutine_fn closer_co_run(void *opaque)
{
    Closer closer = { .co = qemu_coroutine_self(), .nodes = G_QUEUE_INIT };
    BlockDriverState *bs = opaque;

    LIST_INSERT_HEAD(&closers, &closer, link);
    do {
        node_co_close(bs);
    } while ((bs = g_queue_pop_head(&closer.nodes)));
    LIST_REMOVE(&closer, link);
}

static void node_last_reference_gone(BlockDriverState *bs)
{
    Closer *closer;

    g_assert(!bs->closing && LIST_EMPTY(&bs->parents));
    bs->closing = true;
    node_unlist(bs);
    LIST_FOREACH(closer, &closers, link) {
        if (closer->co == qemu_coroutine_self()) {
            g_queue_push_tail(&closer->nodes, bs);
            return;
        }
    }
    aio_co_run(closer_co_run, bs);
}

void bdrv_ref(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread() && bs->refcnt > 0);
    bs->refcnt++;
}

void bdrv_unref(BlockDriverState *bs)
{
    if (!bs) {
        return;
    }
    g_assert(qemu_in_main_thread() && bs->refcnt > 0);
    if (--bs->refcnt == 0) {
        node_last_reference_gone(bs);
    }
}

/* ---- finding ---- */

BlockDriverState *bdrv_find_node(const char *node_name)
{
    g_assert(qemu_in_main_thread());
    return nodes_by_name && node_name ? g_hash_table_lookup(nodes_by_name, node_name) : NULL;
}

BlockDriverState *bdrv_lookup_bs(const char *device, const char *node_name, Error **errp)
{
    BlockDriverState *bs = NULL;

    if (device && device_by_name) {
        bs = device_by_name(device);
        if (bs) {
            return bs;
        }
    }
    bs = bdrv_find_node(node_name);
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'",
                   device ? device : "", node_name ? node_name : "");
    }
    return bs;
}

BlockDriverState *bdrv_next_node(BlockDriverState *bs)
{
    return bs ? TAILQ_NEXT(bs, node_list) : TAILQ_FIRST(&named_nodes);
}

BlockDriverState *bdrv_next_all_states(BlockDriverState *bs)
{
    return bs ? TAILQ_NEXT(bs, all_list) : TAILQ_FIRST(&all_nodes);
}

BlockDriverState *bdrv_next_monitor_owned(BlockDriverState *bs)
{
    return bs ? TAILQ_NEXT(bs, monitor_list) : TAILQ_FIRST(&monitor_nodes);
}

const char *bdrv_get_node_name(const BlockDriverState *bs)
{
    return bs->node_name;
}

const char *bdrv_get_device_name(const BlockDriverState *bs)
{
    const char *name = device_name_of ? device_name_of(bs) : NULL;
    BdrvChild *c;

    if (name && *name) {
        return name;
    }
    /* A job's hidden filter must not take the name away from the node below. */
    LIST_FOREACH(c, &bs->parents, next_parent) {
        BlockDriverState *parent = bdrv_child_parent_bs(c);

        if (parent && parent->implicit && (c->role & BDRV_CHILD_FILTERED)) {
            return bdrv_get_device_name(parent);
        }
    }
    return "";
}

const char *bdrv_get_device_or_node_name(const BlockDriverState *bs)
{
    const char *name = bdrv_get_device_name(bs);

    return *name ? name : bs->node_name;
}

/* ---- references held by the control interface ---- */

void bdrv_set_monitor_owned(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread() && !bs->monitor_owned);
    bs->monitor_owned = true;
    TAILQ_INSERT_TAIL(&monitor_nodes, bs, monitor_list);
}

void bdrv_release_monitor(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread() && bs->monitor_owned);
    bs->monitor_owned = false;
    TAILQ_REMOVE(&monitor_nodes, bs, monitor_list);
    bdrv_unref(bs);
}

void blockdev_close_all_bdrv_states(void)
{
    BlockDriverState *bs;

    /* Closing suspends: look for the first one again each time. */
    while ((bs = bdrv_next_monitor_owned(NULL))) {
        bdrv_release_monitor(bs);
    }
}

/* SPDX-License-Identifier: MIT */
/* node.c: nodes: making, naming, finding, closing.
 */
#include "graph/graph_private.h"
#include "base/str.h"
#include "aio/host.h"

BdrvList graph_all_nodes = TAILQ_HEAD_INITIALIZER(graph_all_nodes);
BdrvList graph_named_nodes = TAILQ_HEAD_INITIALIZER(graph_named_nodes);
BdrvList graph_monitor_nodes = TAILQ_HEAD_INITIALIZER(graph_monitor_nodes);

/* ---- drivers ---- */

#define DRIVERS_MAX 32
static const BlockDriver *drivers[DRIVERS_MAX + 1];

void bdrv_register(const BlockDriver *drv)
{
    int i = 0;

    while (drivers[i]) {
        if (drivers[i++] == drv) {
            return;
        }
    }
    g_assert(i < DRIVERS_MAX);
    drivers[i] = drv;
}

const BlockDriver *bdrv_find_format(const char *format_name)
{
    for (int i = 0; drivers[i]; i++) {
        if (!strcmp(drivers[i]->format_name, format_name)) {
            return drivers[i];
        }
    }
    return NULL;
}

const BlockDriver *bdrv_next_driver(const BlockDriver *drv)
{
    int i = 0;

    while (drv && drivers[i] && drivers[i] != drv) {
        i++;
    }
    return drv ? drivers[i + 1] : drivers[0];
}

/* ---- making ---- */

BlockDriverState *node_new(void)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);

    g_assert(qemu_in_main_thread());
    bs->refcnt = 1;
    bs->read_only = true;
    bs->bl.request_alignment = 1;
    bs->aio_context = qemu_get_aio_context();
    LIST_INIT(&bs->children);
    LIST_INIT(&bs->parents);
    LIST_INIT(&bs->aio_notifiers);
    bdrv_io_init(bs);
    bs->quiesce_counter = drain_all_count();
    TAILQ_INSERT_TAIL(&graph_all_nodes, bs, all_list);
    return bs;
}

/* Nodes are listed in the order in which they are complete: children before parents. */
void node_opened(BlockDriverState *bs)
{
    TAILQ_REMOVE(&graph_all_nodes, bs, all_list);
    TAILQ_INSERT_TAIL(&graph_all_nodes, bs, all_list);
    TAILQ_REMOVE(&graph_named_nodes, bs, node_list);
    TAILQ_INSERT_HEAD(&graph_named_nodes, bs, node_list);
}

int node_set_name(BlockDriverState *bs, const char *name, Error **errp)
{
    static unsigned counter = 100;
    g_autofree char *generated = NULL;

    if (!name) {
        /* A prefix that no user may choose; the number grows, unpredictably as the peer's, so
         * that nobody relies on it. */
        uint8_t step;

        host_ops->random_bytes(&step, 1);
        counter += 1 + step % 9;
        name = generated = g_strdup_printf("#block%u", counter);
    } else if (!id_wellformed(name)) {
        error_setg(errp, "Invalid node-name: '%s'", name);
        return -EINVAL;
    } else if (strlen(name) >= sizeof(bs->node_name)) {
        error_setg(errp, "Node name too long");
        return -EINVAL;
    } else if (bdrv_find_node(name)) {
        error_setg(errp, "Duplicate nodes with node-name='%s'", name);
        return -EINVAL;
    }
    g_strlcpy(bs->node_name, name, sizeof(bs->node_name));
    TAILQ_INSERT_HEAD(&graph_named_nodes, bs, node_list);
    return 0;
}

typedef struct OpenDriverCall {
    BlockDriverState *bs;
    int flags, ret;
    Error **errp;
} OpenDriverCall;

static void coroutine_fn open_driver_co(void *opaque)
{
    OpenDriverCall *call = opaque;
    const BlockDriver *drv = call->bs->drv;

    call->ret = drv->co_open ? drv->co_open(call->bs, NULL, call->flags, call->errp) : 0;
}

BlockDriverState *bdrv_new_open_driver(const BlockDriver *drv, const char *node_name,
                                       int flags, Error **errp)
{
    BlockDriverState *bs = node_new();
    OpenDriverCall call = { bs, flags, 0, errp };

    if (node_set_name(bs, node_name, errp) < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    bs->drv = drv;
    bs->opaque = g_malloc0(MAX(drv->instance_size, 1));
    bs->open_flags = flags;
    bs->read_only = !(flags & BDRV_O_RDWR);
    bs->supported_write_flags = drv->supported_write_flags;
    bs->supported_zero_flags = drv->supported_zero_flags;
    bs->implicit = node_name == NULL;
    bs->options = qdict_new();
    qdict_put_str(bs->options, "driver", drv->format_name);
    aio_co_run(open_driver_co, &call);
    if (call.ret < 0) {
        bs->drv = NULL;
        bdrv_unref(bs);
        return NULL;
    }
    bdrv_refresh_filename(bs);
    return bs;
}

/* ---- references and closing ---- */

void bdrv_ref(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread());
    bs->refcnt++;
}

static void coroutine_fn close_co(void *opaque)
{
    BlockDriverState *bs = opaque;

    bdrv_drained_begin(bs);
    if (bs->drv) {
        if (!bs->read_only) {
            /* Nobody is left to hear of a failure; drivers report what matters. */
            bdrv_co_flush(bs);
        }
        if (bs->drv->co_close) {
            bs->drv->co_close(bs);
        }
    }
    bdrv_drained_end(bs);
}

static void node_free(BlockDriverState *bs)
{
    if (*bs->node_name) {
        TAILQ_REMOVE(&graph_named_nodes, bs, node_list);
    }
    TAILQ_REMOVE(&graph_all_nodes, bs, all_list);
    bdrv_io_destroy(bs);
    g_free(bs->opaque);
    g_free(bs->filename);
    g_free(bs->exact_filename);
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    g_free(bs->auto_backing_file);
    qdict_unref(bs->options);
    g_free(bs);
}

void bdrv_unref(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread());
    if (!bs) {
        return;
    }
    g_assert(bs->refcnt > 0);
    if (bs->refcnt > 1) {
        bs->refcnt--;
        return;
    }
    /* The last reference is held while closing, so that drain may take and drop its own. */
    g_assert(LIST_EMPTY(&bs->parents));
    if (drain_all_count()) {
        bdrv_drain_all_end_quiesce(bs);
    }
    aio_co_run(close_co, bs);
    while (!LIST_EMPTY(&bs->children)) {
        bdrv_unref_child(bs, LIST_FIRST(&bs->children));
    }
    g_assert(LIST_EMPTY(&bs->dirty_bitmaps) && LIST_EMPTY(&bs->aio_notifiers));
    g_assert(bs->quiesce_counter == 0 && bs->in_flight == 0);
    node_free(bs);
}

void bdrv_set_monitor_owned(BlockDriverState *bs)
{
    g_assert(!bs->monitor_owned);
    bs->monitor_owned = true;
    TAILQ_INSERT_TAIL(&graph_monitor_nodes, bs, monitor_list);
}

void blockdev_close_all_bdrv_states(void)
{
    BlockDriverState *bs, *next;

    g_assert(qemu_in_main_thread());
    TAILQ_FOREACH_SAFE(bs, &graph_monitor_nodes, monitor_list, next) {
        TAILQ_REMOVE(&graph_monitor_nodes, bs, monitor_list);
        bs->monitor_owned = false;
        bdrv_unref(bs);
    }
}

void bdrv_release_monitor(BlockDriverState *bs)
{
    g_assert(bs->monitor_owned);
    TAILQ_REMOVE(&graph_monitor_nodes, bs, monitor_list);
    bs->monitor_owned = false;
    bdrv_unref(bs);
}

/* ---- finding ---- */

BlockDriverState *bdrv_find_node(const char *node_name)
{
    BlockDriverState *bs;

    TAILQ_FOREACH(bs, &graph_named_nodes, node_list) {
        if (!strcmp(bs->node_name, node_name)) {
            return bs;
        }
    }
    return NULL;
}

static BlockDriverState *(*find_device)(const char *name);
static const char *(*device_of)(const BlockDriverState *bs);

void bdrv_set_device_lookup(BlockDriverState *(*by_name)(const char *), const char *(*name_of)(const BlockDriverState *))
{
    find_device = by_name;
    device_of = name_of;
}

BlockDriverState *bdrv_lookup_bs(const char *device, const char *node_name, Error **errp)
{
    BlockDriverState *bs = device && find_device ? find_device(device) : NULL;

    if (!bs && node_name) {
        bs = bdrv_find_node(node_name);
    }
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", device ? device : "",
                   node_name ? node_name : "");
    }
    return bs;
}

BlockDriverState *bdrv_next_node(BlockDriverState *bs)
{
    return bs ? TAILQ_NEXT(bs, node_list) : TAILQ_FIRST(&graph_named_nodes);
}

BlockDriverState *bdrv_next_all_states(BlockDriverState *bs)
{
    return bs ? TAILQ_NEXT(bs, all_list) : TAILQ_FIRST(&graph_all_nodes);
}

BlockDriverState *bdrv_next_monitor_owned(BlockDriverState *bs)
{
    return bs ? TAILQ_NEXT(bs, monitor_list) : TAILQ_FIRST(&graph_monitor_nodes);
}

const char *bdrv_get_node_name(const BlockDriverState *bs)
{
    return bs->node_name;
}

const char *bdrv_get_device_name(const BlockDriverState *bs)
{
    const char *name = device_of ? device_of(bs) : NULL;

    return name ? name : "";
}

const char *bdrv_get_device_or_node_name(const BlockDriverState *bs)
{
    const char *name = bdrv_get_device_name(bs);

    return *name ? name : bs->node_name;
}

BlockDriverState *bdrv_filter_bs(BlockDriverState *bs)
{
    BdrvChild *c;

    if (!bs || !bs->drv || bs->drv->kind != BLOCK_DRIVER_FILTER) {
        return NULL;
    }
    LIST_FOREACH(c, &bs->children, next) {
        if (c->role & BDRV_CHILD_FILTERED) {
            return c->bs;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_cow_bs(BlockDriverState *bs)
{
    return bs && bs->backing && (bs->backing->role & BDRV_CHILD_COW) ? bs->backing->bs : NULL;
}

BlockDriverState *bdrv_filter_or_cow_bs(BlockDriverState *bs)
{
    BlockDriverState *f = bdrv_filter_bs(bs);

    return f ? f : bdrv_cow_bs(bs);
}

BlockDriverState *bdrv_primary_bs(BlockDriverState *bs)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (c->role & BDRV_CHILD_PRIMARY) {
            return c->bs;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    while (bs && bdrv_filter_bs(bs)) {
        bs = bdrv_filter_bs(bs);
    }
    return bs;
}

BlockDriverState *bdrv_skip_implicit_filters(BlockDriverState *bs)
{
    while (bs && bs->implicit && bdrv_filter_bs(bs)) {
        bs = bdrv_filter_bs(bs);
    }
    return bs;
}

BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs)
{
    return bdrv_skip_filters(bdrv_cow_bs(bdrv_skip_filters(bs)));
}

bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base)
{
    while (top && top != base) {
        top = bdrv_filter_or_cow_bs(top);
    }
    return top != NULL;
}

bool bdrv_is_read_only(const BlockDriverState *bs)
{
    return bs->read_only;
}

bool bdrv_is_inserted(BlockDriverState *bs)
{
    return bs && bs->drv;
}

int bdrv_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    memset(info, 0, sizeof(*info));
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (bs->drv->get_info) {
        return bs->drv->get_info(bs, info);
    }
    return bdrv_filter_bs(bs) ? bdrv_get_info(bdrv_filter_bs(bs), info) : -ENOTSUP;
}

void bdrv_refresh_limits(BlockDriverState *bs)
{
    BlockLimits bl = { .request_alignment = 1, .min_mem_alignment = 1, .opt_mem_alignment = 512 };
    BdrvChild *c;

    if (!bs->drv) {
        return;
    }
    LIST_FOREACH(c, &bs->children, next) {
        const BlockLimits *cl = &c->bs->bl;

        if (c->role & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED | BDRV_CHILD_COW)) {
            bl.min_mem_alignment = MAX(bl.min_mem_alignment, cl->min_mem_alignment);
            bl.opt_mem_alignment = MAX(bl.opt_mem_alignment, cl->opt_mem_alignment);
        }
        if (c->role & BDRV_CHILD_FILTERED) {
            bl = *cl;
        } else if (c->role & BDRV_CHILD_DATA) {
            bl.opt_transfer = MAX(bl.opt_transfer, cl->opt_transfer);
        }
    }
    if (bs->drv->refresh_limits) {
        bs->drv->refresh_limits(bs, &bl);
    }
    g_assert(is_power_of_2(bl.request_alignment));
    bs->bl = bl;
}

void bdrv_set_backing_hint(BlockDriverState *bs, const char *file, const char *fmt)
{
    char *f = g_strdup(file), *t = g_strdup(fmt);

    g_free(bs->backing_file);
    g_free(bs->backing_format);
    bs->backing_file = f;
    bs->backing_format = t;
}

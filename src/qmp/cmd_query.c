/* SPDX-License-Identifier: MIT */
/* cmd_query.c: commands that look at nodes. Coroutine, control lock held. */
#include "base/osdep.h"
#include "block/block-backend.h"
#include "block/block_int-global-state.h"
#include "block/blockjob_int.h"
#include "block/dirty-bitmap.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

/* ---- images ---- */

/* What is below an image is told with it, and once more with each image on the way: the square of the length
 * of a chain. All of it for a chain of 200; in longer ones each image shows so many below it that there
 * are no more than this together. `flat` tells all of any chain. */
#define NESTED_IMAGES_MAX (200 * 201 / 2)

/* One reply. */
typedef struct ImageQuery {
    unsigned depth_max;         /* images told below another; 0: flat */
    GHashTable *sizes;          /* BlockDriverState -> int64_t *, asked from the host once */
} ImageQuery;

static BlockDriverState *image_below(BlockDriverState *bs)
{
    BlockDriverState *below = bdrv_cow_bs(bdrv_skip_implicit_filters(bs));

    return below ? bdrv_skip_implicit_filters(below) : NULL;
}

static int64_t coroutine_fn allocated_size(ImageQuery *q, BlockDriverState *bs)
{
    int64_t *n = g_hash_table_lookup(q->sizes, bs);

    if (!n) {
        n = g_new(int64_t, 1);
        *n = bdrv_co_get_allocated_file_size(bs);
        g_hash_table_insert(q->sizes, bs, n);
    }
    return *n;
}

static ImageInfo *coroutine_fn image_info(ImageQuery *q, BlockDriverState *bs, unsigned depth)
{
    ImageInfo *info = g_new0(ImageInfo, 1);
    BlockDriverState *below = depth < q->depth_max ? image_below(bs) : NULL;
    BlockDriverInfo bdi;
    int64_t n = allocated_size(q, bs);

    info->filename = g_strdup(bs->filename);
    info->format = g_strdup(bs->drv->format_name);
    info->virtual_size = bdrv_getlength_cached(bs);
    if (n >= 0) {
        info->has_actual_size = true;
        info->actual_size = n;
    }
    if (bdrv_get_info(bs, &bdi) >= 0) {
        if (bdi.cluster_size) {
            info->has_cluster_size = true;
            info->cluster_size = bdi.cluster_size;
        }
        info->has_encrypted = info->encrypted = bdi.encrypted;
        info->has_dirty_flag = true;
        info->dirty_flag = bdi.is_dirty;
    }
    info->snapshots = qmp_snapshot_infos(bs);
    if (bs->drv->get_specific_info) {
        info->format_specific = bs->drv->get_specific_info(bs, NULL);
    }
    if (bs->backing_file && *bs->backing_file) {
        info->backing_filename = g_strdup(bs->backing_file);
        info->full_backing_filename = g_strdup(bs->auto_backing_file ? bs->auto_backing_file : bs->backing_file);
        info->backing_filename_format = g_strdup(bs->backing_format);
    }
    if (below) {
        info->backing_image = image_info(q, below, depth + 1);
    }
    return info;
}

static void query_begin(ImageQuery *q, bool flat)
{
    q->depth_max = flat ? 0 : UINT_MAX;
    q->sizes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
}

static void query_end(ImageQuery *q)
{
    g_hash_table_destroy(q->sizes);
}

/* How deep may all nodes be told? */
static unsigned depth_for_all(void)
{
    g_autoptr(GArray) at_depth = g_array_new(false, true, sizeof(unsigned));    /* nodes with so many below */
    unsigned nodes = 0, sum = 0, depth = 0;

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        unsigned n = 0;

        for (BlockDriverState *below = bs; (below = image_below(below)); n++) {
        }
        if (n >= at_depth->len) {
            g_array_set_size(at_depth, n + 1);
        }
        g_array_index(at_depth, unsigned, n)++;
        nodes++;
    }
    /* Each step down shows one image more for each node that has one there. */
    for (; depth < at_depth->len; depth++) {
        nodes -= g_array_index(at_depth, unsigned, depth);
        sum += nodes;
        if (!nodes || sum > NESTED_IMAGES_MAX) {
            break;
        }
    }
    return depth;
}

ImageInfo *coroutine_fn qmp_image_info(BlockDriverState *bs, bool flat)
{
    ImageInfo *info;
    ImageQuery q;

    query_begin(&q, flat);
    info = image_info(&q, bs, 0);
    query_end(&q);
    return info;
}

static BlockDeviceInfo *coroutine_fn device_info(ImageQuery *q, BlockDriverState *bs)
{
    BlockDeviceInfo *info = g_new0(BlockDeviceInfo, 1);
    BlockDriverState *below = bdrv_cow_bs(bs);

    info->file = g_strdup(bs->filename);
    info->node_name = g_strdup(bs->node_name);
    info->ro = bs->read_only;
    info->drv = g_strdup(bs->drv->format_name);
    info->active = true;
    info->detect_zeroes = bs->detect_zeroes;
    info->cache = g_new0(BlockdevCacheInfo, 1);
    info->cache->writeback = true;
    info->cache->direct = bs->open_flags & BDRV_O_NOCACHE;
    info->cache->no_flush = bs->open_flags & BDRV_O_NO_FLUSH;
    info->write_threshold = bs->write_threshold_offset;
    info->image = image_info(q, bs, 0);
    info->dirty_bitmaps = bdrv_query_dirty_bitmaps(bs);
    if (below) {
        info->backing_file = g_strdup(bs->backing_file ? bs->backing_file : below->filename);
    }
    for (; below && q->depth_max; below = bdrv_filter_or_cow_bs(below)) {
        info->backing_file_depth++;
    }
    return info;
}

BlockDeviceInfoList *qmp_query_named_block_nodes(bool has_flat, bool flat, Error **errp)
{
    BlockDeviceInfoList *list = NULL, **tail = &list;
    ImageQuery q;

    query_begin(&q, has_flat && flat);
    q.depth_max = q.depth_max ? depth_for_all() : 0;
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        if (bs->drv) {
            *tail = g_new0(BlockDeviceInfoList, 1);
            (*tail)->value = device_info(&q, bs);
            tail = &(*tail)->next;
        }
    }
    query_end(&q);
    return list;
}

BlockInfoList *qmp_query_block(Error **errp)
{
    BlockInfoList *list = NULL, **tail = &list;
    ImageQuery q;

    query_begin(&q, false);
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_name(blk) && *blk_name(blk)) {
            BlockInfo *info = g_new0(BlockInfo, 1);

            info->device = g_strdup(blk_name(blk));
            info->type = g_strdup("unknown");
            if (blk_bs(blk)) {
                info->inserted = device_info(&q, bdrv_skip_implicit_filters(blk_bs(blk)));
            }
            *tail = g_new0(BlockInfoList, 1);
            (*tail)->value = info;
            tail = &(*tail)->next;
        }
    }
    query_end(&q);
    return list;
}

/* ---- statistics ---- */

static BlockStats *node_stats(BlockDriverState *bs, bool blk_level)
{
    BlockStats *s = g_new0(BlockStats, 1);
    BlockDriverState *parent = bdrv_primary_bs(bs), *backing = bdrv_cow_bs(bs);

    s->stats = g_new0(BlockDeviceStats, 1);
    s->stats->wr_highest_offset = bs->wr_highest_offset;
    s->node_name = g_strdup(bs->node_name);
    if (bs->drv && bs->drv->get_specific_stats) {
        s->driver_specific = bs->drv->get_specific_stats(bs);
    }
    if (parent) {
        s->parent = node_stats(parent, blk_level);
    }
    if (blk_level && backing) {
        s->backing = node_stats(backing, blk_level);
    }
    return s;
}

static void add_backend_stats(BlockStats *s, BlockBackend *blk)
{
    BlockAcctStats a;

    blk_get_stats(blk, &a);
    s->stats->rd_bytes = a.bytes[BLOCK_ACCT_READ];
    s->stats->wr_bytes = a.bytes[BLOCK_ACCT_WRITE];
    s->stats->unmap_bytes = a.bytes[BLOCK_ACCT_UNMAP];
    s->stats->rd_operations = a.ops[BLOCK_ACCT_READ];
    s->stats->wr_operations = a.ops[BLOCK_ACCT_WRITE];
    s->stats->flush_operations = a.ops[BLOCK_ACCT_FLUSH];
    s->stats->unmap_operations = a.ops[BLOCK_ACCT_UNMAP];
    s->stats->rd_total_time_ns = a.total_time_ns[BLOCK_ACCT_READ];
    s->stats->wr_total_time_ns = a.total_time_ns[BLOCK_ACCT_WRITE];
    s->stats->flush_total_time_ns = a.total_time_ns[BLOCK_ACCT_FLUSH];
    s->stats->unmap_total_time_ns = a.total_time_ns[BLOCK_ACCT_UNMAP];
    s->stats->failed_rd_operations = a.failed[BLOCK_ACCT_READ];
    s->stats->failed_wr_operations = a.failed[BLOCK_ACCT_WRITE];
    s->stats->failed_flush_operations = a.failed[BLOCK_ACCT_FLUSH];
    s->stats->failed_unmap_operations = a.failed[BLOCK_ACCT_UNMAP];
    s->stats->invalid_rd_operations = a.invalid[BLOCK_ACCT_READ];
    s->stats->invalid_wr_operations = a.invalid[BLOCK_ACCT_WRITE];
    s->stats->invalid_flush_operations = a.invalid[BLOCK_ACCT_FLUSH];
    s->stats->invalid_unmap_operations = a.invalid[BLOCK_ACCT_UNMAP];
}

BlockStatsList *qmp_query_blockstats(bool has_query_nodes, bool query_nodes, Error **errp)
{
    BlockStatsList *list = NULL, **tail = &list;

    if (has_query_nodes && query_nodes) {
        /* Oldest first. */
        for (BlockDriverState *bs = bdrv_next_all_states(NULL); bs; bs = bdrv_next_all_states(bs)) {
            *tail = g_new0(BlockStatsList, 1);
            (*tail)->value = node_stats(bs, false);
            tail = &(*tail)->next;
        }
        return list;
    }
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_name(blk) && *blk_name(blk) && blk_bs(blk)) {
            BlockStats *s = node_stats(bdrv_skip_implicit_filters(blk_bs(blk)), true);

            s->device = g_strdup(blk_name(blk));
            add_backend_stats(s, blk);
            *tail = g_new0(BlockStatsList, 1);
            (*tail)->value = s;
            tail = &(*tail)->next;
        }
    }
    return list;
}

/* ---- the graph ---- */

typedef struct GraphDump {
    XDbgBlockGraph *graph;
    GHashTable *ids;
} GraphDump;

static uint64_t graph_id(GraphDump *d, void *obj)
{
    guint id = GPOINTER_TO_UINT(g_hash_table_lookup(d->ids, obj));

    if (!id) {
        id = g_hash_table_size(d->ids) + 1;
        g_hash_table_insert(d->ids, obj, GUINT_TO_POINTER(id));
    }
    return id;
}

/* Lists grow at the head: what the peer shows is newest first. */
static void graph_node(GraphDump *d, void *obj, XDbgBlockGraphNodeType type, const char *name)
{
    XDbgBlockGraphNodeList *e = g_new0(XDbgBlockGraphNodeList, 1);

    e->value = g_new0(XDbgBlockGraphNode, 1);
    e->value->id = graph_id(d, obj);
    e->value->type = type;
    e->value->name = g_strdup(name);
    e->next = d->graph->nodes;
    d->graph->nodes = e;
}

static BlockPermissionList *graph_perms(uint64_t perm)
{
    BlockPermissionList *list = NULL;

    for (int i = 0; i < BLOCK_PERMISSION__MAX; i++) {
        if (perm & (1u << i)) {
            BlockPermissionList *e = g_new0(BlockPermissionList, 1);

            e->value = i;
            e->next = list;
            list = e;
        }
    }
    return list;
}

static void graph_edge(GraphDump *d, void *parent, BdrvChild *c)
{
    XDbgBlockGraphEdgeList *e = g_new0(XDbgBlockGraphEdgeList, 1);

    e->value = g_new0(XDbgBlockGraphEdge, 1);
    e->value->parent = graph_id(d, parent);
    e->value->child = graph_id(d, c->bs);
    e->value->name = g_strdup(c->name);
    e->value->perm = graph_perms(c->perm);
    e->value->shared_perm = graph_perms(c->shared_perm);
    e->next = d->graph->edges;
    d->graph->edges = e;
}

XDbgBlockGraph *qmp_x_debug_query_block_graph(Error **errp)
{
    GraphDump d = { g_new0(XDbgBlockGraph, 1), g_hash_table_new(NULL, NULL) };
    BdrvChild *c;

    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        graph_node(&d, blk, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_BACKEND, blk_name(blk) ? blk_name(blk) : "");
        if (blk_root(blk)) {
            graph_edge(&d, blk, blk_root(blk));
        }
    }
    for (BlockJob *job = block_job_next(NULL); job; job = block_job_next(job)) {
        if (!block_job_is_block(job)) {
            continue;
        }
        graph_node(&d, job, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_JOB, job->id ? job->id : "");
        for (GSList *l = job->nodes; l; l = l->next) {
            graph_edge(&d, job, l->data);
        }
    }
    for (BlockDriverState *bs = bdrv_next_all_states(NULL); bs; bs = bdrv_next_all_states(bs)) {
        graph_node(&d, bs, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER, bs->node_name);
        LIST_FOREACH(c, &bs->children, next) {
            graph_edge(&d, bs, c);
        }
    }
    g_hash_table_destroy(d.ids);
    return d.graph;
}

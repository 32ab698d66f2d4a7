/* SPDX-License-Identifier: MIT */
/* ops_info.c: what is known of an image and of the nodes it is made of. */
#include "ops/ops.h"
#include "block/dirty-bitmap.h"
#include "graph/filename.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

static int child_order(const void *a, const void *b)
{
    return strcmp((*(BdrvChild *const *)a)->name, (*(BdrvChild *const *)b)->name);
}

bool ops_stores_bitmaps(BlockDriverState *bs)
{
    ImageInfoSpecific *info = bs->drv->get_specific_info ? bs->drv->get_specific_info(bs, NULL) : NULL;
    bool can = info && info->type == IMAGE_INFO_SPECIFIC_KIND_QCOW2 && strcmp(info->u.qcow2.data->compat, "0.10");

    qapi_free(&qapi_type_ImageInfoSpecific, info);
    return can;
}

BlockGraphInfo *coroutine_fn ops_graph_info(BlockDriverState *bs)
{
    ImageInfo *flat = qmp_image_info(bs, true);
    g_autoptr(QDict) json = qapi_to_json(&qapi_type_ImageInfo, flat);
    g_autoptr(QDict) none = qlist_new();
    g_autoptr(GPtrArray) children = g_ptr_array_new();
    BlockGraphInfo *info;
    BdrvChild *c;

    qapi_free(&qapi_type_ImageInfo, flat);
    /* Nobody has looked for it yet, if the image was opened alone. */
    if (bs->backing_file && *bs->backing_file && !bs->auto_backing_file) {
        g_autofree char *path = path_combine(bs->exact_filename, bs->backing_file);

        qdict_put_str(json, "full-backing-filename", path);
    }
    qdict_put_obj(json, "children", qdict_ref(none));
    info = qapi_from_json(&qapi_type_BlockGraphInfo, json, false, &error_abort);
    LIST_FOREACH(c, &bs->children, next) {
        if (!(c->role & BDRV_CHILD_COW)) {
            g_ptr_array_add(children, c);
        }
    }
    if (children->len) {
        qsort(children->pdata, children->len, sizeof(void *), child_order);
    }
    for (guint i = children->len; i-- > 0;) {
        BlockChildInfoList *e = g_new0(BlockChildInfoList, 1);

        c = g_ptr_array_index(children, i);
        e->value = g_new0(BlockChildInfo, 1);
        e->value->name = g_strdup(c->name);
        e->value->info = ops_graph_info(c->bs);
        e->next = info->children;
        info->children = e;
    }
    return info;
}

/* Sizes are those of the format: an entry of the directory has 24 bytes and a name, padded; a table a word for
 * each cluster of bits. */
uint64_t ops_measure_bitmaps(BlockDriverState *bs, uint64_t cluster_size)
{
    uint64_t directory = 0, clusters = 0;

    bs = bdrv_skip_filters(bs);
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_get_persistence(b) && !bdrv_dirty_bitmap_inconsistent(b)) {
            uint64_t bits = DIV_ROUND_UP((uint64_t)bdrv_getlength_cached(bs), bdrv_dirty_bitmap_granularity(b));
            uint64_t data = DIV_ROUND_UP(bits, cluster_size * 8);

            clusters += data + DIV_ROUND_UP(data * 8, cluster_size);
            directory += ROUND_UP(24 + strlen(bdrv_dirty_bitmap_name(b)), 8);
        }
    }
    return (clusters + DIV_ROUND_UP(directory, cluster_size)) * cluster_size;
}

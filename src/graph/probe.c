/* SPDX-License-Identifier: MIT */
/* probe.c: see probe.h. */
#include "base/osdep.h"
#include "graph/probe.h"

#define PROBE_BYTES 2048

const BlockDriver *graph_probe_buffer(const uint8_t *buf, size_t len, const char *filename)
{
    const BlockDriver *best = bdrv_find_format("raw"), *drv = NULL;
    int best_score = 1;

    while ((drv = bdrv_next_driver(drv))) {
        int score = drv->probe ? drv->probe(buf, len, filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = drv;
        }
    }
    return best;
}

const BlockDriver *coroutine_fn graph_co_probe(BlockDriverState *bs, Error **errp)
{
    g_autofree uint8_t *buf = g_malloc0(PROBE_BYTES);
    /* Not in the node's list of parents: the node is new, or only looked at. */
    BdrvChild c = { .bs = bs, .name = (char *)"probe", .klass = &child_of_bds };
    int64_t length = bdrv_co_getlength(bs), n = MIN(length, PROBE_BYTES);
    int ret;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get image size");
        return NULL;
    }
    ret = n ? bdrv_co_pread(&c, 0, n, buf, 0) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read image for determining its format");
        return NULL;
    }
    return graph_probe_buffer(buf, n, bs->filename);
}

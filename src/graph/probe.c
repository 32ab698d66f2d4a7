/* SPDX-License-Identifier: MIT */
/* probe.c: see probe.h. */
#include "graph/graph_private.h"
#include "graph/probe.h"

#define PROBE_BYTES 2048

const BlockDriver *probe_buffer(const uint8_t *buf, size_t len, const char *filename)
{
    const BlockDriver *best = bdrv_find_format("raw");
    int best_score = 1;

    for (const BlockDriver *drv = NULL; (drv = bdrv_next_driver(drv));) {
        int score = drv->probe ? drv->probe(buf, len, filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = drv;
        }
    }
    return best;
}

const BlockDriver *coroutine_fn probe_co_node(BlockDriverState *bs, Error **errp)
{
    uint8_t buf[PROBE_BYTES] = { 0 };
    BdrvChild c = { .bs = bs, .name = (char *)"probe", .klass = &child_of_bds, .perm = BLK_PERM_CONSISTENT_READ };
    int64_t length = bdrv_co_getlength(bs), n;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the length of '%s'", bs->filename);
        return NULL;
    }
    n = MIN(length, PROBE_BYTES);
    if (n) {
        int ret = bdrv_co_pread(&c, 0, n, buf, 0);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read image for determining its format");
            return NULL;
        }
    }
    return probe_buffer(buf, n, bs->filename);
}

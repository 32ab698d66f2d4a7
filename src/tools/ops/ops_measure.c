/* SPDX-License-Identifier: MIT */
/* ops_measure.c: how large the file of a new image gets. */
#include "ops/ops.h"

#define L1_BYTES_MAX    (32 * MiB)

/* Clusters of the refcount blocks and of their table, for a file of @others clusters besides them. */
static uint64_t refcount_clusters(const OpsMeasure *m, uint64_t others)
{
    uint64_t per_block = m->cluster_size * 8 / m->refcount_bits;
    uint64_t per_table_cluster = m->cluster_size / 8;
    uint64_t blocks = 0, table = 0, total = others, before;

    /* They count themselves. */
    do {
        before = total;
        blocks = DIV_ROUND_UP(total, per_block);
        table = DIV_ROUND_UP(blocks, per_table_cluster);
        total = others + blocks + table;
    } while (total != before);
    return blocks + table;
}

static int metadata_bytes(const OpsMeasure *m, uint64_t size, uint64_t *bytes, Error **errp)
{
    uint64_t clusters = size / m->cluster_size, header = DIV_ROUND_UP(m->header_bytes, m->cluster_size);
    uint64_t per_l2 = m->cluster_size / (m->extended_l2 ? 16 : 8);
    uint64_t l2 = DIV_ROUND_UP(clusters, per_l2);
    uint64_t l1 = DIV_ROUND_UP(l2 * 8, m->cluster_size);

    if (l2 * 8 > L1_BYTES_MAX) {
        error_setg(errp, "The image size is too large (try using a larger cluster size)");
        return -EFBIG;
    }
    uint64_t tables = 1 + l1 + l2;

    *bytes = (tables + refcount_clusters(m, tables + clusters) + header) * m->cluster_size;
    return 0;
}

/* Bytes of whole clusters in which @m->source has something other than zeroes. */
static int coroutine_fn source_bytes(const OpsMeasure *m, uint64_t *bytes, Error **errp)
{
    int64_t length = blk_co_getlength(m->source), end = 0, n;

    *bytes = 0;
    for (int64_t at = 0; at < length; at += n) {
        int ret = blk_co_block_status_above(m->source, NULL, at, length - at, &n, NULL, NULL);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Unable to get block status");
            return ret;
        }
        if (!(ret & BDRV_BLOCK_ZERO) && (ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED))) {
            int64_t from = MAX(QEMU_ALIGN_DOWN(at, (int64_t)m->cluster_size), end);

            end = MAX(ROUND_UP(at + n, (int64_t)m->cluster_size), end);
            *bytes += end - from;
        }
    }
    return 0;
}

int coroutine_fn ops_measure(OpsMeasure *m, Error **errp)
{
    uint64_t size, data = 0, metadata;
    int ret;

    if (!m->qcow2) {
        m->required = m->fully_allocated = m->header_bytes + (m->header_bytes ? m->size
                                                                              : ROUND_UP(m->size, BDRV_SECTOR_SIZE));
        return 0;
    }
    size = ROUND_UP(m->size, m->cluster_size);
    ret = metadata_bytes(m, size, &metadata, errp);
    if (ret == 0 && m->source) {
        ret = source_bytes(m, &data, errp);
    }
    if (ret < 0) {
        return ret;
    }
    m->fully_allocated = metadata + size;
    m->required = m->allocate_all ? m->fully_allocated : metadata + data;
    return 0;
}

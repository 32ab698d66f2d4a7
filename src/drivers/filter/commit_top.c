/* SPDX-License-Identifier: MIT */
/* commit_top.c: stands above the base of a commit while it is written to.
 *
 * What is written to the base in a commit is hidden by the images above it, so to those it does not
 * change: they go on asking the filter for consistent data, and the filter asks nothing of the base,
 * which therefore may have a writer.
 */
#include "block/block.h"
#include "drivers/drivers.h"

static void commit_top_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                                  uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = 0;
    *nshared = BLK_PERM_ALL;
}

const BlockDriver bdrv_commit_top = {
    .format_name        = "commit_top",
    .kind               = BLOCK_DRIVER_FILTER,
    .schema_driver      = BLOCKDEV_DRIVER__MAX,
    .child_perm         = commit_top_child_perm,
};

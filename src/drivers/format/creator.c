/* SPDX-License-Identifier: MIT */
/* creator.c: see creator.h. */
#include "block/block_int-global-state.h"
#include "block/qapi-visit.h"
#include "drivers/format/creator.h"

static char *creator_desc(BdrvChild *child)
{
    return g_strdup("the creation of an image");
}

static const BdrvChildClass creator_class = {
    .get_parent_desc = creator_desc,
};

BdrvChild *creator_attach(BlockDriverState *bs, Error **errp)
{
    return bdrv_root_attach_child(bs, "create", &creator_class, BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY,
                                  BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                  BLK_PERM_ALL, NULL, errp);
}

BlockDriverState *coroutine_fn creator_co_open(const BlockdevRef *ref, Error **errp)
{
    if (ref->type == QTYPE_QDICT) {
        return bdrv_open(NULL, NULL, qapi_to_json(&qapi_type_BlockdevOptions, ref->u.definition),
                         BDRV_O_RDWR | BDRV_O_RESIZE, errp);
    }
    return bdrv_open(NULL, ref->u.reference, NULL, BDRV_O_RDWR | BDRV_O_RESIZE, errp);
}

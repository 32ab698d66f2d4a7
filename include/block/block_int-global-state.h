/* SPDX-License-Identifier: MIT */
/* block_int-global-state.h: the global-state API of the block layer: jobs, edges
 * and permissions, context notifiers.
 *
 * All functions: main thread (GS). Those that change the graph drain what they
 * touch and so may suspend (in a coroutine) or run the main loop (outside).
 * Names and argument order are those of the field's reference header.
 */
#ifndef LIVEBLK_BLOCK_INT_GLOBAL_STATE_H
#define LIVEBLK_BLOCK_INT_GLOBAL_STATE_H

#include "block/block.h"

/* What becomes of a mirror target's backing chain when the job completes. */
typedef enum BlockMirrorBackingMode {
    MIRROR_SOURCE_BACKING_CHAIN,    /* take over the source's chain (sync top, none) */
    MIRROR_OPEN_BACKING_CHAIN,      /* open what the target's header names */
    MIRROR_LEAVE_BACKING_CHAIN,     /* as the user attached it */
} BlockMirrorBackingMode;

/* Copy @bs to @target while it is written; when ready and completed, @bs's parents
 * (or those of the node named @replaces) use @target.
 * @job_id: NULL: the device name of @bs. @creation_flags: BlockJobCreateFlags.
 * @speed: bytes a second, 0 unlimited. @granularity: of the dirty bitmap, bytes, power of
 * two, 0: chosen. @buf_size: most bytes in flight, 0: chosen. @mode: full, top, none.
 * @zero_target: the target must be zeroed first. @unmap: zeroes may become holes.
 * @filter_node_name: NULL: generated, the filter is implicit then.
 * On failure *errp is set and nothing has changed. */
LIVEBLK_PUBLIC void mirror_start(const char *job_id, BlockDriverState *bs,
                                 BlockDriverState *target, const char *replaces,
                                 int creation_flags, int64_t speed,
                                 uint32_t granularity, int64_t buf_size,
                                 MirrorSyncMode mode, BlockMirrorBackingMode backing_mode,
                                 bool zero_target,
                                 BlockdevOnError on_source_error,
                                 BlockdevOnError on_target_error,
                                 bool unmap, const char *filter_node_name,
                                 MirrorCopyMode copy_mode, Error **errp);

/* Attach a parent that is not a node (BlockBackend, job) to @child_bs. Takes over one
 * reference to @child_bs, also on failure (NULL). */
LIVEBLK_PUBLIC BdrvChild *bdrv_root_attach_child(BlockDriverState *child_bs,
                                                 const char *child_name,
                                                 const BdrvChildClass *child_class,
                                                 BdrvChildRole child_role,
                                                 uint64_t perm, uint64_t shared_perm,
                                                 void *opaque, Error **errp);
/* Detach it, and drop the reference. */
LIVEBLK_PUBLIC void bdrv_root_unref_child(BdrvChild *child);

/* Union of what the parents of @bs need, intersection of what they share. */
LIVEBLK_PUBLIC void bdrv_get_cumulative_perm(BlockDriverState *bs, uint64_t *perm, uint64_t *shared_perm);
/* Set the permissions of an edge whose parent is not a node. 0 or -errno (-EPERM on
 * conflict; nothing has changed then). */
LIVEBLK_PUBLIC int bdrv_child_try_set_perm(BdrvChild *c, uint64_t perm, uint64_t shared, Error **errp);
/* Ask the driver of @bs again what it needs of @c, and apply it. */
LIVEBLK_PUBLIC int bdrv_child_refresh_perms(BlockDriverState *bs, BdrvChild *c, Error **errp);
/* Does @to_replace show the same data as @bs by construction? */
LIVEBLK_PUBLIC bool bdrv_recurse_can_replace(BlockDriverState *bs, BlockDriverState *to_replace);
/* BlockDriver.child_perm for filters and formats that set fitting roles. */
LIVEBLK_PUBLIC void bdrv_default_perms(BlockDriverState *bs, BdrvChild *c,
                                       BdrvChildRole role, BlockReopenQueue *reopen_queue,
                                       uint64_t perm, uint64_t shared,
                                       uint64_t *nperm, uint64_t *nshared);

/* The control interface now holds the caller's reference to @bs. */
LIVEBLK_PUBLIC void bdrv_set_monitor_owned(BlockDriverState *bs);
/* Drop all such references (shutdown). */
LIVEBLK_PUBLIC void blockdev_close_all_bdrv_states(void);
/* Open a tree from blockdev options, owned by the call. A new reference, or NULL. */
LIVEBLK_PUBLIC BlockDriverState *bds_tree_init(QDict *bs_opts, Error **errp);

/* ---- dirty bitmaps, by name ---- */

/* The bitmap @name of the node or device @node; *pbs (may be NULL): that node. */
LIVEBLK_PUBLIC BdrvDirtyBitmap *block_dirty_bitmap_lookup(const char *node, const char *name,
                                                          BlockDriverState **pbs, Error **errp);
/* Mark in bitmap @target of @node what any of @bms marks (names without a node: of @node);
 * granularities may differ. All or nothing: NULL and *errp, and nothing has changed, if one is not
 * there, in use, or of another size. *backup (may be NULL): what @target was before, for
 * bdrv_restore_dirty_bitmap() or hbitmap_free(). */
LIVEBLK_PUBLIC BdrvDirtyBitmap *block_dirty_bitmap_merge(const char *node, const char *target,
                                                         BlockDirtyBitmapMergeSourceList *bms,
                                                         HBitmap **backup, Error **errp);
/* Undo a merge or a clear: @bitmap is @backup (taken over) again. The node has been drained since:
 * a write in between would be forgotten. */
LIVEBLK_PUBLIC void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup);
/* Find @name of @node and see that it may be removed. @release: remove it, and return NULL; else
 * return it, for bdrv_release_dirty_bitmap() later (in a transaction). NULL and *errp: it may not.
 * *bitmap_bs (may be NULL): its node. May suspend with @release. */
LIVEBLK_PUBLIC BdrvDirtyBitmap *block_dirty_bitmap_remove(const char *node, const char *name, bool release,
                                                          BlockDriverState **bitmap_bs, Error **errp);

/* Down over filters that a job inserted without a user-given name. */
LIVEBLK_PUBLIC BlockDriverState *bdrv_skip_implicit_filters(BlockDriverState *bs);

/* Tell a long-running user when @bs leaves its context (before) and has come to a new
 * one (after). Remove takes the same pointers. */
LIVEBLK_PUBLIC void bdrv_add_aio_context_notifier(BlockDriverState *bs,
        void (*attached_aio_context)(AioContext *new_context, void *opaque),
        void (*detach_aio_context)(void *opaque), void *opaque);
LIVEBLK_PUBLIC void bdrv_remove_aio_context_notifier(BlockDriverState *bs,
        void (*aio_context_attached)(AioContext *, void *),
        void (*aio_context_detached)(void *), void *opaque);

/* For the closing of @bs inside a bdrv_drain_all section, and for nothing else: end
 * the quiescing that the section began on it. */
LIVEBLK_PUBLIC void bdrv_drain_all_end_quiesce(BlockDriverState *bs);

/* The graph around @bs may be changed now: this is the main thread and @bs is drained. */
static inline void assert_bdrv_graph_writable(BlockDriverState *bs)
{
    g_assert(qemu_in_main_thread());
    g_assert(__atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0);
}

#endif

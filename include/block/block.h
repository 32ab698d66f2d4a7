/* SPDX-License-Identifier: MIT */
/* block.h: open, find, connect, drain and read or write block nodes.
 *
 * GS functions: main thread. Those that may wait suspend in a coroutine, and run
 * the main loop when called outside one (programs and tests only).
 * co functions: coroutine, any thread, the caller counted on the node (through a
 * BlockBackend, or a parent's request, or bdrv_inc_in_flight).
 */
#ifndef LIVEBLK_BLOCK_BLOCK_H
#define LIVEBLK_BLOCK_BLOCK_H

#include "block/block-common.h"

/* ---- start and end ---- */
/* Register all drivers. After aio_init_main(), once. GS */
LIVEBLK_PUBLIC void bdrv_init(void);

/* The control lock: every change of the graph, the jobs or the exports that can
 * suspend half way runs under it, so that such changes come one at a time: QMP
 * commands (in-band), the end of jobs, library calls. Recursive for the coroutine
 * that holds it. Outside coroutines it is not needed (nothing else runs), and only
 * waited for. GS */
LIVEBLK_PUBLIC void coroutine_fn control_co_lock(void);
LIVEBLK_PUBLIC void coroutine_fn control_co_unlock(void);
LIVEBLK_PUBLIC bool control_is_locked_by_me(void);

/* ---- opening; GS, may suspend ---- */
/* Open the tree that @options (owned by the call; nested or dotted keys, typed values) describes,
 * or what @filename names (plain, "driver:...", "json:{...}") , or the node that
 * @reference names. At least one is given. No "driver": the format is probed.
 * Returns a new reference. */
LIVEBLK_PUBLIC BlockDriverState *bdrv_open(const char *filename, const char *reference,
                                           QDict *options, int flags, Error **errp);
/* A node for an internal driver (filters of jobs): no options; @node_name NULL: generated.
 * The driver's co_open is called with opts NULL; attach children afterwards. */
LIVEBLK_PUBLIC BlockDriverState *bdrv_new_open_driver(const BlockDriver *drv, const char *node_name,
                                                      int flags, Error **errp);
/* For co_open: open and attach the child that @ref describes. */
LIVEBLK_PUBLIC BdrvChild *coroutine_fn bdrv_co_open_child(BlockDriverState *parent, const BlockdevRef *ref,
                                                          const char *name, BdrvChildRole role, Error **errp);
/* The same for a file that @bs's header names: a protocol's name, relative to where @bs lies. */
LIVEBLK_PUBLIC BdrvChild *coroutine_fn bdrv_co_open_child_named(BlockDriverState *parent, const char *filename,
                                                                const char *name, BdrvChildRole role,
                                                                Error **errp);
/* For co_open of formats: the header names this backing file; opened after co_open
 * returned unless options or flags say otherwise. Copies. */
LIVEBLK_PUBLIC void bdrv_set_backing_hint(BlockDriverState *bs, const char *file, const char *fmt);
LIVEBLK_PUBLIC void bdrv_ref(BlockDriverState *bs);
LIVEBLK_PUBLIC void bdrv_unref(BlockDriverState *bs);   /* the last one closes: may suspend */
/* Reopen several nodes with new options, all or none. @options: complete as for opening, with
 * "driver"; each owned by the call. What they leave out takes its default. */
typedef struct BdrvReopenItem { BlockDriverState *bs; QDict *options; } BdrvReopenItem;
LIVEBLK_PUBLIC int bdrv_reopen_multiple(BdrvReopenItem *items, int n, Error **errp);
/* Only the read-only state changes. */
LIVEBLK_PUBLIC int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only, Error **errp);

/* ---- finding; GS ---- */
LIVEBLK_PUBLIC BlockDriverState *bdrv_find_node(const char *node_name);
/* By device (BlockBackend) or node name; either may be NULL. The peer's error texts. */
LIVEBLK_PUBLIC BlockDriverState *bdrv_lookup_bs(const char *device, const char *node_name, Error **errp);
LIVEBLK_PUBLIC BlockDriverState *bdrv_next_node(BlockDriverState *bs);             /* named nodes, newest first; NULL: first */
LIVEBLK_PUBLIC BlockDriverState *bdrv_next_monitor_owned(BlockDriverState *bs);
LIVEBLK_PUBLIC const BlockDriver *bdrv_find_format(const char *format_name);
LIVEBLK_PUBLIC const BlockDriver *bdrv_next_driver(const BlockDriver *drv);
LIVEBLK_PUBLIC const char *bdrv_get_node_name(const BlockDriverState *bs);
LIVEBLK_PUBLIC const char *bdrv_get_device_name(const BlockDriverState *bs);      /* "" if none */
LIVEBLK_PUBLIC const char *bdrv_get_device_or_node_name(const BlockDriverState *bs);
/* The backend layer tells how devices are found by name, and named. */
void bdrv_set_device_lookup(BlockDriverState *(*by_name)(const char *name),
                            const char *(*name_of)(const BlockDriverState *bs));
LIVEBLK_PUBLIC BlockDriverState *bdrv_next_all_states(BlockDriverState *bs);       /* all nodes, oldest name first; NULL: first */
/* Take back what bdrv_set_monitor_owned() gave: drops the reference. */
LIVEBLK_PUBLIC void bdrv_release_monitor(BlockDriverState *bs);
LIVEBLK_PUBLIC BlockDriverState *bdrv_filter_bs(BlockDriverState *bs);    /* FILTERED child's node */
LIVEBLK_PUBLIC BlockDriverState *bdrv_cow_bs(BlockDriverState *bs);       /* backing, of a non-filter */
LIVEBLK_PUBLIC BlockDriverState *bdrv_filter_or_cow_bs(BlockDriverState *bs);
LIVEBLK_PUBLIC BlockDriverState *bdrv_primary_bs(BlockDriverState *bs);
/* Where a guest of @bs is: the topmost filter that jobs have put on it, or @bs. Who comes while a job runs and is to
 * write has to come there: the job knows only of what passes its filter. */
LIVEBLK_PUBLIC BlockDriverState *bdrv_guest_node(BlockDriverState *bs);
LIVEBLK_PUBLIC BlockDriverState *bdrv_skip_filters(BlockDriverState *bs);
LIVEBLK_PUBLIC BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs);   /* below filters */
LIVEBLK_PUBLIC bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base);
LIVEBLK_PUBLIC bool bdrv_is_read_only(const BlockDriverState *bs);
LIVEBLK_PUBLIC bool bdrv_is_inserted(BlockDriverState *bs);
LIVEBLK_PUBLIC int bdrv_get_info(BlockDriverState *bs, BlockDriverInfo *info);
LIVEBLK_PUBLIC void bdrv_refresh_filename(BlockDriverState *bs);
LIVEBLK_PUBLIC void bdrv_refresh_limits(BlockDriverState *bs);

/* ---- connecting; GS, may suspend: they drain what they touch ---- */
LIVEBLK_PUBLIC BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child_bs,
                                            const char *name, BdrvChildRole role, Error **errp);
LIVEBLK_PUBLIC void bdrv_unref_child(BlockDriverState *parent, BdrvChild *child);
/* All parents of @from (but those that stay) become parents of @to. */
LIVEBLK_PUBLIC int bdrv_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp);
/* @bs_new, childless filter or overlay, goes between @bs_top and its parents; takes @bs_top as
 * its FILTERED/backing child. One transaction. */
LIVEBLK_PUBLIC int bdrv_append(BlockDriverState *bs_new, BlockDriverState *bs_top, Error **errp);
/* Take filter @bs out: its parents get its child. */
LIVEBLK_PUBLIC int bdrv_drop_filter(BlockDriverState *bs, Error **errp);
LIVEBLK_PUBLIC int bdrv_replace_child_bs(BdrvChild *child, BlockDriverState *new_bs, Error **errp);
/* Open the backing chain that @bs's options or its header name, though @bs was opened without.
 * 0, also where none is named, or -errno. */
LIVEBLK_PUBLIC int bdrv_open_backing_file(BlockDriverState *bs, Error **errp);
LIVEBLK_PUBLIC int bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing, Error **errp);
LIVEBLK_PUBLIC int bdrv_change_backing_file(BlockDriverState *bs, const char *backing_file,
                                            const char *backing_fmt, Error **errp);
LIVEBLK_PUBLIC AioContext *bdrv_get_aio_context(BlockDriverState *bs);
LIVEBLK_PUBLIC int bdrv_try_change_aio_context(BlockDriverState *bs, AioContext *ctx,
                                               BdrvChild *ignore_child, Error **errp);

/* ---- drain; GS; begin may suspend ---- */
LIVEBLK_PUBLIC void bdrv_drained_begin(BlockDriverState *bs);
LIVEBLK_PUBLIC void bdrv_drained_end(BlockDriverState *bs);
LIVEBLK_PUBLIC void bdrv_drain(BlockDriverState *bs);       /* begin and end */
/* The same, for commands that drain @bs later: -ETIMEDOUT if its requests do not end, after a while in which nothing
 * has moved. */
LIVEBLK_PUBLIC int bdrv_try_drain(BlockDriverState *bs, Error **errp);
LIVEBLK_PUBLIC void bdrv_drain_all_begin(void);
LIVEBLK_PUBLIC void bdrv_drain_all_end(void);
LIVEBLK_PUBLIC void bdrv_drain_all(void);
/* Begin without waiting: parents stop sending; the caller waits later, for several at once. */
LIVEBLK_PUBLIC void bdrv_drained_begin_no_poll(BlockDriverState *bs);
/* Is anything still in flight at @bs or on its way from its parents? */
LIVEBLK_PUBLIC bool bdrv_drain_poll(BlockDriverState *bs);

/* Count oneself on a node; any thread. dec wakes a drain that waits. */
static inline void bdrv_inc_in_flight(BlockDriverState *bs);
LIVEBLK_PUBLIC void bdrv_dec_in_flight(BlockDriverState *bs);

/* ---- requests; co, any thread. 0 or -errno ---- */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes,
                                               QEMUIOVector *qiov, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_preadv_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                                    QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                                QEMUIOVector *qiov, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pwritev_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
/* Read, and keep in @child's node what it has not itself: of the layers below down to and including @bottom (NULL:
 * of all). PREFETCH (@qiov may be NULL): only that; then it fails if it cannot. For filters, whose edge needs
 * WRITE_UNCHANGED. */
int coroutine_fn bdrv_co_preadv_copy(BdrvChild *child, BlockDriverState *bottom, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pwrite_sync(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes, BdrvRequestFlags flags);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_flush(BlockDriverState *bs);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t offset, bool exact,
                                                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset,
                                                   int64_t bytes, BdrvRequestFlags read_flags, BdrvRequestFlags write_flags);
LIVEBLK_PUBLIC int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs);
LIVEBLK_PUBLIC int64_t coroutine_fn bdrv_co_get_allocated_file_size(BlockDriverState *bs);
/* The saved state of a machine, in the format at or below @bs; @pos and length: multiples of 512. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_load_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_save_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
/* Last known length, bytes; any context, never suspends. */
LIVEBLK_PUBLIC int64_t bdrv_getlength_cached(BlockDriverState *bs);

/* Status of the extent at @offset seen through the chain down to @base (exclusive;
 * NULL: all). Returns BDRV_BLOCK_* bits or -errno; *pnum > 0 unless at the end of the
 * node; *map and *file are valid with OFFSET_VALID. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                                           int64_t offset, int64_t bytes, int64_t *pnum,
                                                           int64_t *map, BlockDriverState **file);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                     int64_t *pnum, int64_t *map, BlockDriverState **file);
/* 1: allocated in a layer above @base (including @base with @include_base), 0: not,
 * or -errno. *depth (may be NULL): layers down, 1 = @top. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_is_allocated_above(BlockDriverState *top, BlockDriverState *base,
                                                           bool include_base, int64_t offset, int64_t bytes,
                                                           int64_t *pnum, int *depth);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);
/* 1 if the range reads as zeroes for certain (by metadata), 0 if not known, or -errno. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_is_zero_fast(BlockDriverState *bs, int64_t offset, int64_t bytes);

/* Check the image of @bs; see BlockDriver.co_check. Drains @bs meanwhile. Main thread. @fix needs a node that
 * is open for writing, with BDRV_O_CHECK if it is marked corrupt. -ENOTSUP: the format has no check. */
/* Forget all that is allocated in @bs itself, durably. -ENOTSUP: its format cannot. GS, co */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_make_empty(BlockDriverState *bs);
/* Change what the image of @bs is: format version, widths, size. Drains @bs meanwhile; a crash leaves some of the
 * changes done, each complete. -ENOTSUP: the format has nothing that can be changed. GS, co */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_amend(BlockDriverState *bs, const BdrvAmendOptions *options, Error **errp);
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix);

/* Memory for I/O, aligned for @bs and its children; free with qemu_vfree. try: NULL on failure. */
LIVEBLK_PUBLIC void *qemu_blockalign(BlockDriverState *bs, size_t size);
LIVEBLK_PUBLIC void *qemu_try_blockalign(BlockDriverState *bs, size_t size);
LIVEBLK_PUBLIC void qemu_vfree(void *ptr);

/* Observers of writes (dirty bitmaps, jobs); GS, @bs drained by the callee. */
struct BdrvWriteObserver;
LIVEBLK_PUBLIC void bdrv_add_write_observer(BlockDriverState *bs, struct BdrvWriteObserver *obs);
LIVEBLK_PUBLIC void bdrv_remove_write_observer(BlockDriverState *bs, struct BdrvWriteObserver *obs);
/* Event BLOCK_WRITE_THRESHOLD when a write first passes @offset; 0: off. Any thread. */
LIVEBLK_PUBLIC void bdrv_write_threshold_set(BlockDriverState *bs, uint64_t offset);

/* ---- stopping requests at named events, for tests. GS; the first node from @bs on down the primary
 * children that knows breakpoints (blkdebug); none: -ENOTSUP ---- */
/* The next request at which @event is raised is suspended, by the name of @tag. -ENOENT: no such event. */
LIVEBLK_PUBLIC int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag);
/* Forget it, and let go on whatever is suspended by that name. -ENOENT: there is neither. */
LIVEBLK_PUBLIC int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag);
/* Let one suspended request go on (@tag NULL: any). -ENOENT: there is none. */
LIVEBLK_PUBLIC int bdrv_debug_resume(BlockDriverState *bs, const char *tag);
LIVEBLK_PUBLIC bool bdrv_debug_is_suspended(BlockDriverState *bs, const char *tag);

#include "block/block_int-common.h"

/* Blkdebug nodes that there are; atomic. Kept by their driver. */
extern unsigned bdrv_debug_nodes;
void bdrv_debug_nodes_add(int n);
void coroutine_fn bdrv_co_debug_event_slow(BlockDriverState *bs, BlkdebugEvent event);

static inline bool bdrv_debug_nodes_exist(void)
{
    return __builtin_expect(__atomic_load_n(&bdrv_debug_nodes, __ATOMIC_RELAXED) != 0, 0);
}

/* @event is about to happen at @bs. co, any thread, counted on @bs. May suspend where somebody set a
 * breakpoint: no plain lock may be held. */
static inline void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    if (bdrv_debug_nodes_exist()) {
        bdrv_co_debug_event_slow(bs, event);
    }
}

static inline void bdrv_inc_in_flight(BlockDriverState *bs)
{
    __atomic_fetch_add(&bs->in_flight, 1, __ATOMIC_SEQ_CST);
}

#endif

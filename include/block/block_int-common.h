/* SPDX-License-Identifier: MIT */
/* block_int-common.h: nodes, edges and the driver table, for drivers, filters,
 * jobs and exports.
 *
 * Threads. Everything here is changed by the main thread only ("GS"), on drained
 * nodes, except the fields marked atomic or with their own lock.
 *
 * THE READ LOCK OF THE GRAPH IS bs->in_flight. While a request (or anyone who
 * called bdrv_inc_in_flight) is counted on a node, that node cannot be
 * drained; while a node is not drained, none of its edges change. So code in any
 * thread may follow edges downward from a node on which it is counted, without any
 * lock; every level counts itself before it goes on. A graph change first drains
 * the nodes at both ends of every edge it changes. There is no other graph lock,
 * and nothing is paid on the request path but the counter.
 *
 * Order that makes it safe (store-load on both sides, sequentially consistent):
 *   request: in_flight++, then look at quiesce_counter of its entry point
 *   drain:   quiesce_counter++, then wait for in_flight == 0
 * Entry points (BlockBackends, jobs, timers of a driver) check; requests that come
 * from a parent node do not need to: the parent is counted.
 */
#ifndef LIVEBLK_BLOCK_INT_COMMON_H
#define LIVEBLK_BLOCK_INT_COMMON_H

#include <pthread.h>
#include "block/block-common.h"
#include "block/snapshot.h"

typedef enum BlockDriverKind {
    BLOCK_DRIVER_PROTOCOL,      /* where bytes live: file, nbd, null */
    BLOCK_DRIVER_FORMAT,        /* how bytes are laid out: raw, qcow2 */
    BLOCK_DRIVER_FILTER,        /* shows its one FILTERED child's data */
} BlockDriverKind;

typedef struct BDRVReopenState {
    BlockDriverState *bs;
    int flags;                          /* new open flags */
    const BlockdevOptions *opts;        /* new options, complete */
    QDict *options;                     /* the same, as a dictionary, owned by the queue */
    void *opaque;                       /* the driver's, from prepare to commit/abort */
} BDRVReopenState;

/* A driver is one static const table. NULL has the meaning written beside the
 * field. Control functions run in the main thread in a coroutine; I/O functions
 * in the request's thread, in a coroutine, several at once. The wrappers in
 * src/io check arguments and results for all drivers: offset and bytes are within
 * the node (rounded up to request_alignment; with RESIZE, writes may lie beyond),
 * aligned to request_alignment, and no larger than the limits; FUA reaches only
 * drivers that name it in supported_write_flags. PREFETCH reads, where @qiov may be
 * NULL, reach only filters that have a co_preadv; elsewhere they do nothing. */
struct BlockDriver {
    const char *format_name;
    BlockDriverKind kind;
    size_t instance_size;               /* bs->opaque, zeroed before open */
    BlockdevDriver schema_driver;       /* BLOCKDEV_DRIVER__MAX: internal, not in the schema */
    const char *protocol_name;          /* "file", "nbd": prefix of file names; NULL: none */
    const char *const *protocol_aliases;        /* more such prefixes; NULL-terminated, or NULL */
    /* Put what @filename (prefix and all) says into @options. Any thread. 0 or -errno. NULL:
     * the rest is the option "filename", or nothing if it is "//". */
    int (*parse_filename)(const char *filename, QDict *options, Error **errp);
    bool supports_backing;
    bool flushes_children;              /* co_flush does all: the wrapper does not flush them again */
    bool has_variable_length;           /* length may change behind our back: ask each time */
    bool fixed_length;                  /* writes behind its end fail: a device, a server's export */
    BdrvRequestFlags supported_write_flags, supported_zero_flags;

    /* ---- control ---- */
    /* Open @bs with @opts (already checked against the schema). Children are opened
     * with bdrv_co_open_child(). On failure undo everything; children attached so far
     * are detached by the caller. NULL: attach the "file" option's child, as a filter
     * or as DATA|PRIMARY. Internal drivers get opts == NULL. */
    int coroutine_fn (*co_open)(BlockDriverState *bs, const BlockdevOptions *opts,
                                int flags, Error **errp);
    /* Write back and free; children are detached by the caller afterwards. No request
     * is in flight. NULL: nothing. */
    void coroutine_fn (*co_close)(BlockDriverState *bs);
    /* Transactional reopen. NULL prepare: only generic options may change. */
    int coroutine_fn (*co_reopen_prepare)(BDRVReopenState *state, Error **errp);
    void coroutine_fn (*co_reopen_commit)(BDRVReopenState *state);
    void coroutine_fn (*co_reopen_abort)(BDRVReopenState *state);
    /* What the child needs, given what the parents need. NULL: bdrv_default_perms. */
    void (*child_perm)(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role,
                       BlockReopenQueue *queue, uint64_t perm, uint64_t shared,
                       uint64_t *nperm, uint64_t *nshared);
    /* Asked before cumulative permissions of @bs change; may refuse (file locks). Perhaps
     * several times, then as often set (they are now these) or abort (the checks are
     * void). Not called before the first parent. NULL: always fine. */
    int (*check_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp);
    void (*set_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared);
    void (*abort_perm_update)(BlockDriverState *bs);
    /* Fill *bl beyond what was inherited from the children. NULL: inherited. */
    void (*refresh_limits)(BlockDriverState *bs, BlockLimits *bl);
    /* Set bs->exact_filename (plain name that reopens the node) or leave it empty. */
    void (*refresh_filename)(BlockDriverState *bs);
    /* 0..100: how sure the driver is that @buf (the first @len bytes) is its format.
     * NULL: never probed. */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    /* Create an image (blockdev-create). NULL: "Driver does not support blockdev-create". */
    int coroutine_fn (*co_create)(BlockdevCreateOptions *opts, Error **errp);
    int (*get_info)(BlockDriverState *bs, BlockDriverInfo *info);       /* NULL: filter: child's; else -ENOTSUP */
    ImageInfoSpecific *(*get_specific_info)(BlockDriverState *bs, Error **errp);  /* NULL: none */
    BlockStatsSpecific *(*get_specific_stats)(BlockDriverState *bs);    /* NULL: none */
    /* Record a new backing file string and format in the header; NULL strings remove. */
    int coroutine_fn (*co_change_backing_file)(BlockDriverState *bs, const char *backing_file,
                                               const char *backing_fmt, Error **errp);
    /* Does @to_replace show the same data by construction? NULL: filters ask the child. */
    bool (*recurse_can_replace)(BlockDriverState *bs, BlockDriverState *to_replace);
    /* x-blockdev-change, on a drained node; may suspend. @child_bs is not taken over. NULL: not supported. */
    int (*add_child)(BlockDriverState *bs, BlockDriverState *child_bs, Error **errp);
    int (*del_child)(BlockDriverState *bs, BdrvChild *child, Error **errp);
    /* The node's home context changes; drained, main thread. NULL: nothing to move. */
    void (*detach_aio_context)(BlockDriverState *bs);
    void (*attach_aio_context)(BlockDriverState *bs, AioContext *ctx);
    /* The driver's own activity (timers, background work) must stop / may go on. Called
     * once per drain, before waiting; end is not called for a node that closes while
     * drained (as all do). NULL: there is none. */
    void (*drain_begin)(BlockDriverState *bs);
    void (*drain_end)(BlockDriverState *bs);

    /* ---- I/O; on a filter NULL passes on to the FILTERED child ---- */
    int coroutine_fn (*co_preadv)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
    int coroutine_fn (*co_pwritev)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
    int coroutine_fn (*co_pwritev_compressed)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              QEMUIOVector *qiov, size_t qiov_offset);
    /* -ENOTSUP: the wrapper writes zero buffers (unless NO_FALLBACK). NULL: -ENOTSUP. */
    int coroutine_fn (*co_pwrite_zeroes)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         BdrvRequestFlags flags);
    int coroutine_fn (*co_pdiscard)(BlockDriverState *bs, int64_t offset, int64_t bytes); /* NULL: success, nothing */
    /* Write this node's own caches to its children, or the protocol's data to stable
     * storage. The wrapper then flushes the children. NULL: nothing of its own. */
    int coroutine_fn (*co_flush)(BlockDriverState *bs);
    /* @exact: fail unless the length is exactly @offset. @prealloc: how new space is made. */
    int coroutine_fn (*co_truncate)(BlockDriverState *bs, int64_t offset, bool exact,
                                    PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
    int64_t coroutine_fn (*co_getlength)(BlockDriverState *bs);         /* bytes or -errno */
    int64_t coroutine_fn (*co_get_allocated_file_size)(BlockDriverState *bs); /* NULL: sum of the storage children */
    /* One extent that begins at @offset, at most @bytes; *pnum its length. Without
     * @want_zero the caller only cares for ALLOCATED: be quick. NULL: DATA|ALLOCATED.
     * RECURSE (with OFFSET_VALID): *file is asked for more: whether data there is zero, and
     * without DATA and ZERO, for either. */
    int coroutine_fn (*co_block_status)(BlockDriverState *bs, bool want_zero, int64_t offset,
                                        int64_t bytes, int64_t *pnum, int64_t *map,
                                        BlockDriverState **file);
    /* Look for errors, and mend what @fix says; *res is zero but for the reporter. The node is
     * drained; with @fix it is open for writing. 0, also if errors were found; -errno: the check
     * itself failed. NULL: there is nothing to check. */
    int coroutine_fn (*co_check)(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix);
    /* Forget all that is allocated in this image, so that it shows its backing file. The node is
     * drained and open for writing. NULL: -ENOTSUP. */
    int coroutine_fn (*co_make_empty)(BlockDriverState *bs);
    /* Bitmaps stored in the image; main thread. Could one more be, by this name? */
    bool coroutine_fn (*co_can_store_new_dirty_bitmap)(BlockDriverState *bs, const char *name, uint32_t granularity,
                                                       Error **errp);
    /* Remove it from the image, durably; the node is drained. It may not be there: 0. */
    int coroutine_fn (*co_remove_persistent_dirty_bitmap)(BlockDriverState *bs, const char *name, Error **errp);
    /* Change the passwords of an encrypted image, as @options (JSON, of the schema) say. Nothing is drained: passwords
     * take long. The node is open for writing. NULL: it has none. */
    int coroutine_fn (*co_amend_keys)(BlockDriverState *bs, QDict *options, bool force, Error **errp);
    /* Change what else the image is; the node is drained and open for writing. NULL: nothing can be. */
    int coroutine_fn (*co_amend)(BlockDriverState *bs, const BdrvAmendOptions *options, Error **errp);
    /* Snapshots inside the image; see block/snapshot.h, whose wrappers have drained the node and seen that
     * it is writable, or for load that it is not. All or none. *list: g_malloc'ed, how many is returned. */
    int (*snapshot_list)(BlockDriverState *bs, QEMUSnapshotInfo **list);
    int coroutine_fn (*co_snapshot_create)(BlockDriverState *bs, QEMUSnapshotInfo *info, Error **errp);
    int coroutine_fn (*co_snapshot_goto)(BlockDriverState *bs, const char *id_or_name, Error **errp);
    int coroutine_fn (*co_snapshot_delete)(BlockDriverState *bs, const char *id, const char *name, Error **errp);
    int coroutine_fn (*co_snapshot_load)(BlockDriverState *bs, const char *id, const char *name, Error **errp);
    /* Copy without passing through memory, from @src, which is always a protocol's node, to
     * @dst of this driver. NULL: filters pass on, else -ENOTSUP. */
    int coroutine_fn (*co_copy_range)(BlockDriverState *src, int64_t src_offset,
                                      BlockDriverState *dst, int64_t dst_offset,
                                      int64_t bytes, BdrvRequestFlags flags);
    /* The saved state of a machine, kept beside the disk; @pos counts from its first byte and is, as
     * the length of @qiov, a multiple of 512. NULL: the primary child is asked. */
    int coroutine_fn (*co_load_vmstate)(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
    int coroutine_fn (*co_save_vmstate)(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);

    /* ---- for tests: blkdebug and what stands for it; see bdrv_debug_breakpoint(). All or none. ---- */
    void coroutine_fn (*co_debug_event)(BlockDriverState *bs, BlkdebugEvent event);
    int (*debug_breakpoint)(BlockDriverState *bs, const char *event, const char *tag);
    int (*debug_remove_breakpoint)(BlockDriverState *bs, const char *tag);
    int (*debug_resume)(BlockDriverState *bs, const char *tag);
    bool (*debug_is_suspended)(BlockDriverState *bs, const char *tag);
};

/* How a kind of parent behaves towards its child. All GS. */
struct BdrvChildClass {
    bool parent_is_bds;         /* opaque is a BlockDriverState */
    bool stay_at_node;          /* bdrv_replace_node() leaves this edge where it is */
    /* "node 'x'", "block device 'y'", "export 'z'", "mirror job 'w'"; the caller frees. */
    char *(*get_parent_desc)(BdrvChild *child);
    /* child->bs is (still) the node in question. */
    void (*attach)(BdrvChild *child);
    void (*detach)(BdrvChild *child);
    /* Send no new requests; called with child->bs about to be drained. poll: true
     * while requests from this parent are still on their way. In end child->bs may be
     * NULL (detached from a drained node). They must not change the graph, nor let
     * coroutines run that do: schedule those. NULL: nothing. */
    void (*drained_begin)(BdrvChild *child);
    bool (*drained_poll)(BdrvChild *child);
    void (*drained_end)(BdrvChild *child);
    /* The child was replaced under a parent that stores its name (backing string). */
    int coroutine_fn (*co_update_filename)(BdrvChild *child, BlockDriverState *new_child,
                                           const char *filename, Error **errp);
    /* May the child move to @ctx? Register what to do with @tran. NULL: no. */
    bool (*change_aio_ctx)(BdrvChild *child, AioContext *ctx, GHashTable *visited,
                           Transaction *tran, Error **errp);
    void (*resize)(BdrvChild *child);       /* the child's length changed */
};
extern LIVEBLK_PUBLIC const BdrvChildClass child_of_bds;

struct BdrvChild {
    BlockDriverState *bs;
    char *name;                         /* "file", "backing", "root" ... */
    const BdrvChildClass *klass;
    BdrvChildRole role;
    void *opaque;                       /* the parent; a BlockDriverState with child_of_bds */
    uint64_t perm, shared_perm;         /* atomic relaxed for readers in other threads */
    bool quiesced_parent;               /* drained_begin was called for bs's drain */
    LIST_ENTRY(BdrvChild) next;         /* parent node's list of children */
    LIST_ENTRY(BdrvChild) next_parent;  /* bs's list of parents */
};

/* Told of every change of contents after the write reached the node's driver and
 * before it is acknowledged to anybody. Registered and removed by the main thread on
 * a drained node; called in any thread. */
typedef struct BdrvWriteObserver BdrvWriteObserver;
struct BdrvWriteObserver {
    void (*written)(BdrvWriteObserver *obs, int64_t offset, int64_t bytes);
    void (*resized)(BdrvWriteObserver *obs, int64_t length_bytes);   /* may be NULL */
    LIST_ENTRY(BdrvWriteObserver) link;
};

typedef struct BdrvAioNotifier BdrvAioNotifier;

struct BlockDriverState {
    /* ---- identity; GS, constant while requests run ---- */
    const BlockDriver *drv;             /* NULL: closed */
    void *opaque;                       /* the driver's state */
    char node_name[32];
    int refcnt;                         /* GS */
    bool monitor_owned;                 /* blockdev-add holds a reference */
    bool implicit;                      /* inserted by a job without a name given: hidden from queries */
    bool probed;                        /* format was guessed: raw must guard its first sector */
    bool force_share;
    int open_flags;
    bool read_only;
    char *filename;                     /* for people: plain name, or json:{...} */
    char *exact_filename;               /* plain name that opens the same, or "" */
    char *backing_file, *backing_format; /* as the header has them; or NULL */
    char *auto_backing_file;            /* what would be opened for them */
    /* atomic: it will get a backing image later: what is not allocated reads as zero now, and as that
     * image then, so what is to be zero has to be made so here. Set and cleared by who knows (a job). */
    bool backing_awaited;
    QDict *options;                     /* as asked for, nested, complete enough to open it again */
    QDict *full_options;                /* what names the contents, children included */
    BlockdevDetectZeroesOptions detect_zeroes;
    BlockLimits bl;
    BdrvRequestFlags supported_write_flags, supported_zero_flags;

    /* ---- the graph; GS, drained ---- */
    BdrvChild *file, *backing;          /* shortcuts into children; NULL */
    LIST_HEAD(, BdrvChild) children;
    LIST_HEAD(, BdrvChild) parents;
    AioContext *aio_context;            /* home */
    LIST_HEAD(, BdrvAioNotifier) aio_notifiers;
    TAILQ_ENTRY(BlockDriverState) node_list;      /* named nodes, newest first */
    TAILQ_ENTRY(BlockDriverState) all_list;
    TAILQ_ENTRY(BlockDriverState) monitor_list;
    bool closing;                       /* the last reference is gone */
    bool opened;                        /* the driver is alive */
    bool inherits_options;              /* opened inline by its parent: follows its reopen */
    uint64_t cumulative_perm, cumulative_shared;    /* what drv->set_perm was last told */

    /* ---- drain ---- */
    int quiesce_counter;                /* atomic; written GS */
    unsigned drain_poll_round;          /* GS; src/graph/drain.c */
    /* atomic; any thread. Low half: all that are counted here; high half: those of them
     * that are requests without a record (see `tracking`). 0: nothing is in flight. */
    uint64_t in_flight;

    /* ---- the request path; see src/io/request.c; made by bdrv_io_init() ---- */
    unsigned tracking;                  /* atomic; requests must record themselves */
    unsigned unflushed;                 /* atomic; contents changed since the last flush began */
    int64_t total_bytes;                /* atomic; length of the node, a multiple of 512 */
    pthread_mutex_t reqs_lock;          /* over the five below; held for instants */
    struct IntervalTree *reqs;          /* the records */
    uint64_t reqs_sequence;             /* of the next record */
    unsigned reqs_quiet;                /* records made since the last serialising one */
    unsigned serialising_in_flight;
    CoQueue unrecorded_queue;           /* waits until requests without a record are gone */
    LIST_HEAD(, BdrvWriteObserver) write_observers;
    LIST_HEAD(, BdrvDirtyBitmap) dirty_bitmaps;   /* GS */
    uint64_t write_threshold_offset;    /* atomic; 0: off */
    uint64_t wr_highest_offset;         /* atomic */
    pthread_mutex_t flush_lock;         /* over the four below; held for instants */
    uint64_t flushes_begun, flush_succeeded;      /* numbers: of the last begun, and of the last
                                         * one that succeeded */
    bool flush_in_progress;
    CoQueue flush_queue;
};

/* What the parent needs now; any thread. */
static inline uint64_t bdrv_child_perm(const BdrvChild *c)
{
    return __atomic_load_n(&c->perm, __ATOMIC_RELAXED);
}

static inline void *bdrv_child_parent_bs(const BdrvChild *c)
{
    return c->klass->parent_is_bds ? c->opaque : NULL;
}

/* The request path's part of a node: made with the node, freed with it. GS */
void bdrv_io_init(BlockDriverState *bs);
void bdrv_io_destroy(BlockDriverState *bs);
/* Ask the driver for the length again: after open, reopen, and where it may have changed.
 * Sets bs->total_bytes. 0 or -errno. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs);
/* For BlockDriver.co_copy_range of a driver that passes on: copy from @src (a node that
 * stores, as that function was given) to a child. */
LIVEBLK_PUBLIC int coroutine_fn bdrv_co_copy_range_to(BlockDriverState *src, int64_t src_offset,
                                                      BdrvChild *dst, int64_t dst_offset,
                                                      int64_t bytes, BdrvRequestFlags flags);

/* Register a driver; called by each driver's constructor-free init in
 * bdrv_init() (src/drivers/drivers.c lists them all). */
LIVEBLK_PUBLIC void bdrv_register(const BlockDriver *drv);

/* What a layer above keeps on a node (bitmaps) is dropped when the node closes: called
 * when it is drained, after the driver has closed. One hook a layer. GS */
LIVEBLK_PUBLIC void bdrv_add_close_hook(void (*hook)(BlockDriverState *bs));

/* For BdrvChildClass.change_aio_ctx of parents with several children: @c's node, and
 * all that is connected with it, moves to @ctx too. Edges in @visited are done. */
LIVEBLK_PUBLIC bool bdrv_child_change_aio_context(BdrvChild *c, AioContext *ctx, GHashTable *visited,
                                                  Transaction *tran, Error **errp);

#endif

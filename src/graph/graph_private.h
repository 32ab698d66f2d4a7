/* SPDX-License-Identifier: MIT */
/* graph_private.h: what the files of this folder share. Main thread throughout.
 *
 * How an edge is changed, in this one way everywhere:
 *
 *     GraphEdit e;
 *     graph_edit_begin(&e);
 *     graph_edit_drain(&e, parent); graph_edit_drain(&e, child);  both ends of all edges
 *     graph_edit_wait(&e);                                        may suspend
 *     ... look at the graph again; steps: graph_edit_attach(), _detach(), _replace() ...
 *     ret = graph_edit_end(&e, ret, errp);                        may suspend at the end
 *
 * Between wait and the point in end where the permissions are settled nothing
 * suspends, so nobody sees a half-made change. end updates the permissions of all
 * that was touched, commits or undoes everything, lets go, and drops the references
 * that are no longer needed (only that may suspend: a node may close).
 */
#ifndef LIVEBLK_GRAPH_GRAPH_PRIVATE_H
#define LIVEBLK_GRAPH_GRAPH_PRIVATE_H

#include "block/block_int-global-state.h"
#include "graph/transaction.h"

/* ---- edit.c ---- */
typedef struct GraphEdit {
    Transaction *tran;
    GPtrArray *drained;     /* nodes that this edit keeps drained; a reference to each */
    GPtrArray *touched;     /* nodes whose permissions must be worked out again */
    GPtrArray *released;    /* nodes of which the edit drops a reference at its end */
    BlockReopenQueue *reopen;   /* nodes are to be taken as this queue will leave them; or NULL */
} GraphEdit;

void graph_edit_begin(GraphEdit *e);
/* Keep @bs (may be NULL) drained until the end; its parents stop sending at once. */
void graph_edit_drain(GraphEdit *e, BlockDriverState *bs);
bool graph_edit_has_drained(GraphEdit *e, BlockDriverState *bs);
/* Until nothing is in flight at any of them. May suspend. */
void graph_edit_wait(GraphEdit *e);
/* The permissions of @bs and below are worked out again at the end. */
void graph_edit_touch(GraphEdit *e, BlockDriverState *bs);
/* A new edge to @child_bs, of which it takes a reference of its own. The parent node,
 * if it is one, and @child_bs are drained. */
BdrvChild *graph_edit_attach(GraphEdit *e, BlockDriverState *child_bs, const char *name,
                             const BdrvChildClass *klass, BdrvChildRole role,
                             uint64_t perm, uint64_t shared_perm, void *opaque);
/* Remove an edge and free it, with its reference. */
void graph_edit_detach(GraphEdit *e, BdrvChild *child);
/* The edge leads to @new_bs instead. */
void graph_edit_replace(GraphEdit *e, BdrvChild *child, BlockDriverState *new_bs);
/* All edges to @from that may move lead to @to instead. */
void graph_edit_replace_parents(GraphEdit *e, BlockDriverState *from, BlockDriverState *to);
/* Is @bs at or below @top? */
bool graph_node_reaches(BlockDriverState *top, BlockDriverState *bs);
/* Drain @from and @to, and wait. */
void graph_edit_wait_two(GraphEdit *e, BlockDriverState *from, BlockDriverState *to);
/* @ret: 0, or -errno with *errp set already: undo. Returns @ret, or the error of the
 * permission update. */
int graph_edit_end(GraphEdit *e, int ret, Error **errp);
/* The same for changes that only take needs away: they cannot fail. */
void graph_edit_end_loosen(GraphEdit *e);
/* Drain the node that @child leads to, and wait; until it leads to one that is. */
void graph_edit_wait_edge(GraphEdit *e, BdrvChild *child);
/* The end in two parts, for a caller with more to do while all is still drained. */
int graph_edit_finalize(GraphEdit *e, int ret, Error **errp);
void graph_edit_let_go(GraphEdit *e);

/* ---- child.c ---- */
int graph_check_no_cycle(BlockDriverState *parent, BlockDriverState *child_bs, const char *name,
                         Error **errp);
/* A node's edge, refused if it would close a circle; NULL and *errp then. Both drained. */
BdrvChild *graph_edit_attach_node(GraphEdit *e, BlockDriverState *parent, BlockDriverState *child_bs,
                                  const char *name, BdrvChildRole role, Error **errp);
/* @bs, its backing node, and @backing (may be NULL) are drained. */
int graph_edit_set_backing(GraphEdit *e, BlockDriverState *bs, BlockDriverState *backing, Error **errp);

/* ---- perm.c ---- */
/* Work out the permissions of all edges at and below @nodes, check them, and apply
 * them; undone with @tran. -EPERM or the driver's error: nothing has changed yet that
 * aborting @tran would not undo. Never suspends. */
int graph_perm_update(GPtrArray *nodes, BlockReopenQueue *queue, Transaction *tran, Error **errp);
void graph_perm_set_edge(BdrvChild *c, uint64_t perm, uint64_t shared, Transaction *tran);
/* "node 'x'", "block device 'y'": the caller frees. */
char *graph_parent_desc(BdrvChild *c);

/* ---- drain.c ---- */
/* The edge @c got or lost its child, or will: make its parent's drain fit. */
void graph_drain_edge_sync(BdrvChild *c);
/* Is anything in flight at any of @nodes, or on its way there from above? */
bool graph_drain_poll_many(GPtrArray *nodes);
/* A node that is being made is born into the open drain_all sections. */
void graph_drain_init_node(BlockDriverState *bs);
/* The driver of @bs has just come to life. */
void graph_drain_driver_opened(BlockDriverState *bs);

/* ---- node.c ---- */
/* An empty node, one reference, in the list of all nodes, without a name. */
BlockDriverState *graph_node_new(void);
/* Give @bs the name @name (NULL: generated) and put it in the list of named nodes. */
int graph_node_set_name(BlockDriverState *bs, const char *name, Error **errp);
/* Driver and state; co_open has not run. When it has, set bs->opened; a node that is not
 * opened is closed without its driver. */
void graph_node_set_driver(BlockDriverState *bs, const BlockDriver *drv);
/* ---- walk.c ---- */
/* Edges at @nodes, which are drained, have changed: limits and names of these and of all
 * above them that inherit from them. */
void graph_refresh_up(GPtrArray *nodes);
/* The same for the parents of @bs. */
void graph_refresh_parents(BlockDriverState *bs);

/* ---- open.c ---- */
/* bdrv_open() in a coroutine. */
BlockDriverState *coroutine_fn graph_co_open(const char *filename, const char *reference,
                                             QDict *options, int flags, Error **errp);
/* Open flags that follow from @o, and from @inherited where it says nothing. */
int graph_open_flags(const BlockdevOptions *o, int inherited);
/* What a child that is opened inline inherits. */
int graph_child_flags(int parent_flags, BdrvChildRole role);
/* bs->auto_backing_file as the header's backing_file has it. */
void graph_set_auto_backing_file(BlockDriverState *bs);
int graph_check_detect_zeroes(const BlockdevOptions *o, int flags, Error **errp);

/* ---- filename.c ---- */
/* bdrv_refresh_filename(), and tells whether anything changed. */
bool graph_filename_refresh(BlockDriverState *bs);

/* ---- context.c ---- */
/* @bs is about to be connected with @other: bring it, with all that hangs on it, to the
 * home context of @other, if its parents allow; else it stays (any node may be entered
 * from any context, so that is not wrong). May suspend. */
void graph_context_follow(BlockDriverState *bs, BlockDriverState *other);

/* ---- reopen.c ---- */
/* Open flags of @bs as they will be after @queue (NULL: as they are). */
int graph_reopen_flags(BlockDriverState *bs, BlockReopenQueue *queue);

#endif

/* SPDX-License-Identifier: MIT */
/* graph_private.h: between the files of the graph layer. All main thread. */
#ifndef LIVEBLK_GRAPH_PRIVATE_H
#define LIVEBLK_GRAPH_PRIVATE_H

#include "base/osdep.h"
#include "block/block_int-global-state.h"
#include "graph/transaction.h"

typedef TAILQ_HEAD(BdrvList, BlockDriverState) BdrvList;
extern BdrvList graph_all_nodes, graph_named_nodes, graph_monitor_nodes;

/* node.c */
BlockDriverState *node_new(void);
void node_opened(BlockDriverState *bs);
int node_set_name(BlockDriverState *bs, const char *name, Error **errp);

/* drain.c */
unsigned drain_all_count(void);
void drain_parent_begin(BdrvChild *c);      /* tell one parent, once */
void drain_parent_end(BdrvChild *c);
bool drain_poll_parents(BlockDriverState *bs);

/* child.c; both ends drained */
BdrvChild *child_attach_tran(BlockDriverState *child_bs, const char *name, const BdrvChildClass *klass,
                             BdrvChildRole role, void *opaque, Transaction *tran);
void child_detach_tran(BdrvChild *c, Transaction *tran);

/* perm.c: bring the permissions of everything at and below the @n nodes into line; what
 * changed is undone with @tran. */
int perm_refresh_tran(BlockDriverState **nodes, int n, Transaction *tran, Error **errp);
void perm_set_tran(BdrvChild *c, uint64_t perm, uint64_t shared, Transaction *tran);

#endif

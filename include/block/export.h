/* SPDX-License-Identifier: MIT */
/* export.h: nodes shown to others: kinds of exports, and the list of them.
 *
 * Main thread. Adding may suspend (it attaches to the graph); removing goes on in the
 * background until the last client is gone, then BLOCK_EXPORT_DELETED is sent.
 */
#ifndef LIVEBLK_BLOCK_EXPORTS_H
#define LIVEBLK_BLOCK_EXPORTS_H

#include "block/block-backend.h"

typedef struct BlockExport BlockExport;

typedef struct BlockExportDriver {
    BlockExportType type;
    size_t instance_size;           /* >= sizeof(BlockExport), which comes first */
    /* exp->blk is set and has its permissions. */
    int (*create)(BlockExport *exp, BlockExportOptions *opts, Error **errp);
    /* Send the clients away; blk_exp_unref() when the last is gone. */
    void (*request_shutdown)(BlockExport *exp);
    void (*free)(BlockExport *exp);
    unsigned (*users)(BlockExport *exp);        /* clients now */
} BlockExportDriver;

struct BlockExport {
    const BlockExportDriver *drv;
    char *id;
    int refcnt;
    BlockBackend *blk;
    AioContext *ctx;                /* where its requests run */
    IOThread *iothread;             /* pinned, or NULL */
    bool user_owned;                /* listed until removed */
    bool shutting_down;
    LIST_ENTRY(BlockExport) link;
};

/* NULL and *errp on failure. */
LIVEBLK_PUBLIC BlockExport *blk_exp_add(BlockExportOptions *opts, Error **errp);
LIVEBLK_PUBLIC BlockExport *blk_exp_find(const char *id);
LIVEBLK_PUBLIC BlockExport *blk_exp_next(BlockExport *exp);
LIVEBLK_PUBLIC void blk_exp_ref(BlockExport *exp);
LIVEBLK_PUBLIC void blk_exp_unref(BlockExport *exp);
/* Begin to remove it; idempotent. */
LIVEBLK_PUBLIC void blk_exp_request_shutdown(BlockExport *exp);
/* How many of @type there are (BLOCK_EXPORT_TYPE__MAX: of all types), also those that are being removed. */
LIVEBLK_PUBLIC unsigned blk_exp_count(BlockExportType type);
LIVEBLK_PUBLIC void blk_exp_request_shutdown_all(BlockExportType type);
/* The same, and wait. May suspend. -ETIMEDOUT: requests of one do not end, it goes when they do. */
LIVEBLK_PUBLIC int blk_exp_close_all_type(BlockExportType type, Error **errp);

/* ---- the NBD server: one a process ---- */
LIVEBLK_PUBLIC bool nbd_server_is_running(void);
/* 0, or -errno and *errp: it does not listen, or the objects named for TLS are not there. */
LIVEBLK_PUBLIC int nbd_server_start(const NbdServerOptions *options, Error **errp);
/* May suspend: exports end first. -ETIMEDOUT: one does not, but the server has stopped: it does not listen, clients
 * are cut off, and it can be started again. */
LIVEBLK_PUBLIC int nbd_server_stop(Error **errp);
/* No new clients, and those that are shaking hands are cut off; does not wait. */
LIVEBLK_PUBLIC void nbd_server_send_clients_away(void);
/* Have @fn called, in the main thread, when a client that used an export is gone; @left: how many there are still.
 * NULL: not any more. */
LIVEBLK_PUBLIC void nbd_server_on_client_gone(void (*fn)(unsigned left));
/* How many clients there are. Any thread. */
LIVEBLK_PUBLIC unsigned nbd_server_connections(void);
/* Remove the socket's file, if any, though the server may still have clients. */
LIVEBLK_PUBLIC void nbd_server_unlink(void);
/* The export clients know as @name, or NULL. */
LIVEBLK_PUBLIC BlockExport *nbd_export_find(const char *name);

#endif

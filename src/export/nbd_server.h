/* SPDX-License-Identifier: MIT */
/* nbd_server.h: between the files of the NBD server.
 *
 * nbd_server.c     listening, the list of exports and connections         main thread
 * nbd_negotiate.c  the handshake of one connection                        main thread
 * nbd_transmit.c   requests and replies of one connection                 the export's thread
 * nbd_context.c    what clients may ask about an export: see its header    both
 *
 * A connection is a coroutine that reads: first the handshake, in the main context, then, moved
 * to the export's context, requests. Each request is a coroutine of its own; what they answer
 * is sent in batches. It ends in the main context, where its export is told.
 */
#ifndef LIVEBLK_EXPORT_NBD_SERVER_H
#define LIVEBLK_EXPORT_NBD_SERVER_H

#include "block/export.h"
#include "export/nbd_context.h"
#include "export/nbd_protocol.h"
#include "secure/tls.h"

extern const BlockExportDriver blk_exp_nbd;

typedef struct NbdConnection NbdConnection;
typedef struct NbdRequest NbdRequest;

typedef struct NbdExport {
    BlockExport common;
    char *name, *description;
    bool writable, writethrough;
    uint64_t serial;                    /* no two exports ever have the same */
    NbdOffer offer;
    unsigned connections;               /* main thread */
    LIST_ENTRY(NbdExport) link;
} NbdExport;

struct NbdConnection {
    int fd;
    TlsSession *tls;                    /* NULL: plain text */
    NbdExport *exp;                     /* set by the handshake; holds a reference */
    bool structured, no_zeroes;
    bool told_tls;                      /* the log tells that it came in plain text */
    NbdChoice choice;                   /* of contexts */
    bool closing;                       /* atomic: main asks it to end */
    bool dead;                          /* its thread: the socket failed */
    QEMUTimer handshake_timer;
    Coroutine *reader;
    bool reader_waits;                  /* for requests to end, or for memory */

    /* receiving */
    uint8_t *rbuf;
    size_t rstart, rend;
    bool socket_drained;                /* the last recv gave less than was asked for */

    /* requests; all in the export's context */
    unsigned in_flight;
    size_t in_flight_bytes;
    STAILQ_HEAD(, NbdRequest) out;      /* done, to be sent */
    size_t out_sent;                    /* of the first one */
    bool sending, flush_scheduled;
    STAILQ_HEAD(, NbdRequest) free_small, free_large;
    unsigned n_free_small, n_free_large;
    size_t kept_bytes;                  /* of the buffers of those */
    LIST_ENTRY(NbdConnection) link;
};

/* ---- reading; connection's coroutine ---- */
/* Fill @buf with just @len bytes. 0, or -errno (-ECONNRESET at the end). */
int coroutine_fn nbd_co_read(NbdConnection *c, void *buf, size_t len);
int coroutine_fn nbd_co_skip(NbdConnection *c, uint64_t len);
int coroutine_fn nbd_co_write(NbdConnection *c, const void *buf, size_t len);
/* One attempt to send the @n pieces of @iov: > 0 bytes, or -errno. */
ssize_t nbd_socket_send(NbdConnection *c, struct iovec *iov, size_t n);
/* Send the replies that are done; before the reader waits for input. nbd_transmit.c's. */
void nbd_out_flush(NbdConnection *c);

/* 1: go on to requests; 0: the client left in peace; -errno. */
int coroutine_fn nbd_co_negotiate(NbdConnection *c);
uint16_t nbd_export_flags(const NbdExport *exp);
/* Serve requests until the client leaves; all ended when it returns. */
void coroutine_fn nbd_co_transmit(NbdConnection *c);

/* Must clients encrypt? */
bool nbd_server_wants_tls(void);
/* Go over to TLS, and see who it is. 0, or -errno: told on standard error. */
int coroutine_fn nbd_co_start_tls(NbdConnection *c);

/* May there be more than one client at a time? */
bool nbd_server_takes_several(void);
NbdExport *nbd_exports_first(void);
NbdExport *nbd_exports_find(const char *name);

#endif

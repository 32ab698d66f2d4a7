/* SPDX-License-Identifier: MIT */
/* tls.h: TLS credentials, and encrypted connections, with GnuTLS.
 *
 * Credentials are objects (objects.h). A session works on a non-blocking socket and never waits: it says what to wait
 * for. One may be made, used and freed in any thread, by one at a time, while the main thread holds its credentials.
 */
#ifndef LIVEBLK_SECURE_TLS_H
#define LIVEBLK_SECURE_TLS_H

#include "secure/objects.h"
#include <gnutls/gnutls.h>
#include <sys/uio.h>

typedef struct TlsCreds {
    SecureObject common;
    bool server, verify_peer;
    char *dir, *username;
    gnutls_priority_t priority;
    gnutls_certificate_credentials_t x509;
    gnutls_psk_server_credentials_t psk;
    gnutls_psk_client_credentials_t psk_client;
    gnutls_anon_server_credentials_t anon;
    gnutls_anon_client_credentials_t anon_client;
} TlsCreds;

typedef struct TlsSession TlsSession;

/* The credentials @id, for that side of a connection. NULL and *errp: there are none. */
TlsCreds *tls_creds_find(const char *id, bool server, Error **errp);
/* DIR/NAME of the credentials, or NULL where there is no such file; free it. */
char *tls_creds_path(const TlsCreds *c, const char *name);
/* Refuse certificates that cannot work: out of their time, not for this side, not by this authority. 0 or -errno. */
int tls_x509_check(const char *ca_path, const char *cert_path, bool server, Error **errp);

/* A session with the other side on @fd, as the side that @creds are for. @hostname: a client's: the name that the certificate of
 * the server has to have; NULL: none is known, and certificates cannot be believed. NULL and *errp on failure. */
TlsSession *tls_session_new(TlsCreds *creds, int fd, const char *hostname, Error **errp);
/* Say good-bye if the socket takes it, and free. NULL: nothing. */
void tls_session_free(TlsSession *s);
/* 0: done; -EAGAIN: wait for the socket, for writing if *@for_write; other -errno and *errp: it failed. */
int tls_session_handshake(TlsSession *s, bool *for_write, Error **errp);
/* Is the other side who it should be: a client who may come in (@authz: NULL for all whom the credentials know), the server that
 * was meant? 0 or -errno and *errp. */
int tls_session_check(TlsSession *s, SecureObject *authz, Error **errp);
/* Why the other side has ended the session, in its words, or NULL. It lives as long as the program. */
const char *tls_session_alert(const TlsSession *s);
/* > 0 bytes; 0: the other side has ended; -EAGAIN: wait until the socket can be read; other -errno. */
ssize_t tls_session_recv(TlsSession *s, void *buf, size_t len);
/* The first bytes of @iov, which is not empty: > 0, so many; -EAGAIN: wait until it can be written, and come again with what
 * begins with the same bytes; other -errno. */
ssize_t tls_session_send(TlsSession *s, const struct iovec *iov, size_t n_iov);

#endif

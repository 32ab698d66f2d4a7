/* SPDX-License-Identifier: MIT */
/* tls_session.c: one encrypted connection; see tls.h. */
#include "secure/gnutls_library.h"
#include "secure/tls.h"

#define RECORD_BYTES    (16 * KiB)      /* the most a TLS record holds */

struct TlsSession {
    gnutls_session_t tls;
    TlsCreds *creds;
    char *hostname;                     /* a client's: whom it means; or NULL */
    const char *alert;                  /* the other side's last word */
    size_t pending;                     /* of the record that the socket did not take whole */
    bool ready, failed;
    uint8_t record[RECORD_BYTES];
};

static const char *other_side(const TlsSession *s)
{
    return s->creds->server ? "client" : "server";
}

static int set_credentials(TlsSession *s)
{
    const TlsCreds *c = s->creds;

    if (c->x509) {
        if (c->server) {
            gnutls.certificate_server_set_request(s->tls, c->verify_peer ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_IGNORE);
        } else if (s->hostname && !g_hostname_is_ip_address(s->hostname)) {
            gnutls.server_name_set(s->tls, GNUTLS_NAME_DNS, s->hostname, strlen(s->hostname));
        }
        return gnutls.credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, c->x509);
    }
    if (c->psk || c->psk_client) {
        return gnutls.credentials_set(s->tls, GNUTLS_CRD_PSK, c->server ? (void *)c->psk : (void *)c->psk_client);
    }
    return gnutls.credentials_set(s->tls, GNUTLS_CRD_ANON, c->server ? (void *)c->anon : (void *)c->anon_client);
}

TlsSession *tls_session_new(TlsCreds *creds, int fd, const char *hostname, Error **errp)
{
    TlsSession *s = g_new0(TlsSession, 1);
    int ret = gnutls.init(&s->tls, (creds->server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

    if (ret < 0) {
        error_setg(errp, "Cannot initialize TLS session: %s", gnutls.strerror(ret));
        g_free(s);
        return NULL;
    }
    s->creds = creds;
    s->hostname = g_strdup(hostname);
    secure_object_ref(&creds->common);
    ret = gnutls.priority_set(s->tls, creds->priority);
    if (ret == 0) {
        ret = set_credentials(s);
    }
    if (ret < 0) {
        error_setg(errp, "Cannot set session credentials: %s", gnutls.strerror(ret));
        s->failed = true;
        tls_session_free(s);
        return NULL;
    }
    gnutls.transport_set_int2(s->tls, fd, fd);
    /* Both sides of NBD bound the time of the whole negotiation themselves. */
    gnutls.handshake_set_timeout(s->tls, GNUTLS_INDEFINITE_TIMEOUT);
    return s;
}

void tls_session_free(TlsSession *s)
{
    if (!s) {
        return;
    }
    if (s->ready && !s->failed && !s->pending) {
        gnutls.bye(s->tls, GNUTLS_SHUT_WR);
    }
    gnutls.deinit(s->tls);
    secure_object_unref(&s->creds->common);
    gnutls.memset(s->record, 0, sizeof(s->record));
    g_free(s->hostname);
    g_free(s);
}

static bool is_again(ssize_t ret)
{
    return ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_INTERRUPTED;
}

int tls_session_handshake(TlsSession *s, bool *for_write, Error **errp)
{
    int ret;

    do {
        ret = gnutls.handshake(s->tls);
    } while (ret == GNUTLS_E_INTERRUPTED);
    if (ret == 0) {
        s->ready = true;
        return 0;
    }
    if (ret == GNUTLS_E_AGAIN || !gnutls.error_is_fatal(ret)) {
        *for_write = gnutls.record_get_direction(s->tls) == 1;
        return -EAGAIN;
    }
    if (ret == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        s->alert = gnutls.alert_get_name(gnutls.alert_get(s->tls));
        error_setg(errp, "TLS handshake failed: the %s says: %s", other_side(s), s->alert);
    } else {
        error_setg(errp, "TLS handshake failed: %s", gnutls.strerror(ret));
        gnutls.alert_send_appropriate(s->tls, ret);
    }
    s->failed = true;
    return -EPROTO;
}

/* ---- who the other side is ---- */

static int check_certificate(TlsSession *s, Error **errp)
{
    gnutls_typed_vdata_st purpose = { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0 };
    gnutls_typed_vdata_st server[] = {
        { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_SERVER, 0 },
        { GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)s->hostname, 0 },
    };
    gnutls_datum_t why = { 0 };
    unsigned status = 0;
    int ret = s->creds->server ? gnutls.certificate_verify_peers(s->tls, &purpose, 1, &status)
                               : gnutls.certificate_verify_peers(s->tls, server, 2, &status);

    if (ret < 0) {
        error_setg(errp, "the %s's certificate cannot be verified: %s", other_side(s), gnutls.strerror(ret));
        return -EACCES;
    }
    if (status == (GNUTLS_CERT_INVALID | GNUTLS_CERT_UNEXPECTED_OWNER) || status == GNUTLS_CERT_UNEXPECTED_OWNER) {
        error_setg(errp, "Certificate does not match the hostname %s", s->hostname);
        return -EACCES;
    }
    if (status) {
        gnutls.certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0);
        error_setg(errp, "the %s's certificate is refused: %s", other_side(s), why.data ? (char *)why.data : "not trusted");
        free(why.data);
        return -EACCES;
    }
    return 0;
}

/* NULL: the client has none. */
static char *identity(TlsSession *s)
{
    char *text = NULL;

    if (s->creds->psk) {
        return g_strdup(gnutls.psk_server_get_username(s->tls));
    }
    unsigned n = 0;
    const gnutls_datum_t *certs = s->creds->x509 ? gnutls.certificate_get_peers(s->tls, &n) : NULL;
    gnutls_x509_crt_t crt;

    if (!certs || !n || gnutls.x509_crt_init(&crt) < 0) {
        return NULL;
    }
    if (gnutls.x509_crt_import(crt, &certs[0], GNUTLS_X509_FMT_DER) >= 0) {
        size_t len = 0;

        gnutls.x509_crt_get_dn(crt, NULL, &len);
        text = g_malloc0(len + 1);
        if (gnutls.x509_crt_get_dn(crt, text, &len) < 0) {
            g_clear_pointer(&text, g_free);
        }
    }
    gnutls.x509_crt_deinit(crt);
    return text;
}

int tls_session_check(TlsSession *s, SecureObject *authz, Error **errp)
{
    bool look = s->creds->x509 && s->creds->verify_peer;
    int ret = 0;

    if (look && !s->creds->server && !s->hostname) {
        error_setg(errp, "No hostname for certificate validation");
        ret = -EINVAL;
    } else if (look) {
        ret = check_certificate(s, errp);
    }
    if (ret == 0 && authz) {
        g_autofree char *who = identity(s);

        if (!who) {
            error_setg(errp, "the client has no identity that '%s' could know", authz->id);
            ret = -EACCES;
        } else if (!authz_allows(authz, who, errp)) {
            ret = -EACCES;
        }
    }
    if (ret < 0) {
        gnutls.alert_send(s->tls, GNUTLS_AL_FATAL, s->creds->server ? GNUTLS_A_ACCESS_DENIED : GNUTLS_A_BAD_CERTIFICATE);
        s->failed = true;
    }
    return ret;
}

const char *tls_session_alert(const TlsSession *s)
{
    return s->alert;
}

/* ---- data ---- */

static ssize_t failed(TlsSession *s, ssize_t ret)
{
    s->failed = true;
    if (ret == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        s->alert = gnutls.alert_get_name(gnutls.alert_get(s->tls));
    }
    return ret == GNUTLS_E_PULL_ERROR || ret == GNUTLS_E_PUSH_ERROR || ret == GNUTLS_E_PREMATURE_TERMINATION ? -ECONNRESET
                                                                                                             : -EPROTO;
}

ssize_t tls_session_recv(TlsSession *s, void *buf, size_t len)
{
    ssize_t n = gnutls.record_recv(s->tls, buf, len);

    /* Whoever wants to negotiate anew (only in old versions) is sent away: nobody needs it here. */
    return n >= 0 ? n : is_again(n) ? -EAGAIN : failed(s, n);
}

ssize_t tls_session_send(TlsSession *s, const struct iovec *iov, size_t n_iov)
{
    ssize_t n;

    if (s->pending) {
        n = gnutls.record_send(s->tls, NULL, 0);
    } else {
        for (size_t i = 0; i < n_iov && s->pending < RECORD_BYTES; i++) {
            size_t bytes = MIN(iov[i].iov_len, RECORD_BYTES - s->pending);

            memcpy(s->record + s->pending, iov[i].iov_base, bytes);
            s->pending += bytes;
        }
        n = gnutls.record_send(s->tls, s->record, s->pending);
    }
    if (is_again(n)) {
        return -EAGAIN;
    }
    s->pending = 0;
    return n > 0 ? n : failed(s, n);
}

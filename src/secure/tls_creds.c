/* SPDX-License-Identifier: MIT */
/* tls_creds.c: TLS credentials from the files of a folder; see tls.h. */
#include "crypto/secret.h"
#include "secure/gnutls_library.h"
#include "secure/tls.h"

#define DIR_X509_CA     "ca-cert.pem"
#define DIR_X509_CRL    "ca-crl.pem"
#define DIR_PSK_KEYS    "keys.psk"
#define CERTS_MAX       64

char *tls_creds_path(const TlsCreds *c, const char *name)
{
    char *path = c->dir ? g_build_filename(c->dir, name, NULL) : NULL;

    if (path && access(path, R_OK) < 0) {
        g_clear_pointer(&path, g_free);
    }
    return path;
}

/* The same, of a file that must be there. NULL and *errp: it is not. */
static char *needed_path(const TlsCreds *c, const char *name, Error **errp)
{
    if (!c->dir) {
        error_setg(errp, "Missing 'dir' property value");
        return NULL;
    }
    g_autofree char *path = g_build_filename(c->dir, name, NULL);

    if (access(path, R_OK) < 0) {
        error_setg_errno(errp, errno, "Unable to access credentials %s", path);
        return NULL;
    }
    return g_steal_pointer(&path);
}

/* ---- do the certificates make sense ---- */

static int load_certs(const char *path, gnutls_x509_crt_t **certs, unsigned *n, Error **errp)
{
    g_autoptr(GError) gerr = NULL;
    g_autofree gchar *text = NULL;
    gsize len;

    *n = 0;
    if (!g_file_get_contents(path, &text, &len, &gerr)) {
        error_setg(errp, "Cannot load certificate %s: %s", path, gerr->message);
        return -EIO;
    }
    gnutls_datum_t d = { (unsigned char *)text, len };
    int ret = gnutls.x509_crt_list_import2(certs, n, &d, GNUTLS_X509_FMT_PEM, 0);

    if (ret < 0) {
        error_setg(errp, "Unable to import certificate %s: %s", path, gnutls.strerror(ret));
        return -EINVAL;
    }
    return 0;
}

static void free_certs(gnutls_x509_crt_t *certs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        gnutls.x509_crt_deinit(certs[i]);
    }
    if (n) {
        free(certs);
    }
}

static int check_times(gnutls_x509_crt_t crt, const char *path, bool ca, Error **errp)
{
    time_t now = time(NULL);

    if (gnutls.x509_crt_get_expiration_time(crt) < now) {
        error_setg(errp, "The %scertificate %s has expired", ca ? "CA " : "", path);
        return -EINVAL;
    }
    if (gnutls.x509_crt_get_activation_time(crt) > now) {
        error_setg(errp, "The %scertificate %s is not yet active", ca ? "CA " : "", path);
        return -EINVAL;
    }
    return 0;
}

static bool for_purpose(gnutls_x509_crt_t crt, bool server)
{
    char oid[128];
    unsigned i;

    for (i = 0; i < CERTS_MAX; i++) {
        size_t len = sizeof(oid);
        int ret = gnutls.x509_crt_get_key_purpose_oid(crt, i, oid, &len, NULL);

        if (ret == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
            break;
        }
        if (ret >= 0 && (!strcmp(oid, server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT) ||
                         !strcmp(oid, GNUTLS_KP_ANY))) {
            return true;
        }
    }
    return i == 0;              /* none is named: for all */
}

/* What it may be used for. */
static int check_use(gnutls_x509_crt_t crt, const char *path, bool ca, bool server, Error **errp)
{
    const char *side = server ? "server" : "client";
    unsigned usage = 0;
    int is_ca = gnutls.x509_crt_get_basic_constraints(crt, NULL, NULL, NULL);
    int ret = gnutls.x509_crt_get_key_usage(crt, &usage, NULL);

    if (ca && is_ca <= 0) {
        error_setg(errp, "The certificate %s %s", path, is_ca == 0 ? "basic constraints do not show a CA"
                                                                    : "is missing basic constraints for a CA");
        return -EINVAL;
    }
    if (!ca && is_ca > 0) {
        error_setg(errp, "The certificate %s basic constraints show a CA, but we need one for a %s", path, side);
        return -EINVAL;
    }
    if (ret >= 0 && ca && !(usage & GNUTLS_KEY_KEY_CERT_SIGN)) {
        error_setg(errp, "Certificate %s usage does not permit certificate signing", path);
        return -EINVAL;
    }
    if (ret >= 0 && !ca && !(usage & (GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT))) {
        error_setg(errp, "Certificate %s usage does not permit digital signature", path);
        return -EINVAL;
    }
    if (!ca && !for_purpose(crt, server)) {
        error_setg(errp, "Certificate %s purpose does not allow use with a TLS %s", path, side);
        return -EINVAL;
    }
    return 0;
}

static int check_chain(gnutls_x509_crt_t *certs, unsigned n, gnutls_x509_crt_t *cas, unsigned n_cas, const char *path,
                       const char *ca_path, Error **errp)
{
    unsigned status = 0;
    int ret = gnutls.x509_crt_list_verify(certs, n, cas, n_cas, NULL, 0, 0, &status);

    if (ret < 0 || status) {
        gnutls_datum_t why = { 0 };

        if (ret >= 0) {
            gnutls.certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0);
        }
        error_setg(errp, "Our own certificate %s failed validation against %s: %s", path, ca_path,
                   why.data ? (char *)why.data : gnutls.strerror(ret));
        free(why.data);
        return -EINVAL;
    }
    return 0;
}

int tls_x509_check(const char *ca_path, const char *cert_path, bool server, Error **errp)
{
    gnutls_x509_crt_t *cas = NULL, *certs = NULL;
    unsigned n_cas = 0, n = 0;
    int ret = load_certs(ca_path, &cas, &n_cas, errp);

    for (unsigned i = 0; i < n_cas && ret == 0; i++) {
        ret = check_times(cas[i], ca_path, true, errp);
        ret = ret < 0 ? ret : check_use(cas[i], ca_path, true, server, errp);
    }
    if (ret == 0 && cert_path) {
        ret = load_certs(cert_path, &certs, &n, errp);
        if (ret == 0) {
            ret = check_times(certs[0], cert_path, false, errp);
        }
        ret = ret < 0 ? ret : check_use(certs[0], cert_path, false, server, errp);
        ret = ret < 0 ? ret : check_chain(certs, n, cas, n_cas, cert_path, ca_path, errp);
    }
    free_certs(certs, n);
    free_certs(cas, n_cas);
    return ret;
}

/* ---- the kinds: 0, or -errno and *errp ---- */

static int load_key(TlsCreds *c, const char *cert, const char *key, const char *passwordid, Error **errp)
{
    size_t len = 0;
    uint8_t *password = NULL;

    if (passwordid && !(password = secret_get_text(passwordid, &len, errp))) {
        return -EINVAL;
    }
    int ret = gnutls.certificate_set_x509_key_file2(c->x509, cert, key, GNUTLS_X509_FMT_PEM, (char *)password, 0);

    secret_free(password, len);
    if (ret < 0) {
        error_setg(errp, "Cannot load certificate '%s' & key '%s': %s", cert, key, gnutls.strerror(ret));
        return -EINVAL;
    }
    return 0;
}

static int creds_x509(TlsCreds *c, const TlsCredsX509Properties *p, Error **errp)
{
    const char *cert_name = c->server ? "server-cert.pem" : "client-cert.pem";
    const char *key_name = c->server ? "server-key.pem" : "client-key.pem";
    g_autofree char *ca = needed_path(c, DIR_X509_CA, errp), *cert = NULL, *key = NULL;

    if (!ca) {
        return -ENOENT;
    }
    if (c->server) {
        cert = needed_path(c, cert_name, errp);
        key = cert ? needed_path(c, key_name, errp) : NULL;
        if (!key) {
            return -ENOENT;
        }
    } else {
        cert = tls_creds_path(c, cert_name);
        key = cert ? needed_path(c, key_name, errp) : NULL;
        if (cert && !key) {
            return -ENOENT;
        }
    }
    if (p->sanity_check && tls_x509_check(ca, cert, c->server, errp) < 0) {
        return -EINVAL;
    }
    gnutls.certificate_allocate_credentials(&c->x509);
    int ret = gnutls.certificate_set_x509_trust_file(c->x509, ca, GNUTLS_X509_FMT_PEM);

    if (ret < 0) {
        error_setg(errp, "Cannot load CA certificate '%s': %s", ca, gnutls.strerror(ret));
        return -EINVAL;
    }
    if (cert && load_key(c, cert, key, p->passwordid, errp) < 0) {
        return -EINVAL;
    }
    g_autofree char *crl = tls_creds_path(c, DIR_X509_CRL);

    ret = crl ? gnutls.certificate_set_x509_crl_file(c->x509, crl, GNUTLS_X509_FMT_PEM) : 0;
    if (ret < 0) {
        error_setg(errp, "Cannot load CRL '%s': %s", crl, gnutls.strerror(ret));
        return -EINVAL;
    }
    gnutls.certificate_set_known_dh_params(c->x509, GNUTLS_SEC_PARAM_MEDIUM);
    return 0;
}

/* The key of @name, in hexadecimal, from lines of NAME:KEY; NULL: there is none. The caller wipes and frees it. */
static char *psk_key(const char *path, const char *name)
{
    g_autofree gchar *text = NULL;
    char *key = NULL;
    size_t n = strlen(name);
    gsize len;

    if (!g_file_get_contents(path, &text, &len, NULL)) {
        return NULL;
    }
    for (const char *line = text; line && !key; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, name, n) && line[n] == ':') {
            key = g_strndup(line + n + 1, strcspn(line + n + 1, "\r\n"));
        }
    }
    gnutls.memset(text, 0, len);
    return key;
}

static int creds_psk_client(TlsCreds *c, const TlsCredsPskProperties *p, const char *keys, Error **errp)
{
    c->username = g_strdup(p->username ? p->username : "qemu");
    g_autofree char *key = psk_key(keys, c->username);
    gnutls_datum_t d = { (unsigned char *)key, key ? strlen(key) : 0 };

    if (!key) {
        error_setg(errp, "Username %s not found in PSK file %s", c->username, keys);
        return -ENOENT;
    }
    gnutls.psk_allocate_client_credentials(&c->psk_client);
    int ret = gnutls.psk_set_client_credentials(c->psk_client, c->username, &d, GNUTLS_PSK_KEY_HEX);

    gnutls.memset(key, 0, d.size);
    if (ret < 0) {
        error_setg(errp, "Cannot use the key of %s in PSK file %s: %s", c->username, keys, gnutls.strerror(ret));
        return -EINVAL;
    }
    return 0;
}

static int creds_psk(TlsCreds *c, const TlsCredsPskProperties *p, Error **errp)
{
    g_autofree char *keys = needed_path(c, DIR_PSK_KEYS, errp);

    if (!keys) {
        return -ENOENT;
    }
    if (c->server && p->username) {
        error_setg(errp, "username should not be set when endpoint=server");
        return -EINVAL;
    }
    if (!c->server) {
        return creds_psk_client(c, p, keys, errp);
    }
    gnutls.psk_allocate_server_credentials(&c->psk);
    int ret = gnutls.psk_set_server_credentials_file(c->psk, keys);

    if (ret < 0) {
        error_setg(errp, "Cannot load PSK keys '%s': %s", keys, gnutls.strerror(ret));
        return -EINVAL;
    }
    gnutls.psk_set_server_known_dh_params(c->psk, GNUTLS_SEC_PARAM_MEDIUM);
    return 0;
}

static void tls_creds_free(SecureObject *o)
{
    TlsCreds *c = (TlsCreds *)o;

    if (c->x509) {
        gnutls.certificate_free_credentials(c->x509);
    }
    if (c->psk) {
        gnutls.psk_free_server_credentials(c->psk);
    }
    if (c->psk_client) {
        gnutls.psk_free_client_credentials(c->psk_client);
    }
    if (c->anon_client) {
        gnutls.anon_free_client_credentials(c->anon_client);
    }
    if (c->anon) {
        gnutls.anon_free_server_credentials(c->anon);
    }
    if (c->priority) {
        gnutls.priority_deinit(c->priority);
    }
    g_free(c->dir);
    g_free(c->username);
    g_free(c);
}

static int take_common(TlsCreds *c, const TlsCredsProperties *p, const char *more, Error **errp)
{
    g_autofree char *text = g_strconcat(p->priority ? p->priority : "NORMAL", more, NULL);
    int ret = gnutls.priority_init(&c->priority, text, NULL);

    c->server = p->endpoint == Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER;
    c->verify_peer = p->verify_peer;
    c->dir = g_strdup(p->dir);
    if (ret < 0) {
        c->priority = NULL;
        error_setg(errp, "Unable to set TLS session priority %s: %s", text, gnutls.strerror(ret));
        return -EINVAL;
    }
    return 0;
}

/* The members that all kinds have. */
#define COMMON(p) ((TlsCredsProperties) { \
    .verify_peer = (p).verify_peer, .dir = (p).dir, .endpoint = (p).endpoint, .priority = (p).priority })

SecureObject *tls_creds_new(const ObjectOptions *opts, Error **errp)
{
    TlsCreds *c;
    int ret;

    if (gnutls_library_load(errp) < 0) {
        return NULL;
    }
    c = g_new0(TlsCreds, 1);
    c->common.free = tls_creds_free;
    switch (opts->qom_type) {
    case OBJECT_TYPE_TLS_CREDS_X509:
        ret = take_common(c, &COMMON(opts->u.tls_creds_x509), "", errp);
        ret = ret < 0 ? ret : creds_x509(c, &opts->u.tls_creds_x509, errp);
        break;
    case OBJECT_TYPE_TLS_CREDS_PSK:
        ret = take_common(c, &COMMON(opts->u.tls_creds_psk), ":+ECDHE-PSK:+DHE-PSK:+PSK", errp);
        ret = ret < 0 ? ret : creds_psk(c, &opts->u.tls_creds_psk, errp);
        break;
    default:
        ret = take_common(c, &COMMON(opts->u.tls_creds_anon), ":+ANON-ECDH:+ANON-DH", errp);
        if (ret == 0 && c->server) {
            gnutls.anon_allocate_server_credentials(&c->anon);
            gnutls.anon_set_server_known_dh_params(c->anon, GNUTLS_SEC_PARAM_MEDIUM);
        } else if (ret == 0) {
            gnutls.anon_allocate_client_credentials(&c->anon_client);
        }
        break;
    }
    if (ret < 0) {
        tls_creds_free(&c->common);
        return NULL;
    }
    return &c->common;
}

TlsCreds *tls_creds_find(const char *id, bool server, Error **errp)
{
    SecureObject *o = secure_object_by_id(id);
    TlsCreds *c = (TlsCreds *)o;

    if (!o && !secret_exists(id)) {
        error_setg(errp, "No TLS credentials with id '%s'", id);
        return NULL;
    }
    if (!o || o->free != tls_creds_free) {
        error_setg(errp, "Object with id '%s' is not TLS credentials", id);
        return NULL;
    }
    if (c->server != server) {
        error_setg(errp, "Expected TLS credentials for a %s endpoint", server ? "server" : "client");
        return NULL;
    }
    return c;
}

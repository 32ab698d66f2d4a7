/* SPDX-License-Identifier: MIT */
/* gnutls_library.h: GnuTLS as a table of its functions: gnutls.init(...) is gnutls_init(...).
 *
 * It is not linked but loaded by the first object that holds credentials, as libnbd is, and for the same reason: with
 * the libraries it brings it would cost every start of every program more than the rest of it.
 */
#ifndef LIVEBLK_SECURE_GNUTLS_LIBRARY_H
#define LIVEBLK_SECURE_GNUTLS_LIBRARY_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "base/osdep.h"
#include "block/error.h"

#define GNUTLS_LIBRARY_FUNCTIONS(X) \
    X(alert_get) X(alert_get_name) X(alert_send) X(alert_send_appropriate) X(anon_allocate_client_credentials) \
    X(anon_allocate_server_credentials) X(anon_free_client_credentials) X(anon_free_server_credentials) X(anon_set_server_known_dh_params) X(bye) \
    X(certificate_allocate_credentials) X(certificate_free_credentials) X(certificate_get_peers) \
    X(certificate_server_set_request) X(certificate_set_known_dh_params) X(certificate_set_x509_crl_file) \
    X(certificate_set_x509_key_file2) X(certificate_set_x509_trust_file) \
    X(certificate_verification_status_print) X(certificate_verify_peers) X(credentials_set) X(deinit) \
    X(error_is_fatal) X(handshake) X(handshake_set_timeout) X(init) X(memset) X(priority_deinit) \
    X(priority_init) X(priority_set) X(psk_allocate_client_credentials) X(psk_allocate_server_credentials) \
    X(psk_free_client_credentials) X(psk_free_server_credentials) \
    X(psk_server_get_username) X(psk_set_client_credentials) X(psk_set_server_credentials_file) X(psk_set_server_known_dh_params) \
    X(record_get_direction) X(record_recv) X(record_send) X(server_name_set) X(strerror) X(transport_set_int2) X(x509_crt_deinit) \
    X(x509_crt_get_activation_time) X(x509_crt_get_basic_constraints) X(x509_crt_get_dn) \
    X(x509_crt_get_expiration_time) X(x509_crt_get_key_purpose_oid) X(x509_crt_get_key_usage) X(x509_crt_import) \
    X(x509_crt_init) X(x509_crt_list_import2) X(x509_crt_list_verify)

typedef struct GnutlsLibrary {
#define GNUTLS_LIBRARY_FIELD(name) __typeof__(gnutls_##name) *name;
    GNUTLS_LIBRARY_FUNCTIONS(GNUTLS_LIBRARY_FIELD)
#undef GNUTLS_LIBRARY_FIELD
} GnutlsLibrary;

/* All NULL until gnutls_library_load() was successful; constant from then on. */
extern GnutlsLibrary gnutls;

/* Load it, if it is not. Main thread. 0 or -errno. */
int gnutls_library_load(Error **errp);

#endif

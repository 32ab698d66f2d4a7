/* SPDX-License-Identifier: MIT */
/* gnutls_library.c: loading GnuTLS; see gnutls_library.h. */
#include "secure/gnutls_library.h"
#include "base/library.h"

#define FILE_NAME "libgnutls.so.30"     /* the version of its interface we are built for */

GnutlsLibrary gnutls;

int gnutls_library_load(Error **errp)
{
    static const LibraryFunction functions[] = {
#define GNUTLS_LIBRARY_ENTRY(name) { "gnutls_" #name, offsetof(GnutlsLibrary, name) },
        GNUTLS_LIBRARY_FUNCTIONS(GNUTLS_LIBRARY_ENTRY)
#undef GNUTLS_LIBRARY_ENTRY
    };

    return gnutls.init ? 0 : library_load(FILE_NAME, "TLS needs GnuTLS", functions, G_N_ELEMENTS(functions), &gnutls, errp);
}

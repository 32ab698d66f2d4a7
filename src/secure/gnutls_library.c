/* SPDX-License-Identifier: MIT */
/* gnutls_library.c: loading GnuTLS; see gnutls_library.h. */
#include "secure/gnutls_library.h"
#include <dlfcn.h>

#define FILE_NAME "libgnutls.so.30"     /* the version of its interface we are built for */

GnutlsLibrary gnutls;

int gnutls_library_load(Error **errp)
{
    static const struct { const char *name; size_t at; } function[] = {
#define GNUTLS_LIBRARY_ENTRY(name) { "gnutls_" #name, offsetof(GnutlsLibrary, name) },
        GNUTLS_LIBRARY_FUNCTIONS(GNUTLS_LIBRARY_ENTRY)
#undef GNUTLS_LIBRARY_ENTRY
    };
    GnutlsLibrary found = { 0 };
    void *library;

    if (gnutls.init) {
        return 0;
    }
    library = dlopen(FILE_NAME, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        error_setg(errp, "TLS needs GnuTLS: %s", dlerror());
        return -ENOENT;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(function); i++) {
        void *address = dlsym(library, function[i].name);

        if (!address) {
            error_setg(errp, "%s is too old: it has no %s()", FILE_NAME, function[i].name);
            dlclose(library);
            return -ENOTSUP;
        }
        memcpy((char *)&found + function[i].at, &address, sizeof(address));
    }
    gnutls = found;             /* and never unloaded */
    return 0;
}

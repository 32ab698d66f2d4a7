/* SPDX-License-Identifier: MIT */
/* library.c: loading libnbd; see library.h. */
#include "drivers/protocol/nbd/library.h"
#include <dlfcn.h>

#define FILE_NAME "libnbd.so.0"     /* the version of its interface we are built for */

NbdLibrary libnbd;

int nbd_library_load(Error **errp)
{
    static const struct { const char *name; size_t at; } function[] = {
#define NBD_LIBRARY_ENTRY(name) { "nbd_" #name, offsetof(NbdLibrary, name) },
        NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_ENTRY)
#undef NBD_LIBRARY_ENTRY
    };
    NbdLibrary found = { 0 };
    void *library;

    if (libnbd.create) {
        return 0;
    }
    library = dlopen(FILE_NAME, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        error_setg(errp, "NBD needs libnbd: %s", dlerror());
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
    libnbd = found;             /* and never unloaded */
    return 0;
}

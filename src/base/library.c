/* SPDX-License-Identifier: MIT */
/* library.c: see library.h. */
#include "base/library.h"
#include <dlfcn.h>

int library_load(const char *file_name, const char *who, const LibraryFunction *functions, size_t n, void *table,
                 Error **errp)
{
    void *library = dlopen(file_name, RTLD_NOW | RTLD_LOCAL);

    if (!library) {
        error_setg(errp, "%s: %s", who, dlerror());
        return -ENOENT;
    }
    for (size_t i = 0; i < n; i++) {
        if (!dlsym(library, functions[i].name)) {
            error_setg(errp, "%s is too old: it has no %s()", file_name, functions[i].name);
            dlclose(library);
            return -ENOTSUP;
        }
    }
    for (size_t i = 0; i < n; i++) {
        void *address = dlsym(library, functions[i].name);

        memcpy((char *)table + functions[i].at, &address, sizeof(address));
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* library.c: loading libnbd; see library.h. */
#include "drivers/protocol/nbd/library.h"
#include "base/library.h"

#define FILE_NAME "libnbd.so.0"     /* the version of its interface we are built for */

NbdLibrary libnbd;

int nbd_library_load(Error **errp)
{
    static const LibraryFunction functions[] = {
#define NBD_LIBRARY_ENTRY(name) { "nbd_" #name, offsetof(NbdLibrary, name) },
        NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_ENTRY)
#undef NBD_LIBRARY_ENTRY
    };

    return libnbd.create ? 0 : library_load(FILE_NAME, "NBD needs libnbd", functions, G_N_ELEMENTS(functions), &libnbd, errp);
}

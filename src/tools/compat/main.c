/* SPDX-License-Identifier: MIT */
/* main.c: one binary, several programs: which one the name says. */
#include "compat/compat.h"

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} programs[] = {
    { "qemu-img", img_main }, { "qemu-io", io_main }, { "qemu-nbd", nbd_main },
};

int main(int argc, char **argv)
{
    g_autofree char *base = g_path_get_basename(argv[0]);

    g_set_prgname(base);
    compat_program = argv[0];
    for (size_t i = 0; i < G_N_ELEMENTS(programs); i++) {
        if (!strcmp(base, programs[i].name)) {
            return programs[i].main(argc, argv);
        }
    }
    error_report("called by a name that is none of its programs");
    return EXIT_FAILURE;
}

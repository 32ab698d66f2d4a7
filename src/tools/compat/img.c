/* SPDX-License-Identifier: MIT */
/* img.c: qemu-img: its commands, and what stands before them. */
#include "compat/compat.h"
#include "trace_option.h"
#include <getopt.h>

static const CompatCommand commands[] = {
    { "amend", "Change what an image is: its version, its size ...",
      "[-f FMT | --image-opts] -o OPTIONS [-p] [-q] [-t CACHE] [--force] FILENAME", img_amend_options, img_amend },
    { "bench", "Measure how fast an image is.",
      "[-f FMT | --image-opts] [-t CACHE] [-c COUNT] [-d DEPTH] [-o OFFSET] [-s SIZE] [-S STEP] [-w] FILENAME",
      img_bench_options, img_bench },
    { "bitmap", "Change the dirty bitmaps stored in an image.",
      "(--add [-g SIZE] | --remove | --clear | --enable | --disable | --merge SOURCE [-b FILE [-F FMT]])... "
      "[-f FMT | --image-opts] FILENAME BITMAP", img_bitmap_options, img_bitmap },
    { "check", "Look for errors in an image, and perhaps mend them.",
      "[-f FMT | --image-opts] [-r leaks|all] [--output human|json] [-q] [-U] [-T CACHE] FILENAME",
      img_check_options, img_check },
    { "commit", "Write what an image has of its own into its backing image.",
      "[-f FMT | --image-opts] [-b BASE] [-d] [-r RATE] [-t CACHE] [-p] [-q] FILENAME",
      img_commit_options, img_commit },
    { "compare", "Tell whether two images show the same contents.",
      "[--image-opts | [-f FMT] [-F FMT]] [-s] [-p] [-q] [-U] [-T CACHE] FILENAME1 FILENAME2",
      img_compare_options, img_compare },
    { "convert", "Copy images into one, perhaps of another format.",
      "[-f FMT] [-O FMT] [-o OPTIONS] [-B BACKING -F FMT] [-c] [-n] [-p] [-S SIZE] [-m N] [-W] SOURCE... TARGET",
      img_convert_options, img_convert },
    { "create", "Make a new image.",
      "[-f FMT] [-o OPTIONS] [-b BACKING [-F BACKING_FMT]] [-u] [-q] FILENAME [SIZE[bkKMGTPE]]",
      img_create_options, img_create },
    { "dd", "Copy a part of an image.",
      "[-f FMT | --image-opts] [-O FMT] [-U] [bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT",
      img_dd_options, img_dd },
    { "info", "Tell what is known of an image.",
      "[-f FMT | --image-opts] [-b] [-U] [--output human|json] FILENAME",
      img_info_options, img_info },
    { "map", "Show where the data of an image lies.",
      "[-f FMT | --image-opts] [--start-offset N] [--max-length N] [--output human|json] [-U] FILENAME",
      img_map_options, img_map },
    { "measure", "Compute how large the file of a new image would be.",
      "[-f FMT | --image-opts] [-O FMT] [-o OPTIONS] [--output human|json] (--size SIZE | FILENAME)",
      img_measure_options, img_measure },
    { "rebase", "Put another backing image below an image.",
      "[-f FMT | --image-opts] [-b BACKING -F FMT] [-u] [-c] [-p] [-q] FILENAME",
      img_rebase_options, img_rebase },
    { "resize", "Change the size of an image.",
      "[-f FMT | --image-opts] [--preallocation MODE] [--shrink] [-q] FILENAME [+-]SIZE[bkKMGTPE]",
      img_resize_options, img_resize },
    { "snapshot", "List, make, apply or delete snapshots inside an image.",
      "[-f FMT | --image-opts] [-l | -c SNAPSHOT | -a SNAPSHOT | -d SNAPSHOT] [-q] [-U] FILENAME",
      img_snapshot_options, img_snapshot },
};

static void print_help(void)
{
    g_autofree char *list = compat_formats();

    printf("%s " LIVEBLK_VERSION " (liveblk)\n"
           "Usage: %s [-h] [-V] [-T PATTERN] COMMAND [OPTIONS]\n\nCommands (qemu-img COMMAND --help tells more):\n",
           g_get_prgname(), g_get_prgname());
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  %s - %s\n", commands[i].name, commands[i].summary);
    }
    printf("\nSupported image formats:\n%s\n", list);
}

int img_main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
        { "trace", required_argument, NULL, 'T' }, { NULL },
    };
    Error *err = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "+hVT:", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            print_help();
            return EXIT_SUCCESS;
        case 'V':
            printf("%s version " LIVEBLK_VERSION " (liveblk)\nCopyright (c) 2026 The liveblk authors\n", g_get_prgname());
            return EXIT_SUCCESS;
        case 'T':
            if (trace_option(optarg, &err) < 0) {
                error_prepend(&err, "--trace %s: ", optarg);
                error_report_err(err);
                return EXIT_FAILURE;
            }
            break;
        default:
            fprintf(stderr, "Try '%s --help' for more info\n", argv[0]);
            return EXIT_FAILURE;
        }
    }
    if (optind >= argc) {
        return compat_usage(NULL, "Not enough arguments");
    }
    const char *name = argv[optind];

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i].name, name)) {
            argv += optind;
            argc -= optind;
            argv[0] = g_strdup_printf("%s %s", compat_program, name);
            optind = 0;
            int ret = commands[i].run(argc, argv, &commands[i]);

            compat_engine_stop();
            return fflush(stdout) || ferror(stdout) ? EXIT_FAILURE : ret;
        }
    }
    return compat_usage(NULL, "Command not found: %s", name);
}

/* SPDX-License-Identifier: MIT */
/* io.c: qemu-io: commands of the shell (src/ioshell) from options or standard input, run on one image. */
#include "compat/io.h"
#include "drivers/drivers.h"
#include "lines.h"
#include "trace_option.h"
#include <getopt.h>

enum { OPT_IMAGE_OPTS = 256, OPT_OBJECT };

#define OPTION(letter, name, arg, help) { letter, name, arg, help }

static const CompatOption io_options[] = {
    OPTION(OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret"),
    OPTION(OPT_IMAGE_OPTS, "image-opts", NULL, "FILE is options, not a name"),
    OPTION('c', "cmd", "COMMAND", "run it; may be repeated; without: what standard input says"),
    OPTION('f', "format", "FMT", "format of the image (probed)"),
    OPTION('r', "read-only", NULL, "for reading only"),
    OPTION('s', "snapshot", NULL, "what is written goes to a temporary file, and is lost at the end"),
    OPTION('n', "nocache", NULL, "the same as -t none"),
    OPTION('C', "copy-on-read", NULL, "what is read from a backing image is kept in the image"),
    OPTION('m', "misalign", NULL, "use buffers that are not aligned"),
    OPTION('k', "native-aio", NULL, "the same as -i native"),
    OPTION('i', "aio", "MODE", "threads, native or io_uring"),
    OPTION('t', "cache", "MODE", "how the host caches (writeback)"),
    OPTION('d', "discard", "MODE", "ignore or unmap (unmap)"),
    OPTION('T', "trace", "PATTERN", "tell what happens, on standard error"),
    OPTION('U', "force-share", NULL, "open it though another program writes to it; needs -r"),
    OPTION('V', "version", NULL, "show the version and end"),
    { 0 },
};

static const CompatCommand io_program = {
    "", "Read, write and look at an image by hand.", "[OPTIONS] [-c COMMAND]... [FILE]", io_options, NULL,
};

typedef struct IoCall {
    IoShell *shell;
    IoOpen open;
    GPtrArray *commands;        /* of -c */
    const char *line;           /* in hand */
    bool quit, failed, misalign;
} IoCall;

/* ---- output ---- */

static void print(void *opaque, bool error, const char *text)
{
    if (error) {
        fflush(stdout);
    }
    fputs(text, error ? stderr : stdout);
}

static void print_breakpoint(const char *what, const char *tag)
{
    printf("blkdebug: %s request '%s'\n", what, tag);
}

/* ---- commands of the program alone ---- */

static int coroutine_fn quit_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    ((IoCall *)ioshell_opaque(s))->quit = true;
    return 0;
}

static int coroutine_fn close_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    control_co_lock();
    ioshell_co_set_backend(s, NULL);
    control_co_unlock();
    return 0;
}

static int coroutine_fn open_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    IoOpen o = { .discard = "unmap", .image_opts = ((IoCall *)ioshell_opaque(s))->open.image_opts };
    int ret = io_open_parse(s, cmd, &o, argc, argv);

    if (ret == 0) {
        ret = io_co_open(s, &o);
    }
    io_open_clear(&o);
    return ret;
}

static const IoCommand more_commands[] = {
    { .name = "open", .alias = "o", .run = open_run, .args_min = 1, .args_max = -1, .no_file = true,
      .args = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]", .oneline = "open the file specified by path",
      .help = "\n -r  for reading only\n -s  what is written goes to a temporary file\n"
              " -C  what is read from a backing image is kept in the image\n -n  the same as -t none\n"
              " -U  though another program writes to it; needs -r\n -k  the same as -i native\n"
              " -i  threads, native or io_uring\n -t  how the host caches\n -d  ignore or unmap\n"
              " -o  options of the driver\n Example: open -o driver=raw /tmp/data\n\n" },
    { .name = "close", .alias = "c", .run = close_run, .oneline = "close the current open file" },
    { .name = "quit", .alias = "q", .run = quit_run, .no_file = true, .oneline = "exit the program" },
    { 0 },
};

/* ---- running ---- */

static void coroutine_fn start_co(void *opaque)
{
    IoCall *call = opaque;
    IoShellConfig config = { .print = print, .opaque = call, .program = g_get_prgname(), .more = more_commands };

    call->shell = ioshell_new(&config);
    ioshell_set_misalign(call->shell, call->misalign);
    if (call->open.name || call->open.options) {
        call->failed = io_co_open(call->shell, &call->open) < 0;
    }
}

static void coroutine_fn line_co(void *opaque)
{
    IoCall *call = opaque;

    if (ioshell_co_run(call->shell, call->line) < 0) {
        call->failed = true;
    }
}

static void coroutine_fn end_co(void *opaque)
{
    IoCall *call = opaque;

    close_run(call->shell, NULL, 0, NULL);
    ioshell_co_free(call->shell);
}

static void run_line(IoCall *call, const char *line)
{
    call->line = line;
    aio_co_run(line_co, call);
}

/* ---- standard input ---- */

static void run_input(IoCall *call)
{
    InputLines *in = input_lines_new();

    while (!call->quit) {
        printf("%s> ", g_get_prgname());
        fflush(stdout);
        g_autofree char *line = input_lines_next(in);

        if (!line) {
            break;
        }
        run_line(call, line);
    }
    input_lines_free(in);
}

/* ---- the program ---- */

static void print_help(void)
{
    printf("%s " LIVEBLK_VERSION " (liveblk)\n", g_get_prgname());
    compat_print_help(&io_program, g_get_prgname());
    printf("\nCommands: %s -c help\n", g_get_prgname());
}

static bool set_mode(const char *what, const char *value, bool valid)
{
    if (!valid) {
        error_report("Invalid %s option: %s", what, value);
    }
    return valid;
}

/* False: it is wrong, which is said. */
static bool take_option(IoCall *call, int c)
{
    IoOpen *o = &call->open;
    Error *err = NULL;

    switch (c) {
    case 'c': g_ptr_array_add(call->commands, optarg); return true;
    case 'f': o->format = optarg; return true;
    case 'r': o->read_only = true; return true;
    case 's': o->snapshot = true; return true;
    case 'n': o->cache = "none"; return true;
    case 'C': o->copy_on_read = true; return true;
    case 'm': call->misalign = true; return true;
    case 'k': o->aio = "native"; return true;
    case 'i': o->aio = optarg; return set_mode("aio", optarg, compat_aio_mode(optarg));
    case 't': o->cache = optarg; return set_mode("cache", optarg, io_cache_mode_valid(optarg));
    case 'd': o->discard = optarg; return set_mode("discard", optarg, io_discard_mode_valid(optarg));
    case 'U': o->force_share = true; return true;
    case 'T':
        if (trace_option(optarg, &err) < 0) {
            error_report_err(err);
        }
        return !err;
    case OPT_IMAGE_OPTS: o->image_opts = true; return true;
    case OPT_OBJECT: return compat_object_add(optarg);
    }
    return true;
}

static int run(IoCall *call)
{
    compat_engine_start();
    blkdebug_set_report(print_breakpoint);
    aio_co_run(start_co, call);
    if (!call->failed && call->commands->len) {
        for (guint i = 0; i < call->commands->len && !call->quit; i++) {
            run_line(call, g_ptr_array_index(call->commands, i));
        }
    } else if (!call->failed) {
        run_input(call);
    }
    aio_co_run(end_co, call);
    compat_engine_stop();
    return fflush(stdout) || ferror(stdout) || call->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int io_main(int argc, char **argv)
{
    IoCall call = { .open.discard = "unmap", .commands = g_ptr_array_new() };
    struct option longs[G_N_ELEMENTS(io_options) + 2] = { { "help", no_argument, NULL, 'h' } };
    int c, n = 1;

    for (const CompatOption *o = io_options; o->c; o++) {
        longs[n++] = (struct option) { o->name, o->arg ? required_argument : no_argument, NULL, o->c };
    }
    while ((c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", longs, NULL)) != -1) {
        if (c == 'h') {
            print_help();
            return EXIT_SUCCESS;
        }
        if (c == 'V') {
            printf("%s version " LIVEBLK_VERSION " (liveblk)\nCopyright (c) 2026 The liveblk authors\n", g_get_prgname());
            return EXIT_SUCCESS;
        }
        if (c == '?') {
            print_help();
            return EXIT_FAILURE;
        }
        if (!take_option(&call, c)) {
            return EXIT_FAILURE;
        }
    }
    if (optind < argc - 1) {
        print_help();
        return EXIT_FAILURE;
    }
    if (call.open.format && call.open.image_opts) {
        return compat_fail("--image-opts and -f are mutually exclusive");
    }
    call.open.name = argv[optind];
    int ret = run(&call);

    io_open_clear(&call.open);
    g_ptr_array_free(call.commands, true);
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* img_create.c: qemu-img create. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256 };

const CompatOption img_create_options[] = {
    { 'q', "quiet", NULL, "say nothing" },
    { 'f', "format", "FMT", "format of the new image (raw)" },
    { 'o', "options", "OPTIONS", "options of the format; -o help lists them" },
    { 'b', "backing", "BACKING", "image that it begins as" },
    { 'F', "backing-format", "FMT", "format of the backing image" },
    { 'u', "backing-unsafe", NULL, "do not look at the backing image" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct CreateCall {
    const char *filename, *format, *backing, *backing_format;
    char *options;              /* all -o, joined */
    int64_t size;               /* -1: not given */
    bool quiet, unchecked;
    CompatCreate *c;
} CreateCall;

static int set_given(CreateCall *call, Error **errp)
{
    CompatCreate *c = call->c;

    if (call->options && compat_create_parse(c, call->options, errp) < 0) {
        return -EINVAL;
    }
    if (call->size >= 0) {
        g_autofree char *text = g_strdup_printf("%" PRId64, call->size);

        if (compat_create_get(c, "size")) {
            error_setg(errp, "The image size must be specified only once");
            return -EINVAL;
        }
        compat_create_set(c, "size", text, NULL);
    }
    if (call->backing && compat_create_set(c, "backing_file", call->backing, NULL) < 0) {
        error_setg(errp, "Backing file not supported for file format '%s'", call->format);
        return -EINVAL;
    }
    if (call->backing_format && compat_create_set(c, "backing_fmt", call->backing_format, NULL) < 0) {
        error_setg(errp, "Backing file format not supported for file format '%s'", call->format);
        return -EINVAL;
    }
    return 0;
}

/* The size of a new overlay; the backing image is opened to see that it can be. */
static int coroutine_fn look_at_backing(CreateCall *call, Error **errp)
{
    const char *backing = compat_create_get(call->c, "backing_file"), *fmt = compat_create_get(call->c, "backing_fmt");
    ERRP_GUARD();

    if (backing && !*backing) {
        error_setg(errp, "Expected backing file name, got empty string");
        return -EINVAL;
    }
    if (backing && !strcmp(call->filename, backing)) {
        error_setg(errp, "Error: Trying to create an image with the same filename as the backing file");
        return -EINVAL;
    }
    if (backing && call->unchecked && !fmt) {
        error_setg(errp, "Backing file specified without backing format");
        return -EINVAL;
    }
    if (!backing || call->unchecked) {
        return 0;
    }
    g_autofree char *path = ops_backing_path(call->filename, backing);
    CompatOpen open = { .name = path, .format = fmt, .no_backing = true };
    BlockBackend *blk = compat_co_open(&open, errp);

    if (!blk) {
        error_append_hint(errp, "Could not open backing image.\n");
        return -EINVAL;
    }
    if (!fmt) {
        error_setg(errp, "Backing file specified without backing format");
        error_append_hint(errp, "Detected format of %s.\n", blk_bs(blk)->drv->format_name);
    } else if (!compat_create_get(call->c, "size")) {
        g_autofree char *text = g_strdup_printf("%" PRId64, blk_co_getlength(blk));

        compat_create_set(call->c, "size", text, NULL);
    }
    blk_unref(blk);
    return fmt ? 0 : -EINVAL;
}

static int coroutine_fn create_op(void *opaque, Error **errp)
{
    CreateCall *call = opaque;
    ERRP_GUARD();

    call->c = compat_create_new(call->format, call->filename);
    if (!call->c) {
        error_setg(errp, "Unknown file format '%s'", call->format);
        return -EINVAL;
    }
    int ret = set_given(call, errp);

    if (ret == 0) {
        ret = look_at_backing(call, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (!compat_create_get(call->c, "size")) {
        error_setg(errp, "Image creation needs a size parameter");
        return -EINVAL;
    }
    if (!call->quiet) {
        g_autofree char *text = compat_create_describe(call->c);

        printf("Formatting '%s', fmt=%s%s\n", call->filename, call->format, text);
        fflush(stdout);
    }
    int made = compat_co_create(call->c, errp);

    if (made == -EFBIG && compat_create_get(call->c, "size")) {
        error_free(*errp);
        *errp = NULL;
        error_setg(errp, "The image size is too large for file format '%s'%s", call->format,
                   compat_create_supports_backing(call->c) ? " (try using a larger cluster size)" : "");
    }
    return made;
}

static void add_options(char **all, const char *more)
{
    char *joined = *all ? g_strdup_printf("%s,%s", *all, more) : g_strdup(more);

    g_free(*all);
    *all = joined;
}

int img_create(int argc, char **argv, const CompatCommand *cmd)
{
    /* Lives as long as the program, which many a refusal below ends. */
    static CreateCall call = { .format = "raw", .size = -1 };
    Error *err = NULL;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'f': call.format = optarg; break;
        case 'b': call.backing = optarg; break;
        case 'F': call.backing_format = optarg; break;
        case 'u': call.unchecked = true; break;
        case 'q': call.quiet = true; break;
        case 'o':
            if (!compat_option_list_valid(optarg)) {
                return EXIT_FAILURE;
            }
            add_options(&call.options, optarg);
            break;
        case OPT_OBJECT:
            if (!compat_object_add(optarg)) {
                return EXIT_FAILURE;
            }
            break;
        }
    }
    call.filename = optind < argc ? argv[optind++] : NULL;
    if (call.options && compat_is_help(call.options)) {
        return compat_create_help(call.format, call.filename);
    }
    if (!call.filename) {
        return compat_usage(cmd, "Expecting image file name");
    }
    if (optind < argc && !compat_number("image size", argv[optind++], 0, INT64_MAX, &call.size)) {
        return EXIT_FAILURE;
    }
    if (optind < argc) {
        return compat_usage(cmd, "Unexpected argument: %s", argv[optind]);
    }
    compat_engine_start();
    int ret = ops_run(create_op, &call, &err);

    compat_create_free(call.c);
    g_free(call.options);
    if (ret < 0) {
        error_reportf_err(err, "%s: ", call.filename);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

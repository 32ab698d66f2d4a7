/* SPDX-License-Identifier: MIT */
/* img_resize.c: qemu-img resize. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS, OPT_PREALLOCATION, OPT_SHRINK };

const CompatOption img_resize_options[] = {
    { 'q', "quiet", NULL, "say nothing" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { OPT_SHRINK, "shrink", NULL, "it may get smaller" },
    { OPT_PREALLOCATION, "preallocation", "MODE", "how the new space is made (off)" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct ResizeCall {
    CompatOpen open;
    int relative;               /* +1, -1: @size is a difference */
    int64_t size;
    PreallocMode prealloc;
    bool shrink, quiet;
} ResizeCall;

static int coroutine_fn resize_open(ResizeCall *call, BlockBackend *blk, Error **errp)
{
    int64_t now = blk_co_getlength(blk);
    int64_t wanted = call->size;

    if (call->relative && (call->size < 0 || __builtin_add_overflow(now, call->relative * call->size, &wanted))) {
        wanted = -1;
    }

    if (now < 0) {
        error_setg_errno(errp, -now, "Failed to inquire current image length");
        return now;
    }
    if (wanted <= 0) {
        error_setg(errp, "New image size must be positive");
        return -EINVAL;
    }
    if (wanted <= now && call->prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation can only be used for growing images");
        return -EINVAL;
    }
    if (wanted < now && !call->shrink) {
        error_report("Use the --shrink option to perform a shrink operation.");
        warn_report("Shrinking an image will delete all data beyond the shrunken image's end. Before performing "
                    "such an operation, make sure there is no important data there.");
        return -EPERM;
    }
    /* Sizes are whole sectors for everybody who opens it later. */
    int ret = blk_co_truncate(blk, wanted, true, call->prealloc, 0, errp);

    if (ret == 0 && !call->quiet) {
        printf("Image resized.\n");
    }
    return ret;
}

static int coroutine_fn resize_op(void *opaque, Error **errp)
{
    ResizeCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->open);
    int ret;

    if (!blk) {
        return -EIO;
    }
    ret = resize_open(call, blk, errp);
    blk_unref(blk);
    return ret;
}

static bool parse_size(ResizeCall *call, const char *text)
{
    Error *err = NULL;
    uint64_t v;

    call->relative = *text == '+' ? 1 : *text == '-' ? -1 : 0;
    if (!compat_size("size", text + (call->relative != 0), &v, &err)) {
        error_report_err(err);
        return false;
    }
    call->size = v;             /* beyond the largest length: negative, and refused as that */
    return true;
}

int img_resize(int argc, char **argv, const CompatCommand *cmd)
{
    ResizeCall call = { .open = { .writable = true, .resize = true } };
    Error *err = NULL;
    const char *size = NULL;
    int c;

    /* "-1G" is no option. */
    if (argc > 2 && argv[argc - 1][0] == '-' && g_ascii_isdigit(argv[argc - 1][1])) {
        size = argv[--argc];
    }
    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'f': call.open.format = optarg; break;
        case 'q': call.quiet = true; break;
        case OPT_IMAGE_OPTS: call.open.image_opts = true; break;
        case OPT_SHRINK: call.shrink = true; break;
        case OPT_PREALLOCATION: {
            int mode = qapi_enum_parse(&qapi_type_PreallocMode, optarg);

            if (mode < 0) {
                return compat_fail("Invalid preallocation mode '%s'", optarg);
            }
            call.prealloc = mode;
            break;
        }
        case OPT_OBJECT:
            if (!compat_object_add(optarg)) {
                return EXIT_FAILURE;
            }
            break;
        }
    }
    if (!size && optind + 2 == argc) {
        size = argv[--argc];
    }
    if (argc - optind > 1) {
        return compat_usage(cmd, "Extra argument(s) in command line");
    }
    if (!size || optind == argc) {
        return compat_usage(cmd, "Expecting image file name and size");
    }
    call.open.name = argv[optind];
    if (call.open.image_opts && call.open.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    if (!parse_size(&call, size)) {
        return EXIT_FAILURE;
    }
    compat_engine_start();
    int ret = ops_run(resize_op, &call, &err);

    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

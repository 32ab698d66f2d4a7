/* SPDX-License-Identifier: MIT */
/* img_dd.c: qemu-img dd. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

const CompatOption img_dd_options[] = {
    { 'f', "format", "FMT", "format of the input (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "INPUT is options, not a name" },
    { 'O', "output-format", "FMT", "format of the output (raw)" },
    { 'U', "force-share", NULL, "open the input though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct DdCall {
    CompatOpen in;
    const char *out, *out_format;
    int64_t bs, count, skip;    /* count -1: all */
    CompatCreate *create;
} DdCall;

/* Bytes of the input to copy, from *offset on. */
static int64_t bytes_wanted(const DdCall *call, int64_t size, int64_t *offset)
{
    int64_t wanted = size;

    if (call->count >= 0 && call->count <= size / call->bs) {
        wanted = MIN(size, call->count * call->bs);
    }
    if (call->skip && (call->skip > INT64_MAX / call->bs || size < call->skip * call->bs)) {
        error_report("%s: cannot skip to specified offset", call->in.name);
        *offset = size;
        return 0;
    }
    *offset = call->skip * call->bs;
    if (call->count >= 0) {
        return MIN(wanted, size - *offset);
    }
    return size - *offset;
}

static int coroutine_fn dd_open(DdCall *call, BlockBackend *in, Error **errp)
{
    CompatOpen target = { .name = call->out, .format = call->out_format, .writable = true, .resize = true };
    int64_t offset, size = blk_co_getlength(in);
    int64_t bytes = bytes_wanted(call, size, &offset);
    g_autofree char *text = g_strdup_printf("%" PRId64, bytes);
    ERRP_GUARD();

    compat_create_set(call->create, "size", text, NULL);
    int ret = compat_co_create(call->create, errp);

    if (ret < 0) {
        error_prepend(errp, "%s: error while creating output image: ", call->out);
        return ret;
    }
    BlockBackend *out = compat_co_open_report(&target);

    if (!out) {
        return -EIO;
    }
    ret = ops_copy_plain(in, offset, out, 0, bytes, errp);
    blk_unref(out);
    return ret;
}

static int coroutine_fn dd_op(void *opaque, Error **errp)
{
    DdCall *call = opaque;
    BlockBackend *in = compat_co_open_report(&call->in);
    int ret = -EIO;

    if (!in) {
        return ret;
    }
    call->create = compat_create_new(call->out_format, call->out);
    if (!call->create) {
        error_setg(errp, "Unknown file format");
    } else {
        ret = dd_open(call, in, errp);
    }
    compat_create_free(call->create);
    blk_unref(in);
    return ret;
}

static bool operand(DdCall *call, char *text)
{
    char *value = strchr(text, '=');

    if (value) {
        *value++ = '\0';
        if (!strcmp(text, "if")) {
            call->in.name = value;
            return true;
        }
        if (!strcmp(text, "of")) {
            call->out = value;
            return true;
        }
        if (!strcmp(text, "bs")) {
            return compat_number("bs", value, 1, INT_MAX, &call->bs);
        }
        if (!strcmp(text, "count")) {
            return compat_number("count", value, 0, INT64_MAX, &call->count);
        }
        if (!strcmp(text, "skip")) {
            return compat_number("skip", value, 0, INT64_MAX, &call->skip);
        }
    }
    compat_fail("unrecognized operand %s", text);
    return false;
}

int img_dd(int argc, char **argv, const CompatCommand *cmd)
{
    DdCall call = { .bs = 512, .count = -1, .out_format = "raw" };
    Error *err = NULL;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'f': call.in.format = optarg; break;
        case 'O': call.out_format = optarg; break;
        case 'U': call.in.force_share = true; break;
        case OPT_IMAGE_OPTS: call.in.image_opts = true; break;
        case OPT_OBJECT:
            if (!compat_object_add(optarg)) {
                return EXIT_FAILURE;
            }
            break;
        }
    }
    for (int i = optind; i < argc; i++) {
        if (!operand(&call, argv[i])) {
            return EXIT_FAILURE;
        }
    }
    if (!call.in.name || !call.out) {
        return compat_fail("Must specify both input and output files");
    }
    if (call.in.image_opts && call.in.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    compat_engine_start();
    int ret = ops_run(dd_op, &call, &err);

    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

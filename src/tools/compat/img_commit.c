/* SPDX-License-Identifier: MIT */
/* img_commit.c: qemu-img commit. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

const CompatOption img_commit_options[] = {
    { 'q', "quiet", NULL, "no progress, no messages" },
    { 'p', "progress", NULL, "show progress" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 't', "cache", "MODE", "how the host caches (writeback)" },
    { 'd', "drop", NULL, "do not empty the image afterwards" },
    { 'b', "base", "BASE", "an image of the backing chain to commit to, in place of the next; implies --drop" },
    { 'r', "rate", "RATE", "bytes a second at most" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct CommitCall {
    CompatOpen image;
    const char *base;
    OpsCommit c;
} CommitCall;

static int coroutine_fn commit_op(void *opaque, Error **errp)
{
    CommitCall *call = opaque;
    int ret = -EINVAL;

    call->c.top = compat_co_open_report(&call->image);
    if (!call->c.top) {
        return -EIO;
    }
    BlockDriverState *top = blk_bs(call->c.top);

    call->c.base = call->base ? ops_find_backing(top, call->base) : bdrv_backing_chain_next(bdrv_skip_filters(top));
    if (!call->c.base && call->base) {
        error_setg(errp, "Did not find '%s' in the backing chain of '%s'", call->base, call->image.name);
    } else if (!call->c.base) {
        error_setg(errp, "Image does not have a backing file");
    } else {
        ret = ops_commit(&call->c, errp);
    }
    blk_unref(call->c.top);
    return ret;
}

int img_commit(int argc, char **argv, const CompatCommand *cmd)
{
    CommitCall call = { .image = { .writable = true, .unmap = true } };
    const char *cache = "writeback";
    bool show = false, quiet = false, drop = false, through;
    Error *err = NULL;
    int64_t rate = 0;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'q': quiet = true; break;
        case 'p': show = true; break;
        case 'f': call.image.format = optarg; break;
        case OPT_IMAGE_OPTS: call.image.image_opts = true; break;
        case 't': cache = optarg; break;
        case 'd': drop = true; break;
        case 'b': call.base = optarg; break;
        case 'r':
            if (!compat_number("rate limit", optarg, 0, INT64_MAX, &rate)) {
                return EXIT_FAILURE;
            }
            break;
        case OPT_OBJECT:
            if (!compat_object_add(optarg)) {
                return EXIT_FAILURE;
            }
            break;
        }
    }
    if (optind + 1 != argc) {
        return compat_usage(cmd, "Expecting one image file name");
    }
    if (call.image.image_opts && call.image.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    if (!compat_cache_mode(cache, &call.image.cache_flags, &through)) {
        return compat_fail("Invalid cache option: %s", cache);
    }
    call.image.name = argv[optind];
    call.c.rate = rate;
    call.c.empty = !drop && !call.base;
    compat_engine_start();
    CompatProgress *p = compat_progress_new(show && !quiet, 1.0);

    call.c.progress = compat_progress_ops(p);
    int ret = ops_run(commit_op, &call, &err);

    compat_progress_end(p, ret == 0);
    if (err) {
        error_report_err(err);
    }
    if (ret == 0 && !quiet) {
        printf("Image committed.\n");
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/* img_rebase.c: qemu-img rebase. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

const CompatOption img_rebase_options[] = {
    { 'q', "quiet", NULL, "no progress" },
    { 'p', "progress", NULL, "show progress" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 't', "cache", "MODE", "how the host caches the image (writeback)" },
    { 'b', "backing", "BACKING", "the new backing image; \"\": none" },
    { 'F', "backing-format", "FMT", "format of the new backing image" },
    { 'T', "backing-cache", "MODE", "how the host caches the backing images (writeback)" },
    { 'u', "backing-unsafe", NULL, "only change the name in the image" },
    { 'c', "compress", NULL, "compress what is copied into the image" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct RebaseCall {
    CompatOpen image;
    const char *backing, *backing_format;
    int backing_flags;
    bool unsafe;
    OpsRebase r;
} RebaseCall;

static BlockBackend *coroutine_fn open_backing(RebaseCall *call, const char *path, const char *format,
                                               const char *which, Error **errp)
{
    CompatOpen open = { .name = path, .format = format, .cache_flags = call->backing_flags,
                        .force_share = call->image.force_share };
    ERRP_GUARD();
    BlockBackend *blk = compat_co_open(&open, errp);

    if (!blk) {
        error_prepend(errp, "Could not open %s backing file '%s': ", which, path);
    }
    return blk;
}

/* Both backing images, and what differs. */
static int coroutine_fn copy_different(RebaseCall *call, BlockDriverState *bs, Error **errp)
{
    BlockDriverState *old = bdrv_backing_chain_next(bs);
    int ret;

    if (old) {
        call->r.old_backing = blk_new_with_bs(old, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, errp);
        if (!call->r.old_backing) {
            return -EPERM;
        }
    }
    if (call->backing && *call->backing) {
        g_autofree char *path = ops_backing_path(bs->exact_filename, call->backing);

        call->r.new_backing = open_backing(call, path, call->backing_format, "new", errp);
        if (!call->r.new_backing) {
            return -EIO;
        }
    }
    call->r.common = ops_find_common(old, call->r.new_backing);
    ret = ops_rebase(&call->r, errp);
    blk_unref(call->r.old_backing);
    blk_unref(call->r.new_backing);
    return ret;
}

static int coroutine_fn change_name(RebaseCall *call, BlockDriverState *bs, Error **errp)
{
    const char *name = call->backing && *call->backing ? call->backing : NULL;
    Error *err = NULL;
    int ret;

    if (name && !call->backing_format && bs->drv->co_change_backing_file) {
        error_setg(errp, "Could not change the backing file to '%s': backing format must be specified", name);
        return -EINVAL;
    }
    ret = bdrv_change_backing_file(bs, name, name ? call->backing_format : NULL, &err);
    if (ret == -ENOTSUP) {
        error_setg_errno(errp, ENOTSUP, "Could not change the backing file to '%s'", name ? name : "");
        error_free(err);
    } else if (ret < 0) {
        error_propagate(errp, err);
    }
    return ret;
}

static int coroutine_fn rebase_op(void *opaque, Error **errp)
{
    RebaseCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->image);
    int ret = 0;

    if (!blk) {
        return -EIO;
    }
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));

    if (call->backing_format && !bdrv_find_format(call->backing_format)) {
        error_setg(errp, "Invalid format name: '%s'", call->backing_format);
        ret = -EINVAL;
    } else if (call->r.compress && !bs->drv->co_pwritev_compressed) {
        error_setg(errp, "Compression not supported for this file format");
        ret = -ENOTSUP;
    } else if (!call->unsafe) {
        call->r.overlay = blk;
        ret = copy_different(call, bs, errp);
    }
    if (ret == 0) {
        ret = change_name(call, bs, errp);
    }
    blk_unref(blk);
    return ret;
}

int img_rebase(int argc, char **argv, const CompatCommand *cmd)
{
    RebaseCall call = { .image = { .writable = true, .resize = false } };
    const char *cache = "writeback", *backing_cache = "writeback";
    bool show = false, quiet = false, through;
    Error *err = NULL;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'q': quiet = true; break;
        case 'p': show = true; break;
        case 'f': call.image.format = optarg; break;
        case 't': cache = optarg; break;
        case 'T': backing_cache = optarg; break;
        case 'b': call.backing = optarg; break;
        case 'F': call.backing_format = optarg; break;
        case 'u': call.unsafe = true; break;
        case 'c': call.r.compress = true; break;
        case 'U': break;        /* the image is written: it cannot be shared */
        case OPT_IMAGE_OPTS: call.image.image_opts = true; break;
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
    if (!call.unsafe && !call.backing) {
        return compat_usage(cmd, "Must specify backing file (-b) or use unsafe mode (-u)");
    }
    if (call.image.image_opts && call.image.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    call.image.name = argv[optind];
    call.image.no_backing = call.unsafe;
    if (!compat_cache_mode(cache, &call.image.cache_flags, &through)) {
        return compat_fail("Invalid cache option: %s", cache);
    }
    if (!compat_cache_mode(backing_cache, &call.backing_flags, &through)) {
        return compat_fail("Invalid source cache option: %s", backing_cache);
    }
    compat_engine_start();
    CompatProgress *p = compat_progress_new(show && !quiet, 1.0);

    call.r.progress = compat_progress_ops(p);
    int ret = ops_run(rebase_op, &call, &err);

    compat_progress_end(p, ret == 0);
    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

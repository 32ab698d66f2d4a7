/* SPDX-License-Identifier: MIT */
/* img_bitmap.c: qemu-img bitmap. */
#include "compat/compat.h"
#include "block/block_int-global-state.h"
#include "block/dirty-bitmap.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS, OPT_ADD, OPT_REMOVE, OPT_CLEAR, OPT_ENABLE, OPT_DISABLE, OPT_MERGE };

const CompatOption img_bitmap_options[] = {
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { OPT_ADD, "add", NULL, "make the bitmap; it records what is written" },
    { 'g', "granularity", "SIZE", "bytes a bit stands for, for --add" },
    { OPT_REMOVE, "remove", NULL, "remove it" },
    { OPT_CLEAR, "clear", NULL, "mark all as clean" },
    { OPT_ENABLE, "enable", NULL, "record what is written" },
    { OPT_DISABLE, "disable", NULL, "do not record" },
    { OPT_MERGE, "merge", "SOURCE", "mark what bitmap SOURCE marks" },
    { 'b', "source-file", "FILE", "the image that SOURCE is in, if it is another" },
    { 'F', "source-format", "FMT", "format of that (probed)" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct Action {
    int what;                   /* OPT_ADD ... */
    const char *source;         /* of a merge */
} Action;

typedef struct BitmapCall {
    CompatOpen image, source;
    const char *bitmap;
    uint64_t granularity;       /* 0: not said */
    GArray *actions;
    bool add, merge;
} BitmapCall;

/* A bitmap to be changed: not one that is lost. */
static BdrvDirtyBitmap *usable(BlockDriverState *bs, const BitmapCall *call, Error **errp)
{
    BdrvDirtyBitmap *b = block_dirty_bitmap_lookup(bdrv_get_node_name(bs), call->bitmap, NULL, errp);

    return b && bdrv_dirty_bitmap_check(b, false, errp) == 0 ? b : NULL;
}

static int merge(BlockDriverState *bs, const BitmapCall *call, BlockDriverState *src, const char *name, Error **errp)
{
    BlockDirtyBitmap external = { .node = (char *)bdrv_get_node_name(src), .name = (char *)name };
    BlockDirtyBitmapMergeSource source = { .type = QTYPE_QDICT, .u.external = &external };
    BlockDirtyBitmapMergeSourceList list = { .value = &source };

    return block_dirty_bitmap_merge(bdrv_get_node_name(bs), call->bitmap, &list, NULL, errp) ? 0 : -EINVAL;
}

static const char *action_name(int what)
{
    switch (what) {
    case OPT_ADD: return "add";
    case OPT_REMOVE: return "remove";
    case OPT_CLEAR: return "clear";
    case OPT_ENABLE: return "enable";
    case OPT_DISABLE: return "disable";
    default: return "merge";
    }
}

static int act(const BitmapCall *call, BlockDriverState *bs, BlockDriverState *src, const Action *a, Error **errp)
{
    BdrvDirtyBitmap *b;

    switch (a->what) {
    case OPT_ADD:
        return ops_bitmap_add(bs, call->bitmap, call->granularity, errp) ? 0 : -EINVAL;
    case OPT_MERGE:
        return merge(bs, call, src, a->source, errp);
    case OPT_REMOVE:
        if (!block_dirty_bitmap_lookup(bdrv_get_node_name(bs), call->bitmap, NULL, errp)) {
            return -ENOENT;
        }
        block_dirty_bitmap_remove(bdrv_get_node_name(bs), call->bitmap, true, NULL, errp);
        return errp && *errp ? -EIO : 0;
    }
    b = usable(bs, call, errp);
    if (!b) {
        return -EINVAL;
    }
    switch (a->what) {
    case OPT_CLEAR: bdrv_clear_dirty_bitmap(b); break;
    case OPT_ENABLE: bdrv_enable_dirty_bitmap(b); break;
    case OPT_DISABLE: bdrv_disable_dirty_bitmap(b); break;
    }
    return 0;
}

static int act_all(const BitmapCall *call, BlockDriverState *bs, BlockDriverState *src)
{
    for (guint i = 0; i < call->actions->len; i++) {
        const Action *a = &g_array_index(call->actions, Action, i);
        Error *err = NULL;

        if (act(call, bs, src, a, &err) < 0) {
            error_reportf_err(err, "Operation %s on bitmap %s failed: ", action_name(a->what), call->bitmap);
            return -EINVAL;
        }
    }
    return 0;
}

static int coroutine_fn bitmap_op(void *opaque, Error **errp)
{
    BitmapCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->image), *src = NULL;
    int ret = -EIO;

    if (!blk) {
        return ret;
    }
    if (call->source.name) {
        src = compat_co_open_report(&call->source);
    }
    if (src || !call->source.name) {
        ret = act_all(call, blk_bs(blk), blk_bs(src ? src : blk));
    }
    if (ret == 0) {
        ret = ops_bitmaps_store(blk, errp);
    }
    blk_unref(src);
    blk_unref(blk);
    return ret;
}

static bool take_option(BitmapCall *call, int c)
{
    int64_t n;
    Action a = { c, optarg };

    switch (c) {
    case 'f': call->image.format = optarg; break;
    case OPT_IMAGE_OPTS: call->image.image_opts = true; break;
    case 'b': call->source.name = optarg; break;
    case 'F': call->source.format = optarg; break;
    case 'g':
        if (!compat_number("granularity", optarg, 0, INT64_MAX, &n)) {
            return false;
        }
        call->granularity = n;
        break;
    case OPT_OBJECT: return compat_object_add(optarg);
    default:
        call->add |= c == OPT_ADD;
        call->merge |= c == OPT_MERGE;
        g_array_append_val(call->actions, a);
    }
    return true;
}

static int check_and_run(BitmapCall *call, int argc, char **argv)
{
    Error *err = NULL;

    if (!call->actions->len) {
        return compat_fail("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
    }
    if (optind + 2 != argc) {
        return compat_fail("Expecting filename and bitmap name");
    }
    if (call->granularity && !call->add) {
        return compat_fail("granularity only supported with --add");
    }
    if (call->source.format && !call->source.name) {
        return compat_fail("-F only supported with -b");
    }
    if (call->source.name && !call->merge) {
        return compat_fail("Merge bitmap source file only supported with --merge");
    }
    if (call->image.image_opts && call->image.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    call->image.name = argv[optind];
    call->bitmap = argv[optind + 1];
    compat_engine_start();
    int ret = ops_run(bitmap_op, call, &err);

    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int img_bitmap(int argc, char **argv, const CompatCommand *cmd)
{
    BitmapCall call = { .image = { .writable = true } };
    int ret = EXIT_FAILURE, c;
    bool ok = true;

    call.actions = g_array_new(false, false, sizeof(Action));
    while (ok && (c = compat_next_option(argc, argv, cmd)) != -1) {
        ok = take_option(&call, c);
    }
    if (ok) {
        ret = check_and_run(&call, argc, argv);
    }
    g_array_free(call.actions, true);
    return ret;
}

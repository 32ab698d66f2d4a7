/* SPDX-License-Identifier: MIT */
/* cmd_convert.c: convert: copies of whole images, of parts of one, and of several behind each other. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "block/snapshot.h"

typedef struct ConvertCall {
    OpsSource src;              /* its name is that of the source in hand */
    const char *const *names;
    OpsCreate target;
    OpsConvert copy;
    const char *snapshot;       /* of the one source; NULL: what it holds now */
    uint64_t offset, length;    /* the part of the one source; length 0: up to its end */
    bool compress, existing, bitmaps, skip_lost;
} ConvertCall;

/* ---- the sources ---- */

/* Only a part of it: a window above it. Takes over @blk. */
static BlockBackend *coroutine_fn open_part(const ConvertCall *c, BlockBackend *blk, Error **errp)
{
    BlockDriverState *bs = blk_bs(blk);
    int64_t bytes = blk_co_getlength(blk);
    QDict *options = qdict_new();

    if (bytes < 0 || c->offset > (uint64_t)bytes || c->length > (uint64_t)bytes - c->offset) {
        error_setg(errp, "'%s' has %" PRId64 " bytes: there is no such part of it", c->src.name, bytes);
        qdict_unref(options);
        blk_unref(blk);
        return NULL;
    }
    qdict_put_str(options, "driver", "raw");
    qdict_put_str(options, "file", bdrv_get_node_name(bs));
    qdict_put_int(options, "offset", c->offset);
    if (c->length) {
        qdict_put_int(options, "size", c->length);
    }
    bdrv_ref(bs);
    blk_unref(blk);
    blk = blk_new_open(NULL, NULL, options, 0, errp);
    bdrv_unref(bs);
    return blk;
}

static BlockBackend *coroutine_fn open_source(ConvertCall *c, Error **errp)
{
    BlockBackend *blk = ops_open(&c->src, errp);

    if (blk && c->snapshot && bdrv_snapshot_load_tmp_by_id_or_name(blk_bs(blk), c->snapshot, errp) < 0) {
        error_prepend(errp, "'%s': ", c->src.name);
        error_append_hint(errp, "`liveblk snapshot %s` lists what there is.\n", c->src.name);
        blk_unref(blk);
        return NULL;
    }
    return blk && (c->offset || c->length) ? open_part(c, blk, errp) : blk;
}

static int coroutine_fn open_sources(ConvertCall *c, Error **errp)
{
    ERRP_GUARD();
    int64_t total = 0;

    for (int i = 0; i < c->copy.n_sources; i++) {
        c->src.name = c->names[i];
        c->copy.sources[i] = open_source(c, errp);
        if (!c->copy.sources[i]) {
            return -EIO;
        }
        int64_t bytes = blk_co_getlength(c->copy.sources[i]);

        if (bytes < 0 || __builtin_add_overflow(total, bytes, &total)) {
            error_setg(errp, "'%s' has no size that can be copied", c->src.name);
            return -EINVAL;
        }
    }
    c->target.size = total;
    return c->bitmaps ? ops_bitmaps_check(blk_bs(c->copy.sources[0]), c->skip_lost, errp) : 0;
}

/* ---- the target ---- */

static int prepare_compression(ConvertCall *c, Error **errp)
{
    BlockDriverState *bs = blk_bs(c->copy.target);
    BlockDriverInfo info = { 0 };

    if (!c->compress) {
        return 0;
    }
    bdrv_get_info(bs, &info);
    if (info.encrypted) {
        error_setg(errp, "Encrypted images cannot be compressed");
        return -ENOTSUP;
    }
    if (!bs->drv->co_pwritev_compressed || !info.cluster_size) {
        error_setg(errp, "Images of format %s cannot be compressed", bs->drv->format_name);
        return -ENOTSUP;
    }
    c->copy.compressed = info.cluster_size;
    c->copy.in_order = true;
    return 0;
}

/* The overlay holds what the source has above the very image that will lie below it. */
static int coroutine_fn prepare_overlay(ConvertCall *c, Error **errp)
{
    BlockDriverState *below = bdrv_backing_chain_next(bdrv_skip_filters(blk_bs(c->copy.sources[0])));

    if (!c->target.backing) {
        return 0;
    }
    if (!below || ops_find_backing(blk_bs(c->copy.sources[0]), c->target.backing) != below) {
        error_setg(errp, "'%s' is not the backing image of '%s'", c->target.backing, c->names[0]);
        error_append_hint(errp, "Leave out --backing, and put another image below by `liveblk rebase` afterwards.\n");
        return -EINVAL;
    }
    c->copy.target_has_backing = true;
    c->copy.target_backing_length = bdrv_getlength_cached(below);
    return 0;
}

static int coroutine_fn copy_into(ConvertCall *c, const OpsSource *target, Error **errp)
{
    int ret;

    c->copy.target = ops_open(target, errp);
    if (!c->copy.target) {
        return -EIO;
    }
    c->copy.target_is_zero = !c->existing && ops_new_is_zero(c->copy.target);
    if (blk_co_getlength(c->copy.target) < c->target.size) {
        error_setg(errp, "'%s' is too small: the source has %" PRId64 " bytes", c->target.filename, c->target.size);
        ret = -ENOSPC;
    } else if (c->bitmaps && !ops_stores_bitmaps(blk_bs(c->copy.target))) {
        error_setg(errp, "Images of format %s store no bitmaps; leave out --bitmaps",
                   blk_bs(c->copy.target)->drv->format_name);
        ret = -ENOTSUP;
    } else if ((ret = prepare_compression(c, errp)) == 0) {
        ret = ops_convert(&c->copy, errp);
    }
    if (ret == 0 && c->bitmaps) {
        ret = ops_bitmaps_copy(blk_bs(c->copy.sources[0]), blk_bs(c->copy.target), errp);
    }
    if (ret == 0 && c->bitmaps) {
        ret = ops_bitmaps_store(c->copy.target, errp);
    }
    blk_unref(c->copy.target);
    return ret;
}

/* @name is to become the target. */
static int coroutine_fn make_and_copy(ConvertCall *c, const char *name, Error **errp)
{
    OpsCreate create = c->target;
    OpsSource target = { .name = name, .format = c->target.format, .writable = true };

    create.filename = name;
    create.force = true;
    int ret = ops_create_plain(&create, errp);

    return ret < 0 ? ret : copy_into(c, &target, errp);
}

static int coroutine_fn convert_to_new(ConvertCall *c, Error **errp)
{
    OpsTemp temp;

    if (c->target.force && ops_check_unused(c->target.filename, errp) < 0) {
        return -EBUSY;
    }
    const char *name = ops_temp_begin(&temp, c->target.filename, c->target.force, errp);

    if (!name) {
        return -EEXIST;
    }
    int ret = make_and_copy(c, name, errp);

    if (ret < 0) {
        ops_temp_abort(&temp);
        return ret;
    }
    return ops_temp_commit(&temp, errp);
}

static int coroutine_fn convert_op(void *opaque, Error **errp)
{
    ConvertCall *c = opaque;
    int ret = open_sources(c, errp);

    if (ret == 0) {
        ret = prepare_overlay(c, errp);
    }
    if (ret == 0 && c->existing) {
        OpsSource target = { .name = c->target.filename, .format = c->target.format, .writable = true };

        ret = copy_into(c, &target, errp);
    } else if (ret == 0) {
        ret = convert_to_new(c, errp);
    }
    for (int i = 0; i < c->copy.n_sources; i++) {
        blk_unref(c->copy.sources[i]);
    }
    return ret;
}

/* ---- the command ---- */

/* Does @name say how to reach it, rather than where it lies? */
static bool is_elsewhere(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz+");

    return n && name[n] == ':' && !g_str_has_prefix(name, "file:");
}

/* What does not go together; CLI_OK, or CLI_USAGE after saying so. */
static int check(const CliArgs *a, const ConvertCall *c)
{
    if (c->copy.n_sources > 1 && (c->snapshot || c->bitmaps || c->target.backing || c->offset || c->length)) {
        return cli_usage("--snapshot, --bitmaps, --backing, --offset and --length are for a single source");
    }
    if (c->existing && (c->target.options || c->target.backing || c->target.force)) {
        return cli_usage("--existing writes into an image that is there: --option, --backing and --force are for new ones");
    }
    if (!c->existing && is_elsewhere(c->target.filename) && !ops_place_is(c->target.filename)) {
        return cli_usage("'%s' is neither a file that could be made, nor a device or server; if it is there, say --existing",
                         c->target.filename);
    }
    if (!c->target.backing != !c->target.backing_format) {
        return cli_usage("--backing and --backing-format go together");
    }
    if (c->target.backing && (c->offset || c->length)) {
        return cli_usage("a part of an image does not go above its backing image");
    }
    if (c->skip_lost && !c->bitmaps) {
        return cli_usage("--skip-broken-bitmaps goes with --bitmaps");
    }
    if (c->offset % BDRV_SECTOR_SIZE || c->length % BDRV_SECTOR_SIZE) {
        return cli_usage("--offset and --length are multiples of %d", BDRV_SECTOR_SIZE);
    }
    return CLI_OK;
}

static int say_existing(const CliArgs *a, const ConvertCall *c)
{
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_bool(d, "dry-run", true);
        qdict_put_str(d, "filename", c->target.filename);
        cli_print_json(d);
    } else {
        printf("would write a copy into %s\n", c->target.filename);
    }
    return CLI_OK;
}

static void say_done(const CliArgs *a, const ConvertCall *c, double seconds)
{
    QDict *d = qdict_new();

    qdict_put_str(d, "filename", c->target.filename);
    if (c->target.format) {
        qdict_put_str(d, "format", c->target.format);
    }
    qdict_put_int(d, "virtual-size", c->target.size);
    qdict_put_obj(d, "seconds", qdouble_new(seconds));
    cli_print_json(d);
}

static int run(CliArgs *a, ConvertCall *c)
{
    Error *err = NULL;
    CliWatch w;

    if (!c->target.format && !c->existing) {
        c->target.format = ops_format_for(c->target.filename);
    }
    cli_engine_start();
    cli_clean_when_interrupted();
    cli_watch_begin(&w, a, "convert");
    c->copy.progress = &w.progress;
    int64_t began = g_get_monotonic_time();
    int ret = ops_run(convert_op, c, &err);
    double seconds = (g_get_monotonic_time() - began) / 1e6;

    cli_watch_end(&w);
    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        say_done(a, c, seconds);
    }
    return CLI_OK;
}

int cli_convert(CliArgs *a)
{
    ConvertCall c = {
        .src = cli_source(a, 0),
        .names = (const char *const *)a->args->pdata,
        .target = { .filename = cli_arg(a, a->args->len - 1), .format = cli_get(a, "target-format"),
                    .options = cli_get(a, "option"), .backing = cli_get(a, "backing"),
                    .backing_format = cli_get(a, "backing-format"), .force = cli_has(a, "force") },
        .snapshot = cli_get(a, "snapshot"), .bitmaps = cli_has(a, "bitmaps"), .skip_lost = cli_has(a, "skip-broken-bitmaps"),
        .offset = cli_get_size(a, "offset", 0), .length = cli_get_size(a, "length", 0),
        .compress = cli_has(a, "compress"), .existing = cli_has(a, "existing"),
        .copy = { .workers = MIN(cli_get_size(a, "workers", 8), 64), .n_sources = a->args->len - 1,
                  .sparse_bytes = cli_has(a, "no-sparse") ? 0 : 64 * KiB,
                  .rate = cli_get_size(a, "speed", 0), .salvage = cli_has(a, "salvage"), .quiet = a->quiet },
    };
    int ret = check(a, &c);

    if (ret) {
        return ret;
    }
    if (cli_has(a, "dry-run")) {
        return c.existing ? say_existing(a, &c) : cli_say_plan(a, &c.target, true);
    }
    c.copy.sources = g_new0(BlockBackend *, c.copy.n_sources);
    ret = run(a, &c);
    g_free(c.copy.sources);
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* img_convert.c: qemu-img convert. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_BITMAPS, OPT_SKIP_BROKEN, OPT_IMAGE_OPTS, OPT_TARGET_IMAGE_OPTS, OPT_SALVAGE, OPT_TARGET_IS_ZERO };

#define SPARSE_MAX      (16 * MiB)
#define WORKERS_MAX     16

const CompatOption img_convert_options[] = {
    { 'q', "quiet", NULL, "no progress, no warnings" },
    { 'p', "progress", NULL, "show progress" },
    { 'f', "source-format", "FMT", "format of the sources (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "the sources are options, not names" },
    { OPT_IMAGE_OPTS, "source-image-opts", NULL, "the same" },
    { 'T', "source-cache", "MODE", "how the host caches the sources (writeback)" },
    { 'O', "target-format", "FMT", "format of the target (raw)" },
    { 'O', "output-format", "FMT", "the same" },
    { OPT_TARGET_IMAGE_OPTS, "target-image-opts", NULL, "the target is options, not a name; needs -n" },
    { 'o', "target-options", "OPTIONS", "options of the target's format; -o help lists them" },
    { 'c', "compress", NULL, "compress what is written" },
    { 't', "target-cache", "MODE", "how the host caches the target (unsafe)" },
    { 'B', "backing", "BACKING", "the target becomes an overlay of this image" },
    { 'F', "backing-format", "FMT", "format of the backing image" },
    { 'n', "no-create", NULL, "the target is there" },
    { OPT_TARGET_IS_ZERO, "target-is-zero", NULL, "the target reads as zeroes; needs -n" },
    { 'S', "sparse-size", "SIZE", "leave out runs of so many zeroes (4k); 0: write them" },
    { 'l', "snapshot", "SNAPSHOT", "what this snapshot inside the source holds (snapshot.id=..,snapshot.name=.., or id or name)" },
    { 'l', "source-snapshot", "SNAPSHOT", "the same" },
    { 'U', "force-share", NULL, "open the sources though another program writes to them" },
    { 'r', "rate", "RATE", "bytes a second at most" },
    { 'm', "parallel", "N", "so many pieces at once (8)" },
    { 'C', "copy-range-offloading", NULL, "let the host copy where it can" },
    { OPT_BITMAPS, "bitmaps", NULL, "copy the bitmaps stored in the source too" },
    { OPT_SKIP_BROKEN, "skip-broken-bitmaps", NULL, "... but for those that are lost" },
    { OPT_SALVAGE, "salvage", NULL, "what cannot be read becomes zeroes" },
    { 'W', "oob-writes", NULL, "write in any order" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct ConvertCall {
    CompatOpen source, target;
    char **sources;
    const char *format, *backing, *backing_format, *cache, *source_cache;
    char *options;
    bool bitmaps, skip_broken;
    bool no_create, compress, progress, sparse_given, out_of_order;
    CompatCreate *create;
    CompatSnapshot snapshot;
    OpsConvert o;
} ConvertCall;

/* ---- the sources ---- */

static int coroutine_fn open_sources(ConvertCall *call)
{
    for (int i = 0; i < call->o.n_sources; i++) {
        call->source.name = call->sources[i];
        call->o.sources[i] = compat_co_open_report(&call->source);
        if (!call->o.sources[i]) {
            return -EIO;
        }
    }
    return 0;
}

static int64_t coroutine_fn total_length(const ConvertCall *call)
{
    int64_t total = 0;

    for (int i = 0; i < call->o.n_sources; i++) {
        total += blk_co_getlength(call->o.sources[i]);
    }
    return total;
}

/* ---- the target ---- */

static int check_backing(ConvertCall *call, Error **errp)
{
    CompatCreate *c = call->create;

    if (call->backing && !call->no_create && compat_create_set(c, "backing_file", call->backing, NULL) < 0) {
        error_setg(errp, "Backing file not supported for file format '%s'", call->format);
        return -EINVAL;
    }
    if (call->backing_format && !call->no_create &&
        compat_create_set(c, "backing_fmt", call->backing_format, NULL) < 0) {
        error_setg(errp, "Backing file not supported for file format '%s'", call->format);
        return -EINVAL;
    }
    call->backing = call->backing ? call->backing : compat_create_get(c, "backing_file");
    if (call->backing && !call->no_create && !compat_create_get(c, "backing_fmt")) {
        error_setg(errp, "Use of backing file requires explicit backing format");
        return -EINVAL;
    }
    if (call->backing && call->o.n_sources > 1) {
        error_setg(errp, "Having a backing file for the target makes no sense when concatenating multiple input images");
        return -EINVAL;
    }
    return 0;
}

static int refuse_packed_secret(Error **errp)
{
    error_setg(errp, "Compression and encryption not supported at the same time");
    return -ENOTSUP;
}

static int prepare_target(ConvertCall *call, int64_t length, Error **errp)
{
    const BlockDriver *drv = bdrv_find_format(call->format);
    g_autofree char *size = g_strdup_printf("%" PRId64, length);

    call->create = compat_create_new(call->format, call->target.name);
    if (!call->create) {
        error_setg(errp, "Unknown file format '%s'", call->format);
        return -EINVAL;
    }
    if (call->options && compat_create_parse(call->create, call->options, errp) < 0) {
        return -EINVAL;
    }
    if (!compat_create_get(call->create, "size") || call->no_create || call->options) {
        compat_create_set(call->create, "size", size, NULL);
    }
    if (check_backing(call, errp) < 0) {
        return -EINVAL;
    }
    if (call->compress && !(drv && drv->co_pwritev_compressed)) {
        error_setg(errp, "Compression not supported for this file format");
        return -ENOTSUP;
    }
    if (call->compress && compat_create_get(call->create, "encrypt.format")) {
        return refuse_packed_secret(errp);
    }
    return 0;
}

static int coroutine_fn make_target(ConvertCall *call, int64_t length, Error **errp)
{
    ERRP_GUARD();
    int ret = prepare_target(call, length, errp);

    if (ret < 0 || call->no_create) {
        return ret;
    }
    ret = compat_co_create(call->create, errp);
    if (ret == -EFBIG) {
        error_free(*errp);
        *errp = NULL;
        error_setg(errp, "The image size is too large for file format '%s'%s", call->format,
                   compat_create_supports_backing(call->create) ? " (try using a larger cluster size)" : "");
    }
    if (ret < 0) {
        error_prepend(errp, "%s: error while converting %s: ", call->target.name, call->format);
    }
    return ret;
}

static int coroutine_fn describe_target(ConvertCall *call, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(call->o.target)), *below = bdrv_backing_chain_next(bs);
    BlockDriverInfo info = { 0 };

    bdrv_get_info(bs, &info);
    call->o.compressed = call->compress ? info.cluster_size : 0;
    call->o.target_has_backing = call->backing != NULL;
    call->o.target_backing_length = below ? bdrv_getlength_cached(below) : INT64_MAX;
    call->o.target_is_zero = call->o.target_is_zero || (!call->no_create && ops_new_is_zero(call->o.target));
    /* In a plain file the order of writes decides nothing. */
    call->o.in_order = !call->out_of_order && strcmp(bs->drv->format_name, "raw");
    if (call->compress && info.encrypted) {
        return refuse_packed_secret(errp);
    }
    if (call->compress && !call->o.compressed) {
        error_setg(errp, "Compression not supported for this file format");
        return -ENOTSUP;
    }
    return 0;
}

/* What an image was just encrypted with opens it. NULL: nothing. */
static QDict *opening_options(const CompatCreate *c)
{
    const char *disk = compat_create_get(c, "key-secret"), *inner = compat_create_get(c, "encrypt.key-secret");
    const char *format = compat_create_get(c, "encrypt.format");
    QDict *options = disk || inner ? qdict_new() : NULL;

    if (disk) {
        qdict_put_str(options, "key-secret", disk);
    } else if (inner) {
        QDict *encrypt = qdict_new();

        qdict_put_str(encrypt, "format", format ? format : "aes");
        qdict_put_str(encrypt, "key-secret", inner);
        qdict_put_obj(options, "encrypt", encrypt);
    }
    return options;
}

static int coroutine_fn convert_into(ConvertCall *call, int64_t length, Error **errp)
{
    if (!call->target.image_opts) {
        call->target.format = call->format;
    }
    QDict *options = call->no_create ? NULL : opening_options(call->create);

    if (options) {
        call->target.options = options;
    }
    call->o.target = compat_co_open_report(&call->target);
    qdict_unref(options);
    if (!call->o.target) {
        return -EIO;
    }
    if (describe_target(call, errp) < 0) {
        return -ENOTSUP;
    }
    if (blk_co_getlength(call->o.target) < length) {
        error_setg(errp, "output file is smaller than input file");
        return -ENOSPC;
    }
    if (call->bitmaps && !ops_stores_bitmaps(blk_bs(call->o.target))) {
        error_setg(errp, "Format driver '%s' does not support bitmaps", blk_bs(call->o.target)->drv->format_name);
        return -ENOTSUP;
    }
    int ret = ops_convert(&call->o, errp);

    if (ret == 0 && call->bitmaps) {
        ret = ops_bitmaps_copy(blk_bs(call->o.sources[0]), blk_bs(call->o.target), errp);
    }
    if (ret == 0 && call->bitmaps) {
        ret = ops_bitmaps_store(call->o.target, errp);
    }
    return ret;
}

static int coroutine_fn convert_op(void *opaque, Error **errp)
{
    ConvertCall *call = opaque;
    int ret = open_sources(call);

    if (ret == 0 && call->snapshot.any && call->o.n_sources > 1) {
        error_setg(errp, "No support for concatenating multiple snapshot");
        ret = -EINVAL;
    } else if (ret == 0 && call->snapshot.given) {
        ret = compat_co_snapshot_load(&call->snapshot, call->o.sources[0], errp);
    }
    if (ret == 0 && call->bitmaps) {
        ret = ops_bitmaps_check(blk_bs(call->o.sources[0]), call->skip_broken, errp);
    }
    if (ret == 0) {
        int64_t length = total_length(call);

        ret = make_target(call, length, errp);
        if (ret == 0) {
            ret = convert_into(call, length, errp);
        }
    }
    blk_unref(call->o.target);
    for (int i = 0; i < call->o.n_sources; i++) {
        blk_unref(call->o.sources[i]);
    }
    return ret;
}

/* ---- options ---- */

static bool sparse_size(ConvertCall *call, const char *text)
{
    int64_t v;

    if (!compat_number("buffer size for sparse output", text, 0, INT64_MAX, &v)) {
        return false;
    }
    if (v % BDRV_SECTOR_SIZE || v > SPARSE_MAX) {
        compat_fail("Invalid buffer size for sparse output specified. Valid sizes are multiples of %d up to %lld. "
                    "Select 0 to disable sparse detection (fully allocates output).", BDRV_SECTOR_SIZE, SPARSE_MAX);
        return false;
    }
    call->o.sparse_bytes = v;
    call->sparse_given = true;
    return true;
}

static bool add_options(ConvertCall *call, const char *text)
{
    char *joined;

    if (!compat_option_list_valid(text)) {
        return false;
    }
    joined = call->options ? g_strdup_printf("%s,%s", call->options, text) : g_strdup(text);
    g_free(call->options);
    call->options = joined;
    return true;
}

static bool take_option(ConvertCall *call, int c)
{
    int64_t n;

    switch (c) {
    case 'q': call->o.quiet = true; break;
    case 'p': call->progress = true; break;
    case 'f': call->source.format = optarg; break;
    case OPT_IMAGE_OPTS: call->source.image_opts = true; break;
    case 'T': call->source_cache = optarg; break;
    case 'O': call->format = optarg; break;
    case OPT_TARGET_IMAGE_OPTS: call->target.image_opts = true; break;
    case 'o': return add_options(call, optarg);
    case 'c': call->compress = true; break;
    case 't': call->cache = optarg; break;
    case 'B': call->backing = optarg; break;
    case 'F': call->backing_format = optarg; break;
    case 'n': call->no_create = true; break;
    case OPT_TARGET_IS_ZERO: call->o.target_is_zero = true; break;
    case 'S': return sparse_size(call, optarg);
    case 'l': return compat_snapshot_parse(optarg, &call->snapshot);
    case 'U': call->source.force_share = true; break;
    case 'r':
        if (!compat_number("rate limit", optarg, 0, INT64_MAX, &n)) {
            return false;
        }
        call->o.rate = n;
        break;
    case 'm':
        if (!compat_number("number of coroutines", optarg, 1, WORKERS_MAX, &n)) {
            return false;
        }
        call->o.workers = n;
        break;
    case 'C': call->o.copy_range = true; break;
    case OPT_BITMAPS: call->bitmaps = true; break;
    case OPT_SKIP_BROKEN: call->skip_broken = true; break;
    case OPT_SALVAGE: call->o.salvage = true; break;
    case 'W': call->out_of_order = true; break;
    case OPT_OBJECT: return compat_object_add(optarg);
    }
    return true;
}

/* Options that do not go together; 0, or 1 after reporting. */
static int check_options(ConvertCall *call)
{
    bool through;

    if (call->source.image_opts && call->source.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    if (call->target.image_opts && call->format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    if (call->target.image_opts && !call->no_create) {
        return compat_fail("--target-image-opts requires use of -n flag");
    }
    if (call->no_create && call->options) {
        return compat_fail("-o has no effect when skipping image creation");
    }
    if (call->o.copy_range && call->sparse_given) {
        return compat_fail("Cannot enable copy offloading when -S is used");
    }
    if (call->o.copy_range && call->compress) {
        return compat_fail("Cannot enable copy offloading when -c is used");
    }
    if (call->o.salvage && call->o.copy_range) {
        return compat_fail("Cannot use copy offloading in salvaging mode");
    }
    if (call->skip_broken && !call->bitmaps) {
        return compat_fail("Use of --skip-broken-bitmaps requires --bitmaps");
    }
    if (call->o.target_is_zero && !call->no_create) {
        return compat_fail("--target-is-zero requires use of -n flag");
    }
    if (call->cache && !compat_cache_mode(call->cache, &call->target.cache_flags, &through)) {
        return compat_fail("Invalid cache option: %s", call->cache);
    }
    if (call->source_cache && !compat_cache_mode(call->source_cache, &call->source.cache_flags, &through)) {
        return compat_fail("Invalid source cache option: %s", call->source_cache);
    }
    return 0;
}

static int convert_checked(ConvertCall *call, int argc, char **argv)
{
    Error *err = NULL;

    call->o.n_sources = argc - optind - 1;
    call->sources = argv + optind;
    call->target.name = call->o.n_sources >= 0 ? argv[argc - 1] : NULL;
    if (call->options && compat_is_help(call->options)) {
        return compat_create_help(call->format ? call->format : "raw", call->target.name);
    }
    if (check_options(call)) {
        return EXIT_FAILURE;
    }
    if (call->o.n_sources < 1) {
        return compat_fail("Must specify image file name");
    }
    if (call->bitmaps && call->o.n_sources > 1) {
        return compat_fail("Copying bitmaps only possible with single source");
    }
    call->format = call->format ? call->format : "raw";
    call->o.sources = g_new0(BlockBackend *, call->o.n_sources);
    compat_engine_start();
    CompatProgress *p = compat_progress_new(call->progress && !call->o.quiet, 1.0);

    call->o.progress = compat_progress_ops(p);
    int ret = ops_run(convert_op, call, &err);

    compat_progress_end(p, ret == 0);
    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int img_convert(int argc, char **argv, const CompatCommand *cmd)
{
    ConvertCall call = {
        .cache = "unsafe", .source = { .no_share = true }, .target = { .writable = true, .resize = true, .unmap = true },
        .o = { .workers = 8, .sparse_bytes = 4096 },
    };
    bool ok = true;
    int c;

    while (ok && (c = compat_next_option(argc, argv, cmd)) != -1) {
        ok = take_option(&call, c);
    }
    int ret = ok ? convert_checked(&call, argc, argv) : EXIT_FAILURE;

    compat_create_free(call.create);
    compat_snapshot_clear(&call.snapshot);
    g_free(call.o.sources);
    g_free(call.options);
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* cmd_image.c: create, info, map, convert, compare. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "ops/ops.h"
#include "base/size.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

/* ---- create ---- */

/* Refused where the deed would be, as far as that shows without doing it. */
static int say_plan(CliArgs *a, const OpsCreate *c, bool convert)
{
    const char *format = c->format ? c->format : ops_format_for(c->filename);
    bool there = g_file_test(c->filename, G_FILE_TEST_EXISTS);
    Error *err = NULL;
    OpsTemp temp;

    if (!ops_temp_begin(&temp, c->filename, c->force, &err)) {
        return cli_fail(err);
    }
    ops_temp_abort(&temp);

    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_bool(d, "dry-run", true);
        qdict_put_str(d, "filename", c->filename);
        qdict_put_str(d, "format", format);
        qdict_put_bool(d, "replaces", there);
        cli_print_json(d);
    } else {
        printf("would %s %s%s, format %s\n", there ? "replace" : "make", c->filename,
               convert ? " with a copy" : "", format);
    }
    return CLI_OK;
}

static int coroutine_fn create_op(void *opaque, Error **errp)
{
    return ops_create(opaque, errp);
}

int cli_create(CliArgs *a)
{
    OpsCreate c = { .filename = cli_arg(a, 0), .format = cli_get(a, "format"), .size = -1,
                    .backing = cli_get(a, "backing"), .backing_format = cli_get(a, "backing-format"),
                    .options = cli_get(a, "option"), .force = cli_has(a, "force") };
    Error *err = NULL;
    uint64_t size;

    if (cli_arg(a, 1)) {
        if (size_parse(cli_arg(a, 1), 1, &size) < 0 || size > INT64_MAX) {
            return cli_usage("'%s' is not a size; write 512, 64K, 1.5G", cli_arg(a, 1));
        }
        c.size = size;
    } else if (!c.backing) {
        return cli_usage("the size is missing: liveblk create %s SIZE", c.filename);
    }
    if (cli_has(a, "dry-run")) {
        return say_plan(a, &c, false);
    }
    cli_engine_start();
    cli_clean_when_interrupted();
    int ret = ops_run(create_op, &c, &err);

    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c.filename);
        qdict_put_str(d, "format", c.format ? c.format : ops_format_for(c.filename));
        cli_print_json(d);
    }
    return CLI_OK;
}

/* ---- info ---- */

typedef struct InfoCall {
    OpsSource src;
    bool chain;
    ImageInfo *info;
} InfoCall;

static int coroutine_fn info_op(void *opaque, Error **errp)
{
    InfoCall *c = opaque;
    BlockBackend *blk;

    c->src.no_data = true;
    blk = ops_open(&c->src, errp);
    if (!blk) {
        return -EIO;
    }
    c->info = qmp_image_info(blk_bs(blk), !c->chain);
    blk_unref(blk);
    return 0;
}

static void print_value(const char *key, QDict *v, void *opaque)
{
    int indent = GPOINTER_TO_INT(opaque);

    if (qdict_type(v) == QTYPE_QDICT) {
        printf("%*s%s:\n", indent, "", key);
        qdict_foreach(v, print_value, GINT_TO_POINTER(indent + 4));
        return;
    }
    g_autofree char *text = qstring_get(v) ? g_strdup(qstring_get(v)) : json_to_str(v, false);

    printf("%*s%-*s %s\n", indent, "", 20 - indent, key, text);
}

static void print_size(const char *what, uint64_t bytes)
{
    g_autofree char *text = size_to_str(bytes);

    printf("%-20s %s (%" PRIu64 " bytes)\n", what, text, bytes);
}

static void info_print(const ImageInfo *info)
{
    for (; info; info = info->backing_image) {
        printf("%-20s %s\n%-20s %s\n", "image", info->filename, "format", info->format);
        print_size("size", info->virtual_size);
        if (info->has_actual_size) {
            print_size("on disk", info->actual_size);
        }
        if (info->has_cluster_size) {
            print_size("cluster size", info->cluster_size);
        }
        if (info->backing_filename) {
            printf("%-20s %s%s%s%s\n", "backing image", info->backing_filename,
                   info->backing_filename_format ? " (" : "",
                   info->backing_filename_format ? info->backing_filename_format : "",
                   info->backing_filename_format ? ")" : "");
        }
        if (info->has_dirty_flag && info->dirty_flag) {
            printf("%-20s not closed properly\n", "state");
        }
        if (info->format_specific) {
            g_autoptr(QDict) d = qapi_to_json(&qapi_type_ImageInfoSpecific, info->format_specific);
            QDict *data = qdict_get_qdict(d, "data");

            if (data) {
                printf("%s:\n", "format specific");
                qdict_foreach(data, print_value, GINT_TO_POINTER(4));
            }
        }
        if (info->backing_image) {
            printf("\n");
        }
    }
}

int cli_info(CliArgs *a)
{
    InfoCall c = { .src = cli_source(a, 0), .chain = cli_has(a, "chain") };
    Error *err = NULL;

    cli_engine_start();
    int ret = ops_run(info_op, &c, &err);

    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        cli_print_json(qapi_to_json(&qapi_type_ImageInfo, c.info));
    } else {
        info_print(c.info);
    }
    qapi_free_ImageInfo(c.info);
    return CLI_OK;
}

/* ---- map ---- */

typedef struct MapCall {
    OpsSource src;
    bool json, any;
} MapCall;

/* Printed as it is found: a map may be long. */
static int map_print(const OpsExtent *e, void *opaque)
{
    MapCall *c = opaque;

    if (!c->json) {
        if (!c->any) {
            printf("%-18s %-18s %-10s %5s %s\n", "START", "LENGTH", "KIND", "DEPTH", "IN FILE AT");
        }
        const char *kind = e->compressed ? "compressed" : e->zero ? (e->present ? "zero" : "hole") : e->data ? "data" : "hole";

        printf("0x%-16" PRIx64 " 0x%-16" PRIx64 " %-10s %5d ", (uint64_t)e->start, (uint64_t)e->length, kind, e->depth);
        if (e->offset >= 0) {
            printf("0x%" PRIx64 " %s\n", (uint64_t)e->offset, e->file ? e->file : "");
        } else {
            printf("-\n");
        }
    } else {
        printf("%s{\"start\": %" PRId64 ", \"length\": %" PRId64 ", \"depth\": %d, \"present\": %s, \"zero\": %s, "
               "\"data\": %s, \"compressed\": %s", c->any ? ",\n" : "[", e->start, e->length, e->depth,
               e->present ? "true" : "false", e->zero ? "true" : "false", e->data ? "true" : "false",
               e->compressed ? "true" : "false");
        if (e->offset >= 0) {
            printf(", \"offset\": %" PRId64, e->offset);
        }
        putchar('}');
    }
    c->any = true;
    return ferror(stdout) ? -EIO : 0;
}

static int coroutine_fn map_op(void *opaque, Error **errp)
{
    MapCall *c = opaque;
    BlockBackend *blk = ops_open(&c->src, errp);

    if (!blk) {
        return -EIO;
    }
    int ret = ops_map(blk, map_print, c, errp);

    blk_unref(blk);
    return ret;
}

int cli_map(CliArgs *a)
{
    MapCall c = { .src = cli_source(a, 0), .json = a->json };
    Error *err = NULL;

    cli_engine_start();
    int ret = ops_run(map_op, &c, &err);

    cli_engine_stop();
    if (a->json && (ret == 0 || c.any)) {
        printf("%s]\n", c.any ? "" : "[");
    }
    return err ? cli_fail(err) : ret < 0 ? CLI_FAILED : CLI_OK;
}

/* ---- convert ---- */

typedef struct ConvertCall {
    OpsSource src;
    OpsCreate target;
    BlockBackend *source;
    OpsConvert copy;
    bool compress;
} ConvertCall;

static int prepare_compression(ConvertCall *c, Error **errp)
{
    BlockDriverState *bs = blk_bs(c->copy.target);
    BlockDriverInfo info = { 0 };

    if (!c->compress) {
        return 0;
    }
    bdrv_get_info(bs, &info);
    if (!bs->drv->co_pwritev_compressed || !info.cluster_size) {
        error_setg(errp, "Images of format %s cannot be compressed", bs->drv->format_name);
        return -ENOTSUP;
    }
    c->copy.compressed = info.cluster_size;
    c->copy.in_order = true;
    return 0;
}

/* The source is open and temp.name is to become the target. */
static int coroutine_fn convert_into(ConvertCall *c, const char *name, Error **errp)
{
    OpsCreate create = c->target;
    const char *format = create.format ? create.format : ops_format_for(create.filename);
    OpsSource target = { .name = name, .format = format, .writable = true };

    create.filename = name;
    create.format = format;
    create.force = true;
    int ret = ops_create_plain(&create, errp);

    if (ret < 0) {
        return ret;
    }
    c->copy.target = ops_open(&target, errp);
    if (!c->copy.target) {
        return -EIO;
    }
    if (blk_co_getlength(c->copy.target) < create.size) {
        error_setg(errp, "'%s' is too small: the source has %" PRId64 " bytes", c->target.filename, create.size);
        ret = -ENOSPC;
    } else if ((ret = prepare_compression(c, errp)) == 0) {
        ret = ops_convert(&c->copy, errp);
    }
    blk_unref(c->copy.target);
    return ret;
}

static int coroutine_fn convert_op(void *opaque, Error **errp)
{
    ConvertCall *c = opaque;
    OpsTemp temp;
    int ret = -EIO;

    c->source = ops_open(&c->src, errp);
    if (!c->source) {
        return ret;
    }
    c->target.size = blk_co_getlength(c->source);
    if (c->target.force && ops_check_unused(c->target.filename, errp) < 0) {
        blk_unref(c->source);
        return ret;
    }
    const char *name = ops_temp_begin(&temp, c->target.filename, c->target.force, errp);

    if (name) {
        /* What a device holds is not known to be zero. */
        if (temp.in_place && !g_strcmp0(c->target.format, "raw")) {
            c->copy.sparse_bytes = 0;
        }
        c->copy.sources = &c->source;
        ret = convert_into(c, name, errp);
        if (ret < 0) {
            ops_temp_abort(&temp);
        } else {
            ret = ops_temp_commit(&temp, errp);
        }
    }
    blk_unref(c->source);
    return ret;
}

int cli_convert(CliArgs *a)
{
    ConvertCall c = {
        .src = cli_source(a, 0),
        .target = { .filename = cli_arg(a, 1), .format = cli_get(a, "target-format"), .options = cli_get(a, "option"),
                    .force = cli_has(a, "force") },
        .compress = cli_has(a, "compress"),
        .copy = { .workers = MIN(cli_get_size(a, "workers", 8), 64), .n_sources = 1,
                  .target_is_zero = true, .sparse_bytes = cli_has(a, "no-sparse") ? 0 : 64 * KiB },
    };
    Error *err = NULL;

    if (cli_has(a, "dry-run")) {
        return say_plan(a, &c.target, true);
    }
    if (!c.target.format) {
        c.target.format = ops_format_for(c.target.filename);
    }
    cli_engine_start();
    cli_clean_when_interrupted();
    CliWatch w;

    cli_watch_begin(&w, a, "convert");
    c.copy.progress = &w.progress;
    int64_t began = g_get_monotonic_time();
    int ret = ops_run(convert_op, &c, &err);
    double seconds = (g_get_monotonic_time() - began) / 1e6;

    cli_watch_end(&w);
    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c.target.filename);
        qdict_put_str(d, "format", c.target.format);
        qdict_put_int(d, "virtual-size", w.progress.total);
        qdict_put_obj(d, "seconds", qdouble_new(seconds));
        cli_print_json(d);
    }
    return CLI_OK;
}

/* ---- compare ---- */

typedef struct CompareCall {
    OpsSource a, b;
    OpsCompare compare;
} CompareCall;

static int coroutine_fn compare_op(void *opaque, Error **errp)
{
    CompareCall *c = opaque;
    int ret = -EIO;

    c->compare.a = ops_open(&c->a, errp);
    if (c->compare.a && (c->compare.b = ops_open(&c->b, errp))) {
        ret = ops_compare(&c->compare, errp);
    }
    blk_unref(c->compare.a);
    blk_unref(c->compare.b);
    return ret;
}

int cli_compare(CliArgs *a)
{
    CompareCall c = { .a = cli_source(a, 0), .b = cli_source(a, 1), .compare = { .strict = cli_has(a, "strict") } };
    Error *err = NULL;

    c.b.format = cli_get(a, "other-format");
    cli_engine_start();
    CliWatch w;

    cli_watch_begin(&w, a, "compare");
    c.compare.progress = &w.progress;
    int ret = ops_run(compare_op, &c, &err);

    cli_watch_end(&w);
    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    bool same = c.compare.different_at < 0;

    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_bool(d, "identical", same);
        if (!same) {
            qdict_put_str(d, "difference", c.compare.why);
            qdict_put_int(d, "offset", c.compare.different_at);
        }
        cli_print_json(d);
    } else if (!same) {
        printf("different: %s at %" PRId64 "\n", c.compare.why, c.compare.different_at);
    } else if (!a->quiet) {
        printf("identical\n");
    }
    return same ? CLI_OK : CLI_DIFFERENT;
}

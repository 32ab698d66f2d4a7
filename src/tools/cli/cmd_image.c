/* SPDX-License-Identifier: MIT */
/* cmd_image.c: create, info, map, compare. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "ops/ops.h"
#include "base/size.h"
#include "qapi-commands.h"
#include "qmp/qmp_private.h"

/* ---- create ---- */

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
        return cli_say_plan(a, &c, false);
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

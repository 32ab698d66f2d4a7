/* SPDX-License-Identifier: MIT */
/* img_info.c: qemu-img info. */
#include "compat/compat.h"
#include <getopt.h>
#include "base/size.h"
#include "ioshell/specific.h"

enum { OPT_OBJECT = 256, OPT_OUTPUT, OPT_IMAGE_OPTS };

const CompatOption img_info_options[] = {
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 'b', "backing-chain", NULL, "tell of the backing images too" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { OPT_OUTPUT, "output", "human|json", "form of the answer (human)" },
    { 0 },
};

typedef struct InfoCall {
    CompatOpen open;
    bool chain, json;
    GPtrArray *images;          /* BlockGraphInfo, from the top */
} InfoCall;

/* ---- asking ---- */

static bool seen_before(InfoCall *call, const BlockGraphInfo *info)
{
    for (guint i = 0; i < call->images->len; i++) {
        if (!strcmp(((BlockGraphInfo *)g_ptr_array_index(call->images, i))->filename, info->filename)) {
            return true;
        }
    }
    return false;
}

/* Each image of the chain is opened by itself, so that what lies below one that is broken
 * does not keep the rest from being shown. */
static int coroutine_fn info_op(void *opaque, Error **errp)
{
    InfoCall *call = opaque;
    g_autofree char *name = g_strdup(call->open.name), *format = g_strdup(call->open.format);

    for (;;) {
        CompatOpen open = call->open;

        open.name = name;
        open.format = format;
        open.image_opts &= call->images->len == 0;
        BlockBackend *blk = compat_co_open_report(&open);

        if (!blk) {
            return -EIO;
        }
        BlockGraphInfo *info = ops_graph_info(blk_bs(blk));

        blk_unref(blk);
        if (seen_before(call, info)) {
            compat_fail("Backing file '%s' creates an infinite loop.", info->filename);
            qapi_free(&qapi_type_BlockGraphInfo, info);
            return -ELOOP;
        }
        g_ptr_array_add(call->images, info);
        if (!call->chain || !info->full_backing_filename) {
            return 0;
        }
        g_free(name);
        g_free(format);
        name = g_strdup(info->full_backing_filename);
        format = g_strdup(info->backing_filename_format);
    }
}

/* ---- showing ---- */

static void print_size(int indent, const char *what, uint64_t bytes, bool exact)
{
    g_autofree char *text = size_to_str(bytes);

    if (exact) {
        printf("%*s%s: %s (%" PRIu64 " bytes)\n", indent, "", what, text, bytes);
    } else {
        printf("%*s%s: %s\n", indent, "", what, text);
    }
}

static void print_backing(const BlockGraphInfo *info, int indent)
{
    if (!info->backing_filename) {
        return;
    }
    printf("%*sbacking file: %s", indent, "", info->backing_filename);
    if (!info->full_backing_filename) {
        printf(" (cannot determine actual path)");
    } else if (strcmp(info->backing_filename, info->full_backing_filename)) {
        printf(" (actual path: %s)", info->full_backing_filename);
    }
    printf("\n");
    if (info->backing_filename_format) {
        printf("%*sbacking file format: %s\n", indent, "", info->backing_filename_format);
    }
}

static void print_node(const BlockGraphInfo *info, const char *path)
{
    bool protocol = *path;
    int indent = protocol ? 4 : 0;

    printf("%*s%s: %s\n%*s%s: %s\n", indent, "", protocol ? "filename" : "image", info->filename, indent, "",
           protocol ? "protocol type" : "file format", info->format);
    print_size(indent, protocol ? "file length" : "virtual size", info->virtual_size, true);
    if (info->has_actual_size) {
        print_size(indent, "disk size", info->actual_size, false);
    } else {
        printf("%*sdisk size: unavailable\n", indent, "");
    }
    if (info->has_encrypted && info->encrypted) {
        printf("%*sencrypted: yes\n", indent, "");
    }
    if (info->has_cluster_size) {
        printf("%*scluster_size: %" PRId64 "\n", indent, "", (int64_t)info->cluster_size);
    }
    if (info->has_dirty_flag && info->dirty_flag) {
        printf("%*scleanly shut down: no\n", indent, "");
    }
    print_backing(info, indent);
    if (info->snapshots) {
        compat_print_snapshots(info->snapshots, indent);
    }
    if (info->format_specific) {
        g_autofree char *text = image_specific_text(info->format_specific, indent);

        printf("%s", text);
    }
    for (BlockChildInfoList *c = info->children; c; c = c->next) {
        g_autofree char *below = g_strdup_printf("%s/%s", path, c->value->name);

        printf("Child node '%s':\n", below);
        print_node(c->value->info, below);
    }
}

static void print_all(const InfoCall *call)
{
    if (call->json) {
        g_autoptr(QDict) list = qlist_new();

        for (guint i = 0; i < call->images->len; i++) {
            qlist_append(list, qapi_to_json(&qapi_type_BlockGraphInfo, g_ptr_array_index(call->images, i)));
        }
        g_autofree char *text = json_to_str(call->chain ? list : qlist_get(list, 0), true);

        printf("%s\n", text);
        return;
    }
    for (guint i = 0; i < call->images->len; i++) {
        printf("%s", i ? "\n" : "");
        print_node(g_ptr_array_index(call->images, i), "");
    }
}

static void free_info(void *info)
{
    qapi_free(&qapi_type_BlockGraphInfo, info);
}

int img_info(int argc, char **argv, const CompatCommand *cmd)
{
    InfoCall call = { .open = { .no_backing = true, .no_data = true } };
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'f': call.open.format = optarg; break;
        case 'b': call.chain = true; break;
        case 'U': call.open.force_share = true; break;
        case OPT_IMAGE_OPTS: call.open.image_opts = true; break;
        case OPT_OUTPUT:
            if (!compat_output_format(cmd, optarg, &call.json)) {
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
    if (call.open.image_opts && call.open.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    call.open.name = argv[optind];
    call.images = g_ptr_array_new_with_free_func(free_info);
    compat_engine_start();
    int ret = ops_run(info_op, &call, NULL);

    if (ret == 0) {
        print_all(&call);
    }
    g_ptr_array_free(call.images, true);
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

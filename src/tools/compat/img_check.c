/* SPDX-License-Identifier: MIT */
/* img_check.c: qemu-img check. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS, OPT_OUTPUT };

/* Exit codes that scripts know. */
enum { CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

const CompatOption img_check_options[] = {
    { 'q', "quiet", NULL, "say nothing but errors" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 'T', "cache", "MODE", "how the host caches (writeback)" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OUTPUT, "output", "human|json", "how to print the result" },
    { 'r', "repair", "leaks|all", "mend what is found" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct CheckCall {
    CompatOpen open;
    BdrvCheckMode fix;
    bool json, quiet;
    BdrvCheckResult result;
    char *format;
} CheckCall;

static void tell_finding(void *opaque, const char *text)
{
    fprintf(stderr, "%s\n", text);
}

/* With repair the image is looked at once more, and that counts. */
static int coroutine_fn check_image(CheckCall *call, BlockDriverState *bs)
{
    BdrvCheckResult first;
    int ret = bdrv_co_check(bs, &call->result, call->fix);

    if (ret < 0 || (!call->result.corruptions_fixed && !call->result.leaks_fixed)) {
        return ret;
    }
    first = call->result;
    if (!call->quiet && !call->json) {
        printf("The following inconsistencies were found and repaired:\n\n    %" PRId64 " leaked clusters\n    %" PRId64
               " corruptions\n\nDouble checking the fixed image now...\n", first.leaks_fixed, first.corruptions_fixed);
        fflush(stdout);
    }
    ret = bdrv_co_check(bs, &call->result, 0);
    call->result.leaks_fixed = first.leaks_fixed;
    call->result.corruptions_fixed = first.corruptions_fixed;
    return ret;
}

static int coroutine_fn check_op(void *opaque, Error **errp)
{
    CheckCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->open);
    BlockDriverState *bs;
    int ret;

    if (!blk) {
        return -EIO;
    }
    bs = bdrv_skip_filters(blk_bs(blk));
    call->format = g_strdup(bs->drv->format_name);
    call->result.report = tell_finding;
    ret = check_image(call, bs);
    if (ret == -ENOTSUP) {
        error_report("This image format does not support checks");
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Check failed");
    } else if (call->result.check_errors && !call->json && !call->quiet) {
        printf("\n%" PRId64 " internal errors have occurred during the check.\n", call->result.check_errors);
    }
    blk_unref(blk);
    return ret;
}

static void print_human(const BdrvCheckResult *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (r->corruptions) {
        printf("\n%" PRId64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n", r->corruptions);
    }
    if (r->leaks) {
        printf("\n%" PRId64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n", r->leaks);
    }
    if (r->total_clusters && r->allocated_clusters) {
        printf("%" PRId64 "/%" PRId64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters, r->allocated_clusters * 100.0 / r->total_clusters,
               r->fragmented_clusters * 100.0 / r->allocated_clusters,
               r->compressed_clusters * 100.0 / r->allocated_clusters);
    }
    if (r->image_end_offset) {
        printf("Image end offset: %" PRId64 "\n", r->image_end_offset);
    }
}

static int finish(CheckCall *call)
{
    const BdrvCheckResult *r = &call->result;

    if (call->json) {
        QDict *d = ops_check_object(r, call->open.name, call->format);

        g_autofree char *text = json_to_str(d, true);

        printf("%s\n", text);
        qdict_unref(d);
    } else if (!call->quiet) {
        print_human(r);
    }
    return r->check_errors ? EXIT_FAILURE : r->corruptions ? CHECK_CORRUPT : r->leaks ? CHECK_LEAKS : EXIT_SUCCESS;
}

static bool take_option(CheckCall *call, int c, const CompatCommand *cmd)
{
    bool through;

    switch (c) {
    case 'q': call->quiet = true; break;
    case 'f': call->open.format = optarg; break;
    case OPT_IMAGE_OPTS: call->open.image_opts = true; break;
    case 'T':
        if (!compat_cache_mode(optarg, &call->open.cache_flags, &through)) {
            compat_fail("Invalid source cache option: %s", optarg);
            return false;
        }
        break;
    case 'U': call->open.force_share = true; break;
    case OPT_OUTPUT: return compat_output_format(cmd, optarg, &call->json);
    case 'r':
        if (strcmp(optarg, "leaks") && strcmp(optarg, "all")) {
            compat_usage(cmd, "--repair (-r) expects 'leaks' or 'all' not '%s'", optarg);
            return false;
        }
        call->fix = !strcmp(optarg, "leaks") ? BDRV_FIX_LEAKS : BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
        call->open.writable = true;
        break;
    case OPT_OBJECT: return compat_object_add(optarg);
    }
    return true;
}

int img_check(int argc, char **argv, const CompatCommand *cmd)
{
    CheckCall call = { .open = { .check = true } };
    Error *err = NULL;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        if (!take_option(&call, c, cmd)) {
            return EXIT_FAILURE;
        }
    }
    if (optind + 1 != argc) {
        return compat_usage(cmd, "Expecting one image file name");
    }
    call.open.name = argv[optind];
    if (call.open.image_opts && call.open.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    compat_engine_start();
    int ret = ops_run(check_op, &call, &err);

    if (err) {
        error_report_err(err);
    }
    ret = ret == -ENOTSUP ? CHECK_UNSUPPORTED : ret < 0 ? EXIT_FAILURE : finish(&call);
    g_free(call.format);
    return ret;
}

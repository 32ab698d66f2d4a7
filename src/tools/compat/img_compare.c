/* SPDX-License-Identifier: MIT */
/* img_compare.c: qemu-img compare. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

/* Exit codes: 0 the same, 1 different (and wrong usage), from 2 on errors. */
enum { COMPARE_DIFFERENT = 1, COMPARE_ERROR = 2 };

const CompatOption img_compare_options[] = {
    { 'q', "quiet", NULL, "say nothing" },
    { 'p', "progress", NULL, "show progress" },
    { 'f', "a-format", "FMT", "format of the first image (probed)" },
    { 'F', "b-format", "FMT", "format of the second image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "the names are options" },
    { 's', "strict", NULL, "sizes and allocation have to be the same too" },
    { 'T', "cache", "MODE", "how the host caches (writeback)" },
    { 'U', "force-share", NULL, "open them though another program writes to them" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct CompareCall {
    CompatOpen a, b;
    OpsCompare compare;
    int64_t size_a, size_b;
    bool quiet;
} CompareCall;

static int coroutine_fn open_op(void *opaque, Error **errp)
{
    CompareCall *call = opaque;

    call->compare.a = compat_co_open_report(&call->a);
    call->compare.b = call->compare.a ? compat_co_open_report(&call->b) : NULL;
    if (!call->compare.b) {
        return -EIO;
    }
    call->size_a = blk_co_getlength(call->compare.a);
    call->size_b = blk_co_getlength(call->compare.b);
    return 0;
}

static int coroutine_fn compare_op(void *opaque, Error **errp)
{
    return ops_compare(&((CompareCall *)opaque)->compare, errp);
}

static int coroutine_fn close_op(void *opaque, Error **errp)
{
    CompareCall *call = opaque;

    blk_unref(call->compare.a);
    blk_unref(call->compare.b);
    return 0;
}

static void say(const CompareCall *call, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
static void say(const CompareCall *call, const char *fmt, ...)
{
    va_list ap;

    if (!call->quiet) {
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
    }
}

static int tell(const CompareCall *call)
{
    const OpsCompare *o = &call->compare;
    int64_t at = QEMU_ALIGN_DOWN(o->different_at, BDRV_SECTOR_SIZE);

    if (o->different_at < 0) {
        say(call, "Images are identical.\n");
        return EXIT_SUCCESS;
    }
    if (!strcmp(o->why, "allocation")) {
        say(call, "Strict mode: Offset %" PRId64 " block status mismatch!\n", o->different_at);
    } else {
        say(call, "Content mismatch at offset %" PRId64 "!\n", at);
    }
    return COMPARE_DIFFERENT;
}

static int compare_open(CompareCall *call, bool show)
{
    Error *err = NULL;

    if (call->size_a != call->size_b && call->compare.strict) {
        say(call, "Strict mode: Image size mismatch!\n");
        return COMPARE_DIFFERENT;
    }
    CompatProgress *p = compat_progress_new(show && !call->quiet, 2.0);

    call->compare.progress = compat_progress_ops(p);
    int ret = ops_run(compare_op, call, &err);

    int64_t at = call->compare.different_at;

    if (call->size_a != call->size_b && (at < 0 || at >= MIN(call->size_a, call->size_b))) {
        say(call, "Warning: Image size mismatch!\n");
    }
    if (ret == 0) {
        compat_progress_done(p, at < 0);
        ret = tell(call);
    } else {
        error_report_err(err);
        ret = COMPARE_ERROR + 1;
    }
    compat_progress_end(p, false);
    return ret;
}

int img_compare(int argc, char **argv, const CompatCommand *cmd)
{
    CompareCall call = { .compare.different_at = -1 };
    const char *cache = "writeback";
    bool image_opts = false, show = false, writethrough;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'f': call.a.format = optarg; break;
        case 'F': call.b.format = optarg; break;
        case 'T': cache = optarg; break;
        case 'p': show = true; break;
        case 'q': call.quiet = true; break;
        case 's': call.compare.strict = true; break;
        case 'U': call.a.force_share = call.b.force_share = true; break;
        case OPT_IMAGE_OPTS: image_opts = true; break;
        case OPT_OBJECT:
            if (!compat_object_add(optarg)) {
                return COMPARE_ERROR;
            }
            break;
        }
    }
    if (optind + 2 != argc) {
        return compat_usage(cmd, "Expecting two image file names");
    }
    if (image_opts && (call.a.format || call.b.format)) {
        compat_fail("--image-opts and --format are mutually exclusive");
        return COMPARE_ERROR;
    }
    if (!compat_cache_mode(cache, &call.a.cache_flags, &writethrough)) {
        compat_fail("Invalid source cache option: %s", cache);
        return COMPARE_ERROR;
    }
    call.b.cache_flags = call.a.cache_flags;
    call.a.image_opts = call.b.image_opts = image_opts;
    call.a.name = argv[optind];
    call.b.name = argv[optind + 1];
    compat_engine_start();
    int ret = ops_run(open_op, &call, NULL) < 0 ? COMPARE_ERROR : compare_open(&call, show);

    ops_run(close_op, &call, NULL);
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* img_map.c: qemu-img map. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_OUTPUT, OPT_IMAGE_OPTS };

const CompatOption img_map_options[] = {
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 's', "start-offset", "N", "begin here (0)" },
    { 'l', "max-length", "N", "show so many bytes at most" },
    { OPT_OUTPUT, "output", "human|json", "form of the answer (human)" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct MapCall {
    CompatOpen open;
    bool json, any;
    int64_t start, length;      /* length -1: all */
} MapCall;

/* ---- lines, of which there may be millions: printf would take most of the time ---- */

typedef struct Line {
    char text[320];
    size_t n;
} Line;

static void line_text(Line *l, const char *text)
{
    size_t n = strlen(text);

    memcpy(l->text + l->n, text, n);
    l->n += n;
}

static void line_number(Line *l, int64_t v)
{
    char digits[20];
    size_t n = sizeof(digits);

    do {
        digits[--n] = '0' + v % 10;
        v /= 10;
    } while (v);
    memcpy(l->text + l->n, digits + n, sizeof(digits) - n);
    l->n += sizeof(digits) - n;
}

static void line_flag(Line *l, const char *name, bool v)
{
    line_text(l, name);
    line_text(l, v ? "true" : "false");
}

/* Nothing in it is negative but an offset that is not there. */
static void print_json(MapCall *call, const OpsExtent *e)
{
    Line l = { .n = 0 };

    line_text(&l, call->any ? ",\n{ \"start\": " : "[{ \"start\": ");
    line_number(&l, e->start);
    line_text(&l, ", \"length\": ");
    line_number(&l, e->length);
    line_text(&l, ", \"depth\": ");
    line_number(&l, e->depth);
    line_flag(&l, ", \"present\": ", e->present);
    line_flag(&l, ", \"zero\": ", e->zero);
    line_flag(&l, ", \"data\": ", e->data);
    line_flag(&l, ", \"compressed\": ", e->compressed);
    if (e->offset >= 0) {
        line_text(&l, ", \"offset\": ");
        line_number(&l, e->offset);
    }
    line_text(&l, "}");
    fwrite(l.text, 1, l.n, stdout);
    call->any = true;
}

static int print_extent(const OpsExtent *e, void *opaque)
{
    MapCall *call = opaque;

    if (call->json) {
        print_json(call, e);
        return 0;
    }
    if (e->data && !e->zero) {
        if (e->offset < 0) {
            return compat_fail("File contains external, encrypted or compressed clusters.");
        }
        printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", (uint64_t)e->start, (uint64_t)e->length,
               (uint64_t)e->offset, e->file ? e->file : "");
    }
    return ferror(stdout) ? -EIO : 0;
}

static int coroutine_fn map_op(void *opaque, Error **errp)
{
    MapCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->open);

    if (!blk) {
        return -EIO;
    }
    int64_t size = blk_co_getlength(blk), end = size;

    if (call->length >= 0 && call->length < size - call->start) {
        end = call->start + call->length;
    }
    if (!call->json) {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
    int ret = ops_map_range(blk, call->start, MAX(end - call->start, 0), print_extent, call, errp);

    if (call->json && ret == 0) {
        if (!call->any) {
            print_json(call, &(OpsExtent) { .start = call->start, .offset = -1 });
        }
        printf("]\n");
    }
    blk_unref(blk);
    return ret;
}

int img_map(int argc, char **argv, const CompatCommand *cmd)
{
    MapCall call = { .length = -1 };
    Error *err = NULL;
    bool ok = true;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'f': call.open.format = optarg; break;
        case 'U': call.open.force_share = true; break;
        case OPT_IMAGE_OPTS: call.open.image_opts = true; break;
        case 's': ok = compat_number("start offset", optarg, 0, INT64_MAX, &call.start); break;
        case 'l': ok = compat_number("max length", optarg, 0, INT64_MAX, &call.length); break;
        case OPT_OUTPUT: ok = compat_output_format(cmd, optarg, &call.json); break;
        case OPT_OBJECT: ok = compat_object_add(optarg); break;
        }
        if (!ok) {
            return EXIT_FAILURE;
        }
    }
    if (optind + 1 != argc) {
        return compat_usage(cmd, "Expecting one image file name");
    }
    if (call.open.image_opts && call.open.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    call.open.name = argv[optind];
    compat_engine_start();
    int ret = ops_run(map_op, &call, &err);

    if (err) {
        error_report_err(err);
    }
    return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/* cmd_check.c: check. */
#include "cli/cli.h"
#include "ops/ops.h"
#include "block/block.h"

typedef struct CheckCall {
    OpsSource source;
    BdrvCheckMode fix;
    BdrvCheckResult result;
    char *format;
} CheckCall;

static void tell_finding(void *opaque, const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static int coroutine_fn check_op(void *opaque, Error **errp)
{
    CheckCall *c = opaque;
    BlockBackend *blk = ops_open(&c->source, errp);
    BlockDriverState *bs;
    int ret;

    if (!blk) {
        return -EINVAL;
    }
    bs = blk_bs(blk);
    c->format = g_strdup(bs->drv->format_name);
    c->result.report = tell_finding;
    ret = bdrv_co_check(bs, &c->result, c->fix);
    if (ret == -ENOTSUP) {
        error_setg(errp, "'%s' has format %s, in which there is nothing to check", c->source.name, c->format);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not check '%s'", c->source.name);
    }
    blk_unref(blk);
    return ret;
}

static void print_count(int64_t n, const char *one, const char *many, const char *what)
{
    if (n) {
        printf("%" PRId64 " %s%s\n", n, n == 1 ? one : many, what);
    }
}

static void print_human(const CheckCall *c, bool quiet)
{
    const BdrvCheckResult *r = &c->result;

    print_count(r->corruptions_fixed, "corruption", "corruptions", " repaired");
    print_count(r->leaks_fixed, "leaked cluster", "leaked clusters", " freed");
    print_count(r->corruptions, "corruption", "corruptions", ": data may be damaged, and writing may damage more");
    print_count(r->leaks, "leaked cluster", "leaked clusters", ": wasted space, no harm to data");
    print_count(r->check_errors, "part", "parts", " could not be checked");
    if (quiet) {
        return;
    }
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("no errors\n");
    }
    if (r->total_clusters && r->allocated_clusters) {
        printf("%" PRId64 " of %" PRId64 " clusters allocated (%.2f%%), %.2f%% of these fragmented, %.2f%% compressed\n",
               r->allocated_clusters, r->total_clusters, r->allocated_clusters * 100.0 / r->total_clusters,
               r->fragmented_clusters * 100.0 / r->allocated_clusters,
               r->compressed_clusters * 100.0 / r->allocated_clusters);
    }
}

int cli_check(CliArgs *a)
{
    const char *repair = cli_get(a, "repair");
    CheckCall c = {
        .source = {
            .name = cli_arg(a, 0), .format = cli_get(a, "format"), .image_opts = cli_has(a, "image-opts"),
            .force_share = cli_has(a, "force-share"), .writable = repair, .check = true,
        },
        .fix = !repair ? 0 : !strcmp(repair, "leaks") ? BDRV_FIX_LEAKS : BDRV_FIX_LEAKS | BDRV_FIX_ERRORS,
    };
    Error *err = NULL;
    int ret;

    if (repair && c.source.force_share) {
        return cli_usage("--repair needs the image for itself; leave out --force-share");
    }
    cli_engine_start();
    ret = ops_run(check_op, &c, &err);
    cli_engine_stop();
    if (ret < 0) {
        g_free(c.format);
        return cli_fail(err);
    }
    if (a->json) {
        cli_print_json(ops_check_object(&c.result, c.source.name, c.format));
    } else {
        print_human(&c, a->quiet);
    }
    g_free(c.format);
    return c.result.corruptions || c.result.leaks || c.result.check_errors ? CLI_DIFFERENT : CLI_OK;
}

/* SPDX-License-Identifier: MIT */
/* cmd_measure.c: measure, bench. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "base/size.h"

/* ---- measure ---- */

typedef struct MeasureCall {
    OpsSource src;
    OpsMeasure m;
} MeasureCall;

static int coroutine_fn measure_op(void *opaque, Error **errp)
{
    MeasureCall *c = opaque;
    int ret;

    if (c->src.name) {
        int64_t length;

        c->m.source = ops_open(&c->src, errp);
        if (!c->m.source) {
            return -EIO;
        }
        length = blk_co_getlength(c->m.source);
        c->m.size = MAX(length, 0);
    }
    ret = ops_measure(&c->m, errp);
    blk_unref(c->m.source);
    return ret;
}

int cli_measure(CliArgs *a)
{
    const char *format = cli_get(a, "target-format"), *size = cli_get(a, "size");
    MeasureCall c = { .src = cli_source(a, 0),
                      .m = { .qcow2 = !format || !strcmp(format, "qcow2"), .refcount_bits = 16,
                             .cluster_size = cli_get_size(a, "cluster-size", 64 * KiB) } };
    Error *err = NULL;

    if (!size == !c.src.name) {
        return cli_usage("say one of an image and --size");
    }
    if (c.m.cluster_size < 512 || c.m.cluster_size > 2 * MiB || (c.m.cluster_size & (c.m.cluster_size - 1))) {
        return cli_usage("clusters are a power of two from 512 bytes to 2M");
    }
    c.m.size = cli_get_size(a, "size", 0);
    cli_engine_start();
    int ret = ops_run(measure_op, &c, &err);

    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_int(d, "required", c.m.required);
        qdict_put_int(d, "fully-allocated", c.m.fully_allocated);
        cli_print_json(d);
    } else {
        printf("file now:         %" PRIu64 " bytes\nfile when filled: %" PRIu64 " bytes\n", c.m.required,
               c.m.fully_allocated);
    }
    return CLI_OK;
}

/* ---- bench ---- */

typedef struct BenchCall {
    OpsSource src;
    OpsBench b;
    double seconds;
} BenchCall;

static int coroutine_fn bench_op(void *opaque, Error **errp)
{
    BenchCall *c = opaque;
    int ret;

    c->b.blk = ops_open(&c->src, errp);
    if (!c->b.blk) {
        return -EIO;
    }
    int64_t began = g_get_monotonic_time();

    ret = ops_bench(&c->b);
    c->seconds = MAX(g_get_monotonic_time() - began, 1) / 1e6;
    blk_unref(c->b.blk);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "A request to '%s' failed", c->src.name);
    }
    return ret;
}

int cli_bench(CliArgs *a)
{
    BenchCall c = { .src = cli_source(a, 0),
                    .b = { .count = cli_get_size(a, "count", 75000), .depth = cli_get_size(a, "depth", 32),
                           .bytes = cli_get_size(a, "size", 4096), .write = cli_has(a, "write"), .drain_on_flush = true } };
    Error *err = NULL;

    if (c.b.count < 1 || c.b.bytes < 1 || c.b.bytes > 64 * MiB) {
        return cli_usage("there has to be at least one request, and each has 1 byte to 64M");
    }
    c.b.step = c.b.bytes;
    c.src.writable = c.b.write;
    if (c.b.write && !cli_has(a, "force")) {
        return cli_usage("--write destroys what is in %s: add --force", c.src.name);
    }
    cli_engine_start();
    int ret = ops_run(bench_op, &c, &err);

    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_int(d, "requests", c.b.count);
        qdict_put_int(d, "bytes", c.b.bytes);
        qdict_put_obj(d, "seconds", qdouble_new(c.seconds));
        cli_print_json(d);
    } else {
        printf("%" PRId64 " %ss of %" PRId64 " bytes, %" PRId64 " at once: %.0f a second, %.1f MiB/s\n", c.b.count,
               c.b.write ? "write" : "read", c.b.bytes, c.b.depth, c.b.count / c.seconds,
               c.b.count * c.b.bytes / c.seconds / MiB);
    }
    return CLI_OK;
}

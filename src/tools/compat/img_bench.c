/* SPDX-License-Identifier: MIT */
/* img_bench.c: qemu-img bench. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS, OPT_PATTERN, OPT_FLUSH_INTERVAL, OPT_NO_DRAIN };

const CompatOption img_bench_options[] = {
    { 'q', "quiet", NULL, "as without" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 't', "cache", "MODE", "how the host caches (writeback)" },
    { 'c', "count", "N", "requests (75000)" },
    { 'd', "depth", "N", "requests at once (64)" },
    { 'o', "offset", "N", "where the first begins (0)" },
    { 's', "buffer-size", "SIZE", "bytes of each (4096)" },
    { 'S', "step-size", "SIZE", "from one to the next (as -s)" },
    { 'i', "aio", "MODE", "threads, native or io_uring" },
    { 'n', "native", NULL, "the same as --aio native" },
    { 'w', "write", NULL, "write" },
    { OPT_PATTERN, "pattern", "BYTE", "what is written (0)" },
    { OPT_FLUSH_INTERVAL, "flush-interval", "N", "flush after every so many writes" },
    { OPT_NO_DRAIN, "no-drain", NULL, "do not wait for writes in flight before a flush" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct BenchCall {
    CompatOpen open;
    OpsBench b;
    double seconds;
} BenchCall;

static int coroutine_fn bench_op(void *opaque, Error **errp)
{
    BenchCall *call = opaque;
    OpsBench *b = &call->b;

    b->blk = compat_co_open_report(&call->open);
    if (!b->blk) {
        return -EIO;
    }
    printf("Sending %" PRId64 " %s requests, %" PRId64 " bytes each, %" PRId64 " in parallel (starting at offset %" PRId64
           ", step size %" PRId64 ")\n", b->count, b->write ? "write" : "read", b->bytes, b->depth, b->offset, b->step);
    if (b->flush_interval) {
        printf("Sending flush every %" PRId64 " requests\n", b->flush_interval);
    }
    int64_t began = g_get_monotonic_time();
    int ret = ops_bench(b);

    call->seconds = (g_get_monotonic_time() - began) / 1e6;
    blk_unref(b->blk);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed request");
    }
    return ret;
}

static bool take_option(BenchCall *call, int c, const char **cache, int64_t *pattern, bool *through)
{
    OpsBench *b = &call->b;

    switch (c) {
    case 'f': call->open.format = optarg; break;
    case OPT_IMAGE_OPTS: call->open.image_opts = true; break;
    case 't': *cache = optarg; break;
    case 'c': return compat_number("request count", optarg, 1, INT_MAX, &b->count);
    case 'd': return compat_number("queue depth", optarg, 1, INT_MAX, &b->depth);
    case 'o': return compat_number("offset", optarg, 0, INT64_MAX, &b->offset);
    case 's': return compat_number("buffer size", optarg, 1, INT_MAX, &b->bytes);
    case 'S': return compat_number("step size", optarg, 0, INT_MAX, &b->step);
    case 'i':
        if (!compat_aio_mode(optarg)) {
            compat_fail("Invalid aio option: %s", optarg);
            return false;
        }
        call->open.aio = optarg;
        break;
    case 'n': call->open.aio = "native"; break;
    case 'w': b->write = call->open.writable = true; break;
    case OPT_PATTERN: return compat_number("pattern byte", optarg, 0, 255, pattern);
    case OPT_FLUSH_INTERVAL: return compat_number("flush interval", optarg, 0, INT_MAX, &b->flush_interval);
    case OPT_NO_DRAIN: b->drain_on_flush = false; break;
    case 'U': call->open.force_share = true; break;
    case OPT_OBJECT: return compat_object_add(optarg);
    }
    return true;
}

int img_bench(int argc, char **argv, const CompatCommand *cmd)
{
    BenchCall call = { .b = { .count = 75000, .depth = 64, .bytes = 4096, .drain_on_flush = true } };
    const char *cache = "writeback";
    int64_t pattern = 0;
    bool through = false;
    Error *err = NULL;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        if (!take_option(&call, c, &cache, &pattern, &through)) {
            return EXIT_FAILURE;
        }
        if (c == 't' && !compat_cache_mode(cache, &call.open.cache_flags, &through)) {
            return compat_fail("Invalid cache mode");
        }
    }
    if (optind + 1 != argc) {
        return compat_usage(cmd, "Expecting one image file name");
    }
    if (call.open.image_opts && call.open.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    if (!call.b.write && call.b.flush_interval) {
        return compat_fail("--flush-interval is only available in write tests");
    }
    if (call.b.flush_interval && call.b.flush_interval < call.b.depth) {
        return compat_fail("Flush interval can't be smaller than depth");
    }
    call.open.name = argv[optind];
    call.b.pattern = pattern;
    call.b.durable = through;
    call.b.step = call.b.step ? call.b.step : call.b.bytes;
    compat_engine_start();
    int ret = ops_run(bench_op, &call, &err);

    if (err) {
        error_report_err(err);
    }
    if (ret == 0) {
        printf("Run completed in %3.3f seconds.\n", call.seconds);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/* cmd_measure.c: measure, bench. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "base/size.h"
#include "block/qapi-visit.h"
#include "crypto/luks.h"

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

/* ---- its options ---- */

static int choice(const QDict *d, const char *key, const QapiType *type, int without, Error **errp)
{
    const char *text = qdict_get_try_str(d, key);
    int value = text ? qapi_enum_parse(type, text) : without;

    if (value < 0) {
        error_setg(errp, "Parameter '%s' does not accept value '%s'", key, text);
    }
    return value;
}

/* What the header of an encrypted disk takes. */
static int header_of(const QDict *d, OpsMeasure *m, Error **errp)
{
    int cipher = choice(d, "cipher-alg", &qapi_type_QCryptoCipherAlgorithm, Q_CRYPTO_CIPHER_ALGORITHM_AES_256, errp);
    int mode = cipher < 0 ? -1 : choice(d, "cipher-mode", &qapi_type_QCryptoCipherMode, Q_CRYPTO_CIPHER_MODE_XTS, errp);

    if (mode < 0) {
        return -EINVAL;
    }
    m->header_bytes = luks_layout_bytes(cipher, mode);
    if (!m->header_bytes) {
        error_setg(errp, "Cipher %s cannot be used in mode %s", QCryptoCipherAlgorithm_str(cipher),
                   QCryptoCipherMode_str(mode));
        return -EINVAL;
    }
    return 0;
}

static int qcow2_of(const QDict *d, OpsMeasure *m, Error **errp)
{
    const char *bits = qdict_get_try_str(d, "refcount-bits"), *cluster = qdict_get_try_str(d, "cluster-size");
    int prealloc = choice(d, "preallocation", &qapi_type_PreallocMode, PREALLOC_MODE_OFF, errp);
    const QDict *encrypt = qdict_get_qdict(d, "encrypt");
    uint64_t n;

    if (prealloc < 0) {
        return -EINVAL;
    }
    m->allocate_all = prealloc == PREALLOC_MODE_FALLOC || prealloc == PREALLOC_MODE_FULL;
    m->extended_l2 = !g_strcmp0(qdict_get_try_str(d, "extended-l2"), "on");
    if (bits) {
        n = g_ascii_strtoull(bits, NULL, 10);
        if (n < 1 || n > 64 || (n & (n - 1))) {
            error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
            return -EINVAL;
        }
        m->refcount_bits = n;
    }
    if (cluster) {
        if (size_parse(cluster, 1, &n) < 0) {
            error_setg(errp, "Parameter 'cluster-size' expects a size");
            return -EINVAL;
        }
        m->cluster_size = n;
    }
    if (encrypt && !qdict_haskey(encrypt, "format")) {
        error_setg(errp, "Parameter 'encrypt.format' is missing");
        return -EINVAL;
    }
    if (encrypt && choice(encrypt, "format", &qapi_type_QCryptoBlockFormat, -1, errp) < 0) {
        return -EINVAL;
    }
    return encrypt ? header_of(encrypt, m, errp) : 0;
}

static int options_of(const char *text, const char *format, OpsMeasure *m, Error **errp)
{
    g_autoptr(QDict) d = text ? qdict_from_keyval(text, NULL, NULL, errp) : qdict_new();

    if (!d) {
        return -EINVAL;
    }
    return !strcmp(format, "luks") ? header_of(d, m, errp) : m->qcow2 ? qcow2_of(d, m, errp) : 0;
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
    if (options_of(cli_get(a, "option"), format ? format : "qcow2", &c.m, &err) < 0) {
        cli_fail(err);
        return CLI_USAGE;
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

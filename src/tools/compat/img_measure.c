/* SPDX-License-Identifier: MIT */
/* img_measure.c: qemu-img measure. */
#include "compat/compat.h"
#include "crypto/luks.h"
#include "crypto/secret.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_OUTPUT, OPT_IMAGE_OPTS };

const CompatOption img_measure_options[] = {
    { 'O', "target-format", "FMT", "format of the new image (raw)" },
    { 'o', "options", "OPTIONS", "options of the new image" },
    { 's', "size", "SIZE", "size that the guest sees" },
    { 'f', "format", "FMT", "format of FILENAME (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { OPT_OUTPUT, "output", "human|json", "form of the answer (human)" },
    { 'l', "snapshot", "SNAPSHOT", "of this snapshot inside FILENAME (snapshot.id=..,snapshot.name=.., or id or name)" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

typedef struct MeasureCall {
    CompatOpen source;
    const char *format;
    char *options;
    int64_t size;               /* -1: the source's */
    bool json, has_bitmaps;
    uint64_t bitmaps;           /* bytes that they take */
    CompatCreate *create;
    CompatSnapshot snapshot;
    OpsMeasure m;
} MeasureCall;

static uint64_t number_of(const CompatCreate *c, const char *key, uint64_t def)
{
    const char *text = compat_create_get(c, key);

    return text ? g_ascii_strtoull(text, NULL, 10) : def;
}

static int qcow2_parameters(MeasureCall *call, Error **errp)
{
    const char *prealloc = compat_create_get(call->create, "preallocation");
    int mode = prealloc ? qapi_enum_parse(&qapi_type_PreallocMode, prealloc) : PREALLOC_MODE_OFF;
    uint64_t cluster = number_of(call->create, "cluster_size", 65536);
    uint64_t bits = number_of(call->create, "refcount_bits", 16);

    if (cluster < 512 || cluster > 2 * MiB || !is_power_of_2(cluster)) {
        error_setg(errp, "Cluster size must be a power of two between 512 and 2048k");
        return -EINVAL;
    }
    if (bits < 1 || bits > 64 || !is_power_of_2(bits)) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
        return -EINVAL;
    }
    if (mode < 0) {
        error_setg(errp, "invalid parameter value: %s", prealloc);
        return -EINVAL;
    }
    call->m.qcow2 = true;
    call->m.cluster_size = cluster;
    call->m.refcount_bits = bits;
    call->m.extended_l2 = !g_strcmp0(compat_create_get(call->create, "extended_l2"), "on");
    /* What the backing image will not hold when it is written is not known. */
    call->m.allocate_all = mode == PREALLOC_MODE_FULL || mode == PREALLOC_MODE_FALLOC ||
                           compat_create_get(call->create, "backing_file");
    return 0;
}

/* What the header of an encrypted image takes: its options are looked at as if it were made. @prefix: of their names. */
static int encryption_parameters(MeasureCall *call, const char *prefix, Error **errp)
{
    static const struct { const char *name; const QapiType *type; } enums[] = {
        { "cipher-alg", &qapi_type_QCryptoCipherAlgorithm }, { "cipher-mode", &qapi_type_QCryptoCipherMode },
        { "ivgen-alg", &qapi_type_QCryptoIVGenAlgorithm }, { "ivgen-hash-alg", &qapi_type_QCryptoHashAlgorithm },
        { "hash-alg", &qapi_type_QCryptoHashAlgorithm },
    };
    g_autofree char *key = g_strconcat(prefix, "key-secret", NULL);
    const char *secret = compat_create_get(call->create, key);
    int chosen[G_N_ELEMENTS(enums)] = { Q_CRYPTO_CIPHER_ALGORITHM_AES_256, Q_CRYPTO_CIPHER_MODE_XTS };

    for (size_t i = 0; i < G_N_ELEMENTS(enums); i++) {
        g_autofree char *name = g_strconcat(prefix, enums[i].name, NULL);
        const char *value = compat_create_get(call->create, name);

        chosen[i] = value ? qapi_enum_parse(enums[i].type, value) : chosen[i];
        if (chosen[i] < 0) {
            error_setg(errp, "Parameter '%s' does not accept value '%s'", enums[i].name, value);
            return -EINVAL;
        }
    }
    if (!secret) {
        error_setg(errp, "Parameter '%s' is required for cipher", key);
        return -EINVAL;
    }
    if (!secret_exists(secret)) {
        error_setg(errp, "No secret with id '%s'", secret);
        return -ENOENT;
    }
    call->m.header_bytes = luks_layout_bytes(chosen[0], chosen[1]);
    if (!call->m.header_bytes) {
        error_setg(errp, "Cipher %s cannot be used in mode %s", QCryptoCipherAlgorithm_str(chosen[0]),
                   QCryptoCipherMode_str(chosen[1]));
        return -ENOTSUP;
    }
    return 0;
}

static int coroutine_fn measure_op(void *opaque, Error **errp)
{
    MeasureCall *call = opaque;
    int ret = 0;

    if (call->source.name) {
        call->m.source = compat_co_open_report(&call->source);
        if (!call->m.source) {
            return -EIO;
        }
        if (call->snapshot.given) {
            ret = compat_co_snapshot_load(&call->snapshot, call->m.source, errp);
        }
        call->m.size = blk_co_getlength(call->m.source);
    } else {
        call->m.size = call->size;
    }
    if (ret == 0 && !strcmp(call->format, "qcow2")) {
        ret = qcow2_parameters(call, errp);
    }
    if (ret == 0 && !strcmp(call->format, "luks")) {
        ret = encryption_parameters(call, "", errp);
    } else if (ret == 0 && !g_strcmp0(compat_create_get(call->create, "encrypt.format"), "luks")) {
        ret = encryption_parameters(call, "encrypt.", errp);
    }
    if (ret == 0) {
        ret = ops_measure(&call->m, errp);
    }
    /* Bitmaps can be stored in, and so copied from, this one only. */
    call->has_bitmaps = call->m.qcow2 && call->m.source && ops_stores_bitmaps(blk_bs(call->m.source));
    if (call->has_bitmaps) {
        call->bitmaps = ops_measure_bitmaps(blk_bs(call->m.source), call->m.cluster_size);
    }
    blk_unref(call->m.source);
    return ret;
}

static void print_result(const MeasureCall *call)
{
    if (call->json) {
        g_autoptr(QDict) d = qdict_new();

        qdict_put_int(d, "required", call->m.required);
        qdict_put_int(d, "fully-allocated", call->m.fully_allocated);
        if (call->has_bitmaps) {
            qdict_put_int(d, "bitmaps", call->bitmaps);
        }
        g_autofree char *text = json_to_str(d, true);

        printf("%s\n", text);
        return;
    }
    printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", call->m.required,
           call->m.fully_allocated);
    if (call->has_bitmaps) {
        printf("bitmaps size: %" PRIu64 "\n", call->bitmaps);
    }
}

static int measure_checked(MeasureCall *call)
{
    Error *err = NULL;

    call->create = compat_create_new(call->format, "x");
    if (!call->create) {
        return compat_fail("Unknown file format '%s'", call->format);
    }
    if (call->options && compat_create_parse(call->create, call->options, &err) < 0) {
        error_report_err(err);
        return compat_fail("Invalid options for file format '%s'", call->format);
    }
    int ret = ops_run(measure_op, call, &err);

    if (err) {
        error_report_err(err);
    }
    if (ret == 0) {
        print_result(call);
    }
    return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}

int img_measure(int argc, char **argv, const CompatCommand *cmd)
{
    MeasureCall call = { .format = "raw", .size = -1, .source.no_backing = false };
    bool ok = true;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'O': call.format = optarg; break;
        case 'o': {
            if (!compat_option_list_valid(optarg)) {
                return EXIT_FAILURE;
            }
            char *joined = call.options ? g_strdup_printf("%s,%s", call.options, optarg) : g_strdup(optarg);

            g_free(call.options);
            call.options = joined;
            break;
        }
        case 's': ok = compat_number("image size", optarg, 0, INT64_MAX, &call.size); break;
        case 'f': call.source.format = optarg; break;
        case 'l': ok = compat_snapshot_parse(optarg, &call.snapshot); break;
        case 'U': call.source.force_share = true; break;
        case OPT_IMAGE_OPTS: call.source.image_opts = true; break;
        case OPT_OUTPUT: ok = compat_output_format(cmd, optarg, &call.json); break;
        case OPT_OBJECT: ok = compat_object_add(optarg); break;
        }
        if (!ok) {
            return EXIT_FAILURE;
        }
    }
    if (argc - optind > 1) {
        return compat_fail("At most one filename argument is allowed.");
    }
    call.source.name = optind < argc ? argv[optind] : NULL;
    if (!call.source.name && (call.source.format || call.source.image_opts || call.snapshot.given)) {
        return compat_fail("--image-opts, -f, and -l require a filename argument.");
    }
    if (!call.source.name && call.size < 0) {
        return compat_fail("Either --size N or one filename must be specified.");
    }
    if (call.source.name && call.size >= 0) {
        return compat_fail("--size N cannot be used together with a filename.");
    }
    compat_engine_start();
    int ret = measure_checked(&call);

    compat_create_free(call.create);
    compat_snapshot_clear(&call.snapshot);
    g_free(call.options);
    return ret;
}

/* SPDX-License-Identifier: MIT */
/* qcow2_interchange.c: either program continues the other's work on an image, in any order.
 *
 * Method: for several kinds of image, steps of random changes made by us and by qemu-io in turn,
 * with internal snapshots, compressed clusters and resizing thrown in; after each step qemu-img
 * checks the image, and both programs' contents are compared with a model. Skipped without the
 * tools.
 *
 * Environment: QCOW2_INTERCHANGE_SEED (default 1).
 */
#include "tests/unit/driver_util.h"

typedef struct Kind {
    const char *name;
    const char *options;        /* of qemu-img create -o */
    uint64_t cluster;
    int64_t length, backing_length;     /* 0: no backing file */
    bool snapshots, compression;        /* done by the peer */
    bool data_file;
} Kind;

static const Kind kinds[] = {
    { "default", "cluster_size=64k", 65536, 8 * MiB, 0, true, true },
    { "v2", "compat=0.10", 65536, 8 * MiB, 0, true, true },
    { "v2-backing", "compat=0.10", 65536, 6 * MiB, 4 * MiB, false, false },
    { "small-clusters", "cluster_size=512,refcount_bits=64", 512, 2 * MiB, 0, true, false },
    { "backing-shorter", "cluster_size=4k,refcount_bits=4", 4096, 4 * MiB, 3 * MiB + 512, true, true },
    { "backing-longer", "cluster_size=16k", 16384, 3 * MiB, 5 * MiB, true, true },
    { "refcount-1", "cluster_size=4k,refcount_bits=1", 4096, 4 * MiB, 0, false, false },
    { "large-clusters", "cluster_size=2M,refcount_bits=32", 2 * MiB, 24 * MiB, 0, true, true },
    { "zstd", "compression_type=zstd", 65536, 8 * MiB, 0, false, true },
    { "subclusters", "extended_l2=on", 65536, 8 * MiB, 0, true, true },
    { "subclusters-backing", "extended_l2=on,cluster_size=16k", 16384, 4 * MiB, 3 * MiB + 512, true, true },
    { "data-file", "data_file=x.data", 65536, 8 * MiB, 0, false, false, true },
    { "data-file-raw", "data_file=x.data,data_file_raw=on", 65536, 8 * MiB, 0, false, false, true },
    { "data-file-backing", "data_file=x.data,extended_l2=on", 65536, 8 * MiB, 5 * MiB + 512, false, false, true },
    { "preallocated", "preallocation=metadata,lazy_refcounts=on", 65536, 4 * MiB, 0, false, false },
};

static struct {
    const Kind *kind;
    uint8_t *model;
    int64_t length;
    Prng prng;
} t;

static void model_range(int64_t *at, int64_t *n, int64_t align, int64_t max)
{
    *at = prng_below(&t.prng, t.length / align) * align;
    *n = (1 + prng_below(&t.prng, max / align)) * align;
    *n = MIN(*n, t.length - *at);
}

/* ---- ours ---- */

static BdrvChild *open_ours(void)
{
    return test_attach(test_open("{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"file\":"
                                 "{\"driver\":\"file\",\"filename\":\"x.qcow2\"}}"));
}

static void step_ours(void)
{
    BdrvChild *c = open_ours();

    for (int i = 0; i < 12; i++) {
        int64_t at, n;
        uint8_t fill = 1 + prng_below(&t.prng, 255);

        switch (prng_below(&t.prng, t.kind->data_file ? 8 : 10)) {
        case 8:
        case 9:
            /* Streams of all lengths, some that do not become shorter. */
            model_range(&at, &n, t.kind->cluster, 3 * t.kind->cluster);
            memset(t.model + at, fill, n);
            for (int64_t k = prng_below(&t.prng, 2) ? 0 : prng_below(&t.prng, n); k > 0; k--) {
                t.model[at + k] = prng_u64(&t.prng);
            }
            g_assert_cmpint(test_write_compressed(c, at, n, t.model + at), ==, 0);
            break;
        case 0:
            model_range(&at, &n, 512, 1 * MiB);
            g_assert_cmpint(test_zero(c, at, n, prng_below(&t.prng, 2) ? BDRV_REQ_MAY_UNMAP : 0), ==, 0);
            memset(t.model + at, 0, n);
            break;
        case 1:
            /* Whole clusters, so that what it gives is known; but version 2 shows the backing file. */
            model_range(&at, &n, t.kind->cluster, 2 * t.kind->cluster);
            if (n % t.kind->cluster == 0 && !g_str_has_prefix(t.kind->name, "v2-")) {
                g_assert_cmpint(test_discard(c, at, n), ==, 0);
                memset(t.model + at, 0, n);
            }
            break;
        case 2:
            g_assert_cmpint(test_flush(c), ==, 0);
            break;
        default:
            model_range(&at, &n, prng_below(&t.prng, 2) ? 512 : 1, prng_below(&t.prng, 3) ? 8192 : 300 * KiB);
            memset(t.model + at, fill, n);
            g_assert_cmpint(test_write(c, at, n, t.model + at), ==, 0);
        }
    }
    bdrv_root_unref_child(c);
}

static void step_resize(void)
{
    BdrvChild *c = open_ours();
    int64_t length = t.length + (int64_t)(prng_below(&t.prng, 2048) - 512) * 512;

    g_assert_cmpint(test_truncate(c, length, PREALLOC_MODE_OFF, &error_abort), ==, 0);
    t.model = g_realloc(t.model, length);
    if (length > t.length) {
        memset(t.model + t.length, 0, length - t.length);
    }
    t.length = length;
    bdrv_root_unref_child(c);
}

/* ---- the peer ---- */

static void step_peer(void)
{
    g_autoptr(GString) command = g_string_new("qemu-io -f qcow2 -d unmap");

    for (int i = 0; i < 8; i++) {
        int64_t at, n;
        unsigned fill = 1 + prng_below(&t.prng, 255), what = prng_below(&t.prng, 6);

        if (what == 0) {
            model_range(&at, &n, 512, 512 * KiB);
            g_string_append_printf(command, " -c 'write -q -z %s %" PRId64 " %" PRId64 "'",
                                   prng_below(&t.prng, 2) ? "-u" : "", at, n);
            memset(t.model + at, 0, n);
        } else if (i == 7 && t.kind->compression) {
            /* One, and last: versions of it damage the image when a packed cluster is
             * written over and another is packed in one session. */
            model_range(&at, &n, t.kind->cluster, t.kind->cluster);
            if (n == (int64_t)t.kind->cluster) {
                /* It does not compress into a place that is in use. */
                g_string_append_printf(command, " -c 'discard -q %" PRId64 " %" PRId64 "'", at, n);
                g_string_append_printf(command, " -c 'write -q -c -P %u %" PRId64 " %" PRId64 "'", fill, at, n);
                memset(t.model + at, fill, n);
            }
        } else {
            model_range(&at, &n, 512, 300 * KiB);
            g_string_append_printf(command, " -c 'write -q -P %u %" PRId64 " %" PRId64 "'", fill, at, n);
            memset(t.model + at, fill, n);
        }
    }
    g_assert_cmpint(test_shell("%s x.qcow2", command->str), ==, 0);
}

/* Snapshots share clusters: what either writes next must not reach them. */
static void step_snapshot(void)
{
    static unsigned number;

    g_assert_cmpint(test_shell("qemu-img snapshot -c s%u x.qcow2", number++), ==, 0);
}

/* ---- checking ---- */

static void verify(void)
{
    BdrvChild *c = open_ours();
    g_autofree uint8_t *buf = g_malloc(t.length);

    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, t.length);
    g_assert_cmpint(test_read(c, 0, t.length, buf), ==, 0);
    for (int64_t i = 0; i < t.length; i++) {
        if (buf[i] != t.model[i]) {
            g_error("%s: byte %" PRId64 " is %#x, not %#x", t.kind->name, i, buf[i], t.model[i]);
        }
    }
    bdrv_root_unref_child(c);
    g_assert_true(g_file_set_contents("model.raw", (char *)t.model, t.length, NULL));
    g_assert_cmpint(test_shell("qemu-img check -q x.qcow2 && "
                               "qemu-img compare -q -f qcow2 -F raw x.qcow2 model.raw"), ==, 0);
    if (strstr(t.kind->options, "data_file_raw")) {
        g_assert_cmpint(test_shell("cmp x.data model.raw"), ==, 0);
    }
}

static void make_image(void)
{
    g_autofree char *backing = t.kind->backing_length ? g_strdup("-b b.raw -F raw") : g_strdup("");

    t.length = t.kind->length;
    t.model = g_malloc0(MAX(t.length, t.kind->backing_length));
    for (int64_t i = 0; i < t.kind->backing_length; i++) {
        t.model[i] = prng_u64(&t.prng) | 1;
    }
    g_assert_true(g_file_set_contents("b.raw", (char *)t.model, t.kind->backing_length, NULL));
    g_assert_cmpint(test_shell("rm -f x.qcow2; qemu-img create -q -f qcow2 -o %s %s x.qcow2 %" PRId64,
                               t.kind->options, backing, t.length), ==, 0);
}

static void test_kind(const void *opaque)
{
    const char *seed = getenv("QCOW2_INTERCHANGE_SEED");

    if (!test_have("qemu-img") || !test_have("qemu-io")) {
        g_test_skip("qemu-img and qemu-io are not installed");
        return;
    }
    t.kind = opaque;
    t.prng.state = (seed ? g_ascii_strtoull(seed, NULL, 0) : 1) * 1000 + (t.kind - kinds);
    make_image();
    for (int step = 0; step < 10; step++) {
        unsigned what = prng_below(&t.prng, 10);

        if (what == 0 && t.kind->snapshots) {
            step_snapshot();
        } else if (what == 1 && !t.kind->backing_length) {
            step_resize();
        } else if (what & 1) {
            step_peer();
        } else {
            step_ours();
        }
        verify();
    }
    g_free(t.model);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strconcat("/qcow2/interchange/", kinds[i].name, NULL);

        g_test_add_data_func(path, &kinds[i], test_kind);
    }
    return test_end();
}

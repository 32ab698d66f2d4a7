/* SPDX-License-Identifier: MIT */
/* qcow2_create.c: a new image is the same, byte for byte, as qemu-img's; bad parameters are
 * refused with the texts that programs know.
 *
 * Method: both programs create the same image; skipped without qemu-img.
 */
#include "tests/unit/driver_util.h"

static void create_ours(const char *options, Error **errp)
{
    g_autofree char *create = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"ours.qcow2\"}%s}", options);

    test_make_file("ours.qcow2", 0);
    g_assert_cmpint(test_create(create, errp) < 0, ==, errp != &error_abort);
}

typedef struct SameCase {
    const char *ours, *peer;
} SameCase;

static void test_same_bytes(const void *opaque)
{
    const SameCase *c = opaque;

    if (!test_have("qemu-img")) {
        g_test_skip("qemu-img is not installed");
        return;
    }
    test_make_file("base.raw", 1 * MiB);
    create_ours(c->ours, &error_abort);
    g_assert_cmpint(test_shell("rm -f peer.qcow2; qemu-img create -q -f qcow2 %s", c->peer), ==, 0);
    g_assert_cmpint(test_shell("cmp ours.qcow2 peer.qcow2"), ==, 0);
}

static void test_refused(const void *opaque)
{
    const SameCase *c = opaque;
    Error *err = NULL;

    create_ours(c->ours, &err);
    g_assert_cmpstr(error_get_pretty(err), ==, c->peer);
    error_free(err);
}

/* Everything beyond the tables reads as zeroes, and is there. */
static void test_preallocated(const void *opaque)
{
    const char *mode = opaque;
    g_autofree char *options = g_strdup_printf(",\"size\":%lld,\"preallocation\":\"%s\"", 100 * MiB, mode);
    struct stat st;

    create_ours(options, &error_abort);
    g_assert_cmpint(stat("ours.qcow2", &st), ==, 0);
    g_assert_cmpint(st.st_size, >=, 100 * MiB);
    g_assert_cmpint(st.st_blocks * 512LL >= 100 * MiB, ==, strcmp(mode, "metadata") != 0);
    if (test_have("qemu-img")) {
        test_make_file("zero.raw", 100 * MiB);
        g_assert_cmpint(test_shell("qemu-img check -q ours.qcow2"), ==, 0);
        g_assert_cmpint(test_shell("qemu-img compare -q -f qcow2 -F raw ours.qcow2 zero.raw"), ==, 0);
    }
}

static const struct {
    const char *name;
    SameCase c;
} same[] = {
    { "default", { ",\"size\":1048576", "peer.qcow2 1M" } },
    { "large", { ",\"size\":1099511627776", "peer.qcow2 1T" } },
    { "v2", { ",\"size\":1048576,\"version\":\"v2\"", "-o compat=0.10 peer.qcow2 1M" } },
    { "backing", { ",\"size\":1048576,\"backing-file\":\"base.raw\",\"backing-fmt\":\"raw\"",
                   "-b base.raw -F raw peer.qcow2" } },
    { "cluster-512", { ",\"size\":1048576,\"cluster-size\":512", "-o cluster_size=512 peer.qcow2 1M" } },
    { "cluster-2M", { ",\"size\":1048576,\"cluster-size\":2097152", "-o cluster_size=2M peer.qcow2 1M" } },
    { "cluster-512-backing", { ",\"size\":1048576,\"cluster-size\":512,\"backing-file\":\"base.raw\","
                               "\"backing-fmt\":\"raw\"",
                               "-o cluster_size=512 -b base.raw -F raw peer.qcow2" } },
    { "refcounts-1", { ",\"size\":1048576,\"refcount-bits\":1", "-o refcount_bits=1 peer.qcow2 1M" } },
    { "refcounts-4", { ",\"size\":1048576,\"refcount-bits\":4", "-o refcount_bits=4 peer.qcow2 1M" } },
    { "refcounts-64", { ",\"size\":1048576,\"refcount-bits\":64", "-o refcount_bits=64 peer.qcow2 1M" } },
    { "zstd", { ",\"size\":1048576,\"compression-type\":\"zstd\"",
                "-o compression_type=zstd peer.qcow2 1M" } },
    { "lazy", { ",\"size\":1048576,\"lazy-refcounts\":true", "-o lazy_refcounts=on peer.qcow2 1M" } },
    { "empty", { ",\"size\":0", "peer.qcow2 0" } },
}, refused[] = {
    { "size", { ",\"size\":1000", "Image size must be a multiple of 512 bytes" } },
    { "cluster-1000", { ",\"size\":1024,\"cluster-size\":1000",
                        "Cluster size must be a power of two between 512 and 2048k" } },
    { "cluster-256", { ",\"size\":1024,\"cluster-size\":256",
                       "Cluster size must be a power of two between 512 and 2048k" } },
    { "cluster-4M", { ",\"size\":1024,\"cluster-size\":4194304",
                      "Cluster size must be a power of two between 512 and 2048k" } },
    { "refcount-3", { ",\"size\":1024,\"refcount-bits\":3",
                      "Refcount width must be a power of two and may not exceed 64 bits" } },
    { "refcount-128", { ",\"size\":1024,\"refcount-bits\":128",
                        "Refcount width must be a power of two and may not exceed 64 bits" } },
    { "refcount-negative", { ",\"size\":1024,\"refcount-bits\":-8",
                             "Refcount width must be a power of two and may not exceed 64 bits" } },
    { "refcount-v2", { ",\"size\":1024,\"refcount-bits\":8,\"version\":\"v2\"",
                       "Different refcount widths than 16 bits require compatibility level 1.1 or above "
                       "(use version=v3 or greater)" } },
    { "too-long", { ",\"size\":9223372036854774784",
                    "Could not resize image: offset(9223372036854774784) exceeds "
                    "maximum(9223372035781033984)" } },
    { "l1-too-large", { ",\"size\":72057594037927936,\"cluster-size\":512",
                        "Could not resize image: Failed to grow the L1 table: File too large" } },
    { "fmt-alone", { ",\"size\":1024,\"backing-fmt\":\"raw\"",
                     "Backing format cannot be used without backing file" } },
    { "lazy-v2", { ",\"size\":1024,\"version\":\"v2\",\"lazy-refcounts\":true",
                   "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 "
                   "or greater)" } },
    { "zstd-v2", { ",\"size\":1024,\"version\":\"v2\",\"compression-type\":\"zstd\"",
                   "Non-zlib compression type is only supported with compatibility level 1.1 and above "
                   "(use version=v3 or greater)" } },
    { "prealloc-backing", { ",\"size\":1024,\"backing-file\":\"b\",\"preallocation\":\"metadata\"",
                            "Backing file and preallocation can only be used at the same time if "
                            "extended_l2 is on" } },
};

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
        g_autofree char *path = g_strconcat("/qcow2/create/same/", same[i].name, NULL);

        g_test_add_data_func(path, &same[i].c, test_same_bytes);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *path = g_strconcat("/qcow2/create/refused/", refused[i].name, NULL);

        g_test_add_data_func(path, &refused[i].c, test_refused);
    }
    g_test_add_data_func("/qcow2/create/preallocated/metadata", "metadata", test_preallocated);
    g_test_add_data_func("/qcow2/create/preallocated/falloc", "falloc", test_preallocated);
    g_test_add_data_func("/qcow2/create/preallocated/full", "full", test_preallocated);
    return test_end();
}

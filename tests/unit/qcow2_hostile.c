/* SPDX-License-Identifier: MIT */
/* qcow2_hostile.c: images that lie about themselves are refused with a text that says why, or
 * fail where the lie is met; nothing crashes, and nothing outside of the lie is lost.
 *
 * Method: a good image of our own making, then single fields or table entries changed.
 */
#include "tests/unit/driver_util.h"

static const char *open_json = "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"h.qcow2\"}}";

static void put_be(const char *file, uint64_t at, unsigned bytes, uint64_t value)
{
    int fd = open(file, O_RDWR);
    uint8_t buf[8];

    for (unsigned i = 0; i < bytes; i++) {
        buf[i] = value >> (8 * (bytes - 1 - i));
    }
    g_assert_cmpint(pwrite(fd, buf, bytes, at), ==, bytes);
    close(fd);
}

static uint64_t get_be(const char *file, uint64_t at)
{
    int fd = open(file, O_RDONLY);
    uint64_t v;

    g_assert_cmpint(pread(fd, &v, 8, at), ==, 8);
    close(fd);
    return GUINT64_FROM_BE(v);
}

/* 64 KiB clusters: L1 at 3, one L2 table, data in guest clusters 0 to 3. */
static void make_image(void)
{
    uint8_t *buf = g_malloc(256 * KiB);

    memset(buf, 0x5a, 256 * KiB);
    test_make_file("h.qcow2", 0);
    test_create("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"h.qcow2\"},\"size\":67108864}",
                &error_abort);
    BdrvChild *c = test_attach(test_open(open_json));

    g_assert_cmpint(test_write(c, 0, 256 * KiB, buf), ==, 0);
    bdrv_root_unref_child(c);
    g_free(buf);
}

typedef struct HeaderCase {
    const char *name;
    struct { uint64_t at; unsigned bytes; uint64_t value; } set[3];
    int64_t cut;                /* 0: whole */
    const char *text;
} HeaderCase;

static const HeaderCase header_cases[] = {
    { "magic", { { 0, 4, 0 } }, 0, "Image is not in qcow2 format" },
    { "version-1", { { 4, 4, 1 } }, 0, "Unsupported qcow2 version 1" },
    { "version-4", { { 4, 4, 4 } }, 0, "Unsupported qcow2 version 4" },
    { "cluster-bits-0", { { 20, 4, 0 } }, 0, "Unsupported cluster size: 2^0" },
    { "cluster-bits-8", { { 20, 4, 8 } }, 0, "Unsupported cluster size: 2^8" },
    { "cluster-bits-22", { { 20, 4, 22 } }, 0, "Unsupported cluster size: 2^22" },
    { "backing-offset", { { 8, 8, 65536 * 2 }, { 16, 4, 10 } }, 0, "Invalid backing file offset" },
    { "backing-name-1024", { { 8, 8, 512 }, { 16, 4, 1024 } }, 0, "Backing file name too long" },
    { "backing-name-70000", { { 8, 8, 512 }, { 16, 4, 70000 } }, 0, "Backing file name too long" },
    { "crypt-3", { { 32, 4, 3 } }, 0, "Unsupported encryption method 3" },
    { "crypt-aes", { { 32, 4, 1 } }, 0, "qcow2: Images that are encrypted with AES-CBC are for reading only" },
    { "crypt-luks", { { 32, 4, 2 } }, 0, "Missing CRYPTO header for crypt method 2" },
    { "size-2^63", { { 24, 8, 1ULL << 63 } }, 0, "Image is too big" },
    { "size-for-l1", { { 24, 8, 1ULL << 40 } }, 0, "L1 table is too small" },
    { "l1-large", { { 36, 4, 0x7fffffff } }, 0, "Active L1 table too large" },
    { "l1-none", { { 36, 4, 0 } }, 0, "L1 table is too small" },
    { "l1-unaligned", { { 40, 8, 0x30200 } }, 0, "Active L1 table offset invalid" },
    { "l1-beyond", { { 40, 8, UINT64_MAX << 16 } }, 0, "Active L1 table offset invalid" },
    { "reftable-unaligned", { { 48, 8, 0x10200 } }, 0, "Reference count table offset invalid" },
    { "reftable-large", { { 56, 4, 0x7fffffff } }, 0, "Reference count table too large" },
    { "reftable-none", { { 56, 4, 0 } }, 0, "Image does not contain a reference count table" },
    { "snapshots-unaligned", { { 60, 4, 1 }, { 64, 8, 0x10200 } }, 0, "Snapshot table offset invalid" },
    { "snapshots-many", { { 60, 4, 0x7fffffff }, { 64, 8, 0x50000 } }, 0, "Snapshot table too large" },
    { "feature-63", { { 72, 8, 1ULL << 63 } }, 0,
      "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000" },
    { "extended-small", { { 72, 8, 1ULL << 4 }, { 20, 4, 9 } }, 0,
      "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes" },
    { "data-file-unnamed", { { 72, 8, 1ULL << 2 } }, 0, "'data-file' is required for this image" },
    { "feature-unknown", { { 72, 8, 1 << 5 } }, 0,
      "Unsupported qcow2 feature(s): Unknown incompatible feature: 20" },
    { "feature-unnamed", { { 72, 8, 0x60 }, { 0x70, 4, 0 } }, 0,
      "Unsupported qcow2 feature(s): Unknown incompatible feature: 60" },
    { "corrupt", { { 72, 8, 2 } }, 0, "qcow2: Image is corrupt; cannot be opened read/write" },
    { "compression-bit", { { 72, 8, 8 } }, 0, "qcow2: Compression type incompatible feature bit must not be set" },
    { "compression-no-bit", { { 104, 1, 1 } }, 0, "qcow2: Compression type incompatible feature bit must be set" },
    { "compression-7", { { 72, 8, 8 }, { 104, 1, 7 } }, 0, "qcow2: unknown compression type: 7" },
    { "refcount-order", { { 96, 4, 7 } }, 0, "Reference count entry width too large; may not exceed 64 bits" },
    { "header-short", { { 100, 4, 100 } }, 0, "qcow2 header too short" },
    { "header-long", { { 100, 4, 70000 } }, 0, "qcow2 header exceeds cluster size" },
    { "extension-large", { { 0x70, 4, 0x12345678 }, { 0x74, 4, 0x7fffffff } }, 0, "Header extension too large" },
    { "backing-format-long", { { 0x70, 4, 0xe2792aca }, { 0x74, 4, 0x300 } }, 0,
      "ERROR: ext_backing_format: len=768 too large (>=16)" },
    { "cut-10", { }, 10, "Unsupported cluster size: 2^0" },
    { "cut-80", { }, 80, "qcow2 header too short" },
};

static void test_header(const void *opaque)
{
    const HeaderCase *hc = opaque;

    make_image();
    for (size_t i = 0; i < G_N_ELEMENTS(hc->set) && hc->set[i].bytes; i++) {
        put_be("h.qcow2", hc->set[i].at, hc->set[i].bytes, hc->set[i].value);
    }
    if (hc->cut) {
        g_assert_cmpint(truncate("h.qcow2", hc->cut), ==, 0);
    }
    test_open_fails(open_json, hc->text);
}

static uint64_t l1_offset(void)
{
    return get_be("h.qcow2", 40);
}

static uint64_t l2_offset(void)
{
    return get_be("h.qcow2", l1_offset()) & 0x00fffffffffffe00ULL;
}

/* A table entry that cannot be: requests on it fail, others go on; the image is marked. */
static void damaged_entry(uint64_t at, uint64_t value, bool write)
{
    uint8_t buf[512] = { 0 };

    bool is_l2 = at != l1_offset();

    put_be("h.qcow2", at, 8, value);
    BdrvChild *c = test_attach(test_open(open_json));

    g_assert_cmpint(write ? test_write(c, 0, 512, buf) : test_read(c, 0, 512, buf), ==, -EIO);
    if (write) {
        g_assert_cmpint(test_write(c, 64 * KiB, 512, buf), ==, -EIO);
    } else if (is_l2) {
        g_assert_cmpint(test_read(c, 64 * KiB, 512, buf), ==, 0);
        g_assert_cmpint(buf[0], ==, 0x5a);
    }
    bdrv_root_unref_child(c);
    g_assert_cmpint(get_be("h.qcow2", 72), ==, 2);
}

static void test_l2_unaligned(void)
{
    make_image();
    damaged_entry(l2_offset(), (5ULL << 16 | 512) | 1ULL << 63, false);
}

static void test_l2_unaligned_write(void)
{
    make_image();
    damaged_entry(l2_offset(), (5ULL << 16 | 512) | 1ULL << 63, true);
}

static void test_l1_unaligned(void)
{
    make_image();
    damaged_entry(l1_offset(), 0x50200 | 1ULL << 63, false);
}

/* The messages about damage go to standard error; keep them out of the results. */
static void in_subprocess(void)
{
    const char *path = g_test_get_path();
    g_autofree char *sub = g_strdup_printf("%s/subprocess", path);

    g_test_trap_subprocess(sub, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*image as corrupt*");
}

/* Refcounts of zero everywhere: the header must not be given out as a data cluster. */
static void test_zero_refcounts(void)
{
    uint8_t buf[512] = { 1 };

    make_image();
    for (uint64_t i = 0; i < 64; i += 8) {
        put_be("h.qcow2", 2 * 65536 + i, 8, 0);
    }
    BdrvChild *c = test_attach(test_open(open_json));

    g_assert_cmpint(test_write(c, 32 * MiB, 512, buf), ==, -EIO);
    bdrv_root_unref_child(c);
    g_assert_cmpint(get_be("h.qcow2", 0) >> 32, ==, 0x514649fb);
    g_assert_cmpint(get_be("h.qcow2", 72), ==, 2);
}

/* Data that points behind the end of the file cannot be read; the rest can, and it can be written anew. */
static void test_cut_data(void)
{
    uint8_t buf[512] = { 1 }, back[512];

    make_image();
    g_assert_cmpint(truncate("h.qcow2", 5 * 65536), ==, 0);
    BdrvChild *c = test_attach(test_open(open_json));

    g_assert_cmpint(test_read(c, 192 * KiB, 512, back), ==, -EIO);
    g_assert_cmpint(test_read(c, 48 * MiB, 512, back), ==, 0);
    g_assert_cmpint(test_write(c, 192 * KiB, 512, buf), ==, 0);
    g_assert_cmpint(test_read(c, 192 * KiB, 512, back), ==, 0);
    g_assert_cmpmem(back, 512, buf, 512);
    bdrv_root_unref_child(c);
}

/* An L2 table, or refcounts, behind the end of the file: not taken for empty, and not written to. */
static void test_cut_tables(void)
{
    uint8_t buf[512] = { 1 };
    uint64_t l2;

    make_image();
    l2 = get_be("h.qcow2", get_be("h.qcow2", 40)) & 0x00fffffffffffe00ULL;
    g_assert_cmpint(truncate("h.qcow2", l2), ==, 0);
    BdrvChild *c = test_attach(test_open(open_json));

    g_assert_cmpint(test_read(c, 192 * KiB, 512, buf), ==, -EIO);
    g_assert_cmpint(test_write(c, 192 * KiB, 512, buf), ==, -EIO);
    bdrv_root_unref_child(c);
    g_assert_cmpint(get_be("h.qcow2", 72), ==, 2);

    make_image();
    put_be("h.qcow2", get_be("h.qcow2", 48), 8, 1ULL << 40);
    c = test_attach(test_open(open_json));
    g_assert_cmpint(test_read(c, 192 * KiB, 512, buf), ==, 0);
    g_assert_cmpint(test_write(c, 32 * MiB, 512, buf), ==, -EIO);
    bdrv_root_unref_child(c);
    g_assert_cmpint(get_be("h.qcow2", 72), ==, 2);
}

/* Random damage anywhere in the metadata: any result, but an end. */
static void test_random_damage(void)
{
    Prng p = { 1 };
    g_autofree char *good = NULL;
    gsize len;

    make_image();
    g_assert_true(g_file_get_contents("h.qcow2", &good, &len, NULL));
    for (int round = 0; round < 300; round++) {
        uint8_t buf[4096] = { 0 };

        g_assert_true(g_file_set_contents("h.qcow2", good, len, NULL));
        for (uint64_t n = 1 + prng_below(&p, 8); n > 0; n--) {
            static const uint64_t areas[] = { 0, 0, 0x10000, 0x20000, 0x30000, 0x40000 };
            uint64_t area = areas[prng_below(&p, G_N_ELEMENTS(areas))];

            put_be("h.qcow2", area + prng_below(&p, area ? 40 : 112), 1, prng_u64(&p));
        }
        BlockDriverState *bs = test_open_flags(open_json, BDRV_O_RDWR | BDRV_O_UNMAP, NULL);

        if (!bs) {
            continue;
        }
        BdrvChild *c = test_attach(bs);
        int64_t length = bdrv_getlength_cached(bs);

        for (int op = 0; op < 8 && length > 8192; op++) {
            int64_t at = prng_below(&p, MIN(length, 1 << 20) - 4096), pnum;

            switch (prng_below(&p, 5)) {
            case 0: test_read(c, at, 4096, buf); break;
            case 1: test_write(c, at, 4096, buf); break;
            case 2: test_discard(c, at & ~65535LL, 65536); break;
            case 3: test_flush(c); break;
            default: test_status(c, at, 4096, &pnum); break;
            }
        }
        bdrv_root_unref_child(c);
    }
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    for (size_t i = 0; i < G_N_ELEMENTS(header_cases); i++) {
        g_autofree char *path = g_strconcat("/qcow2/hostile/header/", header_cases[i].name, NULL);

        g_test_add_data_func(path, &header_cases[i], test_header);
    }
    g_test_add_func("/qcow2/hostile/l2-unaligned", in_subprocess);
    g_test_add_func("/qcow2/hostile/l2-unaligned/subprocess", test_l2_unaligned);
    g_test_add_func("/qcow2/hostile/l2-unaligned-write", in_subprocess);
    g_test_add_func("/qcow2/hostile/l2-unaligned-write/subprocess", test_l2_unaligned_write);
    g_test_add_func("/qcow2/hostile/l1-unaligned", in_subprocess);
    g_test_add_func("/qcow2/hostile/l1-unaligned/subprocess", test_l1_unaligned);
    g_test_add_func("/qcow2/hostile/zero-refcounts", in_subprocess);
    g_test_add_func("/qcow2/hostile/zero-refcounts/subprocess", test_zero_refcounts);
    g_test_add_func("/qcow2/hostile/cut-data", test_cut_data);
    g_test_add_func("/qcow2/hostile/cut-tables", in_subprocess);
    g_test_add_func("/qcow2/hostile/cut-tables/subprocess", test_cut_tables);
    g_test_add_func("/qcow2/hostile/random-damage", in_subprocess);
    g_test_add_func("/qcow2/hostile/random-damage/subprocess", test_random_damage);
    return test_end();
}

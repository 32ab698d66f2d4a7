/* SPDX-License-Identifier: MIT */
/* mirror_layers.c: zeroes on their way to a qcow2 target whose backing image is not there yet.
 *
 * Goal: once the target has its backing, what the guest made zero is zero still: zeroed in the layer
 * before the mirror began, and while it ran, in either copy mode, with and without unmap, whatever
 * the version of the target. Method: a guest's disk of known bytes; pivot; compare.
 */
#include "driver_util.h"
#include "mirror_util.h"

#define CLUSTER (64 * KiB)

typedef struct ZeroCase {
    MirrorSyncMode sync;
    BlockMirrorBackingMode backing;
    MirrorCopyMode mode;
    const char *compat;
    bool unmap, zero_target;
} ZeroCase;

static void make_images(const ZeroCase *c)
{
    const char *backing = c->backing == MIRROR_OPEN_BACKING_CHAIN ? ",\"backing-file\":\"base.raw\",\"backing-fmt\":\"raw\""
                                                                  : "";
    static const char *const names[] = { "source", "target" };

    test_make_file("base.raw", 1 * MiB);
    for (int i = 0; i < 2; i++) {
        g_autofree char *name = g_strdup_printf("%s.qcow2", names[i]);
        g_autofree char *file = g_strdup_printf("{\"driver\":\"file\",\"node-name\":\"new\",\"filename\":\"%s\"}", name);
        g_autofree char *json = g_strdup_printf("{\"driver\":\"qcow2\",\"file\":\"new\",\"size\":1048576,\"version\":\"%s\"%s}",
                                                i ? c->compat : "v3", i ? backing : "");

        test_make_file(name, 0);
        BlockDriverState *bs = test_open(file);

        g_assert_cmpint(test_create(json, &error_abort), ==, 0);
        bdrv_unref(bs);
    }
}

static BlockDriverState *open_image(const char *name, const char *backing)
{
    g_autofree char *json = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"discard\":\"unmap\",\"file\":{\"driver\":\"file\","
        "\"filename\":\"%s.qcow2\"}%s}", name, name, backing);

    /* As whoever mirrors to a layer opens it: alone, but with its header's backing in mind. */
    return test_open_flags(json, BDRV_O_RDWR | BDRV_O_UNMAP | (*backing ? 0 : BDRV_O_NO_BACKING), &error_abort);
}

static void fill_base(void)
{
    g_autofree char *text = g_malloc(1 * MiB);

    memset(text, 0xbb, 1 * MiB);
    g_assert_true(g_file_set_contents("base.raw", text, 1 * MiB, NULL));
}

static void zero_after_pivot(const ZeroCase *c)
{
    g_autofree uint8_t *before = g_malloc(1 * MiB), *after = g_malloc(1 * MiB);

    make_images(c);
    fill_base();
    Mirror m = { .target = open_image("target", ""), .source = open_image("source",
                 ",\"backing\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"base.raw\"}}") };

    m.guest = blk_new_with_bs(m.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(blk_pwrite_zeroes(m.guest, 2 * CLUSTER, CLUSTER, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_pdiscard(m.guest, 3 * CLUSTER, CLUSTER), ==, 0);
    guest_write(&m, 5 * CLUSTER + 512, 512, 3);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { .sync = c->sync, .backing = c->backing, .mode = c->mode,
                                                     .keep_zeroes = !c->unmap, .target_is_zero = !c->zero_target });

    test_wait_status(job, JOB_STATUS_READY);
    g_assert_cmpint(blk_pwrite_zeroes(m.guest, 7 * CLUSTER, CLUSTER, c->unmap ? BDRV_REQ_MAY_UNMAP : 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(m.guest, 9 * CLUSTER + 1024, 512, 0), ==, 0);
    g_assert_cmpint(blk_pdiscard(m.guest, 11 * CLUSTER, CLUSTER), ==, 0);
    g_assert_cmpint(blk_pread(m.guest, 0, 1 * MiB, before, 0), ==, 0);
    g_assert_true(buffer_is_zero(before + 7 * CLUSTER, CLUSTER));
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    g_assert_true(blk_bs(m.guest) == m.target);
    g_assert_nonnull(m.target->backing);
    g_assert_false(m.target->backing_awaited);
    g_assert_cmpint(blk_pread(m.guest, 0, 1 * MiB, after, 0), ==, 0);
    g_assert_cmpmem(before, 1 * MiB, after, 1 * MiB);
    bdrv_set_backing_hd(m.target, NULL, &error_abort);
    mirror_end(&m);
}

static void test_partial(void)
{
    for (int i = 0; i < 16; i++) {
        zero_after_pivot(&(ZeroCase) {
            .sync = i & 1 ? MIRROR_SYNC_MODE_TOP : MIRROR_SYNC_MODE_NONE, .backing = MIRROR_SOURCE_BACKING_CHAIN,
            .mode = i & 2 ? MIRROR_COPY_MODE_WRITE_BLOCKING : MIRROR_COPY_MODE_BACKGROUND,
            .unmap = i & 4, .compat = i & 8 ? "v2" : "v3",
        });
    }
}

/* The same where the target's own header names its backing image: a full mirror as well. */
static void test_own_backing(void)
{
    for (int i = 0; i < 16; i++) {
        zero_after_pivot(&(ZeroCase) {
            .sync = i & 1 ? MIRROR_SYNC_MODE_TOP : MIRROR_SYNC_MODE_FULL, .backing = MIRROR_OPEN_BACKING_CHAIN,
            .mode = i & 2 ? MIRROR_COPY_MODE_WRITE_BLOCKING : MIRROR_COPY_MODE_BACKGROUND,
            .unmap = i & 4, .zero_target = i & 8, .compat = "v3",
        });
    }
}

/* A target that stays alone needs no zero clusters: where it holds nothing it reads as zero. */
static void test_plain_target_stays_thin(void)
{
    make_images(&(ZeroCase) { .compat = "v3" });
    Mirror m = { .target = open_image("target", ""), .source = open_image("source", ",\"backing\":null") };
    int64_t n;

    m.guest = blk_new_with_bs(m.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    guest_write(&m, 0, CLUSTER, 3);
    BlockJob *job = mirror_begin(&m, &(MirrorArgs) { MIRROR_FULL });

    test_wait_status(job, JOB_STATUS_READY);
    g_assert_cmpint(blk_pwrite_zeroes(m.guest, 7 * CLUSTER, CLUSTER, 0), ==, 0);
    g_assert_cmpint(mirror_complete_wait(job), ==, 0);
    BdrvChild *c = test_attach_perm(m.target, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);

    bdrv_ref(m.target);
    g_assert_cmpint(test_status(c, CLUSTER, 15 * CLUSTER, &n) & BDRV_BLOCK_ALLOCATED, ==, 0);
    g_assert_cmpint(n, ==, 15 * CLUSTER);
    bdrv_root_unref_child(c);
    mirror_end(&m);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/mirror/layers/zero-after-pivot", test_partial);
    g_test_add_func("/mirror/layers/own-backing", test_own_backing);
    g_test_add_func("/mirror/layers/plain-target-stays-thin", test_plain_target_stays_thin);
    return test_end();
}

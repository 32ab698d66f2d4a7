/* SPDX-License-Identifier: MIT */
/* fuzz_qcow2.c: bytes as a qcow2 image. All that the programs do with an image is done with it:
 *
 *   look    opened for reading, as a file of unknown format: what it says about itself, where it has
 *           data, its contents, a check. The file must be the same afterwards.
 *   repair  twice: the second finds nothing that the first has left, if that said it is well.
 *   use     written, compressed too, zeroed, discarded, made longer and shorter, in turns with reading;
 *           above a backing file and without; its bitmaps and snapshots changed; emptied.
 *   amend   made the other version and back, with narrower and wider refcounts: if the image was well
 *           before, it is well afterwards and shows the same.
 *
 * Names in the image are not followed: its data file and its backing file are the fuzzer's own. Time
 * is bounded by touching at most TOUCH bytes of the disk and EXTENTS pieces of its map. */
#include "tests/fuzz/fuzz.h"
#include "block/dirty-bitmap.h"
#include "block/snapshot.h"
#include "crypto/secret.h"
#include "drivers/format/luks/header.h"
#include "ops/ops.h"
#include "qapi-commands.h"
#include <fcntl.h>

#define NAME "fuzz.qcow2"
#define DATA "data.raw"
#define BASE "base.raw"
#define BASE_BYTES (192 * KiB + 512)
#define TOUCH (4 * MiB)
#define PIECE (256 * KiB)
#define EXTENTS 1024
#define BYTE_DATA_FILE 79       /* of the header: where the flag "external data file" is */
#define FLAG_DATA_FILE 4
#define BYTE_CRYPT 35           /* of the header: the last one of the method of encryption */
#define WORK_MAX 200000         /* iterations of passwords: a tenth of a second */

typedef struct Input {
    const uint8_t *data;
    size_t size;
} Input;

static void file_write(const char *name, const void *data, size_t size)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, data, size), ==, size);
    close(fd);
}

static void base_write(void)
{
    g_autofree uint8_t *base = g_malloc(BASE_BYTES);

    memset(base, 0xba, BASE_BYTES);
    file_write(BASE, base, BASE_BYTES);
}

static bool file_is(const char *name, const Input *in)
{
    g_autofree uint8_t *buf = g_malloc(in->size + 1);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, buf, in->size + 1);

    close(fd);
    return n == in->size && !memcmp(buf, in->data, in->size);
}

/* ---- opening ---- */

static QDict *file_options(const char *name)
{
    QDict *d = qdict_new();

    qdict_put_str(d, "driver", "file");
    qdict_put_str(d, "locking", "off");
    qdict_put_str(d, "filename", name);
    return d;
}

static bool is_luks(const Input *in)
{
    return in->size > 8 && !memcmp(in->data, "LUKS\xba\xbe", 6);
}

/* The password is tried where the image says that it has one. */
static void put_password(const Input *in, QDict *d)
{
    SecretProperties p = { .data = (char *)"fuzz" };

    if (!secret_exists("fuzz")) {
        secret_create("fuzz", &p, &error_abort);
        luks_work_max = WORK_MAX;
    }
    if (is_luks(in)) {
        qdict_put_str(d, "driver", "luks");
        qdict_put_str(d, "key-secret", "fuzz");
    } else if (in->size > BYTE_CRYPT && (in->data[BYTE_CRYPT] == 1 || in->data[BYTE_CRYPT] == 2)) {
        QDict *encrypt = qdict_new();

        qdict_put_str(encrypt, "format", in->data[BYTE_CRYPT] == 1 ? "aes" : "luks");
        qdict_put_str(encrypt, "key-secret", "fuzz");
        qdict_put_str(d, "driver", "qcow2");
        qdict_put_obj(d, "encrypt", encrypt);
    }
}

/* NULL: an error, which is told and freed. */
static BlockBackend *coroutine_fn image_co_open(const Input *in, bool probe, bool backing, int flags)
{
    QDict *d = qdict_new();
    Error *err = NULL;

    qdict_put_obj(d, "file", file_options(NAME));
    if (!probe) {
        qdict_put_str(d, "driver", "qcow2");
    }
    if (in->size > BYTE_DATA_FILE && in->data[BYTE_DATA_FILE] & FLAG_DATA_FILE) {
        qdict_put_obj(d, "data-file", file_options(DATA));
    }
    put_password(in, d);
    if (is_luks(in)) {
        qdict_del(d, "data-file");
    } else if (backing) {
        QDict *b = qdict_new();

        qdict_put_str(b, "driver", "raw");
        qdict_put_obj(b, "file", file_options(BASE));
        qdict_put_obj(d, "backing", b);
    }
    if (!backing) {
        flags |= BDRV_O_NO_BACKING;
    }
    BlockBackend *blk = blk_new_open(NULL, NULL, d, flags, &err);

    g_assert_true(!blk == !!err);
    error_free(err);
    return blk;
}

/* ---- look ---- */

static int extent_count(const OpsExtent *e, void *opaque)
{
    int *n = opaque;

    g_assert_cmpint(e->length, >, 0);
    return ++*n > EXTENTS;
}

static void coroutine_fn contents_co_read(BlockBackend *blk, uint8_t *buf)
{
    int64_t length = blk_co_getlength(blk), end = MIN(length, TOUCH);

    for (int64_t at = 0; at < end; at += PIECE) {
        blk_co_pread(blk, at, MIN(PIECE, end - at), buf, 0);
    }
    if (length > TOUCH + 1024) {
        blk_co_pread(blk, length - 1000, 1000, buf, 0);
    }
}

static void finding_take(void *opaque, const char *text)
{
    g_assert_cmpuint(strlen(text), >, 0);
}

static void coroutine_fn look_co(const Input *in, uint8_t *buf)
{
    BlockBackend *blk = image_co_open(in, true, false, 0);
    BdrvCheckResult res = { .report = finding_take };
    Error *err = NULL;
    int n = 0;

    if (!blk) {
        return;
    }
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));
    BlockGraphInfo *info = ops_graph_info(bs);
    g_autoptr(QDict) json = qapi_to_json(&qapi_type_BlockGraphInfo, info);
    g_autofree char *text = json_to_str(json, true);

    qapi_free(&qapi_type_BlockGraphInfo, info);
    g_assert_true(g_utf8_validate(text, -1, NULL));
    ops_map_range(blk, 0, INT64_MAX, extent_count, &n, &err);
    error_free(err);
    contents_co_read(blk, buf);
    bdrv_co_check(bs, &res, 0);
    blk_unref(blk);
    g_assert_true(file_is(NAME, in));
}

/* ---- repair ---- */

/* Is it well now? */
static bool coroutine_fn repair_co(const Input *in)
{
    BdrvCheckResult res = { .report = finding_take };
    BlockBackend *blk = image_co_open(in, false, false, BDRV_O_RDWR | BDRV_O_CHECK);

    if (!blk) {
        return false;
    }
    int ret = bdrv_co_check(blk_bs(blk), &res, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
    bool well = ret >= 0 && !res.corruptions && !res.check_errors && !res.leaks;

    if (well) {
        memset(&res, 0, sizeof(res));
        ret = bdrv_co_check(blk_bs(blk), &res, 0);
        g_assert_cmpint(ret, >=, 0);
        g_assert_cmpint(res.corruptions, ==, 0);
        g_assert_cmpint(res.check_errors, ==, 0);
        g_assert_cmpint(res.leaks, ==, 0);
    }
    blk_unref(blk);
    return well;
}

/* ---- amend ---- */

/* A sum over what the first TOUCH bytes show; 0: it cannot be opened, or not be read. */
static uint32_t coroutine_fn contents_co_sum(const Input *in, uint8_t *buf)
{
    BlockBackend *blk = image_co_open(in, false, false, 0);
    int64_t end = blk ? MIN(blk_co_getlength(blk), TOUCH) : 0;
    uint32_t sum = 1;
    int ret = 0;

    for (int64_t at = 0; at < end && !ret; at += PIECE) {
        ret = blk_co_pread(blk, at, MIN(PIECE, end - at), buf, 0);
        for (int64_t i = 0; i < MIN(PIECE, end - at); i++) {
            sum = sum * 31 + buf[i];
        }
    }
    if (blk) {
        blk_unref(blk);
    }
    return blk && !ret ? MAX(sum, 1) : 0;
}

static void coroutine_fn amend_co(const Input *in, uint8_t *buf)
{
    static const struct {
        unsigned version;
        int refcount_bits;
        bool lazy;
    } steps[] = { { 2, -1, false }, { 3, 64, true }, { 3, 1, false }, { 3, 8, false }, { 2, 16, false }, { 3, 32, false } };
    bool well = !is_luks(in) && repair_co(in);
    uint32_t sum = well ? contents_co_sum(in, buf) : 0;
    BlockBackend *blk = is_luks(in) ? NULL : image_co_open(in, false, false, BDRV_O_RDWR);

    if (!blk) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        BdrvAmendOptions o = { .version = steps[i].version, .refcount_bits = steps[i].refcount_bits, .size = -1,
                               .has_lazy_refcounts = true, .lazy_refcounts = steps[i].lazy };
        Error *err = NULL;

        bdrv_co_amend(blk_bs(blk), &o, &err);
        error_free(err);
    }
    blk_unref(blk);
    if (sum) {
        g_assert_cmpint(contents_co_sum(in, buf), ==, sum);
        g_assert_true(repair_co(in));
    }
}

/* ---- use ---- */

/* The place is given by the disk's length, so that both ends are reached. */
static void coroutine_fn disk_co_change(BlockBackend *blk, uint8_t *buf, int64_t length)
{
    int64_t end = MIN(length, TOUCH);

    memset(buf, 0x5a, PIECE);
    blk_co_pwrite(blk, 4096, 4096, buf, 0);
    blk_co_pwrite(blk, (length - 4096) & ~511LL, 512, buf, BDRV_REQ_FUA);
    blk_co_pwrite(blk, 1000, 70000, buf, 0);
    blk_co_pwrite_zeroes(blk, 0, MIN(end, 128 * KiB), BDRV_REQ_MAY_UNMAP);
    blk_co_pwrite_zeroes(blk, 3000, 3000, 0);
    blk_co_pdiscard(blk, 0, MIN(end, 64 * KiB));
    blk_co_pwrite(blk, 0, 512, buf, 0);
    blk_co_pwrite_compressed(blk, 128 * KiB, 64 * KiB, buf);
    blk_co_pwrite(blk, 130 * KiB, 4096, buf, 0);
    blk_co_flush(blk);
}

/* One more, one less, what is there changed. */
static void coroutine_fn bitmaps_co_change(BlockDriverState *bs)
{
    BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs), *first = b;
    Error *err = NULL;

    for (int n = 0; b && n < 8; b = bdrv_dirty_bitmap_next(b), n++) {
        g_assert_cmpint(bdrv_get_dirty_count(b), >=, 0);
        if (!bdrv_dirty_bitmap_check(b, false, NULL)) {
            bdrv_set_dirty_bitmap(b, 0, MIN(bdrv_getlength_cached(bs), 70000));
        }
    }
    if (first) {
        g_autofree char *name = g_strdup(bdrv_dirty_bitmap_name(first));

        if (!bdrv_remove_persistent_dirty_bitmap(bs, name, &err)) {
            bdrv_release_dirty_bitmap(first);
        }
        error_free(err);
        err = NULL;
    }
    if (!bdrv_find_dirty_bitmap(bs, "new") && bdrv_can_store_new_dirty_bitmap(bs, "new", 4096, &err)) {
        b = bdrv_create_dirty_bitmap(bs, 4096, "new", &error_abort);
        bdrv_dirty_bitmap_set_persistence(b, true);
    }
    error_free(err);
}

/* One more, back to it and to another, and all but it away again. */
static void coroutine_fn snapshots_co_change(BlockDriverState *bs)
{
    g_autofree QEMUSnapshotInfo *list = NULL;
    QEMUSnapshotInfo made = { .name = "fuzz", .date_sec = 1 };
    Error *err = NULL;
    int n = bdrv_snapshot_list(bs, &list);

    if (n > 0 && bdrv_snapshot_goto(bs, list[0].id_str, &err) < 0) {
        error_free(err);
        err = NULL;
    }
    if (bdrv_snapshot_create(bs, &made, &err) < 0 || bdrv_snapshot_goto(bs, made.id_str, &err) < 0) {
        error_free(err);
        err = NULL;
    }
    for (int i = 0; i < n && i < 4; i++) {
        if (bdrv_snapshot_delete(bs, list[i].id_str, list[i].name, &err) < 0) {
            error_free(err);
            err = NULL;
        }
    }
}

/* Show each of the first few. */
static void coroutine_fn snapshots_co_look(const Input *in, uint8_t *buf)
{
    for (int i = 0, n = 1; i < n && i < 4; i++) {
        g_autofree QEMUSnapshotInfo *list = NULL;
        BlockBackend *blk = image_co_open(in, false, false, 0);
        Error *err = NULL;

        if (!blk) {
            return;
        }
        n = bdrv_snapshot_list(blk_bs(blk), &list);
        if (i < n && !bdrv_snapshot_load_tmp_by_id_or_name(blk_bs(blk), list[i].id_str, &err)) {
            contents_co_read(blk, buf);
        }
        error_free(err);
        blk_unref(blk);
    }
}

static void coroutine_fn use_co(const Input *in, uint8_t *buf, bool backing)
{
    BlockBackend *blk = image_co_open(in, false, backing, BDRV_O_RDWR | BDRV_O_UNMAP | BDRV_O_RESIZE);

    Error *err = NULL;

    if (!blk) {
        return;
    }
    int64_t length = blk_co_getlength(blk);

    bitmaps_co_change(blk_bs(blk));
    contents_co_read(blk, buf);
    if (length >= 256 * KiB) {
        disk_co_change(blk, buf, length);
    } else if (length) {
        blk_co_pwrite(blk, 0, MIN(length, 512), buf, 0);
    }
    snapshots_co_change(blk_bs(blk));
    blk_co_pwrite(blk, 0, MIN(length, 512), buf, 0);
    blk_co_truncate(blk, length + 300 * KiB, true, PREALLOC_MODE_OFF, 0, NULL);
    blk_co_pwrite(blk, length, 4096, buf, 0);
    blk_co_truncate(blk, length, true, PREALLOC_MODE_OFF, 0, NULL);
    contents_co_read(blk, buf);
    if (!backing) {
        bdrv_change_backing_file(blk_bs(blk), BASE, "raw", &err);
        error_free(err);
        bdrv_co_make_empty(blk_bs(blk));
        blk_co_pwrite(blk, 0, MIN(length, 512), buf, 0);
    }
    blk_unref(blk);
}

static int coroutine_fn image_op(void *opaque, Error **errp)
{
    const Input *in = opaque;
    g_autofree uint8_t *buf = g_malloc0(PIECE);

    look_co(in, buf);
    snapshots_co_look(in, buf);
    repair_co(in);
    file_write(NAME, in->data, in->size);
    use_co(in, buf, true);
    repair_co(in);
    use_co(in, buf, false);
    file_write(NAME, in->data, in->size);
    amend_co(in, buf);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };

    fuzz_begin();
    if (access(BASE, F_OK)) {
        base_write();
    }
    file_write(NAME, data, size);
    file_write(DATA, data, MIN(size, 4096));
    return ops_run(image_op, &in, &error_abort);
}

/* ---- images to begin with ---- */

static int coroutine_fn create_op(void *opaque, Error **errp)
{
    g_autoptr(QDict) d = qdict_from_json(opaque, &error_abort);
    g_autoptr(BlockdevCreateOptions) o = qapi_from_json(&qapi_type_BlockdevCreateOptions, d, false, &error_abort);

    return bdrv_find_format("qcow2")->co_create(o, errp);
}

/* Some data, zeroes, a hole, in a disk of 4 MiB. */
static int coroutine_fn fill_op(void *opaque, Error **errp)
{
    const Input *in = opaque;
    g_autofree uint8_t *buf = g_malloc0(PIECE);
    BlockBackend *blk = image_co_open(in, false, false, BDRV_O_RDWR | BDRV_O_UNMAP);

    g_assert_nonnull(blk);
    disk_co_change(blk, buf, 4 * MiB);
    blk_unref(blk);
    return 0;
}

uint8_t *fuzz_base(unsigned i, size_t *size)
{
    static const char *const extra[] = {
        "\"cluster-size\":4096", "\"version\":\"v2\",\"cluster-size\":4096", "\"refcount-bits\":1,\"cluster-size\":512",
        "\"cluster-size\":512,\"refcount-bits\":64", "\"cluster-size\":16384,\"extended-l2\":true",
        "\"cluster-size\":1024,\"lazy-refcounts\":true,\"refcount-bits\":8",
        "\"cluster-size\":4096,\"compression-type\":\"zstd\"",
        "\"cluster-size\":4096,\"data-file\":{\"driver\":\"file\",\"filename\":\"" DATA "\"}",
        "\"cluster-size\":2048,\"preallocation\":\"metadata\"",
        "\"cluster-size\":512,\"backing-file\":\"" BASE "\",\"backing-fmt\":\"raw\"",
    };
    char *data;

    if (i >= G_N_ELEMENTS(extra)) {
        return NULL;
    }
    g_autofree char *text = g_strdup_printf("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\""
                                            NAME "\"},\"size\":4194304,%s}", extra[i]);
    /* What it takes to open it: whether there is a data file. */
    uint8_t head[BYTE_DATA_FILE + 1] = { [BYTE_DATA_FILE] = strstr(extra[i], DATA) ? FLAG_DATA_FILE : 0 };
    Input in = { head, sizeof(head) };

    fuzz_begin();
    base_write();
    file_write(NAME, "", 0);
    file_write(DATA, "", 0);
    ops_run(create_op, text, &error_abort);
    ops_run(fill_op, &in, &error_abort);
    g_assert_true(g_file_get_contents(NAME, &data, size, NULL));
    return (uint8_t *)data;
}

/* SPDX-License-Identifier: MIT */
/* fuzz_qcow2.c: bytes as a qcow2 image: opened, its status and contents read, written, flushed,
 * closed. At most 16 MiB of the guest's view are touched, so that time is bounded; images that
 * name another file are opened without it. */
#include "tests/fuzz/fuzz.h"
#include "qapi-commands.h"
#include <fcntl.h>

#define NAME "fuzz.qcow2"
#define TOUCH (16 * MiB)
#define PIECE (256 * KiB)

static void file_write(const void *data, size_t size)
{
    int fd = open(NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, data, size), ==, size);
    close(fd);
}

static BlockDriverState *image_open(Error **errp)
{
    QDict *d = qdict_from_json("{\"driver\":\"qcow2\",\"backing\":null,"
                               "\"file\":{\"driver\":\"file\",\"locking\":\"off\",\"filename\":\"" NAME "\"}}",
                               &error_abort);

    return bdrv_open(NULL, NULL, d, BDRV_O_RDWR | BDRV_O_UNMAP, errp);
}

static char *parent_desc(BdrvChild *c)
{
    return g_strdup("the fuzzer");
}

static const BdrvChildClass parent_class = { .get_parent_desc = parent_desc };

static void coroutine_fn use_co(void *opaque)
{
    BdrvChild *c = opaque;
    g_autofree uint8_t *buf = g_malloc0(PIECE);
    int64_t length = bdrv_co_getlength(c->bs), end = MIN(length, TOUCH), pnum, map;
    BlockDriverState *file;

    /* status may have as many pieces as there are clusters: bounded too */
    for (int64_t at = 0, n = 0; at < end && n < 1024; at += pnum, n++) {
        if (bdrv_co_block_status(c->bs, at, end - at, &pnum, &map, &file) < 0 || !pnum) {
            break;
        }
    }
    for (int64_t at = 0; at < end; at += PIECE) {
        bdrv_co_pread(c, at, MIN(PIECE, end - at), buf, 0);
    }
    if (length >= 8192) {
        bdrv_co_pwrite(c, 4096, 4096, buf, 0);
        bdrv_co_pwrite(c, (length - 4096) & ~511LL, 512, buf, BDRV_REQ_FUA);
        bdrv_co_pwrite_zeroes(c, 0, MIN(end, 128 * KiB), BDRV_REQ_MAY_UNMAP);
        bdrv_co_pdiscard(c, 0, MIN(end, 64 * KiB));
        bdrv_co_pwrite(c, 0, 512, buf, 0);
    }
    bdrv_co_flush(c->bs);
}

static void use(BlockDriverState *bs)
{
    Error *err = NULL;
    BdrvChild *c = bdrv_root_attach_child(bs, "root", &parent_class, BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY,
                                          BLK_PERM_ALL, BLK_PERM_ALL, NULL, &err);

    if (c) {
        aio_co_run(use_co, c);
        bdrv_root_unref_child(c);
    }
    error_free(err);
}

static void coroutine_fn create_co(void *opaque)
{
    const char *text = opaque;
    g_autoptr(QDict) d = qdict_from_json(text, &error_abort);
    g_autoptr(BlockdevCreateOptions) o = qapi_from_json(&qapi_type_BlockdevCreateOptions, d, false,
                                                        &error_abort);

    bdrv_find_format("qcow2")->co_create(o, &error_abort);
}

/* 0: clusters of 4 KiB, 1: version 2, 2: refcounts of one bit; each of 4 MiB, with data. */
uint8_t *fuzz_base(unsigned i, size_t *size)
{
    static const char *const extra[] = {
        "\"cluster-size\":4096", "\"version\":\"v2\",\"cluster-size\":4096", "\"refcount-bits\":1,\"cluster-size\":512",
    };
    char *data;

    if (i >= G_N_ELEMENTS(extra)) {
        return NULL;
    }
    g_autofree char *text = g_strdup_printf("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\""
                                            NAME "\"},\"size\":4194304,%s}", extra[i]);

    fuzz_begin();
    file_write("", 0);
    aio_co_run(create_co, text);
    use(image_open(&error_abort));
    g_assert_true(g_file_get_contents(NAME, &data, size, NULL));
    return (uint8_t *)data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error *err = NULL;

    fuzz_begin();
    file_write(data, size);
    BlockDriverState *bs = image_open(&err);

    g_assert_true(!bs == !!err);
    error_free(err);
    if (bs) {
        use(bs);
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* driver_util.h: for the tests of drivers: a temporary directory, nodes from JSON options, and
 * requests as plain calls. Main thread, outside coroutines. */
#ifndef LIVEBLK_TESTS_DRIVER_UTIL_H
#define LIVEBLK_TESTS_DRIVER_UTIL_H

#include "base/osdep.h"
#include "base/prng.h"
#include "block/block.h"
#include "block/block_int-global-state.h"
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

static char *test_dir;
static char *(test_path)(const char *name) G_GNUC_UNUSED;
static char *(test_path)(const char *name)
{
    return g_build_filename(test_dir, name, NULL);
}

static void test_begin(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    test_dir = g_dir_make_tmp("liveblk-unit-XXXXXX", NULL);
    g_assert_nonnull(test_dir);
    g_assert_cmpint(chdir(test_dir), ==, 0);
    aio_init_main(NULL, &error_abort);
    bdrv_init();
}

static int test_end(void)
{
    int ret = g_test_run();
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", test_dir);

    aio_cleanup_main();
    g_assert_cmpint(chdir("/"), ==, 0);
    g_assert_cmpint(system(command), ==, 0);
    g_free(test_dir);
    return ret;
}

/* ---- nodes ---- */

static QDict *test_options(const char *json)
{
    bool keyval;

    return qdict_from_options(json, NULL, &keyval, &error_abort);
}

static BlockDriverState *test_open_flags(const char *json, int flags, Error **errp)
{
    return bdrv_open(NULL, NULL, test_options(json), flags, errp);
}

static G_GNUC_UNUSED BlockDriverState *test_open(const char *json)
{
    return test_open_flags(json, BDRV_O_RDWR | BDRV_O_UNMAP, &error_abort);
}

/* Opening must fail with just this text. */
static G_GNUC_UNUSED void test_open_fails(const char *json, const char *text)
{
    Error *err = NULL;
    BlockDriverState *bs = test_open_flags(json, BDRV_O_RDWR, &err);

    g_assert_null(bs);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static char *test_parent_desc(BdrvChild *c)
{
    return g_strdup("the test");
}

static const BdrvChildClass test_parent_class = { .get_parent_desc = test_parent_desc };

/* A parent of @bs (whose reference it takes) with all permissions, or those given. */
static G_GNUC_UNUSED BdrvChild *test_attach_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                                                 Error **errp)
{
    return bdrv_root_attach_child(bs, "root", &test_parent_class, BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY,
                                  perm, shared, NULL, errp);
}

static G_GNUC_UNUSED BdrvChild *test_attach(BlockDriverState *bs)
{
    return test_attach_perm(bs, BLK_PERM_ALL, BLK_PERM_ALL, &error_abort);
}

/* ---- requests ---- */

typedef struct TestRequest {
    BdrvChild *child;
    enum { T_READ, T_WRITE, T_ZERO, T_DISCARD, T_FLUSH, T_TRUNCATE, T_STATUS, T_CREATE } op;
    int64_t offset, bytes;
    void *buf;
    BdrvRequestFlags flags;
    PreallocMode prealloc;
    BlockdevCreateOptions *create;
    Error **errp;
    int64_t pnum, map;
    BlockDriverState *file;
    int ret;
} TestRequest;

static void coroutine_fn test_co_request(void *opaque)
{
    TestRequest *r = opaque;

    switch (r->op) {
    case T_READ:
        r->ret = bdrv_co_pread(r->child, r->offset, r->bytes, r->buf, r->flags);
        break;
    case T_WRITE:
        r->ret = bdrv_co_pwrite(r->child, r->offset, r->bytes, r->buf, r->flags);
        break;
    case T_ZERO:
        r->ret = bdrv_co_pwrite_zeroes(r->child, r->offset, r->bytes, r->flags);
        break;
    case T_DISCARD:
        r->ret = bdrv_co_pdiscard(r->child, r->offset, r->bytes);
        break;
    case T_FLUSH:
        r->ret = bdrv_co_flush(r->child->bs);
        break;
    case T_TRUNCATE:
        r->ret = bdrv_co_truncate(r->child, r->offset, true, r->prealloc, r->flags, r->errp);
        break;
    case T_STATUS:
        r->ret = bdrv_co_block_status(r->child->bs, r->offset, r->bytes, &r->pnum, &r->map, &r->file);
        break;
    case T_CREATE:
        r->ret = bdrv_find_format(BlockdevDriver_str(r->create->driver))->co_create(r->create, r->errp);
        break;
    }
}

static int test_request(TestRequest *r)
{
    aio_co_run(test_co_request, r);
    return r->ret;
}

static G_GNUC_UNUSED int test_read(BdrvChild *c, int64_t offset, int64_t bytes, void *buf)
{
    return test_request(&(TestRequest) { c, T_READ, offset, bytes, buf });
}

static G_GNUC_UNUSED int test_write(BdrvChild *c, int64_t offset, int64_t bytes, const void *buf)
{
    return test_request(&(TestRequest) { c, T_WRITE, offset, bytes, (void *)buf });
}

static G_GNUC_UNUSED int test_write_compressed(BdrvChild *c, int64_t offset, int64_t bytes, const void *buf)
{
    return test_request(&(TestRequest) { c, T_WRITE, offset, bytes, (void *)buf, BDRV_REQ_WRITE_COMPRESSED });
}

static G_GNUC_UNUSED int test_zero(BdrvChild *c, int64_t offset, int64_t bytes, BdrvRequestFlags flags)
{
    return test_request(&(TestRequest) { c, T_ZERO, offset, bytes, NULL, flags });
}

static G_GNUC_UNUSED int test_discard(BdrvChild *c, int64_t offset, int64_t bytes)
{
    return test_request(&(TestRequest) { c, T_DISCARD, offset, bytes });
}

static G_GNUC_UNUSED int test_flush(BdrvChild *c)
{
    return test_request(&(TestRequest) { c, T_FLUSH });
}

static G_GNUC_UNUSED int test_truncate(BdrvChild *c, int64_t length, PreallocMode prealloc, Error **errp)
{
    return test_request(&(TestRequest) { .child = c, .op = T_TRUNCATE, .offset = length,
                                         .prealloc = prealloc, .errp = errp });
}

static G_GNUC_UNUSED int test_status(BdrvChild *c, int64_t offset, int64_t bytes, int64_t *pnum)
{
    TestRequest r = { c, T_STATUS, offset, bytes };
    int ret = test_request(&r);

    *pnum = r.pnum;
    return ret;
}

static G_GNUC_UNUSED int test_create(const char *json, Error **errp)
{
    QDict *d = test_options(json);
    g_autoptr(BlockdevCreateOptions) o = qapi_from_json(&qapi_type_BlockdevCreateOptions, d, false,
                                                        &error_abort);

    qdict_unref(d);
    return test_request(&(TestRequest) { .op = T_CREATE, .create = o, .errp = errp });
}

/* The driver's part of reopening @bs with @json and @flags: prepared, then made or given up. */
typedef struct TestReopen {
    BDRVReopenState state;
    bool commit;
    Error **errp;
    int ret;
} TestReopen;

static void coroutine_fn test_co_reopen(void *opaque)
{
    TestReopen *r = opaque;
    const BlockDriver *drv = r->state.bs->drv;

    r->ret = drv->co_reopen_prepare(&r->state, r->errp);
    if (r->ret < 0) {
        return;
    }
    if (r->commit) {
        drv->co_reopen_commit(&r->state);
        bdrv_refresh_limits(r->state.bs);
        bdrv_co_refresh_length(r->state.bs);
    } else {
        drv->co_reopen_abort(&r->state);
    }
}

static G_GNUC_UNUSED int test_reopen(BlockDriverState *bs, const char *json, int flags, bool commit,
                                     Error **errp)
{
    QDict *d = test_options(json);
    g_autoptr(BlockdevOptions) o = qapi_from_json(&qapi_type_BlockdevOptions, d, false, &error_abort);
    TestReopen r = { { .bs = bs, .flags = flags, .opts = o, .options = d }, commit, errp };

    bdrv_drained_begin(bs);
    aio_co_run(test_co_reopen, &r);
    bdrv_drained_end(bs);
    qdict_unref(d);
    return r.ret;
}

/* ---- files and other programs ---- */

static G_GNUC_UNUSED void test_make_file(const char *name, int64_t bytes)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, bytes), ==, 0);
    close(fd);
}

static G_GNUC_UNUSED bool test_have(const char *program)
{
    g_autofree char *path = g_find_program_in_path(program);

    return path != NULL;
}

/* Run a shell command; its exit status. Output is shown only when it fails. */
static G_GNUC_UNUSED int test_shell(const char *fmt, ...)
{
    va_list ap;
    int status = 0;
    g_autofree char *out = NULL, *err = NULL;

    va_start(ap, fmt);
    g_autofree char *command = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status,
                               NULL));
    status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    if (status) {
        g_test_message("%s: status %d\n%s%s", command, status, out, err);
    }
    return status;
}

#endif

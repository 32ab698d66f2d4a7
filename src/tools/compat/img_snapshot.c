/* SPDX-License-Identifier: MIT */
/* img_snapshot.c: qemu-img snapshot. */
#include "compat/compat.h"
#include <getopt.h>
#include "block/snapshot.h"
#include "qmp/qmp_private.h"

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

const CompatOption img_snapshot_options[] = {
    { 'q', "quiet", NULL, "say nothing but errors" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { 'U', "force-share", NULL, "open it though another program writes to it" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 'l', "list", NULL, "list the snapshots (this is what it does by itself)" },
    { 'c', "create", "SNAPSHOT", "make one" },
    { 'a', "apply", "SNAPSHOT", "let the disk be again what it was" },
    { 'd', "delete", "SNAPSHOT", "remove one" },
    { 0 },
};

typedef struct SnapshotCall {
    CompatOpen open;
    int verb;                   /* the letter; 0: not said */
    const char *name;
} SnapshotCall;

static void list_them(BlockDriverState *bs)
{
    SnapshotInfoList *list = qmp_snapshot_infos(bs);

    if (list) {
        compat_print_snapshots(list, 0);
    }
    qapi_free(&qapi_type_SnapshotInfoList, list);
}

static int coroutine_fn create_one(BlockDriverState *bs, const char *name, Error **errp)
{
    QEMUSnapshotInfo sn = { .date_sec = 0 };
    int64_t now_us = g_get_real_time();
    Error *err = NULL;
    int ret;

    g_strlcpy(sn.name, name, sizeof(sn.name));
    sn.date_sec = now_us / 1000000;
    sn.date_nsec = now_us % 1000000 * 1000;
    ret = bdrv_snapshot_create(bs, &sn, &err);
    if (ret < 0) {
        /* Scripts know the number's words; what exactly is wrong is told by `liveblk snapshot`. */
        error_free(err);
        error_setg(errp, "Could not create snapshot '%s': %s", name, strerror(-ret));
    }
    return ret;
}

static int coroutine_fn apply_one(BlockDriverState *bs, const char *name, Error **errp)
{
    Error *err = NULL;
    int ret = bdrv_snapshot_goto(bs, name, &err);

    if (ret < 0) {
        error_prepend(&err, "Could not apply snapshot '%s': ", name);
        error_propagate(errp, err);
    }
    return ret;
}

static int coroutine_fn delete_one(BlockDriverState *bs, const char *name, Error **errp)
{
    QEMUSnapshotInfo sn;
    Error *err = NULL;
    int ret;

    if (!bdrv_snapshot_find(bs, &sn, name)) {
        error_setg(errp, "Could not delete snapshot '%s': snapshot not found", name);
        return -ENOENT;
    }
    ret = bdrv_snapshot_delete(bs, sn.id_str, sn.name, &err);
    if (ret < 0) {
        error_prepend(&err, "Could not delete snapshot '%s': ", name);
        error_propagate(errp, err);
    }
    return ret;
}

static int coroutine_fn snapshot_op(void *opaque, Error **errp)
{
    SnapshotCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->open);
    BlockDriverState *bs = blk ? blk_bs(blk) : NULL;
    int ret = 0;

    if (!blk) {
        return -EIO;
    }
    switch (call->verb) {
    case 'c': ret = create_one(bs, call->name, errp); break;
    case 'a': ret = apply_one(bs, call->name, errp); break;
    case 'd': ret = delete_one(bs, call->name, errp); break;
    default: list_them(bs); break;
    }
    blk_unref(blk);
    return ret;
}

int img_snapshot(int argc, char **argv, const CompatCommand *cmd)
{
    SnapshotCall call = { 0 };
    Error *err = NULL;
    int c;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        switch (c) {
        case 'q': break;        /* there is nothing to say */
        case 'f': call.open.format = optarg; break;
        case 'U': call.open.force_share = true; break;
        case OPT_IMAGE_OPTS: call.open.image_opts = true; break;
        case OPT_OBJECT:
            if (!compat_object_add(optarg)) {
                return EXIT_FAILURE;
            }
            break;
        default:
            if (call.verb) {
                return compat_usage(cmd, "Cannot mix '-l', '-a', '-c', '-d'");
            }
            call.verb = c;
            call.name = optarg;
            break;
        }
    }
    if (optind + 1 != argc) {
        return compat_usage(cmd, "Expecting one image file name");
    }
    call.open.name = argv[optind];
    if (call.open.image_opts && call.open.format) {
        return compat_fail("--image-opts and --format are mutually exclusive");
    }
    call.open.writable = call.open.unmap = call.open.resize = call.verb && call.verb != 'l';
    compat_engine_start();
    int ret = ops_run(snapshot_op, &call, &err);

    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/* ops_open.c: run an operation; open images. */
#include "ops/ops.h"

typedef struct OpsCall {
    int coroutine_fn (*fn)(void *opaque, Error **errp);
    void *opaque;
    Error **errp;
    int ret;
} OpsCall;

static void coroutine_fn ops_run_co(void *opaque)
{
    OpsCall *c = opaque;

    control_co_lock();
    c->ret = c->fn(c->opaque, c->errp);
    control_co_unlock();
}

int ops_run(int coroutine_fn (*fn)(void *opaque, Error **errp), void *opaque, Error **errp)
{
    OpsCall c = { fn, opaque, errp, 0 };

    aio_co_run(ops_run_co, &c);
    return c.ret;
}

BlockBackend *coroutine_fn ops_open(const OpsSource *src, Error **errp)
{
    int flags = (src->writable ? BDRV_O_RDWR | BDRV_O_UNMAP : 0) |
                (src->no_data ? BDRV_O_NO_IO : 0) | (src->no_backing ? BDRV_O_NO_BACKING : 0) |
                (src->resize ? BDRV_O_RESIZE : 0) |
                (src->check ? BDRV_O_CHECK | BDRV_O_NO_BACKING : 0);
    const char *filename = src->name;
    QDict *options = NULL;

    if (src->image_opts) {
        bool keyval;

        options = qdict_from_options(src->name, NULL, &keyval, errp);
        if (!options) {
            return NULL;
        }
        filename = NULL;
    } else {
        options = qdict_new();
    }
    if (src->format) {
        qdict_put_str(options, "driver", src->format);
    }
    if (src->force_share) {
        qdict_put_bool(options, "force-share", true);
    }
    Error *err = NULL;
    BlockBackend *blk = NULL;
    int ret = 0;

    if (filename && ops_tls_is(filename)) {
        QDict *node = ops_tls_node(filename, &err);

        ret = node ? 0 : -EINVAL;
        if (node) {
            qdict_put_obj(options, "file", node);
        }
        filename = NULL;
    }
    if (ret < 0) {
        qdict_unref(options);
    } else {
        if (!src->image_opts && !src->no_data) {
            ops_secret_put(filename, options);
        }
        blk = blk_new_open(filename, NULL, options, flags, &err);
    }

    if (!blk) {
        if (!strstr(error_get_pretty(err), "Could not open '")) {
            error_prepend(&err, "Could not open '%s': ", src->name);
        }
        ops_secret_hint(&err);
        error_propagate(errp, err);
    }
    return blk;
}

/* SPDX-License-Identifier: MIT */
/* open.c: from options or a file name to a tree of nodes.
 *
 * Options are checked by the schema (one walk over the descriptors) and reach drivers as C
 * structs. What a child does not say it takes from its parent: read-only, cache, force-share;
 * files below a format may discard. On any failure all that was opened is closed again.
 */
#include "graph/graph_private.h"
#include "graph/filename.h"
#include "graph/probe.h"
#include "aio/host.h"

#define CHAIN_DEPTH_MAX 1000

static int open_depth;          /* of the tree being opened: a chain may be a loop */

static BlockDriverState *coroutine_fn open_options(const BlockdevOptions *o, QDict *options,
                                                   int flags, bool probed, Error **errp);

static int flags_from_options(const BlockdevOptions *o, int inherited)
{
    int flags = inherited & ~BDRV_O_AUTO_RDONLY;

    if (o->has_read_only) {
        flags = o->read_only ? flags & ~BDRV_O_RDWR : flags | BDRV_O_RDWR;
    }
    if (o->has_auto_read_only && o->auto_read_only && (flags & BDRV_O_RDWR)) {
        flags |= BDRV_O_AUTO_RDONLY;
    }
    if (o->has_force_share) {
        flags = o->force_share ? flags | BDRV_O_FORCE_SHARE : flags & ~BDRV_O_FORCE_SHARE;
    }
    if (o->has_discard) {
        flags = o->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP ? flags | BDRV_O_UNMAP : flags & ~BDRV_O_UNMAP;
    }
    if (o->cache && o->cache->has_direct) {
        flags = o->cache->direct ? flags | BDRV_O_NOCACHE : flags & ~BDRV_O_NOCACHE;
    }
    if (o->cache && o->cache->has_no_flush) {
        flags = o->cache->no_flush ? flags | BDRV_O_NO_FLUSH : flags & ~BDRV_O_NO_FLUSH;
    }
    return flags;
}

static int child_flags(BlockDriverState *parent, BdrvChildRole role)
{
    int flags = parent->open_flags & (BDRV_O_RDWR | BDRV_O_NOCACHE | BDRV_O_NO_FLUSH | BDRV_O_FORCE_SHARE |
                                      BDRV_O_AUTO_RDONLY);

    if (role & BDRV_CHILD_COW) {
        return flags & ~(BDRV_O_RDWR | BDRV_O_AUTO_RDONLY);
    }
    return flags | BDRV_O_UNMAP;
}

/* A reference or inline options: a new reference to the node. */
static BlockDriverState *coroutine_fn open_ref(const BlockdevOptions *definition, const char *reference,
                                               int flags, Error **errp)
{
    BlockDriverState *bs;

    if (reference) {
        bs = bdrv_lookup_bs(reference, reference, errp);
        if (bs) {
            bdrv_ref(bs);
        }
        return bs;
    }
    QDict *d = qapi_to_json(&qapi_type_BlockdevOptions, definition);

    bs = open_options(definition, d, flags, false, errp);
    qdict_unref(d);
    return bs;
}

/* Name a node that is being opened: a protocol at once, others when their first child is
 * open. So the child's error comes before the name's, the name is not yet taken for the
 * child, and lists of nodes show a node before its file. */
static int name_when_opened(BlockDriverState *bs, Error **errp)
{
    if (*bs->node_name) {
        return 0;
    }
    return node_set_name(bs, qdict_get_try_str(bs->options, "node-name"), errp);
}

BdrvChild *coroutine_fn bdrv_co_open_child(BlockDriverState *parent, const BlockdevRef *ref,
                                           const char *name, BdrvChildRole role, Error **errp)
{
    BlockDriverState *bs = open_ref(ref->type == QTYPE_QDICT ? ref->u.definition : NULL,
                                    ref->type == QTYPE_QSTRING ? ref->u.reference : NULL,
                                    child_flags(parent, role), errp);

    if (bs && name_when_opened(parent, errp) < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    return bs ? bdrv_attach_child(parent, bs, name, role, errp) : NULL;
}

/* ---- backing ---- */

static char *backing_path(BlockDriverState *bs)
{
    if (path_has_protocol(bs->backing_file) || *bs->backing_file == '/') {
        return g_strdup(bs->backing_file);
    }
    return path_combine(bs->exact_filename ? bs->exact_filename : "", bs->backing_file);
}

static int coroutine_fn open_backing(BlockDriverState *bs, const BlockdevOptions *o, Error **errp)
{
    const BlockdevRefOrNull *ref = o->driver == BLOCKDEV_DRIVER_QCOW2 ? o->u.qcow2.backing : NULL;
    int flags = child_flags(bs, BDRV_CHILD_COW);
    BlockDriverState *backing;

    if (ref && ref->type == QTYPE_QNULL) {
        return 0;
    }
    if (ref) {
        backing = open_ref(ref->type == QTYPE_QDICT ? ref->u.definition : NULL,
                           ref->type == QTYPE_QSTRING ? ref->u.reference : NULL, flags, errp);
    } else if (bs->backing_file && *bs->backing_file && !(bs->open_flags & BDRV_O_NO_BACKING)) {
        g_autofree char *path = backing_path(bs);
        QDict *d = NULL;

        if (bs->backing_format && *bs->backing_format) {
            d = qdict_new();
            qdict_put_str(d, "driver", bs->backing_format);
        }
        g_free(bs->auto_backing_file);
        bs->auto_backing_file = g_strdup(path);
        backing = bdrv_open(path, NULL, d, flags, errp);
    } else {
        return 0;
    }
    if (!backing) {
        error_prepend(errp, "Could not open backing file: ");
        return -EINVAL;
    }
    return bdrv_attach_child(bs, backing, "backing", BDRV_CHILD_COW, errp) ? 0 : -EPERM;
}

/* ---- one node ---- */

static int check_generic(const BlockdevOptions *o, int flags, Error **errp)
{
    if (o->has_detect_zeroes && o->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP &&
        !(flags & BDRV_O_UNMAP)) {
        error_setg(errp, "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
        return -EINVAL;
    }
    if ((flags & BDRV_O_FORCE_SHARE) && (flags & BDRV_O_RDWR)) {
        error_setg(errp, "force-share=on can only be used with read-only images");
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn open_node(BlockDriverState *bs, const BlockdevOptions *o, Error **errp)
{
    int ret = bs->drv->co_open(bs, o, bs->open_flags, errp);

    if (ret < 0) {
        g_free(bs->opaque);
        bs->opaque = NULL;
        bs->drv = NULL;         /* nothing to close */
        return ret;
    }
    ret = name_when_opened(bs, errp);
    if (ret < 0) {
        return ret;
    }
    bdrv_refresh_limits(bs);
    bdrv_refresh_filename(bs);
    ret = bdrv_co_refresh_length(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not refresh total sector count");
        return ret;
    }
    node_opened(bs);
    if (bs->drv->supports_backing) {
        ret = open_backing(bs, o, errp);
        if (ret < 0) {
            return ret;
        }
        bdrv_refresh_limits(bs);
        bdrv_refresh_filename(bs);
    }
    return 0;
}

static BlockDriverState *coroutine_fn open_options(const BlockdevOptions *o, QDict *options,
                                                   int inherited, bool probed, Error **errp)
{
    const BlockDriver *drv = bdrv_find_format(BlockdevDriver_str(o->driver));
    int flags = flags_from_options(o, inherited);
    Error *local_err = NULL;

    g_assert(drv);
    if (check_generic(o, flags, errp) < 0) {
        return NULL;
    }
    if (open_depth >= CHAIN_DEPTH_MAX) {
        error_setg(errp, "The chain of images is deeper than %d: does it loop?", CHAIN_DEPTH_MAX);
        return NULL;
    }
    BlockDriverState *bs = node_new();

    bs->options = qdict_clone(options);
    if (drv->kind == BLOCK_DRIVER_PROTOCOL && name_when_opened(bs, errp) < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    bs->drv = drv;
    bs->opaque = g_malloc0(MAX(drv->instance_size, 1));
    bs->open_flags = flags;
    bs->read_only = !(flags & BDRV_O_RDWR);
    bs->supported_write_flags = drv->supported_write_flags;
    bs->supported_zero_flags = drv->supported_zero_flags;
    bs->force_share = flags & BDRV_O_FORCE_SHARE;
    bs->probed = probed;
    bs->detect_zeroes = o->has_detect_zeroes ? o->detect_zeroes : BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    open_depth++;
    int ret = open_node(bs, o, &local_err);
    open_depth--;
    if (ret < 0) {
        if (!local_err) {
            error_setg_errno(&local_err, -ret, "Could not open '%s'", bs->node_name);
        }
        error_propagate(errp, local_err);
        bdrv_unref(bs);
        return NULL;
    }
    return bs;
}

/* ---- options and names ---- */

/* "json:{...}", "file:PATH", "PATH": options of the protocol or of the whole tree. */
static QDict *options_from_filename(const char *filename, bool *is_tree, Error **errp)
{
    QDict *d;

    *is_tree = false;
    if (g_str_has_prefix(filename, "json:")) {
        bool keyval;

        d = qdict_from_options(filename + 5, NULL, &keyval, errp);
        if (!d) {
            error_prepend(errp, "Could not parse the JSON options: ");
        }
        *is_tree = true;
        return d;
    }
    if (g_str_has_prefix(filename, "file:")) {
        filename += 5;
    } else if (path_has_protocol(filename)) {
        error_setg(errp, "Unknown protocol '%.*s'", (int)strcspn(filename, ":"), filename);
        return NULL;
    }
    d = qdict_new();
    qdict_put_str(d, "driver", "file");
    if (host_path_is_device(filename)) {
        qdict_put_str(d, "driver", "host_device");
    }
    qdict_put_str(d, "filename", filename);
    return d;
}

static bool is_protocol(const char *driver)
{
    const BlockDriver *drv = driver ? bdrv_find_format(driver) : NULL;

    return drv && drv->kind == BLOCK_DRIVER_PROTOCOL;
}

/* Give @d a driver by looking at the first bytes of its file. */
static int coroutine_fn options_probe(QDict *d, int flags, bool *probed, Error **errp)
{
    json_object *file = qdict_get(d, "file");
    BlockDriverState *bs;
    const BlockDriver *drv;

    if (!file) {
        error_setg(errp, "Parameter 'driver' is missing");
        return -EINVAL;
    }
    g_autoptr(BlockdevOptions) def = NULL;

    if (!json_object_is_type(file, json_type_string)) {
        def = qapi_from_json(&qapi_type_BlockdevOptions, file, false, errp);
        if (!def) {
            return -EINVAL;
        }
    }
    bs = open_ref(def, def ? NULL : json_object_get_string(file), (flags & ~BDRV_O_RDWR) | BDRV_O_FORCE_SHARE, errp);
    if (!bs) {
        return -EINVAL;
    }
    drv = probe_co_node(bs, errp);
    bdrv_unref(bs);
    if (!drv) {
        return -EIO;
    }
    qdict_put_str(d, "driver", drv->format_name);
    *probed = true;
    return 0;
}

typedef struct OpenCall {
    const char *filename, *reference;
    QDict *options;             /* owned */
    int flags;
    BlockDriverState *bs;
    Error **errp;
} OpenCall;

static QDict *coroutine_fn open_complete_options(OpenCall *call, bool *probed)
{
    QDict *d = call->options ? qdict_crumple(call->options, call->errp) : qdict_new();

    call->options = NULL;
    if (d && call->filename) {
        bool is_tree;
        QDict *f = options_from_filename(call->filename, &is_tree, call->errp);

        if (!f) {
            qdict_unref(d);
            return NULL;
        }
        if (is_tree || is_protocol(qdict_get_try_str(d, "driver"))) {
            /* What was given besides the name wins. */
            json_object_object_foreach(d, key, value) {
                qdict_put_obj(f, key, json_object_get(value));
            }
            qdict_unref(d);
            d = f;
        } else {
            qdict_put_obj(d, "file", f);
        }
    }
    if (d && !qdict_haskey(d, "driver") && options_probe(d, call->flags, probed, call->errp) < 0) {
        qdict_unref(d);
        return NULL;
    }
    return d;
}

static void coroutine_fn bdrv_open_co(void *opaque)
{
    OpenCall *call = opaque;
    bool probed = false;

    if (call->reference) {
        call->bs = bdrv_lookup_bs(call->reference, call->reference, call->errp);
        if (call->bs) {
            bdrv_ref(call->bs);
        }
        qdict_unref(call->options);
        return;
    }
    QDict *d = open_complete_options(call, &probed);

    if (!d) {
        return;
    }
    g_autoptr(BlockdevOptions) o = qapi_from_json(&qapi_type_BlockdevOptions, d, false, call->errp);

    if (o) {
        call->bs = open_options(o, d, call->flags, probed, call->errp);
    }
    qdict_unref(d);
}

BlockDriverState *bdrv_open(const char *filename, const char *reference,
                            QDict *options, int flags, Error **errp)
{
    OpenCall call = { filename, reference, options, flags, NULL, errp };

    g_assert(qemu_in_main_thread());
    aio_co_run(bdrv_open_co, &call);
    return call.bs;
}

BlockDriverState *bds_tree_init(QDict *bs_opts, Error **errp)
{
    return bdrv_open(NULL, NULL, bs_opts, BDRV_O_RDWR, errp);
}

/* SPDX-License-Identifier: MIT */
/* open.c: from options or a file name to a tree of nodes.
 *
 * Options are checked by the schema and reach drivers as C structures. What an inline
 * child does not say it takes from its parent: read-only, cache, force-share. A backing
 * file that the image's header names is opened as if its options had been given.
 *
 * The files of one image are opened by its driver (bdrv_co_open_child), by recursion: as
 * deep as somebody nested the options. The backing chain is as long as the images say:
 * it is opened in a loop, from the top, and joined from the bottom.
 *
 * Runs on: the main thread.  Suspends: everything here.
 * Fails:   with all that was opened closed again.
 */
#include "base/osdep.h"
#include "base/trace.h"
#include "aio/host.h"
#include "graph/filename.h"
#include "graph/graph_private.h"
#include "graph/probe.h"

#define CHAIN_LENGTH_MAX 1000

/* A node whose driver is opening, for bdrv_co_open_child(). */
typedef struct Opening {
    BlockDriverState *bs;
    const BlockdevOptions *opts;
    BlockDriverState *file;     /* open already, for probing: to be the "file" child */
    LIST_ENTRY(Opening) link;
} Opening;

static LIST_HEAD(, Opening) openings = LIST_HEAD_INITIALIZER(openings);

static Opening *opening_of(BlockDriverState *bs)
{
    Opening *o;

    LIST_FOREACH(o, &openings, link) {
        if (o->bs == bs) {
            return o;
        }
    }
    return NULL;
}

/* What is to be opened; options are those of the schema. */
typedef struct OpenRequest {
    const BlockdevOptions *opts;
    int inherited_flags;        /* where the options say nothing */
    bool probed;                /* the driver was guessed */
    bool inline_child;          /* its options stood in its parent's */
    BlockDriverState *file;     /* see Opening; lent */
} OpenRequest;

/* ---- flags ---- */

static int flag_set(int flags, int flag, bool on)
{
    return on ? flags | flag : flags & ~flag;
}

int graph_open_flags(const BlockdevOptions *o, int inherited)
{
    int flags = inherited;

    if (o->has_read_only) {
        flags = flag_set(flags, BDRV_O_RDWR, !o->read_only);
    }
    if (o->has_auto_read_only) {
        flags = flag_set(flags, BDRV_O_AUTO_RDONLY, o->auto_read_only);
    }
    if (o->has_force_share) {
        flags = flag_set(flags, BDRV_O_FORCE_SHARE, o->force_share);
    }
    if (o->has_discard) {
        flags = flag_set(flags, BDRV_O_UNMAP, o->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP);
    }
    if (o->cache && o->cache->has_direct) {
        flags = flag_set(flags, BDRV_O_NOCACHE, o->cache->direct);
    }
    if (o->cache && o->cache->has_no_flush) {
        flags = flag_set(flags, BDRV_O_NO_FLUSH, o->cache->no_flush);
    }
    return flags & BDRV_O_RDWR ? flags : flags & ~BDRV_O_AUTO_RDONLY;
}

int graph_child_flags(int parent_flags, BdrvChildRole role)
{
    int flags = parent_flags & (BDRV_O_RDWR | BDRV_O_NOCACHE | BDRV_O_NO_FLUSH |
                                BDRV_O_FORCE_SHARE | BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP);

    if (role & BDRV_CHILD_COW) {
        /* Nothing below an overlay is written in normal use. */
        return flags & ~(BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP);
    }
    /* The parent decides which discards it passes on. */
    return role & BDRV_CHILD_FILTERED ? flags : flags | BDRV_O_UNMAP;
}

int graph_check_detect_zeroes(const BlockdevOptions *o, int flags, Error **errp)
{
    if (o->has_detect_zeroes && o->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP &&
        !(flags & BDRV_O_UNMAP)) {
        error_setg(errp, "setting detect-zeroes to unmap is not allowed "
                   "without setting discard operation to unmap");
        return -EINVAL;
    }
    return 0;
}

/* ---- children ---- */

static BlockDriverState *coroutine_fn open_tree(const OpenRequest *req, Error **errp);

static BlockDriverState *open_reference(const char *reference, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(reference, reference, errp);

    if (bs) {
        bdrv_ref(bs);
    }
    return bs;
}

/* The node's own checks come after its first file was opened, as users of the field's
 * tools are told about a missing file first. */
static int open_identify(Opening *o, Error **errp)
{
    int ret;

    if (o->bs->node_name[0]) {
        return 0;
    }
    ret = graph_node_set_name(o->bs, o->opts->node_name, errp);
    return ret < 0 ? ret : graph_check_detect_zeroes(o->opts, o->bs->open_flags, errp);
}

BdrvChild *coroutine_fn bdrv_co_open_child(BlockDriverState *parent, const BlockdevRef *ref,
                                           const char *name, BdrvChildRole role, Error **errp)
{
    Opening *o = opening_of(parent);
    BlockDriverState *bs;

    if (o && o->file && !strcmp(name, "file")) {
        bs = o->file;
        bdrv_ref(bs);
    } else if (!ref) {
        error_setg(errp, "A block device must be specified for \"%s\"", name);
        return NULL;
    } else if (ref->type == QTYPE_QSTRING) {
        bs = open_reference(ref->u.reference, errp);
    } else {
        bs = open_tree(&(OpenRequest) {
            .opts = ref->u.definition, .inline_child = true,
            .inherited_flags = graph_child_flags(parent->open_flags, role),
        }, errp);
    }
    if (!bs) {
        return NULL;
    }
    if (o && open_identify(o, errp) < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    return bdrv_attach_child(parent, bs, name, role, errp);
}

/* For a driver without co_open. */
static int coroutine_fn open_default(BlockDriverState *bs, Error **errp)
{
    BdrvChildRole role = bs->drv->kind == BLOCK_DRIVER_FILTER ?
                         BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY : BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY;
    QDict *file = qdict_get(bs->options, "file");
    BlockdevRef *ref = NULL;
    BdrvChild *c;

    if (bs->drv->kind == BLOCK_DRIVER_PROTOCOL) {
        return 0;
    }
    if (file) {
        ref = qapi_from_json(&qapi_type_BlockdevRef, file, false, errp);
        if (!ref) {
            return -EINVAL;
        }
    }
    c = bdrv_co_open_child(bs, ref, "file", role, errp);
    qapi_free(&qapi_type_BlockdevRef, ref);
    return c ? 0 : -EINVAL;
}

/* ---- one node, without its backing ---- */

static int coroutine_fn open_driver(BlockDriverState *bs, const OpenRequest *req, Error **errp)
{
    Opening o = { .bs = bs, .opts = req->opts, .file = req->file };
    bool alone = bs->drv->kind == BLOCK_DRIVER_PROTOCOL;
    int ret = 0;

    LIST_INSERT_HEAD(&openings, &o, link);
    if (alone) {
        ret = open_identify(&o, errp);
    }
    if (!ret) {
        ret = bs->drv->co_open ? bs->drv->co_open(bs, req->opts, bs->open_flags, errp)
                               : open_default(bs, errp);
    }
    bs->opened = ret >= 0;
    if (bs->opened) {
        graph_drain_driver_opened(bs);
        ret = open_identify(&o, errp);
    }
    LIST_REMOVE(&o, link);
    return ret;
}

static int coroutine_fn open_finish(BlockDriverState *bs, Error **errp)
{
    int ret;

    bdrv_refresh_limits(bs);
    bdrv_refresh_filename(bs);
    ret = bdrv_co_refresh_length(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not refresh total sector count");
    }
    return ret;
}

static BlockDriverState *coroutine_fn open_node(const OpenRequest *req, Error **errp)
{
    const char *driver = BlockdevDriver_str(req->opts->driver);
    const BlockDriver *drv = bdrv_find_format(driver);
    int flags = graph_open_flags(req->opts, req->inherited_flags);
    BlockDriverState *bs;
    ERRP_GUARD();

    if (!drv) {
        error_setg(errp, "Unknown driver '%s'", driver);
        return NULL;
    }
    if ((flags & BDRV_O_FORCE_SHARE) && (flags & BDRV_O_RDWR)) {
        error_setg(errp, "force-share=on can only be used with read-only images");
        return NULL;
    }
    bs = graph_node_new();
    graph_node_set_driver(bs, drv);
    bs->open_flags = flags;
    bs->read_only = !(flags & BDRV_O_RDWR);
    bs->force_share = flags & BDRV_O_FORCE_SHARE;
    bs->probed = req->probed;
    bs->inherits_options = req->inline_child;
    bs->detect_zeroes = req->opts->detect_zeroes;
    bs->options = qapi_to_json(&qapi_type_BlockdevOptions, req->opts);
    if (!g_strcmp0(qdict_get_try_str(bs->options, "backing"), "")) {
        qdict_put_null(bs->options, "backing");         /* the old way to say so */
    }
    if (open_driver(bs, req, errp) < 0 || open_finish(bs, errp) < 0) {
        if (!*errp) {
            error_setg(errp, "Could not open '%s'", bs->node_name);
        }
        bdrv_unref(bs);
        return NULL;
    }
    TRACE(graph, "%s: open %s %s%s", bs->node_name, driver, bs->filename, bs->read_only ? ", read-only" : "");
    return bs;
}

/* ---- backing ---- */

/* Directory-relative names are seen from where the image's bytes lie. */
static char *path_beside(BlockDriverState *bs, const char *name)
{
    BlockDriverState *storage = bs, *below;

    while ((below = bdrv_primary_bs(storage))) {
        storage = below;
    }
    return path_combine(storage->exact_filename, name);
}

static char *backing_path(BlockDriverState *bs)
{
    return path_beside(bs, bs->backing_file);
}

void graph_set_auto_backing_file(BlockDriverState *bs)
{
    g_free(bs->auto_backing_file);
    bs->auto_backing_file = bs->backing_file && *bs->backing_file ? backing_path(bs) : NULL;
}

/* Open the node that @bs's header names. */
static BlockDriverState *coroutine_fn open_backing_from_header(BlockDriverState *bs, Error **errp)
{
    g_autofree char *path = backing_path(bs);
    BlockDriverState *backing;
    QDict *d = NULL;

    if (bs->backing_format && *bs->backing_format) {
        if (!bdrv_find_format(bs->backing_format)) {
            error_setg(errp, "Unknown driver '%s'", bs->backing_format);
            return NULL;
        }
        d = qdict_new();
        qdict_put_str(d, "driver", bs->backing_format);
    }
    g_free(bs->auto_backing_file);
    bs->auto_backing_file = g_strdup(path);
    backing = graph_co_open(path, NULL, d, graph_child_flags(bs->open_flags, BDRV_CHILD_COW) |
                            BDRV_O_NO_BACKING, errp);
    if (backing) {
        backing->open_flags &= ~BDRV_O_NO_BACKING;
        backing->inherits_options = true;
        /* json: names come out in another order than the header has them. */
        g_free(bs->auto_backing_file);
        bs->auto_backing_file = g_strdup(backing->filename);
    }
    return backing;
}

static BlockDriverState *coroutine_fn open_backing_from_options(BlockDriverState *bs, QDict *ref, Error **errp)
{
    BlockDriverState *backing = NULL;
    BlockdevOptions *o;

    if (qstring_get(ref)) {
        return open_reference(qstring_get(ref), errp);
    }
    o = qapi_from_json(&qapi_type_BlockdevOptions, ref, false, errp);
    if (o) {
        backing = open_node(&(OpenRequest) {
            .opts = o, .inline_child = true,
            .inherited_flags = graph_child_flags(bs->open_flags, BDRV_CHILD_COW),
        }, errp);
        qapi_free_BlockdevOptions(o);
    }
    return backing;
}

/* The next node of the chain below @bs: 1 and *backing, 0 if there is none, or -errno.
 * *more: it is new, and has to be asked for its own backing. */
static int coroutine_fn open_backing(BlockDriverState *bs, BlockDriverState **backing, bool *more, Error **errp)
{
    bool given = qdict_haskey(bs->options, "backing");
    QDict *ref = qdict_get(bs->options, "backing");

    *more = !(ref && qstring_get(ref));
    if (!bs->drv->supports_backing || (bs->open_flags & BDRV_O_NO_BACKING) || (given && !ref)) {
        return 0;
    }
    if (given) {
        *backing = open_backing_from_options(bs, ref, errp);
    } else if (bs->backing_file && *bs->backing_file) {
        *backing = open_backing_from_header(bs, errp);
    } else {
        return 0;
    }
    return *backing ? 1 : -EINVAL;
}

/* An image that comes back in its own chain would be opened until memory ends. */
static int check_chain(GPtrArray *chain, BlockDriverState *bs, Error **errp)
{
    for (guint i = 0; *bs->exact_filename && i < chain->len; i++) {
        BlockDriverState *above = g_ptr_array_index(chain, i);

        if (above->drv == bs->drv && !strcmp(above->exact_filename, bs->exact_filename)) {
            error_setg(errp, "Backing file '%s' creates an infinite loop.", bs->exact_filename);
            return -EINVAL;
        }
    }
    if (chain->len >= CHAIN_LENGTH_MAX) {
        error_setg(errp, "The chain of backing files is longer than %d", CHAIN_LENGTH_MAX);
        return -EINVAL;
    }
    return 0;
}

/* Join the nodes of @chain, from the bottom; each reference but the first goes to the
 * edge above. -errno: what was not joined is dropped. */
static int coroutine_fn join_chain(GPtrArray *chain, Error **errp)
{
    for (guint i = chain->len - 1; i > 0; i--) {
        BlockDriverState *overlay = g_ptr_array_index(chain, i - 1);

        if (!bdrv_attach_child(overlay, g_ptr_array_index(chain, i), "backing",
                               BDRV_CHILD_COW, errp)) {
            g_ptr_array_set_size(chain, i);
            return -EPERM;
        }
    }
    return 0;
}

/* Open what lies below @top, a node without backing so far. */
static int coroutine_fn open_chain(BlockDriverState *top, Error **errp)
{
    g_autoptr(GPtrArray) chain = g_ptr_array_new();
    BlockDriverState *bs = top;
    bool more = true;
    int ret = 0;
    ERRP_GUARD();

    g_ptr_array_add(chain, top);
    while (ret >= 0 && more && (ret = open_backing(bs, &bs, &more, errp)) > 0) {
        ret = more ? check_chain(chain, bs, errp) : 0;
        if (ret < 0) {
            bdrv_unref(bs);
        } else {
            g_ptr_array_add(chain, bs);
        }
    }
    if (ret < 0) {
        /* Each layer says so, as if it had been opened by the one above. */
        for (guint i = 0; i < chain->len; i++) {
            error_prepend(errp, "Could not open backing file: ");
        }
    } else {
        ret = join_chain(chain, errp);
    }
    if (ret < 0) {
        for (guint i = chain->len; i-- > 1;) {
            bdrv_unref(g_ptr_array_index(chain, i));
        }
    }
    return ret;
}

typedef struct OpenBackingCall {
    BlockDriverState *bs;
    Error **errp;
    int ret;
} OpenBackingCall;

static void coroutine_fn open_backing_co(void *opaque)
{
    OpenBackingCall *call = opaque;

    call->ret = open_chain(call->bs, call->errp);
}

int bdrv_open_backing_file(BlockDriverState *bs, Error **errp)
{
    OpenBackingCall call = { bs, errp, 0 };
    int flags = bs->open_flags;

    g_assert(qemu_in_main_thread() && !bs->backing);
    bs->open_flags &= ~BDRV_O_NO_BACKING;
    aio_co_run(open_backing_co, &call);
    if (call.ret < 0) {
        bs->open_flags = flags;
    } else {
        bdrv_refresh_filename(bs);
    }
    return call.ret;
}

static BlockDriverState *coroutine_fn open_tree(const OpenRequest *req, Error **errp)
{
    BlockDriverState *bs = open_node(req, errp);

    if (bs && open_chain(bs, errp) < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    return bs;
}

/* ---- names and probing ---- */

static bool driver_has_protocol(const BlockDriver *drv, const char *protocol)
{
    if (!g_strcmp0(drv->protocol_name, protocol)) {
        return true;
    }
    return drv->protocol_aliases && g_strv_contains((const char *const *)drv->protocol_aliases, protocol);
}

/* The protocol part of @filename as options: "PATH", "file:PATH", "null-co://", "nbd://HOST". */
QDict *graph_options_of_filename(const char *filename, Error **errp)
{
    const BlockDriver *drv = NULL;
    QDict *d;

    if (path_has_protocol(filename)) {
        g_autofree char *protocol = g_strndup(filename, strcspn(filename, ":"));

        while ((drv = bdrv_next_driver(drv)) && !driver_has_protocol(drv, protocol)) {
        }
        if (!drv) {
            error_setg(errp, "Unknown protocol '%s'", protocol);
            return NULL;
        }
        if (drv->parse_filename) {
            d = qdict_new();
            qdict_put_str(d, "driver", drv->format_name);
            if (drv->parse_filename(filename, d, errp) < 0) {
                qdict_unref(d);
                return NULL;
            }
            return d;
        }
        filename += strlen(protocol) + 1;
    }
    d = qdict_new();
    if (drv && g_str_has_prefix(filename, "//")) {
        qdict_put_str(d, "driver", drv->format_name);   /* "null-co://": no more to say */
        return d;
    }
    qdict_put_str(d, "driver", host_ops->path_is_device(filename) ? "host_device" :
                  drv ? drv->format_name : "file");
    qdict_put_str(d, "filename", filename);
    return d;
}

static QDict *options_of_json(const char *filename, Error **errp)
{
    QDict *d;
    ERRP_GUARD();

    d = qdict_from_json(filename + strlen("json:"), errp);
    if (d && qdict_type(d) != QTYPE_QDICT) {
        qdict_unref(d);
        d = NULL;
        error_setg(errp, "Invalid JSON object given");
    }
    if (!d) {
        error_prepend(errp, "Could not parse the JSON options: ");
        return NULL;
    }
    return qdict_crumple(d, errp);
}

BdrvChild *coroutine_fn bdrv_co_open_child_named(BlockDriverState *parent, const char *filename, const char *name,
                                                 BdrvChildRole role, Error **errp)
{
    g_autofree char *path = path_beside(parent, filename);
    g_autoptr(QDict) options = g_str_has_prefix(path, "json:") ? options_of_json(path, errp)
                                                               : graph_options_of_filename(path, errp);
    BlockdevRef *ref = options ? qapi_from_json(&qapi_type_BlockdevRef, options, false, errp) : NULL;
    BdrvChild *c;

    if (!ref) {
        return NULL;
    }
    c = bdrv_co_open_child(parent, ref, name, role, errp);
    qapi_free(&qapi_type_BlockdevRef, ref);
    return c;
}

static bool names_protocol(const QDict *d)
{
    const char *driver = qdict_get_try_str(d, "driver");
    const BlockDriver *drv = driver ? bdrv_find_format(driver) : NULL;

    return drv && drv->protocol_name;
}

/* Put what @filename says into @d (owned); what was given besides it wins. */
static QDict *options_add_filename(QDict *d, const char *filename, Error **errp)
{
    bool is_json = g_str_has_prefix(filename, "json:");
    QDict *f = is_json ? options_of_json(filename, errp) : graph_options_of_filename(filename, errp);

    if (!f) {
        qdict_unref(d);
        return NULL;
    }
    if (is_json || names_protocol(d)) {
        qdict_join(d, f, false);
        qdict_unref(f);
    } else {
        qdict_put_obj(d, "file", f);
    }
    return d;
}

/* The node that holds the image of @d, which has no driver; by reference or newly opened. */
static BlockDriverState *coroutine_fn open_for_probing(QDict *d, int flags, Error **errp)
{
    QDict *file = qdict_get(d, "file");
    BlockDriverState *bs = NULL;
    BlockdevOptions *o;

    if (!file) {
        error_setg(errp, "Must specify either driver or file");
        return NULL;
    }
    if (qstring_get(file)) {
        return open_reference(qstring_get(file), errp);
    }
    o = qapi_from_json(&qapi_type_BlockdevOptions, file, false, errp);
    if (o) {
        bs = open_tree(&(OpenRequest) {
            .opts = o, .inline_child = true,
            .inherited_flags = graph_child_flags(flags, BDRV_CHILD_DATA),
        }, errp);
        qapi_free_BlockdevOptions(o);
    }
    return bs;
}

/* What the generic options in @d make of @flags, before there is a driver. */
static int flags_without_driver(QDict *d, int flags)
{
    QDict *cache = qdict_get_qdict(d, "cache");

    flags = flag_set(flags, BDRV_O_RDWR, !qdict_get_try_bool(d, "read-only", !(flags & BDRV_O_RDWR)));
    flags = flag_set(flags, BDRV_O_AUTO_RDONLY, qdict_get_try_bool(d, "auto-read-only", flags & BDRV_O_AUTO_RDONLY));
    flags = flag_set(flags, BDRV_O_FORCE_SHARE, qdict_get_try_bool(d, "force-share", flags & BDRV_O_FORCE_SHARE));
    if (cache) {
        flags = flag_set(flags, BDRV_O_NOCACHE, qdict_get_try_bool(cache, "direct", flags & BDRV_O_NOCACHE));
        flags = flag_set(flags, BDRV_O_NO_FLUSH, qdict_get_try_bool(cache, "no-flush", flags & BDRV_O_NO_FLUSH));
    }
    return flags;
}

/* ---- entry ---- */

static BlockDriverState *coroutine_fn open_options(QDict *d, int flags, Error **errp)
{
    OpenRequest req = { .inherited_flags = flags };
    BlockDriverState *bs = NULL;
    BlockdevOptions *o;

    if (!qdict_haskey(d, "driver")) {
        const BlockDriver *drv;

        req.file = open_for_probing(d, flags_without_driver(d, flags), errp);
        drv = req.file ? graph_co_probe(req.file, errp) : NULL;
        if (!drv) {
            bdrv_unref(req.file);
            return NULL;
        }
        qdict_put_str(d, "driver", drv->format_name);
        req.probed = true;
    }
    /* Of the caller's flags this one is for the top alone. */
    o = qapi_from_json(&qapi_type_BlockdevOptions, d, false, errp);
    if (o) {
        req.opts = o;
        bs = flags & BDRV_O_NO_BACKING ? open_node(&req, errp) : open_tree(&req, errp);
        qapi_free_BlockdevOptions(o);
    }
    bdrv_unref(req.file);
    return bs;
}

BlockDriverState *coroutine_fn graph_co_open(const char *filename, const char *reference,
                                             QDict *options, int flags, Error **errp)
{
    BlockDriverState *bs;
    QDict *d;

    if (reference) {
        if (filename || (options && qdict_size(options))) {
            error_setg(errp, "Cannot reference an existing block device with additional options "
                       "or a new filename");
            bs = NULL;
        } else {
            bs = open_reference(reference, errp);
        }
        qdict_unref(options);
        return bs;
    }
    d = options ? qdict_crumple(options, errp) : qdict_new();
    if (d && filename) {
        d = options_add_filename(d, filename, errp);
    }
    if (!d) {
        return NULL;
    }
    bs = open_options(d, flags, errp);
    qdict_unref(d);
    return bs;
}

typedef struct OpenCall {
    const char *filename, *reference;
    QDict *options;
    int flags;
    Error **errp;
    BlockDriverState *bs;
} OpenCall;

static void coroutine_fn open_call_co(void *opaque)
{
    OpenCall *call = opaque;

    call->bs = graph_co_open(call->filename, call->reference, call->options, call->flags, call->errp);
}

BlockDriverState *bdrv_open(const char *filename, const char *reference,
                            QDict *options, int flags, Error **errp)
{
    OpenCall call = { filename, reference, options, flags, errp, NULL };

    g_assert(qemu_in_main_thread());
    aio_co_run(open_call_co, &call);
    return call.bs;
}

BlockDriverState *bds_tree_init(QDict *bs_opts, Error **errp)
{
    return bdrv_open(NULL, NULL, bs_opts, BDRV_O_RDWR, errp);
}

/* ---- internal drivers ---- */

typedef struct OpenDriverCall {
    BlockDriverState *bs;
    Error **errp;
    int ret;
} OpenDriverCall;

static void coroutine_fn open_internal_co(void *opaque)
{
    OpenDriverCall *call = opaque;
    BlockDriverState *bs = call->bs;

    call->ret = bs->drv->co_open ? bs->drv->co_open(bs, NULL, bs->open_flags, call->errp) : 0;
}

BlockDriverState *bdrv_new_open_driver(const BlockDriver *drv, const char *node_name,
                                       int flags, Error **errp)
{
    BlockDriverState *bs = graph_node_new();
    OpenDriverCall call = { bs, errp, 0 };

    if (graph_node_set_name(bs, node_name, errp) < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    graph_node_set_driver(bs, drv);
    bs->open_flags = flags;
    bs->read_only = !(flags & BDRV_O_RDWR);
    bs->implicit = !node_name;
    bs->options = qdict_new();
    qdict_put_str(bs->options, "driver", drv->format_name);
    aio_co_run(open_internal_co, &call);
    if (call.ret < 0) {
        bdrv_unref(bs);
        return NULL;
    }
    bs->opened = true;
    graph_drain_driver_opened(bs);
    bdrv_refresh_limits(bs);
    bdrv_refresh_filename(bs);
    return bs;
}

void bdrv_set_backing_hint(BlockDriverState *bs, const char *file, const char *fmt)
{
    char *f = g_strdup(file), *t = g_strdup(fmt);

    g_free(bs->backing_file);
    g_free(bs->backing_format);
    bs->backing_file = f;
    bs->backing_format = t;
}

/* SPDX-License-Identifier: MIT */
/* filename.c: what a node is called for people.
 *
 * A plain file name where opening that name gives the same contents, else json:{...} with
 * all options that decide about the contents. Three things are kept up to date in a node:
 *
 *   exact_filename   the plain name, or ""
 *   full_options     the options, those of the children within (shared, not copied: in a
 *                    chain each node adds one level to the next one's)
 *   filename         what is shown
 *
 * Runs on: the main thread.  Suspends: never.
 */
#include "base/osdep.h"
#include "graph/filename.h"
#include "graph/graph_private.h"

/* Options that say how, not what. */
static const char *const weak_options[] = {
    /* of every node */
    "driver", "node-name", "discard", "cache", "read-only", "auto-read-only", "force-share",
    "detect-zeroes",
    /* of drivers */
    "aio", "locking", "latency-ns", "reconnect-delay", "open-timeout", "x-dirty-bitmap",
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
    "discard-no-unref", "overlap-check", "cache-size", "l2-cache-size", "l2-cache-entry-size",
    "refcount-cache-size", "cache-clean-interval", "bottom", "prealloc-align", "prealloc-size",
};

static bool is_weak(const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(weak_options); i++) {
        if (!strcmp(key, weak_options[i])) {
            return true;
        }
    }
    return false;
}

static BdrvChild *child_by_name(BlockDriverState *bs, const char *name)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (!strcmp(c->name, name)) {
            return c;
        }
    }
    return NULL;
}

/* Is the backing node another one than opening the image by its name would give? */
static bool backing_is_overridden(BlockDriverState *bs)
{
    bool in_header = bs->backing_file && *bs->backing_file;

    if (!bs->drv->supports_backing) {
        return false;
    }
    if (qdict_haskey(bs->options, "backing")) {
        return qdict_get(bs->options, "backing") || in_header;
    }
    if (!bs->backing) {
        /* Was there ever a look at what the header names? (Not while the node is being
         * opened, nor where its chain was left closed.) */
        return in_header && bs->auto_backing_file;
    }
    return !in_header || g_strcmp0(bs->auto_backing_file, bs->backing->bs->filename);
}

/* "children" of "children.0": children of a node that come in a list. */
static bool is_in_list(const BdrvChild *c, const char *list)
{
    size_t n = strlen(list);

    return !strncmp(c->name, list, n) && c->name[n] == '.';
}

static bool is_list_of_children(BlockDriverState *bs, const char *name)
{
    BdrvChild *c;

    LIST_FOREACH(c, &bs->children, next) {
        if (is_in_list(c, name)) {
            return true;
        }
    }
    return false;
}

/* In the order of their numbers: the youngest is the first of bs->children, so that each goes before the others. */
static void add_listed_child(QDict *out, const BdrvChild *c)
{
    g_autofree char *list = g_strndup(c->name, strchr(c->name, '.') - c->name);
    QDict *old = qdict_get_qlist(out, list), *all = qlist_new();

    qlist_append(all, qdict_ref(c->bs->full_options));
    for (size_t i = 0; old && i < qlist_size(old); i++) {
        qlist_append(all, qdict_ref(qlist_get(old, i)));
    }
    qdict_put_obj(out, list, all);
}

typedef struct OwnOptions {
    BlockDriverState *bs;
    QDict *out;
    bool any;
} OwnOptions;

static void add_own_option(const char *key, QDict *value, void *opaque)
{
    OwnOptions *own = opaque;

    if (!is_weak(key) && !child_by_name(own->bs, key) && !is_list_of_children(own->bs, key) &&
        strcmp(key, "backing") && strcmp(key, "file")) {
        qdict_put_obj(own->out, key, qdict_ref(value));
        own->any = true;
    }
}

/* *own_options: the driver was told something that a plain name could not say. */
static QDict *full_options(BlockDriverState *bs, bool *own_options)
{
    OwnOptions own = { bs, qdict_new(), false };
    BdrvChild *c;

    qdict_put_str(own.out, "driver", bs->drv->format_name);
    qdict_foreach(bs->options, add_own_option, &own);
    LIST_FOREACH(c, &bs->children, next) {
        if (c->bs->full_options && strchr(c->name, '.')) {
            add_listed_child(own.out, c);
        } else if (c->bs->full_options && (!(c->role & BDRV_CHILD_COW) || backing_is_overridden(bs))) {
            qdict_put_obj(own.out, c->name, qdict_ref(c->bs->full_options));
        }
    }
    if (!bs->backing && backing_is_overridden(bs)) {
        qdict_put_null(own.out, "backing");
    }
    *own_options = own.any;
    return own.out;
}

/* Can a plain name stand for @bs, without a format being looked for in it? */
static bool is_named_as_protocol(const BlockDriverState *bs)
{
    return bs->drv && (bs->drv->kind == BLOCK_DRIVER_PROTOCOL || bs->drv->protocol_name);
}

/* The plain name of a driver that has no opinion of its own. */
static char *default_exact_filename(BlockDriverState *bs, bool own_options)
{
    BlockDriverState *primary = bdrv_primary_bs(bs);

    if (!primary || own_options) {
        return g_strdup("");
    }
    if (bs->drv->kind == BLOCK_DRIVER_FILTER) {
        /* A job's filter goes by the name of what it stands for; one that a user put
         * there can only be had by naming it. */
        return g_strdup(bs->drv->schema_driver == BLOCKDEV_DRIVER__MAX ? primary->exact_filename : "");
    }
    /* A name is opened as a format over a protocol. */
    return g_strdup(is_named_as_protocol(primary) ? primary->exact_filename : "");
}

static void refresh_exact_filename(BlockDriverState *bs, bool own_options)
{
    BlockDriverState *primary = bdrv_primary_bs(bs);
    bool deep = bs->drv->kind == BLOCK_DRIVER_FORMAT && primary && primary->drv &&
                !is_named_as_protocol(primary);

    if (bs->drv->refresh_filename && !deep) {
        bs->drv->refresh_filename(bs);
    } else {
        g_free(bs->exact_filename);
        bs->exact_filename = default_exact_filename(bs, own_options);
    }
    if (!bs->exact_filename || backing_is_overridden(bs)) {
        g_free(bs->exact_filename);
        bs->exact_filename = g_strdup("");
    }
}

static char *shown_filename(BlockDriverState *bs)
{
    BlockDriverState *filtered = bdrv_filter_bs(bs);
    g_autofree char *json = NULL;

    if (*bs->exact_filename) {
        return g_strdup(bs->exact_filename);
    }
    if (filtered && bs->drv->schema_driver == BLOCKDEV_DRIVER__MAX) {
        return g_strdup(filtered->filename);
    }
    json = json_to_str(bs->full_options, false);
    return g_strconcat("json:", json, NULL);
}

bool graph_filename_refresh(BlockDriverState *bs)
{
    g_autofree char *old_exact = g_strdup(bs->exact_filename);
    g_autofree char *old_shown = bs->filename;
    g_autoptr(QDict) old_options = bs->full_options;
    bool own_options;

    bs->full_options = full_options(bs, &own_options);
    refresh_exact_filename(bs, own_options);
    bs->filename = shown_filename(bs);
    /* Parents look at all three. A chain of plain names stops here at the second look. */
    return g_strcmp0(old_exact, bs->exact_filename) || g_strcmp0(old_shown, bs->filename) ||
           !qdict_equal(old_options, bs->full_options);
}

void bdrv_refresh_filename(BlockDriverState *bs)
{
    if (bs->drv && graph_filename_refresh(bs)) {
        graph_refresh_parents(bs);
    }
}

/* ---- paths ---- */

bool path_has_protocol(const char *path)
{
    size_t n = strcspn(path, ":/");

    return path[n] == ':';
}

char *path_combine(const char *base_path, const char *filename)
{
    const char *slash;

    if (*filename == '/' || path_has_protocol(filename)) {
        return g_strdup(filename);
    }
    slash = strrchr(base_path, '/');
    return slash ? g_strdup_printf("%.*s/%s", (int)(slash - base_path), base_path, filename)
                 : g_strdup(filename);
}

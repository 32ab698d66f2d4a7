/* SPDX-License-Identifier: MIT */
/* filename.c: what a node is called for people: a plain file name where that opens the same,
 * else json:{...} with its options.
 */
#include "graph/graph_private.h"
#include "graph/filename.h"

/* Options that say how, not what: they do not belong into a name. */
static const char *const generic[] = {
    "node-name", "discard", "cache", "read-only", "auto-read-only", "force-share", "detect-zeroes",
    "latency-ns", "aio", "locking", "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other", "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
};

static QDict *full_options(BlockDriverState *bs)
{
    QDict *d = qdict_new();
    json_object *o = bs->options;
    BdrvChild *c;

    qdict_put_str(d, "driver", bs->drv->format_name);
    if (o) {
        json_object_object_foreach(o, key, value) {
            bool skip = !strcmp(key, "driver");

            for (size_t i = 0; i < G_N_ELEMENTS(generic); i++) {
                skip |= !strcmp(key, generic[i]);
            }
            LIST_FOREACH(c, &bs->children, next) {
                skip |= !strcmp(key, c->name);
            }
            if (!skip) {
                qdict_put_obj(d, key, json_object_get(value));
            }
        }
    }
    LIST_FOREACH(c, &bs->children, next) {
        bool from_header = (c->role & BDRV_CHILD_COW) && !(o && qdict_haskey(o, c->name));

        if (!from_header && c->bs->drv) {
            qdict_put_obj(d, c->name, full_options(c->bs));
        }
    }
    return d;
}

void bdrv_refresh_filename(BlockDriverState *bs)
{
    if (!bs->drv) {
        return;
    }
    BlockDriverState *primary = bdrv_primary_bs(bs);
    bool internal = bs->drv->schema_driver == BLOCKDEV_DRIVER__MAX;

    g_free(bs->exact_filename);
    bs->exact_filename = NULL;
    if (bs->drv->refresh_filename) {
        bs->drv->refresh_filename(bs);
    } else if (primary) {
        bs->exact_filename = g_strdup(primary->exact_filename);
    }
    g_free(bs->filename);
    if (internal && primary) {
        bs->filename = g_strdup(primary->filename);     /* a job's filter has no name of its own */
        return;
    }
    if (bs->exact_filename && *bs->exact_filename) {
        bs->filename = g_strdup(bs->exact_filename);
        return;
    }
    QDict *d = full_options(bs);
    g_autofree char *text = json_to_str(d, false);

    qdict_unref(d);
    bs->filename = g_strconcat("json:", text, NULL);
}

bool path_has_protocol(const char *path)
{
    const char *colon = strchr(path, ':'), *slash = strchr(path, '/');

    return colon && (!slash || colon < slash);
}

char *path_combine(const char *base_path, const char *filename)
{
    if (*filename == '/' || path_has_protocol(filename)) {
        return g_strdup(filename);
    }
    const char *slash = strrchr(base_path, '/');

    return slash ? g_strdup_printf("%.*s/%s", (int)(slash - base_path), base_path, filename)
                 : g_strdup(filename);
}

/* SPDX-License-Identifier: MIT */
/* cmd_bitmap.c: bitmaps stored in images: list, add, remove, clear, enable, disable, merge. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "base/size.h"
#include "base/str.h"
#include "block/dirty-bitmap.h"
#include "qapi-types.h"

typedef struct BitmapCall {
    OpsSource src, other;       /* other.name NULL: bitmaps are merged from the image itself */
    const char *verb, *name;
    const char **from;          /* of merge */
    int n_from;
    uint64_t granularity;       /* bytes; 0: not said */
    bool disabled, dry, json;
} BitmapCall;

static const char *const verbs[] = { "list", "add", "remove", "clear", "enable", "disable", "merge", NULL };

/* ---- list ---- */

static const char *state_of(const BdrvDirtyBitmap *b)
{
    return bdrv_dirty_bitmap_inconsistent(b) ? "lost" : bdrv_dirty_bitmap_enabled((BdrvDirtyBitmap *)b) ? "recording"
                                                                                                      : "disabled";
}

static QDict *bitmap_json(BdrvDirtyBitmap *b)
{
    QDict *d = qdict_new();
    bool lost = bdrv_dirty_bitmap_inconsistent(b);

    qdict_put_str(d, "name", bdrv_dirty_bitmap_name(b));
    qdict_put_int(d, "granularity", bdrv_dirty_bitmap_granularity(b));
    qdict_put_bool(d, "recording", !lost && bdrv_dirty_bitmap_enabled(b));
    if (lost) {
        qdict_put_bool(d, "inconsistent", true);
    } else {
        qdict_put_int(d, "count", bdrv_get_dirty_count(b));
    }
    return d;
}

static void list(const BitmapCall *c, BlockDriverState *bs)
{
    QDict *all = c->json ? qlist_new() : NULL;
    bool any = false;

    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (!bdrv_dirty_bitmap_name(b) || !bdrv_dirty_bitmap_get_persistence(b)) {
            continue;
        }
        if (c->json) {
            qlist_append(all, bitmap_json(b));
            continue;
        }
        if (!any) {
            printf("%-24s %-11s %-10s %s\n", "NAME", "GRANULARITY", "STATE", "MARKED");
            any = true;
        }
        g_autofree char *bit = size_to_str(bdrv_dirty_bitmap_granularity(b));
        g_autofree char *marked = bdrv_dirty_bitmap_inconsistent(b) ? g_strdup("-") : size_to_str(bdrv_get_dirty_count(b));

        printf("%-24s %-11s %-10s %s\n", bdrv_dirty_bitmap_name(b), bit, state_of(b), marked);
    }
    if (c->json) {
        cli_print_json(all);
    } else if (!any) {
        printf("no bitmaps\n");
    }
}

/* ---- changes ---- */

/* The one that is meant; @lost_too: also if it is only good for being removed. */
static BdrvDirtyBitmap *find(const OpsSource *src, BlockDriverState *bs, const char *name, bool lost_too, Error **errp)
{
    BdrvDirtyBitmap *b = bdrv_find_dirty_bitmap(bs, name);

    if (!b) {
        error_setg(errp, "'%s' has no bitmap by the name of '%s'", src->name, name);
        error_append_hint(errp, "`liveblk bitmap %s` lists them.\n", src->name);
        return NULL;
    }
    if (!lost_too && bdrv_dirty_bitmap_inconsistent(b)) {
        error_setg(errp, "What bitmap '%s' of '%s' marked is lost: the image was not closed properly", name, src->name);
        error_append_hint(errp, "All one can do is to remove it, and to begin with a full copy.\n");
        return NULL;
    }
    return b;
}

static int coroutine_fn merge(BitmapCall *c, BdrvDirtyBitmap *to, BlockDriverState *bs, Error **errp)
{
    BlockBackend *blk = c->other.name ? ops_open(&c->other, errp) : NULL;
    int64_t length = bdrv_getlength_cached(bs);
    int ret = 0;

    if (c->other.name && !blk) {
        return -EIO;
    }
    const OpsSource *src = blk ? &c->other : &c->src;

    /* Found first, so that all of them are merged or none. */
    for (int i = 0; i < c->n_from && !ret; i++) {
        ret = find(src, blk ? blk_bs(blk) : bs, c->from[i], false, errp) ? 0 : -ENOENT;
    }
    if (!ret && blk && bdrv_getlength_cached(blk_bs(blk)) != length) {
        error_setg(errp, "'%s' and '%s' differ in size: their bitmaps do not go together", c->other.name, c->src.name);
        ret = -EINVAL;
    }
    for (int i = 0; i < c->n_from && !ret && !c->dry; i++) {
        ops_bitmap_mark(to, find(src, blk ? blk_bs(blk) : bs, c->from[i], false, &error_abort), length);
    }
    blk_unref(blk);
    return ret;
}

static int coroutine_fn change(BitmapCall *c, BlockDriverState *bs, Error **errp)
{
    if (!strcmp(c->verb, "add")) {
        if (c->dry) {
            return ops_bitmap_can_add(bs, c->name, &c->granularity, errp);
        }
        BdrvDirtyBitmap *b = ops_bitmap_add(bs, c->name, c->granularity, errp);

        if (b && c->disabled) {
            bdrv_disable_dirty_bitmap(b);
        }
        return b ? 0 : -EINVAL;
    }
    bool remove = !strcmp(c->verb, "remove");
    BdrvDirtyBitmap *b = find(&c->src, bs, c->name, remove, errp);

    if (!b) {
        return -ENOENT;
    }
    if (!strcmp(c->verb, "merge")) {
        return merge(c, b, bs, errp);
    }
    if (c->dry) {
        return 0;
    }
    if (remove) {
        int ret = bdrv_remove_persistent_dirty_bitmap(bs, c->name, errp);

        if (ret == 0) {
            bdrv_release_dirty_bitmap(b);
        }
        return ret;
    }
    if (!strcmp(c->verb, "clear")) {
        bdrv_clear_dirty_bitmap(b);
    } else if (!strcmp(c->verb, "enable")) {
        bdrv_enable_dirty_bitmap(b);
    } else {
        bdrv_disable_dirty_bitmap(b);
    }
    return 0;
}

static int coroutine_fn bitmap_op(void *opaque, Error **errp)
{
    BitmapCall *c = opaque;
    BlockBackend *blk = ops_open(&c->src, errp);
    int ret = 0;

    if (!blk) {
        return -EIO;
    }
    BlockDriverState *bs = blk_bs(blk);

    if (!ops_stores_bitmaps(bs)) {
        error_setg(errp, "'%s' has format %s, which stores no bitmaps", c->src.name, bs->drv->format_name);
        error_append_hint(errp, "Images of format qcow2 do (not version 2): liveblk convert %s NEW.qcow2\n", c->src.name);
        ret = -ENOTSUP;
    } else if (!strcmp(c->verb, "list")) {
        list(c, bs);
    } else {
        ret = change(c, bs, errp);
        if (ret == 0) {
            ret = ops_bitmaps_store(blk, errp);
        }
    }
    blk_unref(blk);
    return ret;
}

static void print_result(const CliArgs *a, const BitmapCall *c)
{
    static const char *const done[][2] = {
        { "add", "added" }, { "remove", "removed" }, { "clear", "cleared" }, { "enable", "enabled" },
        { "disable", "disabled" }, { "merge", "merged into" },
    };

    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c->src.name);
        qdict_put_str(d, "name", c->name);
        if (c->dry) {
            qdict_put_bool(d, "dry-run", true);
        }
        cli_print_json(d);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(done) && !a->quiet; i++) {
        if (!strcmp(c->verb, done[i][0])) {
            printf("%s%s bitmap %s of %s\n", c->dry ? "would have " : "", done[i][1], c->name, c->src.name);
        }
    }
}

/* What does not go together; CLI_OK, or CLI_USAGE after saying so. */
static int check(const CliArgs *a, const BitmapCall *c)
{
    bool add = !strcmp(c->verb, "add"), is_merge = !strcmp(c->verb, "merge"), is_list = !strcmp(c->verb, "list");

    if (!g_strv_contains(verbs, c->verb)) {
        const char *near = str_closest(c->verb, verbs);

        return near ? cli_usage("'%s' is not a verb of bitmap; did you mean '%s'?", c->verb, near)
                    : cli_usage("'%s' is not list, add, remove, clear, enable, disable or merge", c->verb);
    }
    if (is_list != !c->name) {
        return cli_usage(is_list ? "list takes no bitmap" : "say which bitmap to %s", c->verb);
    }
    if (is_merge != (c->n_from > 0)) {
        return cli_usage(is_merge ? "say which bitmaps to merge into %s" : "only merge takes more than one bitmap", c->name);
    }
    if (!add && (c->granularity || c->disabled)) {
        return cli_usage("--granularity and --disabled are for add");
    }
    if (!is_merge && (c->other.name || c->other.format)) {
        return cli_usage("--from and --from-format are for merge");
    }
    if (c->other.format && !c->other.name) {
        return cli_usage("--from-format is the format of the image that --from names");
    }
    if (!is_list && c->src.force_share) {
        return cli_usage("%s needs the image for itself; leave out --force-share", c->verb);
    }
    return CLI_OK;
}

int cli_bitmap(CliArgs *a)
{
    BitmapCall c = { .src = cli_source(a, 0), .verb = cli_arg(a, 1) ? cli_arg(a, 1) : "list", .name = cli_arg(a, 2),
                     .granularity = cli_get_size(a, "granularity", 0), .disabled = cli_has(a, "disabled"),
                     .other = { .name = cli_get(a, "from"), .format = cli_get(a, "from-format") },
                     .dry = cli_has(a, "dry-run"), .json = a->json };
    Error *err = NULL;

    if (a->args->len > 3) {
        c.from = (const char **)a->args->pdata + 3;
        c.n_from = a->args->len - 3;
    }
    int ret = check(a, &c);

    if (ret) {
        return ret;
    }
    bool writes = strcmp(c.verb, "list") && !c.dry;

    c.src.writable = c.src.resize = writes;
    cli_engine_start();
    ret = ops_run(bitmap_op, &c, &err);
    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (strcmp(c.verb, "list")) {
        print_result(a, &c);
    }
    return CLI_OK;
}

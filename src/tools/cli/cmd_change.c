/* SPDX-License-Identifier: MIT */
/* cmd_change.c: commands that change an image in place: resize, rebase, commit. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "base/size.h"
#include "qapi-types.h"

/* ---- resize ---- */

typedef struct ResizeCall {
    OpsSource src;
    char sign;                  /* '+', '-': relative */
    uint64_t size;
    bool shrink, dry;
    PreallocMode prealloc;
    int64_t before, after;
} ResizeCall;

static int coroutine_fn resize_open(ResizeCall *c, BlockBackend *blk, Error **errp)
{
    bool over;

    c->before = blk_co_getlength(blk);
    if (c->before < 0) {
        error_setg_errno(errp, -c->before, "Could not get the size of '%s'", c->src.name);
        return c->before;
    }
    c->after = c->size;
    over = c->size > INT64_MAX ||
           (c->sign == '+' && __builtin_add_overflow(c->before, (int64_t)c->size, &c->after)) ||
           (c->sign == '-' && (c->after = c->before - (int64_t)c->size) < 0);
    if (over) {
        error_setg(errp, "'%s' has %" PRId64 " bytes: that change is not possible", c->src.name, c->before);
        return -EINVAL;
    }
    if (c->after < c->before && !c->shrink) {
        error_setg(errp, "'%s' would lose all that lies behind byte %" PRId64, c->src.name, c->after);
        error_append_hint(errp, "Say --shrink if that is what you want; make the file system in it smaller first.\n");
        return -EINVAL;
    }
    if (c->after <= c->before && c->prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "--preallocation is for images that grow");
        return -EINVAL;
    }
    return c->dry ? 0 : blk_co_truncate(blk, c->after, true, c->prealloc, 0, errp);
}

static int coroutine_fn resize_op(void *opaque, Error **errp)
{
    ResizeCall *c = opaque;
    BlockBackend *blk = ops_open(&c->src, errp);
    int ret = blk ? resize_open(c, blk, errp) : -EIO;

    blk_unref(blk);
    return ret;
}

int cli_resize(CliArgs *a)
{
    const char *text = cli_arg(a, 1), *prealloc = cli_get(a, "preallocation");
    ResizeCall c = { .src = cli_source(a, 0), .shrink = cli_has(a, "shrink"), .dry = cli_has(a, "dry-run"),
                     .prealloc = prealloc ? qapi_enum_parse(&qapi_type_PreallocMode, prealloc) : PREALLOC_MODE_OFF };
    Error *err = NULL;

    c.src.writable = c.src.resize = true;
    c.sign = *text == '+' || *text == '-' ? *text : 0;
    if (size_parse(text + (c.sign != 0), 1, &c.size) < 0) {
        return cli_usage("'%s' is not a size; write 10G, +5G, or -1G (after --)", text);
    }
    cli_engine_start();
    int ret = ops_run(resize_op, &c, &err);

    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c.src.name);
        qdict_put_int(d, "virtual-size-before", c.before);
        qdict_put_int(d, "virtual-size", c.after);
        if (c.dry) {
            qdict_put_bool(d, "dry-run", true);
        }
        cli_print_json(d);
    } else if (!a->quiet) {
        printf("%s %s from %" PRId64 " to %" PRId64 " bytes\n", c.dry ? "would resize" : "resized", c.src.name, c.before,
               c.after);
    }
    return CLI_OK;
}

/* ---- rebase ---- */

typedef struct RebaseCall {
    OpsSource src;
    const char *backing, *backing_format;       /* backing NULL: none */
    bool unsafe, dry;
    OpsRebase r;
} RebaseCall;

static int coroutine_fn copy_different(RebaseCall *c, BlockDriverState *bs, Error **errp)
{
    BlockDriverState *old = bdrv_backing_chain_next(bs);
    int ret = 0;

    if (old) {
        c->r.old_backing = blk_new_with_bs(old, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, errp);
        ret = c->r.old_backing ? 0 : -EPERM;
    }
    if (ret == 0 && c->backing) {
        g_autofree char *path = ops_backing_path(bs->exact_filename, c->backing);
        OpsSource src = { .name = path, .format = c->backing_format };

        c->r.new_backing = ops_open(&src, errp);
        ret = c->r.new_backing ? 0 : -EIO;
    }
    if (ret == 0) {
        c->r.common = ops_find_common(old, c->r.new_backing);
        ret = c->dry ? 0 : ops_rebase(&c->r, errp);
    }
    blk_unref(c->r.old_backing);
    blk_unref(c->r.new_backing);
    return ret;
}

static int coroutine_fn rebase_op(void *opaque, Error **errp)
{
    RebaseCall *c = opaque;
    BlockBackend *blk = ops_open(&c->src, errp);
    int ret = 0;

    if (!blk) {
        return -EIO;
    }
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));

    if (!bs->drv->supports_backing) {
        error_setg(errp, "'%s' has format %s, which knows no backing images", c->src.name, bs->drv->format_name);
        ret = -ENOTSUP;
    } else if (!c->unsafe) {
        c->r.overlay = blk;
        ret = copy_different(c, bs, errp);
    }
    if (ret == 0 && !c->dry) {
        ret = bdrv_change_backing_file(bs, c->backing, c->backing_format, errp);
    }
    blk_unref(blk);
    return ret;
}

int cli_rebase(CliArgs *a)
{
    RebaseCall c = { .src = cli_source(a, 0), .backing = cli_get(a, "backing"),
                     .backing_format = cli_get(a, "backing-format"), .unsafe = cli_has(a, "only-name"), .dry = cli_has(a, "dry-run") };
    Error *err = NULL;

    if (!c.backing == !cli_has(a, "flatten")) {
        return cli_usage("say what is to lie below: --backing IMAGE, or --flatten for nothing");
    }
    if (c.backing && !c.backing_format) {
        return cli_usage("the format of the backing image is not given: --backing-format=qcow2 (or raw)");
    }
    if (c.unsafe && !c.backing) {
        return cli_usage("--only-name with --flatten would lose what lies below");
    }
    c.src.writable = !c.dry;
    c.src.no_backing = c.unsafe;
    cli_engine_start();
    CliWatch w;

    cli_watch_begin(&w, a, "rebase");
    c.r.progress = &w.progress;
    int ret = ops_run(rebase_op, &c, &err);

    cli_watch_end(&w);
    cli_engine_stop();
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c.src.name);
        if (c.backing) {
            qdict_put_str(d, "backing-filename", c.backing);
            qdict_put_str(d, "backing-filename-format", c.backing_format);
        }
        if (c.dry) {
            qdict_put_bool(d, "dry-run", true);
        }
        cli_print_json(d);
    } else if (c.dry) {
        printf("would put %s below %s%s\n", c.backing ? c.backing : "nothing", c.src.name,
               c.unsafe ? ", only by name" : "");
    }
    return CLI_OK;
}

/* ---- commit ---- */

typedef struct CommitCall {
    OpsSource src;
    const char *base;
    char *base_name;
    bool dry;
    OpsCommit c;
} CommitCall;

static int coroutine_fn commit_op(void *opaque, Error **errp)
{
    CommitCall *call = opaque;
    int ret = -EINVAL;

    call->c.top = ops_open(&call->src, errp);
    if (!call->c.top) {
        return -EIO;
    }
    BlockDriverState *top = blk_bs(call->c.top);

    call->c.base = call->base ? ops_find_backing(top, call->base) : bdrv_backing_chain_next(bdrv_skip_filters(top));
    if (call->c.base) {
        call->base_name = g_strdup(call->c.base->filename);
        ret = call->dry ? 0 : ops_commit(&call->c, errp);
    } else if (call->base) {
        error_setg(errp, "'%s' is not below '%s'", call->base, call->src.name);
        error_append_hint(errp, "`liveblk info --chain` tells what is.\n");
    } else {
        error_setg(errp, "'%s' has no backing image", call->src.name);
    }
    blk_unref(call->c.top);
    return ret;
}

int cli_commit(CliArgs *a)
{
    CommitCall c = { .src = cli_source(a, 0), .base = cli_get(a, "base"), .dry = cli_has(a, "dry-run"),
                     .c = { .rate = cli_get_size(a, "speed", 0) } };
    Error *err = NULL;

    c.src.writable = true;
    c.c.empty = !c.base && !cli_has(a, "keep");
    cli_engine_start();
    CliWatch w;

    cli_watch_begin(&w, a, "commit");
    c.c.progress = &w.progress;
    int ret = ops_run(commit_op, &c, &err);

    cli_watch_end(&w);
    cli_engine_stop();
    if (ret < 0) {
        g_free(c.base_name);
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c.src.name);
        qdict_put_str(d, "base", c.base_name);
        qdict_put_bool(d, "emptied", c.c.empty && !c.dry);
        if (c.dry) {
            qdict_put_bool(d, "dry-run", true);
        }
        cli_print_json(d);
    } else if (c.dry) {
        printf("would write what %s has of its own into %s%s\n", c.src.name, c.base_name,
               c.c.empty ? ", and empty it" : "");
    }
    g_free(c.base_name);
    return CLI_OK;
}

/* SPDX-License-Identifier: MIT */
/* cmd_amend.c: change what an image's header says of its format. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "base/str.h"

static const char *const keys[] = { "version", "lazy-refcounts", "refcount-bits", "data-file-raw", "new-secret",
                                    "old-secret", "keyslot", "iter-time", NULL };

typedef struct AmendCall {
    OpsSource src;
    BdrvAmendOptions o;
    bool dry;
} AmendCall;

static int take_bool(const char *key, const char *value, bool *has, bool *on)
{
    *has = true;
    *on = !strcmp(value, "on") || !strcmp(value, "true") || !strcmp(value, "yes");
    if (!*on && strcmp(value, "off") && strcmp(value, "false") && strcmp(value, "no")) {
        return cli_usage("%s: '%s' is not on or off", key, value);
    }
    return CLI_OK;
}

static int take_pair(BdrvAmendOptions *o, const char *key, const char *value)
{
    if (!strcmp(key, "version")) {
        o->version = !strcmp(value, "v3") || !strcmp(value, "3") ? 3 : !strcmp(value, "v2") || !strcmp(value, "2") ? 2 : 0;
        return o->version ? CLI_OK : cli_usage("version: '%s' is not v2 or v3", value);
    }
    if (!strcmp(key, "lazy-refcounts")) {
        return take_bool(key, value, &o->has_lazy_refcounts, &o->lazy_refcounts);
    }
    if (!strcmp(key, "data-file-raw")) {
        return take_bool(key, value, &o->has_data_file_raw, &o->data_file_raw);
    }
    if (!strcmp(key, "refcount-bits")) {
        static const char *const widths[] = { "1", "2", "4", "8", "16", "32", "64", NULL };

        o->refcount_bits = g_strv_contains(widths, value) ? atoi(value) : -1;
        return o->refcount_bits > 0 ? CLI_OK : cli_usage("refcount-bits: '%s' is not 1, 2, 4, 8, 16, 32 or 64", value);
    }
    if (!strcmp(key, "new-secret") || !strcmp(key, "old-secret")) {
        o->encrypt = o->encrypt ? o->encrypt : qdict_new();
        qdict_put_str(o->encrypt, key, value);
        return CLI_OK;
    }
    if (!strcmp(key, "keyslot") || !strcmp(key, "iter-time")) {
        char *end;
        uint64_t n = g_ascii_strtoull(value, &end, 10);

        if (end == value || *end || n > INT32_MAX) {
            return cli_usage("%s: '%s' is not a number", key, value);
        }
        o->encrypt = o->encrypt ? o->encrypt : qdict_new();
        qdict_put_int(o->encrypt, key, n);
        return CLI_OK;
    }
    const char *near = str_closest(key, keys);

    if (!strcmp(key, "size")) {
        return cli_usage("the size is changed by `liveblk resize`");
    }
    if (g_str_has_prefix(key, "backing")) {
        return cli_usage("the backing image is changed by `liveblk rebase`");
    }
    return near ? cli_usage("'%s' cannot be changed; did you mean '%s'?", key, near)
                : cli_usage("'%s' cannot be changed; these can: version, lazy-refcounts, refcount-bits, data-file-raw", key);
}

static int take_list(BdrvAmendOptions *o, const char *text)
{
    g_auto(GStrv) pairs = g_strsplit(text, ",", -1);
    int ret = CLI_OK;

    for (char **p = pairs; *p && !ret; p++) {
        char *value = strchr(*p, '=');

        if (!value) {
            return cli_usage("'%s' is not KEY=VALUE", *p);
        }
        *value++ = 0;
        ret = take_pair(o, *p, value);
    }
    return ret;
}

static int coroutine_fn amend_op(void *opaque, Error **errp)
{
    AmendCall *c = opaque;
    BlockBackend *blk = ops_open(&c->src, errp);
    int ret;

    if (!blk) {
        return -EIO;
    }
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));

    if (!bs->drv->co_amend && !bs->drv->co_amend_keys) {
        error_setg(errp, "'%s' has format %s, whose images have nothing to amend", c->src.name, bs->drv->format_name);
        ret = -ENOTSUP;
    } else {
        ret = c->dry ? 0 : bdrv_co_amend(bs, &c->o, errp);
    }
    blk_unref(blk);
    return ret;
}

int cli_amend(CliArgs *a)
{
    AmendCall c = { .src = cli_source(a, 0), .o = { .refcount_bits = -1, .size = -1 }, .dry = cli_has(a, "dry-run") };
    const char *options = cli_get(a, "option");
    Error *err = NULL;
    int ret;

    if (!options) {
        return cli_usage("say what is to change: -o version=v3");
    }
    ret = take_list(&c.o, options);
    if (ret) {
        qdict_unref(c.o.encrypt);
        return ret;
    }
    c.o.force = cli_has(a, "force");
    if (c.o.encrypt) {
        qdict_put_str(c.o.encrypt, "state", qdict_haskey(c.o.encrypt, "new-secret") ? "active" : "inactive");
    }
    c.src.writable = c.src.resize = !c.dry;
    c.src.no_backing = true;
    cli_engine_start();
    ret = ops_run(amend_op, &c, &err);
    cli_engine_stop();
    qdict_unref(c.o.encrypt);
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "filename", c.src.name);
        if (c.dry) {
            qdict_put_bool(d, "dry-run", true);
        }
        cli_print_json(d);
    } else if (!a->quiet) {
        printf("%s %s: %s\n", c.dry ? "would amend" : "amended", c.src.name, options);
    }
    return CLI_OK;
}

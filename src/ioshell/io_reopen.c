/* SPDX-License-Identifier: MIT */
/* io_reopen.c: reopen: change the options of the image that is open. */
#include "base/size.h"
#include "ioshell/ioshell_private.h"

typedef struct ReopenOptions {
    bool read_only, writable;
    const char *cache;          /* NULL: as it is */
    QDict *set;                 /* nested; values may be strings */
} ReopenOptions;

static bool cache_options(IoShell *s, const char *mode, QDict *set, bool *writethrough)
{
    static const struct {
        const char *name;
        bool direct, no_flush, writethrough;
    } modes[] = {
        { "none", true, false, false }, { "off", true, false, false }, { "directsync", true, false, true },
        { "writeback", false, false, false }, { "unsafe", false, true, false }, { "writethrough", false, false, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(mode, modes[i].name)) {
            QDict *cache = qdict_new();

            qdict_put_bool(cache, "direct", modes[i].direct);
            qdict_put_bool(cache, "no-flush", modes[i].no_flush);
            qdict_put_obj(set, "cache", cache);
            *writethrough = modes[i].writethrough;
            return true;
        }
    }
    ioshell_error(s, "Invalid cache option: %s", mode);
    return false;
}

/* "key=value,..." into @set. A word alone switches something on, as of old. */
static bool add_options(IoShell *s, const char *text, QDict *set)
{
    Error *err = NULL;
    bool help;
    g_autofree char *completed = NULL;

    if (!strchr(text, '=')) {
        ioshell_error(s, "warning: short-form boolean option '%s' deprecated", text);
        ioshell_eprint(s, "Please use %s=on instead\n", text);
        completed = g_strconcat(text, "=on", NULL);
        text = completed;
    }
    g_autoptr(QDict) d = qdict_from_keyval(text, NULL, &help, &err);

    if (!d) {
        ioshell_error_err(s, NULL, err);
        return false;
    }
    qdict_join(set, d, true);
    return true;
}

/* ---- old options and new ones together ---- */

/* As key=value options have it: every scalar a string. A null is left out, but noted. */
static QDict *as_strings(QDict *v)
{
    bool on;

    if (qdict_type(v) == QTYPE_QDICT) {
        QDict *out = qdict_new();

        json_object_object_foreach(v, key, member) {
            if (member) {
                qdict_put_obj(out, key, as_strings(member));
            }
        }
        return out;
    }
    if (qdict_type(v) == QTYPE_QLIST) {
        QDict *out = qlist_new();

        for (size_t i = 0; i < qlist_size(v); i++) {
            qlist_append(out, as_strings(qlist_get(v, i)));
        }
        return out;
    }
    if (qstring_get(v)) {
        return qdict_ref(v);
    }
    if (qbool_get(v, &on)) {
        return qstring_new(on ? "on" : "off");
    }
    g_autofree char *text = json_to_str(v, false);

    return qstring_new(text);
}

static void merge(QDict *old, QDict *set)
{
    json_object_object_foreach(set, key, value) {
        QDict *below = qdict_get_qdict(old, key);

        if (below && qdict_type(value) == QTYPE_QDICT) {
            merge(below, value);
        } else {
            qdict_put_obj(old, key, qdict_ref(value));
        }
    }
}

static int sizes_of_node(QDict *d, Error **errp);

/* Sizes come with units: "64k". Elsewhere whole numbers do not. */
static int size_of_member(QDict *d, const char *key, QDict *value, const QapiType *t, Error **errp)
{
    const char *text = qstring_get(value);
    uint64_t bytes;

    if (t->kind == QAPI_ALTERNATE && qdict_type(value) == QTYPE_QDICT && qdict_haskey(value, "driver")) {
        return sizes_of_node(value, errp);
    }
    if (!text || (t->kind != QAPI_INT && t->kind != QAPI_UINT && t->kind != QAPI_SIZE)) {
        return 0;
    }
    if (*text != '-' && size_parse(text, 1, &bytes) < 0) {
        error_setg(errp, "Parameter '%s' expects a non-negative number below 2^64", key);
        error_append_hint(errp, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                          "and exabytes, respectively.\n");
        return -EINVAL;
    }
    if (*text != '-') {
        g_autofree char *plain = g_strdup_printf("%" PRIu64, bytes);

        qdict_put_str(d, key, plain);
    }
    return 0;
}

static int sizes_of_struct(QDict *d, const QapiType *t, Error **errp)
{
    for (int i = 0; t && i < t->n_members; i++) {
        const char *name = t->members[i].name;
        QDict *value = qdict_get(d, name);
        int ret = value ? size_of_member(d, name, value, t->members[i].type, errp) : 0;

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* @d holds strings; the options of a node. */
static int sizes_of_node(QDict *d, Error **errp)
{
    int driver = qapi_enum_parse(&qapi_type_BlockdevDriver, qdict_get_try_str(d, "driver"));

    return driver < 0 ? 0 : sizes_of_struct(d, qapi_type_BlockdevOptions.variants[driver], errp);
}

static bool has_member(const QapiType *t, const char *name)
{
    for (int i = 0; t && i < t->n_members; i++) {
        if (!strcmp(t->members[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* Every option must be one that the node has. */
static int check_known(BlockDriverState *bs, QDict *set, Error **errp)
{
    const QapiType *t = &qapi_type_BlockdevOptions;

    json_object_object_foreach(set, key, value) {
        if (!has_member(t, key) && !has_member(t->variants[bs->drv->schema_driver], key)) {
            error_setg(errp, "Cannot change the option '%s'", key);
            return -EINVAL;
        }
    }
    return 0;
}

/* All options of @bs with those of @set in them, typed; NULL and *errp. */
static QDict *merged_options(BlockDriverState *bs, QDict *set, Error **errp)
{
    bool no_backing = qdict_haskey(bs->options, "backing") && !qdict_get(bs->options, "backing") &&
                      !qdict_haskey(set, "backing");

    if (bs->drv->schema_driver == BLOCKDEV_DRIVER__MAX) {
        error_setg(errp, "Node '%s' belongs to a job", bdrv_get_node_name(bs));
        return NULL;
    }
    if (check_known(bs, set, errp) < 0) {
        return NULL;
    }
    g_autoptr(QDict) all = as_strings(bs->options), given = as_strings(set);

    merge(all, given);
    if (sizes_of_node(all, errp) < 0) {
        return NULL;
    }
    BlockdevOptions *o = qapi_from_json(&qapi_type_BlockdevOptions, all, true, errp);
    QDict *typed = o ? qapi_to_json(&qapi_type_BlockdevOptions, o) : NULL;

    qapi_free(&qapi_type_BlockdevOptions, o);
    if (typed && no_backing) {
        qdict_put_null(typed, "backing");
    }
    return typed;
}

/* ---- the command ---- */

static int coroutine_fn reopen_now(IoShell *s, QDict *set, Error **errp)
{
    BlockDriverState *bs = blk_bs(s->blk);
    QDict *options;
    int ret = -EINVAL;

    control_co_lock();
    options = merged_options(bs, set, errp);
    if (options) {
        BdrvReopenItem item = { bs, options };

        ret = bdrv_reopen_multiple(&item, 1, errp);
    }
    control_co_unlock();
    return ret;
}

/* What is to be read-only is not written to any more: the right to goes first, and comes back if it
 * stays writable after all. */
static int coroutine_fn reopen_with_permissions(IoShell *s, QDict *set, bool read_only, Error **errp)
{
    uint64_t perm, shared;
    int ret = 0;

    blk_get_perm(s->blk, &perm, &shared);
    if (read_only) {
        ret = blk_set_perm(s->blk, perm & ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE),
                           shared, errp);
    }
    if (ret == 0) {
        ret = reopen_now(s, set, errp);
    }
    if (ret < 0 && read_only) {
        blk_set_perm(s->blk, perm, shared, NULL);
    }
    return ret;
}

static bool options_agree(IoShell *s, const ReopenOptions *r)
{
    const char *wrong = NULL;

    if (r->cache && qdict_haskey(r->set, "cache")) {
        wrong = "Cannot set both -c and the cache options";
    } else if ((r->read_only || r->writable) && qdict_haskey(r->set, "read-only")) {
        wrong = "Cannot set both -r/-w and 'read-only'";
    }
    if (wrong) {
        ioshell_error(s, "%s", wrong);
    }
    return !wrong;
}

static bool take_options(IoShell *s, const IoCommand *cmd, ReopenOptions *r, int argc, char **argv)
{
    IoOptions o = { 0 };
    bool fine = true;
    int c;

    while (fine && (c = ioshell_next_option(s, &o, argc, argv, "c:o:rw")) != -1) {
        switch (c) {
        case 'c': r->cache = o.arg; break;
        case 'o': fine = add_options(s, o.arg, r->set); break;
        case 'r': case 'w':
            fine = !r->read_only && !r->writable;
            *(c == 'r' ? &r->read_only : &r->writable) = true;
            if (!fine) {
                ioshell_error(s, "Only one -r/-w option may be given");
            }
            break;
        default:
            ioshell_usage(s, cmd);
            return false;
        }
    }
    if (fine && o.at != argc) {
        ioshell_usage(s, cmd);
        return false;
    }
    if (o.operands) {
        g_ptr_array_free(o.operands, true);
    }
    return fine && options_agree(s, r);
}

static int coroutine_fn reopen_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    g_autoptr(QDict) set = qdict_new();
    ReopenOptions r = { .set = set };
    bool writethrough = s->writethrough;
    Error *err = NULL;

    if (!take_options(s, cmd, &r, argc, argv) || (r.cache && !cache_options(s, r.cache, set, &writethrough))) {
        return -EINVAL;
    }
    if (r.read_only || r.writable) {
        qdict_put_bool(set, "read-only", r.read_only);
    }
    ioshell_co_wait_idle(s);
    int ret = reopen_with_permissions(s, set, r.read_only, &err);

    if (ret < 0) {
        ioshell_error_err(s, NULL, err);
    } else {
        s->writethrough = writethrough;
    }
    return ret;
}

const IoCommand io_reopen_commands[] = {
    { .name = "reopen", .run = reopen_run, .args_max = -1, .args = "[(-r|-w)] [-c cache] [-o options]",
      .oneline = "reopens an image with new options",
      .help = "\n -r  for reading only\n -w  for writing too\n -c  another cache mode\n"
              " -o  other options of the driver\n Example: reopen -o lazy-refcounts=on\n\n" },
    { 0 },
};

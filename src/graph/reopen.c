/* SPDX-License-Identifier: MIT */
/* reopen.c: change the options of live nodes, several at once, all or none.
 *
 * The steps, for all nodes together:
 *   1. queue     check the options against the schema, work out the new flags; children
 *                that were opened inline and so inherit follow their parent
 *   2. drain     all nodes concerned, old and new children too; flush what is written
 *   3. prepare   each driver, which checks its own options and gets ready (may suspend)
 *   4. edit      children that change, then permissions as the new flags have it
 *   5. commit    edges and permissions, then flags and options, then the drivers, files
 *                before the formats that write to them
 * On a failure the drivers that were prepared are told to abort, and the edit is undone.
 *
 * Runs on: the main thread, under the control lock.  Suspends: yes.
 */
#include "base/osdep.h"
#include "graph/graph_private.h"

typedef struct ReopenEntry {
    BDRVReopenState state;
    BlockdevOptions *opts;          /* owned; NULL: the driver is internal */
    bool keep_children;             /* only flags change */
    bool prepared;
} ReopenEntry;

struct BlockReopenQueue {
    GPtrArray *entries;             /* ReopenEntry, parents before their children */
};

static ReopenEntry *queue_find(BlockReopenQueue *q, BlockDriverState *bs)
{
    for (guint i = 0; i < q->entries->len; i++) {
        ReopenEntry *r = g_ptr_array_index(q->entries, i);

        if (r->state.bs == bs) {
            return r;
        }
    }
    return NULL;
}

int graph_reopen_flags(BlockDriverState *bs, BlockReopenQueue *queue)
{
    ReopenEntry *r = queue ? queue_find(queue, bs) : NULL;

    return r ? r->state.flags : bs->open_flags;
}

static void entry_free(void *opaque)
{
    ReopenEntry *r = opaque;

    qdict_unref(r->state.options);
    qapi_free_BlockdevOptions(r->opts);
    g_free(r);
}

/* ---- 1. queue ---- */

static int queue_add(BlockReopenQueue *q, BlockDriverState *bs, QDict *options, int inherited,
                     bool keep_children, Error **errp);

/* Where the options say nothing: the parent's word if the node was opened inline. */
static int inherited_flags(BlockDriverState *bs, BlockReopenQueue *q)
{
    BdrvChild *c;

    if (bs->inherits_options) {
        LIST_FOREACH(c, &bs->parents, next_parent) {
            BlockDriverState *parent = bdrv_child_parent_bs(c);

            if (parent) {
                return graph_child_flags(graph_reopen_flags(parent, q), c->role);
            }
        }
    }
    return BDRV_O_RDWR;
}

static int cannot_change(const char *option, Error **errp)
{
    error_setg(errp, "Cannot change the option '%s'", option);
    return -EINVAL;
}

static int check_identity(BlockDriverState *bs, const BlockdevOptions *o, int flags, Error **errp)
{
    if (!bs->drv || strcmp(BlockdevDriver_str(o->driver), bs->drv->format_name)) {
        return cannot_change("driver", errp);
    }
    if (o->node_name && strcmp(o->node_name, bs->node_name)) {
        return cannot_change("node-name", errp);
    }
    if (!(flags & BDRV_O_FORCE_SHARE) != !(bs->open_flags & BDRV_O_FORCE_SHARE)) {
        return cannot_change("force-share", errp);
    }
    return graph_check_detect_zeroes(o, flags, errp);
}

/* The child whose options stand inline in its parent's @ref. */
static int queue_inline_child(BlockReopenQueue *q, BdrvChild *c, QDict *ref, int flags, Error **errp)
{
    const char *driver = qdict_get_try_str(ref, "driver");

    if (!c->bs->inherits_options || g_strcmp0(driver, c->bs->drv->format_name)) {
        g_autofree char *option = g_strdup_printf("%s.driver", c->name);

        return cannot_change(option, errp);
    }
    return queue_add(q, c->bs, qdict_clone(ref), flags, false, errp);
}

/* A child that is left as it is takes over the flags its own options do not fix. */
static int queue_kept_child(BlockReopenQueue *q, BdrvChild *c, int flags, Error **errp)
{
    if (!c->bs->inherits_options || !c->bs->opened) {
        return 0;
    }
    return queue_add(q, c->bs, qdict_clone(c->bs->options), flags, true, errp);
}

static int queue_children(BlockReopenQueue *q, ReopenEntry *r, Error **errp)
{
    BdrvChild *c;
    int ret = 0;

    LIST_FOREACH(c, &r->state.bs->children, next) {
        QDict *ref = r->keep_children ? NULL : qdict_get(r->state.options, c->name);
        int flags = graph_child_flags(r->state.flags, c->role);

        if (queue_find(q, c->bs)) {
            continue;
        }
        if (ref && qdict_type(ref) == QTYPE_QDICT) {
            ret = queue_inline_child(q, c, ref, flags, errp);
        } else if (!ref || !strcmp(qstring_get(ref), c->bs->node_name)) {
            ret = queue_kept_child(q, c, flags, errp);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Takes over @options. */
static int queue_add(BlockReopenQueue *q, BlockDriverState *bs, QDict *options, int inherited,
                     bool keep_children, Error **errp)
{
    ReopenEntry *r = queue_find(q, bs);
    int ret;

    if (!r) {
        r = g_new0(ReopenEntry, 1);
        g_ptr_array_add(q->entries, r);
    }
    /* The same node again: the last word counts. */
    qdict_unref(r->state.options);
    g_clear_pointer(&r->opts, qapi_free_BlockdevOptions);
    r->state.bs = bs;
    r->state.options = options;
    r->state.flags = inherited;
    r->keep_children = keep_children;
    if (bs->drv && bs->drv->schema_driver != BLOCKDEV_DRIVER__MAX) {
        r->opts = qapi_from_json(&qapi_type_BlockdevOptions, options, false, errp);
        if (!r->opts) {
            return -EINVAL;
        }
        r->state.flags = graph_open_flags(r->opts, inherited);
        ret = check_identity(bs, r->opts, r->state.flags, errp);
        if (ret < 0) {
            return ret;
        }
    }
    r->state.opts = r->opts;
    return queue_children(q, r, errp);
}

/* ---- 2. drain ---- */

/* The node that option @name of @r asks for: *keep if that is what is there; *bs NULL: none. */
static int wanted_child(ReopenEntry *r, const char *name, BdrvChild *current, bool *keep,
                        BlockDriverState **bs, Error **errp)
{
    QDict *ref = qdict_get(r->state.options, name);

    *bs = NULL;
    *keep = r->keep_children || !qdict_haskey(r->state.options, name) ||
            (ref && qdict_type(ref) == QTYPE_QDICT);
    if (*keep || !ref) {
        return 0;
    }
    if (current && !strcmp(bdrv_skip_implicit_filters(current->bs)->node_name, qstring_get(ref))) {
        *keep = true;
        return 0;
    }
    *bs = bdrv_lookup_bs(NULL, qstring_get(ref), errp);
    return *bs ? 0 : -EINVAL;
}

static int check_backing_option(ReopenEntry *r, Error **errp)
{
    BlockDriverState *bs = r->state.bs;
    QDict *ref = qdict_get(r->state.options, "backing");

    if (r->keep_children || !bs->drv->supports_backing) {
        return 0;
    }
    if (bs->backing && !qdict_haskey(r->state.options, "backing")) {
        error_setg(errp, "backing is missing for '%s'", bs->node_name);
        return -EINVAL;
    }
    if (ref && qdict_type(ref) == QTYPE_QDICT && !bs->backing) {
        return cannot_change("backing.driver", errp);
    }
    return 0;
}

static int drain_entry(ReopenEntry *r, GraphEdit *e, Error **errp)
{
    BlockDriverState *bs = r->state.bs, *wanted;
    BdrvChild *c;
    bool keep;
    int ret = check_backing_option(r, errp);

    graph_edit_drain(e, bs);
    LIST_FOREACH(c, &bs->children, next) {
        graph_edit_drain(e, c->bs);
    }
    for (int i = 0; !ret && i < 2; i++) {
        ret = wanted_child(r, i ? "backing" : bs->file ? bs->file->name : "file", i ? bs->backing : bs->file, &keep, &wanted, errp);
        graph_edit_drain(e, wanted);
    }
    return ret;
}

static int coroutine_fn flush_entry(ReopenEntry *r, Error **errp)
{
    BlockDriverState *bs = r->state.bs;
    int ret = bs->read_only ? 0 : bdrv_co_flush(bs);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Error flushing drive");
    }
    return ret;
}

/* ---- 3. prepare ---- */

typedef struct OptionCheck {
    BlockDriverState *bs;
    const QDict *other;
    const char *changed;
} OptionCheck;

static bool is_generic_option(const char *key)
{
    static const char *const generic[] = {
        "driver", "node-name", "discard", "cache", "read-only", "auto-read-only",
        "force-share", "detect-zeroes", "file", "backing",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(generic); i++) {
        if (!strcmp(key, generic[i])) {
            return true;
        }
    }
    return false;
}

static void check_option(const char *key, QDict *value, void *opaque)
{
    OptionCheck *check = opaque;

    if (!is_generic_option(key) && !check->changed &&
        (!qdict_haskey(check->other, key) || !qdict_equal(value, qdict_get(check->other, key)))) {
        check->changed = key;
    }
}

/* For drivers that cannot reopen: all their options must be what they were. */
static int check_same_options(ReopenEntry *r, Error **errp)
{
    OptionCheck now = { r->state.bs, r->state.bs->options, NULL };
    OptionCheck before = { r->state.bs, r->state.options, NULL };

    qdict_foreach(r->state.options, check_option, &now);
    qdict_foreach(r->state.bs->options, check_option, &before);
    if (now.changed || before.changed) {
        return cannot_change(now.changed ? now.changed : before.changed, errp);
    }
    return 0;
}

static int coroutine_fn prepare_entry(ReopenEntry *r, Error **errp)
{
    const BlockDriver *drv = r->state.bs->drv;
    int ret;
    ERRP_GUARD();

    if (!drv->co_reopen_prepare || !r->opts) {
        return r->opts ? check_same_options(r, errp) : 0;
    }
    ret = drv->co_reopen_prepare(&r->state, errp);
    if (ret < 0 && !*errp) {
        error_setg_errno(errp, -ret, "Could not reopen node '%s'", r->state.bs->node_name);
    }
    r->prepared = ret >= 0;
    return ret;
}

/* ---- 4. edit ---- */

static int edit_file(ReopenEntry *r, GraphEdit *e, Error **errp)
{
    BlockDriverState *bs = r->state.bs, *wanted;
    bool keep;
    int ret;

    if (!bs->file) {
        return 0;
    }
    ret = wanted_child(r, bs->file->name, bs->file, &keep, &wanted, errp);
    if (ret < 0 || keep || !wanted) {
        return ret;
    }
    ret = graph_check_no_cycle(bs, wanted, bs->file->name, errp);
    if (!ret) {
        graph_edit_replace(e, bs->file, wanted);
    }
    return ret;
}

static int edit_backing(ReopenEntry *r, GraphEdit *e, Error **errp)
{
    BlockDriverState *bs = r->state.bs, *wanted;
    bool keep;
    int ret;

    if (!bs->drv->supports_backing) {
        return 0;
    }
    ret = wanted_child(r, "backing", bs->backing, &keep, &wanted, errp);
    if (ret < 0 || keep) {
        return ret;
    }
    if (bs->backing && bs->backing->bs->implicit) {
        error_setg(errp, "Cannot change the backing of '%s' while a job works on it", bs->node_name);
        return -EPERM;
    }
    return graph_edit_set_backing(e, bs, wanted, errp);
}

static int edit_entry(ReopenEntry *r, GraphEdit *e, Error **errp)
{
    int ret = edit_file(r, e, errp);

    graph_edit_touch(e, r->state.bs);
    return ret ? ret : edit_backing(r, e, errp);
}

/* ---- 5. commit ---- */

static void commit_flags(ReopenEntry *r)
{
    BlockDriverState *bs = r->state.bs;

    bs->open_flags = r->state.flags;
    bs->read_only = !(r->state.flags & BDRV_O_RDWR);
    if (r->opts) {
        bs->detect_zeroes = r->opts->detect_zeroes;
    }
    qdict_unref(bs->options);
    bs->options = qdict_ref(r->state.options);
}

static void coroutine_fn commit_driver(ReopenEntry *r)
{
    BlockDriverState *bs = r->state.bs;

    if (r->prepared && bs->drv->co_reopen_commit) {
        bs->drv->co_reopen_commit(&r->state);
    }
    bdrv_refresh_limits(bs);
    bdrv_co_refresh_length(bs);
    bdrv_refresh_filename(bs);
}

static void coroutine_fn abort_driver(ReopenEntry *r)
{
    if (r->prepared && r->state.bs->drv->co_reopen_abort) {
        r->state.bs->drv->co_reopen_abort(&r->state);
    }
}

/* ---- all together ---- */

static int for_each_entry(BlockReopenQueue *q, int (*fn)(ReopenEntry *, GraphEdit *, Error **),
                          GraphEdit *e, Error **errp)
{
    int ret = 0;

    for (guint i = 0; !ret && i < q->entries->len; i++) {
        ret = fn(g_ptr_array_index(q->entries, i), e, errp);
    }
    return ret;
}

static int coroutine_fn flush_step(ReopenEntry *r, GraphEdit *e, Error **errp)
{
    return flush_entry(r, errp);
}

static int coroutine_fn prepare_step(ReopenEntry *r, GraphEdit *e, Error **errp)
{
    return prepare_entry(r, errp);
}

static int coroutine_fn queue_run(BlockReopenQueue *q, Error **errp)
{
    GraphEdit e;
    int ret;

    graph_edit_begin(&e);
    e.reopen = q;
    ret = for_each_entry(q, drain_entry, &e, errp);
    if (!ret) {
        graph_edit_wait(&e);
        ret = for_each_entry(q, flush_step, &e, errp);
    }
    ret = ret ? ret : for_each_entry(q, prepare_step, &e, errp);
    ret = ret ? ret : for_each_entry(q, edit_entry, &e, errp);
    ret = graph_edit_finalize(&e, ret, errp);
    for (guint i = 0; !ret && i < q->entries->len; i++) {
        commit_flags(g_ptr_array_index(q->entries, i));
    }
    for (guint i = q->entries->len; i-- > 0;) {
        (ret ? abort_driver : commit_driver)(g_ptr_array_index(q->entries, i));
    }
    graph_edit_let_go(&e);
    return ret;
}

typedef struct ReopenCall {
    BdrvReopenItem *items;
    int n;
    bool keep_children;
    Error **errp;
    int ret;
} ReopenCall;

static void coroutine_fn reopen_co(void *opaque)
{
    ReopenCall *call = opaque;
    BlockReopenQueue q = { g_ptr_array_new_with_free_func(entry_free) };

    control_co_lock();
    for (int i = 0; i < call->n; i++) {
        QDict *d = call->items[i].options;

        if (!call->ret) {
            d = qdict_crumple(d, call->errp);
            call->ret = d ? queue_add(&q, call->items[i].bs, d, inherited_flags(call->items[i].bs, &q),
                                      call->keep_children, call->errp) : -EINVAL;
        } else {
            qdict_unref(d);
        }
    }
    if (!call->ret) {
        call->ret = queue_run(&q, call->errp);
    }
    control_co_unlock();
    g_ptr_array_free(q.entries, TRUE);
}

int bdrv_reopen_multiple(BdrvReopenItem *items, int n, Error **errp)
{
    ReopenCall call = { items, n, false, errp, 0 };

    g_assert(qemu_in_main_thread());
    aio_co_run(reopen_co, &call);
    return call.ret;
}

int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only, Error **errp)
{
    BdrvReopenItem item = { bs, qdict_clone(bs->options) };
    ReopenCall call = { &item, 1, true, errp, 0 };

    g_assert(qemu_in_main_thread());
    qdict_put_bool(item.options, "read-only", read_only);
    aio_co_run(reopen_co, &call);
    return call.ret;
}

/* SPDX-License-Identifier: MIT */
/* blkdebug.c: a filter for tests: it makes chosen requests fail, stops the engine at named events, and
 * has whatever alignment and limits one asks for.
 *
 * An event is raised on this node by what stands above (qcow2, the request path) before it does what
 * the event names; see bdrv_co_debug_event(). The rules for it are looked at then. Those that inject
 * errors become the active ones, in place of those that were: from then on each request through
 * the node is held against them. Rules are compared with the state the node was in when the event came.
 *
 * Runs on: events and requests in any thread, control in the main thread; `lock` is over all that changes.
 */
#include "drivers/drivers.h"
#include "drivers/filter/blkdebug.h"
#include "block/block_int-global-state.h"
#include "graph/filename.h"

/* A request that stands at a breakpoint. It lies on the stack of its coroutine. */
typedef struct Suspended {
    Coroutine *co;
    const char *tag;
    bool resumed;
    TAILQ_ENTRY(Suspended) next;
} Suspended;

typedef struct BlkdebugState {
    char *config;               /* file of rules; NULL: none */
    int64_t align, max_transfer, opt_write_zero, max_write_zero, opt_discard, max_discard;      /* bytes; 0: not said */
    uint64_t take_perms, unshare_perms;
    bool plain;                 /* config and image say it all */
    pthread_mutex_t lock;
    int64_t state;
    TAILQ_HEAD(, BlkdebugRule) rules[BLKDEBUG_EVENT__MAX];      /* newest first */
    TAILQ_HEAD(, BlkdebugRule) active;          /* newest last */
    TAILQ_HEAD(, Suspended) suspended;
} BlkdebugState;

static BlkdebugReport *report;

void blkdebug_set_report(BlkdebugReport *fn)
{
    report = fn;
}

static void say(const char *what, const char *tag)
{
    if (report) {
        report(what, tag);
    }
}

/* ---- rules ---- */

static void add_rule(void *opaque, BlkdebugRule *rule)
{
    BlkdebugState *s = opaque;

    TAILQ_INSERT_HEAD(&s->rules[rule->event], rule, next);
}

/* `lock` held. */
static void remove_rule(BlkdebugState *s, BlkdebugRule *rule)
{
    if (rule->active) {
        TAILQ_REMOVE(&s->active, rule, next_active);
    }
    TAILQ_REMOVE(&s->rules[rule->event], rule, next);
    blkdebug_rule_free(rule);
}

static void remove_all_rules(BlkdebugState *s)
{
    for (int i = 0; i < BLKDEBUG_EVENT__MAX; i++) {
        BlkdebugRule *rule;

        while ((rule = TAILQ_FIRST(&s->rules[i]))) {
            remove_rule(s, rule);
        }
    }
}

static void clear_active(BlkdebugState *s)
{
    BlkdebugRule *rule;

    while ((rule = TAILQ_FIRST(&s->active))) {
        TAILQ_REMOVE(&s->active, rule, next_active);
        rule->active = false;
    }
}

/* Rules that inject errors, oldest last: the first in the configuration is the first to be looked at. */
static void activate(BlkdebugState *s, BlkdebugRule *rule, bool *any)
{
    if (!*any) {
        clear_active(s);
        *any = true;
    }
    TAILQ_INSERT_HEAD(&s->active, rule, next_active);
    rule->active = true;
}

/* ---- events ---- */

static void coroutine_fn suspend_here(BlockDriverState *bs, Suspended *me)
{
    BlkdebugState *s = bs->opaque;

    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool resumed = me->resumed;

        pthread_mutex_unlock(&s->lock);
        if (resumed) {
            break;
        }
        qemu_coroutine_yield();
    }
}

/* The next breakpoint at @event, if there is one: it is used up, and @me stands there. `lock` held. */
static char *take_breakpoint(BlkdebugState *s, BlkdebugEvent event, Suspended *me)
{
    BlkdebugRule *rule;
    char *tag = NULL;

    TAILQ_FOREACH(rule, &s->rules[event], next) {
        if (rule->action == BLKDEBUG_SUSPEND) {
            tag = g_steal_pointer(&rule->tag);
            remove_rule(s, rule);
            *me = (Suspended) { .co = qemu_coroutine_self(), .tag = tag };
            TAILQ_INSERT_TAIL(&s->suspended, me, next);
            break;
        }
    }
    return tag;
}

enum { BREAKPOINTS_MAX = 16 };  /* at which one request can stand at once */

static void coroutine_fn blkdebug_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    BlkdebugState *s = bs->opaque;
    Suspended at[BREAKPOINTS_MAX];
    char *tags[BREAKPOINTS_MAX];
    BlkdebugRule *rule;
    bool injected = false;
    int n = 0;

    pthread_mutex_lock(&s->lock);
    int64_t new_state = s->state;

    TAILQ_FOREACH(rule, &s->rules[event], next) {
        if (rule->state && rule->state != s->state) {
            continue;
        }
        if (rule->action == BLKDEBUG_INJECT_ERROR) {
            activate(s, rule, &injected);
        } else if (rule->action == BLKDEBUG_SET_STATE) {
            new_state = rule->new_state;
        }
    }
    while (n < BREAKPOINTS_MAX && (tags[n] = take_breakpoint(s, event, &at[n]))) {
        n++;
    }
    s->state = new_state;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < n; i++) {
        say("Suspended", tags[i]);
    }
    if (n) {
        aio_wait_kick();        /* somebody may wait for just this */
    }
    for (int i = 0; i < n; i++) {
        suspend_here(bs, &at[i]);
    }
    for (int i = 0; i < n; i++) {
        g_free(tags[i]);
    }
}

/* ---- breakpoints ---- */

static int blkdebug_breakpoint(BlockDriverState *bs, const char *event, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    int e = qapi_enum_parse(&qapi_type_BlkdebugEvent, event);

    if (e < 0) {
        return -ENOENT;
    }
    BlkdebugRule *rule = g_new0(BlkdebugRule, 1);

    rule->event = e;
    rule->action = BLKDEBUG_SUSPEND;
    rule->tag = g_strdup(tag);
    pthread_mutex_lock(&s->lock);
    add_rule(s, rule);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* Let one go on that stands at @tag (NULL: at any); false: none does. */
static bool resume_one(BlkdebugState *s, const char *tag)
{
    g_autofree char *name = NULL;
    Suspended *p;

    pthread_mutex_lock(&s->lock);
    TAILQ_FOREACH(p, &s->suspended, next) {
        if (!tag || !strcmp(p->tag, tag)) {
            break;
        }
    }
    if (!p) {
        pthread_mutex_unlock(&s->lock);
        return false;
    }
    /* It lies on a stack that may be gone as soon as the lock is. */
    Coroutine *co = p->co;

    name = g_strdup(p->tag);
    TAILQ_REMOVE(&s->suspended, p, next);
    p->resumed = true;
    pthread_mutex_unlock(&s->lock);
    say("Resuming", name);
    aio_co_enter(qemu_coroutine_get_aio_context(co), co);
    return true;
}

static int blkdebug_resume(BlockDriverState *bs, const char *tag)
{
    return resume_one(bs->opaque, tag) ? 0 : -ENOENT;
}

static int blkdebug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    bool found = false;

    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < BLKDEBUG_EVENT__MAX; i++) {
        BlkdebugRule *rule = TAILQ_FIRST(&s->rules[i]);

        while (rule) {
            BlkdebugRule *next = TAILQ_NEXT(rule, next);

            if (rule->action == BLKDEBUG_SUSPEND && !strcmp(rule->tag, tag)) {
                remove_rule(s, rule);
                found = true;
            }
            rule = next;
        }
    }
    pthread_mutex_unlock(&s->lock);
    while (resume_one(s, tag)) {
        found = true;
    }
    return found ? 0 : -ENOENT;
}

static bool blkdebug_is_suspended(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    Suspended *p;

    pthread_mutex_lock(&s->lock);
    TAILQ_FOREACH(p, &s->suspended, next) {
        if (!strcmp(p->tag, tag)) {
            break;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return p;
}

/* ---- requests ---- */

static bool rule_fits(const BlkdebugRule *rule, BlkdebugIOType type, int64_t offset, int64_t bytes)
{
    return (rule->iotypes & (1u << type)) &&
           (rule->offset < 0 || (rule->offset >= offset && rule->offset < offset + bytes));
}

/* The error that a request shall meet, or 0. */
static int coroutine_fn check_rules(BlockDriverState *bs, BlkdebugIOType type, int64_t offset, int64_t bytes)
{
    BlkdebugState *s = bs->opaque;
    BlkdebugRule *rule;
    bool immediately = true;
    int64_t error = 0;

    pthread_mutex_lock(&s->lock);
    TAILQ_FOREACH(rule, &s->active, next_active) {
        if (rule_fits(rule, type, offset, bytes)) {
            break;
        }
    }
    if (rule && rule->error > 0) {
        error = MIN(rule->error, INT_MAX);
        immediately = rule->immediately;
        if (rule->once) {
            remove_rule(s, rule);
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (error && !immediately) {
        aio_co_yield_fair();    /* as an error of real storage, it comes later */
    }
    return -error;
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                           size_t qiov_offset, BdrvRequestFlags flags)
{
    int ret = check_rules(bs, BLKDEBUG_IO_TYPE_READ, offset, bytes);

    return ret ? ret : bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                            size_t qiov_offset, BdrvRequestFlags flags)
{
    int ret = check_rules(bs, BLKDEBUG_IO_TYPE_WRITE, offset, bytes);

    return ret ? ret : bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

/* Is the request of the sort that real storage with this @align would refuse? */
static bool too_small(BlockDriverState *bs, int64_t bytes, uint32_t align)
{
    return bytes < MAX(align, bs->bl.request_alignment);
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                  BdrvRequestFlags flags)
{
    if (too_small(bs, bytes, bs->bl.pwrite_zeroes_alignment)) {
        return -ENOTSUP;
    }
    g_assert(!bs->bl.max_pwrite_zeroes || bytes <= bs->bl.max_pwrite_zeroes);
    int ret = check_rules(bs, BLKDEBUG_IO_TYPE_WRITE_ZEROES, offset, bytes);

    return ret ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    if (too_small(bs, bytes, bs->bl.pdiscard_alignment)) {
        return -ENOTSUP;
    }
    g_assert(!bs->bl.max_pdiscard || bytes <= bs->bl.max_pdiscard);
    int ret = check_rules(bs, BLKDEBUG_IO_TYPE_DISCARD, offset, bytes);

    return ret ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn blkdebug_co_flush(BlockDriverState *bs)
{
    return check_rules(bs, BLKDEBUG_IO_TYPE_FLUSH, 0, 0);
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes,
                                                 int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    int ret = check_rules(bs, BLKDEBUG_IO_TYPE_BLOCK_STATUS, offset, bytes);

    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return ret ? ret : BDRV_BLOCK_RECURSE | BDRV_BLOCK_OFFSET_VALID;
}

/* ---- limits, permissions ---- */

/* @value must be a multiple of @unit and fit 31 bits. */
static int check_limit(const char *name, int64_t value, int64_t unit, int64_t *to, Error **errp)
{
    if (value < 0 || value >= INT_MAX || value % unit) {
        error_setg(errp, "Cannot meet constraints with %s %" PRId64, name, value);
        return -EINVAL;
    }
    *to = value;
    return 0;
}

static int set_limits(BlkdebugState *s, const BlockdevOptionsBlkdebug *o, Error **errp)
{
    if (o->align < 0 || o->align >= INT_MAX || (o->align && !is_power_of_2(o->align))) {
        error_setg(errp, "Cannot meet constraints with align %" PRId64, o->align);
        return -EINVAL;
    }
    s->align = o->align;
    int64_t align = MAX(s->align, 1);
    int ret = check_limit("max-transfer", o->max_transfer, align, &s->max_transfer, errp);

    ret = ret ? ret : check_limit("opt-write-zero", o->opt_write_zero, align, &s->opt_write_zero, errp);
    ret = ret ? ret : check_limit("max-write-zero", o->max_write_zero, MAX(s->opt_write_zero, align), &s->max_write_zero,
                                  errp);
    ret = ret ? ret : check_limit("opt-discard", o->opt_discard, align, &s->opt_discard, errp);
    return ret ? ret : check_limit("max-discard", o->max_discard, MAX(s->opt_discard, align), &s->max_discard, errp);
}

static void blkdebug_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    BlkdebugState *s = bs->opaque;

    bl->request_alignment = s->align ? s->align : bl->request_alignment;
    bl->max_transfer = s->max_transfer ? s->max_transfer : bl->max_transfer;
    bl->pwrite_zeroes_alignment = s->opt_write_zero ? s->opt_write_zero : bl->pwrite_zeroes_alignment;
    bl->max_pwrite_zeroes = s->max_write_zero ? s->max_write_zero : bl->max_pwrite_zeroes;
    bl->pdiscard_alignment = s->opt_discard ? s->opt_discard : bl->pdiscard_alignment;
    bl->max_pdiscard = s->max_discard ? s->max_discard : bl->max_pdiscard;
}

static uint64_t permissions_of(const BlockPermissionList *list)
{
    uint64_t perm = 0;

    for (; list; list = list->next) {
        perm |= 1u << list->value;      /* the order of BLK_PERM_* */
    }
    return perm;
}

static void blkdebug_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, BlockReopenQueue *queue,
                                uint64_t perm, uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    BlkdebugState *s = bs->opaque;

    bdrv_default_perms(bs, c, role, queue, perm, shared, nperm, nshared);
    *nperm |= s->take_perms;
    *nshared &= ~s->unshare_perms;
}

/* ---- names ---- */

/* blkdebug:CONFIG:IMAGE */
static int blkdebug_parse_filename(const char *filename, QDict *options, Error **errp)
{
    const char *config = filename + strlen("blkdebug:"), *image = strchr(config, ':');

    if (!image) {
        error_setg(errp, "blkdebug requires both config file and image path");
        return -EINVAL;
    }
    QDict *file = graph_options_of_filename(image + 1, errp);

    if (!file) {
        return -EINVAL;
    }
    if (image > config) {
        g_autofree char *name = g_strndup(config, image - config);

        qdict_put_str(options, "config", name);
    }
    qdict_put_obj(options, "image", file);
    return 0;
}

static void blkdebug_refresh_filename(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;
    const char *image = bs->file ? bs->file->bs->exact_filename : "";

    g_free(bs->exact_filename);
    bs->exact_filename = s->plain && image && *image
                         ? g_strdup_printf("blkdebug:%s:%s", s->config ? s->config : "", image) : g_strdup("");
}

/* ---- control ---- */

static void blkdebug_free(BlkdebugState *s)
{
    remove_all_rules(s);
    pthread_mutex_destroy(&s->lock);
    g_free(s->config);
}

static void blkdebug_init(BlkdebugState *s)
{
    pthread_mutex_init(&s->lock, NULL);
    for (int i = 0; i < BLKDEBUG_EVENT__MAX; i++) {
        TAILQ_INIT(&s->rules[i]);
    }
    TAILQ_INIT(&s->active);
    TAILQ_INIT(&s->suspended);
    s->state = 1;
}

static int read_rules(BlkdebugState *s, const BlockdevOptionsBlkdebug *o, Error **errp)
{
    int ret = o->config ? blkdebug_read_config(o->config, add_rule, s, errp) : 0;

    for (BlkdebugInjectErrorOptionsList *p = o->inject_error; p && !ret; p = p->next) {
        add_rule(s, blkdebug_rule_inject(p->value));
    }
    for (BlkdebugSetStateOptionsList *p = o->set_state; p && !ret; p = p->next) {
        add_rule(s, blkdebug_rule_set_state(p->value));
    }
    return ret;
}

static bool says_more(const BlockdevOptionsBlkdebug *o)
{
    return o->has_align || o->has_max_transfer || o->has_opt_write_zero || o->has_max_write_zero || o->has_opt_discard ||
           o->has_max_discard || o->inject_error || o->set_state || o->take_child_perms || o->unshare_child_perms;
}

static int coroutine_fn blkdebug_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsBlkdebug *o = &opts->u.blkdebug;
    BlkdebugState *s = bs->opaque;

    blkdebug_init(s);
    s->config = g_strdup(o->config);
    s->plain = !says_more(o);
    s->take_perms = permissions_of(o->take_child_perms);
    s->unshare_perms = permissions_of(o->unshare_child_perms);
    if (read_rules(s, o, errp) < 0 ||
        !bdrv_co_open_child(bs, o->image, "image", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp) ||
        set_limits(s, o, errp) < 0) {
        blkdebug_free(s);
        return -EINVAL;
    }
    bs->supported_write_flags = BDRV_REQ_FUA & bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) &
                               bs->file->bs->supported_zero_flags;
    bdrv_debug_nodes_add(1);
    blkdebug_co_debug_event(bs, BLKDEBUG_EVENT_NONE);
    return 0;
}

static void coroutine_fn blkdebug_co_close(BlockDriverState *bs)
{
    bdrv_debug_nodes_add(-1);
    blkdebug_free(bs->opaque);
}

const BlockDriver bdrv_blkdebug = {
    .format_name        = "blkdebug",
    .protocol_name      = "blkdebug",
    .kind               = BLOCK_DRIVER_FILTER,
    .schema_driver      = BLOCKDEV_DRIVER_BLKDEBUG,
    .instance_size      = sizeof(BlkdebugState),
    .parse_filename     = blkdebug_parse_filename,
    .refresh_filename   = blkdebug_refresh_filename,
    .co_open            = blkdebug_co_open,
    .co_close           = blkdebug_co_close,
    .child_perm         = blkdebug_child_perm,
    .refresh_limits     = blkdebug_refresh_limits,
    .co_preadv          = blkdebug_co_preadv,
    .co_pwritev         = blkdebug_co_pwritev,
    .co_pwrite_zeroes   = blkdebug_co_pwrite_zeroes,
    .co_pdiscard        = blkdebug_co_pdiscard,
    .co_flush           = blkdebug_co_flush,
    .co_block_status    = blkdebug_co_block_status,
    .co_debug_event     = blkdebug_co_debug_event,
    .debug_breakpoint   = blkdebug_breakpoint,
    .debug_remove_breakpoint = blkdebug_remove_breakpoint,
    .debug_resume       = blkdebug_resume,
    .debug_is_suspended = blkdebug_is_suspended,
};

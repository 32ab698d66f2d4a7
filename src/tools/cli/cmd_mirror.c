/* SPDX-License-Identifier: MIT */
/* cmd_mirror.c: mirror a disk of a running server to a new image, and perhaps move there. */
#include "cli/cli.h"
#include "cli/follow.h"
#include "graph/filename.h"
#include "ops/ops.h"
#include "qapi-types.h"
#include <signal.h>
#include <sys/stat.h>

typedef struct Mirror {
    CliArgs *args;
    Client *c;
    char *node;                 /* the source */
    char *base;                 /* what names are made from: the export's, else the node's */
    char *target, *target_node; /* absolute path, or name of a server's export; its node's name */
    QDict *place;               /* protocol node of a device or export; NULL: a file */
    char *creds;                /* id of the object in the daemon that was made for it; NULL: none */
    char *job;
    const char *format;
    int64_t size;
    bool added, made;           /* the target's node; its file */
} Mirror;

/* The node of the export @name, or @name itself; NULL: the only export's. */
static char *find_node(Mirror *m, const char *name, Error **errp)
{
    g_autoptr(QDict) list = client_call(m->c, "query-block-exports", NULL, errp);

    if (!list) {
        return NULL;
    }
    for (size_t i = 0; i < qlist_size(list); i++) {
        QDict *e = qlist_get(list, i);

        if (name ? !g_strcmp0(qdict_get_try_str(e, "id"), name) : qlist_size(list) == 1) {
            const char *node = qdict_get_try_str(e, "node-name"), *id = qdict_get_try_str(e, "id");

            if (!node || *node == '#') {    /* a job's filter is above it */
                error_setg(errp, "A job works on '%s' already", id);
                error_append_hint(errp, "`liveblk jobs` lists the jobs, `liveblk job cancel` ends one.\n");
                return NULL;
            }
            m->base = g_strdup(id);
            return g_strdup(node);
        }
    }
    if (name) {
        m->base = g_strdup(name);
        return g_strdup(name);
    }
    error_setg(errp, qlist_size(list) ? "The server has %zu exports" : "The server has no export", qlist_size(list));
    error_append_hint(errp, "Say which node with --node; `liveblk graph` shows them.\n");
    return NULL;
}

static bool has_node(QDict *list, const char *name)
{
    for (size_t i = 0; i < qlist_size(list); i++) {
        if (!g_strcmp0(qdict_get_try_str(qlist_get(list, i), "node-name"), name)) {
            return true;
        }
    }
    return false;
}

/* The first free one of NAME-1, NAME-2 ... */
static char *free_node_name(QDict *list, const char *base)
{
    for (int i = 1;; i++) {
        g_autofree char *name = g_strdup_printf("%.24s-%d", base, i);

        if (!has_node(list, name)) {
            return g_steal_pointer(&name);
        }
    }
}

/* The size of the source, and a name for the target's node. */
static int look_at_nodes(Mirror *m, Error **errp)
{
    g_autoptr(QDict) list = client_call(m->c, "query-named-block-nodes", NULL, errp);

    for (size_t i = 0; list && i < qlist_size(list); i++) {
        QDict *n = qlist_get(list, i), *image = qdict_get_qdict(n, "image");

        if (image && !g_strcmp0(qdict_get_try_str(n, "node-name"), m->node)) {
            m->size = qdict_get_try_int(image, "virtual-size", 0);
            m->target_node = free_node_name(list, m->base);
            return 0;
        }
    }
    if (list) {
        error_setg(errp, "The server has no node '%s'", m->node);
        error_append_hint(errp, "`liveblk graph` shows its nodes.\n");
    }
    return -ENOENT;
}

/* Run blockdev-create and wait. */
static int create_one(Mirror *m, QDict *options, Error **errp)
{
    g_autofree char *id = g_strdup_printf("create-%ld", (long)getpid());
    BlockdevCreateOptions *typed = qapi_from_json(&qapi_type_BlockdevCreateOptions, options, true, errp);
    QDict *args = qdict_new();
    Error *err = NULL;

    if (!typed) {
        qdict_unref(args);
        return -EINVAL;
    }
    qdict_put_str(args, "job-id", id);
    qdict_put_obj(args, "options", qapi_to_json(&qapi_type_BlockdevCreateOptions, typed));
    qapi_free(&qapi_type_BlockdevCreateOptions, typed);
    if (client_do(m->c, "blockdev-create", args, errp) < 0) {
        return -EIO;
    }
    CliArgs silent = *m->args;

    silent.quiet = true;
    FollowEnd end = follow_job(m->c, &silent, id, false, &err);
    QDict *d = qdict_new();

    qdict_put_str(d, "id", id);
    client_do(m->c, "job-dismiss", d, NULL);
    error_propagate(errp, err);
    return end == FOLLOW_COMPLETED ? 0 : -EIO;
}

static void del_object(Mirror *m, const char *id)
{
    QDict *d = qdict_new();
    Error *err = NULL;

    qdict_put_str(d, "id", id);
    client_do(m->c, "object-del", d, &err);
    error_free(err);
}

/* What the daemon is to open for a device or export, which it has the credentials for then. */
static int find_place(Mirror *m, Error **errp)
{
    QDict *creds = NULL;

    if (!ops_place_is(m->target)) {
        return 0;
    }
    if (!ops_tls_is(m->target)) {
        bdrv_init();            /* the drivers know the names */
        m->place = ops_place_options(m->target, errp);
        return m->place ? 0 : -EINVAL;
    }
    m->place = ops_tls_describe(m->target, &creds, errp);
    if (!m->place) {
        return -EINVAL;
    }
    if (cli_has(m->args, "dry-run")) {
        qdict_unref(creds);
        return 0;
    }
    m->creds = g_strdup_printf("tls-%s", m->target_node);
    qdict_put_str(creds, "id", m->creds);
    qdict_put_str(m->place, "tls-creds", m->creds);
    del_object(m, m->creds);            /* of a node that is gone */
    if (client_do(m->c, "object-add", creds, errp) < 0) {
        g_clear_pointer(&m->creds, g_free);
        return -EIO;
    }
    return 0;
}

/* Whether the target is as the options say: there or not. */
static int check_target(Mirror *m, bool *there, Error **errp)
{
    bool existing = cli_has(m->args, "existing");
    struct stat st;

    *there = m->place || stat(m->target, &st) == 0;
    if (existing && !*there) {
        error_setg(errp, "'%s' does not exist", m->target);
        return -ENOENT;
    }
    if (!existing && *there && !m->place && !cli_has(m->args, "force")) {
        error_setg(errp, "'%s' exists", m->target);
        error_append_hint(errp, "--force replaces it; --existing mirrors into it as it is.\n");
        return -EEXIST;
    }
    return 0;
}

static int create_target(Mirror *m, Error **errp)
{
    OpsCreate c = { .filename = m->target, .format = m->format, .size = m->size };
    g_autoptr(QDict) file = NULL, image = NULL;
    bool there;
    Error *err = NULL;

    if (check_target(m, &there, errp) < 0) {
        return -EEXIST;
    }
    if (cli_has(m->args, "existing")) {
        return 0;
    }
    if (ops_create_options(&c, m->target, m->place, &file, &image, errp) < 0) {
        return -EINVAL;
    }
    if (file && create_one(m, file, &err) < 0) {
        if (!strstr(error_get_pretty(err), m->target)) {
            error_prepend(&err, "Could not %s '%s': ", there ? "replace" : "create", m->target);
        }
        error_propagate(errp, err);
        return -EIO;
    }
    m->made = !there;
    return image && create_one(m, image, errp) < 0 ? -EIO : 0;
}

static int add_target(Mirror *m, Error **errp)
{
    QDict *d = qdict_new(), *file = m->place ? qdict_ref(m->place) : qdict_new();

    if (!m->place) {
        qdict_put_str(file, "driver", "file");
        qdict_put_str(file, "filename", m->target);
    }
    qdict_put_str(d, "driver", m->format);
    qdict_put_str(d, "node-name", m->target_node);
    qdict_put_str(d, "discard", "unmap");
    if (m->place && !strcmp(m->format, "raw")) {
        qdict_put_int(d, "size", m->size);      /* it may be larger: the disk is its beginning */
    }
    qdict_put_obj(d, "file", file);
    if (client_do(m->c, "blockdev-add", d, errp) < 0) {
        return -EIO;
    }
    m->added = true;
    return 0;
}

static int start(Mirror *m, Error **errp)
{
    const char *sync = cli_get(m->args, "sync"), *mode = cli_get(m->args, "copy-mode");
    QDict *d = qdict_new();

    qdict_put_str(d, "job-id", m->job);
    qdict_put_str(d, "device", m->node);
    qdict_put_str(d, "target", m->target_node);
    qdict_put_str(d, "sync", sync ? sync : "full");
    qdict_put_str(d, "copy-mode", mode ? mode : "background");
    qdict_put_int(d, "speed", cli_get_size(m->args, "speed", 0));
    return client_do(m->c, "blockdev-mirror", d, errp);
}

/* The node that is not used any more; it may be used by others, and then stays. */
static void del_node(Mirror *m, const char *node)
{
    QDict *d = qdict_new();
    Error *err = NULL;

    qdict_put_str(d, "node-name", node);
    client_do(m->c, "blockdev-del", d, &err);
    error_free(err);
}

/* Leave nothing of what was begun. */
static void take_back(Mirror *m)
{
    if (m->added) {
        del_node(m, m->target_node);
    }
    if (m->made) {
        unlink(m->target);
    }
    if (m->creds) {
        del_object(m, m->creds);
    }
}

/* The job has failed or was cancelled, if it is not there any more: then its target is of no use. */
static void clean_after_failure(Mirror *m)
{
    g_autoptr(QDict) jobs = client_call(m->c, "query-jobs", NULL, NULL);

    for (size_t i = 0; jobs && i < qlist_size(jobs); i++) {
        if (!g_strcmp0(qdict_get_try_str(qlist_get(jobs, i), "id"), m->job)) {
            return;
        }
    }
    if (jobs) {
        take_back(m);
    }
}

static int finish(Mirror *m, Error **errp)
{
    bool pivot = cli_has(m->args, "pivot"), stop = cli_has(m->args, "stop");
    QDict *d;
    Error *err = NULL;
    FollowEnd end = follow_job(m->c, m->args, m->job, true, &err);

    if (end == FOLLOW_READY && (pivot || stop)) {
        d = qdict_new();
        qdict_put_str(d, "device", m->job);
        end = client_do(m->c, pivot ? "block-job-complete" : "block-job-cancel", d, &err) < 0
              ? FOLLOW_FAILED : follow_job(m->c, m->args, m->job, false, &err);
    }
    if (end == FOLLOW_FAILED || end == FOLLOW_CANCELLED) {
        if (end == FOLLOW_CANCELLED) {
            error_setg(&err, "Job '%s' was cancelled", m->job);
        } else {
            error_prepend(&err, "Job '%s' failed: ", m->job);
        }
        error_propagate(errp, err);
        clean_after_failure(m);
        return -EIO;
    }
    if (end == FOLLOW_READY || (!pivot && !stop)) {
        return 0;       /* the latter: somebody else has ended it well */
    }
    if (stop) {
        del_node(m, m->target_node);
        if (m->creds) {
            del_object(m, m->creds);
        }
    } else if (!cli_has(m->args, "keep-source")) {
        del_node(m, m->node);
    }
    return 0;
}

static void say(Mirror *m)
{
    CliArgs *a = m->args;
    bool detached = cli_has(a, "detach");
    const char *state = detached ? "started" : cli_has(a, "pivot") ? "pivoted" : cli_has(a, "stop") ? "stopped" : "ready";

    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "job", m->job);
        qdict_put_str(d, "node", m->node);
        qdict_put_str(d, "target", m->target);
        qdict_put_str(d, "target-node", m->target_node);
        qdict_put_str(d, "state", state);
        cli_print_json(d);
    } else if (!a->quiet) {
        printf("%s: %s\n", m->job, !strcmp(state, "pivoted") ? "the server goes on with the target" :
               !strcmp(state, "stopped") ? "the target is a copy" :
               detached ? "started" : "both agree, and are kept so");
        if (!strcmp(state, "ready")) {
            printf("`liveblk job complete %s` goes on with the target, `liveblk job cancel --soft %s` leaves it as a "
                   "copy.\nAfterwards `liveblk qmp blockdev-del node-name=%s` (or %s) closes what is not used any more.\n",
                   m->job, m->job, m->node, m->target_node);
        }
    }
}

/* What would be done; refused where the deed would be. 1 or -errno. */
static int say_plan(Mirror *m, Error **errp)
{
    bool existing = cli_has(m->args, "existing");
    bool there;

    if (check_target(m, &there, errp) < 0) {
        return -EEXIST;
    }
    if (m->args->json) {
        QDict *d = qdict_new();

        qdict_put_bool(d, "dry-run", true);
        qdict_put_str(d, "job", m->job);
        qdict_put_str(d, "node", m->node);
        qdict_put_str(d, "target", m->target);
        qdict_put_str(d, "format", m->format);
        qdict_put_int(d, "virtual-size", m->size);
        qdict_put_bool(d, "replaces", there && !existing);
        cli_print_json(d);
    } else {
        printf("would %s %s (%s, %" PRId64 " bytes) and mirror node '%s' to it as job '%s'\n",
               existing ? "open" : m->place ? "overwrite" : there ? "replace" : "make", m->target, m->format, m->size, m->node, m->job);
    }
    return 1;
}

static int mirror(Mirror *m, Error **errp)
{
    const char *node = cli_get(m->args, "node"), *job = cli_get(m->args, "job");

    m->c = client_open(m->args, errp);
    if (!m->c || !(m->node = find_node(m, node, errp)) || look_at_nodes(m, errp) < 0) {
        return -EIO;
    }
    if (find_place(m, errp) < 0) {
        return -EINVAL;
    }
    m->job = job ? g_strdup(job) : g_strdup_printf("mirror-%s", m->base);
    if (cli_has(m->args, "dry-run")) {
        return say_plan(m, errp);
    }
    sigset_t signals, before;

    /* Not half way: either nothing is left, or the job runs. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &before);
    int ret = create_target(m, errp) < 0 || add_target(m, errp) < 0 || start(m, errp) < 0 ? -EIO : 0;

    if (ret < 0) {
        take_back(m);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return ret < 0 || cli_has(m->args, "detach") ? ret : finish(m, errp);
}

int cli_mirror(CliArgs *a)
{
    Mirror m = { .args = a, .format = cli_get(a, "format") };
    Error *err = NULL;

    if (cli_has(a, "pivot") + cli_has(a, "stop") + cli_has(a, "detach") > 1) {
        return cli_usage("only one of --pivot, --stop and --detach");
    }
    if (cli_has(a, "keep-source") && !cli_has(a, "pivot")) {
        return cli_usage("--keep-source is for --pivot");
    }
    m.target = path_has_protocol(cli_arg(a, 0)) && ops_place_is(cli_arg(a, 0)) ? g_strdup(cli_arg(a, 0))
             : g_canonicalize_filename(cli_arg(a, 0), NULL);
    if (!m.format) {
        m.format = ops_format_for(m.target);
    }
    int ret = mirror(&m, &err);

    if (ret == 0) {
        say(&m);
    }
    client_close(m.c);
    g_free(m.node);
    g_free(m.base);
    g_free(m.target);
    g_free(m.target_node);
    qdict_unref(m.place);
    g_free(m.creds);
    g_free(m.job);
    return ret < 0 ? cli_fail(err) : CLI_OK;
}

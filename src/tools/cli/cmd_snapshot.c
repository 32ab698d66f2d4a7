/* SPDX-License-Identifier: MIT */
/* cmd_snapshot.c: snapshots inside images: list, create, apply, delete. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "base/size.h"
#include "block/snapshot.h"
#include "qapi-types.h"
#include "qmp/qmp_private.h"
#include <time.h>

typedef struct SnapshotCall {
    OpsSource src;
    const char *verb, *name;
    bool same_name;             /* create another by the same name */
    bool dry;
    SnapshotInfoList *list;     /* of list; the caller frees */
    SnapshotInfo *one;          /* what was made, applied or deleted */
} SnapshotCall;

/* The one that the user means: by id, or by a name that only one has. */
static int find_one(SnapshotCall *c, BlockDriverState *bs, QEMUSnapshotInfo *info, Error **errp)
{
    g_autofree QEMUSnapshotInfo *list = NULL;
    int n = bdrv_snapshot_list(bs, &list), found = 0;

    for (int i = 0; i < n; i++) {
        if (!strcmp(list[i].id_str, c->name)) {
            *info = list[i];
            return 0;
        }
        if (!strcmp(list[i].name, c->name)) {
            *info = list[i];
            found++;
        }
    }
    if (found == 1) {
        return 0;
    }
    if (found) {
        error_setg(errp, "'%s' has %d snapshots by the name of '%s'", c->src.name, found, c->name);
        error_append_hint(errp, "Say the id of one; `liveblk snapshot %s` lists them.\n", c->src.name);
    } else {
        error_setg(errp, "'%s' has no snapshot with the id or name '%s'", c->src.name, c->name);
    }
    return -ENOENT;
}

static int coroutine_fn create_one(SnapshotCall *c, BlockDriverState *bs, Error **errp)
{
    QEMUSnapshotInfo sn = { .icount = UINT64_MAX }, old;
    int64_t now_us = g_get_real_time();

    if (!c->same_name && bdrv_snapshot_find(bs, &old, c->name)) {
        error_setg(errp, "'%s' has a snapshot by the name of '%s' already", c->src.name, c->name);
        return -EEXIST;
    }
    if (strlen(c->name) >= sizeof(sn.name)) {
        error_setg(errp, "The name of a snapshot has at most %zu bytes", sizeof(sn.name) - 1);
        return -ENAMETOOLONG;
    }
    g_strlcpy(sn.name, c->name, sizeof(sn.name));
    sn.date_sec = now_us / 1000000;
    sn.date_nsec = now_us % 1000000 * 1000;
    int ret = c->dry ? 0 : bdrv_snapshot_create(bs, &sn, errp);

    c->one = ret < 0 ? NULL : qmp_snapshot_info(&sn);
    return ret;
}

static int coroutine_fn change_one(SnapshotCall *c, BlockDriverState *bs, Error **errp)
{
    QEMUSnapshotInfo sn;
    int ret = find_one(c, bs, &sn, errp);

    if (!ret && !c->dry) {
        ret = !strcmp(c->verb, "apply") ? bdrv_snapshot_goto(bs, sn.id_str, errp)
                                        : bdrv_snapshot_delete(bs, sn.id_str, NULL, errp);
    }
    c->one = ret < 0 ? NULL : qmp_snapshot_info(&sn);
    return ret;
}

static int coroutine_fn snapshot_op(void *opaque, Error **errp)
{
    SnapshotCall *c = opaque;
    BlockBackend *blk = ops_open(&c->src, errp);
    BlockDriverState *bs = blk ? blk_bs(blk) : NULL;
    g_autofree QEMUSnapshotInfo *list = NULL;
    int ret = -EIO;

    if (!blk) {
        return ret;
    }
    if (bdrv_snapshot_list(bs, &list) == -ENOTSUP) {
        error_setg(errp, "'%s' has format %s, which has no snapshots inside", c->src.name, bs->drv->format_name);
        error_append_hint(errp, "An overlay keeps the present state too: liveblk create NEW -b %s -F %s\n", c->src.name,
                          bs->drv->format_name);
        ret = -ENOTSUP;
    } else if (!strcmp(c->verb, "list")) {
        c->list = qmp_snapshot_infos(bs);
        ret = 0;
    } else if (!strcmp(c->verb, "create")) {
        ret = create_one(c, bs, errp);
    } else {
        ret = change_one(c, bs, errp);
    }
    blk_unref(blk);
    return ret;
}

static void print_list(const SnapshotCall *c)
{
    if (!c->list) {
        printf("no snapshots\n");
        return;
    }
    printf("%-5s %-24s %-19s %s\n", "ID", "NAME", "MADE", "MACHINE STATE");
    for (const SnapshotInfoList *l = c->list; l; l = l->next) {
        g_autofree char *state = l->value->vm_state_size ? size_to_str(l->value->vm_state_size) : g_strdup("-");
        time_t date = l->value->date_sec;
        struct tm tm;
        char day[32];

        localtime_r(&date, &tm);
        strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm);
        printf("%-5s %-24s %-19s %s\n", l->value->id, l->value->name, day, state);
    }
}

static void print_result(const CliArgs *a, const SnapshotCall *c)
{
    static const char *const done[][2] = { { "create", "created" }, { "apply", "applied" }, { "delete", "deleted" } };

    if (a->json && !c->one) {
        QDict *list = qlist_new();

        for (const SnapshotInfoList *l = c->list; l; l = l->next) {
            qlist_append(list, qapi_to_json(&qapi_type_SnapshotInfo, l->value));
        }
        cli_print_json(list);
    } else if (a->json) {
        QDict *d = qapi_to_json(&qapi_type_SnapshotInfo, c->one);

        if (c->dry) {
            qdict_put_bool(d, "dry-run", true);
        }
        cli_print_json(d);
    } else if (!c->one) {
        print_list(c);
    } else {
        for (size_t i = 0; i < G_N_ELEMENTS(done) && !a->quiet; i++) {
            if (!strcmp(c->verb, done[i][0])) {
                printf("%s%s snapshot %s%s%s%s of %s\n", c->dry ? "would have " : "", done[i][1], c->one->name,
                       *c->one->id ? " (id " : "", c->one->id, *c->one->id ? ")" : "", c->src.name);
            }
        }
    }
}

int cli_snapshot(CliArgs *a)
{
    SnapshotCall c = { .src = cli_source(a, 0), .verb = cli_arg(a, 1) ? cli_arg(a, 1) : "list", .name = cli_arg(a, 2),
                       .same_name = cli_has(a, "same-name"), .dry = cli_has(a, "dry-run") };
    bool list = !strcmp(c.verb, "list");
    Error *err = NULL;

    if (!list && strcmp(c.verb, "create") && strcmp(c.verb, "apply") && strcmp(c.verb, "delete")) {
        return cli_usage("'%s' is not list, create, apply or delete", c.verb);
    }
    if (list != !c.name) {
        return cli_usage(list ? "list takes no snapshot" : "say which snapshot to %s", c.verb);
    }
    if (!list && cli_has(a, "force-share")) {
        return cli_usage("%s needs the image for itself; leave out --force-share", c.verb);
    }
    c.src.writable = c.src.resize = !list && !c.dry;
    c.src.force_share = cli_has(a, "force-share");
    cli_engine_start();
    int ret = ops_run(snapshot_op, &c, &err);

    if (ret >= 0) {
        print_result(a, &c);
    }
    cli_engine_stop();
    qapi_free(&qapi_type_SnapshotInfoList, c.list);
    qapi_free(&qapi_type_SnapshotInfo, c.one);
    return ret < 0 ? cli_fail(err) : CLI_OK;
}

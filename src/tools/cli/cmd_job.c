/* SPDX-License-Identifier: MIT */
/* cmd_job.c: jobs of a running server: list, watch, verbs; and mirror. */
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/follow.h"
#include "base/str.h"

/* ---- list ---- */

/* query-jobs, each with what query-block-jobs adds; NULL and *errp. */
static QDict *all_jobs(Client *c, Error **errp)
{
    QDict *jobs = client_call(c, "query-jobs", NULL, errp);
    g_autoptr(QDict) block = jobs ? client_call(c, "query-block-jobs", NULL, errp) : NULL;

    if (!block) {
        qdict_unref(jobs);
        return NULL;
    }
    for (size_t i = 0; i < qlist_size(jobs); i++) {
        QDict *j = qlist_get(jobs, i);

        for (size_t k = 0; k < qlist_size(block); k++) {
            QDict *b = qlist_get(block, k);

            if (!g_strcmp0(qdict_get_try_str(b, "device"), qdict_get_try_str(j, "id"))) {
                qdict_join(j, b, false);
            }
        }
    }
    return jobs;
}

static void print_jobs(QDict *jobs)
{
    printf("%-24s %-8s %-10s %6s %12s %12s %s\n", "ID", "TYPE", "STATE", "DONE", "COPIED", "LIMIT", "");
    for (size_t i = 0; i < qlist_size(jobs); i++) {
        QDict *j = qlist_get(jobs, i);
        int64_t done = qdict_get_try_int(j, "current-progress", 0), total = qdict_get_try_int(j, "total-progress", 0);
        int64_t speed = qdict_get_try_int(j, "speed", 0);
        g_autofree char *copied = size_to_str(done), *rate = size_to_str(speed);
        g_autofree char *limit = speed ? g_strdup_printf("%s/s", rate) : g_strdup("-");
        const char *error = qdict_get_try_str(j, "error"), *io = qdict_get_try_str(j, "io-status");

        printf("%-24s %-8s %-10s %5.1f%% %12s %12s %s\n", qdict_get_try_str(j, "id"), qdict_get_try_str(j, "type"),
               qdict_get_try_str(j, "status"), total > 0 ? 100.0 * done / total : 100.0, copied, limit,
               error ? error : io && strcmp(io, "ok") ? io : "");
    }
}

int cli_jobs(CliArgs *a)
{
    Error *err = NULL;
    Client *c = client_open(a, &err);
    bool watch = cli_has(a, "watch");
    size_t n = 0;

    if (!c) {
        return cli_fail(err);
    }
    do {
        QDict *jobs = all_jobs(c, &err);

        if (!jobs) {
            break;
        }
        n = qlist_size(jobs);
        if (a->json) {
            cli_print_json(jobs);
        } else {
            if (watch && isatty(STDOUT_FILENO)) {
                printf("\033[H\033[J");
            }
            print_jobs(jobs);
            qdict_unref(jobs);
        }
        fflush(stdout);
        if (watch && n) {
            g_usleep(1000 * 1000);
        }
    } while (watch && n);
    client_close(c);
    return err ? cli_fail(err) : CLI_OK;
}

/* ---- verbs ---- */

static QDict *id_args(const char *key, const char *id)
{
    QDict *d = qdict_new();

    qdict_put_str(d, key, id);
    return d;
}

static int job_verb(Client *c, CliArgs *a, const char *verb, const char *id, Error **errp)
{
    static const struct { const char *verb, *command; } verbs[] = {
        { "pause", "job-pause" }, { "resume", "job-resume" }, { "complete", "job-complete" },
        { "finalize", "job-finalize" }, { "dismiss", "job-dismiss" }, { "cancel", "job-cancel" },
    };

    if (!strcmp(verb, "speed")) {
        uint64_t rate;
        QDict *d = id_args("device", id);

        size_parse(cli_arg(a, 2), 1, &rate);
        qdict_put_int(d, "speed", rate);
        return client_do(c, "block-job-set-speed", d, errp);
    }
    if (cli_has(a, "soft")) {
        return client_do(c, "block-job-cancel", id_args("device", id), errp);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (!strcmp(verb, verbs[i].verb)) {
            return client_do(c, verbs[i].command, id_args("id", id), errp);
        }
    }
    g_assert_not_reached();
}

int cli_job(CliArgs *a)
{
    static const char verbs[] = "pause resume cancel complete finalize dismiss speed";
    const char *verb = cli_arg(a, 0), *id = cli_arg(a, 1);
    g_auto(GStrv) words = g_strsplit(verbs, " ", -1);
    Error *err = NULL;
    uint64_t rate;

    if (!g_strv_contains((const char *const *)words, verb)) {
        const char *near = str_closest(verb, (const char *const *)words);

        return near ? cli_usage("unknown verb '%s'; did you mean '%s'?", verb, near) : cli_usage("'%s' is not one of: %s", verb, verbs);
    }
    if (!strcmp(verb, "speed") != !!cli_arg(a, 2)) {
        return cli_usage(cli_arg(a, 2) ? "only speed takes a third argument" : "speed needs a rate: 50M, or 0 for no limit");
    }
    if (cli_arg(a, 2) && (size_parse(cli_arg(a, 2), 1, &rate) < 0 || rate > INT64_MAX)) {
        return cli_usage("'%s' is not a rate; write 512K, 50M, or 0 for no limit", cli_arg(a, 2));
    }
    if (cli_has(a, "soft") && strcmp(verb, "cancel")) {
        return cli_usage("--soft is for cancel");
    }
    Client *c = client_open(a, &err);

    if (!c) {
        return cli_fail(err);
    }
    int ret = job_verb(c, a, verb, id, &err);
    const char *end_name = NULL;

    if (ret == 0 && cli_has(a, "wait")) {
        FollowEnd end = follow_job(c, a, id, false, &err);

        end_name = end == FOLLOW_CANCELLED ? "cancelled" : "completed";
        ret = end == FOLLOW_FAILED || (end == FOLLOW_CANCELLED && strcmp(verb, "cancel")) ? -1 : 0;
        if (ret && !err) {
            error_setg(&err, "Job '%s' was cancelled", id);
        } else if (ret) {
            error_prepend(&err, "Job '%s' failed: ", id);
        }
    }
    client_close(c);
    if (ret < 0) {
        return cli_fail(err);
    }
    if (a->json) {
        QDict *d = id_args("id", id);

        qdict_put_str(d, "verb", verb);
        if (end_name) {
            qdict_put_str(d, "end", end_name);
        }
        cli_print_json(d);
    }
    return CLI_OK;
}

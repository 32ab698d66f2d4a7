/* SPDX-License-Identifier: MIT */
/* follow.c: see follow.h. */
#include "cli/follow.h"

typedef struct Seen {
    bool cancelled, completed, concluded;
    char *error;
} Seen;

static void look_at_event(QDict *event, const char *id, Seen *seen)
{
    const char *name = qdict_get_try_str(event, "event");
    QDict *data = qdict_get_qdict(event, "data");
    const char *device = data ? qdict_get_try_str(data, "device") : NULL;

    if (g_strcmp0(device, id)) {
        return;
    }
    if (!strcmp(name, "BLOCK_JOB_CANCELLED")) {
        seen->cancelled = true;
    } else if (!strcmp(name, "BLOCK_JOB_COMPLETED")) {
        seen->completed = true;
        if (qdict_get_try_str(data, "error")) {
            g_free(seen->error);
            seen->error = g_strdup(qdict_get_try_str(data, "error"));
        }
    }
}

/* The job's entry in query-jobs, a new reference; NULL: it is gone, or *errp. */
static QDict *job_entry(Client *c, const char *id, Error **errp)
{
    g_autoptr(QDict) jobs = client_call(c, "query-jobs", NULL, errp);

    for (size_t i = 0; jobs && i < qlist_size(jobs); i++) {
        QDict *j = qlist_get(jobs, i);

        if (!g_strcmp0(qdict_get_try_str(j, "id"), id)) {
            return qdict_ref(j);
        }
    }
    return NULL;
}

static FollowEnd ended(const Seen *seen, Error **errp)
{
    if (seen->error) {
        error_setg(errp, "%s", seen->error);
        return FOLLOW_FAILED;
    }
    return seen->cancelled ? FOLLOW_CANCELLED : FOLLOW_COMPLETED;
}

FollowEnd follow_job(Client *c, const CliArgs *a, const char *id, bool until_ready, Error **errp)
{
    CliProgress *p = cli_progress_new(a, id);
    Seen seen = { false };
    Error *err = NULL;
    FollowEnd end = FOLLOW_FAILED;

    for (;;) {
        g_autoptr(QDict) event = client_event(c, 100, &err);

        if (err) {
            break;
        }
        if (event) {
            look_at_event(event, id, &seen);
            if (g_strcmp0(qdict_get_try_str(event, "event"), "JOB_STATUS_CHANGE") && !seen.cancelled && !seen.completed) {
                continue;
            }
        }
        g_autoptr(QDict) job = job_entry(c, id, &err);

        if (err) {
            break;
        }
        const char *status = job ? qdict_get_try_str(job, "status") : "null";

        if (!job || !strcmp(status, "concluded")) {
            /* The events of the end came before the answer. */
            while ((event = (qdict_unref(event), client_event(c, 0, &err)))) {
                look_at_event(event, id, &seen);
            }
            if (job && qdict_get_try_str(job, "error") && !seen.cancelled) {
                g_free(seen.error);
                seen.error = g_strdup(qdict_get_try_str(job, "error"));
            }
            end = ended(&seen, &err);
            break;
        }
        cli_progress_show(p, qdict_get_try_int(job, "current-progress", 0), qdict_get_try_int(job, "total-progress", 0),
                          strcmp(status, "running") ? status : NULL);
        if (until_ready && !strcmp(status, "ready")) {
            end = FOLLOW_READY;
            break;
        }
    }
    cli_progress_end(p, false);
    g_free(seen.error);
    error_propagate(errp, err);
    return end;
}

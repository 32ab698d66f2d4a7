/* SPDX-License-Identifier: MIT */
/* monitor.c: see monitor.h. Error texts and order are the peer's. */
#include "base/osdep.h"
#include "base/trace.h"
#include "base/json.h"
#include "block/block.h"
#include "block/qdict.h"
#include "block/qapi-visit.h"
#include "qapi-types.h"
#include "qmp/monitor.h"
#include "qmp/version.h"

#define QUEUE_MAX       8               /* commands read ahead */

typedef struct Command {
    json_object *json;                  /* NULL: null, or with err: could not be parsed */
    Error *err;
    STAILQ_ENTRY(Command) next;
} Command;

struct Monitor {
    bool pretty, negotiated, oob, dead, running, was_full;
    void (*output)(void *opaque, const char *text, size_t len);
    void (*ready)(void *opaque);
    void *opaque;
    JsonParser parser;
    unsigned queued;
    STAILQ_HEAD(, Command) queue;
    json_object *quit_request;
    bool quitting;
    LIST_ENTRY(Monitor) link;
};

static LIST_HEAD(, Monitor) monitors = LIST_HEAD_INITIALIZER(monitors);
static bool quit_requested;

bool monitor_quit_requested(void)
{
    return quit_requested;
}

void monitor_request_quit(void)
{
    quit_requested = true;
    aio_notify(qemu_get_aio_context());
}

/* ---- output ---- */

static void monitor_send(Monitor *mon, json_object *v)
{
    GString *out = g_string_new("");

    if (!mon->dead) {
        json_print(out, v, mon->pretty);
        if (mon->pretty) {              /* line ends as a terminal wants them */
            GString *crlf = g_string_new("");

            for (gsize i = 0; i < out->len; i++) {
                if (out->str[i] == '\n') {
                    g_string_append_c(crlf, '\r');
                }
                g_string_append_c(crlf, out->str[i]);
            }
            g_string_free(out, TRUE);
            out = crlf;
        }
        g_string_append(out, "\r\n");
        mon->output(mon->opaque, out->str, out->len);
    }
    g_string_free(out, TRUE);
}

/* To @req, whose id comes back whatever it is, null too. */
static void send_reply(Monitor *mon, json_object *ret, Error *err, json_object *req)
{
    json_object *r = json_object_new_object(), *id;

    if (err) {
        json_object *e = json_object_new_object();

        qdict_put_str(e, "class", ErrorClass_str(error_get_class(err)));
        qdict_put_str(e, "desc", error_get_pretty(err));
        qdict_put_obj(r, "error", e);
    } else {
        qdict_put_obj(r, "return", ret ? json_object_get(ret) : json_object_new_object());
    }
    if (json_object_is_type(req, json_type_object) && json_object_object_get_ex(req, "id", &id)) {
        qdict_put_obj(r, "id", json_object_get(id));
    }
    monitor_send(mon, r);
    json_object_put(r);
}

static void monitor_event(const char *name, json_object *data)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    json_object *e = json_object_new_object(), *ts = json_object_new_object();
    Monitor *mon;

    qdict_put_int(ts, "seconds", now / NANOSECONDS_PER_SECOND);
    qdict_put_int(ts, "microseconds", now % NANOSECONDS_PER_SECOND / 1000);
    qdict_put_str(e, "event", name);
    qdict_put_obj(e, "timestamp", ts);
    if (json_object_object_length(data)) {
        qdict_put_obj(e, "data", json_object_get(data));
    }
    LIST_FOREACH(mon, &monitors, link) {
        if (mon->negotiated) {
            monitor_send(mon, e);
        }
    }
    json_object_put(e);
}

/* ---- commands ---- */

static const QapiCommand *command_find(const char *name)
{
    for (const QapiCommand *c = qapi_commands; c->name; c++) {
        if (!strcmp(c->name, name)) {
            return c;
        }
    }
    return NULL;
}

/* Check the members of a request; sets what it asks for. */
static bool request_check(Monitor *mon, json_object *req, const char **name, json_object **args,
                          bool *oob, Error **errp)
{
    *name = NULL;
    *args = NULL;
    *oob = false;
    if (!json_object_is_type(req, json_type_object)) {
        error_setg(errp, "QMP input must be a JSON object");
        return false;
    }
    json_object_object_foreach(req, key, value) {
        bool is_oob = !strcmp(key, "exec-oob") && mon->oob;

        if (!strcmp(key, "execute") || is_oob) {
            if (!json_object_is_type(value, json_type_string)) {
                error_setg(errp, "QMP input member '%s' must be a string", key);
                return false;
            }
            if (*name) {
                error_setg(errp, "QMP input member 'execute' clashes with 'exec-oob'");
                return false;
            }
            *name = json_object_get_string(value);
            *oob = is_oob;
        } else if (!strcmp(key, "arguments")) {
            if (!json_object_is_type(value, json_type_object)) {
                error_setg(errp, "QMP input member 'arguments' must be an object");
                return false;
            }
            *args = value;
        } else if (strcmp(key, "id")) {
            error_setg(errp, "QMP input member '%s' is unexpected", key);
            return false;
        }
    }
    if (!*name) {
        error_setg(errp, "QMP input lacks member 'execute'");
        return false;
    }
    return true;
}

static json_object *run_command(Monitor *mon, const QapiCommand *cmd, json_object *args, Error **errp)
{
    json_object *empty = json_object_new_object(), *ret = NULL;
    Error *local_err = NULL;
    void *arg = qapi_from_json(cmd->arg, args ? args : empty, false, errp);

    json_object_put(empty);
    if (!arg) {
        return NULL;
    }
    void *value = cmd->marshal(arg, &local_err);

    if (!local_err && cmd->ret) {
        ret = qapi_to_json(cmd->ret, value);
    }
    if (cmd->ret && (value || cmd->ret->kind == QAPI_LIST)) {
        qapi_free(cmd->ret, value);
    }
    qapi_free(cmd->arg, arg);
    error_propagate(errp, local_err);
    return ret;
}

static void negotiate(Monitor *mon, json_object *args, Error **errp)
{
    const QapiCommand *cmd = command_find("qmp_capabilities");
    json_object *empty = json_object_new_object();
    void *arg = qapi_from_json(cmd->arg, args ? args : empty, false, errp);

    json_object_put(empty);
    if (arg && mon->negotiated) {
        error_set(errp, ERROR_CLASS_COMMAND_NOT_FOUND,
                  "Capabilities negotiation is already complete, command ignored");
    } else if (arg) {
        json_object *enable = args ? qdict_get(args, "enable") : NULL;

        mon->oob = enable && json_object_array_length(enable) > 0;
        mon->negotiated = true;
    }
    qapi_free(cmd->arg, arg);
}

static void coroutine_fn command_run(Monitor *mon, Command *c)
{
    json_object *args, *ret = NULL;
    const char *name;
    bool oob;
    Error *err = c->err;

    c->err = NULL;
    if (!err && request_check(mon, c->json, &name, &args, &oob, &err)) {
        const QapiCommand *cmd = command_find(name);
        bool is_negotiation = !strcmp(name, "qmp_capabilities");

        if (!mon->negotiated && !is_negotiation) {
            error_set(&err, ERROR_CLASS_COMMAND_NOT_FOUND,
                      "Expecting capabilities negotiation with 'qmp_capabilities'");
        } else if (!cmd) {
            error_set(&err, ERROR_CLASS_COMMAND_NOT_FOUND, "The command %s has not been found", name);
        } else if (oob && !cmd->oob) {
            error_setg(&err, "The command %s does not support OOB", name);
        } else if (is_negotiation) {
            negotiate(mon, args, &err);
        } else {
            TRACE(qmp, "%s", json_object_to_json_string_ext(c->json, JSON_C_TO_STRING_PLAIN));
            ret = run_command(mon, cmd, args, &err);
            TRACE(qmp, "%s: %s", name, err ? error_get_pretty(err) : "done");
            if (!err && !strcmp(name, "quit")) {
                /* Answered when all is closed: the reply says that it is done. */
                mon->quitting = true;
                mon->quit_request = json_object_get(c->json);
                return;
            }
        }
    }
    send_reply(mon, ret, err, c->json);
    json_object_put(ret);
    error_free(err);
}

static void monitor_destroy(Monitor *mon)
{
    Command *c;

    while ((c = STAILQ_FIRST(&mon->queue))) {
        STAILQ_REMOVE_HEAD(&mon->queue, next);
        json_object_put(c->json);
        error_free(c->err);
        g_free(c);
    }
    json_parser_destroy(&mon->parser);
    json_object_put(mon->quit_request);
    g_free(mon);
}

static void coroutine_fn monitor_co(void *opaque)
{
    Monitor *mon = opaque;
    Command *c;

    while (!mon->dead && !mon->quitting && (c = STAILQ_FIRST(&mon->queue))) {
        STAILQ_REMOVE_HEAD(&mon->queue, next);
        mon->queued--;
        control_co_lock();
        command_run(mon, c);
        control_co_unlock();
        json_object_put(c->json);
        error_free(c->err);
        g_free(c);
        if (mon->was_full && !monitor_is_full(mon) && mon->ready && !mon->dead) {
            mon->was_full = false;
            mon->ready(mon->opaque);
        }
    }
    mon->running = false;
    if (mon->dead) {
        monitor_destroy(mon);
    }
}

/* A command may close files and so on: never run it inside the caller, who reads a socket. */
static void monitor_bh(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_create(monitor_co, opaque));
}

static void monitor_queue(Monitor *mon, json_object *json, Error *err)
{
    Command *c = g_new0(Command, 1);

    c->json = json;
    c->err = err;
    STAILQ_INSERT_TAIL(&mon->queue, c, next);
    mon->queued++;
    if (monitor_is_full(mon)) {
        mon->was_full = true;
    }
    if (!mon->running) {
        mon->running = true;
        aio_bh_schedule_oneshot(qemu_get_aio_context(), monitor_bh, mon);
    }
}

bool monitor_is_full(const Monitor *mon)
{
    return mon->queued >= QUEUE_MAX;
}

void monitor_set_ready_cb(Monitor *mon, void (*ready)(void *opaque))
{
    mon->ready = ready;
}

/* ---- input ---- */

static void message_complete(void *opaque, QDict *value, Error *err)
{
    monitor_queue(opaque, value, err);
}

void monitor_feed(Monitor *mon, const char *bytes, size_t len)
{
    json_parser_feed(&mon->parser, bytes, len);
}

/* ---- life ---- */

static json_object *version_json(void)
{
    json_object *v = json_object_new_object(), *q = json_object_new_object();

    qdict_put_int(q, "major", QMP_VERSION_MAJOR);
    qdict_put_int(q, "minor", QMP_VERSION_MINOR);
    qdict_put_int(q, "micro", QMP_VERSION_MICRO);
    qdict_put_obj(v, "qemu", q);
    qdict_put_str(v, "package", QMP_VERSION_PACKAGE);
    return v;
}

Monitor *monitor_new(bool pretty, void (*output)(void *opaque, const char *text, size_t len), void *opaque)
{
    Monitor *mon = g_new0(Monitor, 1);
    json_object *hello = json_object_new_object(), *q = json_object_new_object(),
                *caps = json_object_new_array();

    mon->pretty = pretty;
    mon->output = output;
    mon->opaque = opaque;
    json_parser_init(&mon->parser, message_complete, mon);
    STAILQ_INIT(&mon->queue);
    LIST_INSERT_HEAD(&monitors, mon, link);
    qapi_event_set_sink(monitor_event);
    json_object_array_add(caps, json_object_new_string("oob"));
    qdict_put_obj(q, "version", version_json());
    qdict_put_obj(q, "capabilities", caps);
    qdict_put_obj(hello, "QMP", q);
    monitor_send(mon, hello);
    json_object_put(hello);
    return mon;
}

void monitor_free(Monitor *mon)
{
    LIST_REMOVE(mon, link);
    mon->dead = true;
    if (!mon->running) {
        monitor_destroy(mon);
    }
}

void monitor_answer_quit(void)
{
    Monitor *mon;

    LIST_FOREACH(mon, &monitors, link) {
        if (mon->quitting) {
            send_reply(mon, NULL, NULL, mon->quit_request);
        }
    }
}

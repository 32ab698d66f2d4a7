/* SPDX-License-Identifier: MIT */
/* cmd_human.c: human-monitor-command with its one command: qemu-io NODE "COMMAND", which reads and
 * writes a node of the running daemon by hand; for tests above all.
 *
 * What the command says is the answer. A request of aio_read or aio_write goes on when the answer has been
 * sent: what it says comes with the answer to the next command on that node, of which aio_flush is one.
 * Other commands of the protocol run meanwhile.
 */
#include "base/osdep.h"
#include "block/block-backend.h"
#include "block/block_int-global-state.h"
#include "ioshell/ioshell.h"
#include "qapi-commands.h"
#include "qmp/monitor.h"

/* Commands on one node, while there is one, or an asynchronous request, or something left to say. */
typedef struct HumanSession {
    char *node;                 /* as it was named */
    GString *text;              /* not sent yet */
    IoShell *shell;             /* NULL: nothing is on its way */
    unsigned commands;          /* that run on it */
    bool ending;                /* a coroutine waits for its requests */
    LIST_ENTRY(HumanSession) next;
} HumanSession;

static LIST_HEAD(, HumanSession) sessions = LIST_HEAD_INITIALIZER(sessions);

static void session_print(void *opaque, bool error, const char *text)
{
    HumanSession *s = opaque;

    for (; *text; text++) {
        if (*text == '\n') {
            g_string_append_c(s->text, '\r');   /* lines end as they always did there */
        }
        g_string_append_c(s->text, *text);
    }
}

static HumanSession *session_find(const char *node)
{
    HumanSession *s;

    LIST_FOREACH(s, &sessions, next) {
        if (!strcmp(s->node, node)) {
            return s;
        }
    }
    s = g_new0(HumanSession, 1);
    s->node = g_strdup(node);
    s->text = g_string_new(NULL);
    LIST_INSERT_HEAD(&sessions, s, next);
    return s;
}

static void session_drop_if_idle(HumanSession *s)
{
    if (!s->commands && !s->shell && !s->text->len) {
        LIST_REMOVE(s, next);
        g_string_free(s->text, true);
        g_free(s->node);
        g_free(s);
    }
}

/* Give the node back when the last request is done. */
static void coroutine_fn session_end_co(void *opaque)
{
    HumanSession *s = opaque;

    ioshell_co_wait_idle(s->shell);
    s->ending = false;
    if (!s->commands) {
        IoShell *shell = g_steal_pointer(&s->shell);

        control_co_lock();
        ioshell_co_free(shell);
        control_co_unlock();
        session_drop_if_idle(s);
        aio_wait_kick();
    }
}

/* The shell may be wanted again before it is free. */
static void coroutine_fn session_leave(HumanSession *s)
{
    s->commands--;
    if (!s->commands && s->shell && !s->ending) {
        s->ending = true;
        if (ioshell_in_flight(s->shell)) {
            qemu_coroutine_enter(qemu_coroutine_create(session_end_co, s));
        } else {
            session_end_co(s);
            return;
        }
    }
    session_drop_if_idle(s);
}

static int coroutine_fn session_open(HumanSession *s, BlockDriverState *bs, Error **errp)
{
    IoShellConfig config = { .print = session_print, .opaque = s, .in_daemon = true };

    bs = bdrv_guest_node(bs);       /* no job may miss what is written by hand */
    if (s->shell && blk_bs(ioshell_backend(s->shell)) == bs) {
        return 0;
    }
    if (s->shell) {
        error_setg(errp, "Requests on another node that was called '%s' are not done yet", s->node);
        return -EBUSY;
    }
    BlockBackend *blk = blk_new_with_bs(bs, 0, BLK_PERM_ALL, errp);

    if (!blk) {
        return -EPERM;
    }
    blk_set_allow_aio_context_change(blk, true);
    s->shell = ioshell_new(&config);
    ioshell_co_set_backend(s->shell, blk);
    return 0;
}

/* ---- words ---- */

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* A word, or a string in quotes in which \ protects; *@p moves behind it. NULL: none, or it has no end. */
static char *take_word(const char **p)
{
    const char *s = skip_blanks(*p);
    GString *word = g_string_new(NULL);

    if (*s == '"') {
        for (s++; *s && *s != '"'; s++) {
            if (*s == '\\' && s[1]) {
                s++;
                g_string_append_c(word, *s == 'n' ? '\n' : *s == 'r' ? '\r' : *s);
            } else {
                g_string_append_c(word, *s);
            }
        }
        if (*s != '"') {
            g_string_free(word, true);
            return NULL;
        }
        s++;
    } else {
        size_t n = strcspn(s, " \t");

        if (!n) {
            g_string_free(word, true);
            return NULL;
        }
        g_string_append_len(word, s, n);
        s += n;
    }
    *p = s;
    return g_string_free(word, FALSE);
}

/* "qemu-io NODE COMMAND" */
static bool parse_line(const char *line, char **node, char **command, Error **errp)
{
    g_autofree char *name = take_word(&line);

    if (!name || strcmp(name, "qemu-io")) {
        error_setg(errp, "Unknown command '%s': there is qemu-io only", name ? name : "");
        return false;
    }
    *node = take_word(&line);
    if (*node && !strcmp(*node, "-d")) {
        g_autofree char *id = take_word(&line);

        error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", id ? id : "");
        return false;
    }
    if (!*node) {
        error_setg(errp, "qemu-io: block device name expected");
        return false;
    }
    *command = take_word(&line);
    if (!*command) {
        error_setg(errp, "qemu-io: string expected");
        return false;
    }
    if (*skip_blanks(line)) {
        error_setg(errp, "qemu-io: extraneous characters at the end of line");
        return false;
    }
    return true;
}

typedef struct HumanEnd {
    QEMUTimer timer;
    bool late;
} HumanEnd;

static void human_end_late(void *opaque)
{
    ((HumanEnd *)opaque)->late = true;
    aio_wait_kick();
}

static bool human_end_waits(void *opaque)
{
    HumanSession *s;

    LIST_FOREACH(s, &sessions, next) {
        if (s->shell && !((HumanEnd *)opaque)->late) {
            return true;
        }
    }
    return false;
}

void human_monitor_end(void)
{
    HumanEnd end = { .late = false };
    HumanSession *s;

    LIST_FOREACH(s, &sessions, next) {
        if (s->shell) {
            ioshell_give_up(s->shell);
        }
    }
    timer_init_ns(&end.timer, qemu_get_aio_context(), human_end_late, &end);
    timer_mod_ns(&end.timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + NANOSECONDS_PER_SECOND);
    aio_wait_while(human_end_waits, &end);
    timer_del(&end.timer);
}

struct json_object *qmp_human_monitor_command(const char *command_line, Error **errp)
{
    g_autofree char *node = NULL, *command = NULL;

    if (!parse_line(command_line, &node, &command, errp)) {
        return NULL;
    }
    BlockDriverState *bs = bdrv_lookup_bs(node, node, errp);

    if (!bs) {
        return NULL;
    }
    HumanSession *s = session_find(node);
    QDict *answer = NULL;

    s->commands++;
    if (session_open(s, bs, errp) == 0) {
        /* It may wait for as long as somebody likes: others go on. */
        control_co_unlock();
        ioshell_co_run(s->shell, command);
        control_co_lock();
        answer = qstring_new(s->text->str);
        g_string_truncate(s->text, 0);
    }
    session_leave(s);
    return answer;
}

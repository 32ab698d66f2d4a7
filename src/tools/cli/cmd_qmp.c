/* SPDX-License-Identifier: MIT */
/* cmd_qmp.c: send control commands, one or from a shell.
 *
 * Arguments given as KEY=VALUE are strings; the schema that is built in says what types they
 * become. Commands that it does not know (a newer server's) get numbers and booleans where
 * they look like such.
 */
#include "cli/cli.h"
#include "cli/client.h"
#include "base/str.h"
#include "config.h"
#include "block/qapi-visit.h"
#include <poll.h>
#include <signal.h>
#ifdef CONFIG_LIBEDIT
#include <editline/readline.h>
#endif

static const QapiCommand *known_command(const char *name)
{
    for (const QapiCommand *k = qapi_commands; k->name; k++) {
        if (!strcmp(k->name, name)) {
            return k;
        }
    }
    return NULL;
}

/* The command that @name is a misspelling of; NULL: none. */
static const char *nearest_command(const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (const QapiCommand *k = qapi_commands; k->name; k++) {
        g_ptr_array_add(names, (void *)k->name);
    }
    g_ptr_array_add(names, NULL);
    return str_closest(name, (const char *const *)names->pdata);
}

/* Strings that look like something else become it; in place, one level. */
static QDict *guess_types(QDict *d)
{
    QDict *out = qdict_new();

    json_object_object_foreach(d, key, value) {
        const char *s = qstring_get(value);
        char *end = NULL;

        if (!s) {
            qdict_put_obj(out, key, qdict_type(value) == QTYPE_QDICT ? guess_types(value) : qdict_ref(value));
        } else if (!strcmp(s, "true") || !strcmp(s, "on") || !strcmp(s, "false") || !strcmp(s, "off")) {
            qdict_put_bool(out, key, !strcmp(s, "true") || !strcmp(s, "on"));
        } else {
            errno = 0;
            gint64 n = g_ascii_strtoll(s, &end, 10);

            if (*s && !*end && !errno) {
                qdict_put_int(out, key, n);
            } else {
                qdict_put_str(out, key, s);
            }
        }
    }
    return out;
}

/* The arguments of @command from @words; NULL and *errp. */
static QDict *read_arguments(const char *command, char **words, Error **errp)
{
    if (!*words) {
        return qdict_new();
    }
    if (**words == '{') {
        g_autofree char *text = g_strjoinv(" ", words);

        return qdict_from_json(text, errp);
    }
    g_autoptr(GString) text = g_string_new(NULL);

    for (char **w = words; *w; w++) {
        g_auto(GStrv) parts = g_strsplit(*w, ",", -1);
        g_autofree char *escaped = g_strjoinv(",,", parts);

        if (!strchr(*w, '=')) {
            error_setg(errp, "'%s' is not KEY=VALUE", *w);
            return NULL;
        }
        g_string_append_printf(text, "%s%s", text->len ? "," : "", escaped);
    }
    g_autoptr(QDict) d = qdict_from_keyval(text->str, NULL, NULL, errp);
    const QapiCommand *known = known_command(command);

    if (!d) {
        return NULL;
    }
    if (!known) {
        return guess_types(d);
    }
    void *typed = qapi_from_json(known->arg, d, true, errp);
    QDict *out = typed ? qapi_to_json(known->arg, typed) : NULL;

    qapi_free(known->arg, typed);
    return out;
}

/* { "execute": ..., "arguments": ... } as one word. */
static int raw_command(const char *text, char **command, QDict **args, Error **errp)
{
    g_autoptr(QDict) d = qdict_from_json(text, errp);

    if (!d) {
        return -1;
    }
    if (qdict_type(d) != QTYPE_QDICT || !qdict_get_try_str(d, "execute")) {
        error_setg(errp, "A command is {\"execute\": NAME, \"arguments\": {...}}");
        return -1;
    }
    *command = g_strdup(qdict_get_try_str(d, "execute"));
    *args = qdict_get(d, "arguments") ? qdict_ref(qdict_get(d, "arguments")) : NULL;
    return 0;
}

static int send_words(Client *c, char **words, Error **errp)
{
    g_autofree char *command = NULL;
    QDict *args = NULL, *value;

    if (**words == '{') {
        g_autofree char *text = g_strjoinv(" ", words);

        if (raw_command(text, &command, &args, errp) < 0) {
            return -1;
        }
    } else {
        command = g_strdup(words[0]);
        args = read_arguments(command, words + 1, errp);
        if (!args) {
            return -1;
        }
    }
    Error *err = NULL;

    value = client_call(c, command, args, &err);
    if (!value) {
        if (strstr(error_get_pretty(err), "has not been found") && nearest_command(command)) {
            error_append_hint(&err, "Did you mean %s?\n", nearest_command(command));
        }
        error_propagate(errp, err);
        return -1;
    }
    cli_print_json(value);
    return 0;
}

/* ---- the shell ---- */

typedef struct Shell {
    Client *c;
    bool tty, end;
    sigset_t mask;              /* of signals, while it waits */
    bool editing;               /* a line that is being edited is on the screen */
    int failed;
    GPtrArray *commands;        /* names, sorted; NULL at the end */
} Shell;

static Shell shell;             /* the line editor's callbacks have no argument */

static void show_events(int wait_ms)
{
    QDict *e;
    Error *err = NULL;
    bool shown = false;

    while ((e = client_event(shell.c, wait_ms, &err))) {
        g_autofree char *text = json_to_str(e, false);

        printf("%s%s\n", shell.editing && !shown ? "\r\033[K" : "", text);
        shown = true;
        qdict_unref(e);
    }
#ifdef CONFIG_LIBEDIT
    if (shown && shell.editing && !shell.end && !err) {
        rl_forced_update_display();
    }
#endif
    if (err) {
        if (!shell.end) {
            error_report_err(err);
            shell.failed = CLI_FAILED;
        } else {
            error_free(err);
        }
        shell.end = true;
    }
    fflush(stdout);
}

static void shell_help(void)
{
    printf("COMMAND KEY=VALUE... or JSON; Tab completes, exit leaves. The server's commands:\n");
    for (guint i = 0; i + 1 < shell.commands->len; i++) {
        printf("  %s\n", (char *)g_ptr_array_index(shell.commands, i));
    }
}

static void shell_line(const char *line)
{
    g_autofree char *copy = g_strstrip(g_strdup(line));
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) parse = NULL;
    Error *err = NULL;

    if (!*copy || *copy == '#') {
        return;
    }
    if (!strcmp(copy, "exit")) {
        shell.end = true;
    } else if (!strcmp(copy, "help")) {
        shell_help();
    } else if (*copy == '{') {
        char *one[] = { copy, NULL };

        send_words(shell.c, one, &err);
    } else if (!g_shell_parse_argv(copy, NULL, &words, &parse)) {
        error_setg(&err, "%s", parse->message);
    } else if (send_words(shell.c, words, &err) == 0 && !strcmp(words[0], "quit")) {
        shell.end = true;
    }
    if (err) {
        shell.failed = CLI_FAILED;
        error_report_err(err);
    }
    show_events(0);
}

#ifdef CONFIG_LIBEDIT
static char *complete_command(const char *text, int state)
{
    static guint at;

    at = state ? at : 0;
    while (at + 1 < shell.commands->len) {
        const char *name = g_ptr_array_index(shell.commands, at++);

        if (g_str_has_prefix(name, text)) {
            return strdup(name);
        }
    }
    return NULL;
}

static char **complete(const char *text, int start, int end)
{
    rl_attempted_completion_over = start == 0;
    return start == 0 ? rl_completion_matches(text, complete_command) : NULL;
}

static void edited_line(char *line)
{
    if (!line) {
        shell.end = true;
        printf("\n");
    } else {
        if (*line) {
            add_history(line);
        }
        shell_line(line);
        free(line);
    }
    if (shell.end) {
        rl_callback_handler_remove();
    } else {
        /* libedit leaves the terminal to what a line does; only this takes it back, and shows the prompt. */
        rl_callback_handler_install("liveblk> ", edited_line);
    }
}
#endif

static void edit_begin(void)
{
#ifdef CONFIG_LIBEDIT
    if (shell.tty) {
        rl_catch_signals = 0;       /* ours: catch_signals() */
        rl_attempted_completion_function = complete;
        rl_callback_handler_install("liveblk> ", edited_line);
    }
#endif
}

static void edit_end(void)
{
#ifdef CONFIG_LIBEDIT
    if (shell.tty && !shell.end) {
        rl_callback_handler_remove();
        printf("\n");
    }
#endif
}

static volatile sig_atomic_t shell_signal;

static void on_signal(int sig)
{
    shell_signal = sig;
}

/* On a terminal: signals come while the shell waits, so that it can leave the terminal as it was. */
static void catch_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction sa = { .sa_handler = on_signal };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; shell.tty && i < G_N_ELEMENTS(signals); i++) {
        sigaddset(&set, signals[i]);
        sigaction(signals[i], &sa, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, &shell.mask);
}

/* Something to read on standard input. */
static void input_ready(GString *pending)
{
    char buf[4096];
    char *nl;

#ifdef CONFIG_LIBEDIT
    if (shell.tty) {
        rl_callback_read_char();
        return;
    }
#endif
    ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

    if (n <= 0) {
        if (pending->len) {
            shell_line(pending->str);
        }
        shell.end = true;
        return;
    }
    g_string_append_len(pending, buf, n);
    while (!shell.end && (nl = memchr(pending->str, '\n', pending->len))) {
        g_autofree char *line = g_strndup(pending->str, nl - pending->str);

        g_string_erase(pending, 0, nl + 1 - pending->str);
        shell_line(line);
    }
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int learn_commands(Error **errp)
{
    g_autoptr(QDict) list = client_call(shell.c, "query-commands", NULL, errp);

    shell.commands = g_ptr_array_new_with_free_func(g_free);
    if (!list) {
        return -1;
    }
    for (size_t i = 0; i < qlist_size(list); i++) {
        g_ptr_array_add(shell.commands, g_strdup(qdict_get_try_str(qlist_get(list, i), "name")));
    }
    g_ptr_array_sort(shell.commands, by_name);
    g_ptr_array_add(shell.commands, NULL);
    return 0;
}

static int run_shell(Client *c)
{
    g_autoptr(GString) pending = g_string_new(NULL);
    Error *err = NULL;

    shell = (Shell) { .c = c, .tty = isatty(STDIN_FILENO) };
    catch_signals();
    if (learn_commands(&err) < 0) {
        g_ptr_array_free(shell.commands, true);
        return cli_fail(err);
    }
    if (shell.tty) {
        printf("Control commands of the server; `help` lists them, `exit` leaves, `quit` ends the server.\n");
    }
    edit_begin();
    while (!shell.end) {
        struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = client_fd(c), .events = POLLIN } };

        if (ppoll(p, 2, NULL, &shell.mask) < 0) {
            if (!shell_signal) {
                continue;       /* another one: a window's size */
            }
            shell.failed = 128 + shell_signal;      /* as other shells tell it */
            break;
        }
        if (p[1].revents) {
            shell.editing = shell.tty;
            show_events(0);
            shell.editing = false;
        }
        if (!shell.end && p[0].revents) {
            input_ready(pending);
        }
    }
    edit_end();
    g_ptr_array_free(shell.commands, true);
    return shell.failed;
}

int cli_qmp(CliArgs *a)
{
    Error *err = NULL;
    Client *c = client_open(a, &err);
    int ret;

    if (!c) {
        return cli_fail(err);
    }
    if (a->args->len) {
        g_ptr_array_add(a->args, NULL);
        ret = send_words(c, (char **)a->args->pdata, &err) < 0 ? cli_fail(err) : CLI_OK;
    } else {
        ret = run_shell(c);
    }
    client_close(c);
    return ret;
}

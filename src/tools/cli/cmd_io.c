/* SPDX-License-Identifier: MIT */
/* cmd_io.c: read, write and look at an image by hand: the commands of src/ioshell. */
#include "cli/cli.h"
#include "cli/watch.h"
#include "ioshell/ioshell.h"
#include "lines.h"

typedef struct IoCall {
    CliArgs *args;
    OpsSource src;
    IoShell *shell;
    const char *line;           /* in hand */
    GString *out, *errors;      /* of the command in hand, for JSON */
    bool quit, failed;
} IoCall;

static void print(void *opaque, bool error, const char *text)
{
    IoCall *c = opaque;

    if (c->args->json) {
        g_string_append(error ? c->errors : c->out, text);
        return;
    }
    if (error) {
        fflush(stdout);
    }
    fputs(text, error ? stderr : stdout);
}

static int coroutine_fn quit_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    ((IoCall *)ioshell_opaque(s))->quit = true;
    return 0;
}

static const IoCommand more_commands[] = {
    { .name = "quit", .alias = "q", .run = quit_run, .no_file = true, .oneline = "end" },
    { 0 },
};

static int coroutine_fn open_op(void *opaque, Error **errp)
{
    IoCall *c = opaque;
    IoShellConfig config = { .print = print, .opaque = c, .program = "liveblk", .more = more_commands };
    BlockBackend *blk = ops_open(&c->src, errp);

    if (!blk) {
        return -EIO;
    }
    c->shell = ioshell_new(&config);
    ioshell_co_set_backend(c->shell, blk);
    return 0;
}

static void coroutine_fn line_co(void *opaque)
{
    IoCall *c = opaque;

    if (ioshell_co_run(c->shell, c->line) < 0) {
        c->failed = true;
    }
}

static int coroutine_fn close_op(void *opaque, Error **errp)
{
    IoCall *c = opaque;

    ioshell_co_set_backend(c->shell, NULL);
    ioshell_co_free(c->shell);
    return 0;
}

/* One command; JSON: an object for each. */
static void run_line(IoCall *c, const char *line)
{
    bool failed_before = c->failed;

    c->line = line;
    c->failed = false;
    g_string_truncate(c->out, 0);
    g_string_truncate(c->errors, 0);
    aio_co_run(line_co, c);
    if (c->args->json) {
        QDict *d = qdict_new();

        qdict_put_str(d, "command", line);
        qdict_put_bool(d, "failed", c->failed);
        qdict_put_str(d, "output", c->out->str);
        if (c->errors->len) {
            qdict_put_str(d, "error", c->errors->str);
        }
        cli_print_json(d);
    }
    c->failed |= failed_before;
}

static void run_input(IoCall *c)
{
    InputLines *in = input_lines_new();
    bool prompt = isatty(STDIN_FILENO) && !c->args->json && !c->args->quiet;

    while (!c->quit) {
        if (prompt) {
            printf("liveblk io> ");
            fflush(stdout);
        }
        g_autofree char *line = input_lines_next(in);

        if (!line) {
            break;
        }
        run_line(c, line);
    }
    input_lines_free(in);
}

int cli_io(CliArgs *a)
{
    IoCall c = { .args = a, .src = cli_source(a, 0), .out = g_string_new(NULL), .errors = g_string_new(NULL) };
    Error *err = NULL;

    c.src.writable = c.src.resize = !cli_has(a, "read-only") && !c.src.force_share;
    cli_engine_start();
    int ret = ops_run(open_op, &c, &err);

    if (ret == 0) {
        for (guint i = 1; i < a->args->len && !c.quit; i++) {
            run_line(&c, cli_arg(a, i));
        }
        if (a->args->len == 1) {
            run_input(&c);
        }
        ops_run(close_op, &c, &error_abort);
    }
    cli_engine_stop();
    g_string_free(c.out, true);
    g_string_free(c.errors, true);
    return ret < 0 ? cli_fail(err) : c.failed ? CLI_FAILED : CLI_OK;
}

/* SPDX-License-Identifier: MIT */
/* ioshell.c: shells, finding and running commands, their options, help. */
#include "ioshell/ioshell_private.h"

#define WORDS_MAX       100

/* ---- saying ---- */

static void say(IoShell *s, bool error, const char *fmt, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(fmt, ap);

    s->config.print(s->config.opaque, error, text);
}

void ioshell_print(IoShell *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(s, false, fmt, ap);
    va_end(ap);
}

void ioshell_eprint(IoShell *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(s, true, fmt, ap);
    va_end(ap);
}

void ioshell_error(IoShell *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    ioshell_eprint(s, "%s%s%s\n", s->config.program ? s->config.program : "", s->config.program ? ": " : "", text);
}

void ioshell_error_err(IoShell *s, const char *context, Error *err)
{
    const char *hint = error_get_hint(err);

    ioshell_error(s, "%s%s", context ? context : "", error_get_pretty(err));
    if (hint) {
        ioshell_eprint(s, "%s%s", hint, g_str_has_suffix(hint, "\n") ? "" : "\n");
    }
    error_free(err);
}

static void print_oneline(IoShell *s, const IoCommand *cmd)
{
    ioshell_print(s, "%s %s%s-- %s\n", cmd->name, cmd->args ? cmd->args : "", cmd->args ? " " : "", cmd->oneline);
}

int ioshell_usage(IoShell *s, const IoCommand *cmd)
{
    print_oneline(s, cmd);
    return -EINVAL;
}

/* ---- options ---- */

/* The words that are no options, in their order, behind those that are. */
static void gather_operands(IoOptions *o, int argc, char **argv)
{
    guint n = o->operands->len;

    for (guint i = 0; i < n; i++) {
        argv[argc - n + i] = g_ptr_array_index(o->operands, i);
    }
    o->at = argc - n;
    g_ptr_array_free(o->operands, true);
    o->operands = NULL;
}

/* Words are looked at one by one; the operands come back at the end: what stands between was an
 * option and has been dealt with, but its words must not be written over before. */
int ioshell_next_option(IoShell *s, IoOptions *o, int argc, char **argv, const char *letters)
{
    if (!o->operands) {
        o->operands = g_ptr_array_new();
        o->at = 1;
    }
    while (!o->word && o->at < argc) {
        char *word = argv[o->at++];

        if (!strcmp(word, "--")) {
            while (o->at < argc) {
                g_ptr_array_add(o->operands, argv[o->at++]);
            }
        } else if (word[0] == '-' && word[1]) {
            o->word = word + 1;
        } else {
            g_ptr_array_add(o->operands, word);
        }
    }
    if (!o->word) {
        gather_operands(o, argc, argv);
        return -1;
    }
    char c = *o->word++;
    const char *found = c != ':' ? strchr(letters, c) : NULL;
    const char *rest = *o->word ? o->word : NULL;

    o->word = rest;
    if (!found) {
        ioshell_eprint(s, "%s: invalid option -- '%c'\n", argv[0], c);
    } else if (found[1] != ':') {
        return c;
    } else if (rest || o->at < argc) {
        o->arg = rest ? rest : argv[o->at++];
        o->word = NULL;
        return c;
    } else {
        ioshell_eprint(s, "%s: option requires an argument -- '%c'\n", argv[0], c);
    }
    g_ptr_array_free(o->operands, true);
    o->operands = NULL;
    return '?';
}

/* ---- finding ---- */

static int coroutine_fn help_run(IoShell *s, const IoCommand *cmd, int argc, char **argv);

static const IoCommand help_commands[] = {
    { .name = "help", .alias = "?", .run = help_run, .args_max = 1, .no_file = true,
      .args = "[command]", .oneline = "help for one or all commands" },
    { 0 },
};

#define N_TABLES        7

static void all_tables(IoShell *s, const IoCommand *tables[N_TABLES])
{
    static const IoCommand none[] = { { 0 } };

    tables[0] = help_commands;
    tables[1] = io_rw_commands;
    tables[2] = io_aio_commands;
    tables[3] = io_image_commands;
    tables[4] = io_break_commands;
    tables[5] = io_reopen_commands;
    tables[6] = s->config.more ? s->config.more : none;
}

static const IoCommand *find_command(IoShell *s, const char *name)
{
    const IoCommand *tables[N_TABLES];

    all_tables(s, tables);
    for (int i = 0; i < N_TABLES; i++) {
        for (const IoCommand *c = tables[i]; c->name; c++) {
            if (!strcmp(c->name, name) || (c->alias && !strcmp(c->alias, name))) {
                return c;
            }
        }
    }
    return NULL;
}

/* ---- help ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const IoCommand *const *)a)->name, (*(const IoCommand *const *)b)->name);
}

static void help_all(IoShell *s)
{
    const IoCommand *tables[N_TABLES];
    GPtrArray *all = g_ptr_array_new();

    all_tables(s, tables);
    for (int i = 0; i < N_TABLES; i++) {
        for (const IoCommand *c = tables[i]; c->name; c++) {
            g_ptr_array_add(all, (void *)c);
        }
    }
    qsort(all->pdata, all->len, sizeof(void *), by_name);
    for (guint i = 0; i < all->len; i++) {
        print_oneline(s, g_ptr_array_index(all, i));
    }
    g_ptr_array_free(all, true);
    ioshell_print(s, "\nUse 'help commandname' for extended help.\n");
}

static int coroutine_fn help_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    if (argc == 1) {
        help_all(s);
        return 0;
    }
    const IoCommand *c = find_command(s, argv[1]);

    if (!c) {
        ioshell_print(s, "command %s not found\n", argv[1]);
        return -EINVAL;
    }
    print_oneline(s, c);
    if (c->help) {
        ioshell_print(s, "%s", c->help);
    }
    return 0;
}

/* ---- running ---- */

static bool argument_count_is_right(IoShell *s, const IoCommand *cmd, int n, const char *typed)
{
    if (n >= cmd->args_min && (cmd->args_max < 0 || n <= cmd->args_max)) {
        return true;
    }
    if (cmd->args_max < 0) {
        ioshell_eprint(s, "bad argument count %d to %s, expected at least %d arguments\n", n, typed, cmd->args_min);
    } else if (cmd->args_min == cmd->args_max) {
        ioshell_eprint(s, "bad argument count %d to %s, expected %d arguments\n", n, typed, cmd->args_min);
    } else {
        ioshell_eprint(s, "bad argument count %d to %s, expected between %d and %d arguments\n", n, typed,
                       cmd->args_min, cmd->args_max);
    }
    return false;
}

/* A node in use by others is only asked for what the command needs. */
static int acquire_permissions(IoShell *s, uint64_t wanted)
{
    uint64_t perm, shared;
    Error *err = NULL;

    blk_get_perm(s->blk, &perm, &shared);
    if (!(wanted & ~perm)) {
        return 0;
    }
    int ret = blk_set_perm(s->blk, perm | wanted, shared, &err);

    if (ret < 0) {
        ioshell_error_err(s, NULL, err);
    }
    return ret;
}

static int coroutine_fn run_words(IoShell *s, int argc, char **argv)
{
    const IoCommand *cmd = find_command(s, argv[0]);

    if (!cmd) {
        ioshell_eprint(s, "command \"%s\" not found\n", argv[0]);
        return -EINVAL;
    }
    if (!cmd->no_file && !s->blk) {
        ioshell_eprint(s, "no file open, try 'help open'\n");
        return -EINVAL;
    }
    if (!argument_count_is_right(s, cmd, argc - 1, argv[0])) {
        return -EINVAL;
    }
    if (cmd->perm) {
        int ret = acquire_permissions(s, cmd->perm);

        if (ret < 0) {
            return ret;
        }
    }
    return cmd->run(s, cmd, argc, argv);
}

int coroutine_fn ioshell_co_run(IoShell *s, const char *line)
{
    g_auto(GStrv) split = g_strsplit(line, " ", -1);
    char *argv[WORDS_MAX + 1];
    int argc = 0;

    g_assert(qemu_in_coroutine() && qemu_in_main_thread());
    for (char **w = split; *w; w++) {
        if (!**w) {
            continue;
        }
        if (argc == WORDS_MAX) {
            ioshell_error(s, "more than %d words in one command", WORDS_MAX);
            return -E2BIG;
        }
        argv[argc++] = *w;
    }
    argv[argc] = NULL;
    return argc ? run_words(s, argc, argv) : 0;
}

/* ---- shells ---- */

IoShell *ioshell_new(const IoShellConfig *config)
{
    IoShell *s = g_new0(IoShell, 1);

    g_assert(config->print);
    s->config = *config;
    return s;
}

static bool busy(void *opaque)
{
    IoShell *s = opaque;

    return s->in_flight > 0;
}

unsigned ioshell_in_flight(IoShell *s)
{
    return s->in_flight;
}

void coroutine_fn ioshell_co_wait_idle(IoShell *s)
{
    aio_wait_while(busy, s);
}

static void resume_all(IoShell *s)
{
    while (s->blk && blk_bs(s->blk) && s->in_flight && bdrv_debug_resume(blk_bs(s->blk), NULL) == 0) {
    }
}

void ioshell_give_up(IoShell *s)
{
    s->given_up = true;
    resume_all(s);
    co_sleep_wake(&s->sleep);
    aio_wait_kick();
}

void coroutine_fn ioshell_co_set_backend(IoShell *s, BlockBackend *blk)
{
    /* Nobody will resume what stands at a breakpoint now. */
    resume_all(s);
    ioshell_co_wait_idle(s);
    blk_unref(s->blk);
    s->blk = blk;
}

void coroutine_fn ioshell_co_free(IoShell *s)
{
    ioshell_co_set_backend(s, NULL);
    g_free(s);
}

void *ioshell_opaque(IoShell *s)
{
    return s->config.opaque;
}

BlockBackend *ioshell_backend(IoShell *s)
{
    return s->blk;
}

void ioshell_set_writethrough(IoShell *s, bool on)
{
    s->writethrough = on;
}

void ioshell_set_misalign(IoShell *s, bool on)
{
    s->misalign = on;
}

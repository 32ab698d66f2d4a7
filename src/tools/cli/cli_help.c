/* SPDX-License-Identifier: MIT */
/* cli_help.c: help texts, manual pages and completion scripts from the table; see cli.h. */
#include "cli/cli.h"
#include "liveblkd_help.h"
#include "troff.h"

/* Print @text in lines of at most 78 characters, each after @indent spaces. */
static void print_wrapped(const char *text, int indent)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    int col = 0;

    for (char **w = words; *w; w++) {
        int len = g_utf8_strlen(*w, -1);

        if (col && col + 1 + len > 78) {
            putchar('\n');
            col = 0;
        }
        col += printf("%*s%s", col ? 1 : indent, "", *w);
    }
    putchar('\n');
}

void cli_help_overview(void)
{
    printf("Usage: liveblk COMMAND [OPTION]... [ARGUMENT]...\n"
           "Live block operations on disk images: move, copy and serve disks that are in use.\n\n"
           "Commands:\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        printf("  %-9s %s\n", c->name, c->summary);
    }
    printf("\n`liveblk COMMAND --help` explains one. Exit codes: 0 done; 1 failed; 2 wrong usage, nothing\n"
           "was tried; 3 compare: the images differ.\n");
}

static char *option_head(const CliOption *o)
{
    g_autofree char *letter = o->letter ? g_strdup_printf("-%c, ", o->letter) : g_strdup("    ");

    return o->kind == CLI_FLAG ? g_strdup_printf("%s--%s", letter, o->name)
                               : g_strdup_printf("%s--%s=%s", letter, o->name, o->arg);
}

static void print_option(const CliOption *o, void *opaque)
{
    g_autofree char *head = option_head(o);

    printf("  %s\n", head);
    print_wrapped(o->help, 10);
}

void cli_help_command(const CliCommand *c)
{
    g_auto(GStrv) lines = g_strsplit(c->example, "\n", -1);

    printf("Usage: liveblk %s [OPTION]... %s\n\n", c->name, c->usage);
    print_wrapped(c->description, 0);
    printf("\nOptions:\n");
    cli_options_foreach(c, print_option, NULL);
    printf("\nExample%s:\n", lines[1] ? "s" : "");
    for (char **l = lines; *l; l++) {
        printf("  %s\n", *l);
    }
}

/* ---- manual pages ---- */

static void troff_option(const CliOption *o, void *opaque)
{
    g_autofree char *head = option_head(o);

    printf(".TP\n");
    troff_heading(g_strstrip(head));
    troff_text(o->help);
}

static void manual_end(const char *see_also)
{
    printf(".SH EXIT STATUS\n");
    troff_text("0: done. 1: tried, and failed. 2: wrong usage, nothing was tried. 3: compare found a difference.");
    printf(".SH SEE ALSO\n%s", see_also);
}

static void manual_program(void)
{
    troff_begin("liveblk", "live block operations on disk images");
    printf(".SH SYNOPSIS\n.B liveblk\n.I COMMAND\n[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n");
    troff_text("Moves, copies and serves disks that are in use. Each command has a page of its own.");
    printf(".SH COMMANDS\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        printf(".TP\n.BR liveblk\\-%s (1)\n", c->name);
        troff_text(c->summary);
    }
    printf(".SH ENVIRONMENT\n.TP\n.B XDG_RUNTIME_DIR\n");
    troff_text("Sockets of servers lie in its folder liveblk; without it in /tmp/liveblk-UID.");
    printf(".TP\n.B LIVEBLK_HOST\n");
    troff_text("How files are read and written: io_uring or threads. Default: io_uring where the kernel has it.");
    manual_end(".BR liveblkd (1)\n");
}

void cli_help_manual(const CliCommand *c)
{
    if (!c) {
        manual_program();
        return;
    }
    g_autofree char *page = g_strdup_printf("liveblk-%s", c->name);

    troff_begin(page, c->summary);
    printf(".SH SYNOPSIS\n.B liveblk %s\n[\\fIOPTION\\fR]...\n", c->name);
    if (*c->usage) {
        printf(".I %s\n", c->usage);
    }
    printf(".SH DESCRIPTION\n");
    troff_text(c->description);
    printf(".SH OPTIONS\n");
    cli_options_foreach(c, troff_option, NULL);
    printf(".SH EXAMPLES\n.nf\n");
    troff_verbatim(c->example);
    printf(".fi\n");
    manual_end(".BR liveblk (1)\n");
}

/* ---- completion ---- */

#define FORMATS "raw|qcow2|luks"     /* what people want of the drivers */

static void bash_word(const CliOption *o, void *opaque)
{
    printf("--%s%s ", o->name, o->kind == CLI_FLAG ? "" : "=");
}

static void bash_choice(const CliOption *o, void *opaque)
{
    const CliCommand *c = opaque;

    if (o->kind == CLI_PATH) {
        printf("        %s:--%s", c->name, o->name);
        if (o->letter) {
            printf("|%s:-%c", c->name, o->letter);
        }
        printf(") mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;\n");
    } else if (o->kind == CLI_CHOICE || o->kind == CLI_FORMAT) {
        g_auto(GStrv) words = g_strsplit(o->kind == CLI_FORMAT ? FORMATS : o->arg, "|", -1);
        g_autofree char *list = g_strjoinv(" ", words);

        printf("        %s:--%s", c->name, o->name);
        if (o->letter) {
            printf("|%s:-%c", c->name, o->letter);
        }
        printf(") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", list);
    }
}

static void completion_bash(void)
{
    printf("# bash completion of liveblk; made by `liveblk help --completion=bash`\n"
           "_liveblk() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]}\n"
           "    COMPREPLY=()\n"
           "    [[ $cur == = ]] && cur=\n"
           "    [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]}\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        printf("%s ", c->name);
    }
    printf("--help --version' -- \"$cur\")); return\n    fi\n    case \"$cmd:$prev\" in\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        cli_options_foreach(c, bash_choice, (void *)c);
    }
    printf("        job:job) COMPREPLY=($(compgen -W 'pause resume cancel complete finalize dismiss speed' -- "
           "\"$cur\")); return ;;\n    esac\n    case \"$cur\" in\n    -*) case \"$cmd\" in\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        printf("        %s) COMPREPLY=($(compgen -W '", c->name);
        cli_options_foreach(c, bash_word, NULL);
        printf("' -- \"$cur\")) ;;\n");
    }
    printf("        esac\n        [[ ${COMPREPLY-} == *= ]] && compopt -o nospace ;;\n"
           "    *) [ \"$cmd\" = help ] && COMPREPLY=($(compgen -W '");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        printf("%s ", c->name);
    }
    printf("' -- \"$cur\")) || mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n    esac\n}\n"
           "complete -o filenames -F _liveblk liveblk\n");
}

static void zsh_option(const CliOption *o, void *opaque)
{
    g_autofree char *help = g_strdelimit(g_strdup(o->help), "'[]:", ' ');

    printf("            '--%s%s[%s]", o->name, o->kind == CLI_FLAG ? "" : "=", help);
    if (o->kind == CLI_CHOICE || o->kind == CLI_FORMAT) {
        g_auto(GStrv) words = g_strsplit(o->kind == CLI_FORMAT ? FORMATS : o->arg, "|", -1);
        g_autofree char *list = g_strjoinv(" ", words);

        printf(":%s:(%s)", o->name, list);
    } else if (o->kind == CLI_PATH) {
        printf(":file:_files");
    } else if (o->kind != CLI_FLAG) {
        printf(":%s: ", o->name);
    }
    printf("' \\\n");
}

static void completion_zsh(void)
{
    printf("#compdef liveblk\n# made by `liveblk help --completion=zsh`\n_liveblk() {\n"
           "    if (( CURRENT == 2 )); then\n        local -a commands=(\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        g_autofree char *help = g_strdelimit(g_strdup(c->summary), "':", ' ');

        printf("            '%s:%s'\n", c->name, help);
    }
    printf("        )\n        _describe command commands\n        return\n    fi\n    case $words[2] in\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        printf("    %s)\n        shift words; (( CURRENT-- ))\n        _arguments \\\n", c->name);
        cli_options_foreach(c, zsh_option, NULL);
        printf("            '*:file:_files' ;;\n");
    }
    printf("    esac\n}\ncompdef _liveblk liveblk\n");
}

static void fish_option(const CliOption *o, void *opaque)
{
    const CliCommand *c = opaque;
    g_autofree char *help = g_strdelimit(g_strdup(o->help), "'\\", ' ');

    printf("complete -c liveblk -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (o->letter) {
        printf(" -s %c", o->letter);
    }
    if (o->kind == CLI_CHOICE || o->kind == CLI_FORMAT) {
        g_auto(GStrv) words = g_strsplit(o->kind == CLI_FORMAT ? FORMATS : o->arg, "|", -1);
        g_autofree char *list = g_strjoinv(" ", words);

        printf(" -x -a '%s'", list);
    } else if (o->kind == CLI_PATH) {
        printf(" -r -F");
    } else if (o->kind != CLI_FLAG) {
        printf(" -x");
    }
    printf(" -d '%s'\n", help);
}

static void completion_fish(void)
{
    printf("# fish completion of liveblk; made by `liveblk help --completion=fish`\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        g_autofree char *help = g_strdelimit(g_strdup(c->summary), "'\\", ' ');

        printf("complete -c liveblk -n __fish_use_subcommand -f -a %s -d '%s'\n", c->name, help);
        cli_options_foreach(c, fish_option, (void *)c);
    }
}

bool cli_help_completion(const char *shell)
{
    if (!strcmp(shell, "bash")) {
        completion_bash();
    } else if (!strcmp(shell, "zsh")) {
        completion_zsh();
    } else if (!strcmp(shell, "fish")) {
        completion_fish();
    } else {
        return false;
    }
    return true;
}

/* ---- for programs ---- */

static void json_option(const CliOption *o, void *opaque)
{
    QDict *d = qdict_new();

    qdict_put_str(d, "name", o->name);
    if (o->letter) {
        char letter[] = { o->letter, '\0' };

        qdict_put_str(d, "letter", letter);
    }
    if (o->kind != CLI_FLAG) {
        qdict_put_str(d, "argument", o->arg);
    }
    qdict_put_str(d, "help", o->help);
    qlist_append(opaque, d);
}

static QDict *json_command(const CliCommand *c)
{
    QDict *d = qdict_new(), *options = qlist_new();

    qdict_put_str(d, "name", c->name);
    qdict_put_str(d, "usage", c->usage);
    qdict_put_str(d, "summary", c->summary);
    qdict_put_str(d, "description", c->description);
    cli_options_foreach(c, json_option, options);
    qdict_put_obj(d, "options", options);
    return d;
}

static void help_json(const CliCommand *c)
{
    QDict *list = c ? NULL : qlist_new();

    for (const CliCommand *k = cli_commands; !c && k->name; k++) {
        qlist_append(list, json_command(k));
    }
    cli_print_json(c ? json_command(c) : list);
}

int cli_help(CliArgs *a)
{
    const CliCommand *c = NULL;

    if (cli_has(a, "manual") && !g_strcmp0(cli_arg(a, 0), "liveblkd")) {
        liveblkd_manual();
        return CLI_OK;
    }
    if (cli_arg(a, 0) && !(c = cli_find(cli_arg(a, 0)))) {
        return cli_usage("unknown command '%s'; `liveblk --help` lists them", cli_arg(a, 0));
    }
    if (cli_get(a, "completion")) {
        cli_help_completion(cli_get(a, "completion"));
    } else if (cli_has(a, "manual")) {
        cli_help_manual(c);
    } else if (a->json) {
        help_json(c);
    } else if (c) {
        cli_help_command(c);
    } else {
        cli_help_overview();
    }
    return CLI_OK;
}

/* SPDX-License-Identifier: MIT */
/* cli.h: the command line for people: one table describes every command, its options and
 * examples (cli_table.c). From it come the parser (cli.c), --help, the manual pages and the
 * completion of shells (cli_help.c).
 *
 * A command is a function that gets its parsed arguments and returns an exit code. Main
 * thread, outside coroutines.
 */
#ifndef LIVEBLK_CLI_CLI_H
#define LIVEBLK_CLI_CLI_H

#include "base/osdep.h"
#include "block/qdict.h"

/* Exit codes, the same for all commands. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,         /* tried, and failed: the message says what and why */
    CLI_USAGE = 2,          /* the command line is wrong; nothing was tried */
    CLI_DIFFERENT = 3,      /* compare: the images differ; check: errors were found */
};

typedef enum CliKind {
    CLI_FLAG,
    CLI_TEXT,
    CLI_SIZE,               /* 64K, 1.5G */
    CLI_COUNT,              /* a whole number, 1 to 64 */
    CLI_CHOICE,             /* one of .choices, separated by '|' */
    CLI_PATH,               /* of a file: shells complete it */
    CLI_FORMAT,             /* a driver that images are opened with */
    CLI_SECRET,             /* a password; each is taken when it is parsed */
} CliKind;

typedef struct CliOption {
    const char *name;       /* without the dashes; NULL ends a list */
    char letter;            /* or 0 */
    CliKind kind;
    const char *arg;        /* what stands for its argument in the help: "SIZE"; CHOICE: the choices */
    const char *help;
} CliOption;

typedef struct CliArgs CliArgs;

typedef struct CliCommand {
    const char *name;
    const char *usage;      /* of what is not an option: "SOURCE TARGET" */
    int min_args, max_args; /* -1: any number */
    const char *summary;    /* one line */
    const char *description; /* paragraphs */
    const CliOption *options;   /* beside the common ones; NULL: none */
    bool control;           /* speaks to a running server: has --control */
    bool image;             /* opens images: has --image-opts */
    const char *example;    /* lines of "command  # comment" */
    int (*run)(CliArgs *args);
} CliCommand;

extern const CliCommand cli_commands[];         /* NULL name ends it */
extern const CliOption cli_common_options[];    /* of every command */
extern const CliOption cli_control_options[];
extern const CliOption cli_image_options[];

struct CliArgs {
    const CliCommand *command;
    GHashTable *values;     /* option name -> text */
    GPtrArray *args;        /* the rest, in order */
    bool json;              /* --output=json */
    bool quiet;
};

/* Lent; NULL if not given. */
const char *cli_get(const CliArgs *a, const char *option);
bool cli_has(const CliArgs *a, const char *option);
/* SIZE and COUNT options; they were checked while parsing. */
uint64_t cli_get_size(const CliArgs *a, const char *option, uint64_t def);
const char *cli_arg(const CliArgs *a, int i);       /* NULL: not given */

const CliCommand *cli_find(const char *name);

/* cli_help.c; to standard output */
void cli_help_overview(void);
void cli_help_command(const CliCommand *c);
void cli_help_manual(const CliCommand *c);          /* troff; NULL: of the program */
bool cli_help_completion(const char *shell);        /* bash, zsh, fish; false: another */
/* Call @fn for every option that @c has, its own first. */
void cli_options_foreach(const CliCommand *c, void (*fn)(const CliOption *o, void *opaque), void *opaque);

/* cli_out.c */
/* An error that ends the command: prints and frees it, returns CLI_FAILED. */
int cli_fail(Error *err);
int cli_usage(const char *fmt, ...) LIVEBLK_PRINTF(1, 2);
/* Print @v (taken over) as JSON, a line of its own. */
void cli_print_json(QDict *v);

/* A progress display on standard error: a bar on a terminal, else a line every few seconds. */
typedef struct CliProgress CliProgress;
CliProgress *cli_progress_new(const CliArgs *a, const char *what);
void cli_progress_show(CliProgress *p, int64_t done, int64_t total, const char *note);
/* Take the bar away, or leave it as it is last; frees. */
void cli_progress_end(CliProgress *p, bool keep);

/* The engine, for commands that work on images themselves; ended by cli_engine_stop(). */
void cli_engine_start(void);
void cli_engine_stop(void);

/* Commands; see cli_table.c. */
int cli_create(CliArgs *a);
int cli_info(CliArgs *a);
int cli_map(CliArgs *a);
int cli_convert(CliArgs *a);
int cli_compare(CliArgs *a);
int cli_check(CliArgs *a);
int cli_bitmap(CliArgs *a);
int cli_amend(CliArgs *a);
int cli_io(CliArgs *a);
int cli_resize(CliArgs *a);
int cli_rebase(CliArgs *a);
int cli_commit(CliArgs *a);
int cli_measure(CliArgs *a);
int cli_bench(CliArgs *a);
int cli_snapshot(CliArgs *a);
int cli_serve(CliArgs *a);
int cli_mirror(CliArgs *a);
int cli_jobs(CliArgs *a);
int cli_job(CliArgs *a);
int cli_graph(CliArgs *a);
int cli_qmp(CliArgs *a);
int cli_help(CliArgs *a);

#endif

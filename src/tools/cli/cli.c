/* SPDX-License-Identifier: MIT */
/* cli.c: read the command line after the table, and run the command; see cli.h. */
#include "cli/cli.h"
#include "ops/ops.h"
#include "trace_option.h"
#include "base/str.h"
#include "qapi-types.h"
#include <getopt.h>

const char *cli_get(const CliArgs *a, const char *option)
{
    return g_hash_table_lookup(a->values, option);
}

bool cli_has(const CliArgs *a, const char *option)
{
    return g_hash_table_contains(a->values, option);
}

uint64_t cli_get_size(const CliArgs *a, const char *option, uint64_t def)
{
    const char *text = cli_get(a, option);

    if (text) {
        size_parse(text, 1, &def);
    }
    return def;
}

const char *cli_arg(const CliArgs *a, int i)
{
    return i < (int)a->args->len ? g_ptr_array_index(a->args, i) : NULL;
}

const CliCommand *cli_find(const char *name)
{
    for (const CliCommand *c = cli_commands; c->name; c++) {
        if (!strcmp(c->name, name)) {
            return c;
        }
    }
    return NULL;
}

/* Has the command an option of its own by this name? Then it goes before the one of many commands. */
static bool has_own(const CliCommand *c, const char *name)
{
    for (const CliOption *o = c->options; o && o->name; o++) {
        if (!strcmp(o->name, name)) {
            return true;
        }
    }
    return false;
}

void cli_options_foreach(const CliCommand *c, void (*fn)(const CliOption *o, void *opaque), void *opaque)
{
    const CliOption *lists[] = { c->options, c->control ? cli_control_options : NULL,
                                 c->image ? cli_image_options : NULL, cli_common_options };

    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const CliOption *o = lists[i]; o && o->name; o++) {
            if (i == 0 || !has_own(c, o->name)) {
                fn(o, opaque);
            }
        }
    }
}

/* ---- parsing ---- */

typedef struct Parser {
    GArray *longs;          /* struct option */
    GString *shorts;
    GPtrArray *options;     /* const CliOption *; .val is the index */
} Parser;

static void parser_add(const CliOption *o, void *opaque)
{
    Parser *p = opaque;
    struct option l = { o->name, o->kind == CLI_FLAG ? no_argument : required_argument, NULL,
                        1000 + (int)p->options->len };

    g_array_append_val(p->longs, l);
    if (o->letter) {
        g_string_append_c(p->shorts, o->letter);
        if (o->kind != CLI_FLAG) {
            g_string_append_c(p->shorts, ':');
        }
    }
    g_ptr_array_add(p->options, (void *)o);
}

static const CliOption *parser_option(Parser *p, int c)
{
    if (c >= 1000) {
        return g_ptr_array_index(p->options, c - 1000);
    }
    for (guint i = 0; i < p->options->len; i++) {
        const CliOption *o = g_ptr_array_index(p->options, i);

        if (o->letter == c) {
            return o;
        }
    }
    return NULL;
}

static bool one_of(const char *text, const char *choices)
{
    g_auto(GStrv) words = g_strsplit(choices, "|", -1);

    return g_strv_contains((const char *const *)words, text);
}

static int check_value(const CliOption *o, const char *text)
{
    uint64_t n;

    if (o->kind == CLI_SIZE && (size_parse(text, 1, &n) < 0 || n > INT64_MAX)) {
        return cli_usage("--%s: '%s' is not a size; write 512, 64K, 1.5G", o->name, text);
    }
    if (o->kind == CLI_FORMAT && !g_strv_contains(qapi_type_BlockdevDriver.values, text)) {
        const char *near = str_closest(text, qapi_type_BlockdevDriver.values);

        return near ? cli_usage("--%s: unknown format '%s'; did you mean '%s'?", o->name, text, near)
                    : cli_usage("--%s: unknown format '%s'; there are raw, qcow2", o->name, text);
    }
    if (o->kind == CLI_SECRET) {
        Error *err = NULL;

        return ops_secret_add(text, &err) < 0 ? cli_fail(err) : 0;
    }
    if (o->kind == CLI_COUNT) {
        char *end;

        errno = 0;
        unsigned long v = strtoul(text, &end, 10);

        if (*end || end == text || errno || !v || v > 64) {
            return cli_usage("--%s: '%s' is not a number from 1 to 64", o->name, text);
        }
    }
    if (o->kind == CLI_CHOICE && !one_of(text, o->arg)) {
        g_auto(GStrv) words = g_strsplit(o->arg, "|", -1);
        const char *near = str_closest(text, (const char *const *)words);

        return near ? cli_usage("--%s: '%s' is not one of %s; did you mean '%s'?", o->name, text, o->arg, near)
                    : cli_usage("--%s: '%s' is not one of %s", o->name, text, o->arg);
    }
    return 0;
}

static int unknown_option(Parser *p, char **argv)
{
    const char *word = argv[optind - 1];
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *near;

    if (optopt >= 1000) {       /* a flag was given a value */
        return cli_usage("--%s takes no value", parser_option(p, optopt)->name);
    }
    if (optopt) {
        return cli_usage("unknown option '-%c'", optopt);
    }
    for (guint i = 0; i < p->options->len; i++) {
        g_ptr_array_add(names, (void *)((const CliOption *)g_ptr_array_index(p->options, i))->name);
    }
    g_ptr_array_add(names, NULL);
    g_autofree char *name = g_strndup(word + 2, strcspn(word + 2, "="));

    near = str_closest(name, (const char *const *)names->pdata);
    return near ? cli_usage("unknown option '--%s'; did you mean '--%s'?", name, near)
                : cli_usage("unknown option '--%s'", name);
}

static int parse(CliArgs *a, Parser *p, int argc, char **argv)
{
    struct option end = { NULL };
    int c;

    g_string_append_c(p->shorts, ':');
    cli_options_foreach(a->command, parser_add, p);
    g_array_append_val(p->longs, end);
    opterr = 0;
    optind = 1;
    while ((c = getopt_long(argc, argv, p->shorts->str, (struct option *)p->longs->data, NULL)) != -1) {
        if (c == ':') {
            return cli_usage("'%s' needs a value", argv[optind - 1]);
        }
        if (c == '?') {
            return unknown_option(p, argv);
        }
        const CliOption *o = parser_option(p, c);
        const char *text = o->kind == CLI_FLAG ? "" : optarg;
        int ret = check_value(o, text);

        if (ret) {
            return ret;
        }
        g_hash_table_replace(a->values, (void *)o->name, (void *)text);
    }
    for (; optind < argc; optind++) {
        g_ptr_array_add(a->args, argv[optind]);
    }
    return 0;
}

static int start_trace(CliArgs *a)
{
    const char *arg = cli_get(a, "trace");
    Error *err = NULL;

    if (arg && trace_option(arg, &err) < 0) {
        int ret = cli_usage("--trace %s: %s", arg, error_get_pretty(err));

        error_free(err);
        return ret;
    }
    return CLI_OK;
}

/* How servers in TLS are met, unless the command is one itself. */
static void set_tls(const CliArgs *a)
{
    ops_tls_set(has_own(a->command, "tls-allow") ? NULL : cli_get(a, "tls"), cli_get(a, "tls-user"), cli_get(a, "tls-hostname"));
}

static int run_command(const CliCommand *c, int argc, char **argv)
{
    CliArgs a = { .command = c, .values = g_hash_table_new(g_str_hash, g_str_equal), .args = g_ptr_array_new() };
    Parser p = { g_array_new(false, false, sizeof(struct option)), g_string_new(NULL), g_ptr_array_new() };
    int ret = parse(&a, &p, argc, argv);

    if (ret == 0 && cli_has(&a, "help")) {
        cli_help_command(c);
    } else if (ret == 0 && ((int)a.args->len < c->min_args ||
                            (c->max_args >= 0 && (int)a.args->len > c->max_args))) {
        ret = cli_usage("%s arguments; usage: liveblk %s [OPTION]... %s",
                        (int)a.args->len < c->min_args ? "too few" : "too many", c->name, c->usage);
    } else if (ret == 0) {
        a.json = !g_strcmp0(cli_get(&a, "output"), "json");
        a.quiet = cli_has(&a, "quiet");
        ret = start_trace(&a);
        set_tls(&a);
        ret = ret ? ret : c->run(&a);
    }
    if (ret == CLI_OK && (fflush(stdout) == EOF || ferror(stdout))) {
        fprintf(stderr, "liveblk: cannot write to standard output: %s\n", strerror(errno));
        ret = CLI_FAILED;
    }
    g_hash_table_destroy(a.values);
    g_ptr_array_free(a.args, true);
    g_array_free(p.longs, true);
    g_string_free(p.shorts, true);
    g_ptr_array_free(p.options, true);
    return ret;
}

int main(int argc, char **argv)
{
    g_set_prgname("liveblk");
    if (argc < 2) {
        cli_help_overview();
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        cli_help_overview();
        return CLI_OK;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("liveblk " LIVEBLK_VERSION "\n");
        return CLI_OK;
    }
    const CliCommand *c = cli_find(argv[1]);

    if (!c) {
        g_autoptr(GPtrArray) names = g_ptr_array_new();

        for (const CliCommand *k = cli_commands; k->name; k++) {
            g_ptr_array_add(names, (void *)k->name);
        }
        g_ptr_array_add(names, NULL);
        const char *near = str_closest(argv[1], (const char *const *)names->pdata);

        return near ? cli_usage("unknown command '%s'; did you mean '%s'?", argv[1], near)
                    : cli_usage("unknown command '%s'; `liveblk --help` lists them", argv[1]);
    }
    return run_command(c, argc - 1, argv + 1);
}

/* SPDX-License-Identifier: MIT */
/* args.c: options and operands of the compat programs: parsing, help, values. */
#include "compat/compat.h"
#include "aio/host.h"
#include "base/size.h"
#include "block/block_int-global-state.h"
#include "qapi-commands.h"
#include <getopt.h>
#include <signal.h>

const char *compat_program;

#define OPTIONS_MAX 64

/* ---- options ---- */

static void print_option(const CompatOption *o)
{
    printf("  ");
    if (o->c < 256) {
        printf("-%c%s", o->c, o->name ? ", " : "");
    }
    if (o->name) {
        printf("--%s", o->name);
    }
    printf("%s%s\n      %s\n", o->arg ? " " : "", o->arg ? o->arg : "", o->help);
}

void compat_print_help(const CompatCommand *cmd, const char *program)
{
    printf("Usage: %s %s %s\n%s\n\nOptions:\n  -h, --help\n      show this and end\n", program, cmd->name, cmd->usage,
           cmd->summary);
    for (const CompatOption *o = cmd->options; o->c; o++) {
        print_option(o);
    }
}

static void point_to_help(const CompatCommand *cmd)
{
    fprintf(stderr, "Try '%s%s%s --help' for more info\n", compat_program, cmd ? " " : "", cmd ? cmd->name : "");
}

int compat_next_option(int argc, char **argv, const CompatCommand *cmd)
{
    struct option longs[OPTIONS_MAX];
    char letters[2 * OPTIONS_MAX + 2] = "h", *s = letters + 1;
    size_t n = 0;

    longs[n++] = (struct option) { "help", no_argument, NULL, 'h' };
    for (const CompatOption *o = cmd->options; o->c; o++) {
        g_assert(n < OPTIONS_MAX - 1);
        if (o->name) {
            longs[n++] = (struct option) { o->name, o->arg ? required_argument : no_argument, NULL, o->c };
        }
        if (o->c < 256) {
            *s++ = o->c;
            if (o->arg) {
                *s++ = ':';
            }
        }
    }
    *s = '\0';
    longs[n] = (struct option) { NULL };
    int c = getopt_long(argc, argv, letters, longs, NULL);

    if (c == 'h') {
        compat_print_help(cmd, g_get_prgname());
        exit(EXIT_SUCCESS);
    }
    if (c == '?') {
        point_to_help(cmd);
        exit(EXIT_FAILURE);
    }
    return c;
}

int compat_usage(const CompatCommand *cmd, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_report("%s", text);
    point_to_help(cmd);
    return EXIT_FAILURE;
}

int compat_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_report("%s", text);
    return EXIT_FAILURE;
}

/* ---- values ---- */

bool compat_number(const char *what, const char *text, int64_t min, int64_t max, int64_t *value)
{
    uint64_t v;
    int ret = size_parse(text, 1, &v);

    if (ret == -EINVAL) {
        error_report("Invalid %s specified: '%s'.", what, text);
        return false;
    }
    if (ret < 0 || v > INT64_MAX || (int64_t)v < min || (int64_t)v > max) {
        error_report("Invalid %s specified. Must be between %" PRId64 " and %" PRId64 ".", what, min, max);
        return false;
    }
    *value = v;
    return true;
}

bool compat_text_to_bool(const char *text, bool *value)
{
    static const char *const words[] = { "off", "no", "false", "n", "on", "yes", "true", "y" };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(text, words[i])) {
            *value = i >= 4;
            return true;
        }
    }
    return false;
}

bool compat_size(const char *name, const char *text, uint64_t *bytes, Error **errp)
{
    int ret = size_parse(text, 1, bytes);

    if (ret == -ERANGE) {
        error_setg(errp, "Value '%s' is out of range for parameter '%s'", text, name);
    } else if (ret < 0) {
        error_setg(errp, "Parameter '%s' expects a non-negative number below 2^64", name);
        error_append_hint(errp, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                          "and exabytes, respectively.\n");
    }
    return ret == 0;
}

bool compat_option_list_valid(const char *text)
{
    size_t n = strlen(text), commas = 0;

    while (commas < n && text[n - 1 - commas] == ',') {
        commas++;
    }
    /* A doubled comma is one of the value. */
    if (n == 0 || *text == ',' || commas % 2) {
        error_report("Invalid option list: %s", text);
        return false;
    }
    return true;
}

bool compat_output_format(const CompatCommand *cmd, const char *text, bool *json)
{
    *json = !strcmp(text, "json");
    if (!*json && strcmp(text, "human")) {
        compat_usage(cmd, "--output expects 'human' or 'json' not '%s'", text);
        return false;
    }
    return true;
}

bool compat_cache_mode(const char *mode, int *flags, bool *writethrough)
{
    static const struct {
        const char *name;
        int flags;
        bool writethrough;
    } modes[] = {
        { "none", BDRV_O_NOCACHE, false }, { "off", BDRV_O_NOCACHE, false },
        { "directsync", BDRV_O_NOCACHE, true }, { "writeback", 0, false },
        { "unsafe", BDRV_O_NO_FLUSH, false }, { "writethrough", 0, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(mode, modes[i].name)) {
            *flags = (*flags & ~(BDRV_O_NOCACHE | BDRV_O_NO_FLUSH)) | modes[i].flags;
            *writethrough = modes[i].writethrough;
            return true;
        }
    }
    return false;
}

bool compat_aio_mode(const char *mode)
{
    return !mode || !strcmp(mode, "threads") || !strcmp(mode, "native") || !strcmp(mode, "io_uring");
}

/* ---- objects ---- */

typedef struct ObjectCall {
    ObjectOptions *options;
} ObjectCall;

static int coroutine_fn object_add_co(void *opaque, Error **errp)
{
    ERRP_GUARD();

    qmp_object_add(opaque, errp);
    return *errp ? -EINVAL : 0;
}

bool compat_object_add(const char *text)
{
    Error *err = NULL;
    bool keyval;
    g_autoptr(QDict) d = qdict_from_options(text, "qom-type", &keyval, &err);
    ObjectOptions *o = d ? qapi_from_json(&qapi_type_ObjectOptions, d, keyval, &err) : NULL;

    if (o) {
        compat_engine_start();
        ops_run(object_add_co, o, &err);
        qapi_free(&qapi_type_ObjectOptions, o);
    }
    if (err) {
        error_report_err(err);
    }
    return !err;
}

/* ---- the engine ---- */

static bool engine_running;

void compat_engine_start(void)
{
    if (!engine_running) {
        signal(SIGPIPE, SIG_IGN);
        host_serve_nobody();
        aio_init_main(NULL, &error_fatal);
        bdrv_init();
        engine_running = true;
    }
}

void compat_engine_is_started(void)
{
    engine_running = true;
}

void compat_engine_stop(void)
{
    if (engine_running) {
        blockdev_close_all_bdrv_states();
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *compat_formats(void)
{
    GPtrArray *names = g_ptr_array_new();
    GString *out = g_string_new(NULL);
    const BlockDriver *drv = NULL;
    size_t column = 0;

    compat_engine_start();
    while ((drv = bdrv_next_driver(drv))) {
        if (drv->schema_driver != BLOCKDEV_DRIVER__MAX) {
            g_ptr_array_add(names, (char *)drv->format_name);
        }
    }
    qsort(names->pdata, names->len, sizeof(char *), by_name);
    for (guint i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);

        if (column + strlen(name) > 74) {
            g_string_append_c(out, '\n');
            column = 0;
        }
        g_string_append_printf(out, "%s%s", column ? " " : "  ", name);
        column += strlen(name) + 1;
    }
    g_ptr_array_free(names, true);
    return g_string_free(out, FALSE);
}

/* SPDX-License-Identifier: MIT */
/* trace_option.c: see trace_option.h. */
#include "trace_option.h"
#include "base/osdep.h"
#include "base/trace.h"
#include "block/aio.h"
#include "block/qdict.h"

static FILE *out;
static GString *patterns;

static void write_line(const char *line, void *opaque)
{
    fprintf(out, "%s\n", line);
    fflush(out);
}

static int64_t now_ns(void)
{
    return aio_host_name() ? qemu_clock_get_ns(QEMU_CLOCK_REALTIME) : g_get_real_time() * 1000;
}

static void add_pattern(const char *pattern)
{
    patterns = patterns ? patterns : g_string_new(NULL);
    g_string_append_printf(patterns, "%s%s", patterns->len ? "," : "", pattern);
}

static int add_file(const char *path, Error **errp)
{
    g_autofree char *text = NULL;
    GError *e = NULL;

    if (!g_file_get_contents(path, &text, NULL, &e)) {
        error_setg(errp, "Could not read the list of events: %s", e->message);
        g_error_free(e);
        return -EIO;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        g_strstrip(*l);
        if (**l && **l != '#') {
            add_pattern(*l);
        }
    }
    return 0;
}

static void list_modules(void)
{
    const char *const *modules = trace_modules();

    for (; *modules; modules++) {
        printf("%s\n", *modules);
    }
}

static int apply_key(const char *key, const char *value, Error **errp)
{
    if (!strcmp(key, "enable")) {
        add_pattern(value);
    } else if (!strcmp(key, "events")) {
        return add_file(value, errp);
    } else if (!strcmp(key, "file")) {
        FILE *f = fopen(value, "a");

        if (!f) {
            int err = errno;

            error_setg(errp, "Error opening logfile %s: %s", value, strerror(err));
            return -err;
        }
        if (out) {
            fclose(out);
        }
        out = f;
        trace_set_output(write_line, NULL);
    } else {
        error_setg(errp, "Invalid parameter '%s'", key);
        return -EINVAL;
    }
    return 0;
}

int trace_option(const char *arg, Error **errp)
{
    bool keyval;

    if (!strcmp(arg, "help")) {
        list_modules();
        exit(EXIT_SUCCESS);
    }
    g_autoptr(QDict) d = qdict_from_options(arg, "enable", &keyval, errp);

    if (!d) {
        return -EINVAL;
    }
    json_object_object_foreach(d, key, value) {
        int ret = apply_key(key, json_object_get_string(value), errp);

        if (ret < 0) {
            return ret;
        }
    }
    trace_set_clock(now_ns);
    if (patterns) {
        trace_enable(patterns->str);
    }
    return 0;
}

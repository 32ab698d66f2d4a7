/* SPDX-License-Identifier: MIT */
/* watch.c: see watch.h. */
#include "cli/watch.h"
#include <signal.h>

static void on_signal(int sig)
{
    ops_temp_on_signal();
    signal(sig, SIG_DFL);
    raise(sig);
}

void cli_clean_when_interrupted(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction sa = { .sa_handler = on_signal };

    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &sa, NULL);
    }
}

static void coroutine_fn watch_co(void *opaque)
{
    CliWatch *w = opaque;

    while (!w->stop) {
        cli_progress_show(w->shown, w->progress.done, w->progress.total, NULL);
        co_sleep_ns_wakeable(&w->sleep, 50 * 1000 * 1000);
    }
    w->stopped = true;
}

void cli_watch_begin(CliWatch *w, CliArgs *a, const char *what)
{
    *w = (CliWatch) { .shown = cli_progress_new(a, what) };
    qemu_coroutine_enter(qemu_coroutine_create(watch_co, w));
}

void cli_watch_end(CliWatch *w)
{
    w->stop = true;
    co_sleep_wake(&w->sleep);
    while (!w->stopped) {
        aio_poll(qemu_get_aio_context(), true);
    }
    cli_progress_end(w->shown, false);
}

int cli_say_plan(CliArgs *a, const OpsCreate *c, bool convert)
{
    const char *format = c->format ? c->format : ops_format_for(c->filename);
    bool place = ops_place_is(c->filename), there = place || g_file_test(c->filename, G_FILE_TEST_EXISTS);
    Error *err = NULL;
    OpsTemp temp;

    if (!ops_temp_begin(&temp, c->filename, c->force, &err)) {
        return cli_fail(err);
    }
    ops_temp_abort(&temp);

    if (a->json) {
        QDict *d = qdict_new();

        qdict_put_bool(d, "dry-run", true);
        qdict_put_str(d, "filename", c->filename);
        qdict_put_str(d, "format", format);
        qdict_put_bool(d, "replaces", there);
        cli_print_json(d);
    } else {
        printf("would %s %s%s, format %s\n", place ? "overwrite" : there ? "replace" : "make", c->filename,
               convert ? " with a copy" : "", format);
    }
    return CLI_OK;
}

OpsSource cli_source(CliArgs *a, int i)
{
    return (OpsSource) { .name = cli_arg(a, i), .format = cli_get(a, "format"),
                         .image_opts = cli_has(a, "image-opts"), .force_share = cli_has(a, "force-share") };
}

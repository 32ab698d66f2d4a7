/* SPDX-License-Identifier: MIT */
/* cli_out.c: what commands print: errors, JSON, progress; see cli.h. */
#include "cli/cli.h"
#include "aio/host.h"
#include "base/size.h"
#include "block/block.h"
#include "block/block_int-global-state.h"
#include <sys/ioctl.h>

#define BAR_EVERY_NS    (100 * 1000 * 1000LL)
#define LINE_EVERY_NS   (5 * NANOSECONDS_PER_SECOND)

int cli_fail(Error *err)
{
    error_report_err(err);
    return CLI_FAILED;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    fprintf(stderr, "liveblk: %s\n", text);
    return CLI_USAGE;
}

void cli_print_json(QDict *v)
{
    g_autofree char *text = json_to_str(v, true);
    bool empty = (qdict_type(v) == QTYPE_QDICT && !qdict_size(v)) || (qdict_type(v) == QTYPE_QLIST && !qlist_size(v));

    printf("%s\n", !empty ? text : *text == '{' ? "{}" : "[]");
    qdict_unref(v);
}

struct CliProgress {
    const char *what;
    bool shown, tty;
    int64_t begun_ns, printed_ns;
    int64_t first;              /* done when first shown: what was there before is not our speed */
    double rate;                /* bytes a second, smoothed */
    int64_t last_ns, last_done;
};

static int64_t now_ns(void)
{
    return g_get_monotonic_time() * 1000;
}

CliProgress *cli_progress_new(const CliArgs *a, const char *what)
{
    CliProgress *p = g_new0(CliProgress, 1);

    p->what = what;
    p->shown = !a->quiet && !a->json;
    p->tty = isatty(STDERR_FILENO);
    p->begun_ns = p->printed_ns = p->last_ns = now_ns();
    p->first = -1;
    return p;
}

static int terminal_width(void)
{
    struct winsize w;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void progress_measure(CliProgress *p, int64_t now, int64_t done)
{
    double seconds = (now - p->last_ns) / 1e9;

    if (p->first < 0) {
        p->first = p->last_done = done;
    }
    if (seconds >= 0.1) {
        double current = MAX(done - p->last_done, 0) / seconds;

        p->rate = p->rate ? 0.8 * p->rate + 0.2 * current : current;
        p->last_ns = now;
        p->last_done = done;
    }
}

void cli_progress_show(CliProgress *p, int64_t done, int64_t total, const char *note)
{
    int64_t now = now_ns();

    progress_measure(p, now, done);
    if (!p->shown || now - p->printed_ns < (p->tty ? BAR_EVERY_NS : LINE_EVERY_NS)) {
        return;
    }
    double part = total > 0 ? CLAMP((double)done / total, 0, 1) : 1;
    g_autofree char *rate = size_to_str(p->rate);
    g_autofree char *left = p->rate > 1 ? duration_to_str((total - done) / p->rate * 1e9) : g_strdup("-");
    g_autofree char *tail = g_strdup_printf(" %5.1f%%  %8s/s  %8s left%s%s", part * 100, rate, left,
                                            note ? "  " : "", note ? note : "");

    p->printed_ns = now;
    if (!p->tty) {
        fprintf(stderr, "%s:%s\n", p->what, tail);
        return;
    }
    int room = terminal_width() - (int)strlen(tail) - (int)strlen(p->what) - 6;
    g_autofree char *bar = g_strnfill(CLAMP(room, 0, 60), ' ');

    memset(bar, '#', strlen(bar) * part);
    fprintf(stderr, "\r%s: [%s]%s\033[K", p->what, bar, tail);
}

void cli_progress_end(CliProgress *p, bool keep)
{
    if (p->shown && p->tty && p->printed_ns != p->begun_ns) {
        fprintf(stderr, keep ? "\n" : "\r\033[K");
    }
    g_free(p);
}

/* ---- the engine ---- */

void cli_engine_start(void)
{
    signal(SIGPIPE, SIG_IGN);
    host_serve_nobody();
    aio_init_main(NULL, &error_fatal);
    bdrv_init();
}

void cli_engine_stop(void)
{
    blockdev_close_all_bdrv_states();
}

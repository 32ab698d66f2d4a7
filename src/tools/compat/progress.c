/* SPDX-License-Identifier: MIT */
/* progress.c: -p, and what SIGUSR1 asks for. */
#include "compat/compat.h"
#include <signal.h>

struct CompatProgress {
    OpsProgress ops;
    bool show, stop, stopped;
    double skip, shown;         /* percent */
    QemuCoSleep sleep;
};

static volatile sig_atomic_t asked;

static void on_usr1(int sig)
{
    asked = 1;
}

static double percent(const CompatProgress *p)
{
    return p->ops.total > 0 ? MIN(p->ops.done * 100.0 / p->ops.total, 100.0) : 0;
}

static void print_line(CompatProgress *p, double now)
{
    printf("    (%3.2f/100%%)\r", now);
    fflush(stdout);
    p->shown = now;
}

static void coroutine_fn watch_co(void *opaque)
{
    CompatProgress *p = opaque;

    while (!p->stop) {
        double now = percent(p);

        if (p->show && now > p->shown + p->skip) {
            print_line(p, now);
        }
        if (asked) {
            asked = 0;
            fprintf(stderr, "    (%3.2f/100%%)\n", now);
        }
        co_sleep_ns_wakeable(&p->sleep, 100 * 1000 * 1000);
    }
    p->stopped = true;
}

CompatProgress *compat_progress_new(bool show, double skip)
{
    CompatProgress *p = g_new0(CompatProgress, 1);

    p->show = show;
    p->skip = skip;
    if (show) {
        print_line(p, 0);
    } else {
        struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };

        sigaction(SIGUSR1, &sa, NULL);
    }
    qemu_coroutine_enter(qemu_coroutine_create(watch_co, p));
    return p;
}

OpsProgress *compat_progress_ops(CompatProgress *p)
{
    return &p->ops;
}

void compat_progress_done(CompatProgress *p, bool done)
{
    if (p->show && done && p->shown < 100) {
        print_line(p, 100);
    }
}

void compat_progress_end(CompatProgress *p, bool done)
{
    p->stop = true;
    co_sleep_wake(&p->sleep);
    while (!p->stopped) {
        aio_poll(qemu_get_aio_context(), true);
    }
    if (p->show) {
        compat_progress_done(p, done);
        if (done) {
            print_line(p, 100);
        }
        printf("\n");
    }
    g_free(p);
}

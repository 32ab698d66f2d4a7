/* SPDX-License-Identifier: MIT */
/* ops_workers.c: several coroutines at one piece of work. */
#include "ops/ops.h"

typedef struct Crew {
    OpsWorker *fn;
    void *opaque;
    int running;
    Coroutine *owner;
} Crew;

static void coroutine_fn crew_member(void *opaque)
{
    Crew *crew = opaque;

    crew->fn(crew->opaque);
    if (--crew->running == 0) {
        aio_co_wake(crew->owner);
    }
}

void coroutine_fn ops_run_workers(int n, OpsWorker *fn, void *opaque)
{
    Crew crew = { fn, opaque, n + 1, qemu_coroutine_self() };

    for (int i = 0; i < n; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(crew_member, &crew));
    }
    /* Some may be done already. */
    if (--crew.running) {
        qemu_coroutine_yield();
    }
}

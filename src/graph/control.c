/* SPDX-License-Identifier: MIT */
/* control.c: the control lock: changes that can suspend half way come one at a time. */
#include "graph/graph_private.h"

static CoMutex control_mutex;
static bool control_ready;
static int control_depth;

bool control_is_locked_by_me(void)
{
    return control_ready && control_mutex.holder && control_mutex.holder == qemu_coroutine_self();
}

void coroutine_fn control_co_lock(void)
{
    g_assert(qemu_in_main_thread() && qemu_in_coroutine());
    if (!control_ready) {
        qemu_co_mutex_init(&control_mutex);
        control_ready = true;
    }
    if (!control_is_locked_by_me()) {
        qemu_co_mutex_lock(&control_mutex);
    }
    control_depth++;
}

void coroutine_fn control_co_unlock(void)
{
    g_assert(control_is_locked_by_me() && control_depth > 0);
    if (--control_depth == 0) {
        qemu_co_mutex_unlock(&control_mutex);
    }
}

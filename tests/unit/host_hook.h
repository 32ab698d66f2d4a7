/* SPDX-License-Identifier: MIT */
/* host_hook.h: for tests that look at requests to the host, or hold them. host_hook_install() goes before
 * aio_init_main(); then, in the main thread, host_hook may be set and taken away. (The engine's pointer
 * host_ops itself may not change while workers run.)
 */
#ifndef LIVEBLK_TESTS_HOST_HOOK_H
#define LIVEBLK_TESTS_HOST_HOOK_H

#include "base/osdep.h"
#include "aio/host.h"

/* NULL: requests go on to host_real. */
static bool (*host_hook)(HostLoop *loop, HostRequest *req);
static const HostOps *host_real;
static HostOps host_hooked;

static bool host_hook_submit(HostLoop *loop, HostRequest *req)
{
    return host_hook ? host_hook(loop, req) : host_real->submit(loop, req);
}

/* The back end that LIVEBLK_HOST or the kernel chooses. */
static void host_hook_install(void)
{
    const char *name = getenv("LIVEBLK_HOST");

    host_real = &host_ops_threads;
#ifdef CONFIG_IO_URING
    if (g_strcmp0(name, "threads") && host_uring_available()) {
        host_real = &host_ops_uring;
    }
#endif
    host_hooked = *host_real;
    host_hooked.submit = host_hook_submit;
    host_register(&host_hooked);
}

#endif

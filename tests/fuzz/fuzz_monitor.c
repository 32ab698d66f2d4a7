/* SPDX-License-Identifier: MIT */
/* fuzz_monitor.c: bytes as what a control client sends, after a good negotiation. Each input has
 * its own session; nodes it made are dropped. Inputs that name what reaches outside the process
 * (files, sockets) are left alone: the interop tests send those. */
#include "tests/fuzz/fuzz.h"
#include "block/export.h"
#include "qmp/monitor.h"

uint8_t *fuzz_base(unsigned i, size_t *size)
{
    return NULL;
}

static void output(void *opaque, const char *text, size_t len)
{
    *(size_t *)opaque += len;
}

static void coroutine_fn drop_nodes(void *opaque)
{
    blockdev_close_all_bdrv_states();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    static const char *const outside[] = { "create", "nbd-server", "file", "\\u", "object", "host" };
    g_autofree char *text = g_strndup((const char *)data, size);
    size_t said = 0;

    fuzz_begin();
    for (size_t i = 0; i < G_N_ELEMENTS(outside); i++) {
        if (strstr(text, outside[i])) {
            return 0;
        }
    }
    Monitor *mon = monitor_new(false, output, &said);

    monitor_feed(mon, hello, sizeof(hello) - 1);
    for (size_t at = 0; at < size; at += 4096) {
        monitor_feed(mon, (const char *)data + at, MIN(4096, size - at));
        for (int turns = 0; turns < 1000 && aio_poll(qemu_get_aio_context(), false); turns++) {
        }
    }
    g_assert_cmpuint(said, >, 0);
    monitor_free(mon);
    for (int turns = 0; turns < 1000 && aio_poll(qemu_get_aio_context(), false); turns++) {
    }
    aio_co_run(drop_nodes, NULL);
    return 0;
}

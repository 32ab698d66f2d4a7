/* SPDX-License-Identifier: MIT */
/* fuzz_nbd.c: bytes as what an NBD client sends, from the first byte of the handshake. The client
 * sends all, ends its side, and reads until the server closes: which it must. The export is
 * 1 MiB of memory-like node, writable. */
#include "tests/fuzz/fuzz.h"
#include "block/export.h"
#include "qapi-commands.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SOCKET "fuzz-nbd"

uint8_t *fuzz_base(unsigned i, size_t *size)
{
    return NULL;
}

static void *from_text(const QapiType *type, const char *text)
{
    bool keyval;
    g_autoptr(QDict) d = qdict_from_options(text, NULL, &keyval, &error_abort);

    return qapi_from_json(type, d, keyval, &error_abort);
}

static void coroutine_fn start_co(void *opaque)
{
    SocketAddress *addr = from_text(&qapi_type_SocketAddress, "type=unix,path=" SOCKET);
    BlockExportOptions *opts = from_text(&qapi_type_BlockExportOptions,
                                         "type=nbd,id=e,node-name=n,name=disk,writable=on");
    bool keyval;
    QDict *node = qdict_from_options("{\"driver\":\"null-co\",\"node-name\":\"n\",\"size\":1048576,\"read-zeroes\":true}",
                                     NULL, &keyval,
                                     &error_abort);

    bdrv_open(NULL, NULL, node, BDRV_O_RDWR | BDRV_O_UNMAP, &error_abort);
    NbdServerOptions server = { .addr = addr };

    nbd_server_start(&server, &error_abort);
    blk_exp_add(opts, &error_abort);
    qapi_free(&qapi_type_SocketAddress, addr);
    qapi_free(&qapi_type_BlockExportOptions, opts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = SOCKET };
    static uint8_t sink[64 * KiB];
    bool shut = false;
    size_t sent = 0;

    fuzz_begin();
    if (!started) {
        aio_co_run(start_co, NULL);
        started = true;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (true) {
        while (aio_poll(qemu_get_aio_context(), false)) {
        }
        if (sent < size) {
            ssize_t n = send(fd, data + sent, size - sent, MSG_NOSIGNAL);

            sent = n > 0 ? sent + n : errno == EAGAIN ? sent : size;
        } else if (!shut) {
            shut = true;
            shutdown(fd, SHUT_WR);
        }
        ssize_t n = recv(fd, sink, sizeof(sink), 0);

        if (!n || (n < 0 && errno != EAGAIN)) {
            break;
        }
        if (n < 0 && shut) {
            aio_poll(qemu_get_aio_context(), true);     /* it owes us an end */
        }
    }
    close(fd);
    return 0;
}

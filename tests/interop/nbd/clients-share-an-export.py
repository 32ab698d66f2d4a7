#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: many connections to one export see each other's flushed writes; none starves.
Method: sixteen connections, each writes its own area, all read all.
"""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, make_image,  # noqa: E402
                    nbd_module, run)

CLIENTS = 16
AREA = 1 << 20


def test(box, args):
    nbd = nbd_module()
    make_image(box, 'd.qcow2', 'qcow2', CLIENTS * AREA)
    server = Server(box, args.daemon)
    server.add_image('d', 'd.qcow2', 'qcow2')
    uri = server.export('d', writable=True)
    handles = []
    for _ in range(CLIENTS):
        h = nbd.NBD()
        h.connect_uri(uri)
        expect(h.can_multi_conn(), 'multi-conn')
        handles.append(h)
    failures = []

    def work(n):
        try:
            for offset in range(0, AREA, 65536):
                handles[n].pwrite(bytes([n + 1]) * 65536, n * AREA + offset)
            handles[n].flush()
        except nbd.Error as e:
            failures.append(f'client {n}: {e}')
    threads = [threading.Thread(target=work, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failures, '; '.join(failures))
    for n, h in enumerate(handles):
        other = (n + 7) % CLIENTS
        expect(h.pread(AREA, other * AREA) == bytes([other + 1]) * AREA,
               f'client {n} sees what client {other} wrote')
        h.shutdown()
    server.quit()
    check_image(box, 'd.qcow2')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: with reconnect-delay no request is lost while the server is away and comes back; without
it they fail at once, and work again when the server does; the daemon ends in any state.
Method: the server is killed under a writer, and started again.
"""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, nbd_module, read_file, run  # noqa: E402
from remote import peer_server  # noqa: E402

SIZE = 4 << 20


def test(box, args):
    nbd = nbd_module()
    make_image(box, 'd.raw', 'raw', SIZE)
    peer = peer_server(box, 'd.raw', 'p.sock', 'x')
    server = Server(box, args.daemon)
    remote = {'driver': 'nbd', 'export': 'x', 'server': {'type': 'unix', 'path': 'p.sock'}}
    server.add({**remote, 'node-name': 'patient', 'reconnect-delay': 30})
    server.add({**remote, 'node-name': 'brisk'})
    h = nbd.NBD()
    h.connect_uri(server.export('patient', writable=True))
    brisk = nbd.NBD()
    brisk.connect_uri(server.export('brisk', writable=True))
    model = bytearray(SIZE)
    errors = []
    enough = threading.Event()

    def write():
        try:
            n = 0
            while not enough.is_set():
                offset = n * 4096 % SIZE
                data = bytes([n % 255 + 1]) * 4096
                h.pwrite(data, offset)
                model[offset:offset + 4096] = data
                n += 1
        except nbd.Error as e:
            errors.append(str(e))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        time.sleep(0.15)
        peer.kill()
        time.sleep(0.2)
        server.alive()
        try:
            brisk.pread(512, 0)
            expect(False, 'a read without a server worked')
        except nbd.Error as e:
            expect('Input/output error' in str(e), f'a read without a server: {e}')
        peer = peer_server(box, 'd.raw', 'p.sock', 'x')
    time.sleep(0.3)
    enough.set()
    writer.join()
    expect_equal(errors, [], 'errors of the writer')
    expect(brisk.pread(SIZE, 0) == model, 'contents after the server came back')
    h.flush()
    h.shutdown()
    brisk.shutdown()
    peer.kill()
    expect(read_file(box, 'd.raw') == model, 'the image behind the server')
    # Another export in its place is not written to.
    make_image(box, 'e.raw', 'raw', 2 * SIZE)
    peer = peer_server(box, 'e.raw', 'p.sock', 'x')
    other = nbd.NBD()
    other.connect_uri(server.uri('brisk'))
    try:
        other.pwrite(bytes(512), 0)
        expect(False, 'a write to an export of another size worked')
    except nbd.Error as e:
        expect('Input/output error' in str(e), f'a write to another export: {e}')
    peer.stop()
    server.quit()


run(test)

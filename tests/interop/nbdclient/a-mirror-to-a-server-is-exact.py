#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a disk is mirrored to another machine's NBD server under writes, also through a loss of the
connection, and pivots; a server that is gone for good fails the job with an error, not the guest.
"""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, nbd_module, random_file, read_file, run  # noqa: E402
from remote import peer_server  # noqa: E402

SIZE = 32 << 20


def test(box, args):
    nbd = nbd_module()
    random_file(box, 's.raw', SIZE)
    make_image(box, 't.raw', 'raw', SIZE)
    peer = peer_server(box, 't.raw', 'p.sock', 'x')
    server = Server(box, args.daemon)
    server.add_image('s', 's.raw', 'raw')
    remote = {'driver': 'nbd', 'export': 'x', 'server': {'type': 'unix', 'path': 'p.sock'}}
    server.add({**remote, 'node-name': 't', 'reconnect-delay': 30})
    h = nbd.NBD()
    h.connect_uri(server.export('s', writable=True))
    model = bytearray(read_file(box, 's.raw'))
    enough = threading.Event()

    def write():
        rng = random.Random(5)
        while not enough.is_set():
            offset = rng.randrange(SIZE // 4096) * 4096
            data = rng.randbytes(4096)
            h.pwrite(data, offset)
            model[offset:offset + 4096] = data

    writer = threading.Thread(target=write)
    writer.start()
    server.qmp('blockdev-mirror', **{'job-id': 'j'}, device='s', target='t', sync='full')
    time.sleep(0.1)
    peer.kill()
    time.sleep(0.3)
    peer = peer_server(box, 't.raw', 'p.sock', 'x')
    server.wait_event('BLOCK_JOB_READY', device='j')
    server.qmp('job-complete', id='j')
    done = server.wait_event('BLOCK_JOB_COMPLETED', device='j')
    expect('error' not in done, f'{done}')
    server.wait_event('JOB_STATUS_CHANGE', status='null')
    enough.set()
    writer.join()
    expect(h.pread(SIZE, 0) == model, 'contents after the pivot')
    h.flush()
    server.add_image('back', 's.raw', 'raw')
    # The way back, and its end: the server dies for good.
    server.qmp('blockdev-mirror', **{'job-id': 'k'}, device='t', target='back', sync='full')
    server.wait_event('BLOCK_JOB_READY', device='k')
    server.qmp('job-complete', id='k')
    server.wait_event('JOB_STATUS_CHANGE', id='k', status='null')
    server.qmp('blockdev-del', **{'node-name': 't'})
    expect(read_file(box, 't.raw') == model, 'the image behind the server')
    server.add({**remote, 'node-name': 't'})
    peer.kill()
    server.qmp('blockdev-mirror', **{'job-id': 'l'}, device='back', target='t', sync='full')
    done = server.wait_event('BLOCK_JOB_COMPLETED', device='l')
    expect_equal(done.get('error'), 'Input/output error', 'the job without a server')
    h.pwrite(b'still here' + bytes(502), 0)
    expect(h.pread(10, 0) == b'still here', 'the guest goes on')
    h.shutdown()
    server.quit()


run(test)

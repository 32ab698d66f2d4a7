#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: clients of an export in an iothread are served, come and go, and are cut off
by a hard removal, while a mirror of the same node runs and pivots.
Method: libnbd writes before, during and after; contents compared with a model.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, make_image, nbd_module,  # noqa: E402
                    read_file, run)
from sandbox import Skip  # noqa: E402

SIZE = 8 << 20


def test(box, args):
    nbd = nbd_module()
    if args.peer:
        raise Skip('the peer ends in an assertion when such a client leaves')
    make_image(box, 's.raw', 'raw', SIZE)
    make_image(box, 't.raw', 'raw', SIZE)
    server = Server(box, args.daemon, ['--object', 'iothread,id=io'])
    server.add_image('s', 's.raw', 'raw')
    server.add_image('t', 't.raw', 'raw')
    uri = server.export('s', writable=True, iothread='io')
    model = bytearray(SIZE)
    rng = random.Random(11)
    h = nbd.NBD()
    h.connect_uri(uri)

    def write_some(count):
        for _ in range(count):
            offset = rng.randrange(SIZE - 70000)
            data = rng.randbytes(rng.choice([512, 4096, 65536]))
            h.pwrite(data, offset)
            model[offset:offset + len(data)] = data

    for _ in range(20):
        other = nbd.NBD()
        other.connect_uri(uri)
        other.pread(512, 0)
        other.shutdown()
    write_some(100)
    server.qmp('blockdev-mirror', **{'job-id': 'j'}, device='s', target='t',
               sync='full')
    write_some(200)
    server.wait_event('BLOCK_JOB_READY', device='j')
    write_some(200)
    server.qmp('job-complete', id='j')
    server.wait_event('BLOCK_JOB_COMPLETED', device='j')
    server.wait_event('JOB_STATUS_CHANGE', status='null')
    before_pivot = bytes(model)
    write_some(100)
    expect(h.pread(SIZE, 0) == model, 'contents through the export')
    h.flush()
    server.unexport('s')
    server.qmp('blockdev-del', **{'node-name': 's'})
    server.qmp('blockdev-del', **{'node-name': 't'})
    expect(read_file(box, 't.raw') == model, 'contents of the target')
    expect(len(before_pivot) == SIZE, 'model')
    server.qmp('object-del', id='io')
    server.quit()


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: no qcow2 image, however corrupted, crashes or hangs the daemon, whatever is
read or written.
Method: images with random bytes changed in header and tables, many seeds; read all,
write a little; errors are fine, an end is not.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, make_image, nbd_module, read_file,  # noqa: E402
                    run)

SIZE = 1 << 20
SEEDS = range(120)


def corrupted(good, seed):
    """A few bytes changed, mostly where the header and the tables are."""
    rng = random.Random(seed)
    out = bytearray(good)
    for _ in range(rng.choice([1, 2, 5, 20])):
        area = rng.choice([120, 120, len(good)])
        place = rng.randrange(area)
        if rng.random() < 0.5:
            place &= ~7
            out[place:place + 8] = rng.choice(
                [bytes(8), b'\xff' * 8, rng.randbytes(8),
                 bytes([128, 0, 0, 0, 0, rng.randrange(8), 0, 0])])
        else:
            out[place] = rng.randrange(256)
    return bytes(out[:len(good)])


def attempt(nbd, call, *given):
    try:
        call(*given)
    except nbd.Error:
        pass


def test(box, args):
    nbd = nbd_module()
    make_image(box, 'good.qcow2', 'qcow2', SIZE, 'write -P 0x11 0 512k',
               'write -z 640k 64k', cluster_size='4k')
    good = read_file(box, 'good.qcow2')
    server = Server(box, args.daemon)
    for seed in SEEDS:
        with open(os.path.join(box.path, 'bad.qcow2'), 'wb') as f:
            f.write(corrupted(good, seed))
        print('seed', seed, flush=True)
        value = server.ask('blockdev-add', **{
            'driver': 'qcow2', 'node-name': 'n',
            'file': {'driver': 'file', 'filename': 'bad.qcow2'}})
        if 'error' in value:
            continue
        value = server.ask('block-export-add', **{
            'type': 'nbd', 'id': 'x-n', 'node-name': 'n', 'writable': True})
        if 'return' in value:
            h = nbd.NBD()
            h.connect_uri(server.uri('n'))
            size = min(h.get_size(), SIZE)
            for offset in range(0, size, 65536):
                attempt(nbd, h.pread, min(65536, size - offset), offset)
            if size >= 65536:
                attempt(nbd, h.pwrite, b'x' * 5000, 1000)
                attempt(nbd, h.pwrite, b'x' * 5000, size - 6000)
                attempt(nbd, h.zero, 8192, 16384)
                attempt(nbd, h.trim, 8192, 32768)
                attempt(nbd, h.flush)
            h.shutdown()
            server.unexport('n')
        server.qmp('blockdev-del', **{'node-name': 'n'})
    server.quit()


run(test)

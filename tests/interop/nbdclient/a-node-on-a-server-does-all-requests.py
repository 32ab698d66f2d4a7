#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a node on an NBD server (the peer's, and nbdkit) reads, writes, zeroes, discards and tells
holes; from an iothread, too.
Method: our export of such a node, driven by libnbd against a model; the server's image compared.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, nbd_module, read_file, run  # noqa: E402
from remote import nbdkit, peer_server  # noqa: E402

SIZE = (8 << 20) + 512


def drive(nbd, uri, seed, zeroes):
    rng = random.Random(seed)
    model = bytearray(SIZE)
    h = nbd.NBD()
    h.add_meta_context('base:allocation')
    h.connect_uri(uri)
    expect_equal(h.get_size(), SIZE, 'size')
    for i in range(300):
        offset = rng.randrange(SIZE // 512) * 512
        n = min(rng.choice([512, 1024, 3584, 4096, 65536, 300032]), SIZE - offset)
        kind = rng.random()
        if kind < 0.5:
            data = rng.randbytes(n)
            h.pwrite(data, offset, nbd.CMD_FLAG_FUA if i % 7 == 0 else 0)
            model[offset:offset + n] = data
        elif kind < 0.7:
            h.zero(n, offset)
            model[offset:offset + n] = bytes(n)
        elif kind < 0.75 and not zeroes:
            h.flush()
        else:
            expect(h.pread(n, offset) == model[offset:offset + n], f'read {i} at {offset}')
    extents = []
    h.block_status(SIZE, 0, lambda context, at, entries, err: extents.extend(entries))
    at = 0
    for length, flags in zip(extents[::2], extents[1::2]):
        expect(not flags & 2 or not any(model[at:at + length]), f'{length} bytes at {at} are said to be zero')
        at += length
    expect(at > 0, 'status')
    h.flush()
    h.shutdown()
    return bytes(model)


def test(box, args):
    nbd = nbd_module()
    make_image(box, 'd.raw', 'raw', SIZE)
    peer = peer_server(box, 'd.raw', 'p.sock', 'x')
    kit = nbdkit(box, 'k.sock', 'memory', SIZE)
    server = Server(box, args.daemon, ['--object', 'iothread,id=io'])
    for name, path, export in (('a', 'p.sock', 'x'), ('b', 'k.sock', '')):
        server.add({'driver': 'nbd', 'node-name': name, 'export': export,
                    'server': {'type': 'unix', 'path': path}})
        for seed, where in ((1, {}), (2, {'iothread': 'io'}), (3, {})):
            uri = server.export(name, writable=True, **where)
            h = nbd.NBD()
            h.connect_uri(uri)
            h.zero(SIZE, 0)
            h.shutdown()
            model = drive(nbd, uri, seed, name == 'a')
            server.unexport(name)
            if name == 'a':
                expect(read_file(box, 'd.raw') == model, 'the image behind the server')
    server.quit()
    peer.stop()
    kit.stop()


run(test)

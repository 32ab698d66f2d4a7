#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: all that clients write through a node of driver compress lies compressed in the image, whatever
its size and place; zeroes and discards stay what they are; the contents are the clients'.
Method: requests of all sizes through an export, several in flight, also at the end of a disk that ends
within a cluster; a model; the image read, mapped and checked by the peer. A mirror too.
"""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, expect_equal,  # noqa: E402
                    make_image, nbd_module, random_file, run, tool)

SIZE = (3 << 20) + 512 * 5
CASES = [('64k', 'zlib'), ('4k', 'zstd'), ('512', 'zlib'), ('2M', 'zstd')]


def words(rng, n):
    """Something that compresses, and is different everywhere."""
    unit = rng.randbytes(16)
    return (unit * (n // 16 + 1))[:n]


def change(h, rng, model):
    """One request of any kind, on the export and on the model."""
    n = min(rng.choice([512, 1000, 4096, 5000, 65536, 200000]), SIZE)
    at = rng.choice([rng.randrange(SIZE - n), SIZE - n,
                     rng.randrange((SIZE - n) // 65536 + 1) * 65536])
    kind = rng.random()
    if kind < 0.8:
        data = words(rng, n)
        h.pwrite(data, at)
        model[at:at + n] = data
    else:
        h.zero(n, at)
        model[at:at + n] = bytes(n)


def together(h, rng, model):
    """Neighbours at once: they share clusters."""
    import nbd
    at = rng.randrange(SIZE - 40000)
    cookies = []
    for i in range(10):
        data = words(rng, 4000)
        cookies.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)),
                                    at + i * 4000))
        model[at + i * 4000:at + (i + 1) * 4000] = data
    while cookies:
        h.poll(-1)
        cookies = [c for c in cookies if not h.aio_command_completed(c)]


def case(box, server, nbd, cluster, kind):
    rng = random.Random(len(cluster) * 7 + len(kind))
    model = bytearray(SIZE)
    make_image(box, 'c.qcow2', 'qcow2', SIZE, cluster_size=cluster,
               compression_type=kind)
    server.add({'driver': 'compress', 'node-name': 'c', 'file': {
        'driver': 'qcow2', 'file': {'driver': 'file',
                                    'filename': 'c.qcow2'}}})
    h = nbd.NBD()
    # Requests need not be aligned to what the server asks for.
    h.set_strict_mode(h.get_strict_mode() & ~nbd.STRICT_ALIGN)
    h.connect_uri(server.export('c', writable=True))
    expect_equal(h.get_size(), SIZE, 'size')
    for _ in range(40):
        change(h, rng, model)
        if rng.random() < 0.2:
            together(h, rng, model)
    expect_equal(h.pread(SIZE, 0), bytes(model), f'{cluster} {kind}: read')
    h.flush()
    h.shutdown()
    server.unexport('c')
    server.qmp('blockdev-del', **{'node-name': 'c'})
    check_image(box, 'c.qcow2')
    with open(os.path.join(box.path, 'model'), 'wb') as f:
        f.write(model)
    tool(box, 'qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', 'c.qcow2',
         'model')
    extents = json.loads(tool(box, 'qemu-img', 'map', '--output', 'json',
                              'c.qcow2'))
    packed = sum(e['length'] for e in extents
                 if e['data'] and 'offset' not in e)
    plain = sum(e['length'] for e in extents
                if e['data'] and 'offset' in e)
    expect(packed > SIZE // 4, f'{cluster} {kind}: {packed} bytes compressed')
    # Noise of 16 bytes does not become smaller in the least clusters' tails.
    expect(plain <= packed // 10, f'{cluster} {kind}: {plain} bytes plain')


def a_mirror_ends_in_compressed_clusters(box, server):
    random_file(box, 'source.raw', SIZE)
    with open(os.path.join(box.path, 'source.raw'), 'r+b') as f:
        f.write(bytes(range(256)) * 4096)
    make_image(box, 'm.qcow2', 'qcow2', SIZE)
    server.add_image('source', 'source.raw', 'raw')
    server.add({'driver': 'compress', 'node-name': 'm', 'file': {
        'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'm.qcow2'}}})
    server.qmp('blockdev-mirror', **{'job-id': 'j', 'device': 'source', 'target': 'm', 'sync': 'full'})
    server.wait_event('BLOCK_JOB_READY')
    server.qmp('job-complete', id='j')
    server.wait_event('BLOCK_JOB_COMPLETED')
    server.qmp('blockdev-del', **{'node-name': 'source'})
    server.qmp('blockdev-del', **{'node-name': 'm'})
    check_image(box, 'm.qcow2')
    tool(box, 'qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', 'm.qcow2', 'source.raw')
    text = tool(box, 'qemu-img', 'check', 'm.qcow2')
    expect(' 0.00% compressed' not in text, text)


def test(box, args):
    nbd = nbd_module()
    server = Server(box, args.daemon)
    for cluster, kind in CASES:
        case(box, server, nbd, cluster, kind)
    a_mirror_ends_in_compressed_clusters(box, server)
    server.quit()


run(test)

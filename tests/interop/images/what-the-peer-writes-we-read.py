#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: the daemon reads images made by the peer's tools, of every everyday layout.
Method: images with data, zero clusters, discards, holes, chains, preallocation; the
contents through NBD are compared with qemu-img convert.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, make_image, nbd_module,  # noqa: E402
                    read_file, run, tool)

SIZE = 8 << 20
WRITES = ['write -P 0x11 0 1M', 'write -z 512k 64k', 'discard 768k 64k',
          'write -P 0x22 3000k 70k', 'write -P 0x33 1 1', 'write -P 0x44 8388607 1',
          'write -z 4M 1M', 'write -z -u 5M 256k', 'write -P 0x55 4200k 4k']
LAYOUTS = {
    'raw': ('raw', {}),
    'plain': ('qcow2', {}),
    'version2': ('qcow2', {'compat': '0.10'}),
    'c512': ('qcow2', {'cluster_size': '512'}),
    'c2M': ('qcow2', {'cluster_size': '2M'}),
    'lazy': ('qcow2', {'lazy_refcounts': 'on'}),
    'r64': ('qcow2', {'refcount_bits': '64'}),
    'r1': ('qcow2', {'refcount_bits': '1'}),
    'meta': ('qcow2', {'preallocation': 'metadata'}),
    'falloc': ('qcow2', {'preallocation': 'falloc'}),
    'odd': ('qcow2', {}),
}


def compare(box, server, nbd, node, image, fmt, add=True):
    if add:
        server.add_image(node, image, fmt, **{'read-only': True})
    h = nbd.NBD()
    h.connect_uri(server.export(node))
    tool(box, 'qemu-img', 'convert', '-U', '-f', fmt, '-O', 'raw', image, 'wanted')
    wanted = read_file(box, 'wanted')
    expect(h.get_size() == len(wanted), f'{image}: size {h.get_size()}')
    for offset in range(0, len(wanted), 1 << 20):
        length = min(1 << 20, len(wanted) - offset)
        expect(h.pread(length, offset) == wanted[offset:offset + length],
               f'{image}: contents at {offset}')
    h.shutdown()


def chain(box):
    """top (8 MiB) over middle (6 MiB) over base (raw, 4 MiB)."""
    make_image(box, 'base.raw', 'raw', '4M', 'write -P 0x61 0 4M')
    for image, below, fmt, size, writes in (
            ('middle.qcow2', 'base.raw', 'raw', '6M',
             ['write -P 0x62 1M 64k', 'write -z 2M 64k', 'write -P 0x62 5M 64k']),
            ('top.qcow2', 'middle.qcow2', 'qcow2', '8M',
             ['write -P 0x63 2M 4k', 'discard 1M 64k', 'write -P 0x63 7M 64k'])):
        tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', below, '-F', fmt,
             image, size)
        tool(box, 'qemu-io', *[a for w in writes for a in ('-c', w)], image)


def test(box, args):
    nbd = nbd_module()
    server = Server(box, args.daemon)
    for name, (fmt, options) in LAYOUTS.items():
        size = SIZE + 512 if name == 'odd' else SIZE
        make_image(box, f'{name}.{fmt}', fmt, size, *WRITES, **options)
        compare(box, server, nbd, name, f'{name}.{fmt}', fmt)
    chain(box)
    compare(box, server, nbd, 'top', 'top.qcow2', 'qcow2')
    server.quit()


run(test)

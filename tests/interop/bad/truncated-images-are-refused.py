#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a qcow2 file that is cut off, or whose tables lie outside of it, is refused
with a clear error when it is opened or read; the daemon stays alive.
Method: a filled image cut at many lengths; header fields and table entries that
point outside, overlap the header or are unaligned.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, expect_equal, make_image,  # noqa: E402
                    nbd_module, read_file, run)

SIZE = 4 << 20
CLUSTER = 65536
FAR = 1 << 40
# Header fields of the qcow2 specification: (offset, format).
L1_OFFSET, REFTABLE_OFFSET = (40, '>Q'), (48, '>Q')


def use(box, server, nbd, image):
    """'refused', 'error' (when read) or 'read'; never anything worse."""
    value = server.ask('blockdev-add', **{
        'driver': 'qcow2', 'node-name': 'n', 'read-only': True,
        'file': {'driver': 'file', 'filename': image}})
    if 'error' in value:
        expect(len(value['error']['desc']) > 10, f'{image}: {value}')
        expect_equal(server.qmp('query-named-block-nodes'), [], 'nodes left')
        return 'refused'
    h = nbd.NBD()
    h.connect_uri(server.export('n'))
    how = 'read'
    size = h.get_size()
    for offset in range(0, size, 1 << 20):
        try:
            h.pread(min(1 << 20, size - offset), offset)
        except nbd.Error:
            how = 'error'
    h.shutdown()
    server.unexport('n')
    server.qmp('blockdev-del', **{'node-name': 'n'})
    return how


def put(data, where, value):
    offset, fmt = where
    out = bytearray(data)
    out[offset:offset + struct.calcsize(fmt)] = struct.pack(fmt, value)
    return out


def get(data, where):
    return struct.unpack_from(where[1], data, where[0])[0]


def test(box, args):
    nbd = nbd_module()
    make_image(box, 'good.qcow2', 'qcow2', SIZE, f'write -P 0x11 0 {SIZE}')
    good = read_file(box, 'good.qcow2')
    l1 = get(good, L1_OFFSET)
    reftable = get(good, REFTABLE_OFFSET)
    l2 = get(good, (l1, '>Q')) & 0x00fffffffffffe00
    cases = {f'cut at {n}': good[:n] for n in
             (1, 71, 72, 103, 104, 511, 512, 4096, CLUSTER - 1, CLUSTER, reftable + 4,
              l1, l1 + 4, l2, l2 + 8, len(good) // 2, len(good) - CLUSTER)}
    cases.update({
        'L1 table outside': put(good, L1_OFFSET, FAR),
        'refcount table outside': put(good, REFTABLE_OFFSET, FAR),
        'L2 table outside': put(good, (l1, '>Q'), FAR | 1 << 63),
        'L2 table in the header': put(good, (l1, '>Q'), 512 | 1 << 63),
        'data outside': put(good, (l2, '>Q'), FAR | 1 << 63),
        'data unaligned': put(good, (l2, '>Q'), CLUSTER * 3 + 512 | 1 << 63),
        'refcount block outside': put(good, (reftable, '>Q'), FAR),
    })
    server = Server(box, args.daemon)
    lenient = []
    for what, data in cases.items():
        with open(os.path.join(box.path, 'bad.qcow2'), 'wb') as f:
            f.write(data)
        how = use(box, server, nbd, 'bad.qcow2')
        # A refcount table is of no use to a reader.
        if how == 'read' and 'refcount' not in what:
            lenient.append(what)
        server.alive()
    if args.peer:
        print('the peer reads:', ', '.join(lenient))
    else:
        expect_equal(lenient, [], 'read as if nothing were wrong')
    expect_equal(use(box, server, nbd, 'good.qcow2'), 'read', 'the good one')
    server.quit()


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an image cannot make the daemon keep more bits of bitmaps than its file holds.
Method: bitmaps of a large disk whose tables name one cluster of bits again and again; the image is refused, named,
with little memory taken; one whose tables are as they should be is opened.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, run, sanitized, tool  # noqa: E402

CLUSTER = 2 << 20
BITMAPS = 4


def make(box, name):
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', f'cluster_size={CLUSTER}', name, '1T')
    for i in range(BITMAPS):
        tool(box, 'qemu-img', 'bitmap', '--add', '-g', '512', name, f'b{i}')
    return os.path.join(box.path, name)


def tables(path):
    """(offset, entries) of the table of each bitmap, by the public format document."""
    with open(path, 'rb') as f:
        head = f.read(4096)
        at, = struct.unpack_from('>I', head, 100)
        while struct.unpack_from('>I', head, at)[0] != 0x23852875:
            at += 8 + (struct.unpack_from('>I', head, at + 4)[0] + 7) // 8 * 8
        number, _, length, directory = struct.unpack_from('>IIQQ', head, at + 8)
        f.seek(directory)
        data = f.read(length)
    at = 0
    for _ in range(number):
        offset, entries, _, _, _, name_bytes, extra = struct.unpack_from('>QIIBBHI', data, at)
        at += (24 + extra + name_bytes + 7) // 8 * 8
        yield offset, entries


def share(path):
    """Let all entries of all tables name the same cluster, of mixed bits."""
    found = list(tables(path))
    with open(path, 'r+b') as f:
        end = -(-os.fstat(f.fileno()).st_size // CLUSTER) * CLUSTER
        f.seek(end)
        f.write(b'\x55' * CLUSTER)
        for offset, entries in found:
            f.seek(offset)
            f.write(struct.pack('>Q', end) * entries)


def peak(server):
    with open(f'/proc/{server.daemon.proc.pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM')) << 10


def test(box, args):
    make(box, 'good.qcow2')
    share(make(box, 'bad.qcow2'))
    server = Server(box, args.daemon)
    server.add_image('good', 'good.qcow2', 'qcow2')
    text = server.refused('blockdev-add', **{'driver': 'qcow2', 'node-name': 'bad',
                                             'file': {'driver': 'file', 'filename': 'bad.qcow2'}})
    expect("'b0'" in text, text)
    if not sanitized(args.daemon):
        expect(peak(server) < 100 << 20, f'{peak(server) >> 20} MiB')
    server.quit()


run(test)

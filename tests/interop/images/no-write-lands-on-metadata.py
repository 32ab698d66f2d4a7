#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: where an entry of a damaged image names a cluster that holds metadata, a write there is refused, told, and
the image marked corrupt, just as the option overlap-check says; the peer's qemu-io decides the same for each.
Method: an image with a snapshot and a bitmap; an entry is bent to each kind of metadata in turn; both programs write
through it, with each template and with single flags.
"""
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, expect_equal, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

CHECKS = ['', 'overlap-check=none,', 'overlap-check=constant,', 'overlap-check=cached,', 'overlap-check=all,',
          'overlap-check.template=none,overlap-check.active-l2=on,',
          'overlap-check.template=all,overlap-check.inactive-l2=off,overlap-check.snapshot-table=off,',
          'overlap-check.inactive-l2=on,overlap-check.refcount-block=off,']


def make(box):
    path = os.path.join(box.path, 'good')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'good', '8M')
    tool(box, 'qemu-io', '-c', 'write 0 128k', 'good')
    tool(box, 'qemu-img', 'snapshot', '-c', 's', 'good')
    tool(box, 'qemu-io', '-c', 'write 0 128k', 'good')
    tool(box, 'qemu-img', 'bitmap', '--add', 'good', 'b')
    with open(path, 'rb') as f:
        data = f.read()

    def word(at):
        return struct.unpack_from('>Q', data, at)[0] & 0x00fffffffffffe00

    at, l1, reftable, snapshots = 112, word(40), word(48), word(64)
    while struct.unpack_from('>I', data, at)[0] != 0x23852875:
        at += 8 + (struct.unpack_from('>I', data, at + 4)[0] + 7) // 8 * 8
    return word(l1), {'active L1': l1, 'active L2': word(l1), 'refcount table': reftable, 'refcount block': word(reftable),
                      'snapshot table': snapshots, 'inactive L1': word(snapshots), 'inactive L2': word(word(snapshots)),
                      'bitmap directory': word(at + 24)}


def write(box, program, checks, l2, place):
    """(how many of two writes are refused, what is said, is the corrupt bit set)"""
    shutil.copy(os.path.join(box.path, 'good'), os.path.join(box.path, 'bad'))
    with open(os.path.join(box.path, 'bad'), 'r+b') as f:
        f.seek(l2)
        f.write(struct.pack('>Q', 1 << 63 | place))
    status, text = box.run([program, '-c', f'open -o driver=qcow2,{checks}file.filename=bad',
                            '-c', 'write 4k 8k', '-c', 'write 1M 64k'])
    with open(os.path.join(box.path, 'bad'), 'rb') as f:
        f.seek(79)
        corrupt = f.read(1)[0] & 2 != 0
    failed = [line for line in text.splitlines() if 'write failed' in line]
    said = [line for line in text.splitlines() if 'overlaps' in line]
    return len(failed), said, corrupt


def test(box, args):
    ours = os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-io')
    if args.peer or not os.path.exists(ours):
        raise Skip('no qemu-io of ours beside the daemon')
    l2, places = make(box)
    for kind, place in places.items():
        for checks in CHECKS:
            theirs, got = (write(box, program, checks, l2, place) for program in ('qemu-io', ours))
            expect_equal(got, theirs, f'{kind} with "{checks}"')
            expect(got[0] == (2 if got[2] else 0), f'{kind} with "{checks}": once refused, nothing is written any more')
    # Marked as corrupt, it is not opened for writing again, but read.
    write(box, ours, '', l2, places['active L1'])
    expect(box.run([ours, '-c', 'write 0 512', 'bad'])[0] != 0, 'a corrupt image is opened for writing')
    expect(box.run([ours, '-r', '-c', 'read 1M 512', 'bad'])[0] == 0, 'a corrupt image cannot be read')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an image with lazy refcounts whose writer was killed opens for reading as it is, and for
writing after its refcounts were put in order; a corrupt one is not written to until it is repaired.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, check_image, expect, expect_equal, make_image, poke, read_file, run, tool  # noqa: E402


def features(box, name):
    return int.from_bytes(read_file(box, name)[72:80], 'big')


def test(box, args):
    make_image(box, 'd.qcow2', 'qcow2', '64M', lazy_refcounts='on', compat='1.1')
    tool(box, 'sh', '-c', "qemu-io -c 'write -P 7 0 5M' -c 'write -P 8 20M 1M' -c flush -c 'sigraise 9' d.qcow2; true")
    expect_equal(features(box, 'd.qcow2') & 1, 1, 'the dirty bit')
    server = Server(box, args.daemon)
    server.add_image('r', 'd.qcow2', 'qcow2', **{'read-only': True})
    poke(box, server.export('r'), 'raw', 'read -P 7 0 5M', 'read -P 8 20M 1M', flags=('-r',))
    server.unexport('r')
    server.qmp('blockdev-del', **{'node-name': 'r'})
    expect_equal(features(box, 'd.qcow2') & 1, 1, 'reading changes nothing')
    server.add_image('w', 'd.qcow2', 'qcow2')
    expect_equal(features(box, 'd.qcow2') & 1, 0, 'the dirty bit after opening for writing')
    poke(box, server.export('w', writable=True), 'raw', 'read -P 7 0 5M', 'write -P 9 30M 1M', 'flush')
    server.unexport('w')
    server.qmp('blockdev-del', **{'node-name': 'w'})
    check_image(box, 'd.qcow2')
    # Marked corrupt.
    with open(os.path.join(box.path, 'd.qcow2'), 'r+b') as f:
        f.seek(79)
        f.write(b'\2')
    expect_equal(server.refused('blockdev-add', driver='qcow2', **{'node-name': 'c'},
                                file={'driver': 'file', 'filename': 'd.qcow2'}),
                 'qcow2: Image is corrupt; cannot be opened read/write', 'corrupt image')
    server.quit()
    liveblk = os.path.join(os.path.dirname(args.daemon), 'liveblk')
    if os.path.exists(liveblk):
        tool(box, liveblk, 'check', '--repair', 'all', 'd.qcow2')
        expect_equal(features(box, 'd.qcow2') & 3, 0, 'the marks after a repair')
        poke(box, 'd.qcow2', 'qcow2', 'read -P 9 30M 1M')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: what is cut off a disk within a cluster does not come back when another program makes the disk longer again.
Method: shorten images of several kinds to the middle of a cluster, in which a snapshot has its part or not; the peer
lengthens them and shows what it finds.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, read_file, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

SIZE, SHORT = 256 << 10, (128 << 10) + 512 * 5


def test(box, args):
    img = os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-img')
    if not os.path.exists(img):
        raise Skip('no compat programs beside the daemon')
    for options in ('compat=0.10', 'cluster_size=4k', 'extended_l2=on', 'refcount_bits=64', 'compression_type=zstd'):
        for fill in ('write -P 7', 'write -c -P 7'):
            tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'a', SIZE)
            tool(box, 'qemu-io', '-c', f'{fill} 0 {SIZE}', 'a')
            if 'compat' not in options:
                tool(box, img, 'snapshot', '-c', 's', 'a')
            tool(box, img, 'resize', '-q', '--shrink', 'a', SHORT)
            tool(box, 'qemu-img', 'resize', '-q', 'a', SIZE)
            tool(box, 'qemu-img', 'convert', '-O', 'raw', 'a', 'out')
            expect(read_file(box, 'out') == b'\x07' * SHORT + bytes(SIZE - SHORT), f'{options}, {fill}: contents')
            tool(box, 'qemu-img', 'check', '-q', 'a')
            if 'compat' not in options:
                tool(box, img, 'convert', '-l', 's', '-O', 'raw', 'a', 'out')
                expect(read_file(box, 'out') == b'\x07' * SIZE, f'{options}, {fill}: snapshot')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: the nodes of a chain of 990 images are listed in seconds, with and without what is below each; what is told of a
short chain is complete.
Method: images that name the one below in their headers; the nested images counted.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, read_file, run, tool  # noqa: E402

LAYERS = 990
NESTED_MAX = 200 * 201 // 2
SECONDS_MAX = 15


def make_chain(box):
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'i0000', '1M')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'iNNNN', '-F', 'qcow2', 't', '1M')
    layer = read_file(box, 't')
    for i in range(1, LAYERS):
        with open(os.path.join(box.path, f'i{i:04}'), 'wb') as f:
            f.write(layer.replace(b'iNNNN', f'i{i - 1:04}'.encode()))


def nested(info):
    n = 0
    while 'backing-image' in info:
        info = info['backing-image']
        n += 1
    return n


def look(box, args, layers, complete):
    server = Server(box, args.daemon, nbd=False)
    server.sock.settimeout(60)
    server.add({'driver': 'qcow2', 'node-name': 'top', 'file': {'driver': 'file', 'filename': f'i{layers - 1:04}'}})
    for flat in (True, False):
        begin = time.monotonic()
        nodes = server.qmp('query-named-block-nodes', flat=flat)
        took = time.monotonic() - begin
        expect(took < SECONDS_MAX, f'{layers} layers, flat={flat}: {took:.1f} s')
        expect_equal(len(nodes), 2 * layers, 'nodes')
        depths = [nested(node['image']) for node in nodes]
        if flat:
            expect_equal(sum(depths), 0, 'flat')
        elif complete:
            expect_equal(max(depths), layers - 1, 'the top')
            expect_equal(sum(depths), layers * (layers - 1) // 2, 'all of them')
        else:
            expect(0 < sum(depths) <= NESTED_MAX, f'{sum(depths)} nested images')
            expect_equal([node['backing_file_depth'] for node in nodes if node['node-name'] == 'top'], [layers - 1],
                         'the depth')
    server.quit()


def test(box, args):
    make_chain(box)
    look(box, args, 20, True)
    if not args.peer:
        look(box, args, LAYERS, False)


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: serve -d, mirror --pivot, --stop, --existing, and both kinds of target, with a client that
writes all the while; nothing is lost, nothing is left over. Method: a model of what was written.
"""
import random
import threading
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal, make_image, nbd_module, tool  # noqa: E402

SIZE = 24 << 20


class Writer(threading.Thread):
    def __init__(self, nbd, uri):
        super().__init__(daemon=True)
        self.handle, self.model = nbd.NBD(), bytearray(SIZE)
        self.handle.connect_uri(uri)
        self.model[1 << 20:5 << 20] = b'\1' * (4 << 20)
        self.end, self.error, self.writes = False, None, 0

    def run(self):
        rng = random.Random(3)
        try:
            while not self.end:
                n = rng.choice([512, 4096, 70000])
                at = rng.randrange(SIZE - n) // 512 * 512
                data = rng.randbytes(n)
                self.handle.pwrite(data, at)
                self.model[at:at + n] = data
                self.writes += 1
            self.handle.flush()
            self.handle.shutdown()
        except Exception as e:      # pylint: disable=broad-except
            self.error = e

    def finish(self):
        self.end = True
        self.join(20)
        expect(self.error is None and not self.is_alive(), f'the client failed: {self.error}')


def judge(box, model, image, fmt):
    with open(os.path.join(box.path, 'model'), 'wb') as f:
        f.write(model)
    expect_equal(tool(box, 'qemu-img', 'compare', '-f', 'raw', '-F', fmt, 'model', image), 'Images are identical.\n', image)
    if fmt == 'qcow2':
        check_image(box, image)


def test(box, cli):
    nbd = nbd_module()
    make_image(box, 'disk.qcow2', 'qcow2', str(SIZE), 'write -P 1 1M 4M')
    made = cli.json('serve', '-d', '--pidfile', 'pid', 'disk.qcow2')
    expect_equal(set(made), {'exports', 'control', 'pid'}, 'serve, json')
    with open(os.path.join(box.path, 'pid'), encoding='utf-8') as f:
        expect_equal(int(f.read()), made['pid'], 'the pidfile')
    expect_equal([(e['name'], e['image']) for e in made['exports']], [('disk', 'disk.qcow2')], 'exports')
    writer = Writer(nbd, made['exports'][0]['uri'])
    writer.start()
    got = cli.json('mirror', '--pivot', 'two.raw')
    expect_equal((got['job'], got['node'], got['state'], got['target-node']),
                 ('mirror-disk', 'disk', 'pivoted', 'disk-1'), 'mirror')
    cli('mirror', '--pivot', '--copy-mode=write-blocking', 'three.qcow2')
    cli('mirror', '--pivot', '--keep-source', '--speed', '200M', 'four.qcow2')
    nodes = {n['node-name'] for n in cli.qmp('query-named-block-nodes') if not n['node-name'].startswith('#')}
    expect(len(nodes) == 2, f'nodes left: {nodes}')
    expect('the target is a copy' in cli('mirror', '--stop', 'copy.qcow2'), 'mirror --stop')
    check_image(box, 'copy.qcow2')
    make_image(box, 'five.qcow2', 'qcow2', str(SIZE))
    cli('mirror', '--pivot', '--existing', 'five.qcow2')
    writer.finish()
    expect(writer.writes > 50, f'only {writer.writes} writes')
    expect_equal(cli.json('jobs'), [], 'jobs left')
    cli('qmp', 'quit')
    cli.wait_gone(made['pid'])
    expect(not os.path.exists(os.path.join(box.path, 'pid')), 'the pidfile is left')
    expect_equal(os.listdir(os.path.join(box.path, 'run/liveblk')), [], 'sockets left')
    judge(box, writer.model, 'five.qcow2', 'qcow2')


run_cli(test)

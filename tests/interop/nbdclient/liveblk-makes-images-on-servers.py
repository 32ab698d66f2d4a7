#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: liveblk makes, converts and mirrors disks onto what is there already and cannot be renamed: an export of an NBD server,
plain and in TLS. What was there before does not show; what does not fit, or is not there, is refused.
Method: the peer's server over a file of random bytes; create, convert and mirror, raw and qcow2; the peer compares.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import pki  # noqa: E402
from cli import Cli  # noqa: E402
from oracle import expect, expect_equal, random_file, run, tool  # noqa: E402
from remote import Remote  # noqa: E402
from sandbox import Skip, require  # noqa: E402

PLACE, SIZE = 24 << 20, 16 << 20


class Place:
    """An export full of what was there before; compared as the file that it is, after its server has gone."""

    def __init__(self, box, *more):
        self.box, self.more = box, more
        self.fill()

    def fill(self):
        random_file(self.box, 'place', PLACE, seed=3)
        self.start()

    def start(self):
        self.server = Remote(self.box, 's', ['qemu-nbd', '-t', '-e', '9', '-f', 'raw', '-k', f'{self.box.path}/s', '-x', 'd',
                                             *self.more, 'place'])

    def same(self, fmt, other):
        self.server.stop()
        if fmt == 'qcow2':
            tool(self.box, 'qemu-img', 'check', '-q', '-f', fmt, 'place')
        else:
            tool(self.box, 'truncate', '-s', str(SIZE), 'place')
        tool(self.box, 'qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', fmt, other, 'place')
        self.fill()


def offline(box, cli, place, uri):
    cli('create', uri, '16M')
    cli.fails(1, 'cannot be overwritten', 'create', uri, '25M')
    cli.fails(1, 'takes no options', 'create', '-o', 'preallocation=full', uri, '16M')
    cli('create', '-f', 'qcow2', uri, '16M')
    expect_equal(cli.json('info', uri)['virtual-size'], SIZE, 'info')
    place.same('qcow2', 'empty.qcow2')
    cli('convert', 's.qcow2', uri)
    place.same('raw', 's.qcow2')
    cli('convert', '-O', 'qcow2', 's.qcow2', uri)
    place.same('qcow2', 's.qcow2')
    plan = cli.json('convert', '-n', 's.qcow2', uri)
    expect_equal((plan['replaces'], plan['format']), (True, 'raw'), 'dry run')
    expect('would overwrite' in cli('create', '-n', uri, '1M'), 'dry run')
    cli.fails(1, 'Cannot grow', 'convert', 'big.qcow2', uri)
    cli.fails(2, 'say --existing', 'convert', 's.qcow2', 'ssh://host/x')


def serve(cli, image='s.qcow2'):
    return cli.json('serve', '--detach', '--name', 's', image)['exports'][0]['uri']


def live(box, cli, place, uri):
    for fmt in 'raw', 'qcow2':
        serve(cli)
        cli('mirror', '-f', fmt, '--stop', uri)
        expect_equal([n['node-name'] for n in cli.qmp('query-named-block-nodes') if n['node-name'].startswith('s-')], [], 'nodes')
        cli('qmp', 'quit')
        place.same(fmt, 's.qcow2')
    serve(cli, 'big.qcow2')
    cli.fails(1, 'size', 'mirror', uri)
    expect_equal([n['node-name'] for n in cli.qmp('query-named-block-nodes') if n['node-name'].startswith('s-')], [], 'nodes')
    cli('qmp', 'quit')
    address = serve(cli)
    cli.fails(1, '', 'mirror', '-f', 'qcow2', '--job', '1x', uri)
    expect('would overwrite' in cli('mirror', '-n', uri), 'dry run')
    cli('mirror', '-f', 'qcow2', '--pivot', uri)
    tool(box, 'nbdcopy', 'random', address)
    cli('qmp', 'quit')
    place.same('qcow2', 'random.qcow2')


def test(box, args):
    for program in ('psktool', 'qemu-nbd', 'nbdcopy'):
        require(program)
    liveblk = os.path.join(os.path.dirname(os.path.abspath(args.daemon)), 'liveblk')
    if args.peer or not os.path.exists(liveblk):
        raise Skip('no liveblk beside the daemon')
    cli = Cli(box, liveblk)
    pki.keys(box, 'keys', 'alice')
    random_file(box, 'random', SIZE, seed=4)
    tool(box, 'qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'random', 'random.qcow2')
    for name, size, data in ('s', '16M', 'write -P 7 1M 5M'), ('empty', '16M', 'write -z 0 64k'), ('big', '25M', 'write 0 64k'):
        tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', f'{name}.qcow2', size)
        tool(box, 'qemu-io', '-f', 'qcow2', '-c', data, f'{name}.qcow2')
    place = Place(box)
    plain = f'nbd+unix:///d?socket={box.path}/s'
    offline(box, cli, place, plain)
    live(box, cli, place, plain)
    place.server.stop()
    place = Place(box, '--object', f'tls-creds-psk,id=t,endpoint=server,dir={box.path}/keys', '--tls-creds', 't')
    short = f'nbds+unix://alice@/d?socket={box.path}/s'
    cli('create', '--tls', 'keys', short, '1M')
    serve(cli)
    cli('mirror', '--tls', 'keys', '--stop', short)
    cli('qmp', 'quit')
    place.same('raw', 's.qcow2')
    tls = f'nbds+unix://alice@/d?socket={box.path}/s&tls-psk-file={box.path}/keys/keys.psk'
    offline(box, cli, place, tls)
    live(box, cli, place, tls)
    place.server.stop()


run(test)

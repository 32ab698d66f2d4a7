#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: the daemon and the peer keep each other from opening one image in conflict,
in both directions, and share what may be shared.
Method: the daemon holds an image while qemu-io tries, then the other way round.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, expect_equal, make_image,  # noqa: E402
                    poke, run, tool)
from sandbox import WAIT_SECONDS_MAX  # noqa: E402


def daemon_holds(box, args):
    """What qemu-io is told while the daemon has the image open."""
    server = Server(box, args.daemon)
    server.add_image('w', 'w.qcow2', 'qcow2')
    text = poke(box, 'w.qcow2', 'qcow2', 'read 0 512', status=1)
    expect('Failed to get "write" lock' in text
           and 'Is another process using the image' in text, f'second writer: {text}')
    text = poke(box, 'w.qcow2', 'qcow2', 'read 0 512', flags=['-r'], status=1)
    expect('Failed to get shared "write" lock' in text, f'reader: {text}')
    text = poke(box, 'w.qcow2', 'qcow2', 'read 0 512', flags=['-r', '-U'])
    expect('read 512/512' in text, f'reader with -U: {text}')
    text = tool(box, 'qemu-img', 'info', 'w.qcow2', status=1)
    expect('Failed to get shared "write" lock' in text, f'info: {text}')
    tool(box, 'qemu-img', 'info', '-U', 'w.qcow2')

    server.add_image('r', 'r.qcow2', 'qcow2', **{'read-only': True})
    poke(box, 'r.qcow2', 'qcow2', 'read 0 512', flags=['-r'])
    text = poke(box, 'r.qcow2', 'qcow2', 'write 0 512', status=1)
    expect('Failed to get "write" lock' in text, f'writer over a reader: {text}')

    server.qmp('blockdev-del', **{'node-name': 'w'})
    poke(box, 'w.qcow2', 'qcow2', 'write 0 512')
    server.quit()
    poke(box, 'r.qcow2', 'qcow2', 'write 0 512')


def peer_holds(box, args):
    """What the daemon says while qemu-io has the image open."""
    for flags, name in (('', 'w.qcow2'), ('-r', 'r.qcow2')):
        box.background(['sh', '-c', f'sleep 60 | qemu-io {flags} -f qcow2 {name} '
                        f'> {name}.log 2>&1'])
        end = time.monotonic() + WAIT_SECONDS_MAX
        log = os.path.join(box.path, name + '.log')
        while not (os.path.exists(log) and 'qemu-io' in open(log).read()):
            expect(time.monotonic() < end, 'qemu-io does not start')
            time.sleep(0.01)
    server = Server(box, args.daemon)

    def refusal(file, **extra):
        return server.refused('blockdev-add', **{
            'driver': 'qcow2', 'node-name': 'n', **extra,
            'file': {'driver': 'file', 'filename': file}})
    expect_equal(refusal('w.qcow2'), 'Failed to get "write" lock', 'writer')
    expect_equal(refusal('w.qcow2', **{'read-only': True}),
                 'Failed to get shared "write" lock', 'reader')
    server.add_image('forced', 'w.qcow2', 'qcow2',
                     **{'read-only': True, 'force-share': True})
    expect_equal(refusal('r.qcow2'), 'Failed to get "write" lock',
                 'writer over a reader')
    server.add_image('shared', 'r.qcow2', 'qcow2', **{'read-only': True})
    server.add({'driver': 'qcow2', 'node-name': 'unlocked', 'file': {
        'driver': 'file', 'filename': 'w.qcow2', 'locking': 'off'}})
    server.quit()


def two_daemons(box, args):
    server = Server(box, args.daemon)
    server.add_image('d', 'd2.qcow2', 'qcow2')
    status, text = box.run([args.daemon, '--blockdev', 'driver=qcow2,node-name=d,'
                            'file.driver=file,file.filename=d2.qcow2'])
    expect_equal(status, 1, f'a second daemon: {text}')
    expect(text.endswith('Failed to get "write" lock\nIs another process using the '
                         'image [d2.qcow2]?\n'), f'a second daemon: {text}')
    server.quit()


def test(box, args):
    for name in ('w.qcow2', 'r.qcow2', 'd2.qcow2'):
        make_image(box, name, 'qcow2', '1M')
    daemon_holds(box, args)
    two_daemons(box, args)
    peer_holds(box, args)


run(test)

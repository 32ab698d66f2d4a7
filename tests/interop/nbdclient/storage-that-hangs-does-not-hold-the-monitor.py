#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: while the storage of one node does not answer, commands that would have to wait for its requests fail in bounded
time and say so, all others work, the NBD server can be stopped and started; and when the storage answers again all is
as it was.
Method: a node on another program's NBD server, which is stopped by a signal under a read of a client.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, nbd_module, run  # noqa: E402
from remote import peer_server  # noqa: E402
from sandbox import Skip  # noqa: E402

SECONDS_MAX = 14        # of a command: eight in which nothing moves, and a slow machine
LISTEN = {'addr': {'type': 'unix', 'data': {'path': 'nbd'}}, 'max-connections': 0}


def read_that_hangs(nbd, server, name):
    """Begin a read and wait until the daemon has sent it on."""
    h = nbd.NBD()
    h.connect_uri(server.uri(name))
    cookie = h.aio_pread(nbd.Buffer(4096), 0)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        h.poll(50)
    expect(not h.aio_command_completed(cookie), 'the read came back')
    return h, cookie


def finish(h, cookie, what):
    while not h.aio_command_completed(cookie):
        expect(h.poll(10000) == 1, f'{what}: no reply')


def in_time(what, call):
    begin = time.monotonic()
    got = call()
    expect(time.monotonic() - begin < SECONDS_MAX, f'{what} took {time.monotonic() - begin:.1f} s')
    return got


def refusals(server):
    no_end = "Requests to node 'slow' do not end"
    expect_equal(in_time('resize', lambda: server.refused('block_resize', size=2 << 20, **{'node-name': 'slow'})), no_end,
                 'block_resize')
    expect_equal(in_time('mirror', lambda: server.refused('blockdev-mirror', device='slow', target='t', sync='full',
                                                          **{'job-id': 'j'})), no_end, 'blockdev-mirror')
    expect_equal(in_time('export', lambda: server.refused('block-export-add', type='nbd', id='y', name='y',
                                                          **{'node-name': 'slow'})), no_end, 'block-export-add')


def test(box, args):
    nbd = nbd_module()
    if args.peer:
        raise Skip('the peer waits for ever')
    for name in ('d.raw', 'q.raw', 't.raw'):
        make_image(box, name, 'raw', 1 << 20)
    remote = peer_server(box, 'd.raw', 'p.sock', 'x')
    server = Server(box, args.daemon)
    server.sock.settimeout(40)
    server.add({'driver': 'nbd', 'export': 'x', 'server': {'type': 'unix', 'path': 'p.sock'}, 'node-name': 'slow'})
    server.add_image('quick', 'q.raw', 'raw')
    server.add_image('t', 't.raw', 'raw')
    server.export('slow', writable=True)
    server.export('quick', writable=True)

    remote.process.send_signal(signal.SIGSTOP)
    h, cookie = read_that_hangs(nbd, server, 'slow')
    refusals(server)
    quick = nbd.NBD()
    quick.connect_uri(server.uri('quick'))
    quick.pwrite(b'x' * 512, 0)
    quick.shutdown()
    remote.process.send_signal(signal.SIGCONT)
    finish(h, cookie, 'a read that nobody gave up')
    h.pwrite(b'y' * 512, 0)
    h.shutdown()

    remote.process.send_signal(signal.SIGSTOP)
    h, cookie = read_that_hangs(nbd, server, 'slow')
    expect_equal(in_time('nbd-server-stop', lambda: server.refused('nbd-server-stop')),
                 "The NBD server has stopped, but: Export 'x-slow' waits for requests to node 'slow' that do not end",
                 'nbd-server-stop')
    server.wait_event('BLOCK_EXPORT_DELETED', id='x-quick')
    expect(not os.path.exists(os.path.join(box.path, 'nbd')), 'the socket is still there')
    server.qmp('nbd-server-start', **LISTEN)
    quick = nbd.NBD()
    quick.connect_uri(server.export('quick'))
    expect(quick.pread(512, 0) == b'x' * 512, 'what was written')
    quick.shutdown()
    expect_equal(server.refused('block-export-add', type='nbd', id='x-slow', **{'node-name': 'slow'}),
                 "Block export id 'x-slow' is already in use", 'an export that is still there')
    remote.process.send_signal(signal.SIGCONT)
    server.wait_event('BLOCK_EXPORT_DELETED', id='x-slow')
    h = nbd.NBD()
    h.connect_uri(server.export('slow'))
    expect(h.pread(512, 0) == b'y' * 512, 'what was written before')
    h.shutdown()
    server.qmp('nbd-server-stop')
    server.qmp('blockdev-del', **{'node-name': 'slow'})
    server.quit()


run(test)

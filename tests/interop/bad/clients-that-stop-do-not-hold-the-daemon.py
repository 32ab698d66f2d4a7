#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a client that neither reads nor hangs up does not keep an export, a job, the
server or the daemon from ending within seconds.
Method: clients with unread replies and half-sent writes; hard removal, a mirror's
completion, stop of the server, quit.
"""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, run  # noqa: E402
from sandbox import Skip  # noqa: E402

IHAVEOPT = 0x49484156454F5054
SECONDS_MAX = 5


def stuck_client(box, name):
    """Reads asked for and never taken, and a write whose data does not come."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(1)
    s.connect(os.path.join(box.path, 'nbd'))
    s.recv(18)
    s.sendall(struct.pack('>IQII', 3, IHAVEOPT, 1, len(name)) + name.encode())
    s.recv(10)
    try:
        for cookie in range(40):
            s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, cookie, 0, 1 << 20))
        s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, 99, 0, 1 << 20) + b'half')
    except socket.timeout:
        pass
    return s


def in_time(what, call):
    start = time.monotonic()
    value = call()
    took = time.monotonic() - start
    expect(took < SECONDS_MAX, f'{what} took {took:.1f} s')
    return value


def test(box, args):
    if args.peer:
        raise Skip('the peer waits for such a client for ever')
    server = Server(box, args.daemon)
    for node in ('s', 't', 'u'):
        server.add({'driver': 'null-co', 'node-name': node, 'size': 4 << 20,
                    'read-zeroes': True})
    kept = []
    for node in ('s', 'u'):
        server.export(node, writable=True)
        kept += [stuck_client(box, node) for _ in range(2)]

    def mirror():
        server.qmp('blockdev-mirror', **{'job-id': 'j'}, device='s', target='t',
                   sync='full')
        server.wait_event('BLOCK_JOB_READY')
        server.qmp('job-complete', id='j')
        server.wait_event('JOB_STATUS_CHANGE', status='null')
    in_time('a mirror under them', mirror)
    in_time('hard removal', lambda: server.unexport('s'))
    in_time('stop of the server', lambda: server.qmp('nbd-server-stop'))
    server.qmp('nbd-server-start', addr={'type': 'unix', 'data': {'path': 'nbd'}})
    server.export('u', writable=True)
    kept.append(stuck_client(box, 'u'))
    in_time('quit', server.quit)
    for s in kept:
        s.close()


run(test)

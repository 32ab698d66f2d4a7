#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: quit, and SIGTERM, end the daemon in bounded time though a request's storage never answers; the node is named,
the status says so, other images are whole, no socket or pidfile is left.
Method: a null node with an endless latency, used by a client, and by a mirror that cannot start, beside a qcow2 image that is written to.
"""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import (Server, check_image, expect, expect_equal, make_image,  # noqa: E402
                    nbd_module, poke, run)
from sandbox import Skip  # noqa: E402

SECONDS_MAX = 20
FOR_EVER_NS = 1 << 60


def start(box, args, nbd):
    """A daemon with an image that has unflushed data, and a node that does not answer."""
    make_image(box, 'a.qcow2', 'qcow2', '16M')
    server = Server(box, args.daemon)
    server.add_image('a', 'a.qcow2', 'qcow2')
    h = nbd.NBD()
    h.connect_uri(server.export('a', writable=True))
    h.pwrite(b'\x77' * (1 << 20), 3 << 20)
    server.add({'driver': 'null-co', 'node-name': 'mute', 'size': 1 << 20, 'latency-ns': FOR_EVER_NS})
    return server, h


def end(box, server, how):
    begin = time.monotonic()
    if how == 'quit':
        server.qmp('quit')
    else:
        server.daemon.proc.send_signal(signal.SIGTERM)
    status = server.daemon.wait(SECONDS_MAX)
    expect(time.monotonic() - begin < SECONDS_MAX, 'in time')
    text = server.daemon.stderr()
    expect_equal(status, 1, f'the status ({text})')
    expect("'mute'" in text, f'the node is not named: {text}')
    left = [n for n in os.listdir(box.path) if not n.startswith('.stderr') and n != 'a.qcow2']
    expect_equal(left, [], 'files left')
    check_image(box, 'a.qcow2')
    poke(box, 'a.qcow2', 'qcow2', 'read -P 0x77 3M 1M', 'read -P 0 0 3M')
    os.unlink(os.path.join(box.path, 'a.qcow2'))


def test(box, args):
    if args.peer:
        raise Skip('the peer waits for ever')
    nbd = nbd_module()
    server, _ = start(box, args, nbd)
    client = nbd.NBD()
    client.connect_uri(server.export('mute'))
    client.aio_pread(nbd.Buffer(4096), 0)
    end(box, server, 'quit')
    server, _ = start(box, args, nbd)
    server.add({'driver': 'null-co', 'node-name': 't', 'size': 1 << 20})
    client = nbd.NBD()
    client.connect_uri(server.export('mute', writable=True))
    client.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(4096)), 0)
    # To start, it waits for the write: no reply comes.
    server.tell(json.dumps({'execute': 'blockdev-mirror', 'arguments': {
        'job-id': 'j', 'device': 'mute', 'target': 't', 'sync': 'full'}}))
    time.sleep(0.2)
    end(box, server, 'SIGTERM')


run(test)

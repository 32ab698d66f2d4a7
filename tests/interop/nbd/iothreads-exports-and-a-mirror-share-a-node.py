#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: one node may be entered from any thread: exports of it in two iothreads with
several clients each, while a mirror of it is slowed, hurried, paused and pivots, and
the daemon is asked about everything meanwhile.
Method: each client owns an area and has a model of it. Meant for a daemon built with the
thread checker, which ends with an error of its own when it finds a race.
"""
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, make_image, nbd_module,  # noqa: E402
                    read_file, run)
from sandbox import Skip  # noqa: E402

AREA = 1 << 20
CLIENTS = 4
SIZE = CLIENTS * AREA


class Client(threading.Thread):
    def __init__(self, nbd, uri, index):
        super().__init__()
        self.h = nbd.NBD()
        self.h.connect_uri(uri)
        self.start_at = index * AREA
        self.model = bytearray(AREA)
        self.rng = random.Random(index)
        self.end = threading.Event()
        self.count = 0
        self.error = None

    def one(self):
        length = self.rng.choice([512, 4096, 65536])
        at = self.rng.randrange(AREA - length)
        what = self.rng.randrange(8)
        if what < 3:
            got = self.h.pread(length, self.start_at + at)
            expect(got == self.model[at:at + length], f'contents at {at}')
        elif what < 6:
            data = self.rng.randbytes(length)
            self.h.pwrite(data, self.start_at + at)
            self.model[at:at + length] = data
        elif what == 6:
            self.h.zero(length, self.start_at + at)
            self.model[at:at + length] = bytes(length)
        else:
            self.h.flush()

    def run(self):
        try:
            while not self.end.is_set():
                self.one()
                self.count += 1
        except Exception as e:      # told by the main thread
            self.error = e


def ask_about_everything(server):
    for command in ('query-jobs', 'query-block-jobs', 'query-block-exports',
                    'query-iothreads', 'query-named-block-nodes'):
        server.ask(command)         # a peer may lack one


def mirror(server, source, target, mode):
    server.qmp('blockdev-mirror', **{
        'job-id': 'j', 'device': source, 'target': target, 'sync': 'full',
        'copy-mode': mode, 'speed': 1 << 20})
    server.wait_event('JOB_STATUS_CHANGE', status='running')
    for speed in (1 << 20, 4 << 20, 2 << 20):
        ask_about_everything(server)
        server.qmp('block-job-set-speed', device='j', speed=speed)
    server.qmp('job-pause', id='j')
    ask_about_everything(server)
    server.qmp('job-resume', id='j')
    server.qmp('block-job-set-speed', device='j', speed=0)
    server.wait_event('BLOCK_JOB_READY', device='j')
    server.qmp('job-complete', id='j')
    server.wait_event('JOB_STATUS_CHANGE', status='null')


def test(box, args):
    nbd = nbd_module()
    if args.peer:
        raise Skip('the peer does not serve one node from two iothreads')
    for name in 'stu':
        make_image(box, name + '.raw', 'raw', SIZE)
    server = Server(box, args.daemon, ['--object', 'iothread,id=io1',
                                       '--object', 'iothread,id=io2'])
    for name in 'stu':
        server.add_image(name, name + '.raw', 'raw')
    uris = []
    for io in ('io1', 'io2'):
        server.qmp('block-export-add', **{
            'type': 'nbd', 'id': io, 'node-name': 's', 'name': io,
            'writable': True, 'iothread': io})
        uris.append(server.uri(io))
    clients = [Client(nbd, uris[i % 2], i) for i in range(CLIENTS)]
    for client in clients:
        client.start()
    mirror(server, 's', 't', 'background')
    mirror(server, 't', 'u', 'write-blocking')
    for client in clients:
        client.end.set()
        client.join()
        expect(client.error is None, f'a client: {client.error}')
        expect(client.count > 10, f'only {client.count} requests')
        client.h.flush()
    # Each sees what all have written, through either export.
    model = b''.join(bytes(c.model) for c in clients)
    for client in clients:
        expect(client.h.pread(SIZE, 0) == model, 'contents through an export')
    server.qmp('block-export-del', id='io1', mode='hard')
    server.wait_event('BLOCK_EXPORT_DELETED', id='io1')
    server.qmp('block-export-del', id='io2', mode='hard')
    server.wait_event('BLOCK_EXPORT_DELETED', id='io2')
    server.qmp('blockdev-del', **{'node-name': 'u'})
    expect(read_file(box, 'u.raw') == model, 'contents of the last target')
    server.quit()


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a daemon killed with SIGKILL at any moment loses nothing that was flushed, damages no
image, and can be started again in the same place at once.
Method: a client writes stamped blocks through NBD, with flushes and FUA, while a mirror runs, is
completed, or is cancelled. After a random (seeded) time the daemon is killed. The peer's check of
the image may find leaks, never corruption; a second daemon starts over the stale sockets and
pidfile, opens the image for writing, and each block holds the last value that was flushed, or a
later one. Rounds follow each other on the same image.
Replay: tests/crash/kill-under-load.py --daemon build/liveblkd --format qcow2 --seed S
"""
import argparse
import os
import random
import shutil
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'interop', 'lib'))
from oracle import Server, expect, make_image, nbd_module, tool  # noqa: E402
from sandbox import Sandbox, TestFailure, main  # noqa: E402

SIZE = 32 << 20
BLOCK = 4096
BLOCKS = SIZE // BLOCK


def stamp(block, number):
    """The contents of a block at write @number; 0 is zeroes."""
    return struct.pack('<QQ', block, number) * (BLOCK // 16) if number else bytes(BLOCK)


class Model:
    """For each block the values it may hold after a crash."""

    def __init__(self):
        self.may = [{0} for _ in range(BLOCKS)]
        self.last = [0] * BLOCKS
        self.unflushed = set()
        self.counter = 0

    def begin(self, first, count, zero):
        """About to be written: from now on it may be there."""
        if not zero:
            self.counter += 1
        value = 0 if zero else self.counter
        for b in range(first, first + count):
            self.may[b].add(value)
            self.last[b] = value
            self.unflushed.add(b)
        return value

    def settle(self, blocks):
        """Flushed: nothing older than the last write may be there."""
        for b in blocks:
            self.may[b] = {self.last[b]}
        self.unflushed.difference_update(blocks)

    def wrong(self, data):
        """Blocks of @data that hold what they may not."""
        bad = []
        for b in range(BLOCKS):
            got = data[b * BLOCK:(b + 1) * BLOCK]
            if not any(got == stamp(b, v) for v in self.may[b]):
                bad.append((b, sorted(self.may[b]), struct.unpack('<QQ', got[:16])))
        return bad

    def take(self, data):
        """What is there now is what will be found next time."""
        for b in range(BLOCKS):
            got = data[b * BLOCK:(b + 1) * BLOCK]
            value = next(v for v in self.may[b] if got == stamp(b, v))
            self.may[b] = {value}
            self.last[b] = value
        self.unflushed.clear()


class Client(threading.Thread):
    """Writes until the server is gone."""

    def __init__(self, nbd, uri, model, seed):
        super().__init__()
        self.nbd, self.model, self.rng = nbd, model, random.Random(seed)
        self.h = nbd.NBD()
        self.h.connect_uri(uri)
        self.acknowledged = self.flushes = 0

    def run(self):
        rng, m = self.rng, self.model
        try:
            while True:
                kind = rng.random()
                if kind < 0.05:
                    blocks = set(m.unflushed)
                    self.h.flush()
                    m.settle(blocks)
                    self.flushes += 1
                    continue
                count = rng.choice([1, 1, 1, 2, 16, 40])
                first = rng.randrange(BLOCKS - count)
                flags = self.nbd.CMD_FLAG_FUA if rng.random() < 0.05 else 0
                value = m.begin(first, count, kind < 0.12)
                if value:
                    data = b''.join(stamp(b, value) for b in range(first, first + count))
                    self.h.pwrite(data, first * BLOCK, flags)
                else:
                    self.h.zero(count * BLOCK, first * BLOCK, flags)
                if flags:
                    m.settle(range(first, first + count))
                self.acknowledged += 1
        except self.nbd.Error:
            pass                # killed: what was in flight may be there or not


def add_image(server, node, name, fmt):
    """Open for writing. The locks of a killed process go when the kernel has taken down its
    rings, a moment after its end can be waited for: that moment is allowed for, no more."""
    options = {'driver': fmt, 'node-name': node, 'file': {'driver': 'file', 'filename': name}}
    end = time.monotonic() + 2
    while True:
        reply = server.ask('blockdev-add', **options)
        if 'return' in reply:
            return
        if 'lock' not in reply['error']['desc'] or time.monotonic() > end:
            raise TestFailure(f'{name} after the crash: {reply}')
        time.sleep(0.01)


def check(box, name, fmt):
    """The peer's check: leaks are allowed (3), nothing else."""
    if fmt == 'qcow2':
        text = tool(box, 'qemu-img', 'check', '-U', '-f', fmt, name, status=None)
        bad = [x for x in text.split('\n') if 'ERROR' in x or 'could not' in x.lower()]
        expect(not bad and ('No errors' in text or 'leaked' in text.lower()), f'{name}: {text[:600]}')


def start(box, program):
    """A daemon in the same place: its sockets are there already, and so is its pidfile. The
    listening socket of a killed process may live on as long as its rings (see add_image): who
    connects to it is cut off, and tries again."""
    old = os.path.join(box.path, 'last.pid')
    end = time.monotonic() + 2
    while True:
        pidfile = os.path.join(box.path, f'.started{len(box.started)}.pid')
        if os.path.exists(old):
            shutil.copy(old, pidfile)
        try:
            server = Server(box, program)
        except (ConnectionError, TestFailure):
            daemon = box.started[-1]
            if daemon.poll() is not None or time.monotonic() > end:
                raise
            daemon.kill()
            daemon.wait()
            continue
        with open(pidfile, encoding='ascii') as f:
            expect(int(f.read()) == server.daemon.proc.pid, 'the stale pidfile is written anew')
        shutil.copy(pidfile, old)
        return server


def read_all(nbd, uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    data = b''.join(bytes(h.pread(1 << 20, at)) for at in range(0, SIZE, 1 << 20))
    h.shutdown()
    return data


def drive_mirror(server, rng, until):
    """Start a mirror; perhaps let it complete. 'source', 'target', or 'either'."""
    server.qmp('blockdev-mirror', **{
        'job-id': 'j', 'device': 's', 'target': 't', 'sync': 'full',
        'copy-mode': rng.choice(['background', 'write-blocking']),
        'speed': rng.choice([0, 0, 16 << 20])})
    if rng.random() < 0.4:
        return 'source'
    server.sock.settimeout(max(0.01, until - time.monotonic()))
    where = 'source'
    try:
        server.wait_event('BLOCK_JOB_READY', device='j')
        if rng.random() < 0.3:
            server.qmp('block-job-cancel', device='j')
            server.wait_event('BLOCK_JOB_COMPLETED', device='j')
            return where
        where = 'either'
        server.qmp('job-complete', id='j')
        server.wait_event('JOB_STATUS_CHANGE', id='j', status='null')
        where = 'target'
    except OSError:
        pass                    # no time left
    return where


def one_round(box, args, nbd, model, state, round_):
    rng = random.Random(args.seed * 1000 + round_)
    target = f't{round_}'
    make_image(box, target, args.format, SIZE)
    server = start(box, args.daemon)
    add_image(server, 's', state['image'], args.format)
    add_image(server, 't', target, args.format)
    client = Client(nbd, server.export('s', writable=True), model, rng.random())
    client.start()
    until = time.monotonic() + rng.uniform(0.05, 0.9)
    where = drive_mirror(server, rng, until)
    time.sleep(max(0, until - time.monotonic()))
    server.daemon.proc.kill()
    server.daemon.proc.wait()
    client.join()
    state['writes'] += client.acknowledged
    state['flushes'] += client.flushes

    found = []
    for image in {'source': [state['image']], 'target': [target],
                  'either': [target, state['image']]}[where]:
        check(box, image, args.format)
        server = start(box, args.daemon)
        add_image(server, 's', image, args.format)
        data = read_all(nbd, server.export('s', writable=True))
        server.quit()
        check(box, image, args.format)
        wrong = model.wrong(data)
        if not wrong:
            model.take(data)
            state['image'] = image
            state[where] = state.get(where, 0) + 1
            return
        found.append((image, len(wrong), wrong[:3]))
    raise TestFailure(f'round {round_}, the disk is in {where}: image, blocks that are wrong, '
                      f'(block, allowed, found): {found}')


def test(args):
    nbd = nbd_module()
    args.daemon = os.path.abspath(args.daemon)
    with Sandbox() as box:
        make_image(box, 'd', args.format, SIZE)
        model, state = Model(), {'image': 'd', 'writes': 0, 'flushes': 0}
        end = time.monotonic() + args.seconds
        round_ = 0
        try:
            while round_ < args.rounds and (round_ < 2 or time.monotonic() < end):
                one_round(box, args, nbd, model, state, round_)
                round_ += 1
        except TestFailure as why:
            raise TestFailure(f'{why}\nreplay: --format {args.format} --seed {args.seed}')
        expect(state['writes'] > 20, f'the client wrote too little: {state}')
        print(f'{round_} rounds: {state}')


def arguments():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument('--daemon', required=True)
    parser.add_argument('--format', choices=['raw', 'qcow2'], default='qcow2')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seconds', type=float, default=14, help='begin no round after this')
    return parser.parse_args()


main(lambda: test(arguments()))

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: either program goes on with the snapshots that the other has made: whoever writes, makes, applies or deletes
one, changes the length, the version or the width of refcounts, the disk and every snapshot show what they should.
Method: random steps on one image, each done by one of both programs; a copy of the disk is kept for each snapshot;
both judge by check, convert and convert -l.
Environment: SNAPSHOT_SEED runs one seed.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, expect_equal, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402


class World:
    def __init__(self, box, ours, seed):
        self.box, self.rng, self.ours = box, random.Random(seed), ours
        rng = self.rng
        cluster = rng.choice([512, 4096, 65536, 65536])
        self.old = rng.random() < 0.2
        self.size = rng.choice([40, 200]) * cluster
        self.cluster, self.snapshots, self.log = cluster, [], []
        options = f'cluster_size={cluster},compat={"0.10" if self.old else "1.1"}'
        self.bits = 16
        if not self.old:
            self.bits = rng.choice([4, 8, 16, 16, 64])
            options += f',refcount_bits={self.bits}'
            options += ',extended_l2=on' if cluster >= 16384 and rng.random() < 0.4 else ''
        self.extended = 'extended' in options
        self.below = b'\0' * self.size
        if rng.random() < 0.5:
            self.below = bytes(rng.randrange(1, 255) for _ in range(97)) * (self.size // 97 + 1)
            self.below = self.below[:self.size]
            with open(os.path.join(box.path, 'base'), 'wb') as f:
                f.write(self.below)
            tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, '-b', 'base', '-F', 'raw', 'a')
        else:
            tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'a', str(self.size))
        self.disk = bytearray(self.below)

    def program(self, name):
        return os.path.join(self.ours, name) if self.rng.random() < 0.6 else name

    def call(self, name, *argv, status=0):
        argv = [self.program(name), *argv]
        self.log.append(' '.join(argv))
        return tool(self.box, *argv, status=status)

    def place(self, unit):
        at = self.rng.randrange(len(self.disk) // unit) * unit
        return at, min(self.rng.choice([1, 1, 2, 5, 30]) * unit, len(self.disk) - at)

    def write(self):
        words = []
        for _ in range(self.rng.randrange(1, 5)):
            kind = self.rng.choice(['write', 'write', 'write -z', 'discard', 'write -c'])
            at, n = self.place(self.cluster if kind in ('discard', 'write -c') else 512)
            pattern = self.rng.randrange(1, 255)
            if kind == 'write':
                words += ['-c', f'write -P {pattern} {at} {n}']
                self.disk[at:at + n] = bytes([pattern]) * n
            elif kind == 'write -z':
                words += ['-c', f'write -z {at} {n}']
                self.disk[at:at + n] = b'\0' * n
            elif kind == 'discard' and not self.old and self.below.count(0) == len(self.below):
                words += ['-c', f'discard {at} {n}']
                self.disk[at:at + n] = b'\0' * n
        if words:
            self.call('qemu-io', *words, 'a')

    def create(self):
        if len(self.snapshots) < min(5, 2 ** self.bits - 3):
            name = f's{len(self.log)}'
            self.call('qemu-img', 'snapshot', '-c', name, 'a')
            self.snapshots.append((name, bytes(self.disk)))

    def apply(self):
        if self.snapshots:
            name, data = self.rng.choice(self.snapshots)
            if len(self.snapshots) < 2 ** self.bits - 3:
                self.call('qemu-img', 'snapshot', '-a', name, 'a')
                self.disk = bytearray(data)

    def delete(self):
        if self.snapshots:
            name, _ = self.snapshots.pop(self.rng.randrange(len(self.snapshots)))
            self.call('qemu-img', 'snapshot', '-d', name, 'a')

    def resize(self):
        if self.old or self.below.count(0) != len(self.below):
            return
        size = self.size + self.rng.randrange(-10, 20) * self.cluster
        self.call('qemu-img', 'resize', '-q', '--shrink', 'a', str(size))
        self.disk = self.disk[:size] + b'\0' * (size - len(self.disk))

    def amend(self):
        if self.rng.random() < 0.5 and not self.old:
            self.bits = self.rng.choice([8, 16, 32, 64])
            self.call('qemu-img', 'amend', '-o', f'refcount_bits={self.bits}', 'a')
        elif self.old:
            self.old = False
            self.call('qemu-img', 'amend', '-o', 'compat=1.1', 'a')
        elif not self.extended and all(len(data) == len(self.disk) for _, data in self.snapshots):
            self.old, self.bits = True, 16
            self.call('qemu-img', 'amend', '-o', 'compat=0.10,refcount_bits=16', 'a')

    def judge(self):
        told = '\n'.join(self.log)
        for program in ('qemu-img', os.path.join(self.ours, 'qemu-img')):
            tool(self.box, program, 'check', '-q', 'a')
            tool(self.box, program, 'convert', '-O', 'raw', 'a', 'out')
            with open(os.path.join(self.box.path, 'out'), 'rb') as f:
                expect(f.read() == self.disk, f'the disk, as {program} shows it, after\n{told}')
        listed = [line.split()[1] for line in tool(self.box, 'qemu-img', 'snapshot', '-l', 'a').splitlines()[2:]]
        expect_equal(listed, [name for name, _ in self.snapshots], told)
        for name, data in self.snapshots:
            tool(self.box, os.path.join(self.ours, 'qemu-img'), 'convert', '-l', name, '-O', 'raw', 'a', 'out')
            with open(os.path.join(self.box.path, 'out'), 'rb') as f:
                expect(f.read() == data, f'snapshot {name} after\n{told}')


def test(box, args):
    ours = os.path.join(os.path.dirname(args.daemon), 'compat')
    if args.peer or not os.path.exists(os.path.join(ours, 'qemu-img')):
        raise Skip('no qemu-img of ours beside the daemon')
    seeds = [int(os.environ['SNAPSHOT_SEED'])] if 'SNAPSHOT_SEED' in os.environ else range(1, 7)
    for seed in seeds:
        w = World(box, ours, seed)
        steps = [w.write, w.write, w.write, w.create, w.create, w.apply, w.delete, w.resize, w.amend]
        try:
            for i in range(24):
                w.rng.choice(steps)()
                if i % 4 == 3:
                    w.judge()
        except Exception:
            print(f'seed {seed}, after\n' + '\n'.join(w.log), file=sys.stderr)
            raise
        for name in ('a', 'base'):
            if os.path.exists(os.path.join(box.path, name)):
                os.remove(os.path.join(box.path, name))


run(test)

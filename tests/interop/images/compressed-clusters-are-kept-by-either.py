#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: compressed clusters are written, read, written over, zeroed and discarded by our programs and the peer's in
turns on one image, and the contents stay what was written.
Method: qemu-io of either side on images of every size of cluster, both compressions, both versions and several widths of
refcounts; snapshots in between; after each turn both sides check the image, and the other side reads it against a
model.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

TURNS = 6
CASES = [(f'{1 << bits}', 'zlib' if bits % 2 else 'zstd', '1.1', 16) for bits in range(9, 22)] + \
        [('65536', 'zlib', '0.10', 16), ('512', 'zlib', '0.10', 16), ('4096', 'zlib', '1.1', 1),
         ('4096', 'zstd', '1.1', 2), ('65536', 'zlib', '1.1', 8), ('65536', 'zlib', '1.1', 64)]


class Disk:
    """A model: what each unit of half a cluster, at least a sector, holds."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.unit = max(cluster // 2, 512)
        # The disk ends within a cluster, where there is a half.
        self.size = 10 * cluster + (self.unit if self.unit < cluster else 0)
        self.held = [0] * (self.size // self.unit)
        self.used = set()               # clusters that are allocated

    def put(self, at, n, value):
        for i in range(at // self.unit, (at + n) // self.unit):
            self.held[i] = value

    def clusters(self, at, n):
        return range(at // self.cluster, (at + n + self.cluster - 1) // self.cluster)


def compressed(rng, disk, peer):
    """The peer does not compress over what is there."""
    free = [c for c in range(disk.size // disk.cluster + 1) if not peer or c not in disk.used]
    if not free:
        return []
    first = rng.choice(free)
    n = 1
    while first + n in free and rng.random() < 0.6:
        n += 1
    at = first * disk.cluster
    length = min(n * disk.cluster, disk.size - at)
    if length <= 0:
        return []
    value = rng.randrange(1, 256)
    disk.put(at, length, value)
    disk.used.update(disk.clusters(at, length))
    # The peer's qemu-io compresses a cluster a time.
    return [f'write -c -P {value} {at + i} {min(disk.cluster, length - i)}'
            for i in range(0, length, disk.cluster)]


def plain(rng, disk):
    i = rng.randrange(len(disk.held))
    n = rng.randrange(1, min(6, len(disk.held) - i) + 1) * disk.unit
    at, value = i * disk.unit, rng.randrange(1, 256)
    verb = rng.choice(['write', 'write', 'zero', 'discard'])
    if verb == 'write':
        disk.put(at, n, value)
        disk.used.update(disk.clusters(at, n))
        return [f'write -P {value} {at} {n}']
    # What is left of a discard at its ends is each program's own affair: whole clusters.
    if verb == 'discard':
        at -= at % disk.cluster
        n = min(disk.size - at, max(n // disk.cluster, 1) * disk.cluster)
        if n % disk.cluster:
            return []
    disk.put(at, n, 0)
    # It may keep its place.
    disk.used.update(disk.clusters(at, n))
    return [f'write -z {at} {n}' if verb == 'zero' else f'discard {at} {n}']


def turn(box, rng, disk, img, io, peer, snapshots):
    commands = []
    for _ in range(rng.randrange(2, 7)):
        commands += compressed(rng, disk, peer) if rng.random() < 0.5 else plain(rng, disk)
    words = [w for c in commands for w in ('-c', c)]
    text = tool(box, io, '-f', 'qcow2', *words, 'a')
    expect('failed' not in text, f'{io} {commands}: {text}')
    if snapshots and rng.random() < 0.4:
        tool(box, img, 'snapshot', '-c', f's{rng.randrange(1000)}', 'a')


def look(box, disk, img, io):
    text = tool(box, img, 'check', '-f', 'qcow2', 'a', status=None)
    expect('No errors were found' in text, f'{img}: {text}')
    words = []
    for i, value in enumerate(disk.held):
        words += ['-c', f'read -P {value} {i * disk.unit} {disk.unit}']
    text = tool(box, io, '-r', '-f', 'qcow2', *words, 'a', status=None)
    expect('failed' not in text.lower(), f'{io}: {text}')


def case(box, sides, seed, cluster, kind, compat, width):
    rng = random.Random(seed)
    disk = Disk(int(cluster))
    options = f'cluster_size={cluster},compat={compat}'
    if compat != '0.10':
        options += f',compression_type={kind},refcount_bits={width}'
    maker = rng.choice(sides)
    tool(box, maker[0], 'create', '-q', '-f', 'qcow2', '-o', options, 'a', disk.size)
    print(cluster, kind, compat, width, flush=True)
    for i in range(TURNS):
        which = rng.randrange(len(sides))
        # With counts of two bits a snapshot could not count all streams.
        turn(box, rng, disk, *sides[which], which == 0, width > 2)
        other = sides[1 - which] if i < TURNS - 1 else sides[which]
        look(box, disk, *other)
    for img, _ in sides:
        text = tool(box, img, 'check', '-f', 'qcow2', 'a', status=None)
        expect('No errors were found' in text, f'{img}: {text}')


def test(box, args):
    ours = os.path.join(os.path.dirname(args.daemon), 'compat')
    if not os.path.exists(os.path.join(ours, 'qemu-io')):
        raise Skip('the programs under the names scripts know are not beside the daemon')
    sides = [('qemu-img', 'qemu-io'), (os.path.join(ours, 'qemu-img'), os.path.join(ours, 'qemu-io'))]
    for seed, (cluster, kind, compat, width) in enumerate(CASES):
        case(box, sides, seed, cluster, kind, compat, width)


run(test)

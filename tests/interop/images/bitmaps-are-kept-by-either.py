#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: bitmaps stored in an image are kept by either program, in any order: what is written is marked in
those that record, and nothing else; they follow the disk's length; one that may be wrong says so.
Method: our programs and the peer's change one image by turns; after each step the bitmaps on disk, read by
a program of the test's own, are compared with a model, both check the image, and now and then a program is
killed while it has the image open.
"""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, expect_equal, run, tool  # noqa: E402
from qcow2bitmaps import read_bitmaps  # noqa: E402
from sandbox import Skip  # noqa: E402

IN_USE, AUTO = 1, 2


class Model:
    def __init__(self, size):
        self.size, self.maps = size, {}         # name -> [recording, granularity, dirty, lost]

    def mark(self, at, n):
        for recording, gran, dirty, lost in self.maps.values():
            if recording and not lost:
                dirty.update(range(at // gran, (at + n - 1) // gran + 1))

    def resize(self, size):
        self.size = size
        for m in self.maps.values():
            last = (size + m[1] - 1) // m[1]
            m[2] = {g for g in m[2] if g < last}


def programs(box, args, rng):
    """qemu-img and qemu-io, of one side or the other."""
    ours = os.path.join(os.path.dirname(args.daemon), 'compat')
    if rng.random() < 0.5:
        return os.path.join(ours, 'qemu-img'), os.path.join(ours, 'qemu-io')
    return 'qemu-img', 'qemu-io'


def write(box, io, rng, model, kill=False):
    commands = []
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(model.size // 512) * 512
        n = min(rng.choice([512, 4096, 65536, 1 << 20]), model.size - at)
        # A discard of what is not there changes nothing, and need not mark anything.
        verb = 'write' if kill else rng.choice(['write', 'write', 'write -z', 'discard'])
        commands += ['-c', f'{verb} {at} {n}']
        model.mark(at, n)
    if kill:
        tool(box, io, *commands, '-c', 'sigraise 9', 'a', status=None)
        for m in model.maps.values():
            m[3] = True
    else:
        tool(box, io, *commands, 'a')


def change(box, img, rng, model):
    name, what = f'b{rng.randrange(6)}', rng.randrange(7)
    m = model.maps.get(name)
    if m is None:
        gran = rng.choice([512, 4096, 65536, 1 << 20])
        words = ['--add', '-g', str(gran)] + (['--disable'] if rng.random() < 0.3 else [])
        tool(box, img, 'bitmap', *words, 'a', name)
        model.maps[name] = ['--disable' not in words, gran, set(), False]
    elif what == 0 or m[3]:
        if m[3]:
            tool(box, img, 'bitmap', '--clear', 'a', name, status=1)
        tool(box, img, 'bitmap', '--remove', 'a', name)
        del model.maps[name]
    elif what == 1:
        tool(box, img, 'bitmap', '--clear', 'a', name)
        m[2] = set()
    elif what in (2, 3):
        tool(box, img, 'bitmap', '--enable' if what == 2 else '--disable', 'a', name)
        m[0] = what == 2
    else:
        others = [n for n, o in model.maps.items() if n != name and not o[3]]
        if others:
            other = rng.choice(others)
            tool(box, img, 'bitmap', '--merge', other, 'a', name)
            gran = model.maps[other][1]
            for g in model.maps[other][2]:
                end = min((g + 1) * gran, model.size)
                m[2].update(range(g * gran // m[1], (end - 1) // m[1] + 1))


def resize(box, img, rng, model):
    size = max(1 << 20, model.size + rng.randrange(-4096, 8192) * 512)
    lost = any(m[3] for m in model.maps.values())
    tool(box, img, 'resize', '-q', '--shrink', '-f', 'qcow2', 'a', str(size), status=1 if lost else 0)
    if not lost:
        model.resize(size)


def verify(box, args, model, what):
    got = read_bitmaps(os.path.join(box.path, 'a'))
    expect_equal(sorted(got), sorted(model.maps), f'{what}: names')
    for name, (flags, gran, dirty) in got.items():
        recording, wanted_gran, wanted, lost = model.maps[name]
        expect_equal(gran, wanted_gran, f'{what}: granularity of {name}')
        if lost:
            expect(flags & IN_USE, f'{what}: {name} should be in use')
        else:
            expect_equal((flags, dirty), (AUTO if recording else 0, wanted), f'{what}: {name}')
    tool(box, 'qemu-img', 'check', '-q', 'a')
    tool(box, os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-img'), 'check', '-q', 'a')
    expect_equal(*[json.loads(tool(box, p, 'info', '--output=json', 'a'))['format-specific'] for p in (
        'qemu-img', os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-img'))], f'{what}: info')


def session(box, args, seed):
    rng = random.Random(seed)
    cluster = rng.choice([512, 4096, 65536])
    model = Model(rng.randrange(2048, 16384) * 512)
    tool(box, 'rm', '-f', 'a')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', f'cluster_size={cluster}', 'a', str(model.size))
    for step in range(14):
        img, io = programs(box, args, rng)
        kind = rng.random()
        what = f'seed {seed}, step {step}, {os.path.basename(os.path.dirname(img)) or "peer"}'
        if kind < 0.4:
            change(box, img, rng, model)
        elif kind < 0.5:
            resize(box, img, rng, model)
        elif kind < 0.57:
            write(box, io, rng, model, kill=True)
            tool(box, 'qemu-img', 'check', '-q', '-r', 'leaks', 'a', status=None)
        else:
            write(box, io, rng, model)
        verify(box, args, model, what)


def an_image_only_read_keeps_them(box, args):
    """Opened for writing and killed before anything was written: nothing is lost."""
    io = os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-io')
    tool(box, 'rm', '-f', 'a')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'a', '1M')
    tool(box, 'qemu-img', 'bitmap', '--add', 'a', 'b0')
    tool(box, io, '-c', 'read 0 64k', '-c', 'sigraise 9', 'a', status=None)
    expect_equal(read_bitmaps(os.path.join(box.path, 'a')), {'b0': (AUTO, 65536, set())}, 'after reading only')
    tool(box, io, '-c', 'write 0 64k', '-c', 'sigraise 9', 'a', status=None)
    expect(read_bitmaps(os.path.join(box.path, 'a'))['b0'][0] & IN_USE, 'after writing')


def test(box, args):
    if not os.path.exists(os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-io')):
        raise Skip('no compat programs beside the daemon')
    an_image_only_read_keeps_them(box, args)
    for seed in range(int(os.environ.get('BITMAPS_SEED', 0)), int(os.environ.get('BITMAPS_SEED_END', 10))):
        session(box, args, seed)


run(test)

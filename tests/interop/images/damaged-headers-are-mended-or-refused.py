#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: what a check can mend outside of refcounts it mends, as the peer does: entries of the table of snapshots that are too
short or too long, a count of snapshots that cannot be, a refcount table that is not named, marks that nothing stands for. The
snapshots and the stored bitmaps that are whole are kept. An image of version 1 is refused, and never taken for the bytes of a disk.
Method: bytes of images are changed; our qemu-img checks and repairs, the peer's finds nothing after it.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import check_image, expect, expect_equal, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

NB_SNAPSHOTS, SNAPSHOTS, REFTABLE, INCOMPATIBLE, DIRTY, CORRUPT = 60, 64, 48, 72, 1, 2


def make(box):
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'a', '4M')
    for i in (1, 2):
        tool(box, 'qemu-io', '-c', f'write -P {i} 0 100k', 'a')
        tool(box, 'qemu-img', 'snapshot', '-c', f's{i}', 'a')
    tool(box, 'qemu-io', '-c', 'write -P 9 0 100k', 'a')


def patch(box, at, data):
    with open(os.path.join(box.path, 'a'), 'r+b') as f:
        f.seek(at)
        f.write(data)


def peek(box, at, n):
    with open(os.path.join(box.path, 'a'), 'rb') as f:
        f.seek(at)
        return f.read(n)


def extra_data(box, n):
    """The first entry has n bytes of extra data."""
    at = int.from_bytes(peek(box, SNAPSHOTS, 8), 'big')
    table, entries, old = peek(box, at, 4096), b'', 0
    for i in range(2):
        id_n, name_n, extra = struct.unpack('>HH20xI', table[old + 12:old + 40])
        end = old + 40 + extra + id_n + name_n
        kept = table[old + 40:old + 40 + extra]
        if i == 0:
            kept = kept.ljust(n, b'u')[:n]
        entry = table[old:old + 36] + len(kept).to_bytes(4, 'big') + kept + table[end - id_n - name_n:end]
        entries += entry + bytes(-len(entry) % 8)
        old = (end + 7) // 8 * 8
    patch(box, at, entries)


def shows(box, img, snapshot, value):
    tool(box, img, 'convert', '-l', snapshot, '-O', 'raw', 'a', 'out')
    with open(os.path.join(box.path, 'out'), 'rb') as f:
        expect_equal(f.read(100 << 10), bytes([value]) * (100 << 10), f'snapshot {snapshot}')


def snapshots(box, img):
    for n, finds in ((0, 'incomplete'), (8, 'incomplete'), (16, None), (24, None), (200, None), (1024, None),
                     (1032, 'too much extra'), (3000, 'too much extra')):
        make(box)
        extra_data(box, n)
        status, text = box.run([img, 'check', 'a'])
        expect(status == (2 if finds else 0) and (not finds or finds in text), f'{n} bytes of extra data: {status} {text}')
        tool(box, img, 'check', '-r', 'all', 'a')
        check_image(box, 'a')
        for side in (img, 'qemu-img'):
            shows(box, side, 's1', 1)
            shows(box, side, 's2', 2)
        tool(box, 'qemu-img', 'snapshot', '-d', 's1', 'a')
        check_image(box, 'a')


def header(box, img):
    make(box)
    at = int.from_bytes(peek(box, SNAPSHOTS, 8), 'big')
    patch(box, SNAPSHOTS, (1 << 40).to_bytes(8, 'big'))
    status, text = box.run([img, 'check', 'a'])
    expect(status == 2 and 'lies behind the end of the file' in text, f'a table of snapshots that is not there: {status} {text}')
    tool(box, img, 'check', '-q', '-r', 'all', 'a')
    check_image(box, 'a')
    expect('s1' not in tool(box, 'qemu-img', 'snapshot', '-l', 'a'), 'snapshots of a table that is gone')
    make(box)
    patch(box, REFTABLE, bytes(12))
    tool(box, img, 'check', '-q', '-r', 'all', 'a')
    check_image(box, 'a')
    shows(box, 'qemu-img', 's1', 1)
    for repair in ('leaks', 'all'):
        make(box)
        patch(box, INCOMPATIBLE, (DIRTY | CORRUPT).to_bytes(8, 'big'))
        tool(box, img, 'check', '-q', '-r', repair, 'a')
        expect_equal(peek(box, INCOMPATIBLE, 8), bytes(8), f'marks after check -r {repair}')
    make(box)
    patch(box, 4, (1).to_bytes(4, 'big'))
    before = peek(box, 0, 65536)
    status, text = box.run([os.path.join(os.path.dirname(img), 'qemu-io'), '-c', 'write 0 64k', 'a'])
    expect(status == 1 and 'Unsupported qcow2 version 1' in text, f'version 1: {status} {text}')
    expect_equal(peek(box, 0, 65536), before, 'an image of version 1')


def directory(box):
    """Where the bitmap extension's data is, and the directory."""
    at = int.from_bytes(peek(box, 100, 4), 'big')
    while peek(box, at, 4) != b'\x23\x85\x28\x75':
        at += 8 + (int.from_bytes(peek(box, at + 4, 4), 'big') + 7) // 8 * 8
    return at + 8, int.from_bytes(peek(box, at + 24, 8), 'big')


def bitmaps(box, img):
    """Entries of the directory are 32 bytes here; the first bitmap is damaged, the second kept."""
    for what, inside, at, data in (
            ('a table at no place', True, 0, (0x10001).to_bytes(8, 'big')), ('a table far away', True, 0, (1 << 50).to_bytes(8, 'big')),
            ('a table too long', True, 8, (9).to_bytes(4, 'big')), ('an odd flag', True, 12, (0x42).to_bytes(4, 'big')),
            ('another type', True, 16, b'\2'), ('a granularity that cannot be', True, 17, b'\x40'),
            ('a name with an end in it', True, 24, b'x\0'), ('no end', True, 18, b'\x70\0'), ('the name of the other', True, 24, b'b2'),
            ('many bitmaps', False, 0, (70000).to_bytes(4, 'big')), ('one bitmap less', False, 0, (1).to_bytes(4, 'big')),
            ('a directory at an odd place', False, 16, (0x10001).to_bytes(8, 'big'))):
        tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'a', '4M')
        for name in ('b1', 'b2'):
            tool(box, 'qemu-img', 'bitmap', '--add', 'a', name)
        tool(box, 'qemu-io', '-c', 'write -P 1 0 300k', 'a')
        extension, place = directory(box)
        patch(box, (place if inside else extension) + at, data)
        status, text = box.run([img, 'check', 'a'])
        expect(status == 2, f'{what}: check: {status} {text}')
        tool(box, img, 'check', '-q', '-r', 'all', 'a')
        check_image(box, 'a')
        left = tool(box, 'qemu-img', 'info', 'a')
        keeps = {'no end': 0, 'the name of the other': 0, 'many bitmaps': 0, 'one bitmap less': 2,
                 'a directory at an odd place': 0}.get(what, 1)
        expect_equal(left.count('granularity'), keeps, f'{what}: bitmaps after repair')
        expect('name: b2' in left or keeps == 0, f'{what}: {left}')
        tool(box, 'qemu-io', '-r', '-c', 'read -P 1 0 300k', 'a')


def test(box, args):
    img = os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-img')
    if not os.path.exists(img):
        raise Skip('no compat programs beside the daemon')
    snapshots(box, img)
    header(box, img)
    bitmaps(box, img)


run(test)

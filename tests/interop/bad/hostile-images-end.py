#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an image made to harm, small on disk, costs neither time nor memory: info, check and the list of snapshots end,
with an answer, below 256 MiB.
Method: tables of the largest size that are allowed, shared by all who may name them, in holes, or far behind the end; and
backing files that lead back to the image by other names.
"""
import os
import resource
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, run, sanitized  # noqa: E402
from sandbox import Skip  # noqa: E402

M = 1 << 20
SECONDS_MAX = 60 * float(os.environ.get('INTEROP_WAIT_SECONDS', 15)) / 15
MEMORY_MAX = 256 * M
COPIED = 1 << 63
REFTABLE, BLOCK, L2 = 0x10000, 0x20000, 0x30000      # where most of the images have them
Q = struct.Struct('>Q')


def header(size, bits=16, l1=(0, 0), reftable=(REFTABLE, 1), snapshots=(0, 0), ext=b'', order=4, autoclear=0, backing=b''):
    """l1: entries, place; reftable: place, clusters; snapshots: how many, place."""
    back = 104 + len(ext) + 8 if backing else 0
    return struct.pack('>4sIQIIQIIQQIIQQQQII', b'QFI\xfb', 3, back, len(backing), bits, size, 0, *l1, *reftable, *snapshots,
                       0, 0, autoclear, order, 104) + ext + b'\0' * 8 + backing


def snapshots_table(n, place):
    """Of disks of 4 EiB; place: of the L1 table of the nth, 4 Mi entries long."""
    def entry(i):
        ident, name = b'%d' % i, b'n%d' % i
        e = struct.pack('>QIHHIIQIIQQ', place(i), 4 * M, len(ident), len(name), 0, 0, 0, 0, 16, 0, 2**62) + ident + name
        return e + b'\0' * (-len(e) % 8)
    return b''.join(map(entry, range(1, n + 1)))


def bitmap_entry(i):
    name = b'b%d' % i
    e = struct.pack('>QIIBBHI', 32 * M, M, 0, 1, 9, len(name), 0) + name
    return e + b'\0' * (-len(e) % 8)


def images():
    """Name: pieces (place, bytes), length."""
    counted = [(REFTABLE, Q.pack(BLOCK)), (BLOCK, b'\0\1' * 32768)]
    disk = dict(size=M, l1=(1, L2))
    directory = b''.join(map(bitmap_entry, range(65535)))
    bitmaps = struct.pack('>IIIIQQ', 0x23852875, 24, 65535, 0, len(directory), 4 * M)
    return {
        'one L2 table for all': ([(0, header(2**51, l1=(4 * M, 4 * M))), *counted, (L2, Q.pack(0x40000 | COPIED) * 8192),
                                  (4 * M, Q.pack(L2 | COPIED) * (4 * M))], 37 * M),
        'one packed cluster for all': ([(0, header(2**35, l1=(65536, 4 * M))), *counted,
                                        (L2, Q.pack(1 << 62 | 127 << 54 | 0x40000) * 8192),
                                        (4 * M, Q.pack(L2 | COPIED) * 65536)], 8 * M),
        'one L1 table for all snapshots': ([(0, header(**disk, snapshots=(65535, 4 * M))), *counted,
                                            (4 * M, snapshots_table(65535, lambda i: 16 * M)),
                                            (16 * M, Q.pack(0x40000) * (4 * M))], 64 * M),
        'snapshots in holes': ([(0, header(**disk, snapshots=(65535, 4 * M))), *counted,
                                (4 * M, snapshots_table(65535, lambda i: (16 + 32 * (i % 4096)) * M))], 131072 * M),
        'snapshots behind the end': ([(0, header(**disk, snapshots=(65535, 1 << 50))), *counted], M),
        'snapshots of which each is far away': ([(0, header(**disk, snapshots=(65535, 4 * M))), *counted,
                                                 (4 * M, snapshots_table(65535, lambda i: i << 40))], 16 * M),
        'one refcount block for all': ([(0, header(**disk, reftable=(4 * M, 128))), (BLOCK, b'\0\1' * 32768),
                                        (4 * M, Q.pack(BLOCK) * M)], 16 * M),
        'one small refcount block for all': ([(0, header(M, bits=9, l1=(32, L2), reftable=(4 * M, 16384), order=0)),
                                              (BLOCK, b'\xff' * 512), (4 * M, Q.pack(BLOCK) * M)], 16 * M),
        'tables at the end of all files': ([(0, header(2**55, bits=21, l1=(2**16, 4 * M), reftable=(2 * M, 1))),
                                            (2 * M, Q.pack((1 << 56) - 2 * M) * (M // 4)),
                                            (4 * M, Q.pack((1 << 56) - 2 * M) * (1 << 16))], 8 * M),
        'one table for all bitmaps': ([(0, header(2**50, l1=(2**21, 64 * M), ext=bitmaps, autoclear=1)), *counted,
                                       (4 * M, directory), (32 * M, Q.pack(0x40000) * M)], 96 * M),
        'itself below': ([(0, header(**disk, backing=b'image')), *counted], M),
        'itself below by a link': ([(0, header(**disk, backing=b'./link')), *counted], M),
        'itself below as JSON': ([(0, header(**disk, backing=b'json:{"driver":"qcow2","file":{"driver":"file","filename":'
                                                             b'"image"}}')), *counted], M),
    }


def play(box, argv, limited):
    """Exit code and memory."""
    with open(os.path.join(box.path, 'said'), 'wb') as out:
        child = subprocess.Popen(argv, cwd=box.path, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS_MAX), int(SECONDS_MAX))))
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    with open(os.path.join(box.path, 'said'), 'rb') as out:
        said = out.read(300)
    words = f'{" ".join(argv[1:])}: {child.returncode}, {used.ru_maxrss} KiB: {said!r}'
    expect(child.returncode in (0, 1, 2, 3), f'it did not end well: {words}')
    expect(said, f'it said nothing: {words}')
    expect(not limited or used.ru_maxrss << 10 <= MEMORY_MAX, f'too much memory: {words}')
    return child.returncode


def test(box, args):
    folder = os.path.dirname(args.daemon)
    if not os.path.exists(os.path.join(folder, 'compat', 'qemu-img')):
        raise Skip('no compat programs beside the daemon')
    img, cli = os.path.join(folder, 'compat', 'qemu-img'), os.path.join(folder, 'liveblk')
    limited = not sanitized(img)        # what checks memory takes much of its own
    image = os.path.join(box.path, 'image')
    os.symlink('image', os.path.join(box.path, 'link'))
    for name, (pieces, length) in images().items():
        with open(image, 'wb') as f:
            for at, data in pieces:
                f.seek(at)
                f.write(data)
            f.truncate(length)
        for argv in ([img, 'info', 'image'], [img, 'info', '--output=json', '--backing-chain', 'image'], [img, 'check', 'image'],
                     [cli, 'info', 'image'], [cli, 'check', 'image']):
            print(name, argv[1:], flush=True)
            play(box, argv, limited)
        os.unlink(image)


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a small image file cannot make the daemon, or a check, take memory that has nothing to do with what it holds.
Method: an image of 3 MiB whose L1 table names tables that are scattered over 800 GiB of holes: opened for writing,
read, checked.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, run, sanitized  # noqa: E402
from sandbox import Skip  # noqa: E402

TABLES = 400000
STEP = 4096 * 512
CLUSTER = 512
REFTABLE_CLUSTERS = (8 << 20) // CLUSTER
MEMORY_MAX = 250 << 20


def make(path):
    """Refcounts of one bit, in a table of 8 MiB that is a hole."""
    l1 = 16 << 20
    head = bytearray(CLUSTER)
    struct.pack_into('>4sIQIIQIIQQIIQ', head, 0, b'QFI\xfb', 3, 0, 0, 9, TABLES * CLUSTER * 64, 0, TABLES, l1,
                     CLUSTER, REFTABLE_CLUSTERS, 0, 0)
    struct.pack_into('>QQQII', head, 72, 0, 0, 0, 0, 104)
    first = ((l1 + TABLES * 8) // STEP + 1) * STEP
    with open(path, 'wb') as f:
        f.write(head)
        f.seek(l1)
        f.write(b''.join(struct.pack('>Q', first + i * STEP | 1 << 63) for i in range(TABLES)))
        try:
            f.truncate(first + TABLES * STEP)
        except OSError as e:
            raise Skip(f'files are not so long here: {e}')


def peak(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM')) << 10


def test(box, args):
    if sanitized(args.daemon):
        raise Skip('a checker takes memory of its own')
    make(os.path.join(box.path, 'a.qcow2'))
    server = Server(box, args.daemon)
    server.add_image('a', 'a.qcow2', 'qcow2')
    server.export('a', writable=True)
    got = peak(server.daemon.proc.pid)
    expect(got < MEMORY_MAX, f'open: {got >> 20} MiB')
    server.unexport('a')
    server.quit()
    liveblk = os.path.join(os.path.dirname(args.daemon), 'liveblk')
    if os.path.exists(liveblk):
        pid = os.spawnl(os.P_NOWAIT, liveblk, liveblk, 'check', os.path.join(box.path, 'a.qcow2'))
        _, status, usage = os.wait4(pid, 0)
        expect(os.WIFEXITED(status), f'check: {status}')
        expect(usage.ru_maxrss < MEMORY_MAX >> 10, f'check: {usage.ru_maxrss >> 10} MiB')


run(test)

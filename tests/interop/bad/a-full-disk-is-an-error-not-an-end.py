#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: when the disk is full the client and the job get the error, the image stays
valid, nothing half made is left, and the work goes on when there is space.
Method: a daemon with a small file system of its own; one with a file size limit.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, make_image, nbd_module,  # noqa: E402
                    run, tool)

SIZE = 4 << 20


def fill(nbd, server, node):
    """Write until it fails; returns the error's name and what was written."""
    h = nbd.NBD()
    h.connect_uri(server.export(node, writable=True))
    written = 0
    name = None
    for offset in range(0, SIZE, 65536):
        try:
            h.pwrite(b'\x5a' * 65536, offset)
            written += 1
        except nbd.Error as e:
            name = e.errno
            break
    return h, name, written


def small_file_system(box, args, nbd):
    server = Server(box, args.daemon, tmpfs=('2M', 'small'))
    inside = f'/proc/{server.daemon.proc.pid}/cwd/small'      # in its own mount namespace
    server.qmp('blockdev-create', **{'job-id': 'c'}, options={
        'driver': 'file', 'filename': 'small/a.raw', 'size': SIZE})
    server.wait_event('JOB_STATUS_CHANGE', status='concluded')
    server.qmp('job-dismiss', id='c')
    server.add_image('a', 'small/a.raw', 'raw')
    h, name, written = fill(nbd, server, 'a')
    expect(name == 'ENOSPC' and written > 10, f'raw: {name} after {written}')
    expect(h.pread(65536, 0) == b'\x5a' * 65536, 'what was written stays')
    server.alive()
    # More space: trim the beginning, and it goes on.
    h.trim(1 << 20, 0)
    h.shutdown()
    server.unexport('a')
    server.qmp('blockdev-del', **{'node-name': 'a'})
    os.unlink(os.path.join(inside, 'a.raw'))

    server.qmp('blockdev-create', **{'job-id': 'd'}, options={
        'driver': 'file', 'filename': 'small/full.raw', 'size': SIZE,
        'preallocation': 'full'})
    server.wait_event('JOB_STATUS_CHANGE', status='concluded')
    jobs = server.qmp('query-jobs')
    expect('No space left' in jobs[0].get('error', ''), f'create: {jobs}')
    server.qmp('job-dismiss', id='d')
    left = os.listdir(inside)
    expect(args.peer or left == [], f'half created: {left}')
    server.quit()


def size_limit(box, args, nbd):
    make_image(box, 'q.qcow2', 'qcow2', SIZE)
    server = Server(box, args.daemon, file_size_max=1 << 20)
    server.add_image('q', 'q.qcow2', 'qcow2')
    h, name, written = fill(nbd, server, 'q')
    expect(name in ('ENOSPC', 'EIO') and written > 4, f'qcow2: {name} after {written}')
    for n in range(written):
        expect(h.pread(65536, n * 65536) == b'\x5a' * 65536, f'cluster {n} stays')
    h.shutdown()
    server.alive()
    server.quit()
    # Leaks are allowed (status 3), corruption is not.
    status, text = box.run(['qemu-img', 'check', 'q.qcow2'])
    expect(status in (0, 3), f'check: {status} {text}')
    tool(box, 'qemu-io', '-c', f'read -P 0x5a 0 {written * 65536}', 'q.qcow2')


def test(box, args):
    nbd = nbd_module()
    size_limit(box, args, nbd)
    small_file_system(box, args, nbd)


run(test)

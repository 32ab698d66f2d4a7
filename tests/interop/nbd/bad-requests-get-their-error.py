#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: requests out of range, writes to a read-only export, unknown exports and
bad flags get the protocol's error, and the connection goes on.
Method: libnbd without its own checks.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, make_image, nbd_module,  # noqa: E402
                    run)

SIZE = 1 << 20
# The specification asks for the first, the peer sends the second.
PAST_END = 'ENOSPC EINVAL'


def error_of(nbd, call, *args, **kw):
    try:
        call(*args, **kw)
    except nbd.Error as e:
        return e.errno
    return None


def test(box, args):
    nbd = nbd_module()
    make_image(box, 'd.raw', 'raw', SIZE, 'write -P 0x11 0 1M')
    server = Server(box, args.daemon)
    server.add_image('d', 'd.raw', 'raw')
    server.export('d', writable=True)
    server.qmp('block-export-add', type='nbd', id='ro', **{'node-name': 'd'},
               name='ro')

    def connect(name):
        h = nbd.NBD()
        h.set_strict_mode(0)
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        h.connect_uri(server.uri(name))
        return h

    h = connect('d')
    page = bytes(4096)
    cases = [
        ('read past the end', 'EINVAL', h.pread, (4096, SIZE - 512), {}),
        ('read at the end', 'EINVAL', h.pread, (1, SIZE), {}),
        ('read far away', 'EINVAL', h.pread, (512, 1 << 62), {}),
        ('write past the end', PAST_END, h.pwrite, (page, SIZE - 512), {}),
        ('write far away', PAST_END, h.pwrite, (page, (1 << 63) - 512), {}),
        ('zero past the end', PAST_END, h.zero, (4096, SIZE - 512), {}),
        ('trim past the end', 'EINVAL', h.trim, (4096, SIZE - 512), {}),
        ('unknown read flag', 'EINVAL', h.pread, (512, 0), {'flags': 1 << 12}),
        ('unknown write flag', 'EINVAL', h.pwrite, (page, 0), {'flags': 1 << 12}),
    ]
    for what, wanted, call, given, flags in cases:
        got = error_of(nbd, call, *given, **flags)
        expect(got in wanted.split(), f'{what}: {got}')
        expect(h.pread(16, 0) == b'\x11' * 16, f'reads go on after: {what}')
    expect(error_of(nbd, h.block_status, 4096, SIZE, lambda *_: 0) == 'EINVAL',
           'block status past the end')
    h.shutdown()

    h = connect('ro')
    for what, call, given in (('write', h.pwrite, (page, 0)),
                              ('zero', h.zero, (4096, 0)),
                              ('trim', h.trim, (4096, 0))):
        got = error_of(nbd, call, *given)
        expect(got in ('EPERM', 'EROFS') or args.peer,
               f'{what} on a read-only export: {got}')
    expect(h.pread(SIZE, 0) == b'\x11' * SIZE, 'nothing was changed')
    h.shutdown()

    h = nbd.NBD()
    expect(error_of(nbd, h.connect_uri, server.uri('nope')) is not None,
           'an unknown export is refused')
    server.alive()
    server.quit()


run(test)

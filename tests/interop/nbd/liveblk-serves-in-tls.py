#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: `liveblk serve --tls` lets in whom its folder knows, with --tls-allow one of them, and nobody in plain text.
Method: keys made here, clients of libnbd.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, expect_equal, nbd_module, random_file, read_file, run, tool  # noqa: E402
from sandbox import Skip, require  # noqa: E402

SIZE = 1 << 20


def connect(box, user):
    h = nbd_module().NBD()
    h.set_export_name('d')
    if user:
        h.set_tls(2)
        h.set_tls_username(user)
        h.set_tls_psk_file(f'{box.path}/keys.psk')
    h.connect_unix(f'{box.path}/s')
    return h.pread(SIZE, 0)


def refused(box, user):
    try:
        connect(box, user)
    except nbd_module().Error:
        return
    expect(False, f'{user} is let in')


def test(box, args):
    require('psktool')
    liveblk = os.path.join(os.path.dirname(os.path.abspath(args.daemon)), 'liveblk')
    if args.peer or not os.path.exists(liveblk):
        raise Skip('no liveblk beside the daemon')
    if not nbd_module().NBD().supports_tls():
        raise Skip('libnbd without TLS')
    random_file(box, 'd', SIZE)
    for user in ('alice', 'bob'):
        tool(box, 'psktool', '-u', user, '-p', 'keys.psk')
    tool(box, liveblk, 'serve', '--tls-allow', 'bob', 'd', status=2)
    tool(box, liveblk, 'serve', '--tls', f'{box.path}/none', '--socket', 'n', '--control', 'm', 'd', status=1)
    served = box.background([liveblk, 'serve', '-f', 'raw', '--socket', 's', '--control', 'c', '--tls', box.path,
                             '--tls-allow', 'bob', 'd'])
    deadline = time.monotonic() + 15
    while not os.path.exists(f'{box.path}/c'):
        expect(served.poll() is None and time.monotonic() < deadline, 'liveblk does not serve')
        time.sleep(0.02)
    expect(connect(box, 'bob') == read_file(box, 'd'), 'what is read')
    refused(box, 'alice')
    refused(box, None)
    served.terminate()
    expect_equal(served.wait(15), 0, 'exit code')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: creating in a folder that may not be written fails with the reason and
leaves nothing; so do sockets and pidfiles there.
Method: a folder without write permission and a daemon that obeys permissions.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, expect_equal, run  # noqa: E402


def test(box, args):
    folder = os.path.join(box.path, 'folder')
    os.mkdir(folder)
    os.chmod(folder, 0o555)
    server = Server(box, args.daemon, nbd=False, obey_permissions=True)
    server.qmp('blockdev-create', **{'job-id': 'c'}, options={
        'driver': 'file', 'filename': 'folder/a.raw', 'size': 65536})
    server.wait_event('JOB_STATUS_CHANGE', status='concluded')
    error = server.qmp('query-jobs')[0].get('error', '')
    expect("'folder/a.raw'" in error and 'Permission denied' in error, error)
    server.qmp('job-dismiss', id='c')
    text = server.refused('nbd-server-start', addr={
        'type': 'unix', 'data': {'path': 'folder/nbd'}})
    expect('folder/nbd' in text and 'Permission denied' in text, text)
    for option in (['--pidfile', 'folder/pid'],
                   ['--nbd-server', 'addr.type=unix,addr.path=folder/nbd'],
                   ['--chardev', 'socket,id=c,server=on,wait=off,path=folder/c']):
        status, text = box.run([args.daemon, *option], obey_permissions=True)
        expect_equal(status, 1, f'{option}: {text}')
        expect('Permission denied' in text, f'{option}: {text}')
    expect_equal(os.listdir(folder), [], 'files left')
    server.quit()


run(test)

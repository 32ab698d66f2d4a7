#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an NBD server that is not there is told with its address and the cause, at once; no node is left, the daemon lives;
on the command line it ends with status 1.
Method: a socket that does not exist, and one whose listener is gone.
"""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, run  # noqa: E402


def test(box, args):
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.path.join(box.path, 'left'))
    s.close()
    server = Server(box, args.daemon, nbd=False)
    for path, cause in (('nobody', 'No such file or directory'), ('left', 'Connection refused')):
        text = server.refused('blockdev-add', **{
            'driver': 'nbd', 'node-name': 'n', 'server': {'type': 'unix', 'path': path}})
        expect(path in text and cause in text, text)
        status, text = box.run([args.daemon, '--blockdev',
                                f'driver=nbd,node-name=n,server.type=unix,server.path={path}'])
        expect_equal(status, 1, text)
        expect(path in text and cause in text, text)
    expect_equal(server.qmp('query-named-block-nodes'), [], 'nodes left')
    server.quit()


run(test)

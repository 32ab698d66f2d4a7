#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a server that is absent, silent, no NBD server, without the export, or read-only is refused with
the reason, the daemon goes on, and nothing is left open; open-timeout waits for one that comes late.
"""
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, run  # noqa: E402
from remote import nbdkit, peer_server  # noqa: E402


def fake(box, name, answer):
    """A server that says @answer and closes."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.path.join(box.path, name))
    s.listen()

    def serve():
        c, _ = s.accept()
        c.send(answer)
        c.close()
    threading.Thread(target=serve, daemon=True).start()


def test(box, args):
    server = Server(box, args.daemon, nbd=False)

    def remote(path, **more):
        return {'driver': 'nbd', 'node-name': 'n', 'server': {'type': 'unix', 'path': path}, **more}

    def fds():
        return len(os.listdir(f'/proc/{server.daemon.proc.pid}/fd'))

    before = fds()
    expect_equal(server.refused('blockdev-add', **remote('absent')),
                 "Failed to connect to 'absent': No such file or directory", 'absent')
    expect_equal(server.refused('blockdev-add', driver='nbd', **{'node-name': 'n'}, server={'type': 'inet', 'host': '127.0.0.1', 'port': '1'}),
                 "Failed to connect to '127.0.0.1:1': Connection refused", 'refused')
    expect_equal(server.refused('blockdev-add', **remote('x' * 200)), "UNIX socket path '" + 'x' * 200 + "' is too long",
                 'long path')
    expect_equal(server.refused('blockdev-add', **remote('absent', export='x' * 5000)),
                 'export name too long to send to server', 'long name')
    expect_equal(server.refused('blockdev-add', driver='nbd', **{'node-name': 'n'}), "Parameter 'server' is missing", 'no server')
    expect('file descriptor' in server.refused('blockdev-add', driver='nbd', **{'node-name': 'n'}, server={'type': 'fd', 'str': '99'}).lower(),
           'no such descriptor')
    for i, garbage in enumerate((b'', b'GET / HTTP/1.0\r\n\r\n' * 10, b'NBDMAGIC', b'NBDMAGICIHAVEOPT')):
        fake(box, f'g{i}', garbage)
        text = server.refused('blockdev-add', **remote(f'g{i}'))
        expect(text.startswith(f"Failed to negotiate with the NBD server at 'g{i}': "), text)
    # Silent: the daemon serves others meanwhile.
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.path.join(box.path, 'silent'))
    s.listen()
    start = time.monotonic()
    server.tell('{"execute":"blockdev-add","arguments":{"driver":"nbd","node-name":"n",'
                '"server":{"type":"unix","path":"silent"},"open-timeout":1},"id":"slow"}')
    reply = server._read()
    expect('timed out' in reply['error']['desc'], f'silent: {reply}')
    expect(time.monotonic() - start < 15, 'the silent server held us long')
    s.close()
    make_image(box, 'd.raw', 'raw', 1 << 20)
    peer = peer_server(box, 'd.raw', 'p.sock', 'x')
    expect_equal(server.refused('blockdev-add', **remote('p.sock', export='y')), 'Requested export not available',
                 'wrong export')
    expect_equal(server.refused('blockdev-add', **remote('p.sock', export='x', **{'x-dirty-bitmap': 'a:b'})),
                 "The NBD export has no context 'a:b'", 'wrong context')
    peer.stop()
    kit = nbdkit(box, 'k.sock', '-r', 'memory', 1 << 20)
    expect('is read-only' in server.refused('blockdev-add', **remote('k.sock')), 'read-only export')
    expect_equal(fds(), before, 'open descriptors')
    server.add(remote('k.sock', **{'auto-read-only': True}))
    expect(server.qmp('query-named-block-nodes')[0]['ro'], 'read-only of itself')
    server.qmp('blockdev-del', **{'node-name': 'n'})
    expect_equal(fds(), before, 'open descriptors at the end')
    kit.stop()
    # One that comes late.
    server.tell('{"execute":"blockdev-add","arguments":{"driver":"nbd","node-name":"n",'
                '"server":{"type":"unix","path":"l.sock"},"open-timeout":10},"id":"late"}')
    time.sleep(0.7)
    late = nbdkit(box, 'l.sock', 'memory', 1 << 20)
    expect_equal(server._read(), {'return': {}, 'id': 'late'}, 'a server that comes late')
    server.quit()
    late.stop()


run(test)

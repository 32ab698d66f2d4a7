#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: qemu-nbd serves on a socket that a service manager has opened (LISTEN_PID, LISTEN_FDS), also with --fork, and refuses
what does not go with that, in the peer's words.
Method: the socket lies on descriptor 3, as systemd has it; a client of libnbd; each refusal by both programs.
"""
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, expect_equal, nbd_module, random_file, read_file, run  # noqa: E402
from sandbox import Skip, require  # noqa: E402

SIZE = 1 << 20
REFUSED = (
    (1, ['-k', '/nonexist/s']), (1, ['-p', '1000']), (1, ['-b', '127.0.0.1']), (1, ['-c', '/dev/nbd99']),
    (1, ['--selinux-label=x']), (1, ['-L']), (2, []), (3, []), (17, ['--fork']), (2, ['-p', '1000']), (1, ['-p', '1', '-k', '/nonexist/s']),
    (1, ['-b', '::', '-c', '/dev/nbd99']), (1, ['--tls-hostname=x']), (1, ['-b', '::', '--tls-creds', 'x']),
)


def start(box, program, fds, words, sock, **kw):
    """With the socket as descriptor 3; the number of the process is known to the shell only."""
    def place():
        os.dup2(sock.fileno(), 3)
        os.set_inheritable(3, True)
        for fd in range(4, 3 + (fds if fds in (2, 17) else 0)):
            if fd != 16:
                os.dup2(3, fd)
    proc = subprocess.Popen(['sh', '-c', f'LISTEN_PID=$$ LISTEN_FDS={fds} exec "$@"', 'sh', program, *words], cwd=box.path,
                            stdin=subprocess.DEVNULL, start_new_session=True, close_fds=False, preexec_fn=place, **kw)
    box.started.append(proc)
    return proc


def listen(box, name):
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.path.join(box.path, name))
    s.listen()
    return s


def refusal(box, program, fds, words, sock):
    proc = start(box, program, fds, [*words, *([] if '-L' in words else ['-f', 'raw', 'a'])], sock,
                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = proc.communicate(timeout=15)
    return proc.returncode, out.decode()


def read(box, name):
    h = nbd_module().NBD()
    h.connect_unix(os.path.join(box.path, name))
    expect(h.pread(SIZE, 0) == read_file(box, 'a'), 'what is read')
    h.shutdown()


def test(box, args):
    peer = require('qemu-nbd')
    ours = os.path.join(os.path.dirname(os.path.abspath(args.daemon)), 'compat', 'qemu-nbd')
    if args.peer or not os.path.exists(ours):
        raise Skip('no qemu-nbd beside the daemon')
    random_file(box, 'a', SIZE)
    sock = listen(box, 'refused')
    for fds, words in REFUSED:
        expect_equal(refusal(box, ours, fds, words, sock), refusal(box, peer, fds, words, sock), f'LISTEN_FDS={fds} {words}')
    for n, (program, words) in enumerate(((peer, []), (ours, []), (ours, ['--fork']), (ours, ['-t', '-e', '3']))):
        with listen(box, f's{n}') as s:
            proc = start(box, program, 1, [*words, '-f', 'raw', 'a'], s)
            if '--fork' in words:
                expect_equal(proc.wait(15), 0, f'{words}: status')
        read(box, f's{n}')
        if '-t' in words:
            time.sleep(0.2)
            expect(proc.poll() is None, 'it did not stay')
            read(box, f's{n}')
            proc.terminate()
        expect_equal(proc.wait(15), 0, f'{words}: status')
        expect(os.path.exists(f'{box.path}/s{n}'), 'the socket of the service manager is taken away')
        if '--fork' in words:
            time.sleep(0.5)
    # Numbers that are not for us.
    proc = start(box, ours, '1x', ['-k', f'{box.path}/own', '-f', 'raw', 'a'], sock)
    for _ in range(500):
        if os.path.exists(f'{box.path}/own'):
            break
        time.sleep(0.02)
    read(box, 'own')
    expect_equal(proc.wait(15), 0, 'status')


run(test)

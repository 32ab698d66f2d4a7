#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: endless strings, endless lists and endless nesting on the monitor are refused
at a limit, without the memory growing along.
Method: 80 MiB of each; an error must come, and the next command be answered.
"""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, run  # noqa: E402
from sandbox import Skip  # noqa: E402

MIB = 1 << 20
SENT = 80 * MIB
# For a string of 64 MiB, which the peer takes; nothing like the list's nodes.
RESIDENT_KIB_MAX = 512 << 10
CASES = {'string': (b'{"execute":"', b'a' * MIB),
         'list': (b'{"execute":[', b'1,' * (MIB // 2)),
         'nesting': (b'', b'[' * MIB)}


def peak_kib(server):
    with open(f'/proc/{server.daemon.proc.pid}/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM'))


def test(box, args):
    if args.peer:
        raise Skip('the peer takes 3 to 6 seconds for each MiB')
    for what, (start, piece) in CASES.items():
        server = Server(box, args.daemon, nbd=False)
        server.sock.settimeout(50)          # a sanitizer takes its time
        errors = []

        def reader():
            while True:
                value = server._read()
                if value.get('id') == 'end':
                    return
                if 'error' in value:
                    errors.append(value['error']['desc'])
        thread = threading.Thread(target=reader)
        thread.start()
        server.sock.sendall(start)
        for _ in range(8 if what == 'nesting' else SENT // MIB):
            server.sock.sendall(piece)
            if errors:
                break
        server.sock.sendall(b'\xff\n{"execute":"query-jobs","id":"end"}\n')
        thread.join(50)
        expect(not thread.is_alive(), f'{what}: no answer')
        expect(any('limit' in e for e in errors), f'{what}: {errors[:3]}')
        peak = peak_kib(server)
        expect(peak < RESIDENT_KIB_MAX, f'{what}: {peak} KiB')
        server.quit()


run(test)

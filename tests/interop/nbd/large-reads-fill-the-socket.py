#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a client that asks for more than the socket and the server's bound on data in flight hold,
and reads it in spurts, gets every byte in its place, and the daemon lives.
Method: a raw client, replies parsed by hand against the file.
"""
import os
import random
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, random_file, read_file, run  # noqa: E402

SIZE = 64 << 20


def take(s, n):
    out = bytearray()
    while len(out) < n:
        part = s.recv(min(n - len(out), 1 << 20))
        expect(part, 'the server closed the connection')
        out += part
    return out


def connect(box, name):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(os.path.join(box.path, 'nbd'))
    take(s, 18)
    s.sendall(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 1, len(name)) + name)
    take(s, 10)
    return s


def test(box, args):
    random_file(box, 's.raw', SIZE)
    content = read_file(box, 's.raw')
    server = Server(box, args.daemon)
    server.add_image('s', 's.raw', 'raw')
    server.export('s')
    rng = random.Random(3)
    for round in range(12):
        s = connect(box, b's')
        asked = {}
        out = bytearray()
        for cookie in range(48):
            n = rng.choice([4096, 70000 // 512 * 512, 1 << 20, 2 << 20, 3 << 20])
            offset = rng.randrange((SIZE - n) // 512) * 512
            asked[cookie] = (offset, n)
            out += struct.pack('>IHHQQI', 0x25609513, 0, 0, cookie, offset, n)
        s.sendall(out)
        while asked:
            if rng.random() < 0.2:
                time.sleep(0.002)
            magic, err, cookie = struct.unpack('>IIQ', take(s, 16))
            expect_equal((magic, err), (0x67446698, 0), f'round {round}, head of a reply')
            offset, n = asked.pop(cookie)
            expect(take(s, n) == content[offset:offset + n], f'round {round}, {n} bytes at {offset}')
        s.close()
    server.quit()


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: garbage, lies about lengths, floods and clients that stop reading neither
crash the daemon nor bloat it, and others are served meanwhile.
Method: one misbehaving connection after the other, beside a well-behaved one.
"""
import os
import random
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, nbd_module, run, sanitized  # noqa: E402

IHAVEOPT = 0x49484156454F5054
REQUEST = 0x25609513
SIZE = 16 << 20
# What a daemon may grow by while the clients below do their worst: 16 MiB for each of the
# eight that do not take their replies.
GROWTH_KIB_MAX = 8 * 16 << 10
# Many of that kind share it: 1 MiB each, and a request.
MANY = 100
GROWTH_MANY_KIB_MAX = MANY * 3 << 10


def resident_kib(server):
    with open(f'/proc/{server.daemon.proc.pid}/status') as f:
        for line in f:
            if line.startswith('VmRSS'):
                return int(line.split()[1])
    return 0


class Client:
    def __init__(self, box, flags=3):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(os.path.join(box.path, 'nbd'))
        self.sock.recv(18)
        if flags is not None:
            self.send(struct.pack('>I', flags))

    def send(self, data):
        """Whether the server takes it."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def option(self, number, length, data=b''):
        return self.send(struct.pack('>QII', IHAVEOPT, number, length) + data)

    def go(self):
        self.option(1, 1, b'n')
        got = b''
        while len(got) < 10:
            got += self.sock.recv(10 - len(got))
        return self

    def request(self, kind, cookie, offset, length, flags=0, magic=REQUEST):
        return self.send(struct.pack('>IHHQQI', magic, flags, kind, cookie, offset,
                                     length))

    def closed(self):
        """Whether the server hangs up, whatever it says before."""
        try:
            while self.sock.recv(1 << 16):
                pass
            return True
        except socket.timeout:
            return False
        except OSError:
            return True


def misbehave(box):
    """One generator step each; the connections stay open until the end."""
    rng = random.Random(3)
    kept = []

    def client(*given):
        kept.append(Client(box, *given))
        return kept[-1]

    yield 'silence after the greeting', client(None)
    c = client(0xffffffff)
    expect(c.closed(), 'unknown client flags end the connection')
    yield 'unknown client flags', c
    c = client()
    c.send(rng.randbytes(4096))
    expect(c.closed(), 'a wrong option magic ends the connection')
    yield 'noise for options', c
    c = client()
    c.option(3, 0xffffffff)
    expect(c.closed(), 'an option of 4 GiB ends the connection')
    yield 'an option of 4 GiB', c
    c = client()
    c.option(7, 100, b'short')
    yield 'half an option', c
    c = client()
    for _ in range(5000):
        if not c.option(99, 0):
            break
    yield 'thousands of options, replies not read', c
    c = client().go()
    c.send(rng.randbytes(28))
    expect(c.closed(), 'a wrong request magic ends the connection')
    yield 'noise for requests', c
    c = client().go()
    c.request(1, 1, 0, 0xffffffff)
    c.send(bytes(65536))
    expect(c.closed(), 'a write of 4 GiB ends the connection')
    yield 'a write of 4 GiB', c
    c = client().go()
    c.request(0, 1, 0, 0xffffffff)
    c.request(9999, 2, 0, 0)
    c.request(0, 3, (1 << 64) - 512, 512)
    yield 'requests that make no sense', c
    c = client().go()
    c.request(1, 1, 0, 1 << 20)
    c.send(bytes(1000))
    c.sock.close()
    yield 'a write given up half way', c
    for _ in range(8):
        c = client().go()
        c.sock.settimeout(0.5)
        for cookie in range(64):
            if not c.request(0, cookie, 0, 4 << 20):
                break
    yield 'reads whose replies are not taken', c
    for _ in range(200):
        s = socket.socket(socket.AF_UNIX)
        s.connect(os.path.join(box.path, 'nbd'))
        s.close()
    yield 'connections that come and go', c
    for c in kept:
        c.sock.close()


def crowd(box, args, server, good):
    """Many at once that ask and do not read: 16 MiB each would be 1.6 GiB."""
    watched = sanitized(args.daemon)        # its shadow memory counts, too
    before = resident_kib(server)
    kept = [Client(box).go() for _ in range(MANY)]
    for c in kept:
        c.sock.settimeout(0.1)
        for cookie in range(32):
            if not c.request(0, cookie, 0, 1 << 20):
                break
    expect(good.pread(4096, 4096) == bytes(4096), 'others, beside a crowd')
    server.alive()
    grown = resident_kib(server) - before
    expect(args.peer or watched or grown < GROWTH_MANY_KIB_MAX, f'a crowd: grew by {grown} KiB')
    for c in kept:
        c.sock.close()


def test(box, args):
    nbd = nbd_module()
    server = Server(box, args.daemon)
    server.add({'driver': 'null-co', 'node-name': 'n', 'size': SIZE,
                'read-zeroes': True})
    server.export('n', writable=True)
    good = nbd.NBD()
    good.connect_uri(server.uri('n'))
    watched = sanitized(args.daemon)        # its shadow memory counts, too
    before = resident_kib(server)
    for what, _ in misbehave(box):
        expect(good.pread(4096, 4096) == bytes(4096), f'others after: {what}')
        server.alive()
        grown = resident_kib(server) - before
        expect(args.peer or watched or grown < GROWTH_KIB_MAX, f'{what}: grew by {grown} KiB')
    crowd(box, args, server, good)
    good.shutdown()
    server.quit()


run(test)

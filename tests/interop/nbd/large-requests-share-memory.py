#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: what all clients together make the server hold is bounded, though each asks for, or sends, as much as a request
may be and then stops; large requests are served exactly all the same, errors in the middle of them included.
Method: raw clients that do not go on, beside clients that compare each byte; a node on which some sectors fail.
"""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, nbd_module, random_file, read_file, run, sanitized  # noqa: E402

MIB = 1 << 20
SIZE = 48 * MIB
LARGE = 32 * MIB
CROWD = 24          # clients of each kind
# 128 MiB for all, 64 MiB for what must go in one go, and what each connection has of its own.
GROWTH_KIB_MAX = (128 + 64 + 4 * CROWD) << 10
DF, FUA = 4, 1
EIO, EOVERFLOW = 5, 75


def resident_kib(server):
    with open(f'/proc/{server.daemon.proc.pid}/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS'))


class Client:
    def __init__(self, box, name, structured):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(os.path.join(box.path, 'nbd'))
        self.take(18)
        self.send(struct.pack('>I', 3))
        if structured:
            self.send(struct.pack('>QII', 0x49484156454F5054, 8, 0))
            self.take(20)
        self.send(struct.pack('>QII', 0x49484156454F5054, 1, len(name)) + name.encode())
        self.take(10)

    def send(self, data):
        self.sock.sendall(data)

    def take(self, n):
        out = bytearray(n)
        view, got = memoryview(out), 0
        while got < n:
            part = self.sock.recv_into(view[got:], min(n - got, MIB))
            if not part:
                raise ConnectionError(f'the server closed the connection after {got} of {n} bytes')
            got += part
        return out

    def request(self, kind, offset, length, flags=0):
        self.send(struct.pack('>IHHQQI', 0x25609513, flags, kind, 7, offset, length))

    def read_simple(self, offset, length):
        self.request(0, offset, length)
        magic, err, cookie = struct.unpack('>IIQ', self.take(16))
        expect_equal((magic, cookie), (0x67446698, 7), 'head of a simple reply')
        return err, b'' if err else self.take(length)

    def read_chunks(self, offset, length, flags=0):
        """(errors, data, number of chunks): every byte just once unless there were errors."""
        self.request(0, offset, length, flags)
        data, seen, errors, done, n = bytearray(length), 0, [], False, 0
        while not done:
            magic, flags, kind, cookie, size = struct.unpack('>IHHQI', self.take(20))
            expect_equal((magic, cookie), (0x668e33ef, 7), 'head of a chunk')
            done, n, body = flags & 1, n + 1, self.take(size)
            if kind == 1:
                at = struct.unpack('>Q', body[:8])[0] - offset
                data[at:at + size - 8] = body[8:]
                seen += size - 8
            elif kind == 2:         # a hole
                seen += struct.unpack('>QI', body)[1]
            elif kind == 32769:
                errors.append(struct.unpack('>I', body[:4])[0])
            else:
                expect_equal((kind, size), (0, 0), 'a chunk without data')
        expect(errors or seen == length, f'{seen} of {length} bytes came')
        return errors, data, n

    def close(self):
        self.sock.close()


def crowd(box, args, server):
    """Everybody asks for 32 MiB and takes nothing, or sends a part of what it has announced."""
    kept = []
    before = resident_kib(server)
    for structured, kind, flags in ((True, 0, 0), (False, 0, 0), (True, 0, DF), (False, 1, 0)):
        for _ in range(CROWD):
            c = Client(box, 'f', structured)
            c.request(kind, 8 * MIB, LARGE, flags)
            if kind == 1:
                c.sock.settimeout(0.2)
                try:
                    c.send(bytes(LARGE - 512))
                except OSError:
                    pass
            kept.append(c)
    server.alive()
    grown = resident_kib(server) - before
    expect(args.peer or sanitized(args.daemon) or grown < GROWTH_KIB_MAX, f'grew by {grown} KiB')
    return kept


def served_beside_a_crowd(box, content):
    c = Client(box, 's', False)
    for offset, n in ((0, LARGE), (513, LARGE - 3), (MIB - 1, 5 * MIB + 2), (4096, 4096)):
        err, data = c.read_simple(offset, n)
        expect(not err and data == content[offset:offset + n], f'a simple reply of {n} bytes at {offset}, {err}')
    c.close()
    c = Client(box, 's', True)
    for offset, n in ((0, LARGE), (513, LARGE - 3), (MIB - 1, 2)):
        errors, data, chunks = c.read_chunks(offset, n)
        expect(not errors and data == content[offset:offset + n], f'chunks of {n} bytes at {offset}, {errors}')
    errors, data, chunks = c.read_chunks(0, LARGE, DF)
    expect(errors == [EOVERFLOW] and chunks == 1 or not errors and data == content[:LARGE] and chunks == 1,
           f'a read with DF: {errors}, {chunks} chunks')
    errors, data, chunks = c.read_chunks(512, 65536, DF)
    expect(not errors and data == content[512:512 + 65536] and chunks == 1, 'a small read with DF')
    c.close()


def served_alone(box, args, content):
    c = Client(box, 's', True)
    errors, data, chunks = c.read_chunks(3, LARGE, DF)
    expect(not errors and data == content[3:3 + LARGE] and chunks == 1, 'a large read with DF')
    errors, data, chunks = c.read_chunks(3, LARGE)
    expect(not errors and data == content[3:3 + LARGE], 'a large read')
    c.close()


def writes(box, nbd, server):
    """Two large writes at a time, not aligned; what is durable is what was acknowledged."""
    want = bytearray(read_file(box, 'w.raw'))
    h = nbd.NBD()
    h.connect_uri(server.uri('w'))
    for offset, n, flags in ((0, LARGE, 0), (12345, LARGE - 1, nbd.CMD_FLAG_FUA), (MIB - 1, MIB + 2, 0)):
        data = os.urandom(4096) * (n // 4096 + 1)
        want[offset:offset + n] = data[:n]
        h.pwrite(data[:n], offset, flags)
        expect(h.pread(n, offset) == want[offset:offset + n], f'{n} bytes written at {offset}')
    h.shutdown()
    expect(read_file(box, 'w.raw') == want, 'the file after large writes')


def errors(box, server, crowded):
    """Sectors at 20 MiB fail: the first error is told once, and the connection goes on where it can."""
    c = Client(box, 'e', True)
    for offset, n in ((0, LARGE), (19 * MIB, 2 * MIB), (20 * MIB, LARGE - 8 * MIB)):
        found = c.read_chunks(offset, n)[0]
        expect_equal(found, [EIO], f'errors of a read of {n} bytes at {offset}')
    expect_equal(c.read_chunks(0, 16 * MIB)[0], [], 'a read beside')
    c.request(1, MIB, LARGE - MIB)
    c.send(bytes(LARGE - MIB))
    _, _, kind, _, size = struct.unpack('>IHHQI', c.take(20))
    expect_equal((kind, struct.unpack('>I', c.take(size)[:4])[0]), (32769, EIO), 'a write that fails in the middle')
    expect_equal(c.read_chunks(0, 16 * MIB)[0], [], 'a read afterwards')
    c.close()
    c = Client(box, 'e', False)
    if crowded:
        expect_equal(c.read_simple(20 * MIB, 8 * MIB)[0], EIO, 'an error in the first piece')
        try:
            c.read_simple(0, LARGE)
            expect(False, 'data that could not be read came')
        except ConnectionError:
            pass
    else:
        expect_equal(c.read_simple(0, LARGE)[0], EIO, 'a simple reply with an error')
        expect_equal(c.read_simple(0, 4096)[0], 0, 'a read afterwards')
    c.close()


def test(box, args):
    nbd = nbd_module()
    random_file(box, 's.raw', SIZE)
    content = read_file(box, 's.raw')
    for name in ('w.raw', 'e.raw'):
        with open(os.path.join(box.path, name), 'wb') as f:
            f.truncate(SIZE)
    server = Server(box, args.daemon)
    server.add({'driver': 'null-co', 'node-name': 'f', 'size': SIZE, 'read-zeroes': True})
    server.add_image('s', 's.raw', 'raw')
    server.add_image('w', 'w.raw', 'raw')
    server.add({'driver': 'blkdebug', 'node-name': 'e', 'image': {'driver': 'file', 'filename': 'e.raw'},
                'inject-error': [{'event': 'none', 'iotype': kind, 'sector': 20 * MIB // 512, 'errno': 5}
                                 for kind in ('read', 'write')]})
    for node in ('f', 's', 'w', 'e'):
        server.export(node, writable=True)
    served_alone(box, args, content)
    writes(box, nbd, server)
    if not args.peer:           # its blkdebug counts otherwise
        errors(box, server, False)
    kept = crowd(box, args, server)
    served_beside_a_crowd(box, content)
    if not args.peer:
        errors(box, server, True)
    for c in kept:
        c.close()
    served_alone(box, args, content)
    server.quit()


run(test)

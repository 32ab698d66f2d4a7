#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: LIST, INFO, GO, EXPORT_NAME, LIST_META_CONTEXT, STRUCTURED_REPLY and ABORT
follow the protocol; unknown options are refused and the negotiation goes on.
Method: bytes on a socket, as the protocol's specification writes them.
"""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, expect_equal, run  # noqa: E402

NBDMAGIC = 0x4e42444d41474943
IHAVEOPT = 0x49484156454F5054
REP_MAGIC = 0x3e889045565a9
OPT = dict(EXPORT_NAME=1, ABORT=2, LIST=3, INFO=6, GO=7, STRUCTURED_REPLY=8,
           LIST_META_CONTEXT=9, SET_META_CONTEXT=10)
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
ERR = 1 << 31
ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN = ERR + 1, ERR + 3, ERR + 6
SIZE = 65536


class Wire:
    """A client that has sent nothing but its flags."""

    def __init__(self, box, flags=3):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(os.path.join(box.path, 'nbd'))
        magic, opt, server_flags = struct.unpack('>QQH', self.take(18))
        expect_equal((magic, opt), (NBDMAGIC, IHAVEOPT), 'greeting')
        expect_equal(server_flags & 3, 3, 'fixed newstyle, no zeroes')
        self.sock.sendall(struct.pack('>I', flags))

    def take(self, count):
        data = b''
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise ConnectionError('closed')
            data += more
        return data

    def option(self, number, data=b''):
        """Send an option, return all replies to it: [(type, data)]."""
        self.sock.sendall(struct.pack('>QII', IHAVEOPT, number, len(data)) + data)
        replies = []
        while True:
            magic, opt, kind, length = struct.unpack('>QIII', self.take(20))
            expect_equal((magic, opt), (REP_MAGIC, number), 'option reply')
            replies.append((kind, self.take(length)))
            if kind == REP_ACK or kind & ERR:
                return replies


def name(text):
    return struct.pack('>I', len(text)) + text.encode()


def info(export, *wanted):
    return name(export) + struct.pack(f'>H{len(wanted)}H', len(wanted), *wanted)


def check_list(box):
    w = Wire(box)
    replies = w.option(OPT['LIST'])
    names = []
    for kind, data in replies[:-1]:
        expect_equal(kind, REP_SERVER, 'kind of a list entry')
        length, = struct.unpack('>I', data[:4])
        names.append(data[4:4 + length].decode())
    expect_equal(sorted(names), ['n', 'ro'], 'LIST')
    expect_equal(replies[-1], (REP_ACK, b''), 'end of LIST')
    expect_equal(w.option(OPT['LIST'], b'x')[-1][0], ERR_INVALID, 'LIST with data')
    expect_equal(w.option(77)[-1][0], ERR_UNSUP, 'unknown option')
    expect_equal(w.option(78, bytes(1000))[-1][0], ERR_UNSUP, 'unknown, with data')
    expect_equal(w.option(OPT['ABORT'])[-1][0], REP_ACK, 'ABORT')
    expect_equal(w.sock.recv(1), b'', 'closed after ABORT')


def check_info(box):
    w = Wire(box)
    expect_equal(w.option(OPT['INFO'], info('nope'))[-1][0], ERR_UNKNOWN, 'INFO')
    expect_equal(w.option(OPT['GO'], info('nope'))[-1][0], ERR_UNKNOWN, 'GO')
    expect_equal(w.option(OPT['INFO'], b'\0')[-1][0], ERR_INVALID, 'short INFO')
    expect_equal(w.option(OPT['INFO'], name('n') + b'\0\5')[-1][0], ERR_INVALID,
                 'INFO with too few requests')
    expect_equal(w.option(OPT['INFO'], struct.pack('>I', 1 << 30))[-1][0],
                 ERR_INVALID, 'INFO with a name longer than the option')
    expect_equal(w.option(OPT['STRUCTURED_REPLY'], b'x')[-1][0], ERR_INVALID,
                 'STRUCTURED_REPLY with data')
    replies = w.option(OPT['INFO'], info('n', 1, 2, 3))
    kinds = {struct.unpack('>H', data[:2])[0]: data[2:]
             for kind, data in replies if kind == REP_INFO}
    size, flags = struct.unpack('>QH', kinds[0])
    expect_equal(size, SIZE, 'size')
    expect(flags & 1, 'HAS_FLAGS')
    expect_equal(kinds[1], b'n', 'INFO_NAME')
    expect_equal(kinds[2], b'words', 'INFO_DESCRIPTION')
    smallest, preferred, largest = struct.unpack('>III', kinds[3])
    expect(smallest <= preferred <= largest, 'block sizes')
    replies = w.option(OPT['GO'], info('n', 3))
    expect_equal(replies[-1][0], REP_ACK, 'GO')
    simple_read(w)


def simple_read(w):
    w.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, 42, 512, 1024))
    magic, error, cookie = struct.unpack('>IIQ', w.take(16))
    expect_equal((magic, error, cookie), (0x67446698, 0, 42), 'simple reply')
    w.take(1024)
    w.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 2, 43, 0, 0))
    expect_equal(w.sock.recv(1), b'', 'closed after DISC')


def check_export_name(box):
    for flags, padding in ((3, 0), (1, 124)):
        w = Wire(box, flags)
        w.sock.sendall(struct.pack('>QII', IHAVEOPT, 1, 1) + b'n')
        size, _ = struct.unpack('>QH', w.take(10))
        expect_equal(size, SIZE, 'size after EXPORT_NAME')
        expect_equal(w.take(padding), bytes(padding), 'padding')
        simple_read(w)
    w = Wire(box)
    w.sock.sendall(struct.pack('>QII', IHAVEOPT, 1, 4) + b'nope')
    expect_equal(w.sock.recv(1), b'', 'closed after an unknown EXPORT_NAME')


def check_meta_contexts(box):
    w = Wire(box)
    query = name('n') + struct.pack('>I', 0)
    expect_equal(w.option(OPT['SET_META_CONTEXT'], query)[-1][0], ERR_INVALID,
                 'SET_META_CONTEXT without structured replies')
    expect_equal(w.option(OPT['STRUCTURED_REPLY'])[-1][0], REP_ACK, 'structured')
    replies = w.option(OPT['LIST_META_CONTEXT'], query)
    expect(b'base:allocation' in [d[4:] for k, d in replies if k == REP_META],
           'base:allocation is listed')
    query = name('n') + struct.pack('>I', 2) + name('base:allocation') + name('x:y')
    replies = w.option(OPT['SET_META_CONTEXT'], query)
    expect_equal([d[4:] for k, d in replies if k == REP_META], [b'base:allocation'],
                 'SET_META_CONTEXT')
    query = name('nope') + struct.pack('>I', 0)
    expect_equal(w.option(OPT['SET_META_CONTEXT'], query)[-1][0], ERR_UNKNOWN,
                 'SET_META_CONTEXT of an unknown export')


def test(box, args):
    server = Server(box, args.daemon)
    server.add({'driver': 'null-co', 'node-name': 'n', 'size': SIZE,
                'read-zeroes': True})
    server.export('n', writable=True, description='words')
    server.export('n', id='x-ro', name='ro')
    check_list(box)
    check_info(box)
    check_export_name(box)
    check_meta_contexts(box)
    server.quit()


run(test)

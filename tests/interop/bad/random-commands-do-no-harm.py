#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: no text on the monitor crashes the daemon, hangs it or makes it forget.
Method: good commands with random changes of bytes, tokens and values, many seeds;
after each a good command is answered.
"""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, is_peer, run  # noqa: E402

SEED = 4
COUNT = 1500
GOOD = [
    {'execute': 'blockdev-add', 'arguments': {
        'driver': 'raw', 'node-name': 'r', 'offset': 512, 'size': 1024,
        'file': {'driver': 'null-co', 'size': 65536, 'read-zeroes': True}}},
    {'execute': 'blockdev-add', 'arguments': {
        'driver': 'null-co', 'node-name': 'n', 'cache': {'direct': True}}},
    {'execute': 'blockdev-del', 'arguments': {'node-name': 'r'}},
    {'execute': 'blockdev-mirror', 'arguments': {
        'job-id': 'j', 'device': 'n', 'target': 'r', 'sync': 'full', 'speed': 100,
        'granularity': 65536, 'buf-size': 0, 'on-source-error': 'stop'}},
    {'execute': 'job-cancel', 'arguments': {'id': 'j'}},
    {'execute': 'block-export-add', 'arguments': {
        'type': 'nbd', 'id': 'e', 'node-name': 'n', 'writable': True}},
    {'execute': 'block-export-del', 'arguments': {'id': 'e', 'mode': 'hard'}},
    {'execute': 'block_resize', 'arguments': {'node-name': 'r', 'size': 1048576}},
    {'execute': 'object-add', 'arguments': {'qom-type': 'iothread', 'id': 'i'}},
    {'execute': 'object-del', 'arguments': {'id': 'i'}},
    {'execute': 'query-named-block-nodes', 'arguments': {'flat': True}},
]
VALUES = [None, True, -1, 0, 1 << 31, (1 << 63) - 1, 1 << 64, 1.5, 'x', '', '\u0000',
          [], {}, [[]], 'a' * 300, 'n', 'r', 'j']


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], path + (key,))


def replaced(value, path, new):
    if not path:
        return new
    out = dict(value)
    out[path[0]] = replaced(value[path[0]], path[1:], new)
    return out


def mutate(rng):
    value = rng.choice(GOOD)
    for _ in range(rng.choice([0, 1, 1, 2])):
        path = rng.choice([p for p in places(value) if p] or [()])
        if not path:
            break
        value = replaced(value, path, rng.choice(VALUES))
    text = bytearray(json.dumps(value).encode())
    if rng.random() < 0.4:
        for _ in range(rng.choice([1, 3])):
            at = rng.randrange(len(text))
            choice = rng.random()
            if choice < 0.4:
                text[at] = rng.randrange(256)
            elif choice < 0.7:
                del text[at]
            else:
                text[at:at] = rng.choice([b'{', b'}', b'[', b'"', b',', b'\\', b'\xff'])
    return bytes(text)


def ends_the_peer(text):
    """Sizes below zero of a null node end it (an assertion)."""
    return b'null-co' in text and (b'-1' in text or b'1024' in text)


def test(box, args):
    rng = random.Random(SEED)
    server = Server(box, args.daemon)
    peer = is_peer(args.daemon)
    for number in range(COUNT):
        text = mutate(rng)
        if b'quit' in text or (peer and ends_the_peer(text)):
            continue
        # 0xff gives a clean state whatever was open before it.
        server.sock.sendall(text + b'\n\xff\n')
        if number % 20 == 0:
            server.tell(json.dumps({'execute': 'query-jobs', 'id': number}))
            while server._read().get('id') != number:
                pass
    server.tell('{"execute":"query-version","id":"end"}')
    while True:
        value = server._read()
        if value.get('id') == 'end':
            expect('return' in value, f'{value}')
            break
    server.sock.sendall(b'{"execute":"quit"}\n')
    status = server.daemon.wait()
    expect(status == 0, f'status {status}: {server.daemon.stderr()}')


run(test)

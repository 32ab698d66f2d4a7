#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an image may be written by the daemon and by the peer in turn for ever.
Method: alternate rounds of random writes, growing in between, against one model;
qemu-img check after each round.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, make_image,  # noqa: E402
                    nbd_module, poke, read_file, run, tool)

ROUNDS = 6
GROWTH = 1 << 20


def by_daemon(box, args, nbd, model, rng):
    server = Server(box, args.daemon)
    server.add_image('d', 'd.qcow2', 'qcow2')
    size = len(model) + GROWTH
    server.qmp('block_resize', **{'node-name': 'd'}, size=size)
    model.extend(bytes(GROWTH))
    h = nbd.NBD()
    h.connect_uri(server.export('d', writable=True))
    expect(h.pread(min(size, 4 << 20), 0) == model[:4 << 20], 'what the peer left')
    for _ in range(60):
        length = rng.choice([512, 5000, 65536])
        offset = rng.randrange(size - length)
        if rng.random() < 0.7:
            data = rng.randbytes(length)
            h.pwrite(data, offset)
        else:
            data = bytes(length)
            h.zero(length, offset)
        model[offset:offset + length] = data
    h.shutdown()
    server.quit()


def by_peer(box, model, rng):
    size = len(model) + GROWTH
    tool(box, 'qemu-img', 'resize', '-q', '-f', 'qcow2', 'd.qcow2', size)
    model.extend(bytes(GROWTH))
    commands = []
    for _ in range(60):
        length = rng.choice([512, 5000, 65536])
        offset = rng.randrange(size - length)
        byte = rng.randrange(1, 255)
        if rng.random() < 0.7:
            commands.append(f'write -P {byte} {offset} {length}')
        else:
            byte = 0
            commands.append(f'write -z {offset} {length}')
        model[offset:offset + length] = bytes([byte]) * length
    poke(box, 'd.qcow2', 'qcow2', *commands)


def test(box, args):
    nbd = nbd_module()
    rng = random.Random(5)
    make_image(box, 'd.qcow2', 'qcow2', GROWTH, cluster_size='16k')
    model = bytearray(GROWTH)
    for number in range(ROUNDS):
        by_daemon(box, args, nbd, model, rng)
        check_image(box, 'd.qcow2')
        by_peer(box, model, rng)
        check_image(box, 'd.qcow2')
        tool(box, 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', 'd.qcow2', 'now')
        expect(read_file(box, 'now') == model, f'contents after round {number}')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: images written through the daemon are valid and equal for the peer's tools.
Method: random writes, zeroes, discards through NBD into images of several layouts
and chains, against a model; then qemu-img check and compare.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect_equal, make_image,  # noqa: E402
                    nbd_module, read_file, run, tool)

SIZE = 8 << 20
LAYOUTS = [('raw', {}), ('qcow2', {}), ('qcow2', {'cluster_size': '4k'}),
           ('qcow2', {'cluster_size': '2M'}), ('qcow2', {'cluster_size': '512'}),
           ('qcow2', {'lazy_refcounts': 'on'}), ('qcow2', {'refcount_bits': '1'}),
           ('qcow2', {'preallocation': 'metadata'})]


def write_through(nbd, uri, model, rng, count=150):
    h = nbd.NBD()
    h.connect_uri(uri)
    for _ in range(count):
        length = rng.choice([1, 512, 4096, 65536, 150000])
        offset = rng.randrange(SIZE - length)
        kind = rng.random()
        if kind < 0.6:
            data = rng.randbytes(length)
            h.pwrite(data, offset)
            model[offset:offset + length] = data
        elif kind < 0.8:
            h.zero(length, offset)
            model[offset:offset + length] = bytes(length)
        else:
            h.trim(length, offset)
            model[offset:offset + length] = h.pread(length, offset)
    h.flush()
    h.shutdown()


def judge(box, image, fmt, model, what):
    with open(os.path.join(box.path, 'model'), 'wb') as f:
        f.write(model)
    text = tool(box, 'qemu-img', 'compare', '-f', 'raw', '-F', fmt, 'model', image)
    expect_equal(text, 'Images are identical.\n', what)
    if fmt == 'qcow2':
        check_image(box, image)


def one_layout(box, args, nbd, number, fmt, options, rng):
    what = f'{fmt} {options}'
    image = f'{number}.{fmt}'
    make_image(box, image, fmt, SIZE, **options)
    model = bytearray(SIZE)
    server = Server(box, args.daemon)
    server.add_image('d', image, fmt, discard='unmap')
    write_through(nbd, server.export('d', writable=True), model, rng)
    server.quit()
    judge(box, image, fmt, model, what)


def chain(box, args, nbd, rng):
    """An overlay over two images, the lowest shorter than the rest."""
    make_image(box, 'base.qcow2', 'qcow2', SIZE // 2, 'write -P 0x11 0 4M')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F',
         'qcow2', 'middle.qcow2', SIZE)
    tool(box, 'qemu-io', '-c', 'write -P 0x22 3M 2M', 'middle.qcow2')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'middle.qcow2', '-F',
         'qcow2', 'top.qcow2')
    tool(box, 'qemu-img', 'convert', '-O', 'raw', 'top.qcow2', 'before')
    lower = read_file(box, 'base.qcow2'), read_file(box, 'middle.qcow2')
    model = bytearray(read_file(box, 'before'))
    server = Server(box, args.daemon)
    server.add_image('d', 'top.qcow2', 'qcow2', discard='unmap')
    write_through(nbd, server.export('d', writable=True), model, rng)
    server.quit()
    judge(box, 'top.qcow2', 'qcow2', model, 'chain')
    expect_equal((read_file(box, 'base.qcow2'), read_file(box, 'middle.qcow2')),
                 lower, 'backing files are untouched')


def test(box, args):
    nbd = nbd_module()
    rng = random.Random(21)
    for number, (fmt, options) in enumerate(LAYOUTS):
        one_layout(box, args, nbd, number, fmt, options, rng)
    chain(box, args, nbd, rng)


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: read, write, trim, zero, fast zero, cache, flush, FUA and block status do
what the NBD protocol says, with structured and simple replies.
Method: libnbd against a model in memory, on raw and qcow2, then the peer's tools.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, expect_equal,  # noqa: E402
                    make_image, nbd_module, run, tool)

SIZE = 4 << 20


def connect(nbd, server, structured=True):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(server.uri('d'))
    expect_equal(h.get_structured_replies_negotiated(), structured, 'replies')
    expect_equal(h.get_size(), SIZE, 'size')
    return h


def random_requests(nbd, h, model, rng):
    """Everything a client may send, and the same to the model."""
    for _ in range(300):
        offset = rng.randrange(SIZE)
        length = min(SIZE - offset, rng.choice([1, 511, 512, 4096, 65536, 200000]))
        kind = rng.randrange(6)
        fua = nbd.CMD_FLAG_FUA if rng.random() < 0.1 else 0
        if kind == 0:
            data = rng.randbytes(length)
            h.pwrite(data, offset, flags=fua)
            model[offset:offset + length] = data
        elif kind == 1:
            hole = nbd.CMD_FLAG_NO_HOLE if rng.random() < 0.5 else 0
            h.zero(length, offset, flags=fua | hole)
            model[offset:offset + length] = bytes(length)
        elif kind == 2:
            offset &= ~65535
            length = min(SIZE - offset, 65536)
            h.trim(length, offset, flags=fua)
            got = h.pread(length, offset)
            model[offset:offset + length] = got     # zeroes or old data
        elif kind == 3:
            h.cache(length, offset)
        else:
            expect(h.pread(length, offset) == model[offset:offset + length],
                   f'read of {length} at {offset}')
    h.flush()


def block_status(nbd, h):
    """Data where it was written, zeroes elsewhere; ONE gives one extent."""
    seen = []
    h.block_status(SIZE, 0, lambda *call: seen.append(call) and 0)
    context, offset, entries, error = seen[0][:4]
    expect_equal((context, offset), (nbd.CONTEXT_BASE_ALLOCATION, 0), 'context')
    expect(sum(entries[0::2]) > 0, 'an extent')
    seen.clear()
    h.block_status(SIZE - 4096, 4096, lambda *call: seen.append(call) and 0,
                   flags=nbd.CMD_FLAG_REQ_ONE)
    expect_equal(len(seen[0][2]), 2, 'extents with REQ_ONE')
    return seen


def structured_read(nbd, h, model):
    """Chunks cover the request exactly; DF gives one."""
    for flags in (0, nbd.CMD_FLAG_DF):
        chunks = []

        def chunk(data, offset, status, error):
            chunks.append((offset, bytes(data), status))
        h.pread_structured(SIZE // 2, 1000, chunk, flags=flags)
        chunks.sort(key=lambda item: item[0])
        place = 1000
        for offset, data, status in chunks:
            expect_equal(offset, place, 'chunks follow each other')
            expect(data == model[offset:offset + len(data)], 'chunk contents')
            place += len(data)
        expect_equal(place, 1000 + SIZE // 2, 'chunks cover the request')
        if flags:
            expect_equal(len(chunks), 1, 'chunks with DF')


def fast_zero(nbd, h, model, offset):
    """FAST_ZERO succeeds or says ENOTSUP at once, changing nothing."""
    try:
        h.zero(65536, offset, flags=nbd.CMD_FLAG_FAST_ZERO)
        model[offset:offset + 65536] = bytes(65536)
    except nbd.Error as e:
        expect_equal(e.errno, 'ENOTSUP', 'refusal of a fast zero')
    expect(h.pread(65536, offset) == model[offset:offset + 65536], 'fast zero')


def test(box, args):
    nbd = nbd_module()
    for fmt in ('raw', 'qcow2'):
        image = f'd.{fmt}'
        make_image(box, image, fmt, SIZE)
        server = Server(box, args.daemon)
        server.add_image('d', image, fmt, discard='unmap')
        server.export('d', writable=True)
        model = bytearray(SIZE)
        rng = random.Random(7)
        for structured in (True, False):
            h = connect(nbd, server, structured)
            random_requests(nbd, h, model, rng)
            if structured:
                expect(h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION), 'context')
                block_status(nbd, h)
                structured_read(nbd, h, model)
            fast_zero(nbd, h, model, 131072)
            h.shutdown()
        h = connect(nbd, server)
        expect(h.pread(SIZE, 0) == model, f'{fmt}: contents')
        h.shutdown()
        server.quit()
        with open(os.path.join(box.path, 'model'), 'wb') as f:
            f.write(model)
        tool(box, 'qemu-img', 'compare', '-f', 'raw', '-F', fmt, 'model', image)
    check_image(box, 'd.qcow2')


run(test)

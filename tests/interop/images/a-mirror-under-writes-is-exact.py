#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a mirror of a disk that a client writes all the while ends in equal contents,
for raw and qcow2 on either side, in both copy modes, completed or cancelled.
Method: libnbd writes from a thread against a model; the peer's tools compare.
"""
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, expect_equal,  # noqa: E402
                    make_image, nbd_module, run, tool)

SIZE = 16 << 20
CASES = [('raw', 'raw', 'background'), ('qcow2', 'raw', 'write-blocking'),
         ('raw', 'qcow2', 'background'), ('qcow2', 'qcow2', 'write-blocking')]


class Writer(threading.Thread):
    """A client that writes until told to stop; its model is exact."""

    def __init__(self, nbd, uri, seed):
        super().__init__()
        self.h = nbd.NBD()
        self.h.connect_uri(uri)
        self.model = bytearray(self.h.pread(SIZE, 0))
        self.rng = random.Random(seed)
        self.end = threading.Event()
        self.count = 0
        self.error = None

    def run(self):
        try:
            while not self.end.is_set():
                length = self.rng.choice([512, 4096, 4096, 65536])
                offset = self.rng.randrange(SIZE - length)
                if self.rng.random() < 0.9:
                    data = self.rng.randbytes(length)
                    self.h.pwrite(data, offset)
                else:
                    data = bytes(length)
                    self.h.zero(length, offset)
                self.model[offset:offset + length] = data
                self.count += 1
        except Exception as e:      # told by the main thread
            self.error = e

    def stop(self):
        self.end.set()
        self.join()
        expect(self.error is None, f'the client: {self.error}')
        self.h.flush()


def one(box, args, nbd, number, source_fmt, target_fmt, copy_mode):
    source, target = f's{number}', f't{number}'
    make_image(box, source, source_fmt, SIZE, 'write -P 0x5a 0 12M')
    make_image(box, target, target_fmt, SIZE)
    server = Server(box, args.daemon)
    server.add_image('s', source, source_fmt)
    server.add_image('t', target, target_fmt)
    writer = Writer(nbd, server.export('s', writable=True), number)
    writer.start()
    # Slow enough that most of the copying happens under writes.
    server.qmp('blockdev-mirror', **{
        'job-id': 'j', 'device': 's', 'target': 't', 'sync': 'full',
        'copy-mode': copy_mode, 'speed': 32 << 20})
    server.wait_event('JOB_STATUS_CHANGE', status='running')
    threading.Event().wait(0.2)
    server.qmp('block-job-set-speed', device='j', speed=0)
    if copy_mode == 'background':
        # The peer does not converge under a client that writes without rest.
        threading.Event().wait(0.2)
        writer.stop()
    server.wait_event('BLOCK_JOB_READY', device='j')
    server.qmp('job-complete', id='j')
    server.wait_event('JOB_STATUS_CHANGE', status='null')
    if copy_mode != 'background':
        writer.stop()
    expect(writer.count > 20, f'only {writer.count} writes')
    expect(writer.h.pread(SIZE, 0) == writer.model, 'contents after the pivot')
    writer.h.shutdown()
    server.quit()
    with open(os.path.join(box.path, 'model'), 'wb') as f:
        f.write(writer.model)
    text = tool(box, 'qemu-img', 'compare', '-f', 'raw', '-F', target_fmt, 'model',
                target)
    expect_equal(text, 'Images are identical.\n', f'{source_fmt} to {target_fmt}')
    for image, fmt in ((source, source_fmt), (target, target_fmt)):
        if fmt == 'qcow2':
            check_image(box, image)


def test(box, args):
    nbd = nbd_module()
    for number, case in enumerate(CASES):
        one(box, args, nbd, number, *case)


run(test)

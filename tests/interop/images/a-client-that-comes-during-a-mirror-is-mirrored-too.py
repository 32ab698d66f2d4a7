#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: what a client writes that was let in after a mirror began is on the target too, and after the pivot its
writes go there.
Method: a slow mirror, an export of the source made meanwhile, writes through it before the job is ready, when it is, and
after it has completed; both files are read afterwards.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, make_image, poke, run  # noqa: E402


def with_copy_mode(box, args, mode):
    make_image(box, 's.raw', 'raw', '4M', 'write -q -P 1 0 4M')
    make_image(box, 't.raw', 'raw', '4M')
    server = Server(box, args.daemon)
    server.add_image('s', 's.raw', 'raw')
    server.add_image('t', 't.raw', 'raw')
    server.qmp('blockdev-mirror', **{'job-id': 'm', 'device': 's', 'target': 't', 'sync': 'full', 'speed': 1 << 20,
                                     'copy-mode': mode})
    uri = server.export('s', writable=True)
    poke(box, uri, 'raw', 'write -q -P 5 0 100k', 'write -q -P 6 3M 100k')
    server.qmp('block-job-set-speed', device='m', speed=0)
    server.wait_event('BLOCK_JOB_READY')
    poke(box, uri, 'raw', 'write -q -P 7 1M 5000')
    server.qmp('job-complete', id='m')
    server.wait_event('BLOCK_JOB_COMPLETED')
    poke(box, uri, 'raw', 'write -q -P 8 2M 5000')
    server.quit()
    poke(box, 't.raw', 'raw', 'read -q -P 5 0 100k', 'read -q -P 6 3M 100k', 'read -q -P 7 1M 5000', 'read -q -P 8 2M 5000',
         'read -q -P 1 200k 10k')
    poke(box, 's.raw', 'raw', 'read -q -P 1 2M 5000')
    os.unlink(os.path.join(box.path, 's.raw'))
    os.unlink(os.path.join(box.path, 't.raw'))


def test(box, args):
    for mode in ('background', 'write-blocking'):
        with_copy_mode(box, args, mode)


run(test)

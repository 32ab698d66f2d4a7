#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: fio finds every block again that it wrote through an export.
Method: random writes at depth 16 with crc32c verification, on raw and qcow2.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, make_image, run,  # noqa: E402
                    tool)
from sandbox import Skip  # noqa: E402


def test(box, args):
    if 'nbd' not in tool(box, 'fio', '--enghelp'):
        raise Skip('this fio has no nbd engine')
    for fmt, mode, block in (('raw', 'randwrite', '4k'),
                             ('qcow2', 'randwrite', '4k'),
                             ('qcow2', 'randrw', '512-96k')):
        image = f'disk.{fmt}'
        make_image(box, image, fmt, '16M')
        server = Server(box, args.daemon)
        server.add_image('d', image, fmt)
        uri = server.export('d', writable=True)
        block_option = '--bsrange=' if '-' in block else '--bs='
        text = tool(box, 'fio', '--name=job', '--ioengine=nbd', f'--uri={uri}',
                    f'--rw={mode}', block_option + block, '--size=16M',
                    '--iodepth=16', '--verify=crc32c', '--verify_fatal=1',
                    '--do_verify=1', '--randseed=5', '--output-format=terse',
                    '--allow_mounted_write=1')
        expect('verify' not in text.lower(), f'{fmt} {mode}: {text}')
        server.quit()
    check_image(box, 'disk.qcow2')


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: nbdcopy brings a disk into an export and out of it unchanged.
Method: noise with holes into raw and qcow2 over several connections, and back.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, check_image, expect, expect_equal,  # noqa: E402
                    make_image, random_file, read_file, run, tool)

SIZE = 24 << 20


def test(box, args):
    random_file(box, 'in', SIZE)
    wanted = read_file(box, 'in')
    for fmt in ('raw', 'qcow2'):
        image = f'disk.{fmt}'
        make_image(box, image, fmt, SIZE)
        server = Server(box, args.daemon)
        server.add_image('d', image, fmt)
        uri = server.export('d', writable=True)
        tool(box, 'nbdcopy', '--flush', '--connections=4', '--requests=32',
             'in', uri)
        tool(box, 'nbdcopy', '--connections=4', uri, 'out')
        expect(read_file(box, 'out') == wanted, f'{fmt}: what came back differs')
        tool(box, 'nbdcopy', '--synchronous', '--allocated', uri, 'out2')
        expect(read_file(box, 'out2') == wanted, f'{fmt}: synchronous copy differs')
        server.quit()
        text = tool(box, 'qemu-img', 'compare', '-f', 'raw', '-F', fmt, 'in', image)
        expect_equal(text, 'Images are identical.\n', f'compare {fmt}')
    check_image(box, 'disk.qcow2')
    # From one export to another, through both servers' sockets.
    make_image(box, 'copy.qcow2', 'qcow2', SIZE)
    server = Server(box, args.daemon)
    server.add_image('from', 'disk.raw', 'raw')
    server.add_image('to', 'copy.qcow2', 'qcow2')
    tool(box, 'nbdcopy', '--flush', server.export('from'),
         server.export('to', writable=True))
    server.quit()
    check_image(box, 'copy.qcow2')
    tool(box, 'qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'in', 'copy.qcow2')


run(test)

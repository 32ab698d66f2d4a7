#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: nbdinfo sees size, description, flags, block sizes and allocation.
Method: exports of a sparse raw file and a qcow2 image, read-only and writable.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import (Server, expect, expect_equal, make_image, run,  # noqa: E402
                    tool)

MIB = 1 << 20


def test(box, args):
    make_image(box, 'a.raw', 'raw', '8M', 'write -P 1 1M 1M', 'write -P 2 4M 64k')
    make_image(box, 'b.qcow2', 'qcow2', '8M', 'write -P 1 1M 1M', 'write -z 4M 64k')
    server = Server(box, args.daemon)
    server.add_image('a', 'a.raw', 'raw')
    server.add_image('b', 'b.qcow2', 'qcow2')
    ro = server.export('a', description='a raw disk')
    rw = server.export('b', writable=True)

    info = json.loads(tool(box, 'nbdinfo', '--json', ro))
    export = info['exports'][0]
    expect_equal(info['protocol'], 'newstyle-fixed', 'protocol')
    expect_equal(export['export-size'], 8 * MIB, 'size of a')
    expect_equal(export['description'], 'a raw disk', 'description')
    expect_equal(export['is_read_only'], True, 'read-only')
    expect_equal(export['can_trim'], False, 'trim on a read-only export')
    expect_equal(export['can_flush'], True, 'flush')
    expect_equal(export['can_multi_conn'], True, 'multi-conn')
    expect_equal(export['can_cache'], True, 'cache')
    expect_equal(export['can_df'], True, 'structured replies with DF')
    expect('base:allocation' in export['contexts'], 'base:allocation')

    export = json.loads(tool(box, 'nbdinfo', '--json', rw))['exports'][0]
    for flag in ('can_flush', 'can_fua', 'can_trim', 'can_zero', 'can_fast_zero',
                 'can_cache', 'can_multi_conn'):
        expect_equal(export[flag], True, flag)
    expect_equal(export['is_read_only'], False, 'read-only')
    expect(export['block_size_minimum'] in (1, 512), 'minimum block size')
    expect(export['block_size_maximum'] >= 32 * MIB, 'maximum block size')

    names = [e['export-name'] for e in json.loads(
        tool(box, 'nbdinfo', '--list', '--json', server.uri('')))['exports']]
    expect_equal(sorted(names), ['a', 'b'], 'list of exports')
    expect_equal(tool(box, 'nbdinfo', '--size', rw).strip(), str(8 * MIB), 'size')

    extents = json.loads(tool(box, 'nbdinfo', '--map', '--json', ro))
    expect_equal([(e['offset'], e['length'], e['type']) for e in extents],
                 [(0, MIB, 3), (MIB, MIB, 0), (2 * MIB, 2 * MIB, 3),
                  (4 * MIB, 65536, 0), (4 * MIB + 65536, 4 * MIB - 65536, 3)],
                 'map of the raw file')
    extents = json.loads(tool(box, 'nbdinfo', '--map', '--json', rw))
    data = [(e['offset'], e['length']) for e in extents if not e['type'] & 2]
    expect_equal(data, [(MIB, MIB)], 'data of the qcow2 image')
    expect_equal(sum(e['length'] for e in extents), 8 * MIB, 'the map is whole')
    server.quit()


run(test)

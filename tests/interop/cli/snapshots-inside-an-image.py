#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: liveblk snapshot makes, lists, applies and deletes snapshots, and refuses what is not meant.
Method: the peer's qemu-img tells what is in the image, and checks it; refusals leave the file as it was.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal, make_image, read_file, tool  # noqa: E402


def names(box, image):
    lines = tool(box, 'qemu-img', 'snapshot', '-l', image).splitlines()[2:]
    return [line.split()[1] for line in lines]


def verbs(box, cli):
    make_image(box, 'disk', 'qcow2', '2M', 'write -P 1 0 1M')
    expect_equal(cli('snapshot', 'disk'), 'no snapshots\n', 'an image without')
    expect_equal(cli.json('snapshot', 'disk', 'list'), [], 'json of an image without')
    expect_equal(cli('snapshot', 'disk', 'create', 'first'), 'created snapshot first (id 1) of disk\n', 'create')
    tool(box, 'qemu-io', '-c', 'write -P 2 512k 1M', 'disk')
    got = cli.json('snapshot', 'disk', 'create', 'second')
    expect_equal((got['id'], got['name'], got['vm-state-size']), ('2', 'second', 0), 'json of create')
    expect_equal([s['name'] for s in cli.json('snapshot', 'disk')], ['first', 'second'], 'list')
    expect('first' in cli('snapshot', 'disk', 'list'), 'the list names it')
    expect_equal([s['id'] for s in cli.json('info', 'disk')['snapshots']], ['1', '2'], 'info')
    expect_equal(names(box, 'disk'), ['first', 'second'], 'what the peer sees')
    check_image(box, 'disk')
    expect_equal(cli('snapshot', 'disk', 'apply', 'first'), 'applied snapshot first (id 1) of disk\n', 'apply')
    tool(box, 'qemu-io', '-c', 'read -P 1 0 1M', '-c', 'read -P 0 1M 1M', 'disk')
    check_image(box, 'disk')
    cli('snapshot', 'disk', 'apply', '2')
    tool(box, 'qemu-io', '-c', 'read -P 1 0 512k', '-c', 'read -P 2 512k 1M', 'disk')
    expect_equal(cli('snapshot', '--quiet', 'disk', 'delete', 'first'), '', 'delete, quietly')
    expect_equal(names(box, 'disk'), ['second'], 'after delete')
    check_image(box, 'disk')


def refusals(box, cli):
    make_image(box, 'disk', 'qcow2', '1M', 'write -P 1 0 64k')
    make_image(box, 'narrow', 'qcow2', '1M')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=1', 'narrow', '1M')
    tool(box, 'qemu-io', '-c', 'write 0 64k', 'narrow')
    make_image(box, 'plain.img', 'raw', '1M')
    cli('snapshot', 'disk', 'create', 'a')
    cli('snapshot', '--same-name', 'disk', 'create', 'a')
    before = {n: read_file(box, n) for n in ('disk', 'narrow', 'plain.img')}
    cli.fails(1, 'already', 'snapshot', 'disk', 'create', 'a')
    cli.fails(1, '2 snapshots by the name', 'snapshot', 'disk', 'apply', 'a')
    cli.fails(1, 'no snapshot', 'snapshot', 'disk', 'delete', 'b')
    cli.fails(1, 'no snapshot', 'snapshot', 'disk', 'apply', 'b')
    cli.fails(1, 'too narrow', 'snapshot', 'narrow', 'create', 'a')
    cli.fails(1, 'no snapshots inside', 'snapshot', '-f', 'raw', 'plain.img', 'create', 'a')
    cli.fails(1, 'at most 255', 'snapshot', 'disk', 'create', 'n' * 256)
    cli.fails(2, 'is not list', 'snapshot', 'disk', 'make', 'a')
    cli.fails(2, 'which snapshot', 'snapshot', 'disk', 'create')
    cli.fails(2, 'takes no', 'snapshot', 'disk', 'list', 'a')
    cli.fails(2, 'force-share', 'snapshot', '-U', 'disk', 'delete', 'a')
    for name, data in before.items():
        expect(read_file(box, name) == data, f'{name} has changed')
        if name != 'plain.img':
            check_image(box, name)


def test(box, cli):
    verbs(box, cli)
    refusals(box, cli)


run_cli(test)

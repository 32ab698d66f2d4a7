#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: resize, rebase and commit change what they say and nothing else; measure and bench tell what is true.
Method: the peer's compare and check judge contents; refusals leave every file as it was.
"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal, make_image, read_file, tool  # noqa: E402


def chain(box):
    """base (1M) <- mid (2M) <- top, and what top shows as want.raw."""
    make_image(box, 'base', 'qcow2', '1M', 'write -P 1 0 256k')
    for name, below, size, *commands in (('mid', 'base', '2M', 'write -P 2 64k 64k', 'write -z 128k 64k'),
                                         ('top', 'mid', '2M', 'write -P 3 1100k 64k')):
        tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', name, size)
        tool(box, 'qemu-io', *[w for c in commands for w in ('-c', c)], name)
    make_image(box, 'other', 'qcow2', '3M', 'write -P 9 0 3M')
    tool(box, 'qemu-img', 'convert', '-O', 'raw', 'top', 'want.raw')


def judge(box, name):
    expect_equal(tool(box, 'qemu-img', 'compare', '-F', 'raw', name, 'want.raw'), 'Images are identical.\n', name)
    check_image(box, name)


def backing_of(box, cli, name):
    return cli.json('info', name).get('backing-filename')


def rebases(box, cli):
    chain(box)
    for words, below in ((('-b', 'base', '-F', 'qcow2'), 'base'), (('-b', 'other', '-F', 'qcow2'), 'other'),
                         (('-b', 'base', '-F', 'qcow2'), 'base'), (('--flatten',), None)):
        cli('rebase', *words, 'top')
        expect_equal(backing_of(box, cli, 'top'), below, f'rebase {words}')
        judge(box, 'top')
    # Nothing below it before.
    got = cli.json('rebase', '-b', 'other', '-F', 'qcow2', 'top')
    expect_equal(got, {'filename': 'top', 'backing-filename': 'other', 'backing-filename-format': 'qcow2'}, 'json')
    judge(box, 'top')
    os.rename(os.path.join(box.path, 'other'), os.path.join(box.path, 'moved'))
    cli('rebase', '--only-name', '-b', 'moved', '-F', 'qcow2', 'top')
    judge(box, 'top')


def commits(box, cli):
    chain(box)
    expect_equal(cli('commit', '--dry-run', 'top'), 'would write what top has of its own into mid, and empty it\n', 'dry')
    before = read_file(box, 'mid')
    cli('commit', '--dry-run', '--base', 'base', 'top')
    expect(read_file(box, 'mid') == before, '--dry-run wrote')
    cli('commit', 'top')
    for name in ('top', 'mid'):
        judge(box, name)
    extents = cli.json('map', 'top')
    expect(all(e['depth'] > 0 for e in extents), f'top is not empty: {extents}')
    got = cli.json('commit', '--base', 'base', 'top')
    expect_equal((got['filename'], got['emptied']), ('top', False), 'json')
    for name in ('top', 'mid', 'base'):
        judge(box, name)


def resizes(box, cli):
    make_image(box, 'r.qcow2', 'qcow2', '1M', 'write -P 1 0 1M')
    expect_equal(cli('resize', '-n', 'r.qcow2', '+1M'), 'would resize r.qcow2 from 1048576 to 2097152 bytes\n', 'dry')
    for size, now, *words in (('+1M', 2 << 20), ('4M', 4 << 20), ('3M', 3 << 20, '--shrink'), ('6M', 6 << 20, '--preallocation=falloc')):
        cli('resize', *words, 'r.qcow2', size)
        expect_equal(cli.json('info', 'r.qcow2')['virtual-size'], now, f'resize {size}')
        check_image(box, 'r.qcow2')
    cli('resize', '--shrink', 'r.qcow2', '--', '-5M')
    expect_equal(tool(box, 'qemu-io', '-c', 'read -P 1 0 1M', 'r.qcow2').count('failed'), 0, 'contents')
    got = cli.json('resize', 'r.qcow2', '2M')
    expect_equal(got, {'filename': 'r.qcow2', 'virtual-size-before': 1 << 20, 'virtual-size': 2 << 20}, 'json')


def measures(box, cli):
    for words in (('-O', 'qcow2', 'other'), ('-O', 'raw', 'other'), ('--size', '1G'), ('--size', '1G', '-O', 'raw')):
        ours = cli.json('measure', *words)
        peer = words if '-O' in words else ('-O', 'qcow2') + words
        theirs = tool(box, 'qemu-img', 'measure', *peer)
        expect_equal([int(n) for n in re.findall(r'size: (\d+)', theirs)][:2],
                     [ours['required'], ours['fully-allocated']], f'measure {words}')


def benches(box, cli):
    expect('500 reads of 4096 bytes, 4 at once' in cli('bench', '--count', '500', '-d', '4', 'other'), 'bench')
    got = cli.json('bench', '--count', '100', '--size', '64K', '--write', '--force', 'r.qcow2')
    expect_equal((got['requests'], got['bytes']), (100, 65536), 'json')
    expect_equal(tool(box, 'qemu-io', '-c', 'read -P 0 0 1M', 'r.qcow2').count('failed'), 0, 'bench --write')


def refusals(box, cli):
    chain(box)
    tool(box, 'truncate', '-s', '1M', 'a.raw')
    before = {n: read_file(box, n) for n in os.listdir(box.path) if os.path.isfile(os.path.join(box.path, n))}
    for status, wanted, *words in (
            (1, '--shrink', 'resize', 'base', '512k'), (1, 'for images that grow', 'resize', '--shrink', '--preallocation=full', 'base', '512k'),
            (1, 'not possible', 'resize', 'base', '--', '-2M'), (2, 'is not a size', 'resize', 'base', 'much'),
            (1, 'Could not open', 'resize', 'nothing', '1M'),
            (2, 'what is to lie below', 'rebase', 'top'), (2, 'format of the backing', 'rebase', '-b', 'base', 'top'),
            (2, 'would lose', 'rebase', '--only-name', '--flatten', 'top'), (1, 'Could not open', 'rebase', '-b', 'nothing', '-F', 'raw', 'top'),
            (1, 'knows no backing', 'rebase', '-f', 'raw', '--flatten', 'a.raw'),
            (1, 'has no backing', 'commit', 'base'), (1, 'is not below', 'commit', '--base', 'other', 'top'),
            (1, 'is not below', 'commit', '--base', 'nothing', 'top'), (2, 'one of an image and --size', 'measure'),
            (2, 'one of an image and --size', 'measure', '--size', '1M', 'base'), (2, 'power of two', 'measure', '--size', '1M', '--cluster-size', '100'),
            (2, 'add --force', 'bench', '--write', 'base')):
        cli.fails(status, wanted, *words)
    for name, data in before.items():
        expect(read_file(box, name) == data, f'{name} changed')


def test(box, cli):
    rebases(box, cli)
    commits(box, cli)
    resizes(box, cli)
    chain(box)
    measures(box, cli)
    benches(box, cli)
    refusals(box, cli)


run_cli(test)

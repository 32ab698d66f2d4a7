#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: convert copies every format into every other, whole, sparse, atomically; compare finds
what differs. Method: the peer's compare and check judge; sizes are looked at.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal, make_image, poke, random_file, read_file, tool  # noqa: E402


def judge(box, a, fmt_a, b, fmt_b):
    expect_equal(tool(box, 'qemu-img', 'compare', '-f', fmt_a, '-F', fmt_b, a, b), 'Images are identical.\n', b)
    if fmt_b == 'qcow2':
        check_image(box, b)


def blocks(box, name):
    return os.stat(os.path.join(box.path, name)).st_blocks * 512


def copies(box, cli):
    random_file(box, 'noise.img', 9 << 20)
    tool(box, 'truncate', '-s', '+7M', 'noise.img')
    tool(box, 'truncate', '-s', '+512', 'noise.img')
    make_image(box, 'chain0.qcow2', 'qcow2', '8M', 'write -P 1 1M 3M')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'chain0.qcow2', '-F', 'qcow2', 'chain.qcow2', '9M')
    poke(box, 'chain.qcow2', 'qcow2', 'write -P 2 2M 64k', 'write -z 3M 64k')
    tool(box, 'qemu-img', 'convert', '-c', '-O', 'qcow2', 'noise.img', 'packed.qcow2')
    n = 0
    for source, fmt in (('noise.img', 'raw'), ('chain.qcow2', 'qcow2'), ('packed.qcow2', 'qcow2')):
        for target, *words in (('raw', '-O', 'raw'), ('qcow2',), ('qcow2', '-o', 'cluster-size=4k'),
                               ('qcow2', '-m', '1'), ('qcow2', '--compress'),
                               ('qcow2', '-z', '-o', 'compression-type=zstd,cluster-size=256k'), ('raw', '-O', 'raw', '-m', '64', '--no-sparse')):
            n += 1
            name = f'{n}.{target}'
            cli('convert', *words, source, name)
            judge(box, source, fmt, name, target)
            size = os.stat(os.path.join(box.path, name)).st_size
            if '--no-sparse' in words:
                expect(blocks(box, name) >= size // 4096 * 4096, f'{name} has holes')
            elif source == 'chain.qcow2':
                expect(blocks(box, name) < 5 << 20, f'{name} has no holes')
    got = cli.json('convert', 'chain.qcow2', 'j.qcow2')
    expect_equal((got['filename'], got['format'], got['virtual-size']), ('j.qcow2', 'qcow2', 9 << 20), 'json')
    expect(0 <= got['seconds'] < 30, 'seconds')
    cli('convert', '--image-opts', 'driver=qcow2,file.driver=file,file.filename=chain.qcow2', 'o.raw')
    judge(box, 'chain.qcow2', 'qcow2', 'o.raw', 'raw')


def refusals(box, cli):
    before = {n: os.stat(os.path.join(box.path, n)).st_size for n in os.listdir(box.path)}
    for wanted, *words in (
            ("Could not open 'nothing'", 'nothing', 'x.raw'), ("'o.raw' exists", 'noise.img', 'o.raw'),
            ("'o.raw' exists", '-n', 'noise.img', 'o.raw'), ('No such file', 'noise.img', 'nowhere/x.raw'),
            ('is a directory', '--force', 'noise.img', '.'),
            ('cannot be compressed', '-z', '-O', 'raw', 'noise.img', 'x.raw'), ('clustersize', '-o', 'clustersize=4k', 'noise.img', 'x.qcow2'),
            ('lock', '--force', '2.qcow2', '2.qcow2')):
        cli.fails(1, wanted, 'convert', *words)
    cli.fails(1, 'File too large', 'convert', 'noise.img', 'x.raw', file_size_max=4 << 20)
    cli.fails(1, 'error while writing', 'convert', 'noise.img', 'x.qcow2', file_size_max=4 << 20)
    expect_equal({n: os.stat(os.path.join(box.path, n)).st_size for n in os.listdir(box.path)}, before, 'the folder')
    expect('would make x.qcow2 with a copy, format qcow2' in cli('convert', '-n', 'noise.img', 'x.qcow2'), 'dry run')
    cli('convert', '--force', 'noise.img', 'o.raw')
    judge(box, 'noise.img', 'raw', 'o.raw', 'raw')


def differences(box, cli):
    expect_equal(cli('compare', 'noise.img', '2.qcow2'), 'identical\n', 'compare')
    expect_equal(cli('compare', '-q', 'noise.img', '2.qcow2'), '', 'compare -q')
    expect_equal(cli.json('compare', 'noise.img', '2.qcow2'), {'identical': True}, 'compare, json')
    for at in (0, 511, 65536 * 3 + 17, (16 << 20) + 511):
        data = bytearray(read_file(box, 'noise.img'))
        data[at] ^= 1
        data[-1] ^= 2       # also a later one: the first is told
        with open(os.path.join(box.path, 'other.img'), 'wb') as f:
            f.write(data)
        expect_equal(cli('compare', '-f', 'raw', '-F', 'raw', 'noise.img', 'other.img', status=3),
                     f'different: content at {at}\n', f'compare, {at}')
        expect_equal(cli.json('compare', 'noise.img', 'other.img', status=3),
                     {'identical': False, 'difference': 'content', 'offset': at}, f'compare, json, {at}')
    # Longer, with zeroes, is the same, unless --strict; with data it is not.
    tool(box, 'cp', 'noise.img', 'long.img')
    tool(box, 'truncate', '-s', '+1M', 'long.img')
    cli('compare', 'noise.img', 'long.img')
    cli('compare', 'long.img', 'noise.img')
    expect_equal(cli('compare', '--strict', 'noise.img', 'long.img', status=3), f'different: size at {(16 << 20) + 512}\n',
                 '--strict')
    poke(box, 'long.img', 'raw', f'write -P 1 {17 << 20} 512')
    expect_equal(cli('compare', 'noise.img', 'long.img', status=3), f'different: content at {17 << 20}\n', 'longer')
    cli.fails(1, "Could not open 'nothing'", 'compare', 'noise.img', 'nothing')
    cli.fails(1, "Could not open 'nothing'", 'compare', 'nothing', 'noise.img')
    cli.fails(1, 'not in qcow2 format', 'compare', '-F', 'qcow2', 'noise.img', 'noise.img')


def test(box, cli):
    copies(box, cli)
    refusals(box, cli)
    differences(box, cli)


run_cli(test)

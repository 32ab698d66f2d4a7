#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: create makes what was asked for, replaces nothing unasked, and leaves nothing on failure.
Method: every option against the peer's info and check; every way to fail against the folder.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal, read_file, tool  # noqa: E402

MADE = [
    ('a.qcow2', ['64M'], 'qcow2', 64 << 20, {}),
    ('a.img', ['1.5M'], 'raw', 3 << 19, {}),
    ('b', ['-f', 'raw', '0'], 'raw', 0, {}),
    ('c.raw', ['-f', 'qcow2', '512'], 'qcow2', 512, {}),
    ('d.qcow2', ['1T', '-o', 'cluster-size=256k'], 'qcow2', 1 << 40, {'cluster-size': 262144}),
    ('e.qcow2', ['1M', '-o', 'version=v2'], 'qcow2', 1 << 20, {}),
    ('f.qcow2', ['4M', '-o', 'preallocation=metadata,refcount-bits=8'], 'qcow2', 4 << 20, {}),
    ('g.qcow2', ['-b', 'a.qcow2', '-F', 'qcow2'], 'qcow2', 64 << 20, {'backing-filename': 'a.qcow2'}),
    ('h.qcow2', ['-b', 'a.img', '-F', 'raw', '8M'], 'qcow2', 8 << 20, {'backing-filename': 'a.img'}),
]
REFUSED = [
    ("'a.img' exists", 'a.img', '1M'),
    ('is a directory', 'folder', '1M', '--force'),
    ("Could not create 'nowhere/x': No such file", 'nowhere/x', '1M'),
    ('format of the backing image is not given', 'x.qcow2', '-b', 'a.img'),
    ('raw image cannot have a backing', 'x.img', '-b', 'a.img', '-F', 'raw'),
    ('nothing.qcow2', 'x.qcow2', '-b', 'nothing.qcow2', '-F', 'qcow2'),
    ('cluster-sizes', 'x.qcow2', '1M', '-o', 'cluster-sizes=4k'),
    ('Cluster size must be', 'x.qcow2', '1M', '-o', 'cluster-size=5k'),
    ('preallocation', 'x.img', '1M', '-o', 'preallocation=some'),
]


def info(box, name):
    return json.loads(tool(box, 'qemu-img', 'info', '--output=json', name))


def test(box, cli):
    os.mkdir(os.path.join(box.path, 'folder'))
    for name, words, fmt, size, more in MADE:
        cli('create', name, *words)
        got = info(box, name)
        expect_equal((got['format'], got['virtual-size']), (fmt, size), name)
        for key, value in more.items():
            expect_equal(got[key], value, f'{name} {key}')
        if fmt == 'qcow2':
            check_image(box, name)
    before = sorted(os.listdir(box.path))
    for wanted, *words in REFUSED:
        cli.fails(1, wanted, 'create', *words)
        expect_equal(sorted(os.listdir(box.path)), before, f'the folder after {words}')
    cli.fails(1, 'File too large', 'create', '-o', 'preallocation=full', 'big.img', '64M', file_size_max=1 << 20)
    folder = os.path.join(box.path, 'folder')
    os.chmod(folder, 0o555)
    cli.fails(1, 'Permission denied', 'create', 'folder/x', '1M', obey_permissions=True)
    os.chmod(folder, 0o755)
    expect_equal(sorted(os.listdir(box.path)), before, 'the folder')

    # --force and --dry-run
    old = read_file(box, 'a.img')
    cli.fails(1, "'a.img' exists", 'create', '-n', 'a.img', '1M')
    expect('would replace a.img' in cli('create', '-n', '--force', 'a.img', '1M'), 'dry run')
    expect_equal(cli.json('create', '-n', 'new.img', '1M'),
                 {'dry-run': True, 'filename': 'new.img', 'format': 'raw', 'replaces': False}, 'dry run')
    expect_equal((read_file(box, 'a.img'), sorted(os.listdir(box.path))), (old, before), 'after dry runs')
    expect_equal(cli.json('create', '--force', 'a.img', '2M'), {'filename': 'a.img', 'format': 'raw'}, 'json')
    expect_equal(info(box, 'a.img')['virtual-size'], 2 << 20, 'replaced')
    # A link is followed; what leads nowhere is not an invitation.
    os.symlink('a.img', os.path.join(box.path, 'link.img'))
    cli('create', '--force', 'link.img', '3M')
    expect(os.path.islink(os.path.join(box.path, 'link.img')), 'the link is gone')
    expect_equal(info(box, 'a.img')['virtual-size'], 3 << 20, 'behind the link')
    # In use by another.
    cli('serve', '-d', 'a.qcow2')
    cli.fails(1, 'lock', 'create', '--force', 'a.qcow2', '1M')
    cli('qmp', 'quit')
    expect_equal(info(box, 'a.qcow2')['virtual-size'], 64 << 20, 'the image in use')


run_cli(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: bitmap, amend and io do what they say to an image that the peer reads, and refuse the rest.
Method: the peer's info, check and bitmaps over NBD judge; --dry-run and refusals leave every file as it was.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal, make_image, read_file, tool  # noqa: E402


def peer_info(box, name):
    return json.loads(tool(box, 'qemu-img', 'info', '--output=json', name))['format-specific']['data']


def bitmaps(box, cli):
    make_image(box, 'disk', 'qcow2', '2M')
    expect_equal(cli('bitmap', 'disk'), 'no bitmaps\n', 'an image without')
    expect_equal(cli.json('bitmap', 'disk', 'list'), [], 'json of an image without')
    expect_equal(cli('bitmap', 'disk', 'add', 'a'), 'added bitmap a of disk\n', 'add')
    expect_equal(cli.json('bitmap', 'disk', 'add', 'b', '--disabled', '-g', '4K'), {'filename': 'disk', 'name': 'b'}, 'json')
    cli('io', 'disk', 'write -P 7 64k 100k')
    got = {b['name']: b for b in cli.json('bitmap', 'disk')}
    expect_equal(got, {'a': {'name': 'a', 'granularity': 65536, 'recording': True, 'count': 131072},
                       'b': {'name': 'b', 'granularity': 4096, 'recording': False, 'count': 0}}, 'list')
    expect_equal({b['name']: b['granularity'] for b in peer_info(box, 'disk')['bitmaps']}, {'a': 65536, 'b': 4096},
                 'what the peer sees')
    cli('bitmap', 'disk', 'merge', 'b', 'a')
    cli('bitmap', 'disk', 'clear', 'a')
    cli('bitmap', 'disk', 'enable', 'b')
    cli('bitmap', 'disk', 'disable', 'a')
    got = [(b['name'], b['recording'], b['count']) for b in cli.json('bitmap', 'disk')]
    expect_equal(sorted(got), [('a', False, 0), ('b', True, 131072)], 'merge, clear, enable, disable')
    # What another image's bitmap marks, and copies that keep bitmaps.
    cli('convert', '--bitmaps', 'disk', 'copy')
    expect_equal(sorted((b['name'], b['recording'], b['count']) for b in cli.json('bitmap', 'copy')), sorted(got), 'copied')
    cli('bitmap', 'disk', 'merge', 'a', 'b', '--from', 'copy', '--from-format', 'qcow2')
    expect_equal([b['count'] for b in cli.json('bitmap', 'disk') if b['name'] == 'a'], [131072], 'merged from a file')
    before = read_file(box, 'disk')
    for verb in (('remove', 'a'), ('clear', 'a'), ('add', 'c'), ('merge', 'a', 'b')):
        expect('would have' in cli('bitmap', '-n', 'disk', *verb), f'dry {verb}')
    expect(read_file(box, 'disk') == before, '--dry-run wrote')
    cli('bitmap', 'disk', 'remove', 'a')
    expect_equal([b['name'] for b in peer_info(box, 'disk')['bitmaps']], ['b'], 'removed')
    check_image(box, 'disk')


def amends(box, cli):
    cli('create', 'old', '1M', '-o', 'version=v2')
    cli('io', 'old', 'write -P 5 0 1M')
    before = read_file(box, 'old')
    expect_equal(cli('amend', '-n', '-o', 'version=v3', 'old'), 'would amend old: version=v3\n', 'dry')
    expect(read_file(box, 'old') == before, '--dry-run wrote')
    expect_equal(cli.json('amend', '-o', 'version=v3', 'old'), {'filename': 'old'}, 'json')
    cli('amend', '-o', 'refcount-bits=64,lazy-refcounts=on', 'old')
    got = peer_info(box, 'old')
    expect_equal((got['compat'], got['refcount-bits'], got['lazy-refcounts']), ('1.1', 64, True), 'amended')
    cli('amend', '-q', '-o', 'version=v2,refcount-bits=16,lazy-refcounts=off', 'old')
    expect_equal(peer_info(box, 'old')['compat'], '0.10', 'back')
    check_image(box, 'old')
    expect('failed' not in tool(box, 'qemu-io', '-c', 'read -P 5 0 1M', 'old'), 'contents')


def by_hand(box, cli):
    text = cli('io', 'old', 'read -P 5 0 64k', 'length')
    expect('read 65536/65536' in text and text.endswith('1 MiB\n'), f'io: {text}')
    text = cli('io', '-r', 'old', stdin='length\nread 0 512\nquit\nlength\n')
    expect(text.startswith('1 MiB\nread 512/512') and text.count('1 MiB\n') == 1, f'io from standard input: {text}')
    got = cli('io', '--output=json', 'old', 'write -P 6 0 4k', status=0)
    got = json.loads(got)
    expect_equal((got['command'], got['failed'], 'wrote 4096/4096' in got['output']), ('write -P 6 0 4k', False, True), 'json')
    status, out, err = cli.call('io', '-r', 'old', 'write 0 4k', 'length')
    expect_equal((status, '1 MiB' in out), (1, True), f'a write where none is allowed: {err}')
    status, out, err = cli.call('io', 'old', 'raed 0 4k')
    expect(status == 1 and 'not found' in err, f'no such command: {status} {err}')


def parts(box, cli):
    cli('convert', '--offset', '64k', '--length', '64k', 'disk', 'part.img')
    expect(read_file(box, 'part.img') == b'\7' * 65536, 'a part')
    cli('convert', 'part.img', 'disk', 'part.img', 'several')
    expect_equal(cli.json('info', 'several')['virtual-size'], (2 << 20) + 2 * 65536, 'several sources')
    tool(box, 'qemu-io', '-c', 'read -P 7 0 64k', '-c', 'read -P 0 64k 64k', '-c', 'read -P 7 128k 100k',
         '-c', 'read -P 7 2112k 64k', 'several')
    check_image(box, 'several')
    cli('convert', '--existing', 'part.img', 'several')
    # What lies behind the copy stays.
    tool(box, 'qemu-io', '-c', 'read -P 7 0 64k', '-c', 'read -P 0 64k 64k', '-c', 'read -P 7 128k 100k', 'several')
    cli('snapshot', 'disk', 'create', 's')
    cli('io', 'disk', 'write -P 8 0 2M')
    cli('convert', '--snapshot', 's', 'disk', 'then.img')
    data = read_file(box, 'then.img')
    expect(len(data) == 2 << 20 and data.count(b'\7') == 102400 and data.count(b'\0') == len(data) - 102400, 'a snapshot')
    cli('create', 'over', '-b', 'disk', '-F', 'qcow2')
    cli('io', 'over', 'write -P 9 0 64k')
    cli('convert', '-b', 'disk', '-F', 'qcow2', 'over', 'over2')
    expect_equal(cli.json('info', 'over2')['backing-filename'], 'disk', 'backing')
    expect(os.stat(os.path.join(box.path, 'over2')).st_size < 1 << 20, 'the overlay holds only its own')
    expect_equal(cli('compare', 'over', 'over2'), 'identical\n', 'overlay')


def refusals(box, cli):
    cli('create', 'v2', '1M', '-o', 'version=v2')
    tool(box, 'truncate', '-s', '1M', 'a.raw')
    before = {n: read_file(box, n) for n in os.listdir(box.path) if os.path.isfile(os.path.join(box.path, n))}
    for status, wanted, *words in (
            (2, "did you mean 'remove'", 'bitmap', 'disk', 'remov', 'b'), (2, 'say which', 'bitmap', 'disk', 'add'),
            (2, 'takes no', 'bitmap', 'disk', 'list', 'b'), (2, 'are for add', 'bitmap', '-g', '4K', 'disk', 'clear', 'b'),
            (2, 'which bitmaps', 'bitmap', 'disk', 'merge', 'b'), (2, 'only merge', 'bitmap', 'disk', 'clear', 'b', 'c'),
            (2, 'for merge', 'bitmap', '--from', 'copy', 'disk', 'clear', 'b'), (2, 'force-share', 'bitmap', '-U', 'disk', 'add', 'z'),
            (1, 'no bitmap by the name', 'bitmap', 'disk', 'clear', 'z'), (1, 'no bitmap by', 'bitmap', 'disk', 'merge', 'b', 'b', 'z'),
            (1, 'already exists', 'bitmap', 'disk', 'add', 'b'), (1, 'power of 2', 'bitmap', '-g', '1000', 'disk', 'add', 'z'),
            (1, 'stores no bitmaps', 'bitmap', 'a.raw', '-f', 'raw', 'add', 'z'), (1, 'differ in size', 'bitmap', '--from', 'old2', 'disk', 'merge', 'b', 'x'),
            (1, 'bitmaps', 'bitmap', 'v2', 'add', 'z'),
            (2, 'what is to change', 'amend', 'v2'), (2, "did you mean 'version'", 'amend', '-o', 'versoin=v3', 'v2'),
            (2, 'liveblk resize', 'amend', '-o', 'size=2M', 'v2'), (2, 'liveblk rebase', 'amend', '-o', 'backing-file=x', 'v2'),
            (2, 'not v2 or v3', 'amend', '-o', 'version=4', 'v2'), (2, 'on or off', 'amend', '-o', 'lazy-refcounts=perhaps', 'v2'),
            (2, 'is not 1, 2', 'amend', '-o', 'refcount-bits=3', 'v2'), (2, 'KEY=VALUE', 'amend', '-o', 'version', 'v2'),
            (1, 'compatibility level', 'amend', '-o', 'lazy-refcounts=on', 'v2'), (1, 'nothing to amend', 'amend', '-f', 'raw', '-o', 'version=v3', 'a.raw'),
            (1, 'Could not open', 'io', 'nothing', 'length'),
            (2, 'single source', 'convert', '--length', '64k', 'disk', 'a.raw', 'new'), (2, 'multiples of 512', 'convert', '--offset', '100', 'disk', 'new'),
            (1, 'no such part', 'convert', '--offset', '3M', 'disk', 'new'), (1, 'no such part', 'convert', '--offset', '1M', '--length', '2M', 'disk', 'new'),
            (1, "Can't find snapshot", 'convert', '--snapshot', 'z', 'disk', 'new'), (2, 'go together', 'convert', '-b', 'disk', 'over', 'new'),
            (1, 'is not the backing image', 'convert', '-b', 'copy', '-F', 'qcow2', 'over', 'new'),
            (1, 'cannot be overwritten', 'convert', 'disk', 'nbd://127.0.0.1:1/x'), (2, 'new ones', 'convert', '--existing', '--force', 'disk', 'copy'),
            (1, 'too small', 'convert', '--existing', 'disk', 'v2'), (1, 'store no bitmaps', 'convert', '--bitmaps', '-O', 'raw', 'disk', 'new'),
            (2, 'goes with', 'convert', '--skip-broken-bitmaps', 'disk', 'new')):
        cli.fails(status, wanted, *words)
    for name, data in before.items():
        expect(read_file(box, name) == data, f'{name} changed')
    expect(not os.path.exists(os.path.join(box.path, 'new')), 'a half made target')


def dry(box, cli):
    before = {n: read_file(box, n) for n in ('disk', 'over')}
    expect_equal(cli('snapshot', '-n', 'disk', 'apply', 's'), 'would have applied snapshot s (id 1) of disk\n', 'apply')
    expect_equal(cli('snapshot', '-n', 'disk', 'create', 't'), 'would have created snapshot t of disk\n', 'create')
    expect(cli.json('snapshot', '-n', 'disk', 'delete', 's')['dry-run'], 'delete')
    expect_equal(cli('rebase', '-n', '--flatten', 'over'), 'would put nothing below over\n', 'flatten')
    expect_equal(cli('rebase', '-n', '-b', 'copy', '-F', 'qcow2', 'over'), 'would put copy below over\n', 'rebase')
    expect_equal(cli('convert', '-n', '--existing', 'disk', 'over'), 'would write a copy into over\n', 'convert')
    for name, data in before.items():
        expect(read_file(box, name) == data, f'--dry-run wrote {name}')


def test(box, cli):
    bitmaps(box, cli)
    amends(box, cli)
    by_hand(box, cli)
    parts(box, cli)
    cli('create', 'old2', '1M')
    cli('bitmap', 'old2', 'add', 'x')
    refusals(box, cli)
    dry(box, cli)


run_cli(test)

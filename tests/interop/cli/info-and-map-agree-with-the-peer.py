#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: info and map tell what the peer tells of the same image. Method: images of several kinds,
both programs' JSON compared; the text for people is read back.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, make_image, tool  # noqa: E402

KEYS = ['virtual-size', 'filename', 'format', 'cluster-size', 'backing-filename', 'backing-filename-format', 'dirty-flag']


def compare_info(box, cli, image):
    theirs = json.loads(tool(box, 'qemu-img', 'info', '--output=json', image))
    ours = cli.json('info', image)
    for key in KEYS:
        expect_equal(ours.get(key), theirs.get(key), f'{image}: {key}')
    a, b = ours.get('format-specific'), theirs.get('format-specific')
    if b is not None and b['type'] == 'qcow2':
        for key, value in b['data'].items():
            expect_equal(a['data'].get(key), value, f'{image}: {key}')
    text = cli('info', image)
    expect(f'({theirs["virtual-size"]} bytes)' in text and theirs['format'] in text, text)


def compare_map(box, cli, image):
    theirs = json.loads(tool(box, 'qemu-img', 'map', '--output=json', image))
    ours = cli.json('map', image)
    for e in ours:
        if theirs and 'compressed' not in theirs[0]:    # older peers
            del e['compressed']
    expect_equal(ours, theirs, f'map of {image}')
    lines = cli('map', image).splitlines()
    expect(len(lines) == len(ours) + (1 if ours else 0), '\n'.join(lines))
    at = 0
    for line in lines[1:]:
        start, length = (int(w, 16) for w in line.split()[:2])
        expect_equal(start, at, f'{image}: {line}')
        at += length
    expect_equal(at, cli.json('info', image)['virtual-size'], f'{image}: the end of the map')


def test(box, cli):
    make_image(box, 'a.img', 'raw', '3M', 'write -P 1 1M 64k', 'write -P 2 2M 4k')
    make_image(box, 'b.qcow2', 'qcow2', '10M', 'write -P 1 1M 200k', 'write -z 3M 1M', 'write -P 4 9M 1M',
               'discard 9M 64k')
    make_image(box, 'c.qcow2', 'qcow2', '5M', cluster_size='4k', lazy_refcounts='on', compat='1.1')
    make_image(box, 'd.qcow2', 'qcow2', '5M', 'write -P 1 0 3M', compat='0.10')
    make_image(box, 'odd.img', 'raw', '1000001')
    make_image(box, 'odd2.img', 'raw', '300003', 'write -P 1 8k 4k', 'write -P 1 290k 500')
    tool(box, 'truncate', '-s', '300003', 'odd2.img')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'b.qcow2', '-F', 'qcow2', 'e.qcow2', '12M')
    tool(box, 'qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 64k', '-c', 'write -z 9M 128k', 'e.qcow2')
    tool(box, 'qemu-img', 'convert', '-c', '-O', 'qcow2', 'b.qcow2', 'f.qcow2')
    images = ['a.img', 'b.qcow2', 'c.qcow2', 'd.qcow2', 'odd.img', 'odd2.img', 'e.qcow2', 'f.qcow2']
    for image in images:
        compare_info(box, cli, image)
        compare_map(box, cli, image)
    chain = cli.json('info', '--chain', 'e.qcow2')
    expect_equal(chain['backing-image']['filename'], 'b.qcow2', 'the chain')
    expect_equal(cli.json('info', '--image-opts', 'driver=qcow2,file.driver=file,file.filename=c.qcow2')['virtual-size'],
                 5 << 20, '--image-opts')
    expect_equal(cli.json('info', '-f', 'raw', 'c.qcow2')['format'], 'raw', '--format')
    for words, wanted in (
            (['nothing'], "Could not open 'nothing': No such file or directory"), (['.'], "Could not open '.'"),
            (['-f', 'qcow2', 'a.img'], 'not in qcow2 format'),
            (['--image-opts', 'driver=qcow2,file.driver=file,file.filename=a.img'], 'not in qcow2 format'),
            (['--image-opts', 'driver=qcow2,fil=x'], 'driver=qcow2')):
        cli.fails(1, wanted, 'info', *words)
        cli.fails(1, wanted, 'map', *words)
    # While a writer has it: refused, but for --force-share.
    cli('serve', '-d', 'c.qcow2')
    cli.fails(1, 'lock', 'info', 'c.qcow2')
    expect_equal(cli.json('info', '-U', 'c.qcow2')['virtual-size'], 5 << 20, '--force-share')
    cli('map', '--force-share', 'c.qcow2')
    cli('qmp', 'quit')


run_cli(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: what is copied into a new image that is encrypted, or onto a device, is what was there, its zeroes too: what the
file holds there is not what the disk shows. New space of encrypted images, preallocated or not, reads as zeroes.
Method: our tools make and lengthen images; the peer reads them.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

SECRET = ('--object', 'secret,id=s,data=pass')
NEW = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'
QCOW2 = 'driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=a'
LUKS = 'driver=luks,key-secret=s,file.filename=a'
KINDS = ('preallocation=metadata', 'preallocation=full,cluster_size=512', 'preallocation=falloc,extended_l2=on',
         'preallocation=metadata,compat=0.10,cluster_size=4k', 'preallocation=full,compat=0.10',
         'data_file=d,data_file_raw=on', 'data_file=d,preallocation=full', 'cluster_size=2M')


def same(box, opts, what):
    status, text = box.run(['qemu-img', 'compare', *SECRET, '--image-opts', 'driver=raw,file.filename=source', opts])
    expect(status == 0, f'{what}: {text}')


def images(box, img, cli):
    for kind in KINDS:
        tool(box, 'rm', '-f', 'a', 'd')
        tool(box, img, 'convert', '-f', 'raw', '-O', 'qcow2', *SECRET, '-o', f'{NEW},{kind}', 'source', 'a')
        same(box, QCOW2, kind)
        tool(box, 'qemu-img', 'check', '-q', *SECRET, '--image-opts', QCOW2)
    for mode in ('metadata', 'falloc', 'full'):
        tool(box, 'rm', '-f', 'a')
        tool(box, img, 'create', '-q', '-f', 'qcow2', *SECRET, '-o', f'{NEW},cluster_size=4k', 'a', '1M')
        tool(box, img, 'resize', '-q', f'--preallocation={mode}', *SECRET, '--image-opts', QCOW2, '2M')
        out = tool(box, 'qemu-io', '-r', *SECRET, '--image-opts', QCOW2, '-c', 'read -P 0 0 2M')
        expect('failed' not in out, f'after growing with preallocation={mode}: {out}')
    tool(box, 'rm', '-f', 'a')
    tool(box, img, 'convert', '-f', 'raw', '-O', 'luks', *SECRET, '-o', 'key-secret=s,iter-time=10', 'source', 'a')
    same(box, LUKS, 'a disk encrypted as a whole')
    for options, opts in (('-O luks -o iter-time=10', LUKS),
                          ('-O qcow2 -o encrypt.format=luks,encrypt.iter-time=10,preallocation=metadata', QCOW2)):
        tool(box, 'rm', '-f', 'a')
        tool(box, cli, 'convert', '--secret', 'pass', '-f', 'raw', *options.split(), 'source', 'a')
        same(box, opts, f'liveblk convert {options}')


def refused(box, img, cli):
    status, text = box.run([img, 'convert', '-c', '-f', 'raw', '-O', 'qcow2', *SECRET, '-o', NEW, 'source', 'n'])
    expect(status == 1 and 'Compression and encryption not supported at the same time' in text, text)
    expect(not os.path.exists(os.path.join(box.path, 'n')), 'an image is left behind')
    status, text = box.run([cli, 'convert', '-z', '--secret', 'pass', '-f', 'raw', '-O', 'qcow2', '-o',
                            'encrypt.format=luks,encrypt.iter-time=10', 'source', 'n'])
    expect(status == 1 and 'Encrypted images cannot be compressed' in text, text)


def device(box, img, cli):
    status, name = box.run(['losetup', '-f', '--show', 'dev'])
    if status:
        return
    name = name.strip()
    try:
        for command in ([img, 'convert', '-f', 'raw', '-O', 'raw', 'source', name],
                        [img, 'dd', '-f', 'raw', '-O', 'raw', 'if=source', f'of={name}'],
                        [cli, 'convert', '-q', '--force', '-f', 'raw', '-O', 'raw', 'source', name]):
            with open(name, 'r+b') as f:
                f.write(b'old!' * (1 << 18))
            tool(box, *command)
            same(box, f'driver=raw,file.driver=host_device,file.filename={name}', ' '.join(command))
    finally:
        box.run(['losetup', '-d', name])


def test(box, args):
    build = os.path.dirname(args.daemon)
    img, cli = os.path.join(build, 'compat', 'qemu-img'), os.path.join(build, 'liveblk')
    if not os.path.exists(img) or not os.path.exists(cli):
        raise Skip('no programs beside the daemon')
    for name, data, size in (('source', b'hello' * 100, 1 << 20), ('dev', b'', 1 << 20), ('pass', b'pass', 4)):
        with open(os.path.join(box.path, name), 'wb') as f:
            f.write(data)
            f.truncate(size)
    images(box, img, cli)
    refused(box, img, cli)
    device(box, img, cli)


run(test)

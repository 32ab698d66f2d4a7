#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an image lives on a device, whose length is what it is and which is full of what was there before.
Method: on an NBD export of random bytes and, where the kernel gives one, on a loop device: create, write, snapshots, bitmaps, new
lengths, amend, convert, until the device is full; after each step both programs check, and contents are compared. Convert a
disk that is mostly zeroes to every format there, and into ciphers, which turn unwritten space into noise.
"""
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, read_file, run, tool  # noqa: E402
from sandbox import Skip, require  # noqa: E402

DEVICE, SIZE = 12 << 20, 4 << 20


def fill(path):
    with open(path, 'wb') as f:
        f.write(random.Random(1).randbytes(DEVICE))


class Image:
    def __init__(self, box, ours, name):
        self.box, self.ours, self.name = box, ours, name
        self.model = bytearray(SIZE)

    def img(self, *words):
        return tool(self.box, os.path.join(self.ours, 'qemu-img'), *words)

    def write(self, value, at, n, program='ours'):
        io = os.path.join(self.ours, 'qemu-io') if program == 'ours' else 'qemu-io'
        tool(self.box, io, '-f', 'qcow2', '-c', f'write -P {value} {at} {n}', self.name)
        self.model[at:at + n] = bytes([value]) * n
        self.same(f'{program} wrote {value}')

    def same(self, when):
        for program in (os.path.join(self.ours, 'qemu-img'), 'qemu-img'):
            tool(self.box, program, 'check', '-q', '-f', 'qcow2', self.name)
        self.img('convert', '-f', 'qcow2', '-O', 'raw', self.name, 'out')
        expect(read_file(self.box, 'out') == bytes(self.model), f'{self.name}: contents, {when}')


def live(box, ours, name):
    i = Image(box, ours, name)
    i.img('create', '-q', '-f', 'qcow2', name, SIZE)
    i.same('after create')
    i.write(1, 100 << 10, 1000 << 10)
    i.write(2, 2 << 20, 4096)
    i.img('snapshot', '-c', 'a', name)
    i.same('after a snapshot')
    i.img('bitmap', '--add', '-f', 'qcow2', name, 'b')
    i.write(3, 150 << 10, 1000 << 10)
    i.write(4, (3 << 20) + 512, 1024, 'peer')
    i.img('snapshot', '-a', 'a', name)
    i.model[150 << 10:1150 << 10] = b'\x01' * (950 << 10) + bytes(50 << 10)
    i.model[3 << 20:4 << 20] = bytes(1 << 20)
    i.same('after it was applied')
    i.img('snapshot', '-d', 'a', name)
    i.img('bitmap', '--remove', '-f', 'qcow2', name, 'b')
    i.img('resize', '-q', '-f', 'qcow2', name, '2T')
    i.img('resize', '-q', '-f', 'qcow2', '--shrink', name, SIZE)
    i.same('after other lengths')
    i.img('amend', '-f', 'qcow2', '-o', 'refcount_bits=64', name)
    i.same('after amend')
    # More than there is room for: told, and nothing is lost.
    i.img('resize', '-q', '-f', 'qcow2', name, DEVICE * 2)
    tool(box, os.path.join(ours, 'qemu-io'), '-f', 'qcow2', '-c', f'write -P 5 {SIZE} {DEVICE}', name, status=1)
    i.img('resize', '-q', '-f', 'qcow2', '--shrink', name, SIZE)
    i.same('after it was full')
    i.img('create', '-q', '-f', 'raw', 'small', SIZE)
    tool(box, 'qemu-io', '-f', 'raw', '-c', 'write -P 9 1M 64k', 'small')
    i.img('create', '-q', '-f', 'qcow2', name, SIZE)
    i.img('convert', '-n', '-f', 'raw', '-O', 'qcow2', 'small', name)
    i.model = bytearray(read_file(box, 'small'))
    i.same('after convert')


SECRET = ('--object', 'secret,id=s,data=abc')
LUKS = 'iter-time=10'


def copies(box, ours, name, fill_again):
    """The zeroes of the source are zeroes there, whatever the place held."""
    img = os.path.join(ours, 'qemu-img')
    for fmt, options in (('raw', ''), ('qcow2', 'preallocation=metadata'), ('qcow2', 'preallocation=falloc'),
                         ('luks', f'key-secret=s,{LUKS}'),
                         ('qcow2', f'encrypt.format=luks,encrypt.key-secret=s,encrypt.{LUKS},preallocation=metadata')):
        fill_again()
        cipher = 'encrypt' in options or fmt == 'luks'
        extra = (*SECRET, '-o', options) if cipher else ('-o', options) if options else ()
        tool(box, img, 'convert', '-f', 'raw', '-O', fmt, *extra, 'small', name)
        where = f'driver=host_device,filename={name}' if name.startswith('/dev') else \
            f'driver=nbd,server.type=unix,server.path={name.split("=")[1]}' if name.startswith('nbd') else \
            f'driver=file,filename={name}'
        node = f'driver={fmt},' + ','.join('file.' + w for w in where.split(','))
        if cipher:
            node += ',key-secret=s' if fmt == 'luks' else ',encrypt.key-secret=s'
        tool(box, 'qemu-img', 'convert', *SECRET, '--image-opts', '-O', 'raw', node, 'out')
        expect(read_file(box, 'out')[:SIZE] == read_file(box, 'small'), f'{name}, {fmt}, {options}: contents')


def on_loop(box, ours, path):
    made = subprocess.run(['losetup', '-f', '--show', path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True)
    device = made.stdout.strip()
    if made.returncode or not device:
        return
    try:
        live(box, ours, device)
        copies(box, ours, device, lambda: tool(box, 'dd', 'status=none', 'bs=1M', 'if=noise', f'of={device}'))
    finally:
        subprocess.run(['losetup', '-d', device], check=True)


def test(box, args):
    ours = os.path.join(os.path.dirname(args.daemon), 'compat')
    if not os.path.exists(ours):
        raise Skip('no compat programs beside the daemon')
    path, socket = os.path.join(box.path, 'device'), os.path.join(box.path, 's')
    fill(path)
    fill(os.path.join(box.path, 'noise'))
    require('nbdkit')
    box.background(['nbdkit', '-f', '-U', socket, 'file', path])
    while not os.path.exists(socket):
        time.sleep(0.02)
    name = f'nbd+unix:///?socket={socket}'
    live(box, ours, name)
    copies(box, ours, name, lambda: fill(path))
    copies(box, ours, 'file', lambda: None)
    path += '2'
    fill(path)
    on_loop(box, ours, path)


run(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: an encrypted image made by either program is read and written by both, with every cipher that both know;
without the password nobody gets at it, and nothing of it lies in the file in the clear.
Method: our programs and the peer's change one image by turns, a model says what it has to show.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, read_file, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

SIZE = 4 << 20
KINDS = ('', 'cipher-alg=aes-128', 'cipher-alg=serpent-256', 'cipher-alg=cast5-128,cipher-mode=cbc',
         'cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256', 'cipher-mode=cbc,ivgen-alg=plain', 'hash-alg=sha512',
         'hash-alg=sha1', 'hash-alg=ripemd160', 'cipher-mode=ecb', 'cipher-mode=ctr', 'cluster_size=4k', 'extended_l2=on')
SECRET = ('--object', 'secret,id=s,data=pass')
OPTS = 'driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=a'


def create(box, img, kind, backing):
    options = ''.join(',' + (w if w.split('=')[0] in ('cluster_size', 'extended_l2') else 'encrypt.' + w)
                      for w in kind.split(',') if w)
    tool(box, 'rm', '-f', 'a')
    extra = ('-b', 'base', '-F', 'raw') if backing else ()
    for _ in range(25):
        # The peer of version 7 cannot always measure its own speed in so short a time: it gives up, or never ends.
        status, text = box.run(['timeout', '20', img, 'create', '-q', '-f', 'qcow2', *SECRET, *extra, '-o',
                                f'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10{options}', 'a', str(SIZE)])
        if status != 124 and 'accurate CPU usage' not in text:
            break
    expect(status == 0, f'create {options}: {text}')


def change(box, io, rng, model):
    words = []
    for _ in range(rng.randrange(2, 8)):
        at = rng.randrange(SIZE // 512) * 512 + rng.choice([0, 0, 0, 100])
        n = min(rng.choice([512, 1000, 4096, 65536, 300000]), SIZE - at)
        value = rng.randrange(1, 255)
        if rng.random() < 0.2:
            words += ['-c', f'write -z {at} {n}']
            value = 0
        else:
            words += ['-c', f'write -P {value} {at} {n}']
        model[at:at + n] = bytes([value]) * n
    tool(box, io, *SECRET, '--image-opts', OPTS, *words)


def verify(box, img, model, what):
    tool(box, img, 'convert', *SECRET, '--image-opts', OPTS, '-O', 'raw', 'out')
    expect(read_file(box, 'out') == model, f'{what}: contents differ')
    tool(box, img, 'check', '-q', *SECRET, '--image-opts', OPTS)


def test(box, args):
    ours = os.path.join(os.path.dirname(args.daemon), 'compat')
    if not os.path.exists(os.path.join(ours, 'qemu-io')):
        raise Skip('no compat programs beside the daemon')
    sides = [('qemu-img', 'qemu-io'), tuple(os.path.join(ours, n) for n in ('qemu-img', 'qemu-io'))]
    with open(os.path.join(box.path, 'base'), 'wb') as f:
        f.write(b'B' * (SIZE // 2))
    for number, kind in enumerate(KINDS):
        rng = random.Random(number)
        backing = number % 3 == 1
        create(box, sides[1 if number % 2 else rng.randrange(2)][0] if kind == '' else sides[1][0], kind, backing)
        model = bytearray((b'B' * (SIZE // 2) if backing else b'').ljust(SIZE, b'\0'))
        for step in range(4):
            change(box, sides[(number + step) % 2][1], rng, model)
            for img, _ in sides:
                verify(box, img, bytes(model), f'{kind or "default"}, step {step}, by {img}')
        status, text = box.run([sides[1][1], '--object', 'secret,id=s,data=wrong', '--image-opts', OPTS, '-c', 'read 0 4k'])
        expect(status == 1 and 'Invalid password' in text, f'{kind}: a wrong password: {status} {text}')
    tool(box, sides[1][0], 'convert', *SECRET, '-f', 'raw', '-O', 'qcow2', '-o',
         'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10', 'base', 'b')
    expect(b'B' * 64 not in read_file(box, 'b'), 'the contents are in the clear')
    tool(box, 'qemu-img', 'convert', *SECRET, '--image-opts', OPTS.replace('=a', '=b'), '-O', 'raw', 'out')
    expect(read_file(box, 'out') == read_file(box, 'base'), 'convert to an encrypted image')


run(test)

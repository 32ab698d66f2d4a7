#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: liveblk makes, opens, copies and changes encrypted images with a password from a file, says how to give
it where it is missing, and warns of one on the command line.
Method: each command on a luks disk and an encrypted qcow2 image; contents are compared.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, read_file  # noqa: E402


def test(box, cli):
    for name, word in (('pw', 'pass'), ('pw2', 'two'), ('bad', 'wrong')):
        with open(os.path.join(box.path, name), 'w', encoding='ascii') as f:
            f.write(word)
    cli('create', '-f', 'luks', '--secret', 'pw', '-o', 'iter-time=10', 'a.luks', '1M')
    cli('io', '--secret', 'pw', 'a.luks', 'write -P 3 0 1M')
    cli('convert', '--secret', 'pw', 'a.luks', 'b.raw')
    expect(read_file(box, 'b.raw') == b'\3' * (1 << 20), 'the copy differs')
    cli('convert', '--secret', 'pw', '-O', 'qcow2', '-o', 'encrypt.format=luks,encrypt.iter-time=10', 'a.luks', 'c.qcow2')
    for image in ('a.luks', 'c.qcow2'):
        cli('compare', '--secret', 'pw', 'b.raw', image)
        cli.fails(1, '--secret FILE', 'compare', 'b.raw', image)
        cli.fails(1, 'Invalid password', 'compare', '--secret', 'bad', 'b.raw', image)
        expect_equal(cli.json('info', image)['encrypted'], True, 'info needs no password')
        cli('amend', '--secret', 'pw', '--secret', 'id=new,file=pw2', '-o', 'new-secret=new,iter-time=10', image)
        cli('amend', '--secret', 'pw2', '-o', 'keyslot=0', image)
        cli('compare', '--secret', 'pw2', 'b.raw', image)
        cli.fails(1, 'Invalid password', 'compare', '--secret', 'pw', 'b.raw', image)
        cli.fails(1, 'refusing operation', 'amend', '--secret', 'pw2', '-o', 'keyslot=1', image)
    status, _, err = cli.call('compare', '--secret', 'data=two', 'b.raw', 'a.luks')
    expect(status == 0 and 'can be seen by everybody' in err, f'a password on the command line: {status} {err}')
    cli('compare', '--secret', 'id=k,file=pw2', '--image-opts',
        'driver=luks,key-secret=k,file.driver=file,file.filename=a.luks', 'driver=raw,file.driver=file,file.filename=b.raw')
    cli.fails(1, 'nofile', 'info', '--secret', 'nofile', 'a.luks')
    cli.fails(1, 'two secrets', 'info', '--secret', 'pw', '--secret', 'pw2', 'a.luks')
    cli.fails(1, '--secret FILE', 'create', '-f', 'luks', 'x.luks', '1M')
    expect(not os.path.exists(os.path.join(box.path, 'x.luks')), 'what could not be made is there')


run_cli(test)

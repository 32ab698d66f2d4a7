#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: disks of the format luks are those of cryptsetup: each opens the other's, and passwords that one adds or
erases are there, or gone, for the other.
Method: cryptsetup tries passwords on files, which needs no device; what we read of its disk is what its key gives.
"""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

SECRETS = ('--object', 'secret,id=s,file=pw', '--object', 'secret,id=t,file=pw2')
KINDS = ('', ',cipher-mode=cbc,ivgen-alg=essiv', ',cipher-mode=cbc,ivgen-alg=plain', ',hash-alg=sha512', ',cipher-alg=aes-128',
         ',hash-alg=ripemd160')


def test(box, args):
    cryptsetup = shutil.which('cryptsetup') or '/usr/sbin/cryptsetup'
    folder = os.path.join(os.path.dirname(args.daemon), 'compat')
    if not os.path.exists(cryptsetup) or not os.path.exists(os.path.join(folder, 'qemu-io')):
        raise Skip('no cryptsetup, or no compat programs beside the daemon')
    img, io = (os.path.join(folder, n) for n in ('qemu-img', 'qemu-io'))
    for name, word in (('pw', 'pass'), ('pw2', 'two')):
        with open(os.path.join(box.path, name), 'w', encoding='ascii') as f:
            f.write(word)

    def theirs(disk, key):
        return box.run([cryptsetup, 'open', '--test-passphrase', '--key-file', key, disk])[0] == 0

    def ours(disk, secret):
        return box.run([io, *SECRETS, '--image-opts', f'driver=luks,key-secret={secret},file.filename={disk}',
                        '-c', 'read 0 64k'])[0] == 0

    def amend(disk, secret, words):
        tool(box, img, 'amend', *SECRETS, '--image-opts', f'driver=luks,key-secret={secret},file.filename={disk}', '-o', words)

    for number, kind in enumerate(KINDS):
        disk = f'd{number}'
        tool(box, img, 'create', '-q', '-f', 'luks', *SECRETS, '-o', 'key-secret=s,iter-time=10' + kind, disk, '1M')
        expect(theirs(disk, 'pw') and not theirs(disk, 'pw2'), f'{kind}: cryptsetup and the password of create')
        amend(disk, 's', 'state=active,new-secret=t,iter-time=10')
        expect(theirs(disk, 'pw') and theirs(disk, 'pw2'), f'{kind}: cryptsetup and a password that was added')
        amend(disk, 't', 'state=inactive,old-secret=s')
        expect(not theirs(disk, 'pw') and theirs(disk, 'pw2'), f'{kind}: cryptsetup and a password that was erased')
    tool(box, 'truncate', '-s', '4M', 'c')
    tool(box, cryptsetup, '-q', 'luksFormat', '--type', 'luks1', '--pbkdf-force-iterations', '1000', 'c', '--key-file', 'pw')
    expect(ours('c', 's') and not ours('c', 't'), 'a disk of cryptsetup')
    tool(box, cryptsetup, 'luksAddKey', '--key-file', 'pw', '--pbkdf-force-iterations', '1000', 'c', 'pw2')
    expect(ours('c', 's') and ours('c', 't'), 'a password that cryptsetup added')
    tool(box, cryptsetup, '-q', 'luksRemoveKey', 'c', 'pw')
    expect(not ours('c', 's') and ours('c', 't'), 'a password that cryptsetup erased')


run(test)

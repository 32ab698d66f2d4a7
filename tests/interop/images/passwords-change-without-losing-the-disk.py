#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: passwords of an encrypted disk are added, replaced and erased; whatever stops it in the middle, a password that
was to stay or to come opens the disk; a disk with its header elsewhere is made, opened and changed while in use.
Method: all writes after the Nth fail, N = 1, 2, 3 ... until none does, as if the machine had stopped there; our program
and the peer's open what is left.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, read_file, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

WORDS = {'s': 'pass', 't': 'two', 'u': 'three'}
WAIT_S = 4 * float(os.environ.get('INTEROP_WAIT_SECONDS', 15))
SECRETS = [w for k, v in WORDS.items() for w in ('--object', f'secret,id={k},data={v}')]
KINDS = {'luks': ('', 'driver=luks,key-secret={key}'),
         'qcow2': ('encrypt.', 'driver=qcow2,encrypt.format=luks,encrypt.key-secret={key}')}
# What is asked for; the passwords of which one at least has to open the disk wherever it stops.
CHANGES = (
    ('state=active,new-secret=t,iter-time=10', '', 's'),
    ('state=inactive,old-secret=t', 't', 's'),
    ('state=inactive,keyslot=1', 't', 's'),
    ('state=active,new-secret=u,iter-time=10,keyslot=0', 'force', 'su'),
    ('state=active,new-secret=u,iter-time=10,keyslot=0', 'force t', 'tu'),
)


def opens(box, io, options, key):
    status, _ = box.run([io, *SECRETS, '-r', '--image-opts', options.format(key=key) + ',file.filename=b',
                         '-c', 'read -P 7 0 64k'])
    return status == 0


def make(box, img, io, kind, extra):
    prefix, options = KINDS[kind]
    words = f'{prefix}key-secret=s,{prefix}iter-time=10' + (',encrypt.format=luks' if kind == 'qcow2' else '')
    tool(box, 'rm', '-f', 'a')
    tool(box, img, 'create', '-q', '-f', kind, *SECRETS, '-o', words, 'a', '1M')
    image = options.format(key='s') + ',file.filename=a'
    tool(box, io, *SECRETS, '--image-opts', image, '-c', 'write -P 7 0 64k')
    if 't' in extra.split():
        tool(box, img, 'amend', *SECRETS, '--image-opts', image, '-o',
             f'{prefix}state=active,{prefix}new-secret=t,{prefix}iter-time=10')


def stopped_after(box, img, kind, change, force, writes):
    """The change of the image b, of which only so many writes are done. Did it succeed?"""
    prefix, options = KINDS[kind]
    # From one write, which raw tells of, to the next state by state; in the last, all fail.
    config = ''.join(f'[set-state]\nevent = "write_aio"\nstate = "{n}"\nnew_state = "{n + 1}"\n'
                     for n in range(1, writes + 1))
    config += f'[inject-error]\nevent = "write_aio"\niotype = "write"\nerrno = "5"\nstate = "{writes + 1}"\n'
    with open(os.path.join(box.path, 'rules'), 'w', encoding='ascii') as f:
        f.write(config)
    image = (options.format(key='s') + ',file.driver=raw,file.file.driver=blkdebug,file.file.config=rules,'
             'file.file.image.driver=file,file.file.image.filename=b')
    words = ','.join(prefix + w for w in change.split(','))
    status, text = box.run([img, 'amend', *SECRETS, *(['--force'] if force else []), '--image-opts', image, '-o', words])
    expect(status in (0, 1), f'{change}, stopped after {writes}: {status} {text}')
    return status == 0


def stops(box, ours, peer, kind, change, extra, passwords):
    img, io = ours
    make(box, img, io, kind, extra)
    for writes in range(40):
        tool(box, 'cp', 'a', 'b')
        done = stopped_after(box, img, kind, change, 'force' in extra, writes)
        for program in (io, peer):
            expect(any(opens(box, program, KINDS[kind][1], p) for p in passwords),
                   f'{kind}: {change}, stopped after {writes} writes: no password opens it in {program}')
        if done:
            expect(writes >= 2, f'{change}: done after {writes} writes')
            return
    expect(False, f'{change}: fails however many writes succeed')


def detached(box, ours, io):
    """The header in a file of its own; both programs."""
    tool(box, ours[0], 'create', '-q', '-f', 'luks', *SECRETS, '-o', 'detached-header=on,key-secret=s,iter-time=10', 'h', '1M')
    tool(box, 'truncate', '-s', '1M', 'd')
    image = 'driver=luks,key-secret=s,file.filename=d,header.filename=h'
    tool(box, ours[1], *SECRETS, '--image-opts', image, '-c', 'write -P 5 0 1M')
    tool(box, ours[0], 'amend', *SECRETS, '--image-opts', image, '-o', 'state=active,new-secret=t,iter-time=10')
    for program in (ours[1], io):
        for key in ('s', 't'):
            tool(box, program, *SECRETS, '--image-opts', image.replace('=s,', f'={key},'), '-c', 'read -P 5 0 1M')
    expect(b'\5' * 32 not in read_file(box, 'd'), 'the disk is in the clear')


def in_use(box, args, ours):
    """By the daemon, while requests go on."""
    make(box, *ours, 'luks', '')
    server = Server(box, args.daemon, nbd=False)
    for key, word in WORDS.items():
        server.qmp('object-add', **{'qom-type': 'secret', 'id': key, 'data': word})
    server.qmp('blockdev-add', driver='luks', file={'driver': 'file', 'filename': 'a'}, **{'node-name': 'n', 'key-secret': 's'})

    def amend(job, **words):
        server.qmp('x-blockdev-amend', **{'job-id': job, 'node-name': 'n', 'options': {'driver': 'luks', **words}})
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            said = server.qmp('human-monitor-command', **{'command-line': 'qemu-io n "read -P 7 0 64k"'})
            expect('failed' not in said, f'a read meanwhile: {said}')
            found = [j for j in server.qmp('query-jobs') if j['status'] == 'concluded']
            if found:
                server.qmp('job-dismiss', id=job)
                return found[0].get('error', '')
        expect(False, f'{job} does not end')

    expect(amend('add', state='active', **{'new-secret': 't', 'iter-time': 50}) == '', 'adding')
    expect(amend('erase', state='inactive', **{'old-secret': 's'}) == '', 'erasing')
    expect('refusing' in amend('last', state='inactive', **{'old-secret': 't'}), 'the last one')
    server.qmp('blockdev-del', **{'node-name': 'n'})
    tool(box, 'cp', 'a', 'b')
    for program in (ours[1], 'qemu-io'):
        expect(opens(box, program, KINDS['luks'][1], 't') and not opens(box, program, KINDS['luks'][1], 's'),
               f'{program}: not just the new password opens it')


def test(box, args):
    folder = os.path.join(os.path.dirname(args.daemon), 'compat')
    if not os.path.exists(os.path.join(folder, 'qemu-io')):
        raise Skip('no compat programs beside the daemon')
    ours = [os.path.join(folder, n) for n in ('qemu-img', 'qemu-io')]
    for kind in KINDS:
        for change, extra, passwords in CHANGES:
            stops(box, ours, 'qemu-io', kind, change, extra, passwords)
    in_use(box, args, ours)
    newer = os.path.join(os.environ.get('LIVEBLK_PEER10', '/opt/peer10/bin'), 'qemu-io')
    detached(box, ours, newer if os.path.exists(newer) else ours[1])


run(test)

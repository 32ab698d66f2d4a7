#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a command that needs space where there is none fails, says so, and leaves the image as it was: without an error, and
without leaks where all that it needs is found out before it begins.
Method: our programs on a full file system of 6 MiB; the peer looks at what is left.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, run  # noqa: E402
from sandbox import Skip, private_mount  # noqa: E402

MADE = '$I -c "write -P 1 0 3M" a > out'
FULL = 'head -c 6M /dev/zero > fill'
CASES = (       # what comes before the disk is full, and the command then
    (f'$Q create -q -f qcow2 a 64M; {MADE}', '$Q snapshot -c s a', True),
    (f'$Q create -q -f qcow2 a 64M; {MADE}; $Q snapshot -c s a', '$Q snapshot -a s a', True),
    (f'$Q create -q -f qcow2 -o cluster_size=512 a 64M; {MADE}; $Q snapshot -c s a', '$Q snapshot -c t a', True),
    (f'$Q create -q -f qcow2 a 64M; {MADE}', '$Q bitmap --add -g 512 a b', True),
    (f'$Q create -q -f qcow2 a 64M; {MADE}', '$L bitmap a add b', True),
    (f'$Q create -q -f qcow2 -o cluster_size=512 a 8M; {MADE}', '$Q amend -o refcount_bits=64 a', True),
    (f'$Q create -q -f qcow2 a 64M; {MADE}', '$Q resize a 1P', True),
    (f'$Q create -q -f qcow2 a 64M; {MADE}', '$Q resize --preallocation=full a 80M', True),
    (f'$Q create -q -f raw base 4M; $Q create -q -f qcow2 -b base -F raw a 4M; {MADE}', '$Q commit a', True),
    (f'$Q create -q -f qcow2 a 64M; {MADE}', '$I -c "write -P 7 3M 30M" a', False),
)


def test(box, args):
    build = os.path.dirname(args.daemon)
    if not os.path.exists(os.path.join(build, 'compat', 'qemu-img')):
        raise Skip('no programs beside the daemon')
    prefix = private_mount(box, ('6M', 'small'))
    names = f'Q={build}/compat/qemu-img; I={build}/compat/qemu-io; L={build}/liveblk; cd small; '
    for before, command, clean in CASES:
        script = f'{names}{before}; {FULL}; {command}; echo "status $?"; rm -f fill; qemu-img check a; echo "check $?"; ' \
                 'qemu-io -r -c "read -P 1 0 3M" a'
        status, text = box.run(prefix + ['sh', '-c', script])
        expect('status 1' in text and 'No space left on device' in text, f'{command}: {text}')
        expect('check 0' in text or (not clean and 'check 3' in text), f'{command}: {text}')
        expect('read 3145728/3145728' in text and 'Pattern verification failed' not in text, f'{command}: {text}')


run(test)

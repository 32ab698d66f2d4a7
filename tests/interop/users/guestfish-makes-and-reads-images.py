#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: virt-make-fs and guestfish, which call the image tools by name, work with ours in their place.
Method: our programs come first in PATH (that they were the ones is seen in a log of calls); what guestfish reads back from an
image, an overlay and a compressed copy is what went in; the peer checks the images.
"""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import debian  # noqa: E402
from cli import run_cli  # noqa: E402
from oracle import check_image, expect, expect_equal  # noqa: E402
from sandbox import require  # noqa: E402

# Stands before ours and writes down who is called.
LOGGED = '''#!/bin/sh
echo "$0 $*" >>%s
exec %s "$@"
'''


def environment(box, compat):
    image, modules = debian.kernel()
    debian.index_modules(modules)
    shims = os.path.join(box.path, 'shims')
    os.mkdir(shims)
    log = os.path.join(box.path, 'calls')
    for name in ('qemu-img', 'qemu-io', 'qemu-nbd'):
        with open(os.path.join(shims, name), 'w', encoding='utf-8') as f:
            f.write(LOGGED % (log, os.path.join(compat, name)))
        os.chmod(os.path.join(shims, name), 0o755)
    for d in ('cache', 'tmp'):
        os.mkdir(os.path.join(box.path, d))
    return dict(os.environ, PATH=f'{shims}:/usr/sbin:/sbin:{os.environ["PATH"]}', LIBGUESTFS_BACKEND='direct',
                LIBGUESTFS_BACKEND_SETTINGS='force_tcg', LIBGUESTFS_CACHEDIR=os.path.join(box.path, 'cache'),
                LIBGUESTFS_TMPDIR=os.path.join(box.path, 'tmp'), LIBGUESTFS_MEMSIZE='700',
                SUPERMIN_KERNEL=image, SUPERMIN_MODULES=modules, SUPERMIN_KERNEL_VERSION=os.path.basename(modules)), log


def must(box, argv, env):
    status, out = box.run(argv, env=env, seconds=150)
    expect_equal(status, 0, f'{" ".join(argv)}: {out[-3000:]}')
    return out


def test(box, cli):
    for p in ('guestfish', 'virt-make-fs', 'supermin'):
        require(p)
    compat = os.path.join(os.path.dirname(cli.liveblk), 'compat')
    env, log = environment(box, compat)
    tree = os.path.join(box.path, 'tree')
    shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'), tree,
                    ignore=shutil.ignore_patterns('__pycache__'))

    must(box, ['virt-make-fs', '--format=qcow2', '--type=ext4', '--size=+20M', 'tree', 'made.qcow2'], env)
    check_image(box, 'made.qcow2')
    must(box, ['qemu-img', 'convert', '-c', '-O', 'qcow2', 'made.qcow2', 'small.qcow2'], env)
    must(box, ['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'small.qcow2', '-F', 'qcow2', 'over.qcow2'], env)
    # One appliance for all: a disk that guestfish makes itself, the overlay, and a snapshot of what is read only.
    os.mkdir(os.path.join(box.path, 'out'))
    must(box, ['guestfish', 'disk-create', 'own.qcow2', 'qcow2', '64M', 'preallocation:metadata', ':',
               'add', 'over.qcow2', 'format:qcow2', ':', 'add', 'own.qcow2', 'format:qcow2', ':', 'add-ro', 'made.qcow2', ':',
               'run', ':', 'mkfs', 'ext4', '/dev/sdb', ':', 'mount', '/dev/sda', '/', ':', 'mkdir', '/new', ':',
               'copy-in', 'tree', '/new', ':', 'rm', '/debian.py', ':', 'umount-all', ':', 'mount', '/dev/sdb', '/', ':',
               'copy-in', 'tree', '/', ':', 'umount-all', ':', 'mount-ro', '/dev/sdc', '/', ':', 'copy-out', '/', 'out'], env)
    names = sorted(os.listdir(tree))
    expect_equal(sorted(set(os.listdir(os.path.join(box.path, 'out'))) - {'lost+found'}), names, 'what was made')
    for name in names:
        with open(os.path.join(tree, name), 'rb') as a, open(os.path.join(box.path, 'out', name), 'rb') as b:
            expect(a.read() == b.read(), f'{name} differs')
    for image in ('own.qcow2', 'over.qcow2', 'made.qcow2'):
        check_image(box, image)
    with open(log, encoding='utf-8') as f:
        calls = f.read()
    expect('qemu-img create' in calls or 'qemu-img info' in calls, f'ours were not called: {calls}')


run_cli(test)

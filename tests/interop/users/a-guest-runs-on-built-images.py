#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a disk image is built from Debian's files by a shell script with our programs in place of the usual ones; a guest
starts from it over qemu-nbd and works; another over `liveblk serve` while its disk moves to another file.
Method: the guest checks every file it was given and writes files whose sums it prints; they must be on the disk
afterwards, the file system clean, the image too.
"""
import hashlib
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import debian  # noqa: E402
from cli import Cli, run_cli  # noqa: E402
from oracle import expect, expect_equal  # noqa: E402
from sandbox import require  # noqa: E402

INIT = '''
mount -t ext4 /dev/vda /mnt || poweroff -f
cd /mnt && md5sum -c -s sums && echo ALL FILES ARE THERE
n=0
while [ $n -lt %d ]; do
  dd if=/dev/urandom of=made-$n bs=64k count=32 2>/dev/null
  dd if=/dev/zero of=zero-$n bs=64k count=16 2>/dev/null
  [ $n -lt 2 ] || rm zero-$((n - 2))
  sync
  n=$((n + 1))
  echo ROUND $n
done
echo 3 >/proc/sys/vm/drop_caches
md5sum -c -s sums && md5sum made-* | while read -r sum name; do echo "SUM $sum $name"; done
cd / && umount /mnt && echo ALL DONE
poweroff -f
'''


def must(box, argv, env):
    status, out = box.run(argv, env=env, seconds=60)
    expect_equal(status, 0, f'{" ".join(argv)}: {out}')


def make_root(box):
    """Debian's files, and their sums."""
    root, lines = os.path.join(box.path, 'root'), []
    for folder in debian.packages('base-files', 'busybox-static'):
        shutil.copytree(folder, root, symlinks=True, dirs_exist_ok=True)
    for base, _, files in os.walk(root):
        for f in sorted(files):
            path = os.path.join(base, f)
            if not os.path.islink(path):
                with open(path, 'rb') as data:
                    lines.append(f'{hashlib.md5(data.read()).hexdigest()}  {os.path.relpath(path, root)}\n')
    with open(os.path.join(root, 'sums'), 'w', encoding='utf-8') as out:
        out.writelines(lines)
    expect(len(lines) > 20, 'there are files')
    return root


def judge(box, guest, image):
    """What the guest wrote is in the image. The last flush has been."""
    guest.wait_for('ALL DONE')
    guest.wait_end()
    expect('ALL FILES ARE THERE' in guest.text, guest.text[-2000:])
    tools = dict(os.environ, PATH='/usr/sbin:/sbin:' + os.environ['PATH'])
    must(box, ['qemu-img', 'check', image], tools)
    must(box, ['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, 'after.raw'], tools)
    must(box, ['e2fsck', '-fn', 'after.raw'], tools)
    sums = [line.split()[1:3] for line in guest.text.splitlines() if line.startswith('SUM ')]
    expect(len(sums) >= 3, f'sums: {guest.text[-2000:]}')
    for value, name in sums:
        must(box, ['debugfs', '-R', f'dump /{name} got', 'after.raw'], tools)
        with open(os.path.join(box.path, 'got'), 'rb') as f:
            expect_equal(hashlib.md5(f.read()).hexdigest(), value, name)


def test(box, cli):
    for p in ('mke2fs', 'debugfs', 'e2fsck'):
        require(p) if shutil.which(p) else expect(os.path.exists('/sbin/' + p), f'{p} is not installed')
    image, modules = debian.kernel()
    initrd = os.path.join(box.path, 'initrd')
    compat = os.path.join(os.path.dirname(cli.liveblk), 'compat')
    ours = dict(os.environ, PATH=compat + ':/usr/sbin:/sbin:' + os.environ['PATH'])

    for rounds, name in ((3, 'initrd'), (12, 'initrd-long')):
        debian.initramfs(os.path.join(box.path, name), modules, ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4'],
                         INIT % rounds)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'build-image.sh')
    must(box, ['/bin/sh', script, make_root(box), 'disk'], ours)

    sock = os.path.join(box.path, 's')
    served = box.background([os.path.join(compat, 'qemu-nbd'), '-k', sock, '-f', 'qcow2', '--discard=unmap', 'disk.qcow2'])
    judge(box, debian.Guest(box, image, initrd, f'nbd:unix:{sock}'), 'disk.qcow2')
    expect_equal(served.wait(20), 0, 'qemu-nbd ends with its client')
    must(box, [os.path.join(compat, 'qemu-img'), 'snapshot', '-a', 'built', 'disk.qcow2'], ours)

    # Once more, and the disk moves while the guest runs.
    cli('serve', '--detach', '--name', 'disk', '-s', sock, 'disk.qcow2')
    guest = debian.Guest(box, image, initrd + '-long', f'nbd:unix:{sock}:exportname=disk')
    guest.wait_for('ROUND 1')
    cli('mirror', '--pivot', 'moved.qcow2', seconds=60)
    guest.wait_for('ALL DONE')
    guest.wait_end()
    cli('qmp', 'quit')
    judge(box, guest, 'moved.qcow2')


run_cli(test)

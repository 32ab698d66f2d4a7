#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: `qemu-nbd -c /dev/nbd0` and `liveblk serve --device /dev/nbd0` make a disk of an image: its partitions are there when
the command returns; what is written is in the image when it is disconnected by -d, SIGTERM or quit; a killed server leaves
no disk behind; a device in use is not touched.
Method: a guest with Debian's kernel and its module nbd runs our programs on an image that lies on its own disk, and prints what
it sees; the image is looked at from outside afterwards by the peer.
"""
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import debian  # noqa: E402
from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, tool  # noqa: E402

# One partition from sector 2048 on.
TABLE = b'\0\0\0\0\x83\0\0\0' + (2048).to_bytes(4, 'little') + (32768).to_bytes(4, 'little')

SCRIPT = r'''
busybox --install -s /bin
mkdir -p /var/lock /run /tmp
say() { echo "SEE $*"; }
size() { cat /sys/block/nbd0/size; }
# Those that have ended are zombies until the shell looks after them.
runs() { for p in $(pidof qemu-nbd liveblk); do grep -q . /proc/$p/cmdline && return 0; done; return 1; }
gone() {
  for i in 1 2 3 4 5 6 7 8 9; do
    [ ! -e /sys/block/nbd0/pid ] && [ "$(size)" = 0 ] && ! runs && echo yes && return
    sleep 0.3
  done
  echo "no: $(cat /sys/block/nbd0/pid) $(size)"
}

qemu-nbd -c /dev/nbd0 -f qcow2 --discard=unmap /dev/vda; say connect $?
[ -b /dev/nbd0p1 ] && say partition $(cat /sys/block/nbd0/nbd0p1/size)
say size $(size) ro $(cat /sys/block/nbd0/ro)
qemu-nbd -c /dev/nbd0 -f raw -r /dev/null 2>&1; say again $?
say still $(size)
mke2fs /dev/nbd0p1 >/dev/null 2>&1; mount -t ext4 /dev/nbd0p1 /mnt; say mount $?
dd if=/dev/urandom of=/mnt/kept bs=64k count=40 2>/dev/null
dd if=/dev/urandom of=/mnt/lost bs=64k count=80 2>/dev/null; sync
dd if=/dev/zero of=/mnt/zeroes bs=64k count=10 conv=fsync 2>/dev/null
rm /mnt/lost; fstrim /mnt; say trim $?
echo 3 >/proc/sys/vm/drop_caches
say sum $(md5sum </mnt/kept)
umount /mnt
qemu-nbd -d /dev/nbd0; say disconnect $?
# The server is gone when -d returns: the image is free.
qemu-img check -q -f qcow2 /dev/vda; say check $?
say gone $(gone)
qemu-nbd -d /dev/nbd0; say idle $?

# Written, not flushed: nothing is lost by an orderly end.
dd if=/dev/urandom of=/tmp/noise bs=64k count=32 2>/dev/null
n=0
for how in d term liveblk; do
  case $how in
    liveblk) liveblk serve --detach --name disk -f qcow2 --control /tmp/c --socket /tmp/s --device /dev/nbd0 /dev/vda;;
    *) qemu-nbd -c /dev/nbd0 -f qcow2 /dev/vda;;
  esac
  say $how-connect $?
  dd if=/tmp/noise of=/dev/nbd0 bs=64k seek=$((320 + n)) 2>/dev/null; say $how-write $?
  case $how in
    d) qemu-nbd -d /dev/nbd0 >/dev/null;;
    term) kill $(pidof qemu-nbd);;
    liveblk) liveblk qmp --control /tmp/c quit >/dev/null;;
  esac
  while runs; do sleep 0.1; done
  say $how-gone $(gone)
  n=$((n + 32))
done
say noise $(md5sum </tmp/noise)

# A server that is disconnected goes on, if it is one that does.
liveblk serve --detach --name disk -f qcow2 --control /tmp/c --socket /tmp/s --device /dev/nbd0 /dev/vda >/dev/null; say serve $?
qemu-nbd -d /dev/nbd0 >/dev/null
say served $(liveblk qmp --control /tmp/c query-block-exports | grep -c '"id"')
liveblk qmp --control /tmp/c quit; while runs; do sleep 0.1; done

qemu-nbd -v -c /dev/nbd0 -f qcow2 -r /dev/vda >/tmp/said 2>&1 &
while ! grep -q connected /tmp/said; do sleep 0.1; done
say verbose $(grep connected /tmp/said)
say read-only $(cat /sys/block/nbd0/ro)
dd if=/tmp/noise of=/dev/nbd0 bs=64k 2>/dev/null; say read-only-write $?
qemu-nbd -d /dev/nbd0 >/dev/null; wait

qemu-nbd -t -s -x name -c /dev/nbd0 -f qcow2 /dev/vda; say snapshot $?
dd if=/tmp/noise of=/dev/nbd0 bs=64k 2>/dev/null; say snapshot-write $?
dd if=/dev/nbd0 bs=64k count=32 2>/dev/null | cmp - /tmp/noise; say snapshot-read $?
qemu-nbd -d /dev/nbd0 >/dev/null; say snapshot-gone $(gone)

# The kernel's disk does not outlive a server that is killed, and can be used again at once.
qemu-nbd -c /dev/nbd0 -f qcow2 /dev/vda; kill -9 $(pidof qemu-nbd); say killed $(gone)
dd if=/dev/nbd0 of=/tmp/none bs=512 count=1 2>/dev/null; say read $(stat -c %s /tmp/none)
rm -f /var/lock/qemu-nbd-nbd0
truncate -s 1048777 /tmp/odd; qemu-nbd --fork -c /dev/nbd0 -f raw /tmp/odd; say odd $? $(size)
qemu-nbd -c /dev/nbd1 -f qcow2 -r /dev/vda; say second $? $(cat /sys/block/nbd1/size)
qemu-nbd -d /dev/nbd0 >/dev/null; qemu-nbd -d /dev/nbd1 >/dev/null
qemu-nbd -c /dev/nbd0 -k /tmp/own -e 2 -f qcow2 -r /dev/vda; say own $? $(qemu-img info nbd+unix:///?socket=/tmp/own | grep -c 'virtual size: 32 MiB')
qemu-nbd -d /dev/nbd0 >/dev/null
say left $(ls /var/lock | wc -l)
qemu-img check -q -f qcow2 /dev/vda; say last $?
echo ALL DONE
poweroff -f
'''

WANTED = '''connect 0
partition 32768
size 65536 ro 0
again 1
still 65536
mount 0
trim 0
sum *
disconnect 0
check 0
gone yes
idle 0
d-connect 0
d-write 0
d-gone yes
term-connect 0
term-write 0
term-gone yes
liveblk-connect 0
liveblk-write 0
liveblk-gone yes
noise *
serve 0
served 1
verbose NBD device /dev/nbd0 is now connected to /dev/vda
read-only 1
read-only-write 1
snapshot 0
snapshot-write 0
snapshot-read 0
snapshot-gone yes
killed yes
read 0
odd 0 2049
second 0 65536
own 0 1
left 0
last 0'''


def test(box, cli):
    image, modules = debian.kernel()
    build = os.path.dirname(cli.liveblk)
    with open(os.path.join(box.path, 'start'), 'wb') as f:
        f.write(bytes(446) + TABLE + bytes(48) + b'\x55\xaa')
        f.truncate(32 << 20)
    tool(box, 'qemu-img', 'convert', '-O', 'qcow2', 'start', 'disk')
    # The guest cannot make its disk larger.
    os.truncate(os.path.join(box.path, 'disk'), 48 << 20)
    programs = {'qemu-nbd': f'{build}/compat/qemu-nbd', 'qemu-img': f'{build}/compat/qemu-img', 'liveblk': cli.liveblk}
    debian.initramfs(os.path.join(box.path, 'initrd'), modules, ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4', 'nbd'],
                     SCRIPT, programs, more=debian.loaded_libraries('z', 'nbd'))
    guest = debian.Guest(box, image, os.path.join(box.path, 'initrd'), 'disk')
    guest.wait_for('ALL DONE')
    guest.wait_end()
    seen = [line[4:].strip() for line in guest.text.splitlines() if line.startswith('SEE ')]
    sums = dict(line.split()[:2] for line in seen if line.startswith(('sum ', 'noise ')))
    said = [line.split()[0] + ' *' if line.startswith(('sum ', 'noise ')) else line for line in seen]
    for got, wanted in zip(said, WANTED.splitlines()):
        expect_equal(got, wanted, f'what the guest saw: {guest.text[-6000:]}')
    expect_equal(len(said), len(WANTED.splitlines()), f'lines: {guest.text[-3000:]}')
    expect('Device or resource busy' in guest.text, 'why a device in use cannot be used is not told')

    tool(box, 'qemu-img', 'check', '-f', 'qcow2', 'disk')
    tool(box, 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', 'disk', 'after')
    with open(os.path.join(box.path, 'after'), 'rb') as f:
        after = f.read()
    for k in range(3):
        start = (320 + 32 * k) * 65536
        expect_equal(hashlib.md5(after[start:start + (2 << 20)]).hexdigest(), sums['noise'], f'what was written, {k}')
    with open(os.path.join(box.path, 'part'), 'wb') as f:
        f.write(after[1 << 20:17 << 20])
    tools = dict(os.environ, PATH='/usr/sbin:/sbin:' + os.environ['PATH'])
    for argv in (['e2fsck', '-fn', 'part'], ['debugfs', '-R', 'dump /kept got', 'part']):
        status, out = box.run(argv, env=tools)
        expect_equal(status, 0, f'{argv}: {out}')
    with open(os.path.join(box.path, 'got'), 'rb') as f:
        expect_equal(hashlib.md5(f.read()).hexdigest(), sums['sum'], 'the file that was kept')


run_cli(test)

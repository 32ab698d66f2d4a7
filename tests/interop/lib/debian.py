# SPDX-License-Identifier: MIT
"""debian: a kernel and a small system from Debian's packages, for guests that run on our images.

What:   packages('busybox-static', ...) unpacks them once into the build folder (nothing is installed), and
        returns where they lie. kernel() is (image, folder of modules). initramfs(path, modules, script) packs
        busybox, those modules with what they need, and the script that runs first.
Guest:  an emulated machine (never KVM: where that is nested it hangs) whose console is text.
"""
import fcntl
import glob
import os
import re
import shutil
import subprocess
import time

from sandbox import Skip, TestFailure, require

BUSYBOX_NAMES = ('sh', 'mount', 'umount', 'modprobe', 'insmod', 'switch_root', 'md5sum', 'dd', 'sync', 'poweroff', 'cat',
                 'mkdir', 'echo', 'sleep', 'cmp', 'test', 'rm', 'ls')


def _cache():
    build = os.environ.get('LIVEBLK_PACKAGES')
    if not build:
        build = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', '..', 'build', 'packages')
    os.makedirs(build, exist_ok=True)
    return os.path.abspath(build)


def _fetch(name, place):
    for attempt in range(3):
        got = subprocess.run(['apt-get', '-o', 'APT::Sandbox::User=root', 'download', '-qq', name], cwd=place,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=240)
        found = glob.glob(os.path.join(place, name + '_*.deb'))
        if got.returncode == 0 and found:
            return found[0]
        time.sleep(attempt)
    raise TestFailure(f'apt-get download {name}: {got.stdout}')


def packages(*names):
    """Folder of each, unpacked."""
    require('apt-get')
    require('dpkg-deb')
    cache, found = _cache(), []
    with open(os.path.join(cache, 'lock'), 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            place = os.path.join(cache, name)
            if not os.path.exists(place):
                temp = place + '.part'
                shutil.rmtree(temp, ignore_errors=True)
                os.makedirs(temp)
                deb = _fetch(name, temp)
                subprocess.run(['dpkg-deb', '-x', deb, os.path.join(temp, 'root')], check=True)
                os.unlink(deb)
                os.rename(temp, place)
            found.append(os.path.join(place, 'root'))
    return found


def kernel():
    got = subprocess.run(['apt-cache', 'depends', 'linux-image-amd64'], stdout=subprocess.PIPE, text=True, check=False)
    name = re.search(r'Depends: (linux-image-\S+)', got.stdout)
    if os.uname().machine != 'x86_64' or not name:
        raise Skip('there is no package linux-image-amd64 for this machine')
    root, = packages(name.group(1))
    return glob.glob(root + '/boot/vmlinuz-*')[0], glob.glob(root + '/lib/modules/*')[0]


def index_modules(modules):
    """As installing the package would: for programs that read modules.dep."""
    if not os.path.exists(os.path.join(modules, 'modules.dep')):
        depmod = shutil.which('depmod', path='/usr/sbin:/sbin:' + os.environ['PATH'])
        if depmod is None:
            raise Skip('depmod is not installed')
        subprocess.run([depmod, '-b', modules.split('/lib/modules/', maxsplit=1)[0], os.path.basename(modules)], check=True)


def _module_order(folder, wanted):
    """Paths of those modules and of what they need, in the order of loading."""
    where = {}
    for base, _, files in os.walk(folder):
        for f in files:
            if f.endswith('.ko'):
                where[f[:-3].replace('-', '_')] = os.path.join(base, f)
    order = []

    def add(name):
        path = where.get(name.replace('-', '_'))
        if path is None or path in order:
            return
        with open(path, 'rb') as f:
            needs = re.search(rb'\0depends=([^\0]*)\0', f.read())
        for n in (needs.group(1).decode().split(',') if needs else []):
            add(n)
        order.append(path)

    for name in wanted:
        add(name)
    return order


class Cpio:
    """An archive as the kernel unpacks it (newc)."""

    def __init__(self, path):
        self.out, self.n = open(path, 'wb'), 0

    def add(self, name, mode, data=b''):
        self.n += 1
        fields = (self.n, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b'070701' + b''.join(b'%08x' % f for f in fields) + name.encode() + b'\0'
        self.out.write(head + b'\0' * (-len(head) % 4) + data + b'\0' * (-len(data) % 4))

    def close(self):
        self.add('TRAILER!!!', 0)
        self.out.close()


def _libraries(program):
    """What it is linked with, the loader too."""
    got = subprocess.run(['ldd', program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return set(re.findall(r'(/\S+) \(0x', got.stdout))


def loaded_libraries(*names):
    """Paths of libNAME.so.* here, as the loader finds them."""
    ldconfig = shutil.which('ldconfig', path='/usr/sbin:/sbin:' + os.environ['PATH'])
    got = subprocess.run([ldconfig or 'ldconfig', '-p'], stdout=subprocess.PIPE, text=True, check=False).stdout
    found = [re.search(rf'lib{name}\.so\.\d+ \(.*x86-64\) => (\S+)', got) for name in names]
    if not all(found):
        raise Skip(f'not all of {names} are installed')
    return [m.group(1) for m in found]


def initramfs(path, modules_folder, modules, script, programs=(), more=()):
    """programs: {name in /bin: path here}, with their libraries; more: libraries that are loaded at run time."""
    busybox, = packages('busybox-static')
    order = _module_order(modules_folder, modules)
    c = Cpio(path)
    for d in ('bin', 'proc', 'sys', 'dev', 'mnt', 'modules'):
        c.add(d, 0o40755)
    with open(os.path.join(busybox, 'bin/busybox'), 'rb') as f:
        c.add('bin/busybox', 0o100755, f.read())
    for name in BUSYBOX_NAMES:
        c.add('bin/' + name, 0o120777, b'busybox')
    files = {'bin/' + name: p for name, p in dict(programs).items()}
    for p in list(files.values()) + list(more):
        files.update((lib.lstrip('/'), lib) for lib in _libraries(p))
    files.update((lib.lstrip('/'), lib) for lib in more)
    folders = {'bin'}
    for name in sorted(files):
        above = os.path.dirname(name)
        while above and above not in folders:
            folders.add(above)
            above = os.path.dirname(above)
    for d in sorted(folders - {'bin'}):
        c.add(d, 0o40755)
    for name, p in sorted(files.items()):
        with open(p, 'rb') as f:
            c.add(name, 0o100755, f.read())
    load = ''
    for p in order:
        with open(p, 'rb') as f:
            c.add('modules/' + os.path.basename(p), 0o100644, f.read())
        load += f'insmod /modules/{os.path.basename(p)}\n'
    start = ('#!/bin/sh\nexport PATH=/bin\nmount -t proc p /proc\nmount -t sysfs s /sys\nmount -t devtmpfs d /dev\n'
             + load + script)
    c.add('init', 0o100755, start.encode())
    c.close()


class Guest:
    def __init__(self, box, image, initrd, drive, more=()):
        qemu = require('qemu-system-x86_64')
        self.text = ''
        self.proc = subprocess.Popen(
            [qemu, '-nodefaults', '-machine', 'q35,accel=tcg', '-cpu', 'max,la57=off', '-m', '512', '-display', 'none',
             '-no-reboot', '-serial', 'stdio', '-kernel', image, '-initrd', initrd, '-append', 'console=ttyS0 panic=-1 quiet',
             '-drive', f'file={drive},format=raw,if=none,id=d,cache=none,discard=unmap', '-device', 'virtio-blk-pci,drive=d', *more],
            cwd=box.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        os.set_blocking(self.proc.stdout.fileno(), False)
        box.started.append(self.proc)

    def wait_for(self, text, seconds=150):
        end = time.monotonic() + seconds
        while text not in self.text:
            piece = self.proc.stdout.read()
            if piece:
                self.text += piece.decode('utf-8', 'replace')
                continue
            if self.proc.poll() is not None or time.monotonic() > end:
                raise TestFailure(f'the guest does not say {text!r}; status {self.proc.poll()}: {self.text[-3000:]}')
            time.sleep(0.1)

    def wait_end(self, seconds=60):
        try:
            self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TestFailure(f'the guest does not end: {self.text[-3000:]}')

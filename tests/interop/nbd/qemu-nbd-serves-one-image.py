#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: qemu-nbd serves an image as its options say, and ends when it should.
Method: clients of libnbd and of the peer's tools; each option by what a client sees of it, on our program and, so
that the test knows what it is talking about, on the peer's.
"""
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import (check_image, expect, expect_equal, make_image, nbd_module, random_file, read_file,  # noqa: E402
                    run, tool)
from sandbox import Skip  # noqa: E402

WAIT_S = 15


class Served:
    def __init__(self, box, program, *words, image='a', env=None, sock='s'):
        self.box, self.sock = box, os.path.join(box.path, sock)
        self.proc = box.background([program, '-k', self.sock, *words, image], env=env)
        deadline = time.monotonic() + WAIT_S
        while not os.path.exists(self.sock):
            expect(self.proc.poll() is None, f'qemu-nbd {words} ended with {self.proc.poll()}')
            expect(time.monotonic() < deadline, f'qemu-nbd {words}: no socket')
            time.sleep(0.02)

    def uri(self, name=''):
        return f'nbd+unix:///{name}?socket={self.sock}'

    def connect(self, name=''):
        h = nbd_module().NBD()
        h.set_export_name(name)
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                h.connect_unix(self.sock)
                return h
            except nbd_module().Error:
                # The socket is there a moment before it listens.
                expect(time.monotonic() < deadline, 'cannot connect')
                h = nbd_module().NBD()
                h.set_export_name(name)
                time.sleep(0.02)

    def ended(self, status=0):
        deadline = time.monotonic() + WAIT_S
        while self.proc.poll() is None:
            expect(time.monotonic() < deadline, 'qemu-nbd does not end')
            time.sleep(0.02)
        expect_equal(self.proc.returncode, status, 'exit status')

    def runs(self):
        time.sleep(0.3)
        expect(self.proc.poll() is None, 'qemu-nbd ended')

    def terminate(self):
        self.proc.send_signal(signal.SIGTERM)
        self.ended()


def lifetimes(box, program):
    s = Served(box, program, '-f', 'qcow2')
    s.connect().shutdown()
    s.ended()
    expect(not os.path.exists(s.sock), 'the socket is left behind')
    s = Served(box, program, '-t', '-f', 'qcow2')
    for _ in range(2):
        s.connect().shutdown()
    s.runs()
    s.terminate()
    # Two at once, and the third waits until one has left.
    s = Served(box, program, '-e', '2', '-t', '-f', 'qcow2')
    a, b = s.connect(), s.connect()
    c = nbd_module().NBD()
    c.aio_connect_unix(s.sock)
    c.poll(300)
    expect(c.aio_is_connecting(), 'a third client was let in')
    a.shutdown()
    deadline = time.monotonic() + WAIT_S
    while not c.aio_is_ready():
        expect(time.monotonic() < deadline, 'the third client never got in')
        c.poll(100)
    b.shutdown()
    c.shutdown()
    s.terminate()


def what_clients_see(box, program):
    s = Served(box, program, '-t', '-x', 'disk', '-D', 'for people', '-A', '-f', 'qcow2')
    text = tool(box, 'nbdinfo', '--list', s.uri())
    for word in ('export="disk"', 'for people', 'qemu:allocation-depth'):
        expect(word in text, f'{word!r} is not in {text}')
    h = s.connect('disk')
    expect_equal((h.get_size(), h.is_read_only(), h.can_multi_conn()), (4 << 20, False, False), 'size, flags')
    h.pwrite(b'x' * 512, 1024)
    expect_equal(bytes(h.pread(512, 1024)), b'x' * 512, 'what was written')
    h.shutdown()
    s.terminate()
    s = Served(box, program, '-t', '-e', '0', '-r', '-f', 'qcow2')
    h = s.connect()
    expect(h.is_read_only() and h.can_multi_conn(), '-r: not read-only')
    h.shutdown()
    s.terminate()
    before = read_file(box, 'a')
    s = Served(box, program, '-t', '-s', '-f', 'qcow2')
    h = s.connect()
    expect_equal(bytes(h.pread(512, 1024)), b'x' * 512, '-s: what was there')
    h.pwrite(b'y' * 4096, 0)
    expect_equal(bytes(h.pread(4096, 0)), b'y' * 4096, '-s: what was written')
    h.shutdown()
    s.terminate()
    expect(read_file(box, 'a') == before, '-s: the image changed')
    tool(box, 'qemu-img', 'snapshot', '-c', 'then', 'a')
    tool(box, 'qemu-io', '-c', 'write -P 1 0 64k', 'a')
    s = Served(box, program, '-l', 'then', '-f', 'qcow2')
    h = s.connect()
    expect_equal((bytes(h.pread(512, 1024)), h.is_read_only()), (b'x' * 512, True), '-l: what the snapshot holds')
    h.shutdown()
    s.ended()
    tool(box, 'qemu-img', 'snapshot', '-a', 'then', 'a')
    s = Served(box, program, '-o', '1024', '-f', 'qcow2')
    h = s.connect()
    expect_equal(h.get_size(), (4 << 20) - 1024, '-o: size')
    expect_equal(bytes(h.pread(512, 0)), b'x' * 512, '-o: contents')
    h.shutdown()
    s.ended()
    s = Served(box, program, '--image-opts', image='driver=qcow2,file.filename=a')
    expect_equal(tool(box, 'nbdinfo', '--size', s.uri()), f'{4 << 20}\n', '--image-opts')
    s.ended()


def background(box, program):
    pid = os.path.join(box.path, 'pid')
    tool(box, program, '--fork', f'--pid-file={pid}', '-t', '-k', os.path.join(box.path, 'f'), '-f', 'qcow2', 'a')
    number = int(read_file(box, 'pid'))
    uri = f'nbd+unix:///?socket={box.path}/f'
    expect_equal(tool(box, 'nbdinfo', '--size', uri), f'{4 << 20}\n', '--fork')
    os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_S
    while os.path.exists(f'/proc/{number}'):
        expect(time.monotonic() < deadline, '--fork: does not end')
        time.sleep(0.02)


def copies(box, program):
    random_file(box, 'in', 4 << 20)
    s = Served(box, program, '-e', '0', '-t', '--discard=unmap', '-f', 'qcow2')
    tool(box, 'nbdcopy', '--flush', 'in', s.uri())
    tool(box, 'nbdcopy', s.uri(), 'out')
    expect(read_file(box, 'in') == read_file(box, 'out'), 'what came back differs')
    tool(box, 'qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', s.uri(), 'b')
    tool(box, 'qemu-img', 'compare', '-f', 'raw', 'in', '-F', 'qcow2', 'b')
    s.terminate()
    check_image(box, 'a')
    tool(box, 'qemu-img', 'compare', '-f', 'raw', 'in', '-F', 'qcow2', 'a')


def a_passed_socket(box, program):
    """As a service manager starts it: the listening socket is descriptor 3."""
    expect(shutil.which('python3') is not None, 'python3')
    path = os.path.join(box.path, 'act')
    code = ("import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(5)\n"
            "f=s.detach()\nos.dup2(f,3,inheritable=True) if f!=3 else os.set_inheritable(3,True)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='1')\n"
            "os.execv(sys.argv[2],sys.argv[2:])\n")
    proc = box.background([sys.executable, '-c', code, path, shutil.which(program) or program, '-f', 'qcow2', 'a'])
    deadline = time.monotonic() + WAIT_S
    while not os.path.exists(path):
        expect(time.monotonic() < deadline and proc.poll() is None, 'no socket')
        time.sleep(0.02)
    time.sleep(0.1)
    expect_equal(tool(box, 'nbdinfo', '--size', f'nbd+unix:///?socket={path}'), f'{4 << 20}\n', 'passed socket')
    deadline = time.monotonic() + WAIT_S
    while proc.poll() is None:
        expect(time.monotonic() < deadline, 'with a passed socket: does not end')
        time.sleep(0.02)
    expect_equal(proc.returncode, 0, 'with a passed socket: status')


def test(box, args):
    ours = os.path.join(os.path.dirname(args.daemon), 'compat', 'qemu-nbd')
    if not os.path.exists(ours):
        raise Skip('no compat programs beside the daemon')
    nbd_module()
    for program in (ours, 'qemu-nbd'):
        if not os.path.exists(program) and not shutil.which(program):
            continue
        tool(box, 'rm', '-f', 'a', 'b', 'in', 'out', 's', 'f', 'act', 'pid')
        make_image(box, 'a', 'qcow2', '4M')
        lifetimes(box, program)
        what_clients_see(box, program)
        background(box, program)
        copies(box, program)
        a_passed_socket(box, program)


run(test)

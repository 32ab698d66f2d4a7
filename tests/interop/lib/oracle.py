# SPDX-License-Identifier: MIT
"""oracle: what the tests with other programs as judges have in common.

Use:    def test(box, args): ...      run(test)
        Every test is a program: --daemon PATH names the daemon under test, any
        peer will do, so that a test can prove itself against another program.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

from sandbox import Sandbox, Skip, TestFailure, main, require

LIBNBD = '/usr/bin/python3'


class Server:
    """A daemon with an NBD server on the socket "nbd", spoken to by QMP."""

    def __init__(self, box, program, args=(), nbd=True, **kw):
        self.box = box
        self.daemon = box.daemon(program, list(args), **kw)
        self.sock = self.daemon.connect()
        self.sock.settimeout(20)
        self.replies = self.sock.makefile('r')
        self.events = []
        self.tell('{"execute":"qmp_capabilities","id":"hello"}')
        while self._read().get('id') != 'hello':
            pass
        if nbd:
            self.qmp('nbd-server-start', addr={
                'type': 'unix', 'data': {'path': 'nbd'}},
                **{'max-connections': 0})

    def tell(self, text):
        self.sock.sendall(text.encode() + b'\n')

    def _read(self):
        line = self.replies.readline()
        if not line:
            raise TestFailure(f'the daemon went away: {self.daemon.stderr()}')
        return json.loads(line)

    def ask(self, command, **arguments):
        """The whole reply; events are kept aside."""
        self.tell(json.dumps({'execute': command, 'arguments': arguments}))
        while True:
            value = self._read()
            if 'event' not in value:
                return value
            self.events.append(value)

    def qmp(self, command, **arguments):
        """The reply's value; an error fails the test."""
        value = self.ask(command, **arguments)
        if 'return' not in value:
            raise TestFailure(f'{command} {arguments}: {value}')
        return value['return']

    def refused(self, command, **arguments):
        """The text of the error that must come."""
        value = self.ask(command, **arguments)
        if 'error' not in value:
            raise TestFailure(f'{command} {arguments}: not refused: {value}')
        return value['error']['desc']

    def wait_event(self, name, **data):
        """Take events until one fits; returns its data."""
        while True:
            while self.events:
                event = self.events.pop(0)
                got = event.get('data', {})
                if event['event'] == name and all(
                        got.get(k) == v for k, v in data.items()):
                    return got
            self.events.append(self._read())

    def add(self, options):
        self.qmp('blockdev-add', **options)

    def add_image(self, node, file, fmt, **extra):
        self.add({'driver': fmt, 'node-name': node, **extra,
                  'file': {'driver': 'file', 'filename': file,
                           **({'discard': extra['discard']}
                              if 'discard' in extra else {})}})

    def export(self, node, **extra):
        """Export a node under its own name; returns the URI."""
        self.qmp('block-export-add', **{'type': 'nbd', 'id': 'x-' + node,
                                        'node-name': node, **extra})
        return self.uri(extra.get('name', node))

    def unexport(self, node):
        self.qmp('block-export-del', id='x-' + node, mode='hard')
        self.wait_event('BLOCK_EXPORT_DELETED', id='x-' + node)

    def uri(self, name):
        return f'nbd+unix:///{name}?socket={self.box.path}/nbd'

    def alive(self):
        """Fail unless the daemon still answers."""
        self.qmp('query-jobs')

    def quit(self, status=0):
        """An orderly end; memory errors show as a status other than 0."""
        self.qmp('quit')
        got = self.daemon.wait()
        expect(got == status, f'the daemon ended with status {got}: '
               f'{self.daemon.stderr()}')


def expect(condition, text):
    if not condition:
        raise TestFailure(text)


def expect_equal(got, wanted, what):
    if got != wanted:
        raise TestFailure(f'{what}: got {got!r}, wanted {wanted!r}')


def tool(box, *argv, status=0, **kw):
    """Run a program in the sandbox; its output. Skip if it is absent."""
    argv = [str(a) for a in argv]
    require(argv[0])
    got, text = box.run(argv, **kw)
    if status is not None and got != status:
        raise TestFailure(f'{" ".join(argv)}: status {got}: {text}')
    return text


def make_image(box, name, fmt, size, *writes, **options):
    """An image made by the peer's tools; writes are qemu-io commands."""
    if fmt == 'raw':
        # qemu-img would write the first block.
        tool(box, 'truncate', '-s', size, name)
        if writes:
            poke(box, name, fmt, *writes)
        return
    extra = []
    for key, value in options.items():
        extra += ['-o', f'{key}={value}']
    tool(box, 'qemu-img', 'create', '-q', '-f', fmt, *extra, name, size)
    if writes:
        poke(box, name, fmt, *writes)


def poke(box, name, fmt, *commands, status=0, flags=()):
    """qemu-io on an image or URI; its output."""
    argv = ['qemu-io', *flags, '-f', fmt]
    for command in commands:
        argv += ['-c', command]
    return tool(box, *argv, name, status=status)


def check_image(box, name, fmt='qcow2'):
    """qemu-img check finds nothing wrong, not even leaks."""
    text = tool(box, 'qemu-img', 'check', '-f', fmt, name, status=None)
    expect('No errors were found' in text, f'{name}: {text}')


def random_file(box, name, size, seed=1):
    """A file of noise with some zero areas, the same for the same seed."""
    import random
    rng = random.Random(seed)
    path = os.path.join(box.path, name)
    with open(path, 'wb') as f:
        left = size
        while left:
            n = min(left, rng.choice([512, 4096, 65536, 262144]))
            f.write(bytes(n) if rng.random() < 0.3 else rng.randbytes(n))
            left -= n
    return path


def read_file(box, name):
    with open(os.path.join(box.path, name), 'rb') as f:
        return f.read()


def nbd_module():
    """libnbd's Python module, or Skip."""
    try:
        import nbd
    except ImportError:
        raise Skip('libnbd has no Python module here')
    return nbd


def is_peer(program):
    """Whether the daemon under test is the peer itself."""
    text = subprocess.run([program, '--version'], capture_output=True,
                          stdin=subprocess.DEVNULL, text=True).stdout
    return 'QEMU Project' in text


def sanitized(program):
    """Whether the daemon under test carries a sanitizer: then its memory says nothing."""
    with open(program, 'rb') as f:
        text = f.read()
    return b'__tsan_init' in text or b'__asan_init' in text


def run(test):
    """Run test(box, args) as a program."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument('--daemon', required=True)
    args = parser.parse_args()

    def inner():
        found = shutil.which(args.daemon)
        if found is None:
            raise Skip(f'{args.daemon} is not there')
        args.daemon = os.path.abspath(found)
        args.peer = is_peer(args.daemon)
        with Sandbox() as box:
            test(box, args)
    main(inner)


sys.modules.setdefault('oracle', sys.modules[__name__])

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: whatever is wrong with an argument, the daemon says the same as a peer that runs beside it.
Method: good arguments of each command, of which one at a time is left out, or replaced by each of a set of wrong
values; one that nobody knows is added, at each level. The same commands in lockstep to both; replies are
compared as text. What took effect is undone.
"""
import argparse
import copy
import json
import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'qmp'))
from oracle import Server  # noqa: E402
from run import peer_program, version_of  # noqa: E402
from sandbox import Sandbox, Skip, TestFailure, main  # noqa: E402

WRONG = [5, -1, 0, 1.5, 1 << 63, 1 << 64, -(1 << 63) - 1, 1e300, 'x', '', '5', 'n', '1x', 'a b', 'x' * 300, 'é',
         True, None, [], [5], {}, {'x': 1}]
DISK = {'driver': 'null-co', 'node-name': 'new', 'size': 65536}
FILE = {'driver': 'file', 'node-name': 'new', 'filename': 'a.raw', 'locking': 'auto', 'aio': 'threads'}
GENERAL = {'cache': {'direct': False, 'no-flush': False}, 'read-only': False, 'auto-read-only': False,
           'force-share': False, 'discard': 'unmap', 'detect-zeroes': 'off'}
UNIX = {'type': 'unix', 'data': {'path': 'nbd'}}
EXPORT = {'type': 'nbd', 'id': 'e', 'node-name': 'n', 'name': 'n', 'description': 'd', 'writable': False,
          'writethrough': False, 'iothread': 'io', 'fixed-iothread': False, 'allocation-depth': False, 'bitmaps': []}
MIRROR = {'job-id': 'j', 'device': 's', 'target': 't', 'replaces': 's', 'sync': 'full', 'speed': 0,
          'granularity': 65536, 'buf-size': 1048576, 'on-source-error': 'report', 'on-target-error': 'report',
          'filter-node-name': 'f', 'copy-mode': 'background', 'auto-finalize': True, 'auto-dismiss': True,
          'target-is-zero': False}
RAW_FILE = {'driver': 'file', 'filename': 'c.raw', 'size': 65536, 'preallocation': 'off', 'nocow': False}
QCOW2 = {'driver': 'qcow2', 'file': 'cf', 'size': 65536, 'version': 'v3', 'backing-file': 'b', 'backing-fmt': 'raw',
         'cluster-size': 65536, 'preallocation': 'off', 'lazy-refcounts': False, 'refcount-bits': 16,
         'compression-type': 'zlib'}

# What is meant: (command, the peer's reply, ours), each with its reason.
MEANT = [
    # It does not understand its own empty object.
    ('blockdev-add', "doesn't support the option 'cache'", '"return"'),
    # It deletes whatever file lies there.
    ('nbd-server-start', '"return"', 'Failed to bind socket to .*: Address already in use'),
    # It listens at a name that nobody is told.
    ('nbd-server-start', '"return"', 'The path of a UNIX socket must not be empty'),
    # It cuts long names, and looks at the address first.
    ('nbd-server-start', 'address resolution failed', 'address resolution failed'),
    ('nbd-server-start', 'UNIX socket path .* is too long', 'No TLS credentials with id'),
    # Version 7.2 has another text.
    ('blockdev-add', "expects a non-negative number below 2.64", "out of range for parameter"),
    # It takes the empty name for none.
    ('block-export-add', '"return"', r'iothread \\"\\" not found'),
]

# (command, good arguments, what undoes it). The first of a name has the text its commands fail with; none is good in
# its effects: jobs that do not exist, nodes that are in use.
CASES = [
    ('qmp_capabilities', {'enable': ['oob']}, []),
    ('query-version', {}, []), ('query-commands', {}, []), ('query-block', {}, []), ('query-jobs', {}, []),
    ('query-block-jobs', {}, []), ('query-block-exports', {}, []), ('x-debug-query-block-graph', {}, []),
    ('query-named-block-nodes', {'flat': True}, []),
    ('query-blockstats', {'query-nodes': True}, []),
    ('object-add', {'qom-type': 'iothread', 'id': 'o', 'poll-max-ns': 0, 'poll-grow': 0, 'poll-shrink': 0,
                    'aio-max-batch': 0, 'thread-pool-min': 0, 'thread-pool-max': 64}, [('object-del', {'id': 'o'})]),
    ('object-del', {'id': 'nobody'}, []),
    ('blockdev-add', {**DISK, **GENERAL, 'latency-ns': 0, 'read-zeroes': False}, [('blockdev-del', {'node-name': 'new'})]),
    ('blockdev-add', FILE, [('blockdev-del', {'node-name': 'new'})]),
    ('blockdev-add', {'driver': 'raw', 'node-name': 'new', 'offset': 0, 'size': 65536, 'file': 'n'},
     [('blockdev-del', {'node-name': 'new'})]),
    ('blockdev-add', {'driver': 'qcow2', 'node-name': 'new', 'file': {'driver': 'file', 'filename': 'q.qcow2'},
                      'lazy-refcounts': False, 'pass-discard-request': False, 'pass-discard-snapshot': False,
                      'pass-discard-other': False,
                      'cache-size': 1048576, 'l2-cache-entry-size': 4096, 'refcount-cache-size': 262144,
                      'backing': None}, [('blockdev-del', {'node-name': 'new'})]),
    ('blockdev-del', {'node-name': 'n'}, []),
    ('blockdev-create', {'job-id': 'c', 'options': RAW_FILE}, 'job'),
    ('blockdev-create', {'job-id': 'c', 'options': QCOW2}, 'job'),
    ('block_resize', {'node-name': 'n', 'size': 65536}, []),
    ('block_resize', {'device': 'n', 'size': 65536}, []),
    ('block_resize', {'device': 'n', 'node-name': 'n', 'size': 65536}, []),
    ('blockdev-mirror', MIRROR, 'job'),
    ('block-job-set-speed', {'device': 'k', 'speed': 0}, []),
    ('block-job-cancel', {'device': 'nobody', 'force': True}, []),
    ('block-job-change', {'id': 'k', 'type': 'mirror', 'copy-mode': 'write-blocking'}, []),
    *[(f'block-job-{verb}', {'device': 'nobody'}, []) for verb in ('pause', 'resume', 'complete')],
    *[(f'block-job-{verb}', {'id': 'nobody'}, []) for verb in ('finalize', 'dismiss')],
    *[(f'job-{verb}', {'id': 'nobody'}, []) for verb in ('pause', 'resume', 'cancel', 'complete', 'finalize', 'dismiss')],
    ('block-job-dismiss', {'id': 'k'}, []), ('block-job-finalize', {'id': 'k'}, []),
    ('nbd-server-start', {'addr': UNIX, 'max-connections': 5},
     [('nbd-server-stop', {})]),
    ('nbd-server-start', {'addr': UNIX, 'tls-creds': 'tls'}, [('nbd-server-stop', {})]),
    ('nbd-server-start', {'addr': {'type': 'inet', 'data': {
        'host': '127.0.0.1', 'port': '0', 'to': 65535, 'ipv4': True, 'ipv6': False, 'numeric': True, 'keep-alive': True,
        'mptcp': False}}}, [('nbd-server-stop', {})]),
    ('nbd-server-start', {'addr': {'type': 'vsock', 'data': {'cid': 'x', 'port': 'y'}}}, [('nbd-server-stop', {})]),
    ('nbd-server-start', {'addr': UNIX, 'handshake-max-seconds': 5}, []),
    ('nbd-server-add', {'device': 'n', 'name': 'm', 'description': 'd', 'writable': False, 'bitmap': 'b'},
     [('nbd-server-remove', {'name': 'm', 'mode': 'hard'}), ('nbd-server-remove', {'name': 'n', 'mode': 'hard'})]),
    ('nbd-server-remove', {'name': 'nobody', 'mode': 'safe'}, []),
    ('block-export-add', EXPORT, 'export'),
    ('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': ['b']}, 'export'),
    ('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'n', 'bitmaps': [{'node': 'n', 'name': 'b'}]}, 'export'),
    ('block-export-del', {'id': 'nobody', 'mode': 'safe'}, []),
    ('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': 'nbd2'}}}, []),
    ('nbd-server-stop', {}, []),
    ('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'n'}, 'export'),
    ('quit', {'nobody-knows': 1}, None),        # the only one that does not work
]


def variants(value):
    """Each value with one thing wrong in it, and what that is."""
    for wrong in WRONG:
        if type(wrong) is not type(value) or wrong != value:
            yield wrong
    if isinstance(value, dict):
        for key in value:
            without = {k: v for k, v in value.items() if k != key}
            yield without
            for inner in variants(value[key]):
                yield {**value, key: inner}
        yield {**value, 'nobody-knows': 1}
    if isinstance(value, list):
        for i, one in enumerate(value):
            for inner in variants(one):
                yield value[:i] + [inner] + value[i + 1:]


class Both:
    """Two daemons that are told the same: the peer and ours."""

    def __init__(self, box, programs):
        self.box, self.programs = box, programs
        self.differ = []
        self.asked = self.starts = self.meant = 0
        self.start()

    def start(self):
        self.servers = []
        self.starts += 1
        for n, program in enumerate(self.programs):
            inner = copy.copy(self.box)
            inner.path = os.path.join(self.box.path, f'{self.starts}-{n}')
            os.mkdir(inner.path)
            with open(os.path.join(inner.path, 'a.raw'), 'wb') as f:
                f.truncate(65536)
            with open(os.path.join(inner.path, 'c.qcow2'), 'wb') as f:
                f.truncate(0)
            status, text = inner.run(['qemu-img', 'create', '-q', '-f', 'qcow2', 'q.qcow2', '64k'])
            if status:
                raise Skip(text)
            self.servers.append(Server(inner, program, nbd=False))
        self.prepare()

    def ask(self, command, arguments):
        """Returns whether it worked on any. The peer does not survive everything: both begin anew then."""
        texts = []
        self.asked += 1
        for server in self.servers:
            request = {'execute': command}
            if arguments is not None:
                request['arguments'] = arguments
            server.tell(json.dumps(request))
            while True:
                try:
                    line = server.replies.readline()
                except OSError:
                    line = ''
                if not line and server is self.servers[0]:
                    print(f'the peer does not survive {json.dumps(request)}')
                    self.servers[1].quit()
                    self.start()
                    return False
                if not line:
                    raise TestFailure(f'{request}: the daemon went away: {server.daemon.stderr()}')
                if '"event"' not in line[:90]:
                    break
            texts.append(re.sub(r'#block\d+', '#block', line))
        left, right = texts
        if left != right and not ('"return"' in left and '"return"' in right):
            if any(c == command and re.search(a, left) and re.search(b, right) for c, a, b in MEANT):
                self.meant += 1
                return True
            self.differ.append((request, left.strip(), right.strip()))
        return any('"return"' in t for t in texts)

    def settle(self, job):
        """Until the job is concluded, or gone."""
        for server in self.servers:
            while True:
                jobs = [j for j in server.qmp('query-jobs') if j['id'] == job]
                if not jobs or jobs[0]['status'] in ('concluded', 'ready'):
                    break

    def dismiss(self, server, job):
        end = time.monotonic() + 10
        while any(j['id'] == job for j in server.qmp('query-jobs')):
            server.ask('job-dismiss', id=job)
            time.sleep(0.001)
            if time.monotonic() > end:
                raise TestFailure(f'job {job} does not end: {server.qmp("query-jobs")}')

    def undo(self, how):
        if how == 'job':
            for server in self.servers:
                for job in server.qmp('query-jobs'):
                    if job['id'] != 'k':
                        server.ask('job-cancel', id=job['id'])
                        self.dismiss(server, job['id'])
        elif how == 'export':
            for server in self.servers:
                for export in server.qmp('query-block-exports'):
                    server.ask('block-export-del', id=export['id'], mode='hard')
                while server.qmp('query-block-exports'):
                    pass
        else:
            for command, arguments in how:
                for server in self.servers:
                    server.ask(command, **arguments)

    def prepare(self):
        for name in ('n', 's', 't', 'ks', 'kt'):
            for server in self.servers:
                server.add({'driver': 'null-co', 'node-name': name, 'size': 65536})
        for server in self.servers:
            server.add({'driver': 'file', 'node-name': 'cf', 'filename': 'c.qcow2'})
            server.qmp('object-add', **{'qom-type': 'iothread', 'id': 'io'})
            server.qmp('blockdev-mirror', **{'job-id': 'k'}, device='ks', target='kt', sync='full')
        self.settle('k')


def commands_of(server):
    return {c['name'] for c in server.qmp('query-commands')}


def arguments_of(server, command):
    """The names at the top level that a daemon knows; None: not told."""
    schema = {e['name']: e for e in server.qmp('query-qmp-schema')}
    entry = schema[command]
    arg = schema[entry['arg-type']]
    names = {m['name'] for m in arg.get('members', [])}
    for variant in arg.get('variants', []):
        names |= {m['name'] for m in schema[variant['type']].get('members', [])}
    return names


def test(box, daemon, peer):
    both = Both(box, [peer, daemon])
    known = commands_of(both.servers[0])
    names = {}
    for command, good, undo in CASES:
        if command not in known:
            continue
        if command == 'nbd-server-add':
            both.ask('nbd-server-start', {'addr': UNIX})
        if command not in names:
            names[command] = arguments_of(both.servers[0], command)
        good = {k: v for k, v in good.items() if k in names[command] or undo is None}
        if both.ask(command, good):
            both.undo(undo)
        for arguments in variants(good) if undo is not None else []:
            if both.ask(command, arguments):
                both.undo(undo)
    for server in both.servers:
        server.quit()
    print(f'{both.asked} commands, {both.meant} with a difference that is meant')
    if both.differ:
        lines = [f'{json.dumps(request)}\n  - {left}\n  + {right}' for request, left, right in both.differ]
        raise TestFailure(f'{len(lines)} differ (- {peer}, + {daemon}):\n' + '\n'.join(lines))


def start():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument('--daemon', required=True)
    parser.add_argument('--against', required=True)
    args = parser.parse_args()
    programs = []
    for name in (args.daemon, peer_program(args.against)):
        if shutil.which(name) is None:
            raise Skip(f'{name} is not installed')
        programs.append(os.path.abspath(shutil.which(name)))
    with Sandbox() as box:
        test(box, *programs)


if __name__ == '__main__':
    main(start)

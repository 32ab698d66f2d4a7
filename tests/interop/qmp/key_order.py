#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""key_order.py: in which order does the peer print the keys of an object?

A peer echoes the "id" of a command, whatever it is, so an object made of all
names of its schema comes back in the order it prints them. Names on one line
of the output share a place: among them the one inserted last is printed first.

  key_order.py PEER [NAME...] > key-order.txt
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from sandbox import Sandbox, main  # noqa: E402

ENVELOPE = ['return', 'error', 'event', 'timestamp', 'seconds', 'microseconds',
            'data', 'id', 'class', 'desc', 'QMP', 'version', 'qemu', 'package',
            'capabilities', 'micro', 'minor', 'major']


class Peer:
    def __init__(self, box, program):
        sock = box.daemon(program, []).connect()
        # Two files: one text file for both directions drops what it has read ahead.
        self.stream = sock.makefile('r')
        self.commands = sock.makefile('w')
        self.stream.readline()
        self.ask({'execute': 'qmp_capabilities'})

    def ask(self, command):
        self.commands.write(json.dumps(command) + '\n')
        self.commands.flush()
        return json.loads(self.stream.readline())

    def order(self, names):
        """The names as the peer prints them when inserted in this order."""
        command = {'execute': 'no-such-command', 'id': dict.fromkeys(names, 0)}
        return list(self.ask(command)['id'])


def schema_names(schema):
    names = set()
    for entity in schema:
        names.update(entity)
        if entity['meta-type'] == 'object':
            names.update(member['name'] for member in entity['members'])
    return names


def groups(one, other):
    """Split where every name before is the same set in both orders."""
    out, left, right, start = [], set(), set(), 0
    for i, (a, b) in enumerate(zip(one, other), 1):
        left.add(a)
        right.add(b)
        if left == right:
            out.append(sorted(one[start:i]))
            start = i
    return out


def test():
    with Sandbox() as box:
        peer = Peer(box, sys.argv[1])
        names = schema_names(peer.ask({'execute': 'query-qmp-schema'})['return'])
        names = sorted(names | set(ENVELOPE) | set(sys.argv[2:]))
        for group in groups(peer.order(names), peer.order(names[::-1])):
            print(' '.join(group))


if __name__ == '__main__':
    main(test)

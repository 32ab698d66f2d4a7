# SPDX-License-Identifier: MIT
"""transcript: what a QMP script and its transcript are made of: the parsed file,
the text that stays the same between two runs, one connection to a monitor.
"""
import json
import os
import re
import select
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from sandbox import TestFailure  # noqa: E402

SHORT = re.compile(r'^> ([\w-]+)(?: (\{.*\}))?$')
HEADER = re.compile(r'^([a-z0-9.-]+):\s+(.*)$')


# What of a running job depends on the size of its steps and on the moment.
IN_FLIGHT = [r'"(current-progress|offset)": \d+ => "\1": O',
             r'"busy": (true|false) => "busy": B']


def replacement(rule):
    """REGEX => TEXT as (compiled pattern, text)."""
    pattern, arrow, text = (rule + ' ').partition(' => ')
    if not arrow:
        raise TestFailure(f'{rule}: no " => "')
    return re.compile(pattern), text[:-1]


def spelled_out(line):
    """> COMMAND {ARGUMENTS} is short for the JSON text of that command."""
    found = SHORT.match(line)
    if not found:
        return line
    arguments = f',"arguments":{found[2]}' if found[2] else ''
    return f'{{"execute":"{found[1]}"{arguments}}}'


class Script:
    """The parsed file: header fields and statements."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.header = {}
        self.statements = []
        with open(path, encoding='utf-8') as f:
            lines = f.read().split('\n')
        in_header = True
        comments = 0
        for number, line in enumerate(lines, 1):
            line = line.rstrip()
            if not line:
                continue
            if line.startswith('#'):
                comments += 1
                continue
            found = HEADER.match(line)
            if in_header and found:
                self.header.setdefault(found[1], []).append(found[2])
                continue
            in_header = False
            self.statements.append((number, line))
        if comments < 2:
            raise TestFailure(f'{path}: no goal and method at the head')

    def one(self, key, default=None):
        return self.header.get(key, [default])[-1]


class Normaliser:
    """Takes out what differs between two runs of one daemon, nothing else."""

    def __init__(self, box_path, program, rules):
        self.box_path = box_path
        self.program = program
        self.nodes = {}
        self.rules = [replacement(rule) for rule in rules]

    def _node(self, found):
        return self.nodes.setdefault(found[0], f'#block<{len(self.nodes)}>')

    def __call__(self, text):
        text = text.replace(self.box_path, '{T}')
        text = text.replace(self.program, 'PROG')
        name = re.escape(os.path.basename(self.program))
        text = re.sub(rf'(?<![\w/-]){name}(?![\w-])', 'PROG', text)
        text = re.sub(r'("timestamp": ?)\{("seconds": ?)\d+(, ?"microseconds": ?)\d+\}',
                      r'\1{\2S\g<3>U}', text)
        text = re.sub(r'("seconds": )\d+(,\n)', r'\1S\2', text)
        text = re.sub(r'("microseconds": )\d+(\n)', r'\1U\2', text)
        text = re.sub(r'("micro": )\d+(, "minor": )\d+(, "major": )\d+(\}, "package": )"[^"]*"',
                      r'\1N\2N\3N\4"V"', text)
        text = re.sub(r'("(?:micro|minor|major)": )\d+(,?\n)', r'\1N\2', text)
        text = re.sub(r'("package": )"[^"]*"(\n)', r'\1"V"\2', text)
        text = re.sub(r'#block\d+', self._node, text)
        for pattern, replacement in self.rules:
            text = pattern.sub(replacement, text)
        return text


class Client:
    """One monitor connection: bytes in, whole JSON values out."""

    def __init__(self, label, read_fd, write_fd, owner):
        self.label = label
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.owner = owner          # keeps the socket alive
        self.buffer = b''
        self.pending = ''           # start of a value that spans lines
        self.queue = []             # (text, value or None)
        self.closed = False

    def send(self, data):
        while data:
            try:
                data = data[os.write(self.write_fd, data):]
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True
                return

    def fill(self, seconds):
        """Wait for input; False at a timeout."""
        ready, _, _ = select.select([self.read_fd], [], [], max(seconds, 0))
        if not ready:
            return False
        try:
            data = os.read(self.read_fd, 1 << 16)
        except ConnectionResetError:
            data = b''
        if not data:
            self.closed = True
        self.buffer += data
        while b'\n' in self.buffer:
            line, self.buffer = self.buffer.split(b'\n', 1)
            self._line(line)
        return True

    def _line(self, line):
        # CRLF is what the protocol asks for: a bare LF is made visible.
        text = line.decode('utf-8', 'backslashreplace')
        text = text[:-1] if text.endswith('\r') else text + '\u240a'
        self.pending += text
        try:
            value = json.loads(self.pending.replace('\u240a', ''))
        except ValueError:
            self.pending += '\n'
            return
        self.queue.append((self.pending, value))
        self.pending = ''


def signature(schema, name):
    """The arguments of a command, or the data of an event, as the schema
    tells them: member names with types ("?" marks optional ones)."""
    entities = {entity['name']: entity for entity in schema}

    def type_of(key, depth):
        entity = entities[key]
        kind = entity['meta-type']
        if kind == 'builtin':
            return entity['json-type']
        if kind == 'array':
            return [type_of(entity['element-type'], depth)]
        if kind == 'enum':
            return '|'.join(m['name'] for m in entity['members'])
        if kind == 'object' and depth:
            return {m['name'] + ('?' if 'default' in m else ''):
                    type_of(m['type'], depth - 1) for m in entity['members']}
        return kind

    entity = entities[name]
    out = [type_of(entity['arg-type'], 2)]
    if 'ret-type' in entity:
        out.append(type_of(entity['ret-type'], 0))
    return out

# SPDX-License-Identifier: MIT
"""script: plays a QMP script against one daemon and gives the transcript.

The language is told in README.md beside this file. A transcript is text: what
was sent, what came back, byte for byte but for what differs from run to run.

Order: what arrives is taken from a queue only by a statement that waits for
something. So an event that comes after a reply is always written below the
next thing sent, however fast either side is, and the transcript depends on
the order of the daemon's output alone.
"""
import codecs
import json
import os
import re
import shlex
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from transcript import (Client, IN_FLIGHT, Normaliser, Script,  # noqa: E402
                        replacement, signature, spelled_out)
from sandbox import (Sandbox, Skip, TestFailure, WAIT_SECONDS_MAX,  # noqa: E402
                     require)

TOOLS = ('qemu-img', 'qemu-io', 'qemu-nbd')


class Player:
    """Plays one script against one daemon program."""

    def __init__(self, script, program, box, tool_env):
        self.script = script
        self.program = program
        self.box = box
        self.env = tool_env
        self.out = []
        self.daemon = None
        self.port = None            # a free TCP port, for {PORT}
        self.clients = {}
        self.events = []            # every event written, in order
        self.event_cursor = 0       # what wait has passed
        rules = list(script.header.get('normalise', []))
        if script.one('in-flight') == 'yes':
            rules += IN_FLIGHT
        self.normalise = Normaliser(box.path, program, rules)

    # -- the transcript ----------------------------------------------------

    def note(self, prefix, text):
        for line in self.normalise(text).split('\n'):
            self.out.append(f'{prefix}{line}'.rstrip())

    def record(self, client, text, value, quiet=False):
        is_event = isinstance(value, dict) and 'event' in value
        if is_event:
            self.events.append(value)
        if not quiet or is_event:
            self.note(f'{client.label}<- ', text)

    # -- receiving ---------------------------------------------------------

    def next_value(self, client, what):
        end = time.monotonic() + WAIT_SECONDS_MAX
        while not client.queue:
            left = end - time.monotonic()
            if client.closed:
                raise TestFailure(f'the connection ended, waiting for {what}')
            if left <= 0 or not client.fill(left):
                raise TestFailure(f'nothing came, waiting for {what}')
        return client.queue.pop(0)

    def reply(self, client, quiet=False):
        """Take everything up to and with the next reply; returns it."""
        while True:
            text, value = self.next_value(client, 'a reply')
            if isinstance(value, dict) and 'event' in value:
                self.record(client, text, value)
                continue
            self.record(client, text, value, quiet)
            return text, value

    # -- statements --------------------------------------------------------

    def play(self):
        try:
            if self.script.one('start', 'yes') == 'yes':
                self.do_start('')
            for number, line in self.script.statements:
                self.number = number
                self.statement(self.expand(line))
            self.finish()
        except TestFailure as why:
            seen = '\n'.join(self.out[-30:])
            where = f'{self.script.name}:{getattr(self, "number", 0)}'
            err = self.daemon.stderr() if self.daemon else ''
            raise TestFailure(f'{where}: {why}\n--- transcript so far\n{seen}'
                              f'\n--- stderr\n{err}')
        return '\n'.join(self.out) + '\n'

    def expand(self, line):
        if '{PORT}' in line:
            if self.port is None:
                with socket.socket() as probe:
                    probe.bind(('127.0.0.1', 0))
                    self.port = probe.getsockname()[1]
            line = line.replace('{PORT}', str(self.port))
        return line.replace('{T}', self.box.path)

    def statement(self, line):
        label = ''
        found = re.match(r'@(\d+) (.*)$', line)
        if found:
            label, line = found[1], found[2]
        if line.startswith('{') or line.startswith('> '):
            return self.do_command(self.client(label), line)
        if line.startswith('$ '):
            return self.do_shell(line[2:])
        word, _, rest = line.partition(' ')
        method = getattr(self, 'do_' + word.replace('-', '_'), None)
        if method is None:
            raise TestFailure(f'no such statement: {word}')
        if word in ('send', 'raw', 'wait', 'until', 'quiet', 'pick', 'reply',
                    'silence', 'hangup', 'apart', 'greeting', 'repeat', 'closed'):
            return method(self.client(label), rest)
        return method(rest)

    def client(self, label):
        label = label or '0'
        if label not in self.clients:
            raise TestFailure(f'client {label} is not connected')
        return self.clients[label]

    def do_start(self, args):
        """start ARGS: start the daemon, connect, negotiate."""
        head = self.script
        tmpfs = head.one('tmpfs')
        limit = head.one('file-size-max')
        self.daemon = self.box.daemon(
            self.program, shlex.split(args),
            monitors=int(head.one('monitors', '1')),
            stdio=head.one('monitor') == 'stdio',
            pretty=head.one('pretty') == 'yes',
            obey_permissions=head.one('obey-permissions') == 'yes',
            file_size_max=int(limit) if limit else 0,
            tmpfs=tmpfs.split() if tmpfs else None)
        if args:
            self.note('== start ', args)
        self.clients = {}
        for n in range(int(head.one('monitors', '1'))):
            self.do_connect(str(n))

    def do_connect(self, label):
        """connect N: a (new) connection to monitor N."""
        proc = self.daemon.proc
        # Only a script with several monitors names the one that speaks.
        prefix = f'@{label} ' if self.script.one('monitors') else ''
        if self.script.one('monitor') == 'stdio':
            client = Client(prefix, proc.stdout.fileno(), proc.stdin.fileno(),
                            proc)
        else:
            sock = self.daemon.connect(int(label))
            client = Client(prefix, sock.fileno(), sock.fileno(), sock)
        self.clients[label] = client
        if self.script.one('negotiate', 'yes') == 'yes':
            client.send(b'{"execute":"qmp_capabilities","id":"negotiate"}\n')
            while True:         # the greeting, once or twice, and the reply
                _, value = self.next_value(client, 'the negotiation')
                if value.get('id') == 'negotiate':
                    break

    def do_greeting(self, client, _):
        """greeting: the line the daemon begins with. A client that comes
        while the peer starts may be greeted twice: written once."""
        text, value = self.next_value(client, 'the greeting')
        self.record(client, text, value)
        while client.fill(0.03) and not client.closed:
            pass
        client.queue = [item for item in client.queue if item[0] != text]

    def ask(self, client, line, note=''):
        line = spelled_out(line)
        if note is not None:
            self.note(f'{client.label}-> {note}', line)
        client.send(line.encode() + b'\n')

    def do_command(self, client, line):
        self.ask(client, line)
        self.reply(client)

    def do_send(self, client, line):
        """send TEXT: a line, without waiting for the reply."""
        self.ask(client, line)

    def do_raw(self, client, text):
        """raw TEXT: bytes with C escapes, no newline added."""
        self.note(f'{client.label}-> raw ', text)
        client.send(codecs.escape_decode(text.encode())[0])

    def do_repeat(self, client, rest):
        """repeat N TEXT: bytes sent N times (C escapes)."""
        count, text = rest.split(' ', 1)
        self.note(f'{client.label}-> {count} times ', text)
        client.send(codecs.escape_decode(text.encode())[0] * int(count))

    def do_reply(self, client, count):
        """reply [N]: take N replies."""
        for _ in range(int(count or 1)):
            self.reply(client)

    def do_quiet(self, client, line):
        """quiet {...}: a command whose reply is not written."""
        self.ask(client, line, None)
        self.reply(client, quiet=True)

    def do_pick(self, client, rest):
        """pick EXPRESSION :: {...}: write only what the Python expression
        makes of the reply's value, r."""
        expression, _, line = rest.partition(' :: ')
        self.ask(client, line)
        text, value = self.reply(client, quiet=True)
        if 'return' not in value:
            self.note(f'{client.label}<- ', text)
            return
        picked = eval(expression, {'r': value['return'], 're': re,
                                   'signature': signature})
        self.note(f'{client.label}<= ', json.dumps(picked))

    def do_until(self, client, rest):
        """until REGEX :: {...}: ask again until the reply matches; only the
        last reply is written."""
        pattern, _, line = rest.partition(' :: ')
        self.note(f'{client.label}-> until {pattern}: ', spelled_out(line))
        end = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            self.ask(client, line, None)
            text, value = self.reply(client, quiet=True)
            if re.search(pattern, text):
                return self.note(f'{client.label}<- ', text)
            if time.monotonic() > end:
                raise TestFailure(f'never seen: {pattern}; last: {text}')
            time.sleep(0.01)

    def seen(self, wanted):
        """Look for an event among those written since the last one found."""
        name, *words = wanted.split()
        fields = dict(word.split('=', 1) for word in words)
        while self.event_cursor < len(self.events):
            event = self.events[self.event_cursor]
            self.event_cursor += 1
            data = event.get('data', {})
            if event['event'] == name and all(
                    str(data.get(k)) == v for k, v in fields.items()):
                return True
        return False

    def do_wait(self, client, wanted):
        """wait EVENT [key=value...]: take everything up to that event."""
        while not self.seen(wanted):
            text, value = self.next_value(client, f'event {wanted}')
            self.record(client, text, value)

    def do_apart(self, client, rest):
        """apart EVENT [key=value...] :: {...}: a command whose reply comes
        before or after that event by chance: wait for both, then write the
        reply first and the events below it."""
        wanted, _, line = rest.partition(' :: ')
        self.ask(client, line)
        place = len(self.out)
        self.event_cursor = len(self.events)
        replied = seen = False
        while not (replied and seen):
            text, value = self.next_value(client, f'a reply and {wanted}')
            if isinstance(value, dict) and 'event' in value:
                self.record(client, text, value)
                seen = seen or self.seen(wanted)
                continue
            replied = True
            after, self.out = self.out[place:], self.out[:place]
            self.record(client, text, value)
            self.out += after

    def do_silence(self, client, rest):
        """silence MS: write what comes in that time, if anything."""
        end = time.monotonic() + int(rest) / 1000
        while time.monotonic() < end and not client.closed:
            client.fill(end - time.monotonic())
        while client.queue:
            self.record(client, *client.queue.pop(0))

    def do_closed(self, client, _):
        """closed: wait until the daemon ends the connection."""
        end = time.monotonic() + WAIT_SECONDS_MAX
        while not client.closed:
            if not client.fill(end - time.monotonic()):
                raise TestFailure('the connection stays open')
        while client.queue:
            self.record(client, *client.queue.pop(0))
        self.note('== ', f'{client.label}closed')

    def do_hangup(self, client, _):
        """hangup: close the connection from our side."""
        client.owner.close()
        client.closed = True

    def do_image(self, rest):
        """image NAME FORMAT SIZE [pattern=N[@OFF+LEN]...] [backing=NAME:FMT]
        [OPTION=VALUE...]: make an image file."""
        name, fmt, size, *extra = shlex.split(rest)
        argv = ['qemu-img', 'create', '-q', '-f', fmt]
        writes = []
        for item in extra:
            key, _, value = item.partition('=')
            if key == 'pattern':
                byte, _, area = value.partition('@')
                off, _, length = (area or f'0+{size}').partition('+')
                writes += ['-c', f'write -P {byte} {off} {length}']
            elif key == 'backing':
                file, _, backing_fmt = value.partition(':')
                argv += ['-b', file, '-F', backing_fmt]
            else:
                argv += ['-o', item]
        self.prepare(argv + [name] + ([size] if size != '-' else []))
        if writes:
            self.prepare(['qemu-io', '-f', fmt] + writes + [name])

    def prepare(self, argv):
        argv[0] = require(argv[0])
        status, text = self.box.run(argv)
        if status != 0:
            raise TestFailure(f'{shlex.join(argv)}: {text}')

    def do_prepare(self, command):
        """prepare COMMAND: a shell command that must succeed, not written."""
        self.prepare(['sh', '-c', command])

    def do_shell(self, command):
        """$ COMMAND: a shell command; its output and status are written."""
        for tool in TOOLS:
            if re.search(rf'\b{tool}\b', command):
                require(tool)
        env = dict(self.env, DAEMON=self.program)
        status, text = self.box.run(['sh', '-c', command], env=env)
        self.note('$ ', command)
        if text:
            self.note('| ', text.rstrip('\n'))
        if status:
            self.note('| ', f'status {status}')

    def do_background(self, command):
        """background COMMAND: a tool that runs until the end of the script."""
        self.box.background(shlex.split(command), env=self.env)

    def do_await(self, command):
        """await COMMAND: run it again and again until it succeeds."""
        end = time.monotonic() + WAIT_SECONDS_MAX
        while self.box.run(['sh', '-c', command], env=self.env)[0] != 0:
            if time.monotonic() > end:
                raise TestFailure(f'never true: {command}')
            time.sleep(0.01)

    def do_refused(self, args):
        """refused ARGS: the daemon must end by itself; output and status."""
        head = self.script
        env = dict(self.env)
        status, text = self.box.run(
            [self.program] + shlex.split(args), env=env,
            obey_permissions=head.one('obey-permissions') == 'yes')
        self.note('== PROG ', args)
        if text:
            self.note('| ', text.rstrip('\n'))
        self.note('| ', f'status {status}')

    def do_exit(self, _):
        """exit: wait until the daemon has ended by itself."""
        status = self.daemon.wait()
        for client in self.clients.values():
            while not client.closed and client.fill(1):
                pass
            while client.queue:
                self.record(client, *client.queue.pop(0))
        self.end_of_daemon(status)

    def do_signal(self, name):
        """signal NAME: send the daemon a signal."""
        self.daemon.proc.send_signal(getattr(signal, 'SIG' + name))

    def end_of_daemon(self, status):
        text = self.daemon.stderr()
        self.daemon = None
        self.clients = {}
        if text:
            self.note('== stderr ', text.rstrip('\n'))
        self.note('== ', f'the daemon ended with status {status}')

    def finish(self):
        """Whatever was done to it, the daemon must be alive and quit."""
        if self.daemon is None:
            return
        for client in self.clients.values():
            if not client.closed:
                client.send(b'{"execute":"quit"}\n')
                break
        else:
            self.daemon.proc.terminate()
        end = time.monotonic() + WAIT_SECONDS_MAX
        while self.daemon.proc.poll() is None:
            for client in self.clients.values():
                if not client.closed:
                    client.fill(0)
            if time.monotonic() > end:
                raise TestFailure('the daemon does not quit')
            time.sleep(0.002)
        self.end_of_daemon(self.daemon.proc.returncode)


def play(script, program, tools=None):
    """The transcript of a script on a daemon; tools is a folder put in front
    of PATH, for the image tools the script calls."""
    for program_needed in script.header.get('requires', []):
        require(program_needed)
    with Sandbox() as box:
        env = dict(os.environ, LC_ALL='C.UTF-8', TZ='UTC')
        if tools:
            env['PATH'] = f'{tools}:{env["PATH"]}'
        return Player(script, program, box, env).play()


__all__ = ['Script', 'play', 'replacement', 'Skip', 'TestFailure']

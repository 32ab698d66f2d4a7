# SPDX-License-Identifier: MIT
"""cli: the command line `liveblk` in a sandbox, with pipes or on a terminal.

Use:    def test(box, cli): ...      run_cli(test)
        cli('info', 'a.img') is its standard output; cli.fails(1, 'word', 'info', 'nope') wants
        that status, and that word on standard error. cli.json(...) adds --output=json.
"""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from oracle import expect, run
from sandbox import Skip, TestFailure, _in_child


class Cli:
    def __init__(self, box, liveblk):
        self.box, self.liveblk = box, liveblk
        self.env = dict(os.environ, XDG_RUNTIME_DIR=os.path.join(box.path, 'run'), TERM='xterm', LC_ALL='C.UTF-8')
        os.mkdir(self.env['XDG_RUNTIME_DIR'], 0o700)

    def call(self, *words, stdin=None, seconds=30, **kw):
        """(status, standard output, standard error)"""
        limits = {k: kw.pop(k, v) for k, v in (('obey_permissions', False), ('file_size_max', 0))}
        argv = [self.liveblk] + [str(w) for w in words]
        proc = subprocess.Popen(argv, cwd=self.box.path, env=self.env, text=True, start_new_session=True,
                                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=lambda: _in_child(**limits) if limits['file_size_max']
                                or limits['obey_permissions'] else None)
        self.box.started.append(proc)
        try:
            out, err = proc.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TestFailure(f'liveblk {" ".join(argv[1:])}: no end after {seconds} s')
        return proc.returncode, out, err

    def __call__(self, *words, status=0, **kw):
        got, out, err = self.call(*words, **kw)
        if got != status:
            raise TestFailure(f'liveblk {" ".join(map(str, words))}: status {got}, not {status}: {out}{err}')
        return out

    def json(self, *words, **kw):
        text = self(*words, '--output=json', **kw)
        try:
            return json.loads(text)
        except ValueError:
            raise TestFailure(f'liveblk {" ".join(map(str, words))}: not JSON: {text}')

    def fails(self, status, wanted, *words, **kw):
        """An error: one clear message on standard error, nothing on standard output."""
        got, out, err = self.call(*words, **kw)
        what = f'liveblk {" ".join(map(str, words))}'
        expect(got == status, f'{what}: status {got}, not {status}: {out}{err}')
        expect(out == '', f'{what}: failed, but printed {out!r}')
        expect(err.startswith('liveblk: ') and wanted in err, f'{what}: said {err!r}, not {wanted!r}')
        return err

    def start(self, *words, **kw):
        proc = subprocess.Popen([self.liveblk] + [str(w) for w in words], cwd=self.box.path, env=self.env, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True, **kw)
        self.box.started.append(proc)
        return proc

    def terminal(self, *words, columns=80):
        return Terminal(self, words, columns)

    def qmp(self, *words):
        return json.loads(self('qmp', *words))

    def wait_job(self, job, status, seconds=15):
        end = time.monotonic() + seconds
        while True:
            jobs = {j['id']: j for j in self.json('jobs')}
            got = jobs[job]['status'] if job in jobs else 'null'
            if got == status:
                return jobs.get(job)
            if time.monotonic() > end:
                raise TestFailure(f'job {job} is {got}, not {status}')
            time.sleep(0.02)

    def wait_gone(self, pid, seconds=15):
        end = time.monotonic() + seconds
        while os.path.exists(f'/proc/{pid}') and time.monotonic() < end:
            with open(f'/proc/{pid}/stat', encoding='utf-8') as f:
                if f.read().rsplit(')', 1)[1].split()[0] == 'Z':
                    return
            time.sleep(0.02)
        expect(not os.path.exists(f'/proc/{pid}'), f'process {pid} is still there')


class Terminal:
    """liveblk with a terminal as input, output and error."""

    def __init__(self, cli, words, columns):
        self.text = ''
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)

        def claim():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.proc = subprocess.Popen([cli.liveblk] + [str(w) for w in words], cwd=cli.box.path, env=cli.env,
                                     stdin=slave, stdout=slave, stderr=slave, preexec_fn=claim)
        cli.box.started.append(self.proc)

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self, seconds):
        """What comes within so many seconds, added to .text; False: nothing did."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            self.text += os.read(self.master, 65536).decode('utf-8', 'replace')
        except OSError:
            return False
        return True

    def wait_for(self, pattern, seconds=15):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if time.monotonic() > end:
                raise TestFailure(f'the terminal does not show {pattern!r}: {self.text!r}')
            self.read(0.05)
        return self.text

    def wait_end(self, status=0, seconds=15):
        end = time.monotonic() + seconds
        while self.proc.poll() is None and time.monotonic() < end:
            self.read(0.05)
        while self.read(0.05):
            pass
        got = self.proc.poll()
        expect(got == status, f'ended with {got}, not {status}: {self.text!r}')
        after = termios.tcgetattr(self.slave)
        expect(after[:4] == self.before[:4], 'the terminal is not as it was')
        return self.text

    def interrupt(self):
        os.killpg(self.proc.pid, signal.SIGINT)


def run_cli(test):
    """Run test(box, cli) as a program; the daemon under test has liveblk beside it."""
    def inner(box, args):
        liveblk = os.path.join(os.path.dirname(args.daemon), 'liveblk')
        if args.peer or not os.path.exists(liveblk):
            raise Skip('no liveblk beside the daemon')
        test(box, Cli(box, liveblk))
    run(inner)

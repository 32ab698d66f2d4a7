# SPDX-License-Identifier: MIT
"""sandbox: a private place for one test, and the processes it starts.

What:     a temporary folder, daemons and tools started inside it, all of it
          gone when the block is left: normally, by an exception, by ^C, by
          SIGTERM (what meson sends at a timeout).
Use:      with Sandbox() as box:  d = box.daemon(path, ["--blockdev", ...])
Fails:    Skip (exit 77 in main()) when something the test needs is absent;
          TestFailure when what was seen is not what was expected.
"""
import ctypes
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

WAIT_SECONDS_MAX = float(os.environ.get('INTEROP_WAIT_SECONDS', '15'))
MONITOR_PREFIX = 'qmp'
MARK = 'LIVEBLK_TEST_SANDBOX'

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
# What lets root pass over file permissions: dac_override, dac_read_search,
# fowner, and linux_immutable for good measure.
CAPS_PAST_PERMISSIONS = (1, 2, 3, 9)
_libc = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    """The machine lacks what the test needs."""


class TestFailure(Exception):
    """What was seen is not what was expected."""


def require(program):
    """The path of a program, or Skip."""
    path = shutil.which(program)
    if path is None:
        raise Skip(f'{program} is not installed')
    return path


def _in_child(obey_permissions, file_size_max):
    """Runs in the child between fork and exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if obey_permissions and os.geteuid() == 0:
        for cap in CAPS_PAST_PERMISSIONS:
            _libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)
    if file_size_max:
        import resource
        # Past the limit write() must fail with EFBIG, not end the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE,
                           (file_size_max, file_size_max))


class Daemon:
    """A storage daemon running in a sandbox."""

    def __init__(self, box, program, args, monitors=1, stdio=False,
                 pretty=False,
                 obey_permissions=False, file_size_max=0, tmpfs=None):
        self.box = box
        self.program = program
        self.stderr_path = os.path.join(box.path, f'.stderr{len(box.started)}')
        self.pidfile = f'.started{len(box.started)}.pid'
        argv = [program] + list(args) + ['--pidfile', self.pidfile]
        if stdio:
            argv += ['--chardev', 'stdio,id=mon0', '--monitor', 'chardev=mon0']
        else:
            for n in range(monitors):
                argv += ['--chardev', f'socket,id=mon{n},server=on,wait=off,'
                         f'path={MONITOR_PREFIX}{n}',
                         '--monitor', f'chardev=mon{n}'
                         + (',pretty=on' if pretty else '')]
        if tmpfs:
            argv = private_mount(box, tmpfs) + argv
        pipe = subprocess.PIPE if stdio else subprocess.DEVNULL
        with open(self.stderr_path, 'wb') as err:
            self.proc = subprocess.Popen(
                argv, cwd=box.path, stdin=pipe, stderr=err,
                stdout=subprocess.PIPE if stdio else err,
                start_new_session=True, restore_signals=True,
                preexec_fn=lambda: _in_child(obey_permissions, file_size_max))
        box.started.append(self.proc)

    def stderr(self):
        with open(self.stderr_path, 'rb') as f:
            return f.read().decode('utf-8', 'backslashreplace')

    def connect(self, monitor=0):
        """A socket to a monitor, once the daemon has written its pidfile,
        the last thing it does before it serves."""
        path = os.path.join(self.box.path, f'{MONITOR_PREFIX}{monitor}')
        end = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            if os.path.exists(os.path.join(self.box.path, self.pidfile)):
                sock = socket.socket(socket.AF_UNIX)
                try:
                    sock.connect(path)
                    return sock
                except OSError:
                    sock.close()
            if self.proc.poll() is not None:
                raise TestFailure(f'the daemon ended with status '
                                  f'{self.proc.returncode}: {self.stderr()}')
            if time.monotonic() > end:
                raise TestFailure('the daemon does not listen')
            time.sleep(0.005)

    def wait(self, seconds=WAIT_SECONDS_MAX):
        try:
            return self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TestFailure(f'the daemon still runs after {seconds} s')


def private_mount(box, tmpfs):
    """A command prefix: a small tmpfs that only that process sees, so that
    nothing stays mounted when it ends. tmpfs is (size, folder)."""
    size, folder = tmpfs
    script = f'mount -t tmpfs -o size={shlex.quote(size)} none ' \
             f'{shlex.quote(folder)} && exec "$@"'
    prefix = [require('unshare'), '-m', '--', 'sh', '-c', script, 'sh']
    os.makedirs(os.path.join(box.path, folder), exist_ok=True)
    probe = subprocess.run(prefix + ['true'], cwd=box.path,
                           stdin=subprocess.DEVNULL, capture_output=True)
    if probe.returncode != 0:
        raise Skip('no private mount namespace: '
                   + probe.stderr.decode(errors='replace').strip())
    return prefix


class Sandbox:
    """The folder, and all that was started in it."""

    def __init__(self):
        self.started = []
        self.path = None

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
        self.path = tempfile.mkdtemp(prefix='lb-')
        os.environ[MARK] = self.path
        return self

    def __exit__(self, *_):
        for proc in self.started:
            # The whole session of the child, also what it forked.
            try:
                os.killpg(proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            proc.wait()
            for stream in (proc.stdin, proc.stdout):
                if stream:
                    stream.close()
        self._kill_marked()
        os.environ.pop(MARK, None)
        subprocess.run(['chmod', '-R', 'u+rwx', self.path], check=False)
        shutil.rmtree(self.path, ignore_errors=True)

    def _kill_marked(self):
        """What went to the background still carries the mark of this sandbox
        in its environment."""
        mark = f'{MARK}={self.path}'.encode()
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/environ', 'rb') as f:
                    if mark not in f.read().split(b'\0'):
                        continue
                os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass            # gone, or not ours to look at

    def daemon(self, program, args, **kw):
        return Daemon(self, program, args, **kw)

    def run(self, argv, env=None, seconds=WAIT_SECONDS_MAX, **kw):
        """Run a tool to its end; returns (status, output text)."""
        proc = subprocess.Popen(
            argv, cwd=self.path, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _in_child(kw.get('obey_permissions', False),
                                         kw.get('file_size_max', 0)))
        self.started.append(proc)
        try:
            out, _ = proc.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TestFailure(f'{shlex.join(map(str, argv))}: no end after '
                              f'{seconds} s')
        return proc.returncode, out.decode('utf-8', 'backslashreplace')

    def background(self, argv, env=None):
        """Start a tool and leave it running until the sandbox goes."""
        proc = subprocess.Popen(
            argv, cwd=self.path, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=lambda: _in_child(False, 0))
        self.started.append(proc)
        return proc


def main(test):
    """Run test() as a program: 0, 77 with the reason, or 1 with the cause."""
    try:
        test()
    except Skip as why:
        print(f'SKIP: {why}')
        sys.exit(77)
    except TestFailure as why:
        print(f'FAIL: {why}', file=sys.stderr)
        sys.exit(1)

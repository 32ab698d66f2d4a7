# SPDX-License-Identifier: MIT
"""Processes for bench/run: the daemons measured, the programs that measure, and their end.

Whatever is started here ends with the run, however that ends: each process is in a list, and
the kernel kills it should the run itself be killed.
"""
import ctypes
import json
import os
import signal
import socket
import subprocess
import time

MIB = 1 << 20
GIB = 1 << 30
PR_SET_PDEATHSIG = 1
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
WAIT_S = 30

_libc = ctypes.CDLL(None)
_running = []


class Failed(Exception):
    """A measurement could not be made: what went wrong."""


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv, processors=None, **more):
    def first():
        _die_with_parent()
        if processors:
            os.sched_setaffinity(0, processors)
    p = subprocess.Popen(argv, preexec_fn=first, **more)
    _running.append(p)
    return p


def forget(p):
    if p in _running:
        _running.remove(p)


def kill(p):
    if p.poll() is None:
        p.kill()
        p.wait()
    for pipe in (p.stdin, p.stdout, p.stderr):
        if pipe:
            pipe.close()
    forget(p)


def kill_all():
    for p in list(_running):
        kill(p)


def finish(p, seconds=WAIT_S):
    """The JSON a measuring program prints at its end."""
    try:
        out, _ = p.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed("%s does not end" % p.args[0]) from None
    finally:
        kill(p)
    if p.returncode:
        raise Failed("%s failed with status %d" % (" ".join(p.args), p.returncode))
    return json.loads(out)


def measure(*argv, seconds=WAIT_S, processors=None):
    p = start([str(a) for a in argv], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, processors=processors)
    return finish(p, seconds)


def put_on(p, processors):
    """All threads of @p, and those they will start, onto these processors."""
    for tid in os.listdir("/proc/%d/task" % p.pid):
        try:
            os.sched_setaffinity(int(tid), processors)
        except ProcessLookupError:
            pass                        # a thread that has just ended


def wait_socket(path, p):
    """A connection to @path, as soon as somebody listens there."""
    end = time.monotonic() + WAIT_S
    while p.poll() is None and time.monotonic() < end:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            time.sleep(0.005)
    raise Failed("%s does not serve %s" % (p.args[0], path))


def cpu_us(p):
    """What a process has used of the processors so far, in microseconds."""
    with open("/proc/%d/stat" % p.pid, encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def memory(p, what):
    """VmHWM or VmRSS in MiB."""
    with open("/proc/%d/status" % p.pid, encoding="ascii") as f:
        for line in f:
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
    raise Failed("no %s of process %d" % (what, p.pid))


class Qmp:
    def __init__(self, sock):
        sock.settimeout(WAIT_S)
        self.file = sock.makefile("rw", encoding="utf-8")
        self.sock = sock
        self.events = []
        self.line()
        self.command("qmp_capabilities")

    def line(self):
        try:
            text = self.file.readline()
        except OSError as e:
            raise Failed("the control socket: %s" % e) from None
        if not text:
            raise Failed("the daemon is gone")
        return json.loads(text)

    def command(self, name, **args):
        args = {k.replace("_", "-"): v for k, v in args.items()}
        try:
            self.file.write(json.dumps({"execute": name, "arguments": args}) + "\n")
            self.file.flush()
        except OSError as e:
            raise Failed("%s: the daemon is gone (%s)" % (name, e)) from None
        while True:
            r = self.line()
            if "event" in r:
                self.events.append(r)
            elif "QMP" in r:
                continue                # who connects very early is greeted twice by the peer
            elif "error" in r:
                raise Failed("%s: %s" % (name, r["error"]["desc"]))
            else:
                return r["return"]

    def event(self, name, job, limit_s):
        """The time until job's event @name, None if it does not come within @limit_s."""
        end = time.monotonic() + limit_s
        try:
            while True:
                while self.events:
                    e = self.events.pop(0)
                    data = e["data"]
                    if data.get("device") != job:
                        continue
                    if e["event"] == name:
                        if "error" in data:
                            raise Failed("%s: %s" % (job, data["error"]))
                        return time.monotonic()
                    if e["event"] in ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR"):
                        raise Failed("%s ended early: %s" % (job, e))
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.sock.settimeout(left)
                try:
                    self.events.append(self.line())
                except Failed:
                    if time.monotonic() < end:
                        raise
                    # A line cut by the time limit cannot be told from none: start afresh.
                    self.file = self.sock.makefile("rw", encoding="utf-8")
                    return None
        finally:
            self.sock.settimeout(WAIT_S)


class Daemon:
    """A storage daemon with a control socket and, where @export names a node, an NBD export."""

    def __init__(self, program, folder, blockdevs=(), export=None):
        tag = "%d" % time.monotonic_ns()
        self.nbd = os.path.join(folder, tag + ".n")
        self.control = os.path.join(folder, tag + ".q")
        argv = [program]
        for b in blockdevs:
            argv += ["--blockdev", b]
        if export:
            argv += ["--nbd-server", "addr.type=unix,addr.path=" + self.nbd,
                     "--export", "nbd,id=e,node-name=%s,name=disk,writable=on" % export]
        argv += ["--chardev", "socket,id=c,server=on,wait=off,path=" + self.control, "--monitor", "c"]
        self.process = start(argv, stdin=subprocess.DEVNULL)
        self.qmp = Qmp(wait_socket(self.control, self.process))

    def hang_up(self):
        """Close the control connection, so that another can come: the peer serves one."""
        self.qmp.file.close()
        self.qmp.sock.close()

    def peak(self):
        return memory(self.process, "VmHWM")

    def end(self):
        kill(self.process)
        for path in (self.nbd, self.control):
            if os.path.exists(path):
                os.unlink(path)


def node(fmt, name, path):
    """--blockdev options of an image: a protocol node, and one of the format on it."""
    return ["driver=file,node-name=%sf,filename=%s" % (name, path),
            "driver=%s,node-name=%s,file=%sf" % (fmt, name, name)]

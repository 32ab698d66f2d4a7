# SPDX-License-Identifier: MIT
"""What bench/run measures of commands on images: the programs for scripts under their own names, beside
the peer's. A row is one command line, run on fresh copies of what it changes. Its time counts, and so does the
processor time of its process, which says more where others use the machine too.
"""
import os
import random
import shutil
import signal
import subprocess
import time

from daemons import GIB, MIB, Failed, kill, start

WAIT_S = 300


class Images:
    def __init__(self, b):
        self.b = b
        self.ours = os.path.join(os.path.dirname(b.liveblk), "compat")
        self.peer = os.path.dirname(b.daemons["peer"]) if "peer" in b.daemons else None
        self.mix = int((4 if b.full else 0.5) * GIB)
        self.null = os.open(os.devnull, os.O_RDWR)

    def sides(self):
        return {"ours": self.ours, **({"peer": self.peer} if self.peer else {})}

    def run(self, programs, *argv, stdin=None):
        """Seconds by the clock, and of processor time."""
        argv = [os.path.join(programs, argv[0])] + [str(a) for a in argv[1:]]
        said = os.open(self.b.path(".said"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        lines = os.open(self.b.path(stdin), os.O_RDONLY) if stdin else self.null
        where = os.getcwd()
        os.chdir(self.b.folder)
        signal.alarm(WAIT_S)
        try:
            began = time.monotonic()
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[
                (os.POSIX_SPAWN_DUP2, lines, 0), (os.POSIX_SPAWN_DUP2, self.null, 1), (os.POSIX_SPAWN_DUP2, said, 2)])
            try:
                _, status, used = os.wait4(pid, 0)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            took = time.monotonic() - began
        finally:
            signal.alarm(0)
            os.chdir(where)
            if stdin:
                os.close(lines)
            words = os.pread(said, 2000, 0).decode(errors="replace")
            os.close(said)
            os.unlink(self.b.path(".said"))
        if status:
            raise Failed("%s: %s" % (" ".join(argv), words))
        return took, used.ru_utime + used.ru_stime

    def make(self, *argv, **more):
        self.run(self.ours, *argv, **more)

    def row(self, name, argv, goal, fresh=(), after=(), rounds=None, stdin=None, least=None):
        """@goal: how many times as fast as the peer. @fresh: (from, to) copied before each run; @after: removed.
        @least: arguments of plaincopy, which then is the yardstick."""
        sides = dict(self.sides())
        if least:
            sides["min"] = self.b.tools
        values, busy = ({who: [] for who in sides} for _ in range(2))
        for i in range(rounds or (7 if self.b.full else 3)):
            order = list(sides.items())
            for who, programs in order if i % 2 == 0 else order[::-1]:
                for source, copy in fresh:
                    subprocess.run(["cp", "--sparse=always", source, copy], cwd=self.b.folder, check=True)
                if who == "min":
                    took = self.run(programs, "plaincopy", *least)
                else:
                    took = self.run(programs, *argv, stdin=stdin)
                values[who].append(took[0] * 1000)
                busy[who].append(took[1] * 1000)
                for leaf in after:
                    if os.path.exists(self.b.path(leaf)):
                        os.unlink(self.b.path(leaf))
        self.b.row(name, "ms", values, "peer", ("<=", round(1 / goal, 3)))
        self.b.row("    its processor time", "ms", busy)

    def mixed(self, name):
        """A raw disk as they are: a third of it data that can be compressed, some that cannot, the rest holes."""
        rng = random.Random(1)
        text = b"".join(b"%d lines of a log that says much the same %d\n" % (i, rng.randrange(1000)) for i in range(40000))
        with open(self.b.path(name), "wb") as f:
            for at in range(0, self.mix, MIB):
                kind = rng.random()
                if kind < 0.35:
                    f.seek(at)
                    f.write((text[rng.randrange(1 << 19):] + text)[:MIB])
                elif kind < 0.5:
                    f.seek(at)
                    f.write(rng.randbytes(MIB))
            f.truncate(self.mix)

    def lines(self, name, lines):
        with open(self.b.path(name), "w", encoding="ascii") as f:
            f.writelines(lines)


def converting(x):
    x.mixed("mix.raw")
    x.make("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "mix.qcow2")
    least = ("mix.raw", "o")
    x.row("convert raw to qcow2", ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "o"), 1, after="o",
          least=least)
    x.row("convert qcow2 to raw", ("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "mix.qcow2", "o"), 1, after="o",
          least=least)
    x.row("convert qcow2 to qcow2", ("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "mix.qcow2", "o"), 1, after="o",
          least=least)
    x.row("dd", ("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "if=mix.qcow2", "of=o"), 1, after="o", least=least)
    x.row("compare", ("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "mix.raw", "mix.qcow2"), 1)
    x.row("measure", ("qemu-img", "measure", "-f", "raw", "-O", "qcow2", "mix.raw"), 1)
    x.row("map", ("qemu-img", "map", "-f", "qcow2", "--output=json", "mix.qcow2"), 1)
    x.row("check", ("qemu-img", "check", "-f", "qcow2", "mix.qcow2"), 1)
    for kind in ("zlib", "zstd"):
        words = ("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=" + kind, "mix.raw")
        x.row("convert -c " + kind, words + ("o",), 4, after="o", rounds=3)
        x.make(*words, "packed.qcow2")
        sizes = {}
        for who, programs in x.sides().items():
            x.run(programs, *words, "o")
            sizes[who] = [os.stat(x.b.path("o")).st_size / MIB]
            os.unlink(x.b.path("o"))
        x.b.row("    its size", "MiB", sizes, "peer", ("<=", 1.001))
        x.row("convert from " + kind, ("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "packed.qcow2", "o"), 3, after="o")
        os.unlink(x.b.path("packed.qcow2"))


def fragment(x, name, clusters, cluster_size):
    """A disk long in use: clusters written in random order."""
    order = list(range(clusters))
    random.Random(2).shuffle(order)
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=%d" % cluster_size, name, clusters * cluster_size)
    x.lines("script", ["write -q %d 4k\n" % (c * cluster_size) for c in order])
    x.make("qemu-io", "-t", "unsafe", name, stdin="script")


def tables(x):
    fragment(x, "frag.qcow2", 400000 if x.b.full else 160000, 4096)
    x.row("check, fragmented", ("qemu-img", "check", "-f", "qcow2", "frag.qcow2"), 100, rounds=3)
    x.row("map, fragmented", ("qemu-img", "map", "-f", "qcow2", "--output=json", "frag.qcow2"), 20, rounds=3)
    fragment(x, "frag.qcow2", 400000 if x.b.full else 160000, 65536)
    x.row("check, fragmented, with holes", ("qemu-img", "check", "-f", "qcow2", "frag.qcow2"), 100, rounds=3)
    x.row("map, fragmented, with holes", ("qemu-img", "map", "-f", "qcow2", "--output=json", "frag.qcow2"), 1, rounds=3)
    os.unlink(x.b.path("frag.qcow2"))
    x.row("create, preallocation=metadata, 1T", ("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata",
                                                 "o", "1T"), 20, after="o", rounds=3)


def chains(x):
    x.mixed("mix.raw")
    x.make("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "base0")
    shutil.copyfile(x.b.path("base0"), x.b.path("base"))
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top0")
    piece = x.mix // 1024
    x.lines("script", ["write -q %d %d\n" % (i * piece, piece // 2) for i in range(1024)])
    x.make("qemu-io", "-t", "unsafe", "top0", stdin="script")
    x.row("commit", ("qemu-img", "commit", "-q", "-t", "unsafe", "top"), 2, fresh=(("top0", "top"), ("base0", "base")))
    shutil.copyfile(x.b.path("base0"), x.b.path("base"))
    x.make("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "other")
    x.row("rebase", ("qemu-img", "rebase", "-q", "-t", "unsafe", "-b", "other", "-F", "qcow2", "top"), 2,
          fresh=(("top0", "top"),))
    x.row("rebase to nothing", ("qemu-img", "rebase", "-q", "-t", "unsafe", "-b", "", "top"), 2, fresh=(("top0", "top"),))
    for leaf in os.listdir(x.b.folder):
        os.unlink(x.b.path(leaf))
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "c0", "1G")
    for i in range(1, 200):
        x.make("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "c%d" % (i - 1), "-F", "qcow2", "c%d" % i, "1G")
    x.row("open a chain of 200", ("qemu-io", "-r", "-c", "quit", "c199"), 1)


def requests(x):
    """Written and read at places far from each other: a step that visits each cluster once."""
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "e0", "64G")
    x.row("bench, 4k writes into an empty image", ("qemu-img", "bench", "-f", "qcow2", "-t", "unsafe", "-w", "-c", "30000",
                                                   "-d", "16", "-S", str(17 * MIB + 65536), "e"), 2, fresh=(("e0", "e"),))
    n = 262144
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", "sparse", "1T")
    x.row("bench, 4k reads, tables beyond the cache", ("qemu-img", "bench", "-f", "qcow2", "-c", str(n // 2), "-d", "16",
                                                       "-S", str(1021 * MIB + 65536), "sparse"), 1.3)
    os.unlink(x.b.path("sparse"))
    x.mixed("mix.raw")
    x.make("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "m0")
    rng = random.Random(4)
    x.lines("script", ["%s -q %d %dk\n" % (rng.choice(("read", "write", "read", "write -z")),
                                           rng.randrange(x.mix // 65536 - 16) * 65536, rng.choice((4, 64, 512)))
                       for _ in range(4000)])
    x.row("qemu-io, 4000 reads and writes", ("qemu-io", "-t", "unsafe", "-f", "qcow2", "m"), 1, fresh=(("m0", "m"),),
          stdin="script")
    x.row("bench, 64k reads", ("qemu-img", "bench", "-f", "qcow2", "-c", "20000", "-s", "65536", "m0"), 1)
    x.row("bench, 64k writes", ("qemu-img", "bench", "-f", "qcow2", "-t", "unsafe", "-w", "-c", "20000", "-s", "65536", "m"), 1,
          fresh=(("m0", "m"),))
    serving(x)


def serving(x):
    """A whole disk read from, and written to, a server of one image, by a client that is not ours."""
    copier = shutil.which("nbdcopy")
    if not copier:
        print("nbdcopy is not installed: nothing is read from qemu-nbd")
        return
    socket = x.b.path("s")
    uri = "nbd+unix:///?socket=" + socket
    for name, argv in (("read", (copier, uri, "null:")), ("written", (copier, x.b.path("mix.raw"), uri))):
        values = {who: [] for who in x.sides()}
        for i in range(7 if x.b.full else 3):
            order = list(x.sides().items())
            for who, programs in order if i % 2 == 0 else order[::-1]:
                shutil.copyfile(x.b.path("m0"), x.b.path("m"))
                server = start([os.path.join(programs, "qemu-nbd"), "-t", "-e", "8", "-f", "qcow2", "--cache=writeback", "-k",
                                socket, x.b.path("m")])
                until = time.monotonic() + 10
                while not os.path.exists(socket) and time.monotonic() < until:
                    time.sleep(0.01)
                began = time.monotonic()
                done = subprocess.run(argv, stderr=subprocess.PIPE, timeout=WAIT_S)
                values[who].append((time.monotonic() - began) * 1000)
                server.send_signal(signal.SIGTERM)
                server.wait(10)
                kill(server)
                if os.path.exists(socket):
                    os.unlink(socket)
                if done.returncode:
                    raise Failed("nbdcopy: %s" % done.stderr.decode())
        x.b.row("a disk %s through qemu-nbd" % name, "ms", values, "peer", ("<=", 1))


def starting(x):
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "i", "10G")
    n = 41 if x.b.full else 21
    x.row("qemu-img --version", ("qemu-img", "--version"), 2, rounds=n)
    x.row("qemu-img --help", ("qemu-img", "--help"), 2, rounds=n)
    x.row("qemu-io --version", ("qemu-io", "--version"), 2, rounds=n)
    x.row("qemu-nbd --version", ("qemu-nbd", "--version"), 2, rounds=n)
    x.row("info", ("qemu-img", "info", "-f", "qcow2", "i"), 2, rounds=n)
    x.row("create", ("qemu-img", "create", "-q", "-f", "qcow2", "o", "10G"), 2, rounds=n, after="o")
    x.row("snapshot -l", ("qemu-img", "snapshot", "-l", "i"), 2, rounds=n)
    x.row("qemu-io, one read", ("qemu-io", "-f", "qcow2", "-c", "read 0 64k", "i"), 2, rounds=n)
    x.row("resize", ("qemu-img", "resize", "-q", "-f", "qcow2", "c", "20G"), 1, rounds=n, fresh=(("i", "c"),))
    x.row("amend", ("qemu-img", "amend", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", "c"), 1, rounds=n, fresh=(("i", "c"),))
    x.row("bitmap --add", ("qemu-img", "bitmap", "-f", "qcow2", "--add", "c", "b"), 1, rounds=n, fresh=(("i", "c"),))
    x.row("snapshot -c", ("qemu-img", "snapshot", "-c", "s", "c"), 1, rounds=n, fresh=(("i", "c"),))


def images(b):
    if not os.path.exists(os.path.join(os.path.dirname(b.liveblk), "compat", "qemu-img")):
        raise Failed("there are no programs for scripts in the build tree")
    x = Images(b)
    if x.peer and not shutil.which(os.path.join(x.peer, "qemu-img")):
        x.peer = None
    for part in (starting, converting, tables, chains, requests):
        part(x)
        for leaf in os.listdir(b.folder):
            os.unlink(b.path(leaf))

# SPDX-License-Identifier: MIT
"""What bench/run measures of commands on images: the programs for scripts under their own names, beside
the peer's. A row is one command line, run on fresh copies of what it changes; only its time counts.
"""
import os
import random
import shutil
import subprocess
import time

from daemons import GIB, MIB, Failed

WAIT_S = 300


class Images:
    def __init__(self, b):
        self.b = b
        self.ours = os.path.join(os.path.dirname(b.liveblk), "compat")
        self.peer = os.path.dirname(b.daemons["peer"]) if "peer" in b.daemons else None
        self.mix = int((1.0 if b.full else 0.25) * GIB)

    def sides(self):
        return {"ours": self.ours, **({"peer": self.peer} if self.peer else {})}

    def run(self, programs, *argv):
        """Seconds."""
        argv = [os.path.join(programs, argv[0])] + [str(a) for a in argv[1:]]
        began = time.monotonic()
        done = subprocess.run(argv, cwd=self.b.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=WAIT_S)
        took = time.monotonic() - began
        if done.returncode:
            raise Failed("%s: %s" % (" ".join(argv), done.stderr.decode()))
        return took

    def make(self, *argv):
        self.run(self.ours, *argv)

    def row(self, name, argv, goal, fresh=(), after=(), rounds=None):
        """@goal: how many times as fast as the peer. @fresh: (from, to) copied before each run; @after: removed."""
        values = {who: [] for who in self.sides()}
        for i in range(rounds or (7 if self.b.full else 3)):
            order = list(self.sides().items())
            for who, programs in order if i % 2 == 0 else order[::-1]:
                for source, copy in fresh:
                    subprocess.run(["cp", "--sparse=always", source, copy], cwd=self.b.folder, check=True)
                values[who].append(self.run(programs, *argv) * 1000)
                for leaf in after:
                    os.unlink(self.b.path(leaf))
        self.b.row(name, "ms", values, "peer", ("<=", round(1 / goal, 3)))

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


def converting(x):
    x.mixed("mix.raw")
    x.make("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "mix.qcow2")
    x.row("convert raw to qcow2", ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "o"), 1, after="o")
    x.row("convert qcow2 to raw", ("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "mix.qcow2", "o"), 1, after="o")
    x.row("convert qcow2 to qcow2", ("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "mix.qcow2", "o"), 1, after="o")
    for kind in ("zlib", "zstd"):
        words = ("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=" + kind, "mix.raw")
        x.row("convert -c " + kind, words + ("o",), 4, after="o")
        x.make(*words, "packed.qcow2")
        x.row("convert from " + kind, ("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "packed.qcow2", "o"), 3, after="o")
        os.unlink(x.b.path("packed.qcow2"))
    x.row("compare", ("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "mix.raw", "mix.qcow2"), 1)
    x.row("dd", ("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "if=mix.qcow2", "of=o"), 1, after="o")
    x.row("measure", ("qemu-img", "measure", "-f", "raw", "-O", "qcow2", "mix.raw"), 1)


def fragment(x, name, clusters):
    """A disk long in use: small clusters written in random order, a few in each of many tables."""
    order = list(range(clusters))
    random.Random(2).shuffle(order)
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", name, clusters << 19)
    subprocess.run([os.path.join(x.ours, "qemu-io"), "-t", "unsafe", name], cwd=x.b.folder, check=True, timeout=WAIT_S,
                   input="".join("write -q %d 4k\n" % (c << 19) for c in order).encode(), stdout=subprocess.DEVNULL)


def tables(x):
    fragment(x, "frag.qcow2", 200000 if x.b.full else 40000)
    x.row("check, fragmented", ("qemu-img", "check", "-f", "qcow2", "frag.qcow2"), 100, rounds=3)
    x.row("map, fragmented", ("qemu-img", "map", "-f", "qcow2", "--output=json", "frag.qcow2"), 20, rounds=3)
    os.unlink(x.b.path("frag.qcow2"))
    x.row("create, preallocation=metadata", ("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata",
                                             "o", "1T" if x.b.full else "128G"), 20, after="o", rounds=3)


def chains(x):
    x.mixed("mix.raw")
    x.make("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mix.raw", "base")
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top0")
    piece = x.mix // 256
    subprocess.run([os.path.join(x.ours, "qemu-io"), "-t", "unsafe", "top0"], cwd=x.b.folder, check=True, timeout=WAIT_S,
                   input="".join("write -q %d %d\n" % (i * piece, piece // 2) for i in range(256)).encode(),
                   stdout=subprocess.DEVNULL)
    x.row("commit", ("qemu-img", "commit", "-q", "-t", "unsafe", "top"), 2, fresh=(("top0", "top"),))
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
    x.row("4k writes into an empty image", ("qemu-img", "bench", "-f", "qcow2", "-t", "unsafe", "-w", "-c", "30000", "-d", "16",
                                            "-S", str(17 * MIB + 65536), "e"), 2, fresh=(("e0", "e"),))
    n = 262144
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", "sparse", "1T" if x.b.full else "256G")
    x.row("4k reads, tables beyond the cache", ("qemu-img", "bench", "-f", "qcow2", "-c", str(n // 2), "-d", "16",
                                                "-S", str(1021 * MIB + 65536), "sparse"), 1.3)


def starting(x):
    x.make("qemu-img", "create", "-q", "-f", "qcow2", "i", "10G")
    x.row("info", ("qemu-img", "info", "-f", "qcow2", "i"), 2, rounds=21)
    x.row("create", ("qemu-img", "create", "-q", "-f", "qcow2", "o", "10G"), 2, rounds=21, after="o")
    x.row("qemu-img --help", ("qemu-img", "--help"), 2, rounds=21)
    x.row("qemu-io, one read", ("qemu-io", "-f", "qcow2", "-c", "read 0 64k", "i"), 2, rounds=21)
    x.row("resize", ("qemu-img", "resize", "-q", "-f", "qcow2", "i", "10G"), 1, rounds=11)


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

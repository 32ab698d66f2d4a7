# SPDX-License-Identifier: MIT
"""What bench/run measures: one function for each kind of measurement.

A case takes the Bench and adds rows to it. Ours and the peer (and the yardstick, where there is
one) take turns within each round; a row's ratio is the median of the rounds' ratios, so that
what else the machine does in that time falls on both.
"""
import os
import signal
import statistics
import subprocess
import time

from images import images
from daemons import MIB, Daemon, Failed, cpu_us, finish, forget, kill, measure, memory, node, put_on, start, wait_socket

RANDOM = [("read 4k d1", "-d 1"), ("read 4k d32", "-d 32"), ("write 4k d1", "-w -d 1"), ("write 4k d32", "-w -d 32")]
SEQUENTIAL = [("read 1M", "-s -b 1048576 -d 4"), ("write 1M", "-w -s -b 1048576 -d 4")]


class Bench:
    """What all cases share: programs, folder, sizes, and the rows so far."""

    def __init__(self, build, peer, folder, full):
        self.liveblk = os.path.join(build, "liveblk")
        self.daemons = {"ours": os.path.join(build, "liveblkd")}
        if peer:
            self.daemons["peer"] = peer
        self.tools = os.path.join(build, "bench")
        self.folder = folder
        self.full = full
        self.failed = False
        self.rows = []
        self.peaks = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def tool(self, name):
        return os.path.join(self.tools, name)

    def disk(self, name, size):
        """A raw file full of data that is not zero."""
        path = self.path(name)
        piece = bytes(range(1, 256)) * (MIB // 255 + 1)
        with open(path, "wb") as f:
            for at in range(0, size, MIB):
                f.write(at.to_bytes(8, "big") + piece[8:MIB])
            f.flush()
            os.fsync(f.fileno())
        return path

    def empty(self, fmt, name, size):
        path = self.path(name)
        if os.path.exists(path):
            os.unlink(path)
        if fmt == "raw":
            with open(path, "wb") as f:
                f.truncate(size)
        else:
            subprocess.run([self.liveblk, "create", "-f", fmt, path, str(size)], check=True, stdout=subprocess.DEVNULL)
        return path

    def convert(self, source, fmt, name):
        path = self.path(name)
        subprocess.run([self.liveblk, "convert", "-O", fmt, source, path], check=True, stdout=subprocess.DEVNULL)
        return path

    def row(self, name, unit, values, ratio_to=None, goal=None):
        """@values: {"ours": [one per round], "peer": ..., "min": ...}. The goal is (op, number)
        for the median of ours / @ratio_to, or of ours itself without @ratio_to; None shows only."""
        row = {"name": name, "unit": unit, "rounds": values, "goal": None, "met": None, "ratio": {}}
        for who, list_ in values.items():
            row[who] = statistics.median(list_) if list_ and None not in list_ else None
        for other in ("peer", "min"):
            if row.get("ours") is not None and row.get(other) is not None:
                row["ratio"][other] = statistics.median(
                    a / b if b else float("inf") for a, b in zip(values["ours"], values[other]))
        if goal:
            op, bound = goal
            got = row["ratio"].get(ratio_to) if ratio_to else row.get("ours")
            row["goal"] = "%s %g%s" % (op, bound, " x " + ratio_to if ratio_to else "")
            if got is not None or not ratio_to:
                row["met"] = got is not None and (got >= bound if op == ">=" else got <= bound)
        self.rows.append(row)

    def peak(self, case, who, mib):
        self.peaks.append((case, who, mib))

    def turns(self, count):
        """Who comes first changes from round to round."""
        names = list(self.daemons)
        for i in range(count):
            yield i, names if i % 2 == 0 else names[::-1]


def nbd_turns(b, name, options, daemons, least, alone):
    """Rows of one kind of load; @alone: client and server share one processor."""
    values = {who: [] for who in list(daemons) + ["min"]}
    cost = {who: [] for who in daemons}
    everywhere = os.sched_getaffinity(0)
    where = {min(everywhere)} if alone else everywhere
    for _, order in b.turns(21 if b.full else 9):
        for who in order + ["min"]:
            p = daemons[who].process if who in daemons else least
            put_on(p, where)
            before = cpu_us(p)
            got = measure(b.tool("nbdload"), *options.split(), "-t", 0.4 if b.full else 0.12,
                          daemons[who].nbd if who in daemons else b.path("min.n"), "disk", processors=where)
            values[who].append(got["rate"])
            if who in cost:
                cost[who].append((cpu_us(p) - before) / max(got["count"], 1))
    aim = "4k" in name
    b.row(name, "/s", values, "peer", (">=", 2) if aim else None)
    if aim:
        b.row(name + ", of nbdmin", "/s", {k: v for k, v in values.items() if k != "peer"}, "min", (">=", 0.667))
    b.row(name + ", processor", "us each", cost)


def nbd(b):
    size = (512 if b.full else 256) * MIB
    raw = b.disk("nbd.raw", size)
    least = start([b.tool("nbdmin"), b.path("min.n"), b.disk("min.raw", size)])
    wait_socket(b.path("min.n"), least).close()
    for fmt in ("raw", "qcow2"):
        daemons = {}
        for who, program in b.daemons.items():
            image = b.path("nbd-%s.%s" % (who, fmt))
            b.convert(raw, fmt, os.path.basename(image))
            daemons[who] = Daemon(program, b.folder, node(fmt, "d", image), "d")
        for name, options in RANDOM + SEQUENTIAL:
            one = name.endswith("d1")
            nbd_turns(b, "%s %s" % (fmt, name), options, daemons, least, one)
            if one and b.full:
                nbd_turns(b, "%s %s, any processor" % (fmt, name), options, daemons, least, False)
        for who, d in daemons.items():
            b.peak("NBD " + fmt, who, d.peak())
            d.end()
            os.unlink(b.path("nbd-%s.%s" % (who, fmt)))
    kill(least)
    os.unlink(b.path("nbd.raw"))
    os.unlink(b.path("min.raw"))


def mirror_once(b, program, source, target, mode="background"):
    """Seconds from the command to the end of the pivot, of a mirror nobody writes beside."""
    d = Daemon(program, b.folder, node(*source) + node(*target))
    begin = time.monotonic()
    d.qmp.command("blockdev-mirror", job_id="m", device=source[1], target=target[1], sync="full", copy_mode=mode)
    if not d.qmp.event("BLOCK_JOB_READY", "m", 120):
        raise Failed("a quiet mirror is not ready after two minutes")
    d.qmp.command("job-complete", id="m")
    end = d.qmp.event("BLOCK_JOB_COMPLETED", "m", 60)
    peak = d.peak()
    d.end()
    return (end or float("inf")) - begin, peak


def mirror(b):
    size = (768 if b.full else 320) * MIB
    raw = b.disk("quiet.raw", size)
    source = {"raw": raw, "qcow2": b.convert(raw, "qcow2", "quiet.qcow2")}
    for from_, to in (("raw", "raw"), ("qcow2", "raw"), ("raw", "qcow2")):
        values = {who: [] for who in list(b.daemons) + ["min"]}
        peaks = {}
        for i, order in b.turns(8 if b.full else 5):
            for who in order + ["min"]:
                if who == "min":
                    b.empty("raw", "target", size)
                    os.unlink(b.path("target"))
                    seconds = measure(b.tool("plaincopy"), raw, b.path("target"), seconds=120)["seconds"]
                else:
                    target = b.empty(to, "target", size)
                    seconds, peak = mirror_once(b, b.daemons[who], (from_, "s", source[from_]), (to, "t", target))
                    peaks[who] = max(peaks.get(who, 0), peak)
                if i:                       # the first round warms up
                    values[who].append(seconds)
                os.unlink(b.path("target"))
        b.row("mirror %s to %s" % (from_, to), "s", values, "min", ("<=", 1.15))
        for who, peak in peaks.items():
            b.peak("mirror %s to %s" % (from_, to), who, peak)
    for path in source.values():
        os.unlink(path)


def client_once(b, program, fmts, size, mode, load, limit_s):
    """A writer before, during and after the bulk of a mirror: nbdload's segments, the time it
    took to be ready (None if it was not within @limit_s), and the daemon's peak."""
    source = b.convert(b.path("busy.raw"), fmts[0], "source")
    target = b.empty(fmts[1], "target", size)
    d = Daemon(program, b.folder, node(fmts[0], "s", source) + node(fmts[1], "t", target), "s")
    w = start([b.tool("nbdload"), "-w"] + load.split() + [d.nbd, "disk"], stdout=subprocess.PIPE)
    try:
        time.sleep(1.5 if b.full else 0.5)
        begin = time.monotonic()
        w.send_signal(signal.SIGUSR1)
        d.qmp.command("blockdev-mirror", job_id="m", device="s", target="t", sync="full", copy_mode=mode)
        ready = d.qmp.event("BLOCK_JOB_READY", "m", limit_s)
        w.send_signal(signal.SIGUSR1)
        time.sleep(1.0 if b.full else 0.3)
        peak = d.peak()
        w.send_signal(signal.SIGTERM)
        got = finish(w)
    finally:
        forget(w)
        d.end()
        os.unlink(source)
        os.unlink(target)
    return got["segments"], ready and ready - begin, peak


def client(b):
    size = (1024 if b.full else 256) * MIB
    limit_s = 60 if b.full else 6
    b.disk("busy.raw", size)
    loads = [("d1", "-d 1"), ("d16", "-d 16"), ("2000/s", "-d 16 -r 2000")]
    for fmts in (("raw", "raw"), ("raw", "qcow2"), ("qcow2", "raw")) if b.full else (("raw", "raw"),):
        for mode in ("background", "write-blocking"):
            for short, load in loads:
                client_rows(b, fmts, size, mode, short, load, limit_s)
    os.unlink(b.path("busy.raw"))


def client_rows(b, fmts, size, mode, short, load, limit_s):
    what = "%s%s, %s" % ("" if fmts == ("raw", "raw") else "%s to %s, " % fmts, mode, short)
    kept, p99, worse, ready, after = ({who: [] for who in b.daemons} for _ in range(5))
    for _, order in b.turns(5 if b.full else 3):
        for who in order:
            s, seconds, peak = client_once(b, b.daemons[who], fmts, size, mode, load, limit_s)
            before, during = s[0], s[1]
            kept[who].append(during["rate"] / before["rate"])
            p99[who].append(during["p99_us"] / 1000)
            worse[who].append(during["p99_us"] / before["p99_us"])
            ready[who].append(seconds)
            after[who].append(s[2]["rate"] / before["rate"] if len(s) > 2 and s[2]["count"] else 0)
            b.peak("client", who, peak)
    b.row(what + ": rate kept", "of 1", kept, None, (">=", 0.9 if "-r" in load else 0.5))
    b.row(what + ": p99 grows", "times", worse, None, ("<=", 5))
    b.row(what + ": p99", "ms", p99)
    b.row(what + ": ready after", "s", ready, None, ("<=", limit_s))
    b.row(what + ": rate when ready", "of 1", after)


def qmp(b):
    daemons = {who: Daemon(program, b.folder) for who, program in b.daemons.items()}
    for d in daemons.values():
        d.hang_up()
    count = 16000 if b.full else 3200
    for name, depth in (("one at a time", 1), ("32 in flight", 32)):
        values = {who: [] for who in daemons}
        for _, order in b.turns(15 if b.full else 7):
            for who in order:
                values[who].append(measure(b.tool("qmpload"), "-n", count, "-p", depth, daemons[who].control)["rate"])
        b.row("QMP " + name, "/s", values, "peer", (">=", 3))
    for who, d in daemons.items():
        b.peak("QMP", who, d.peak())
        d.end()


def idle_mirrors(b, program, count):
    """Resident memory with @count mirrors that are ready and have nothing to do."""
    d = Daemon(program, b.folder)
    for i in range(count):
        for side in ("s", "t"):
            d.qmp.command("blockdev-add", driver="raw", node_name="%s%d" % (side, i),
                          file={"driver": "file", "filename": b.path("idle-%s%d" % (side, i))})
        d.qmp.command("blockdev-mirror", job_id="m%d" % i, device="s%d" % i, target="t%d" % i, sync="full")
    end = time.monotonic() + 120
    while not all(j["ready"] for j in d.qmp.command("query-block-jobs")):
        if time.monotonic() > end:
            raise Failed("%d quiet mirrors are not ready after two minutes" % count)
        time.sleep(0.1)
    now, peak = memory(d.process, "VmRSS"), d.peak()
    d.end()
    return now, peak


def idle(b):
    count = 500
    now, peak = {}, {}
    paths = [b.empty("raw", "idle-%s%d" % (side, i), 1024 * MIB) for i in range(count) for side in "st"]
    for who, program in b.daemons.items():
        try:
            now[who], peak[who] = ([x] for x in idle_mirrors(b, program, count))
        except Failed as e:
            if who == "ours":
                raise
            print("  (%s: %s)" % (who, e))
    for path in paths:
        os.unlink(path)
    b.row("%d idle mirrors, memory" % count, "MiB", now, None, ("<=", 100))
    b.row("%d idle mirrors, peak" % count, "MiB", peak, None, ("<=", 100))


def snapshots(b):
    """Snapshots inside a qcow2 image whose metadata is full: every cluster has a place."""
    tools = {who: os.path.join(os.path.dirname(program), "compat" if who == "ours" else "", "qemu-img")
             for who, program in b.daemons.items()}
    tools = {who: path for who, path in tools.items() if os.path.exists(path)}
    image, copy = b.path("snapshots.qcow2"), b.path("snapshots.copy")
    steps = [("create", "-c", "a"), ("create, one is there", "-c", "b"), ("apply", "-a", "a"), ("delete", "-d", "b"),
             ("delete the last", "-d", "a")]
    values = {name: {who: [] for who in tools} for name, _, _ in steps}
    subprocess.run([tools["ours"], "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", image, "256G"], check=True)
    for i, order in b.turns(6 if b.full else 4):
        for who in [w for w in order if w in tools]:
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
            for name, letter, snapshot in steps:
                begin = time.monotonic()
                subprocess.run([tools[who], "snapshot", letter, snapshot, copy], check=True)
                if i:                       # the first round warms up
                    values[name][who].append(time.monotonic() - begin)
            os.unlink(copy)
    for name, _, _ in steps:
        b.row("snapshot in 256 GiB: " + name, "s", values[name], "peer", ("<=", 0.1))
    os.unlink(image)


def startup_once(program):
    begin = time.monotonic()
    p = start([program, "--chardev", "stdio,id=c", "--monitor", "c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    greeting = p.stdout.readline()
    ms = (time.monotonic() - begin) * 1000
    peak = memory(p, "VmHWM") if greeting else None
    kill(p)
    if not greeting:
        raise Failed("%s: no greeting" % program)
    return ms, peak


def startup(b):
    values = {who: [] for who in b.daemons}
    size = {who: [] for who in b.daemons}
    for _, order in b.turns(31 if b.full else 11):
        for who in order:
            ms, peak = startup_once(b.daemons[who])
            values[who].append(ms)
            size[who].append(peak)
    b.row("start to greeting", "ms", values, "peer", ("<=", 1))
    b.row("memory at the start", "MiB", size, "peer", ("<=", 1))


CASES = {"startup": startup, "images": images, "qmp": qmp, "nbd": nbd, "mirror": mirror, "client": client,
         "idle": idle, "snapshots": snapshots}

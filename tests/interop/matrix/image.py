# SPDX-License-Identifier: MIT
"""image: one image of the matrix with the model of what it has to show, and how programs judge it.

What:   Image.create() makes it; steps.py changes it; judge() lets the programs of both sides check and read it.
Files:  in the folder @path: `a` the image, `a.data` its data file, `base*` what it stands on, `out` scratch.
Fails:  Wrong, with the seed's commands so far; each can be run again by hand in the folder.
"""
import json
import os
import random
import shlex
import signal
import subprocess

from qcow2bitmaps import read_bitmaps

SECONDS_MAX = 60 * int(os.environ.get('MATRIX_SLOWER', 1))
IN_USE, AUTO = 1, 2
SECRET = ('--object', 'secret,id=s,data=pass')


class Wrong(Exception):
    """What was seen is not what had to be seen."""


class Side:
    """A set of programs: @folder, or '' for those of PATH."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder

    def path(self, program):
        return os.path.join(self.folder, program)


class Bitmap:
    def __init__(self, recording, granularity):
        self.recording, self.granularity, self.dirty, self.lost = recording, granularity, set(), False


class Image:
    def __init__(self, path, sides, c, seed):
        self.path, self.sides, self.c = path, sides, c
        self.ours = sides[0]
        self.rng = random.Random(f'{seed} {sorted(c.items())}')
        self.log, self.judged, self.refused = [], 0, []
        self.cluster, self.version, self.width = c['cluster'], c['version'], c['width']
        self.lazy, self.encrypted = c['lazy'] == 'on', c['encryption']
        self.snapshots, self.bitmaps = [], {}       # [(name, contents)], {name: Bitmap}
        self.backing = None                         # its name
        self.below = b''                            # what it shows
        self.disk = bytearray()
        self.touched = set()                        # clusters that the image may have of its own

    # ---- programs ----

    def writers(self):
        """Sides that may change the image: legacy ciphers are only read by ours."""
        return [s for s in self.sides if s is not self.ours] if self.encrypted == 'aes' else self.sides

    def side(self):
        """Ours half of the time, where it may."""
        some = self.writers()
        return some[0] if self.rng.random() < 0.4 else self.rng.choice(some)

    def run(self, side, program, *argv, status=0, refusal=None):
        """The output; @refusal: text of an error that is right as well, and then None."""
        argv = [side.path(program), *map(str, argv)]
        self.log.append(shlex.join(argv))
        # A group of its own, so that nothing of it outlives a test that is ended.
        with subprocess.Popen(argv, cwd=self.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as proc:
            try:
                text = proc.communicate(timeout=SECONDS_MAX)[0].decode('utf-8', 'backslashreplace')
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.communicate()
                raise Wrong(f'no end after {SECONDS_MAX} s: {shlex.join(argv)}') from None
            except BaseException:
                proc.send_signal(signal.SIGKILL)
                raise
        if proc.returncode != status:
            if refusal and proc.returncode == 1 and any(r in text for r in refusal):
                self.refused.append(f'{program} {argv[1]} of {side.name}: {text.strip().splitlines()[-1]}')
                return None
            raise Wrong(f'status {proc.returncode}, not {status}: {shlex.join(argv)}\n{text}')
        return text

    def options(self, name='a'):
        more = f',encrypt.format={self.encrypted},encrypt.key-secret=s' if self.encrypted != 'none' else ''
        return f'driver=qcow2{more},file.filename={name}'

    def where(self, name='a'):
        """The words that name the image to a program: options, then its name."""
        if self.encrypted == 'none':
            return [name]
        return [*SECRET, '--image-opts', self.options(name)]

    def file(self, name):
        return os.path.join(self.path, name)

    # ---- making ----

    def creation(self, data_file='a.data', compat=None):
        """What -o says."""
        c = self.c
        words = [f'cluster_size={self.cluster}', f'compat={"0.10" if self.version == 2 else "1.1"}']
        if self.version == 3:
            words += [f'refcount_bits={self.width}', f'lazy_refcounts={"on" if self.lazy else "off"}',
                      f'extended_l2={c["extended"]}']
            if c['data_file'] != 'none':
                words.append(f'data_file={data_file}')
            if c['data_file'] == 'raw':
                words.append('data_file_raw=on')
        if c['compression'] == 'zstd':
            words.append('compression_type=zstd')
        if self.encrypted != 'none':
            words += [f'encrypt.format={self.encrypted}', 'encrypt.key-secret=s']
        if self.encrypted == 'luks':
            words.append('encrypt.iter-time=10')
        return ','.join(words)

    def may_have_backing(self):
        return self.c['data_file'] != 'raw'

    def length(self):
        """Of a disk: a few clusters where they are large, several tables where they are small."""
        top = {512: 1500, 1024: 1500, 2048: 800, 4096: 500}.get(self.cluster, max(6, min(160, (10 << 20) // self.cluster)))
        sectors = self.rng.randrange(2, top) * (self.cluster // 512)
        return 512 * max(8, sectors - self.rng.choice([0, 0, 1, self.cluster // 1024]))

    def make_base(self, name, size):
        """A backing image, raw or qcow2, and what it shows."""
        data = bytearray(size)
        for _ in range(12):
            at, n = self.place(size, 512)
            data[at:at + n] = bytes([self.rng.randrange(1, 255)]) * n
        fmt = self.rng.choice(['raw', 'qcow2'])
        with open(self.file(name + '.raw'), 'wb') as f:
            f.write(data)
        if fmt == 'raw':
            os.rename(self.file(name + '.raw'), self.file(name))
        else:
            self.run(self.rng.choice(self.sides), 'qemu-img', 'convert', '-O', 'qcow2', '-o',
                     f'cluster_size={self.rng.choice([512, 4096, 65536])}', name + '.raw', name)
            os.remove(self.file(name + '.raw'))
        return fmt, bytes(data)

    def create(self):
        size, words = self.length(), []
        if self.may_have_backing() and self.rng.random() < 0.4:
            length = max(512, min(size + self.rng.randrange(-20, 20) * 4096, 2 * size)) // 512 * 512
            length = size if self.rng.random() < 0.5 else length
            fmt, self.below = self.make_base('base0', length)
            self.backing, words = 'base0', ['-b', 'base0', '-F', fmt]
        side = self.side()
        if self.encrypted == 'luks' and self.rng.random() < 0.95:
            side = self.ours        # the peers spend seconds on measuring their own speed
        secret = SECRET if self.encrypted != 'none' else ()
        self.run(side, 'qemu-img', 'create', '-q', *secret, '-f', 'qcow2', *words, '-o', self.creation(), 'a', size)
        self.disk = bytearray(self.below[:size].ljust(size, b'\0'))

    # ---- the model ----

    def place(self, size, unit):
        at = self.rng.randrange((size + unit - 1) // unit) * unit
        n = self.rng.choice([unit, unit, 2 * unit, 5 * unit, 4096, 65536, 30 * unit, 2 * self.cluster])
        return at, min(max(unit, n // unit * unit), size - at)

    def put(self, at, data):
        self.disk[at:at + len(data)] = data
        self.touched.update(range(at // self.cluster, (at + len(data) - 1) // self.cluster + 1))
        for b in self.bitmaps.values():
            if b.recording and not b.lost:
                b.dirty.update(range(at // b.granularity, (at + len(data) - 1) // b.granularity + 1))

    def touch_all(self):
        self.touched.update(range(len(self.disk) // self.cluster + 1))

    def lengthen(self, size):
        self.disk = self.disk[:size] + bytes(max(0, size - len(self.disk)))
        for b in self.bitmaps.values():
            last = (size + b.granularity - 1) // b.granularity
            b.dirty = {g for g in b.dirty if g < last}

    # ---- judging ----

    def compare(self, side, wanted, what, *words):
        self.run(side, 'qemu-img', 'convert', *words, '-O', 'raw', *self.where(), 'out')
        with open(self.file('out'), 'rb') as f:
            got = f.read()
        os.remove(self.file('out'))
        if got == wanted:
            return
        if len(got) != len(wanted):
            raise Wrong(f'{what}, as {side.name} shows it, is {len(got)} bytes long, not {len(wanted)}')
        at = next(i for i in range(0, len(got), 512) if got[i:i + 512] != wanted[i:i + 512])
        raise Wrong(f'{what}, as {side.name} shows it, differs at {at} (cluster {at // self.cluster}): '
                    f'{got[at:at + 8].hex()}, not {wanted[at:at + 8].hex()}')

    def compare_bitmaps(self):
        got = read_bitmaps(self.file('a')) if self.version == 3 else {}
        if sorted(got) != sorted(self.bitmaps):
            raise Wrong(f'bitmaps {sorted(got)}, not {sorted(self.bitmaps)}')
        for name, (flags, granularity, dirty) in got.items():
            b = self.bitmaps[name]
            if granularity != b.granularity:
                raise Wrong(f'bitmap {name}: granularity {granularity}, not {b.granularity}')
            if b.lost:
                if not flags & IN_USE:
                    raise Wrong(f'bitmap {name} may be wrong and does not say so')
            elif (flags, dirty) != (AUTO if b.recording else 0, b.dirty):
                raise Wrong(f'bitmap {name}: flags {flags}, wrong at {sorted(dirty ^ b.dirty)[:5]}')

    def peer(self):
        """Of the peers, the next."""
        peers = self.sides[1:]
        return peers[self.judged % len(peers)]

    def judge_raw_file(self):
        """A raw data file shows the disk by itself."""
        with open(self.file('a.data'), 'rb') as f:
            got = f.read(len(self.disk))
        if self.c['data_file'] == 'raw' and self.encrypted == 'none' and got.ljust(len(self.disk), b'\0') != self.disk:
            raise Wrong('the raw data file does not hold what the disk shows')

    def judge(self, whole=False):
        """Both sides check and read; @whole: by every program, and all snapshots as well."""
        self.judged += 1
        sides = list(self.sides) if whole else [self.ours, self.peer()]
        for side in sides:
            if side is self.ours and self.encrypted == 'aes' and not self.can_read_aes():
                continue
            self.run(side, 'qemu-img', 'check', '-q', *self.where())
            self.compare(side, self.disk, 'the disk')
            for name, data in self.snapshots if whole else ():
                if side is not self.ours and len(data) != len(self.disk):
                    continue        # the peers show it as long as the disk is now
                self.compare(side, data, f'snapshot {name}', '-l', f'snapshot.name={name}')
        self.compare_bitmaps()
        if self.c['data_file'] != 'none':
            self.judge_raw_file()
        listed = [line.split()[1] for line in
                  self.run(sides[-1], 'qemu-img', 'snapshot', '-l', *self.where()).splitlines()[2:]]
        if listed != [name for name, _ in self.snapshots]:
            raise Wrong(f'snapshots {listed}, not {[name for name, _ in self.snapshots]}')
        if whole and self.encrypted != 'aes':
            told = [json.loads(self.run(s, 'qemu-img', 'info', '--output=json', *self.where()))['format-specific']
                    for s in (self.ours, self.sides[-1])]
            if told[0] != told[1]:
                raise Wrong(f'info differs: {told[0]} and {told[1]}')

    def can_read_aes(self):
        """Legacy images: a build may leave the cipher out."""
        if not hasattr(self.ours, 'reads_aes'):
            try:
                self.run(self.ours, 'qemu-img', 'info', *self.where())
                self.ours.reads_aes = True
            except Wrong:
                self.ours.reads_aes = False
        return self.ours.reads_aes

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""run.py: play command lines on the peer's programs and on ours, and compare.

  run.py --ours FOLDER [--peer FOLDER] [--part N/M] [TABLE.lines...]
  run.py ... --print TEXT      show both sides of the lines that contain TEXT
  run.py ... --all             show every difference, not the first twenty

README.md tells what a table looks like. Exit: 0 all equal, 1 a difference, 77 there is no peer here, 2 wrong usage.
"""
import argparse
import concurrent.futures
import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

PROGRAMS = ('qemu-img', 'qemu-io', 'qemu-nbd')
TIMEOUT_S = 30
PEER_TIMEOUT_S = 20      # of a peer that measures itself, see peer_lost_its_way
PEER_TRIES = 25


class Line:
    def __init__(self, table, number, setup, text):
        self.where = f'{table}:{number}'
        self.setup = setup
        self.loose = self.newer = self.status = False
        self.differs = None
        while text.startswith('!'):
            mark, text = text.split(None, 1)
            if mark == '!10':
                self.loose = True
            elif mark == '!-7':
                self.newer = True
            elif mark == '!status':
                self.status = True
            elif mark == '!differs':
                self.differs, text = text.split(None, 1)
            else:
                sys.exit(f'{self.where}: unknown mark {mark}')
        self.text = text
        # What a line asks to be filled has to be; else ours may leave holes where the peer has zeroes.
        self.filled = re.search(r' -S 0 |preallocation=(falloc|full)', text) is not None
        text, _, stdin = text.partition(' <<< ')
        self.stdin = (stdin.replace('\\n', '\n') + '\n').encode() if stdin else b''
        self.argv = shlex.split(text)
        if self.argv[0] not in PROGRAMS:
            sys.exit(f'{self.where}: {self.argv[0]} is no program of ours')


def read_table(path):
    """The setups {name: [commands]} and the lines."""
    setups, lines, section, name = {}, [], None, None
    base = os.path.basename(path)
    with open(path, encoding='utf-8') as f:
        for number, text in enumerate(f, 1):
            text = text.strip()
            if not text or text.startswith('#'):
                continue
            found = re.fullmatch(r'\[(setup|lines) ([\w-]+)\]', text)
            if found:
                section, name = found.groups()
                if section == 'setup':
                    setups[name] = []
                elif name not in setups:
                    sys.exit(f'{base}:{number}: no setup {name}')
            elif section == 'setup':
                setups[name].append(text)
            elif section == 'lines':
                lines.append(Line(base, number, name, text))
            else:
                sys.exit(f'{base}:{number}: outside of a section')
    return setups, lines


# ---- playing ----

def environment(folder):
    return {'PATH': folder + ':/usr/bin:/bin', 'HOME': '/nonexistent', 'LC_ALL': 'C', 'TZ': 'UTC',
            **{k: v for k, v in os.environ.items() if k.startswith(('LIVEBLK_', 'ASAN_', 'UBSAN_', 'TSAN_'))}}


def make_setup(commands, folder, peer):
    os.mkdir(folder)
    for command in commands:
        done = subprocess.run(['sh', '-ec', command], cwd=folder, env=environment(peer), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=8 * TIMEOUT_S)
        if done.returncode:
            sys.exit(f'setup: {command}: {done.stderr.decode()}')


def play(line, programs, folder, timeout=TIMEOUT_S):
    program = os.path.join(programs, line.argv[0])
    try:
        done = subprocess.run([program] + line.argv[1:], cwd=folder, input=line.stdin, capture_output=True,
                              env=environment(programs), timeout=timeout)
    except subprocess.TimeoutExpired:
        return 'timeout', '', ''
    return (done.returncode, cleaned(done.stdout, program), cleaned(done.stderr, program))


def peer_lost_its_way(result):
    """Version 7 measures its own speed to make a key. Where the kernel counts processor time coarsely it gives up or
    never ends, by chance; then nothing is said of what is compared."""
    return 'accurate CPU usage' in result[2] or result[0] == 'timeout'


def cleaned(data, program):
    text = data.decode('utf-8', 'replace').replace('\r', '<CR>\n')
    text = text.replace(program, 'PROGRAM')
    text = re.sub(r'#block\d+', '#blockN', text)
    text = re.sub(r'completed in \d+\.\d+ seconds', 'completed in T seconds', text)
    # qemu-io: "64 KiB, 1 ops; 00.00 sec (3 MiB/sec and 4 ops/sec)"
    text = re.sub(r'\d+:\d\d:\d\d\.\d\d \(.*?/sec and .*? ops/sec\)', 'T sec (rates)', text)
    text = re.sub(r'\d+:?\d*:?\d+\.\d+ sec \(.*?/sec and .*? ops/sec\)', 'T sec (rates)', text)
    # qemu-io -C: "65536,1,0:00:00.00,3455555.123,52.7"
    text = re.sub(r'^(\d+,\d+),\d+:\d\d:\d\d\.\d\d,[\d.]+,[\d.]+$', r'\1,rates', text, flags=re.M)
    text = re.sub(r'\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b', 'DATE TIME', text)
    text = re.sub(r'"date-(n?)sec": \d+', r'"date-\1sec": N', text)
    return text


DISK = re.compile(r'(disk size: )([\d.e+]+)( [KMGTPE]iB| B)|("actual-size": )(\d+)')
UNITS = {' B': 1, ' KiB': 1 << 10, ' MiB': 1 << 20, ' GiB': 1 << 30, ' TiB': 1 << 40}


def disk_sizes(text):
    return [float(m[2]) * UNITS[m[3]] if m[2] else float(m[5]) for m in DISK.finditer(text)]


def same_text(a, b):
    if a == b:
        return True
    if DISK.sub(r'\1\4', a) != DISK.sub(r'\1\4', b):
        return False
    return all(close(x, y) for x, y in zip(disk_sizes(a), disk_sizes(b)))


def close(x, y):
    return abs(x - y) <= 64 * 1024 + max(x, y) / 10


# ---- what is left in the folder ----

def read(path):
    with open(path, 'rb') as f:
        return f.read()


def peer_tool(peer, folder, *argv):
    return subprocess.run([os.path.join(peer, 'qemu-img'), *argv], cwd=folder, env=environment(peer),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)


def allocation(peer, folder, name, fmt):
    done = peer_tool(peer, folder, 'map', '-U', '-f', fmt, '--output=json', name)
    return re.sub(r', "offset": \d+', '', done.stdout + done.stderr)


def sparser(theirs, ours):
    """Are two maps the same but for zeroes that the peer has as data?"""
    try:
        a, b = json.loads(theirs), json.loads(ours)
    except ValueError:
        return False
    if not a or not b or a[-1]['start'] + a[-1]['length'] != b[-1]['start'] + b[-1]['length']:
        return False
    i = 0
    for x in b:
        while a[i]['start'] + a[i]['length'] <= x['start']:
            i += 1
        for y in a[i:]:
            if y['start'] >= x['start'] + x['length']:
                break
            kinds = [{k: v for k, v in e.items() if k not in ('start', 'length')} for e in (y, x)]
            if kinds[0] != kinds[1] and not (y['data'] and x['present'] and x['depth'] == y['depth'] and
                                             (x['zero'] or y.get('compressed') == x.get('compressed'))):
                return False
    return True


def encrypted(path):
    """The driver and its options, but for the file, or None."""
    with open(path, 'rb') as f:
        head = f.read(36)
    if head[:8] == b'LUKS\xba\xbe\0\1':
        return 'luks', 'driver=luks,key-secret=%s,file.filename='
    if head[:4] == b'QFI\xfb' and head[32:36] == b'\0\0\0\2':
        return 'qcow2', 'driver=qcow2,encrypt.format=luks,encrypt.key-secret=%s,file.filename='
    return None


def described(peer, folder, name):
    """What info tells but for what is chance, and the slots that a password opens."""
    text = peer_tool(peer, folder, 'info', '-U', '--output=json', name).stdout
    return re.sub(r'"(actual-size|master-key-iters|iters)": \d+|"uuid": "[-0-9a-f]*"', r'"\1": N', text)


def compare_encrypted(peer, theirs, ours, name, kinds):
    """The same for images that chance makes different: by what they say of themselves, and what a password opens."""
    infos = [described(peer, folder, name) for folder in (theirs, ours)]
    if kinds[0] != kinds[1] or infos[0] != infos[1]:
        return diff(f'info of {name}', infos[0], infos[1])
    for word in ('pass', 'two'):
        secret = ('--object', f'secret,id=k,data={word}')
        done = [peer_tool(peer, folder, 'convert', *secret, '--image-opts', kinds[0][1] % 'k' + name, '-O', 'raw',
                          name + '.raw') for folder in (theirs, ours)]
        data = [read(os.path.join(f, name + '.raw')) if d.returncode == 0 else d.stderr
                for f, d in zip((theirs, ours), done)]
        for folder in (theirs, ours):
            subprocess.run(['rm', '-f', os.path.join(folder, name + '.raw')], check=True)
        # A disk that nothing was written to shows what chance makes of the bytes of its file.
        fresh = kinds[0][0] == 'luks' and not name.startswith('out')
        if data[0] != data[1] and not (fresh and done[0].returncode == done[1].returncode == 0):
            return f'{name}: what {word} opens differs'
    return ''


def compare_image(peer, theirs, ours, name, filled):
    """Differences between the file @name in both folders, as text; '' if there are none."""
    a, b = os.path.join(theirs, name), os.path.join(ours, name)
    if os.path.getsize(a) <= 64 << 20 and read(a) == read(b):
        return disk_difference(a, b, name, filled)
    with open(a, 'rb') as f, open(b, 'rb') as g:
        qcow2 = [h.read(4) == b'QFI\xfb' for h in (f, g)]
    if qcow2[0] != qcow2[1]:
        return f'{name}: only one is qcow2'
    kinds = [encrypted(p) for p in (a, b)]
    if kinds[0] or kinds[1]:
        return compare_encrypted(peer, theirs, ours, name, kinds)
    if not qcow2[0] and os.path.getsize(a) > 64 << 20:
        done = peer_tool(peer, theirs, 'compare', '-f', 'raw', '-F', 'raw', name, b)
        return f'{name}: {done.stdout}{done.stderr}' if done.returncode else ''
    if not qcow2[0]:
        return f'{name}: contents differ ({os.path.getsize(a)} bytes at the peer, {os.path.getsize(b)} with ours)'
    for kind, args in (('check', ['check', '-f', 'qcow2', name]),):
        done = peer_tool(peer, ours, *args)
        if done.returncode not in (0, peer_tool(peer, theirs, *args).returncode):
            return f'{name}: the peer\'s {kind} of ours: {done.stdout}{done.stderr}'
    done = peer_tool(peer, theirs, 'compare', '-U', '-f', 'qcow2', '-F', 'qcow2', name, b)
    if done.returncode:
        return f'{name}: {done.stdout}{done.stderr}'.replace(ours, '')
    maps = [allocation(peer, folder, name, 'qcow2') for folder in (theirs, ours)]
    if maps[0] != maps[1] and (filled or not sparser(*maps)):
        return diff(f'map of {name}', maps[0], maps[1])
    infos = [peer_tool(peer, folder, 'info', '-U', '-f', 'qcow2', '--output=json', name).stdout
             for folder in (theirs, ours)]
    infos = [re.sub(r'"(actual-size|virtual-size|date-n?sec)": \d+', r'"\1": N', i) for i in infos]
    return '' if infos[0] == infos[1] else diff(f'info of {name}', infos[0], infos[1])


def disk_difference(a, b, name, filled):
    blocks = [os.stat(p).st_blocks * 512 for p in (a, b)]
    return '' if close(*blocks) or (blocks[1] < blocks[0] and not filled) else f'{name}: {blocks[0]} bytes on disk at the peer, {blocks[1]} with ours'


def compare_folders(peer, theirs, ours, filled):
    names = [sorted(os.listdir(folder)) for folder in (theirs, ours)]
    if names[0] != names[1]:
        return f'files: peer {names[0]}, ours {names[1]}'
    for name in names[0]:
        if os.path.isfile(os.path.join(theirs, name)) and not os.path.islink(os.path.join(theirs, name)):
            found = compare_image(peer, theirs, ours, name, filled)
            if found:
                return found
    return ''


def diff(what, a, b):
    return '\n'.join(difflib.unified_diff(a.splitlines(), b.splitlines(), f'peer: {what}', f'ours: {what}',
                                          lineterm='', n=1))


# ---- comparing ----

class Run:
    def __init__(self, peer, ours, work):
        self.peer, self.ours, self.work = peer, ours, work
        self.old = not subprocess.run([os.path.join(peer, 'qemu-img'), '--version'], capture_output=True,
                                      text=True).stdout.startswith('qemu-img version 10')

    def compare(self, index, line, setup):
        """The difference, or ''."""
        folders = []
        for side, programs in (('peer', self.peer), ('ours', self.ours)):
            # Both run under the same path: it may be part of a message.
            base = os.path.join(self.work, f'{index}')
            folder = os.path.join(base, 'd')
            os.makedirs(base, exist_ok=True)
            measures = side == 'peer' and 'iter-time' in line.text
            for _ in range(PEER_TRIES if measures else 1):
                shutil.rmtree(folder, ignore_errors=True)
                subprocess.run(['cp', '-a', '--sparse=always', setup, folder], check=True)
                result = play(line, programs, folder, PEER_TIMEOUT_S if measures else TIMEOUT_S)
                if not (measures and peer_lost_its_way(result)):
                    break
            kept = os.path.join(base, side)
            os.rename(folder, kept)
            folders.append((kept, result))
        try:
            return self.judge(line, *folders)
        finally:
            shutil.rmtree(os.path.join(self.work, f'{index}'), ignore_errors=True)

    def judge(self, line, theirs, ours):
        (their_folder, (their_rc, their_out, their_err)), (our_folder, (our_rc, our_out, our_err)) = theirs, ours
        found = []
        if their_rc != our_rc:
            found.append(f'exit code: peer {their_rc}, ours {our_rc}')
        if line.status:
            if (bool(their_out), bool(their_err)) != (bool(our_out), bool(our_err)):
                found.append(f'streams: peer {bool(their_out), bool(their_err)}, ours {bool(our_out), bool(our_err)}')
        elif not (line.loose and self.old):
            for what, a, b in (('standard output', their_out, our_out), ('standard error', their_err, our_err)):
                if not same_text(a, b):
                    found.append(diff(what, a, b))
        if not found or line.differs:
            images = compare_folders(self.peer, their_folder, our_folder, line.filled)
            if images:
                found.append(images)
        if self.show is not None and self.show in line.text:
            print(f'{line.where}: {line.text}\n--- peer: {their_rc}\n{their_out}{their_err}'
                  f'--- ours: {our_rc}\n{our_out}{our_err}')
        return '\n'.join(found)


def judge_known(line, found):
    """What to report of a line, given the difference found."""
    if not line.differs:
        return found
    return '' if found else f'no longer differs ({line.differs})'


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser()
    parser.add_argument('--ours', required=True)
    parser.add_argument('--peer')
    parser.add_argument('--part', default='0/1')
    parser.add_argument('--print', dest='show')
    parser.add_argument('--all', action='store_true')
    parser.add_argument('tables', nargs='*')
    args = parser.parse_args()
    peer = args.peer or os.path.dirname(shutil.which('qemu-img') or '')
    if not os.path.exists(os.path.join(peer, 'qemu-img')):
        print('there is no peer here to compare with')
        return 77
    part, parts = map(int, args.part.split('/'))
    names = args.tables or sorted(n for n in os.listdir(here) if n.endswith('.lines'))
    with tempfile.TemporaryDirectory(prefix='compat.') as work:
        run = Run(os.path.abspath(peer), os.path.abspath(args.ours), work)
        run.show = args.show
        todo = []
        for name in names:
            path = name if os.path.exists(name) else os.path.join(here, name)
            setups, lines = read_table(path)
            for setup, commands in setups.items():
                make_setup(commands, os.path.join(work, f'{os.path.basename(name)}.{setup}'), run.peer)
            todo += [(line, os.path.join(work, f'{os.path.basename(name)}.{line.setup}')) for line in lines]
        todo = [t for i, t in enumerate(todo) if i % parts == part]
        if args.show is not None:
            todo = [t for t in todo if args.show in t[0].text]
        return report(run, todo, args.all)


def report(run, todo, show_all):
    skipped = [t for t in todo if t[0].newer and run.old]
    todo = [t for t in todo if not (t[0].newer and run.old)]
    with concurrent.futures.ThreadPoolExecutor(max_workers=(os.cpu_count() or 2) + 1) as pool:
        results = list(pool.map(lambda t: (t[1][0], run.compare(t[0], *t[1])), enumerate(todo)))
    bad = [(line, text) for line, text in ((line, judge_known(line, text)) for line, text in results) if text]
    for line, text in bad if show_all else bad[:20]:
        print(f'{line.where}: {line.text}\n{text}\n')
    known = sum(1 for line, text in results if line.differs and text)
    print(f'{len(results)} lines compared, {len(bad)} differ, {known} are known to differ, {len(skipped)} not for '
          f'this version')
    return 1 if bad else 0


sys.exit(main())

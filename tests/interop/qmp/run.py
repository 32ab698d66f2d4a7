#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""run.py: play QMP scripts on a daemon and compare the transcripts as text.

  run.py --daemon PROGRAM SCRIPT...                    against NAME.expected
  run.py --daemon PROGRAM --against PEER SCRIPT...     against a running peer
  run.py --daemon PEER --record SCRIPT...              write NAME.expected
  run.py --daemon PROGRAM --print SCRIPT...            show the transcript

Exit: 0 all equal, 1 a difference, 77 nothing could be compared (the reason is
printed), 2 wrong usage.
"""
import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from script import Script, Skip, TestFailure, play, replacement  # noqa: E402


def version_of(program):
    """'7.2' or '10': what a peer says it is. Ours counts as '10', since it
    follows that one where they differ."""
    text = subprocess.run([program, '--version'], capture_output=True,
                          stdin=subprocess.DEVNULL, text=True).stdout
    found = re.search(r'qemu-storage-daemon version (\d+)\.(\d+)', text)
    if found and int(found[1]) < 10 and '(liveblk' not in text:
        return f'{found[1]}.{found[2]}'
    return '10'


STATUS = re.compile(r'"JOB_STATUS_CHANGE", "data": '
                    r'\{"status": "(\w+)", "id": "([^"]*)"\}')
PARKED = {('paused', 'running'), ('standby', 'ready')}


def without_drains(lines):
    """Take out the pairs paused, running and standby, ready of one job: how
    often a job is parked while the graph around it changes is the engine's
    own affair. Only for scripts that pause no job themselves."""
    out, last = [], {}          # job id: (status, place in out)
    for line in lines:
        found = STATUS.search(line)
        if found:
            status, job = found.groups()
            before, place = last.get(job, ('', 0))
            if (before, status) in PARKED:
                out[place] = None
                last.pop(job)
                continue
            last[job] = (status, len(out))
        out.append(line)
    return [line for line in out if line is not None]


def filtered(script, transcript, version):
    """Leave out what the script says differs in that version."""
    lines = transcript.split('\n')
    if script.one('drains') == 'unseen':
        lines = without_drains(lines)
    drop = [re.compile(p) for p in script.header.get(f'filter-{version}', [])
            + script.header.get('filter', [])]
    lines = [l for l in lines if not any(p.search(l) for p in drop)]
    for rule in script.header.get(f'replace-{version}', []):
        pattern, text = replacement(rule)
        lines = [pattern.sub(text, l) for l in lines]
    return lines


def compare(script, left, right, left_name, right_name, versions):
    """0 if equal; otherwise print the difference and return 1."""
    for version in {'10', *versions}:
        left = '\n'.join(filtered(script, left, version))
        right = '\n'.join(filtered(script, right, version))
    if left == right:
        print(f'ok {script.name}')
        return 0
    print(f'not ok {script.name}')
    sys.stdout.writelines(difflib.unified_diff(
        left.splitlines(True), right.splitlines(True), left_name, right_name))
    return 1


def expected_path(script):
    return os.path.splitext(script.path)[0] + '.expected'


def wanted_for(script, version):
    """Raises Skip if the script is for another version of the peer."""
    only = script.one('peer')
    if only and only != version and not only.startswith(version + '.'):
        raise Skip(f'{script.name}: for peer {only} only: '
                   f'{script.one("differs-" + version, "see its head")}')


def one(script, args):
    version = version_of(args.daemon)
    if args.show:
        print(play(script, args.daemon, args.tools), end='')
        return 0
    if args.record:
        wanted_for(script, version)
        transcript = play(script, args.daemon, args.tools)
        for _ in range(args.times - 1):
            again = play(script, args.daemon, args.tools)
            if compare(script, transcript, again, 'first run', 'later run', ()):
                return 1
        with open(expected_path(script), 'w', encoding='utf-8') as f:
            f.write(transcript)
        return 0
    if args.against:
        peer_version = version_of(args.against)
        wanted_for(script, peer_version)
        left = play(script, args.against, args.tools)
        right = play(script, args.daemon, args.tools)
        return compare(script, left, right, args.against, args.daemon,
                       {version, peer_version} - {'10'})
    wanted_for(script, version)
    path = expected_path(script)
    with open(path, encoding='utf-8') as f:
        left = f.read()
    status = 0
    for _ in range(args.times):
        right = play(script, args.daemon, args.tools)
        status |= compare(script, left, right, path, args.daemon,
                          {version} - {'10'})
    return status


def chosen(args):
    """The scripts named, those of folders named, and of them one part."""
    paths = []
    for path in args.scripts:
        if os.path.isdir(path):
            paths += sorted(os.path.join(path, name) for name in os.listdir(path)
                            if name.endswith('.qmp'))
        else:
            paths.append(path)
    if args.part:
        first, step = map(int, args.part.split('/'))
        paths = paths[first::step]
    return paths


def peer_program(name):
    """"10" stands for the daemon of that version, which may lie in any folder."""
    if name == '10':
        return os.path.join(os.environ.get('LIVEBLK_PEER10', '/opt/peer10/bin'), 'qemu-storage-daemon')
    return name


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument('--daemon', required=True)
    parser.add_argument('--against', help='a peer\'s daemon; "10": the one in the folder $LIVEBLK_PEER10')
    parser.add_argument('--tools', help='a folder with the image tools')
    parser.add_argument('--record', action='store_true')
    parser.add_argument('--print', dest='show', action='store_true')
    parser.add_argument('--times', type=int, default=1)
    parser.add_argument('--part', help='I/N: every Nth script, from the Ith on')
    parser.add_argument('scripts', nargs='+', help='scripts, or folders of them')
    args = parser.parse_args()
    args.against = peer_program(args.against)
    for name in ('daemon', 'against'):
        program = getattr(args, name)
        if program is None:
            continue
        found = shutil.which(program)
        if found is None:
            print(f'SKIP: {program} is not installed')
            return 77
        setattr(args, name, os.path.abspath(found))
    failed = played = 0
    for path in chosen(args):
        try:
            failed += one(Script(path), args)
            played += 1
        except Skip as why:
            print(f'SKIP: {why}')
        except TestFailure as why:
            print(f'not ok {os.path.basename(path)}: {why}')
            failed += 1
    if failed:
        return 1
    return 0 if played else 77


if __name__ == '__main__':
    sys.exit(main())

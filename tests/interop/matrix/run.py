#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""run.py [--seed N] [--only AXIS=VALUE]... [--steps N] [--all | --forever] [-j N] [--part I/N] [--list]

The interchange matrix: for images of every kind (version, size of clusters, width of refcounts, compression,
extended L2, data file, lazy refcounts, encryption) a random sequence of steps, each by a program of ours or of a
peer; after each step programs of both check the image and what it shows is compared with a model.

  (nothing)    a small set of kinds in which every two features that go together meet: what the test suite runs
  --all        every kind that is possible, one sequence each
  --forever    --all again and again with new seeds, until something is wrong
  --list       how many kinds there are, and what is not possible, with the reason
  --only       kinds with this value; several: all must hold
  --part I/N   every Nth kind from the Ith on; -j N runs N parts beside each other
  --keep DIR   leave the folder of what went wrong there

What goes wrong is told with the commands that led to it and the one that runs it again.
"""
import argparse
import os
import shutil
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'lib'), HERE]
import axes  # noqa: E402
from image import Image, Side, Wrong  # noqa: E402
from sandbox import Sandbox, Skip, main  # noqa: E402
from steps import STEPS  # noqa: E402


def sides_find(ours):
    """Ours first, then each peer that is here."""
    found = [Side('ours', ours)]
    if not os.path.exists(found[0].path('qemu-img')):
        raise Skip(f'no programs of ours in {ours}')
    if shutil.which('qemu-img'):
        found.append(Side('peer', ''))
    ten = os.environ.get('LIVEBLK_PEER10', '/opt/peer10/bin')
    if os.path.exists(os.path.join(ten, 'qemu-img')):
        found.append(Side('peer 10', ten))
    if len(found) == 1:
        raise Skip('no peer is installed')
    return found


def run_one(box, sides, kind, seed, steps, keep):
    """One sequence; the image, which knows what was refused. Raises Wrong."""
    path = os.path.join(box.path, 'image')
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    im = Image(path, sides, kind, seed)
    done = []
    try:
        im.create()
        im.judge()
        while len(done) < steps:
            step = im.rng.choice(STEPS)
            im.log.append(f'# {step.__name__}')
            if not step(im):
                im.log.pop()
                continue
            done.append(step.__name__)
            im.judge(whole=len(done) % 6 == 0 or len(done) == steps)
    except Exception as why:
        text = str(why) if isinstance(why, Wrong) else traceback.format_exc()
        if keep:
            os.makedirs(keep, exist_ok=True)
            shutil.copytree(path, os.path.join(keep, f'{os.getpid()}-{seed}'), dirs_exist_ok=True)
        told = '\n  '.join(line for line in im.log)
        only = ' '.join(f'--only {axis}={value}' for axis, value in kind.items())
        raise Wrong(f'{axes.key(kind)}, seed {seed}, step {len(done)}:\n{text}\nafter\n  {told}\n'
                    f'again: {sys.argv[0]} --ours {sides[0].folder} --seed {seed} --steps {steps} --all {only}') from None
    return im


def chosen(args):
    """The kinds to run, in an order that the seed decides."""
    wanted = {}
    for text in args.only:
        axis, _, value = text.partition('=')
        if axis not in axes.AXES or value not in map(str, axes.AXES[axis]):
            sys.exit(f'{text}: not one of {axes.AXES}')
        wanted[axis] = value
    pool = axes.combinations() if args.all or args.forever else axes.pairwise(args.seed)
    pool = [c for c in pool if all(str(c[a]) == v for a, v in wanted.items())]
    first, _, parts = args.part.partition('/')
    return pool[int(first)::int(parts)]


def run_all(args):
    sides = sides_find(args.ours)
    seed, kinds, began, refused, runs = args.seed, chosen(args), time.monotonic(), 0, 0
    print(f'seed {seed}: {len(kinds)} kinds, {args.steps} steps each; {", ".join(s.name for s in sides)}', flush=True)
    wrong = 0
    while True:
        for number, kind in enumerate(kinds):
            with Sandbox() as box:
                try:
                    im = run_one(box, sides, kind, seed, args.steps, args.keep)
                    refused += len(im.refused)
                    for line in im.refused if args.verbose else ():
                        print(f'# refused: {line}')
                except Wrong as why:
                    wrong += 1
                    print(f'FAIL {why}\n', flush=True)
                    if not args.go_on:
                        return 1
            runs += 1
            if args.verbose or (args.forever and number % 100 == 0):
                print(f'# {runs} runs, {wrong} wrong, {time.monotonic() - began:.0f} s: {axes.key(kind)}', flush=True)
        if not args.forever:
            break
        seed += 1
    print(f'{runs} kinds, {runs * args.steps} steps, {refused} refused as they may be, {wrong} wrong, '
          f'{time.monotonic() - began:.0f} s')
    return wrong > 0


def run_parts(args):
    """-j: this program again, once for each part."""
    words = [w for w in sys.argv[1:]]
    at = words.index('-j')
    del words[at:at + 2]
    children = [subprocess.Popen([sys.argv[0], *words, '--part', f'{i}/{args.j}']) for i in range(args.j)]
    try:
        return max(c.wait() for c in children)
    finally:
        for c in children:
            if c.poll() is None:
                c.terminate()
                c.wait()


def told():
    print(f'{len(axes.combinations())} of {len(list(axes.every()))} kinds are possible. The others are not:')
    for why, n in sorted(axes.reasons().items(), key=lambda r: -r[1]):
        print(f'{n:6}  {why}')
    return 0


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--ours', default=os.path.join(HERE, '../../../build/compat'), help='folder of our programs')
    p.add_argument('--seed', type=int, default=int(os.environ.get('LIVEBLK_TEST_SEED', 1)))
    p.add_argument('--only', action='append', default=[], metavar='AXIS=VALUE')
    p.add_argument('--steps', type=int, default=12)
    p.add_argument('--all', action='store_true')
    p.add_argument('--forever', action='store_true')
    p.add_argument('--go-on', action='store_true', help='also after something went wrong')
    p.add_argument('--part', default='0/1')
    p.add_argument('-j', type=int, default=1)
    p.add_argument('--list', action='store_true')
    p.add_argument('--keep', metavar='DIR')
    p.add_argument('--verbose', action='store_true')
    args = p.parse_args()
    args.ours = os.path.abspath(args.ours)
    return args


def test():
    args = parse()
    sys.exit(told() if args.list else run_parts(args) if args.j > 1 else run_all(args))


main(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: whatever is done with an image of 10 TiB takes less than 200 MiB of memory, and time by what the
image holds, not by its length. Method: sparse images with data at 500 places, an overlay, a disk whose
tables are all there; each command's peak as the system counts it.
"""
import os
import random
import resource
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import check_image, expect, make_image, poke, sanitized, tool  # noqa: E402
from sandbox import TestFailure  # noqa: E402

MEMORY_MAX = 200 << 20
SECONDS_MAX = 30


def measured(cli, *words):
    """Run a command; its peak of memory, bytes."""
    with open(os.path.join(cli.box.path, 'said'), 'wb') as said:
        proc = subprocess.Popen([cli.liveblk, *words], cwd=cli.box.path, env=cli.env, stdin=subprocess.DEVNULL,
                                stdout=said, stderr=said,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX)))
        _, status, usage = os.wait4(proc.pid, 0)
    proc.returncode = os.waitstatus_to_exitcode(status)
    with open(os.path.join(cli.box.path, 'said'), 'rb') as said:
        text = said.read(2000).decode(errors='replace')
    if proc.returncode:
        raise TestFailure(f'{" ".join(words)}: status {proc.returncode}: {text}')
    return usage.ru_maxrss * 1024


def within(cli, *words):
    peak = measured(cli, *words)
    print(f'{" ".join(words)}: {peak >> 20} MiB')
    expect(peak < MEMORY_MAX, f'{" ".join(words)} took {peak >> 20} MiB')


def scatter(box, name, fmt):
    rng = random.Random(len(name))
    # A command line has its bounds.
    for _ in range(2):
        poke(box, name, fmt, *(f'write -P {rng.randrange(1, 256)} {rng.randrange(10 << 28) * 4}k 4k'
                               for _ in range(250)))


def test(box, cli):
    if sanitized(cli.liveblk):
        return      # a checker takes memory of its own
    images = (('a.qcow2', 'qcow2', {}), ('b.qcow2', 'qcow2', {'cluster_size': '8k'}), ('c.raw', 'raw', {}),
              ('e.qcow2', 'qcow2', {'extended_l2': 'on', 'cluster_size': '128k'}),
              ('f.qcow2', 'qcow2', {'data_file': 'f.data', 'refcount_bits': '1'}))
    for name, fmt, options in images:
        make_image(box, name, fmt, '10T', **options)
        scatter(box, name, fmt)
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'd.qcow2')
    for tag in ('one', 'two', 'three'):
        within(cli, 'snapshot', 'e.qcow2', 'create', tag)
        within(cli, 'bitmap', 'e.qcow2', 'add', tag)
        scatter(box, 'e.qcow2', 'qcow2')
    within(cli, 'check', 'e.qcow2')
    within(cli, 'snapshot', 'e.qcow2', 'apply', 'two')
    within(cli, 'snapshot', 'e.qcow2', 'delete', 'one')
    for name in ('a.qcow2', 'b.qcow2', 'c.raw', 'd.qcow2', 'e.qcow2', 'f.qcow2'):
        within(cli, 'info', name)
        within(cli, 'map', name)
        within(cli, 'measure', name)
        within(cli, 'convert', '-O', 'qcow2', name, 'copy.qcow2')
        within(cli, 'compare', name, 'copy.qcow2')
        within(cli, 'check', 'copy.qcow2')
        os.unlink(os.path.join(box.path, 'copy.qcow2'))
    within(cli, 'convert', '--compress', 'b.qcow2', 'packed.qcow2')
    within(cli, 'compare', 'b.qcow2', 'packed.qcow2')
    check_image(box, 'packed.qcow2')
    within(cli, 'create', '-f', 'qcow2', '-o', 'preallocation=metadata', 'whole.qcow2', '128G')
    within(cli, 'check', 'whole.qcow2')
    within(cli, 'map', 'whole.qcow2')


run_cli(test)

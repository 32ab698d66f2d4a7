#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: on a terminal long commands show a bar with rate and time left, which goes when they are
done; elsewhere lines now and then; with -q and JSON nothing. Method: a slow mirror, on a pty and not.
"""
import re
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, make_image  # noqa: E402

BAR = r'mirror-a: \[(#*) *\] +(\d+\.\d)%  +[\d.]+ \w+/s  +(\d+ \w+|\d+\.\d+ s|-) left'


def bars(cli, columns):
    t = cli.terminal('mirror', '--speed', '10M', '--stop', f'{columns}.raw', columns=columns)
    t.wait_end(0)
    found = re.findall(BAR, t.text)
    expect(len(found) >= 3, f'bars: {t.text!r}')
    parts = [float(p) for _, p, _ in found]
    expect(parts == sorted(parts) and 0 < parts[-1] <= 100, f'percents: {parts}')
    for bar in re.split(r'[\r\n]', t.text):
        expect(len(bar.replace('\x1b[K', '')) < max(columns, 60), f'too long for the terminal: {bar!r}')
    expect(re.search(r'\r\x1b\[Kmirror-a: the target is a copy', t.text), f'the bar is left: {t.text!r}')


def test(box, cli):
    make_image(box, 'a.qcow2', 'qcow2', '16M', 'write -P 1 0 16M')
    cli('serve', '-d', 'a.qcow2')
    for columns in 80, 40, 200:
        bars(cli, columns)
    t = cli.terminal('mirror', '-q', '--speed', '20M', '--stop', 'q.raw')
    expect_equal(t.wait_end(0), '', 'quiet')
    status, out, err = cli.call('mirror', '--speed', '2560K', '--stop', 'lines.raw')
    expect(re.fullmatch(r'(mirror-a: +\d+\.\d%  +[\d. ]+\w+/s  .+ left( +\w+)?\n)+', err), f'lines: {err!r}')
    expect_equal((status, out), (0, 'mirror-a: the target is a copy\n'), 'without a terminal')
    expect(len(err.splitlines()) <= 3, f'too many lines: {err!r}')
    cli('qmp', 'quit')
    t = cli.terminal('convert', 'a.qcow2', 'x.raw')
    t.wait_end(0)


run_cli(test)

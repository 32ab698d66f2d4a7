#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: the commands of README's tour work, and print what it says. Method: each line "$ ..." is run in
one folder; numbers may differ, words may not.
"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, require  # noqa: E402

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../../README.md')


def steps():
    """[(command, what it prints)] of the tour."""
    with open(README, encoding='utf-8') as f:
        tour = f.read().split('## A tour')[1].split('\n## ')[0]
    found = []
    for line in re.findall(r'^    (.*)$', tour, re.M):
        if line.startswith('$ '):
            found.append([line[2:], ''])
        else:
            found[-1][1] += line + '\n'
    return found


def shape(text):
    """Without numbers, sizes, places and how columns are filled."""
    text = re.sub(r'/\S*/(?=[\w.-]+)', '', text)
    text = re.sub(r'\d[\d.]*( [KMG]iB| B)?', 'N', text)
    return re.sub(r'[ \t]+', ' ', text).replace(' \n', '\n')


def test(box, cli):
    require('mke2fs')
    env = dict(cli.env, PATH=os.path.dirname(cli.liveblk) + ':' + os.environ['PATH'] + ':/usr/sbin:/sbin')
    all_steps = steps()
    expect(len(all_steps) >= 12, f'only {len(all_steps)} commands in the tour')
    for command, wanted in all_steps:
        if command.startswith('nbdinfo'):
            require('nbdinfo')
        command = command.replace('/run/user/1000', cli.env['XDG_RUNTIME_DIR'])
        _, text = box.run(['bash', '-c', command], env=env, seconds=30)
        text = text.replace('Creating regular file disk.img\n', '')
        expect_equal(shape(text), shape(wanted), command)


run_cli(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: jobs, job VERB and graph show and change the jobs of a server. Method: one mirror through
all verbs; the picture formats are parsed.
"""
import json
import re
import shutil
import xml.etree.ElementTree
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, make_image, tool  # noqa: E402


def verbs(cli):
    expect_equal(cli('mirror', '--detach', '--speed', '1M', 'b.raw'), 'mirror-a: started\n', 'mirror -d')
    cli.wait_job('mirror-a', 'running')
    expect_equal(cli.json('job', 'pause', 'mirror-a'), {'id': 'mirror-a', 'verb': 'pause'}, 'pause')
    cli.wait_job('mirror-a', 'paused')
    expect_equal(cli('job', 'resume', 'mirror-a'), '', 'resume')
    cli.fails(1, 'was not paused', 'job', 'resume', 'mirror-a')
    cli.fails(1, '', 'job', 'complete', 'mirror-a')
    cli.fails(1, '', 'job', 'finalize', 'mirror-a')
    cli.fails(1, '', 'job', 'dismiss', 'mirror-a')
    for verb in 'pause', 'resume', 'complete', 'cancel', 'finalize', 'dismiss':
        cli.fails(1, 'not found', 'job', verb, 'nothing')
    cli.fails(1, '', 'job', 'speed', 'nothing', '1M')
    job = cli.wait_job('mirror-a', 'running')
    expect_equal((job['type'], job['speed'], job['total-progress']), ('mirror', 1 << 20, 32 << 20), 'jobs')
    line = cli('jobs').splitlines()[1]
    expect(re.match(r'mirror-a +mirror +running +\d+\.\d% +[\d.]+ \w+ +1 MiB/s', line), line)
    cli('job', 'speed', 'mirror-a', '2.5M')
    expect_equal(cli.wait_job('mirror-a', 'running')['speed'], 5 << 19, 'speed')
    cli('job', 'speed', 'mirror-a', '0')
    cli.wait_job('mirror-a', 'ready')


def graphs(box, cli):
    text = cli('graph')
    expect('mirror-a - job' in text and 'a - export' in text and 'target: a-1' in text, text)
    expect_equal(cli('graph', '--format=text'), text, 'graph -f text')
    top = xml.etree.ElementTree.fromstring(cli('graph', '-f', 'svg'))
    words = {e.text for e in top.iter() if e.tag.endswith('text')}
    expect({'mirror-a', 'a', 'a-1', 'backing', 'file'} <= words, f'svg: {words}')
    boxes = [tuple(float(e.get(k)) for k in ('x', 'y', 'width', 'height')) for e in top.iter() if e.tag.endswith('rect')]
    for i, (x, y, w, h) in enumerate(boxes):
        expect(x >= 0 and x + w <= float(top.get('width')) and y + h <= float(top.get('height')), 'outside the picture')
        expect(all(x + w <= q[0] or q[0] + q[2] <= x or y + h <= q[1] or q[1] + q[3] <= y for q in boxes[i + 1:]),
               'boxes overlap')
    dot = cli('graph', '-f', 'dot')
    expect(dot.startswith('digraph') and dot.count('->') == len(cli.json('graph')['edges']), dot)
    if shutil.which('dot'):
        tool(box, 'sh', '-c', 'exec dot -Tsvg >/dev/null <<X\n' + dot + '\nX')


def test(box, cli):
    make_image(box, 'a.qcow2', 'qcow2', '32M', 'write -P 1 0 32M')
    cli('serve', '-d', 'a.qcow2')
    verbs(cli)
    graphs(box, cli)
    got = cli.json('job', 'complete', '--wait', 'mirror-a')
    expect_equal(got, {'id': 'mirror-a', 'verb': 'complete', 'end': 'completed'}, 'complete')
    # A job that waits for its user at each step.
    cli.qmp('blockdev-add', 'driver=null-co', 'node-name=n', 'size=33554432')
    args = {'job-id': 'j', 'device': 'a', 'target': 'n', 'sync': 'full', 'auto-finalize': False, 'auto-dismiss': False}
    cli.qmp('blockdev-mirror', json.dumps(args))
    cli.wait_job('j', 'ready')
    cli('job', 'cancel', '--soft', 'j')
    cli.wait_job('j', 'pending')
    cli('job', 'finalize', 'j')
    cli.wait_job('j', 'concluded')
    cli('job', 'dismiss', 'j')
    expect_equal(cli.json('jobs', '--watch'), [], 'jobs')
    args['job-id'] = 'k'
    cli.qmp('blockdev-mirror', json.dumps(args))
    cli.wait_job('k', 'ready')
    expect_equal(cli.json('job', 'cancel', '-w', 'k')['end'], 'cancelled', 'cancel')
    expect('concluded' in cli('jobs') and 'ancel' in cli('jobs'), cli('jobs'))
    cli('job', 'dismiss', 'k')
    cli('qmp', 'quit')


run_cli(test)

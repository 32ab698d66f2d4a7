#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a mirror that is refused, fails, is cancelled, leaves no file, no node, no job; existing
files are as they were. Method: each way to fail; the folder, the nodes and the jobs are looked at.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, make_image, read_file, tool  # noqa: E402


def state(box, cli):
    names = [n['node-name'] for n in cli.qmp('query-named-block-nodes')]
    return sorted(os.listdir(box.path)), sorted(names), cli.json('jobs')


def test(box, cli):
    make_image(box, 'a.qcow2', 'qcow2', '32M', 'write -P 1 1M 8M')
    make_image(box, 'b.qcow2', 'qcow2', '32M')
    make_image(box, 'small.qcow2', 'qcow2', '1M')
    tool(box, 'cp', 'a.qcow2', 'there.img')
    cli.fails(1, 'No server of yours runs', 'mirror', 'x.raw')
    cli.fails(1, "Could not connect to the control socket 'nothing'", 'mirror', '-c', 'nothing', 'x.raw')
    cli.fails(1, 'is not tcp:HOST:PORT', 'jobs', '-c', 'tcp:here')
    cli('serve', '-d', 'a.qcow2')
    old, before = read_file(box, 'there.img'), state(box, cli)
    for wanted, *words in (
            ("there.img' exists", 'there.img'), ("there.img' exists", '-n', 'there.img'),
            ("Could not create", 'nowhere/x.raw'), ("Could not replace", '--force', 'a.qcow2'),
            ('does not exist', '--existing', 'nothing.raw'), ("no node 'zz'", '--node', 'zz', 'x.raw'),
            ('run', '--existing', '-f', 'qcow2', 'run'), ('Invalid job ID', '--job', '1x', 'x.raw')):
        cli.fails(1, wanted, 'mirror', *words)
        expect_equal(state(box, cli), before, f'after {words}')
    # A target that is too small.
    cli.fails(1, '', 'mirror', '--existing', 'small.qcow2')
    expect_equal(state(box, cli), before, 'after the small one')
    plan = cli.json('mirror', '-n', 'x.raw')
    expect_equal((plan['dry-run'], plan['replaces'], plan['virtual-size'], plan['format']), (True, False, 32 << 20, 'raw'),
                 'dry run')
    expect('would make' in cli('mirror', '-n', 'x.raw'), 'dry run')
    expect_equal(state(box, cli), before, 'after dry runs')
    # Cancelled by another while it waits.
    waiting = cli.start('mirror', '--speed', '1M', 'x.raw')
    cli.wait_job('mirror-a', 'running')
    cli.fails(1, "A job works on 'a' already", 'mirror', 'y.raw')
    cli('job', 'cancel', 'mirror-a')
    out, err = waiting.communicate(timeout=20)
    expect(waiting.returncode == 1 and out == '' and "was cancelled" in err, f'{waiting.returncode} {out} {err}')
    expect_equal(state(box, cli), before, 'after a cancelled one')
    # Interrupted: the job runs on, as the manual says.
    waiting = cli.start('mirror', '--speed', '1M', 'x.raw')
    cli.wait_job('mirror-a', 'running')
    waiting.send_signal(2)
    waiting.communicate(timeout=20)
    expect_equal(waiting.returncode, -2, 'interrupted')
    cli.wait_job('mirror-a', 'running')
    cli('job', 'cancel', '--wait', 'mirror-a')
    cli.qmp('blockdev-del', 'node-name=a-1')
    expect_equal(read_file(box, 'there.img'), old, 'the file that was there')
    # Two servers: which is meant?
    cli('serve', '-d', 'b.qcow2')
    text = cli.fails(1, '2 servers of yours run', 'jobs')
    expect('/a.qmp' in text and '/b.qmp' in text, text)
    cli.fails(1, 'runs already', 'serve', '-d', 'b.qcow2')
    cli.fails(1, 'lock', 'serve', '-d', '--name', 'c', 'b.qcow2')
    cli.fails(1, "'nothing.img'", 'serve', 'nothing.img')
    cli('qmp', '-c', 'run/liveblk/b.qmp', 'quit')
    # A server that dies while a mirror waits.
    waiting = cli.start('mirror', '--speed', '1M', 'z.raw')
    cli.wait_job('mirror-a', 'running')
    cli('qmp', 'quit')
    out, err = waiting.communicate(timeout=20)
    expect(waiting.returncode == 1 and err.startswith('liveblk: '), f'{waiting.returncode} {out} {err}')
    # Sockets where they were asked for, and many images.
    made = cli.json('serve', '-d', '-r', '--control', 'ctl', '--socket', 'nbd', '--iothreads', '2', 'a.qcow2', 'b.qcow2',
                    'small.qcow2', '-f', 'qcow2')
    expect_equal([e['name'] for e in made['exports']], ['a', 'b', 'small'], 'exports')
    text = tool(box, 'qemu-io', '-f', 'raw', '-c', 'write 0 512', made['exports'][1]['uri'], status=None)
    expect('Permission denied' in text, text)
    cli.fails(1, 'The server has 3 exports', 'mirror', '-c', 'ctl', 'q.raw')
    cli('mirror', '-c', 'ctl', '--node', 'b', '--stop', 'q.raw')
    cli('qmp', '-c', 'ctl', 'quit')


run_cli(test)

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: qmp sends one command, or a script, and is a shell with editing on a terminal. Method: each
way of writing arguments; a pty for the shell: history, completion, events, leaving.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, make_image  # noqa: E402
from sandbox import Skip  # noqa: E402


def one_shot(cli):
    expect_equal(cli('qmp', 'query-jobs'), '[]\n', 'query-jobs')
    expect_equal(cli.qmp('{"execute": "query-jobs"}'), [], 'JSON')
    expect_equal(cli('qmp', 'blockdev-add', 'driver=file', 'node-name=f', 'filename=f.img'), '{}\n', 'add a file')
    expect_equal(cli('qmp', 'block_resize', 'node-name=f', 'size=67108864'), '{}\n', 'KEY=VALUE')
    expect_equal(os.path.getsize(os.path.join(cli.box.path, 'f.img')), 64 << 20, 'the size')
    expect_equal(cli('qmp', 'block_resize', '{"node-name": "f", "size": 33554432}'), '{}\n', 'JSON arguments')
    expect_equal(cli('qmp', 'blockdev-add', 'driver=null-co', 'node-name=n', 'size=1048576', 'read-zeroes=on'), '{}\n', 'add')
    expect_equal(cli('qmp', 'blockdev-add', 'driver=raw', 'node-name=r', 'file.driver=null-co', 'file.size=512'), '{}\n',
                 'nested')
    size = {n['node-name']: n['image']['virtual-size'] for n in cli.qmp('query-named-block-nodes')}
    expect_equal((size['f'], size['n'], size['r']), (32 << 20, 1 << 20, 512), 'sizes')
    for wanted, *words in (
            ('Did you mean query-jobs?', 'query-jbs'), ("Parameter 'size' expects", 'block_resize', 'node-name=a', 'size=foo'),
            ("Parameter 'size' is missing", 'block_resize', 'node-name=a'), ("'x' is not KEY=VALUE", 'query-jobs', 'x'),
            ("Parameter 'x' is unexpected", 'query-jobs', '{"x": 1}'), ('JSON', 'query-jobs', '{"x": '),
            ('"execute": NAME', '{"run": 1}'), ('find', 'blockdev-del', 'node-name=zz')):
        cli.fails(1, wanted, 'qmp', *words)


def script(cli):
    status, out, err = cli.call('qmp', stdin='query-jobs\n\n# a comment\nquery-jobs')
    expect_equal((status, out, err), (0, '[]\n[]\n', ''), 'a script')
    status, out, err = cli.call('qmp', stdin="nope\nquery-jobs\nblockdev-del 'node-name=r\nexit\nquery-jobs\n")
    expect_equal((status, out), (1, '[]\n'), 'a script with errors: goes on, and tells at the end')
    expect(err.count('liveblk: ') == 2, err)
    text = json.dumps({'execute': 'blockdev-mirror', 'arguments': {
        'job-id': 'j', 'device': 'zz', 'target': 'r', 'sync': 'full'}})
    status, out, err = cli.call('qmp', stdin=text + '\n')
    expect(status == 1 and out == '' and err.startswith('liveblk: '), f'{status} {out} {err}')
    expect_equal(cli.call('qmp', stdin='')[0], 0, 'an empty script')


def shell(cli):
    t = cli.terminal('qmp')
    t.wait_for('liveblk> ')
    t.type('query-job\t\n')
    t.wait_for(r'\[\]')
    seen = len(t.text)
    t.type('\x1b[A\n')           # the line before, again
    t.wait_for(r'(?s).{%d}.*\[\]' % seen)
    t.type('help\n')
    t.wait_for('blockdev-mirror')
    t.type('nope\n')
    t.wait_for('The command nope has not been found')
    # An event while a line is being edited: it stands on a line of its own, and the line comes back.
    t.type('query-nam')
    t.wait_for('query-nam')
    seen = len(t.text)
    cli('qmp', 'blockdev-add', 'driver=null-co', 'node-name=x', 'size=1048576')
    cli('qmp', 'blockdev-add', 'driver=null-co', 'node-name=y', 'size=1048576')
    cli('qmp', 'blockdev-mirror', 'job-id=e', 'device=x', 'target=y', 'sync=full')
    t.wait_for(r'(?s).{%d}.*JOB_STATUS_CHANGE' % seen)
    cli.wait_job('e', 'ready')
    t.wait_for(r'(?s)BLOCK_JOB_READY.*liveblk> query-nam')
    t.type('\x15exit\n')
    # The error of "nope" is the shell's exit status.
    t.wait_end(1)
    cli('job', 'cancel', '-w', 'e')
    t = cli.terminal('qmp')
    t.wait_for('liveblk> ')
    t.type('\x04')
    t.wait_end(0)
    t = cli.terminal('qmp')
    t.wait_for('liveblk> ')
    t.type('query-jo\x03')
    t.wait_end(130)
    t = cli.terminal('qmp')
    t.wait_for('liveblk> ')
    t.type('quit\n')
    t.wait_end(0)


def test(box, cli):
    make_image(box, 'a.qcow2', 'qcow2', '32M')
    make_image(box, 'f.img', 'raw', '1M')
    pid = cli.json('serve', '-d', 'a.qcow2')['pid']
    one_shot(cli)
    script(cli)
    shell(cli)
    cli.wait_gone(pid)


run_cli(test)

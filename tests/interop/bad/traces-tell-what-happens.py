#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: --trace tells which back end is in use and what a job does, to standard error or to a file; without
io_uring the daemon runs on threads and says so only there; wrong arguments are refused.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402


def test(box, args):
    if args.peer:
        raise Skip('the peer has modules of its own')
    modules = tool(box, args.daemon, '--trace', 'help').split()
    expect({'host', 'job', 'graph', 'qmp'} <= set(modules), f'modules: {modules}')
    for wrong, text in (('foo=x', "Invalid parameter 'foo'"), ('file=/nonexistent/x', 'Error opening logfile'),
                        ('events=/nonexistent', 'No such file')):
        expect(text in tool(box, args.daemon, '--trace', wrong, status=1), f'--trace {wrong}')
    os.environ['LIVEBLK_HOST'] = 'threads'
    server = Server(box, args.daemon, ['-T', 'host', '--trace', 'enable=j*,file=log'], nbd=False)
    for node in ('a', 'b'):
        server.add({'driver': 'null-co', 'node-name': node, 'size': 65536})
    server.qmp('blockdev-mirror', **{'job-id': 'moving'}, device='a', target='b', sync='full')
    server.wait_event('BLOCK_JOB_READY', device='moving')
    server.quit()
    with open(os.path.join(box.path, 'log'), encoding='utf-8') as f:
        log = f.read()
    expect('host: back end: threads\n' in log, log)
    expect('job: moving: created -> running\n' in log and 'running -> ready' in log, log)
    expect('graph:' not in log, 'a module that was not asked for')


run(test)
